"""A log with damaged pages: what can be read is read, and what cannot is no secret."""

from __future__ import annotations

import signal

import pytest

from flc_udp.model.errors import FlcError
from tests.daemon.cluster import Cluster, say_all
from tests.daemon.process import until


async def test_a_log_that_cannot_be_read_is_a_reason(cluster: Cluster) -> None:
    """As soon as anybody meets the damage; the node takes says all the same."""
    (ann,) = await cluster.start(1)
    await say_all(ann.control, "ops", [f"{n} {'x' * 2_000}" for n in range(400)])
    ann.process.send_signal(signal.SIGTERM)
    assert await ann.ended() == 0
    database = ann.data / "flc.db"
    content = bytearray(database.read_bytes())
    begin, end = len(content) // 4096 // 3, len(content) // 4096 // 2
    content[begin * 4096 : end * 4096] = b"\xff" * 4096 * (end - begin)
    database.write_bytes(content)
    await ann.start()

    assert (await ann.ask("status"))["healthy"]
    with pytest.raises(FlcError, match="cannot be read"):
        async for _ in ann.control.log("ops"):
            pass

    async def is_told() -> bool:
        return "the log cannot be read" in "".join((await ann.ask("status"))["reasons"])

    await until("status says so", is_told)
    assert (await ann.flc("status")).code == 1
    assert (await ann.control.say("dev", "still here")).position == 401
