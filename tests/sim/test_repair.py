"""A node whose database was repaired beside sound ones: all end equal."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from flc_udp.config import Settings
from flc_udp.sim.disk import DiskLog, put
from flc_udp.sim.machine import Machine
from flc_udp.sim.world import World
from flc_udp.store.repair.fill import Filled
from flc_udp.store.repair.pages import LEAF
from tests.sim.test_rot import findings, read_all, said_by_two
from tests.store.flips import mend

PAGE = 4_096


def repaired(machine: Machine, directory: Path, content: bytes) -> Filled:
    """Let the disk of a machine that is down be a repaired one that had this content."""
    path = directory / "flc.db"
    path.write_bytes(content)
    filled = mend(path)
    put(machine.disk.connection, path.read_bytes())
    return filled


def without(content: bytes, pages: list[int]) -> bytes:
    """A file in which these pages are empty."""
    empty = bytearray(content)
    for page in pages:
        empty[page * PAGE : (page + 1) * PAGE] = bytes(PAGE)
    return bytes(empty)


@pytest.mark.parametrize("seed", range(6))
def test_beside_a_sound_node(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits is healed once it is read, and a newcomer beside both gets all of it."""
    with said_by_two(seed, [10, 200, 3_000] * 20) as world:
        whole = world.history("a", "ops")
        machine = world.machines["b"]
        machine.crash()
        content = machine.disk.connection.serialize()
        leaves = [at // PAGE for at in range(0, len(content), PAGE) if content[at] == LEAF]
        torn = random.Random(seed).sample(leaves, 1 + seed % 4)
        filled = repaired(machine, tmp_path, without(content, torn))
        assert filled.gone == []
        # The check at a start reads all blocks, and takes those that wait for lost.
        monkeypatch.setattr(machine.follower, "started", lambda _: None)
        machine.start()
        world.machines["c"].start()
        world.run(10_000)
        read_all(world, "b")
        for _ in range(8):  # Of blocks in a row the last is proven, then the one before it.
            world.run(5_000)
            read_all(world, "b")
        world.run(30_000)
        assert [world.history(name, "ops") for name in "bc"] == [whole, whole]
        assert findings(world, "b") == []
        world.say("b", "ops", "after")
        world.settle()
        assert [world.history(name, "ops")[-1] for name in "abc"] == ["after"] * 3


@pytest.mark.parametrize("lost", [1, 20, 59])
def test_what_went_comes_back(lost: int, tmp_path: Path) -> None:
    """Logs that were cut grow again by what others have."""
    with said_by_two(lost, [10] * 60) as world:
        whole = world.history("a", "ops")
        machine = world.machines["b"]
        machine.crash()
        sql = "DELETE FROM block WHERE position IN (SELECT position FROM block LIMIT 1 OFFSET ?)"
        machine.disk.connection.execute(sql, (60 - lost,))
        filled = repaired(machine, tmp_path, machine.disk.connection.serialize())
        assert len(filled.gone) == lost
        machine.log = DiskLog.over(machine.disk.connection)
        machine.follower.put_back(machine.log)  # as from a backup
        machine.start()
        world.settle()
        assert world.history("b", "ops") == whole
        assert findings(world, "b") == []


def test_with_a_base(tmp_path: Path) -> None:
    """Of what was pruned the base stays, and the nodes agree."""
    with World("ab", 3, settings=Settings(retention_age_s=20)) as world:
        world.settle()
        for number in range(60):
            world.say("ab"[number % 2], "ops", f"{number}")
            world.run(1_000)
        world.settle()
        machine = world.machines["b"]
        machine.crash()
        content = without(machine.disk.connection.serialize(), [5])  # The page of rooms.
        filled = repaired(machine, tmp_path, content)
        assert (filled.gone, filled.waiting) == ([], [])
        machine.start()
        world.say("b", "ops", "after")
        world.settle()
        assert findings(world, "b") == []
        assert world.history("a", "ops")[-1] == "after"


def test_many_in_a_row_heal_by_themselves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Large ones, of which only the last has a proof at first: the others do not crowd it out."""
    with said_by_two(1, [10, 300, 20_000] * 20) as world:
        whole = world.history("a", "ops")
        machine = world.machines["b"]
        machine.crash()
        content = machine.disk.connection.serialize()
        pages = [at // PAGE for at in range(0, len(content), PAGE)]
        torn = list(range(20, len(pages)))  # The small tables stand before.
        filled = repaired(machine, tmp_path, without(content, torn))
        assert len(filled.waiting) > 20
        monkeypatch.setattr(machine.follower, "started", lambda _: None)
        machine.start()
        world.run(90_000)
        assert world.history("b", "ops") == whole
        assert findings(world, "b") == []
