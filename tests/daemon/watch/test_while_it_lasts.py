"""What is a reason while it lasts: it is told as soon as somebody asks, and goes with its cause.

A WAL that is pinned, a disk that is full or cannot be read, and a directory that is gone have tests
of their own (`test_unreadable`, `test_full_disk`, `test_control`).
"""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import pytest

from tests.daemon.blocks import SAY
from tests.daemon.cluster import Cluster, Node
from tests.daemon.control.test_control import STATUS
from tests.daemon.disks import StandingDisk
from tests.daemon.process import until
from tests.daemon.wire import Wire


async def is_told(node: Node, words: str) -> bool:
    """Whether status has such a reason, with an advice."""
    status = await node.ask("status")
    assert len(status["advice"]) == len(status["reasons"])
    return words in "; ".join(status["reasons"])


async def is_healthy(node: Node) -> bool:
    """Whether it has no reason any more."""
    return bool((await node.ask("status"))["healthy"])


@pytest.mark.parametrize("name", ["flc.db", "flc.db-wal"])
async def test_a_file_that_was_moved(ann: Node, name: str) -> None:
    """It is missed although nobody says anything; back in its place, it is well again."""
    await ann.control.say("ops", "hi")
    file = ann.data / name
    file.rename(file.with_suffix(".away"))
    assert await is_told(ann, f"{name} was deleted, moved or replaced")
    assert (await ann.flc("status")).code == 1
    file.with_suffix(".away").rename(file)
    assert await is_healthy(ann)
    assert (await ann.control.say("ops", "again")).position == 2


@pytest.fixture
async def disk(tmp_path: Path) -> StandingDisk:
    """A disk that can be made to stand still."""
    return StandingDisk(tmp_path)


async def test_a_slow_disk_and_a_full_queue(
    cluster: Cluster, disk: StandingDisk, wires: list[Wire]
) -> None:
    """A commit that does not end is told, and then that a client is not read any more.

    Nothing that the client said is lost or refused, and in the end the node is well.
    """
    ann = cluster.node(environ=disk.environ)
    await ann.start()
    wire = await Wire.to(ann, wires)
    assert (await wire.ask(SAY))["ok"]
    disk.stop()
    await wire.send(SAY)
    await until("the slow disk is told", partial(is_told, ann, "the disk is slow"))
    assert not await is_told(ann, "a client is not read")
    sending = asyncio.create_task(wire.send(*[SAY] * 5_000))
    await until("the full queue is told", partial(is_told, ann, "a client is not read"))
    disk.go_on()
    await sending
    assert all([(await wire.read())["ok"] for _ in range(5_001)])
    assert (await wire.ask(STATUS))["messages"] == 5_002
    await until("it is well again", partial(is_healthy, ann))
