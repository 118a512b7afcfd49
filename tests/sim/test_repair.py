"""A node whose database was repaired beside sound ones: all end equal."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from flc_udp.config import Settings
from flc_udp.sim.machine import Machine
from flc_udp.sim.world import World
from flc_udp.store.repair.fill import Filled
from tests.sim.test_rot import findings, read_all, said_by_two
from tests.store.flips import mend

PAGE = 4_096


def repaired(machine: Machine, directory: Path, pages: list[int]) -> Filled:
    """Overwrite pages on the disk of a machine that is down, and repair it."""
    path = directory / "flc.db"
    content = bytearray(machine.disk.connection.serialize())
    for page in pages:
        content[page * PAGE : (page + 1) * PAGE] = bytes(PAGE)
    path.write_bytes(content)
    filled = mend(path)
    machine.disk.connection.deserialize(path.read_bytes())
    return filled


@pytest.mark.parametrize("seed", range(8))
def test_beside_a_sound_node(seed: int, tmp_path: Path) -> None:
    """What went comes back, what waits is healed once it is read, and a newcomer gets it all."""
    with said_by_two(seed, [10, 200, 3_000] * 20) as world:
        whole = world.history("a", "ops")
        machine = world.machines["b"]
        machine.crash()
        pages = len(machine.disk.connection.serialize()) // PAGE
        torn = random.Random(seed).sample(range(pages), 1 + seed % 4)
        repaired(machine, tmp_path, torn)
        machine.start()
        world.machines["c"].start()
        world.settle()
        for _ in range(4):
            read_all(world, "b")
            world.run(30_000)
        assert world.history("b", "ops") == world.history("c", "ops") == whole
        assert findings(world, "b") == []
        world.say("b", "ops", "after")
        world.settle()
        assert [world.history(name, "ops")[-1] for name in "abc"] == ["after"] * 3


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
        filled = repaired(machine, tmp_path, [5])  # The page of rooms.
        assert (filled.gone, filled.waiting) == ([], [])
        machine.start()
        world.say("b", "ops", "after")
        world.settle()
        assert findings(world, "b") == []
        assert world.history("a", "ops")[-1] == "after"
