"""Plays with a few nodes: what happens, in the words it would be told in."""

import pytest

from flc_udp.config import Settings
from flc_udp.model.dots import Dot
from flc_udp.model.errors import FlcError
from flc_udp.model.units import MS_US
from flc_udp.sim.disk import Fate
from flc_udp.sim.network import Faults
from flc_udp.sim.world import World
from flc_udp.wire.rows import State


def test_what_is_said_is_shown_everywhere_in_milliseconds() -> None:
    """On a calm network a message is everywhere within 20 ms of being said."""
    with World("abc", seed=1) as world:
        world.settle()
        said = world.say("a", "ops", "hi")
        world.run(20)

        assert isinstance(said.answer, Dot)
        assert [world.shown(name, "ops") for name in "abc"] == [["hi"]] * 3


def test_a_reply_waits_for_what_it_replies_to() -> None:
    """Who missed a question is shown it before the answer, though the answer came first."""
    with World("abc", seed=2) as world:
        world.settle()
        world.cut("a", "c")
        world.cut("b", "c")
        world.say("a", "ops", "question")
        world.run(50)
        world.mend("b", "c")
        world.say("b", "ops", "answer")
        world.run(500)

        assert world.shown("c", "ops") == ["question", "answer"]
        world.heal()
        world.settle()


def test_a_one_way_cut_keeps_nobody_from_anything() -> None:
    """Where a hears nothing of b any more, what b says reaches a through c."""
    with World("abc", seed=3) as world:
        world.settle()
        world.cut("b", "a", one_way=True)
        world.say("b", "ops", "hello?")
        world.say("a", "ops", "anybody?")
        world.run(2_000)

        assert sorted(world.shown("a", "ops")) == ["anybody?", "hello?"]
        assert world.view("a")["b"] is State.ALIVE or world.view("c")["b"] is State.ALIVE
        world.heal()
        world.settle()


def test_whose_answers_were_lost_for_a_while_is_believed_again() -> None:
    """Ten pulls of large messages brought nothing; their only teller has them all the same."""
    with World("ab", seed=3) as world:
        world.settle()
        world.cut("a", "b", one_way=True)
        for number in range(12):
            world.say("b", "ops", f"{number} ".ljust(60_000, "."))
            world.run(400)
        world.mend("a", "b")
        world.settle(30_000)

        assert len(world.history("a", "ops")) == 12


def test_islands_merge() -> None:
    """Two halves that held each other dead find each other, and end with one history."""
    with World("abcd", seed=4) as world:
        world.settle()
        world.partition("ab", "cd")
        world.say("a", "ops", "left")
        world.say("d", "ops", "right")
        world.run(30_000)

        assert world.view("a")["d"] is State.DEAD
        assert world.view("c")["b"] is State.DEAD
        world.heal()
        world.settle()
        histories = [world.history(name, "ops") for name in "abcd"]
        assert all(history == histories[0] for history in histories)
        assert sorted(histories[0]) == ["left", "right"]


def test_a_dead_node_is_noticed_and_a_returned_one_too() -> None:
    """A crash is believed by all within 15 s, a return within one."""
    with World("abc", seed=5) as world:
        world.settle()
        world.crash("c")
        world.run(15_000)

        assert [world.view(name)["c"] for name in "ab"] == [State.DEAD, State.DEAD]
        world.restart("c")
        world.run(1_000)
        assert [world.view(name)["c"] for name in "ab"] == [State.ALIVE, State.ALIVE]
        world.settle()


def test_a_clean_leave_is_seen_as_left() -> None:
    """Who goes in order is never suspected; who comes back is alive again."""
    with World("abc", seed=6) as world:
        world.settle()
        world.machines["c"].leave()
        world.run(1_500)

        assert world.machines["c"].node is None
        assert [world.view(name)["c"] for name in "ab"] == [State.LEFT, State.LEFT]
        world.restart("c")
        world.settle()


def test_a_crash_between_decision_and_commit_leaves_no_trace() -> None:
    """What was never acknowledged is nowhere, and the next run minted no dot of the old one."""
    with World("abc", seed=7) as world:
        world.settle()
        world.fate("a", Fate.CRASH_BEFORE)
        lost = world.say("a", "ops", "never")
        world.run(1_000)

        assert lost.answer is None
        world.restart("a")
        world.say("a", "ops", "after")
        world.settle()
        assert world.history("b", "ops") == ["after"]


def test_a_crash_between_commit_and_send_loses_nothing() -> None:
    """What is on the disk when its node dies is everywhere once the node is back."""
    with World("abc", seed=8) as world:
        world.settle()
        world.fate("a", Fate.CRASH_AFTER)
        cut_off = world.say("a", "ops", "kept")
        world.run(1_000)

        assert cut_off.answer is None
        assert world.shown("b", "ops") == []
        world.restart("a")
        world.settle()
        assert world.history("b", "ops") == ["kept"]


def test_a_failed_commit_recovers_by_itself() -> None:
    """Posts get an error while the disk fails; the node lives on, and two seconds later writes."""
    with World("abc", seed=9) as world:
        world.settle()
        world.say("a", "ops", "before")
        world.run(100)
        world.fate("a", Fate.FAILED)
        refused = world.say("a", "ops", "during")
        world.run(100)
        refused_too = world.say("a", "ops", "at once again")
        world.run(2_000)
        said = world.say("a", "ops", "later")
        world.settle()

        assert isinstance(refused.answer, FlcError)
        assert isinstance(refused_too.answer, FlcError)
        assert isinstance(said.answer, Dot)
        assert world.view("b")["a"] is State.ALIVE
        assert world.history("b", "ops") == ["before", "later"]


def test_a_commit_in_doubt_is_found_on_the_disk() -> None:
    """What a failed commit wrote all the same is taken for what it is: said, and everywhere."""
    with World("abc", seed=10) as world:
        world.settle()
        world.fate("a", Fate.DOUBTED)
        doubted = world.say("a", "ops", "in doubt")
        world.run(2_000)
        world.say("a", "ops", "sure")
        world.settle()

        assert isinstance(doubted.answer, FlcError)
        assert world.history("b", "ops") == ["in doubt", "sure"]


@pytest.mark.parametrize("fate", [Fate.FAILED, Fate.DOUBTED])
def test_a_log_that_cannot_be_read_either_is_tried_until_it_can(fate: Fate) -> None:
    """After a failed commit the log cannot be opened, then not be written: the node goes on.

    It refuses posts at once and says why, stays a member, and has all in the end, by itself.
    """
    with World("abc", seed=20) as world:
        world.settle()
        world.say("a", "ops", "before")
        world.run(100)
        world.fate("a", fate)
        world.fate("a", *3 * [Fate.FAILED], of="recover")
        world.fate("a", *2 * [Fate.FAILED], of="try_disk")
        node = world.machines["a"].node
        assert node is not None
        refused = [world.say("a", "ops", "during")]
        world.run(100)
        for _ in range(3):
            refused.append(world.say("a", "ops", "again"))
            world.run(900)
            assert node.failing is not None
            assert "the log cannot be opened" in node.failing
        world.run(1_700)  # It can be read by now, and for a second nobody has written to it.
        assert node.failing is not None
        world.run(2_000)  # And by now it can be written to.
        assert node.failing is None
        assert world.view("b")["a"] is State.ALIVE
        world.say("b", "ops", "from b")
        said = world.say("a", "ops", "later")
        world.settle()

        assert [type(utterance.answer) for utterance in refused] == [FlcError] * 4
        assert isinstance(said.answer, Dot)
        during = ["during"] * (fate is Fate.DOUBTED)
        assert sorted(world.history("b", "ops")) == sorted(["before", *during, "from b", "later"])


def ids(world: World, names: str) -> set[bytes]:
    """The ids of running nodes."""
    nodes = [world.machines[name].node for name in names]
    return {node.me.id for node in nodes if node is not None}


def said_for_all(world: World) -> Dot:
    """Node a says something that asks for receipts: it is durable there, and on its way."""
    utterance = world.say("a", "ops", "hi", receipt=True)
    while utterance.answer is None:
        world.run(1)
    assert isinstance(utterance.answer, Dot)
    return utterance.answer


def test_a_wait_ends_when_the_last_receipt_comes() -> None:
    """However late that is: from one that was cut off it comes when it was repaired."""
    with World("abc", seed=21) as world:
        world.settle()
        world.cut("a", "c")
        world.cut("b", "c")
        ended = world.machines["a"].wait(said_for_all(world))
        world.run(1_000)
        assert ended == []
        world.heal()
        world.settle()
        world.run(1_000)

        ((held_by, missing, is_short),) = ended
        assert (set(held_by), missing, is_short) == (ids(world, "bc"), (), False)


def test_a_wait_ends_when_the_last_one_waited_for_is_dead() -> None:
    """It is named; who waits for all that live is not short of it, who wants two is."""
    with World("abc", seed=22) as world:
        world.settle()
        missed = ids(world, "c")
        world.crash("c")
        dot = said_for_all(world)
        for_all, for_two = (world.machines["a"].wait(dot, n, 60_000) for n in (None, 2))
        while world.view("a")["c"] is not State.DEAD:
            assert for_all == for_two == []
            world.run(50)

        for ended, expected in ((for_all, False), (for_two, True)):
            ((held_by, missing, is_short),) = ended
            assert (set(held_by), set(missing), is_short) == (ids(world, "b"), missed, expected)


@pytest.mark.parametrize("commits_meanwhile", [False, True])
def test_a_wait_over_which_its_node_stood_still_counts_what_came_in(
    *, commits_meanwhile: bool
) -> None:
    """The deadline is long past, but the receipts were there before: they are read first."""
    with World("abc", seed=23) as world:
        world.settle()
        ended = world.machines["a"].wait(said_for_all(world), timeout_ms=1_000)
        if commits_meanwhile:
            world.say("a", "ops", "more")
            world.run(1)
        assert ended == []
        world.machines["a"].pause(3_000 * MS_US)
        world.run(3_100)

        ((held_by, missing, is_short),) = ended
        assert (set(held_by), missing, is_short) == (ids(world, "bc"), (), False)


def test_a_wait_ends_at_its_deadline() -> None:
    """Who could not be reached until then is named, also where the node stood still over it."""
    with World("abc", seed=24) as world:
        world.settle()
        world.partition("a")
        dot = said_for_all(world)
        ended = world.machines["a"].wait(dot, timeout_ms=1_000)
        world.run(999)
        assert ended == []
        world.run(2)
        late = world.machines["a"].wait(dot, timeout_ms=1_000)
        world.machines["a"].pause(3_000 * MS_US)
        world.run(3_100)

        for held_by, missing, is_short in (*ended, *late):
            assert (held_by, set(missing), is_short) == ((), ids(world, "bc"), True)
        assert len(ended) == len(late) == 1
        world.heal()
        world.settle()


def test_a_node_without_seeds_finds_those_it_knew() -> None:
    """What it remembers of its last run is asked at once, and it has missed nothing."""
    with World("abc", seed=25) as world:
        world.settle()
        world.crash("a")
        world.run(30_000)
        world.say("b", "ops", "where is a?")
        world.run(100)
        world.restart("a")
        world.run(50)

        assert world.view("a") == {"a": State.ALIVE, "b": State.ALIVE, "c": State.ALIVE}
        world.settle()
        assert world.shown("a", "ops") == ["where is a?"]


def test_a_full_disk_refuses_posts_and_nothing_else() -> None:
    """Below the floor of free space people get an error, and what others say still comes in."""
    with World("ab", seed=11) as world:
        world.settle()
        world.machines["a"].disk.free_bytes = 1_000
        refused = world.say("a", "ops", "no room")
        world.say("b", "ops", "from b")
        world.settle()

        assert isinstance(refused.answer, FlcError)
        assert "1000 bytes" in str(refused.answer)
        assert world.shown("a", "ops") == ["from b"]


def test_a_disk_put_back_gets_from_others_what_it_lost() -> None:
    """A node with an old disk fetches even its own messages, and mints no dot a second time."""
    with World("abc", seed=12) as world:
        world.say("a", "ops", "one")
        world.settle()
        world.machines["a"].disk.keep_snapshot()
        world.say("a", "ops", "two")
        world.settle()
        world.crash("a")
        world.machines["a"].put_back()
        world.restart("a")
        world.say("a", "ops", "three")
        world.settle()

        assert sorted(world.history("a", "ops")) == ["one", "three", "two"]


def test_a_disk_put_back_may_give_an_incarnation_twice() -> None:
    """A run that begins at the incarnation of a lost one is told of it, and takes a higher one."""
    with World("abc", seed=19) as world:
        world.settle()
        world.machines["a"].disk.keep_snapshot()
        for _ in range(2):
            world.crash("a")
            world.machines["a"].put_back()
            world.restart("a")
            world.settle()


def test_only_what_no_other_disk_holds_is_lost_with_a_disk() -> None:
    """An acknowledged message may go with the one disk that has it, and only then."""
    with World("abc", seed=13) as world:
        world.settle()
        world.machines["a"].disk.keep_snapshot()
        world.partition("a", "bc")
        alone = world.say("a", "ops", "only here")
        world.run(100)
        world.crash("a")
        world.machines["a"].put_back()
        world.heal()
        world.restart("a")
        world.settle()

        assert isinstance(alone.answer, Dot)
        assert list(world.checks.let_go) == [alone.answer]
        assert world.history("b", "ops") == []


def test_a_large_body_crosses_a_network_that_loses_a_quarter() -> None:
    """64 KiB, in pieces, arrive whole everywhere, and what is said after them waits for them."""
    with World("abcd", seed=14, faults=Faults(loss=0.25)) as world:
        world.run(3_000)
        large = "x" * 65_536
        world.say("a", "ops", large)
        world.run(20)
        world.say("a", "ops", "seen?")
        world.run(10_000)

        assert [world.shown(name, "ops") for name in "abcd"] == [[large, "seen?"]] * 4
        world.calm()
        world.settle()


def test_a_newcomer_gets_a_long_history() -> None:
    """A node that joins late has thousands of messages within seconds, in one causal order."""
    with World("ab", seed=15) as world:
        world.settle()
        for number in range(4_000):
            world.say("ab"[number % 2], "ops", f"{number}".ljust(100, "."))
            world.run(number % 2)
        world.settle()
        world.add("c")
        world.start("c")
        world.run(5_000)

        assert len(world.shown("c", "ops")) == 4_000
        world.settle()


def burst(count: int, what: str = "") -> list[str]:
    """So many bodies, of which about ten share a block."""
    return [f"{what}{number}".ljust(100, ".") for number in range(count)]


def test_a_burst_is_one_history_everywhere() -> None:
    """What is said at once goes in few blocks, and each message of it has its own answer."""
    with World("abc", seed=26) as world:
        world.settle()
        bodies = burst(200)
        said = world.machines["a"].say("ops", *bodies)
        world.run(50)

        dots = [utterance.answer for utterance in said]
        assert all(isinstance(dot, Dot) for dot in dots)
        assert [dot.seq for dot in dots if isinstance(dot, Dot)] == list(range(1, 201))
        assert [world.shown(name, "ops") for name in "abc"] == [bodies] * 3
        blocks = {minted.block.dot for minted in world.checks.minted.values()}
        assert 20 <= len(blocks) <= 30
        world.settle()


@pytest.mark.parametrize("fate", [Fate.CRASH_BEFORE, Fate.CRASH_AFTER, Fate.FAILED, Fate.DOUBTED])
@pytest.mark.parametrize("commits", [0, 1, 2])
def test_a_burst_whose_commit_does_not_end_well(fate: Fate, commits: int) -> None:
    """Whole blocks of it are everywhere in the end, as many as came to a disk; none is cut."""
    settings = Settings(commit_blocks_max=6)
    with World("abc", seed=27, settings=settings) as world:
        world.settle()
        bodies = burst(200)
        world.fate("a", *commits * [Fate.DONE], fate)
        said = world.machines["a"].say("ops", *bodies)
        world.run(1_000)
        if fate in (Fate.CRASH_BEFORE, Fate.CRASH_AFTER):
            assert world.machines["a"].node is None
            assert [utterance.answer for utterance in said] == [None] * 200
            world.restart("a")
        world.run(3_000)
        world.say("a", "ops", "after")
        world.settle()

        *kept, after = world.history("b", "ops")
        assert (kept, after) == (bodies[: len(kept)], "after")
        blocks = {minted.block.dot: minted.block for minted in world.checks.minted.values()}
        of_burst = [block for block in blocks.values() if block.bodies != ("after",)]
        ends = [block.last for block in of_burst if block.last <= len(kept)]
        is_written = fate in (Fate.CRASH_AFTER, Fate.DOUBTED)
        assert len(ends) == 6 * (commits + is_written)
        assert len(kept) == max(ends, default=0)
        durable = [isinstance(utterance.answer, Dot) for utterance in said]
        assert durable == sorted(durable, reverse=True)
        assert sum(durable) <= len(kept)


@pytest.mark.parametrize("seed", range(12))
def test_a_burst_said_right_before_a_crash(seed: int) -> None:
    """However far it came by then: a block is everywhere in the end, or nowhere."""
    faults = Faults(loss=0.25, commit_us_min=500, commit_us_max=3_000)
    with World("abc", seed, faults, Settings(commit_blocks_max=8)) as world:
        world.run(3_000)
        bodies = burst(300)
        world.machines["a"].say("ops", *bodies)
        world.run(seed)
        world.crash("a")
        world.run(500)
        before = [len(world.shown(name, "ops")) for name in "abc"]
        world.restart("a")
        world.calm()
        world.settle()

        kept = world.history("b", "ops")
        assert kept == bodies[: len(kept)]
        ends = {0, *(minted.block.last for minted in world.checks.minted.values())}
        assert {*before, len(kept)} <= ends
        assert max(before) == before[0] == len(kept)


@pytest.mark.parametrize(("loss", "limit_ms"), [(0, 1_000), (0.25, 30_000)])
def test_a_newcomer_gets_a_history_of_bursts(loss: float, limit_ms: int) -> None:
    """It has all of them within seconds, in one causal order, though blocks are of any size."""
    with World("ab", seed=28, faults=Faults(loss=loss)) as world:
        world.run(3_000)
        said, count = 0, 1
        while said < 4_000:
            world.machines["ab"[said % 2]].say("ops", *burst(count, f"{said}+"))
            said, count = said + count, count * 7 % 101
            world.run(20)
        world.run(3_000)
        world.add("c")
        world.start("c")
        world.run(limit_ms)

        assert len(world.shown("c", "ops")) == said
        world.calm()
        world.settle()
        histories = [world.history(name, "ops") for name in "abc"]
        assert histories[0] == histories[1] == histories[2]
        assert len(histories[0]) == said


def test_a_node_that_stood_still_catches_up() -> None:
    """A process stopped for ten seconds is held dead, then refutes and has missed nothing."""
    with World("abc", seed=16) as world:
        world.settle()
        world.machines["b"].pause(10_000 * MS_US)
        world.run(9_000)

        assert world.view("a")["b"] is State.DEAD
        world.say("a", "ops", "where is b?")
        world.settle()
        assert world.shown("b", "ops") == ["where is b?"]


def test_a_small_hold_back_costs_time_and_nothing_else() -> None:
    """Where little fits, what comes early is dropped and asked for again."""
    settings = Settings(holdback_blocks_max=16)
    with World("abc", seed=17, faults=Faults(loss=0.25), settings=settings) as world:
        for number in range(300):
            world.say("abc"[number % 3], "ops", str(number))
            world.run(5)
        world.calm()
        world.settle()

        assert len(world.history("c", "ops")) == 300


def test_a_quiet_cluster_sends_probes_and_nothing_else() -> None:
    """At rest five nodes exchange a ping and an ack each an interval of 800 ms."""
    with World(5, seed=18) as world:
        world.say("a", "ops", "hi")
        world.settle()
        world.run(20_000)
        before = world.network.datagrams
        world.run(10_000)

        assert world.network.datagrams - before <= 5 * 2 * 12.5 + 10
