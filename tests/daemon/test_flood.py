"""A flood from a stranger, on real sockets: it is told, members go on, and then it is over."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from flc_udp.config import WIRE_VERSION
from flc_udp.wire.seal import SESSION_BYTES, keyring
from tests.daemon.cluster import Cluster, Node
from tests.daemon.process import until

BURST, PAUSE_S = 100, 0.01


@asynccontextmanager
async def flooded(node: Node) -> AsyncIterator[None]:
    """Somebody sends what looks like the cluster's, some ten thousand a second, for a while."""
    host, port = node.address.rsplit(":", 1)
    head = bytes((WIRE_VERSION,)) + keyring((), "flc").keys[0].id

    async def flood() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            while True:
                for _ in range(BURST):
                    sock.sendto(head + os.urandom(SESSION_BYTES + 40), (host, int(port)))
                await asyncio.sleep(PAUSE_S)

    flooding = asyncio.create_task(flood())
    try:
        yield
    finally:
        flooding.cancel()


async def test_members_go_on_through_a_flood(cluster: Cluster) -> None:
    """What is said is held by others in time, also by one that starts again meanwhile."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    (ann,) = await cluster.start(1)
    ben = cluster.node("--bind", f"127.0.0.1:{port}", "--join", ann.address)
    await ben.start()
    await cluster.all_alive(ann, ben)

    async def flood() -> dict[str, Any] | None:
        return (await ann.ask("status"))["flood"]  # type: ignore[no-any-return]

    assert await flood() is None
    async with flooded(ann):
        told = await until("status tells of it", flood)
        assert told["only_members"]
        assert told["datagrams_a_second"] > 0
        assert (await ann.ask("status"))["reasons"] == []
        said = await ann.control.say("ops", "one", wait=1, timeout=20)
        assert len(said.held_by) == 1
        await ben.restart()
        await cluster.all_alive(ann, ben)
        said = await ann.control.say("ops", "two", wait=1, timeout=20)
        assert len(said.held_by) == 1
        status = await ann.flc("status")
        assert b"a flood: " in status.out

    async def is_over() -> bool:
        return await flood() is None

    await until("it is over", is_over)
    assert [record["only_members"] for record in ann.logged("flooded")] == [True]
    assert len(ann.logged("flood_ended")) == 1
    assert ann.logged("member_died") == []
