"""Plays in which nodes keep less than all: what is let go, and what is taken in its stead."""

from collections import defaultdict
from collections.abc import Sequence
from itertools import islice

import pytest

from flc_udp.config import Settings
from flc_udp.core.notices import HistoryTruncated
from flc_udp.core.repair.wanted_log import Floors
from flc_udp.model.block import Block
from flc_udp.model.dots import Dot
from flc_udp.model.history import BaseLog, History
from flc_udp.model.message import Message
from flc_udp.model.notices import Notice
from flc_udp.sim.disk import Fate
from flc_udp.sim.network import Faults
from flc_udp.sim.plan import Plan
from flc_udp.sim.play import Play
from flc_udp.sim.violation import Violation
from flc_udp.sim.world import World
from flc_udp.store.log import Log
from flc_udp.waist.pruning import PruningClock

BRIEFLY = Settings(retention_age_s=2)
LITTLE = Settings(retention_bytes=400_000)


class Ears:
    """All that who follows the nodes was shown, and all that the nodes told people."""

    def __init__(self, world: World) -> None:
        self.shown: dict[str, list[str | bytes]] = defaultdict(list)
        self.told: dict[str, list[type[Notice]]] = defaultdict(list)
        self._world = world
        world.watchers.append(self._watch)
        world.listeners.append(self._listen)

    def _watch(self, number: int, messages: Sequence[Message]) -> None:
        name = list(self._world.machines)[number]
        self.shown[name] += [message.body for message in messages]

    def _listen(self, number: int, notice: Notice) -> None:
        self.told[list(self._world.machines)[number]].append(type(notice))


def say_some(world: World, names: str, count: int, what: str = "") -> list[str]:
    """Some messages, 5 ms apart, said in turn."""
    bodies = [f"{what}{number}" for number in range(count)]
    for number, body in enumerate(bodies):
        world.say(names[number % len(names)], "ops", body)
        world.run(5)
    return bodies


def pruned_pair(seed: int, count: int = 50, faults: Faults | None = None) -> World:
    """Two that keep what they say for two seconds, and have let it all go; a third is not there."""
    own = {"a": BRIEFLY, "b": BRIEFLY}
    world = World("abc", seed, faults or Faults(), own=own, late="c")
    world.run(1_000)
    say_some(world, "ab", count, "old")
    world.run(6_000)
    assert world.history("a", "ops") == world.history("b", "ops") == []
    return world


@pytest.mark.parametrize("years", [-56, -2, 2, 73])
def test_a_clock_that_jumps_makes_nothing_old(years: int) -> None:
    """While the node runs, or while it is off: only the time that passed makes messages old."""
    with World("ab", 1, settings=BRIEFLY) as world:
        world.settle()
        said = say_some(world, "a", 30)
        world.settle()
        running, starting = world.machines["a"], world.machines["b"]
        running.jump_clock(years)
        starting.crash()
        starting.jump_clock(years)
        starting.start()
        world.run(500)
        assert world.history("a", "ops") == world.history("b", "ops") == said
        world.run(3_000)
        if years < 0:  # What is far ahead of the clock is kept until that is right again.
            for machine in (running, starting):
                machine.jump_clock(-years)
            world.run(3_000)
        assert world.history("a", "ops") == world.history("b", "ops") == []


def test_what_is_old_goes_and_the_nodes_agree() -> None:
    """Two seconds after it arrived a message is gone here and there, and all roots are equal."""
    with World("abc", 1, settings=BRIEFLY) as world:
        world.settle()
        said = say_some(world, "abc", 30)
        world.settle()
        assert sorted(world.history("b", "ops")) == sorted(said)
        world.run(3_000)
        world.settle()

        assert [world.history(name, "ops") for name in "abc"] == [[], [], []]
        world.say("a", "ops", "after")
        world.settle()
        assert [world.history(name, "ops") for name in "abc"] == [["after"]] * 3


@pytest.mark.parametrize("count", [3, 50, 2_000])
def test_a_newcomer_says_what_it_misses_and_agrees_from_there_on(count: int) -> None:
    """What nobody keeps is told of as truncated; what is said later it has, in one order."""
    with pruned_pair(2, count) as world:
        ears = Ears(world)
        new = say_some(world, "ab", 5, "new")
        world.start("c")
        took = world.settle()

        assert took < 3_000
        assert ears.told["c"].count(HistoryTruncated) == 1
        assert sorted(ears.shown["c"]) == sorted(world.history("c", "ops")) == new
        world.say("c", "ops", "from c")
        world.settle()
        assert "from c" in world.history("a", "ops")


@pytest.mark.parametrize("seed", range(4))
def test_a_base_of_bursts_ends_with_a_block(seed: int) -> None:
    """What is pruned of bursts is whole blocks, so a newcomer goes on behind them."""
    with World("abc", seed, own={"a": BRIEFLY, "b": BRIEFLY}, late="c") as world:
        world.run(1_000)
        for count in (40, 3, 1, 200):
            for name in "ab":
                world.machines[name].say("ops", *(f"{number}" * 9 for number in range(count)))
                world.run(5)
        world.run(6_000)
        assert world.history("a", "ops") == world.history("b", "ops") == []
        ears = Ears(world)
        new = [f"new {number}" for number in range(100)]
        world.machines["b"].say("ops", *new)
        world.start("c")
        world.settle()

        assert ears.told["c"].count(HistoryTruncated) == 1
        assert ears.shown["c"] == world.history("c", "ops") == new
        world.machines["c"].say("ops", *new)
        world.settle()
        assert world.history("a", "ops") == world.history("c", "ops")


def test_a_newcomer_gets_all_of_who_keeps_all() -> None:
    """One that keeps everything is enough: nothing is truncated."""
    with World("abc", 3, own={"a": BRIEFLY}, late="c") as world:
        ears = Ears(world)
        world.run(1_000)
        said = say_some(world, "ab", 400)
        world.run(6_000)
        assert world.history("a", "ops") == []
        world.start("c")
        world.settle()

        assert sorted(ears.shown["c"]) == sorted(said)
        assert HistoryTruncated not in ears.told["c"]


@pytest.mark.parametrize("seed", range(4))
def test_halves_with_and_without_retention_heal(seed: int) -> None:
    """What the half that keeps all said meanwhile arrives; of the other, what it still has."""
    with World("abcd", seed, own={"a": BRIEFLY, "b": BRIEFLY}) as world:
        world.settle()
        world.partition("ab", "cd")
        ears = Ears(world)
        gone = say_some(world, "ab", 20, "gone")
        kept = say_some(world, "cd", 20, "kept")
        world.run(20_000)
        last = say_some(world, "ab", 4, "last")
        world.heal()
        world.settle()

        for name in "ab":
            assert sorted(ears.shown[name]) == sorted([*gone, *kept, *last])
        for name in "cd":
            assert sorted(ears.shown[name]) == sorted([*kept, *last])
            assert ears.told[name].count(HistoryTruncated) == 1
        assert world.history("c", "ops") == world.history("d", "ops")


def test_nodes_that_keep_differently_stay_one() -> None:
    """Everything, two seconds, so many bytes: each history is the end of the longest."""
    own = {"b": BRIEFLY, "c": LITTLE, "d": LITTLE}
    with World("abcd", 5, Faults(loss=0.25), own=own) as world:
        for number in range(750):
            world.say("abcd"[number % 4], "ops", f"{number}".ljust(700, "."))
            world.run(10)
        world.calm()
        world.settle()

        whole, *others = [world.history(name, "ops") for name in "abcd"]
        assert len(whole) == 750
        for history in others:
            assert len(history) < 750
            assert whole[len(whole) - len(history) :] == history


def test_what_only_a_node_had_that_let_it_go_is_given_up() -> None:
    """Who said it is gone for good, and the only one who had it keeps it no more: all agree."""
    with World("abc", 6, own={"a": BRIEFLY}) as world:
        world.settle()
        ears = Ears(world)
        world.cut("b", "c")
        world.cut("a", "b")
        left = world.say("c", "ops", "my last words")
        world.run(100)
        assert ears.shown["a"] == ["my last words"]
        world.crash("c")
        world.run(5_000)
        world.heal()
        world.settle()
        world.say("a", "ops", "c said something")
        world.settle()

        assert isinstance(left.answer, Dot)
        assert world.history("b", "ops") == ["c said something"]
        assert ears.told["b"].count(HistoryTruncated) == 1
        world.start("c")
        world.settle()
        assert world.history("c", "ops") == ["my last words", "c said something"]


@pytest.mark.parametrize("fate", list(Fate))
def test_however_the_taking_of_a_base_ends_it_is_taken(fate: Fate) -> None:
    """A crash before it leaves nothing of it, one after it all; a failure is tried again."""
    with pruned_pair(7) as world:
        new = say_some(world, "ab", 5, "new")
        world.fate("c", fate, of="adopt")
        world.start("c")
        world.run(500)
        if fate in (Fate.CRASH_BEFORE, Fate.CRASH_AFTER):
            assert world.machines["c"].node is None
            world.restart("c")
        world.settle()

        assert sorted(world.history("c", "ops")) == new


@pytest.mark.parametrize("fate", list(Fate))
def test_however_pruning_ends_it_goes_on(fate: Fate) -> None:
    """Each fifth slice fails, or is interrupted: what is too old is gone all the same."""
    with World("abc", 8, settings=BRIEFLY) as world:
        world.settle()
        world.fate("a", *(4 * [Fate.DONE] + [fate]) * 20, of="retain")
        for _ in range(10):
            say_some(world, "abc", 10)
            world.run(1_000)
            if world.machines["a"].node is None:
                world.restart("a")
        world.run(4_000)
        if world.machines["a"].node is None:
            world.restart("a")
        world.settle()

        assert world.history("a", "ops") == []


def test_what_is_said_while_a_base_is_taken_is_said() -> None:
    """Posts wait until the node is what it will be, and are as good as any."""
    with pruned_pair(9, faults=Faults(commit_us_min=20_000, commit_us_max=60_000)) as world:
        ears = Ears(world)
        said = []

        def speak(_number: int, notice: Notice) -> None:
            if isinstance(notice, HistoryTruncated):
                for pause in range(0, 60_000, 5_000):
                    world.heap.after(pause, lambda: said.append(world.say("c", "ops", "meanwhile")))

        world.listeners.append(speak)
        new = say_some(world, "ab", 5, "new")
        world.start("c")
        world.settle()

        assert len(said) == 12
        assert all(isinstance(utterance.answer, Dot) for utterance in said)
        assert sorted(ears.shown["c"]) == sorted([*new, *12 * ["meanwhile"]])


def test_a_disk_put_back_takes_a_base_too() -> None:
    """An old disk that lacks what nobody keeps any more, and has what others let go of."""
    with World("abc", 10, own={"a": BRIEFLY, "b": BRIEFLY}) as world:
        world.settle()
        before = say_some(world, "abc", 10, "before")
        world.settle()
        world.machines["c"].disk.keep_snapshot()
        say_some(world, "abc", 10, "after")
        world.settle()
        world.crash("c")
        world.run(5_000)
        world.machines["c"].put_back()
        world.restart("c")
        world.settle()

        assert set(world.history("c", "ops")) <= set(before)
        assert world.history("a", "ops") == []


# --- The checks ---------------------------------------------------------------------------------


def test_pruning_too_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """What its operator still wants kept is missed."""
    take_due = PruningClock.take_due

    def hastily(clock: PruningClock, now: int, wall: int) -> tuple[int | None, int | None] | None:
        return take_due(clock, now, wall + 1_000)

    monkeypatch.setattr(PruningClock, "take_due", hastily)
    with World("ab", 1, settings=BRIEFLY) as world:
        say_some(world, "ab", 10)
        with pytest.raises(Violation, match="too early"):
            world.run(3_000)


def test_pruning_by_the_time_it_was_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was said long ago and arrives now is kept as long as anything."""
    append = Log.append

    def forgetfully(log: Log, blocks: Sequence[Block], *_: object) -> int:
        return append(log, blocks, (), 1_000 * min(block.wall for block in blocks))

    monkeypatch.setattr(Log, "append", forgetfully)
    with World("ab", 1, own={"a": BRIEFLY}) as world:
        world.settle()
        world.partition("a", "b")
        say_some(world, "b", 10)
        world.run(5_000)
        world.heal()
        with pytest.raises(Violation, match="too early"):
            world.run(20_000)


def test_a_base_that_is_not_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log that was forgotten is missed at once, or by those that come after it."""
    adopt = Log.adopt

    def carelessly(log: Log, floor: int, base: Sequence[BaseLog]) -> History:
        return adopt(log, floor, base[:-1])

    monkeypatch.setattr(Log, "adopt", carelessly)
    with pruned_pair(2) as world:
        world.start("c")
        with pytest.raises(Violation, match="of the base"):
            world.settle()


def test_taking_a_base_without_asking_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who takes the first floor it is told of for that of all gives up what others keep."""
    monkeypatch.setattr(Floors, "others", lambda *_: {})
    with World("abc", 8, own={"a": BRIEFLY}, late="c") as world:  # Here a tells c first.
        world.run(1_000)
        say_some(world, "ab", 10)
        world.run(12_000)
        world.start("c")
        with pytest.raises(Violation, match="which it could have"):
            world.settle()


def test_many_plays_prune_and_take_bases() -> None:
    """Under every fault, as the other promises."""
    plans = (Plan(loss=25, duplicate=10, seconds=6, seed=seed, faults="all") for seed in range(99))
    drawn = islice((plan for plan in plans if plan.draw_own("abcde")), 10)
    figures = [Play(plan).run() for plan in drawn]

    assert sum(figure.pruned for figure in figures) > 500
    assert sum(figure.bases_taken for figure in figures) > 10
