"""What may wait in a daemon: each has a bound and a counter, and here somebody drives against it.

| what | its bound | counted by |
|---|---|---|
| parts of lines, says | HELD_BYTES_MAX | flc_control_held_bytes, …_requests_refused |

Memory is what the process has (RSS). The bounds are generous, and without them each play here takes
several times as much.
"""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

from tests.daemon.cluster import Cluster, Node
from tests.daemon.disks import StandingDisk
from tests.daemon.process import until
from tests.daemon.test_full_disk import fill_disk
from tests.daemon.wire import Wire

GROWTH_BYTES_MAX = 160 << 20


async def grown_bytes(node: Node, before: int) -> int:
    """By how much the memory of a node that still works has grown."""
    await (await node.client()).say("dev", "still here")
    return node.resident_bytes() - before


async def test_lines_without_an_end_are_bounded(ann: Node, wires: list[Wire]) -> None:
    """Of a hundred clients that each send 7 MiB of a line, and nothing more."""
    before = ann.resident_bytes()
    part = b'{"op":"say","room":"ops","body":"' + b"x" * (7 << 20)
    for _ in range(100):
        await (await Wire.to(ann, wires)).send(part)
    assert await grown_bytes(ann, before) < GROWTH_BYTES_MAX
    clients = (await ann.ask("status"))["clients"]
    assert 0 < clients["held_bytes"] < GROWTH_BYTES_MAX
    assert clients["held_refused"] > 0
    last = wires[-1]
    refused = await last.ask(b'"}\n')
    assert "clients have sent" in refused["error"]
    assert (await last.ask({"op": "say", "room": "ops", "body": "short"}))["ok"]
    for wire in wires:
        await wire.close()


async def test_says_that_wait_for_the_disk_are_bounded(
    cluster: Cluster, wires: list[Wire], tmp_path: Path
) -> None:
    """Of 20 clients that say 12 MB each, while the disk stands still; then all go on."""
    disk = StandingDisk(tmp_path)
    ann = cluster.node(environ=disk.environ)
    await ann.start()
    before = ann.resident_bytes()
    disk.stop()
    say = b'{"op":"say","room":"ops","body":"%b"}\n' % (b"x" * 60_000)
    says = []
    for _ in range(20):
        wire = await Wire.to(ann, wires)
        says.append(asyncio.create_task(wire.send(say * 200)))

    async def are_paused() -> bool:
        return (await ann.ask("status"))["clients"]["paused"] == len(says)

    await until("no client is read any more", are_paused)
    assert ann.resident_bytes() - before < GROWTH_BYTES_MAX
    assert (await ann.ask("status"))["clients"]["held_bytes"] < GROWTH_BYTES_MAX
    disk.go_on()
    for wire in wires:
        assert (await wire.read())["ok"]
    for sending in says:
        sending.cancel()
    await asyncio.gather(*says, return_exceptions=True)


async def test_who_waits_for_others_and_goes_leaves_nothing(
    cluster: Cluster, wires: list[Wire]
) -> None:
    """A wait may last a day, but not longer than whoever wants to know its end."""
    ann, ben = await cluster.start(2)
    fill_disk(ben, wholly=True)
    say = {"op": "say", "room": "ops", "body": "hi", "wait": 1, "timeout": 86_400}

    async def wait_together(count: int) -> bool:
        return (await ann.ask("status"))["clients"]["waiting_for_others"] == count

    for _ in range(2):
        wire = await Wire.to(ann, wires)
        await wire.send(*[say] * 1_000)
        await until("they wait", partial(wait_together, 1_000))
        await wire.close()
        await until("nobody waits", partial(wait_together, 0))
    assert (await ann.ask("status"))["clients"]["held_bytes"] == 0
