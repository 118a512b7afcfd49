"""Blocks that change on a disk: nobody is given them, and others' copies take their place."""

from __future__ import annotations

from collections import Counter

import pytest

from flc_udp.config import Settings
from flc_udp.core.notices import BlockRotten, HistoryTruncated
from flc_udp.model.notices import Notice
from flc_udp.model.units import MS_US
from flc_udp.sim.disk import Fate, put
from flc_udp.sim.network import Faults
from flc_udp.sim.world import World
from flc_udp.store.fsck.database import Fsck
from flc_udp.store.reader import Reader
from flc_udp.waist.notices import BlockHealed, HealingFailed


def told(world: World) -> Counter[type[Notice]]:
    """How often each kind of notice is told, from now on."""
    counts: Counter[type[Notice]] = Counter()
    world.listeners.append(lambda _number, notice: counts.update([type(notice)]))
    return counts


def read_all(world: World, name: str) -> list[str | bytes]:
    """What somebody reads at a node, who asks it for everything."""
    reader: Reader = world.machines[name].running._reader  # type: ignore[assignment]  # noqa: SLF001
    return [message.body for _, message in reader.history(None)]


def findings(world: World, name: str) -> list[str]:
    """What `flc fsck` finds on a disk."""
    found = Fsck(world.machines[name].disk.connection).findings()
    return [f"{finding.check} {finding.dot}: {finding.problem}" for finding in found]


def said_by_two(seed: int, sizes: list[int], faults: Faults | None = None) -> World:
    """Two that said so much in turn and agree, and a third that has not come yet."""
    world = World("abc", seed, faults or Faults(), late="c")
    world.settle()
    for number, size in enumerate(sizes):
        world.say("ab"[number % 2], "ops", f"{number} {'x' * size}")
        world.run(10)
    world.settle()
    return world


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("rotten", [1, 5, 60])
def test_a_newcomer_beside_a_rotten_and_a_sound_node(seed: int, rotten: int) -> None:
    """It ends equal to the sound one, and so does the rotten one, whoever it asked."""
    with said_by_two(seed, [10] * 60) as world:
        counts = told(world)
        whole = world.history("a", "ops")
        world.machines["b"].rot(rotten)
        assert findings(world, "b")
        world.machines["c"].start()
        world.run(60_000)
        assert world.history("c", "ops") == whole
        # What was not read is found by the scrub.
        world.run(75_000)
        assert world.history("b", "ops") == whole
        assert findings(world, "b") == []
        assert counts[BlockRotten] == counts[BlockHealed] == rotten


@pytest.mark.parametrize("size", [0, 900, 1_500, 9_000, 60_000])
def test_a_block_of_any_size_heals(size: int) -> None:
    """The only one, which is a log's first and last, and large ones that travel in pieces."""
    with said_by_two(1, [size]) as world:
        whole = world.history("a", "ops")
        world.machines["a"].rot()
        assert read_all(world, "a") == []
        world.run(10_000)
        assert world.history("a", "ops") == whole
        assert findings(world, "a") == []


@pytest.mark.parametrize("rotten", [1, 30, 60])
@pytest.mark.parametrize("seed", range(3))
def test_rotten_blocks_that_are_pruned_leave_a_true_base(seed: int, rotten: int) -> None:
    """What comes next is taken from the node whose disk is rotten, and follows in its chain."""
    with World("abc", seed, settings=Settings(retention_age_s=20), late="c") as world:
        world.settle()
        for number in range(60):
            world.say("ab"[number % 2], "ops", f"{number}")
            world.run(10)
        world.settle()
        world.machines["b"].rot(rotten)
        world.run(60_000)
        assert world.history("a", "ops") == world.history("b", "ops") == []
        world.machines["a"].crash()
        world.say("b", "ops", "after")
        world.machines["c"].start()
        world.run(5_000)
        assert world.history("c", "ops") == ["after"]
        # Its frontier may have edges that are none: a message names them, and then they are gone.
        world.say("c", "ops", "again")
        world.machines["a"].start()
        world.settle()
        assert [world.history(name, "ops") for name in "abc"] == [["after", "again"]] * 3
        assert [findings(world, name) for name in "abc"] == [[], [], []]


@pytest.mark.parametrize("holdback", [16, 16_384])
def test_what_one_has_rotten_and_all_others_have_pruned_is_taken_from_their_base(
    holdback: int,
) -> None:
    """A newcomer asks for it in vain, and does not ask for ever for what comes after it.

    Where more comes after it than can be held back, that is dropped, and would come again.
    """
    keeps = Settings(holdback_blocks_max=holdback)
    own = {"a": keeps, "b": Settings(retention_age_s=20), "c": keeps}
    with World("abc", 1, own=own, late="c") as world:
        world.say("a", "ops", "rotten")
        world.settle()
        world.machines["a"].rot()
        for number in range(100):
            world.say("a", "ops", f"{number} {'x' * 300}")
            world.run(10)
        world.run(40_000)
        assert world.history("b", "ops") == []
        world.machines["c"].start()
        world.run(60_000)
        assert world.machines["c"].running.root == world.machines["a"].running.root


def test_what_is_deleted_is_not_healed_any_more() -> None:
    """A rotten block that nobody else kept goes with the others, and is asked for no more."""
    with World("ab", 1, settings=Settings(retention_age_s=20)) as world:
        world.say("a", "ops", "hi")
        world.settle()
        world.crash("b")
        world.machines["a"].rot()
        read_all(world, "a")
        world.run(1_000)
        assert len(world.machines["a"].running.facts().repair.rotten) == 1
        world.run(30_000)
        assert world.history("a", "ops") == []
        assert world.machines["a"].running.facts().repair.rotten == ()


def test_what_goes_when_a_base_is_taken_is_not_healed_any_more() -> None:
    """A node that keeps everything gives up a log whose next message nobody keeps any more."""
    with World("ab", 1, own={"b": Settings(retention_age_s=20)}) as world:
        world.say("b", "ops", "rotten")
        world.settle()
        counts = told(world)
        world.cut("a", "b")
        world.machines["a"].rot()
        read_all(world, "a")
        world.say("b", "ops", "missed")
        world.run(1_000)
        assert len(world.machines["a"].running.facts().repair.rotten) == 1
        world.run(40_000)
        assert world.history("b", "ops") == []
        world.heal()
        world.settle()  # It waits until nothing is to be healed.
        assert counts[HistoryTruncated] == 1
        assert counts[HealingFailed] == counts[BlockHealed] == 0


def test_a_disk_that_cannot_be_read_for_a_while_heals_later() -> None:
    """Reads fail while a block is written anew: the one before it is met again, and healed then."""
    with said_by_two(3, [10] * 10) as world:
        b = world.machines["b"]
        b.rot(10)
        read_all(world, "b")
        world.run(1)
        b.cannot_read(5_000 * MS_US)
        world.run(10_000)
        assert b.node is not None
        for _ in range(10):
            read_all(world, "b")
            world.run(10_000)
        assert findings(world, "b") == []


def test_rotten_blocks_take_as_much_space_as_sound_ones() -> None:
    """Retention by bytes deletes no more than it must, where what it deletes has changed."""
    with World("ab", 1, own={"a": Settings(retention_bytes=250_000)}) as world:
        for number in range(200):
            world.say("a", "ops", f"{number} {'x' * 1_000}")
            world.run(10)
            if number == 100:
                world.machines["a"].rot(100)
        world.run(10_000)
        # The checks of the world say when too much is deleted.
        assert len(world.history("a", "ops")) > 50


def test_retention_waits_for_a_block_whose_stamp_has_changed() -> None:
    """Its turn is unknown until it is healed."""
    with World("ab", 1, settings=Settings(retention_age_s=20)) as world:
        world.settle()
        for number in range(20):
            world.say("a", "ops", f"{number}")
            world.run(1_000)
        world.settle()
        counts = told(world)
        sql = "UPDATE block SET stamp = 1 WHERE position = 15"
        world.machines["b"].disk.connection.execute(sql)
        world.run(5_000)
        assert counts == {BlockHealed: 1}  # Its block tells the stamp, so nobody is asked for it.
        world.run(60_000)
        assert world.history("a", "ops") == world.history("b", "ops") == []
        assert findings(world, "b") == []


@pytest.mark.parametrize(
    "change",
    [
        "stamp = stamp + 1",
        "stamp = stamp | 1 << 40",
        "count = count + 1",
        "count = 0",
        "seq = seq + 1000",
        "seq = -seq",
        "room_no = 2",
        "room_no = 77",
        "log_no = 77",
        "log_no = 3 - log_no, seq = seq + 1000",
        "hash = x'0011223344556677'",
        "hash = 'text'",
    ],
)
def test_a_row_that_is_not_what_its_block_says_is_written_anew(change: str) -> None:
    """The node needs nobody for that: another one has nothing, and is gone."""
    with World("ab", 1) as world:
        world.settle()
        for number in range(40):
            world.say("ab"[number % 2], ("ops", "lobby")[number // 20], f"{number}")
            world.run(50)
        world.settle()
        whole, counts = read_all(world, "b"), told(world)
        world.machines["a"].crash()
        disk = world.machines["b"].disk.connection
        disk.execute(f"UPDATE OR IGNORE block SET {change} WHERE position = 15")  # noqa: S608
        assert len(findings(world, "b")) > 0
        world.run(75_000)
        assert findings(world, "b") == []
        assert read_all(world, "b") == whole
        assert counts[BlockHealed] == 1


def test_rotten_blocks_that_were_pruned_are_asked_for_no_more() -> None:
    """Nobody has a sound copy until retention comes to it. Then it is no reason any more."""
    with World("ab", 1, settings=Settings(retention_age_s=20)) as world:
        world.settle()
        for number in range(10):
            world.say("ab"[number % 2], "ops", f"{number}")
        world.settle()
        for name in "ab":
            world.machines[name].rot(10)
        world.run(10_000)
        assert all(world.machines[name].running.facts().repair.rotten for name in "ab")
        world.run(60_000)
        assert not any(world.machines[name].running.facts().repair.rotten for name in "ab")


@pytest.mark.parametrize("names", ["ab", "abd"])
def test_blocks_that_nobody_has_keep_no_others_from_healing(names: str) -> None:
    """There are more of them than one pull names."""
    with World(names, 4) as world:
        world.settle()
        for number in range(150):
            world.say("a", "ops", f"{number}")
            world.run(10)
        world.settle()
        gone = {name: set(world.machines[name].rot(130 if name != "b" else 150)) for name in names}
        nobody = set.intersection(*gone.values())
        assert len(nobody) > 90
        world.run(600_000)
        assert len(world.machines["b"].running.facts().repair.rotten) <= len(nobody)
        assert len(read_all(world, "b")) == 150 - len(nobody)


def test_what_nobody_has_is_given_to_nobody() -> None:
    """Both copies are rotten: the newcomer goes without, and it is healed when a copy is back."""
    with said_by_two(2, [10] * 20) as world:
        counts = told(world)
        (copy,) = [world.machines["a"].disk.connection.serialize()]
        whole = world.history("a", "ops")
        for name in "ab":
            world.machines[name].rot(20)
        world.machines["c"].start()
        world.run(60_000)
        assert world.history("c", "ops") == []
        assert counts[BlockRotten] > 0
        assert counts[BlockHealed] == 0
        world.machines["a"].crash()
        put(world.machines["a"].disk.connection, copy)
        world.machines["a"].start()
        world.run(120_000)
        assert world.history("b", "ops") == world.history("c", "ops") == whole
        assert findings(world, "b") == findings(world, "c") == []


def test_a_large_block_heals_soon_though_one_of_the_others_has_no_copy() -> None:
    """Pulls are small, and every second one asks the peer that has nothing: pauses do not grow."""
    with World("abc", 1, settings=Settings(pull_bytes_max=2_048)) as world:
        world.say("a", "ops", "x" * 60_000)
        world.settle()
        for name in "ab":
            world.machines[name].rot()
            world.machines[name].read_all()
        world.run(60_000)
        assert world.history("a", "ops") == world.history("b", "ops") == world.history("c", "ops")


def test_a_disk_that_fails_heals_later() -> None:
    """The block is fetched again, as often as its writing fails."""
    with said_by_two(3, [10] * 10) as world:
        counts = told(world)
        world.machines["b"].rot()
        read_all(world, "b")
        world.fate("b", Fate.FAILED, Fate.FAILED, of="heal")
        world.run(60_000)
        assert counts == {BlockRotten: 1, HealingFailed: 2, BlockHealed: 1}
        assert findings(world, "b") == []
