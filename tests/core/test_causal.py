import tracemalloc
from collections import Counter
from collections.abc import Iterable
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flc_udp.core.causal import Arrival, Causal, Outcome
from flc_udp.model.clocks import next_stamp
from flc_udp.model.dots import Dot, Spans
from flc_udp.model.errors import Drop
from flc_udp.model.history import History
from flc_udp.model.message import NO_PARENT, Message, Origin, write
from tests.model.stories import ROOMS, Story, log_of, steps, variant

PLENTY = 1 << 20


def causal(
    messages_max: int = PLENTY, bytes_max: int = 1 << 30, drops: Counter[Drop] | None = None
) -> Causal:
    """A newborn with room for so much that comes early; it counts in `drops`."""
    return Causal(History(), messages_max, bytes_max, Counter() if drops is None else drops)


def tell(replica: Causal, messages: Iterable[Message]) -> list[Message]:
    """Offer messages one after another; what is decided, in order."""
    return [
        arrival.message for message in messages for arrival in replica.offer(Arrival(message))[1]
    ]


def shuffled(messages: list[Message], random: Random, copies: int = 1) -> list[Message]:
    """So many copies of each in an order of no meaning."""
    mixed = messages * copies
    random.shuffle(mixed)
    return mixed


def check_order(story: Story, decided: list[Message]) -> None:
    """Each message stands once, after all of its causal past."""
    seen: set[Dot] = set()
    for message in decided:
        assert message.dot not in seen
        assert story.past[message.dot] <= seen
        seen.add(message.dot)


def successor(before: Message | None, seq: int) -> Message:
    """The next message of a log of one author who hears nobody."""
    return write(
        log=log_of("ann"),
        seq=seq,
        room="lobby",
        author="ann",
        wall=1,
        stamp=next_stamp(1, before.stamp if before else 0, 0),
        causes=(),
        parent=before.hash if before else NO_PARENT,
        body="",
        origin=None if before else Origin(log_of("ann"), "ann"),
    )


@given(steps, st.randoms(use_true_random=False), st.integers(1, 3))
def test_what_it_extends_by_it_would_have_decided(steps: list, random: Random, copies: int) -> None:
    """In any order, with copies and forks among them: one extends, its twin offers."""
    story = Story(steps)
    mixed = shuffled(story.said + [variant(message) for message in story.said[::3]], random, copies)
    plain, twin = causal(), causal()
    for message in mixed:
        verdict, decided = twin.offer(Arrival(message))
        if plain.extend(message):
            assert (verdict, decided) == (Outcome.DECIDED, [Arrival(message)])
        else:
            assert plain.offer(Arrival(message)) == (verdict, decided)
        assert plain.heads == twin.heads
        assert plain.frontiers == twin.frontiers
        assert plain.origins == twin.origins


def test_it_extends_by_a_history_in_order() -> None:
    """Else it would be of no use."""
    story = Story([("ann", ROOMS[0], None), ("bob", ROOMS[0], 0), ("ann", ROOMS[0], 1)])

    assert all(map(causal().extend, story.said))


@given(steps, st.randoms(use_true_random=False), st.integers(1, 3))
def test_any_order_of_arrival_is_decided_in_an_order_of_causes(
    steps: list, random: Random, copies: int
) -> None:
    """Everything is decided, once, after its causes; nothing waits at the end."""
    story = Story(steps)
    replica = causal()
    decided = tell(replica, shuffled(story.said, random, copies))

    check_order(story, decided)
    assert {m.dot for m in story.said} == {m.dot for m in decided}
    assert (replica.held, replica.held_bytes) == ({}, 0)


@given(steps, st.randoms(use_true_random=False))
def test_what_is_decided_is_at_every_moment_all_that_can_be(steps: list, random: Random) -> None:
    """Nothing waits that lacks nothing: decided is the closed part of what has come."""
    story = Story(steps)
    replica = causal()
    came: set[Dot] = set()
    decided: set[Dot] = set()
    for message in shuffled(story.said, random):
        came.add(message.dot)
        decided |= {m.dot for m in tell(replica, [message])}

        assert {dot for dot in came if story.past[dot] <= came} == decided
        assert came - decided == set(replica.held)


@given(steps, st.randoms(use_true_random=False))
def test_heads_and_frontiers_do_not_depend_on_the_order(steps: list, random: Random) -> None:
    """Two that hold the same messages know the same, and it is what the story says."""
    story = Story(steps)
    replica, other = causal(), causal()
    tell(replica, story.said)
    tell(other, shuffled(story.said, random))
    everything = [m.dot for m in story.said]

    assert replica.heads == other.heads
    assert replica.origins == other.origins
    assert replica.frontiers == other.frontiers
    for room in ROOMS:
        next_causes = {d for d in story.maximal(everything, room) if d.log != log_of("ann")}
        assert next_causes == set(replica.causes_of_next(room, log_of("ann")))


@given(steps, st.randoms(use_true_random=False), st.integers(1, 6))
def test_an_overflow_costs_a_later_pull_and_nothing_else(
    steps: list, random: Random, room: int
) -> None:
    """However small the hold-back, telling again what is missing decides everything, once."""
    story = Story(steps)
    replica = causal(messages_max=room)
    decided: list[Message] = []
    for _ in range(len(story.said) + 1):
        for message in shuffled(story.said, random):
            decided += tell(replica, [message])

            assert len(replica.held) <= room
            assert sum(len(a.message.encoded) for a in replica.held.values()) == replica.held_bytes

    check_order(story, decided)
    assert len(story.said) == len(decided)
    assert (replica.held, replica.held_bytes) == ({}, 0)


def test_an_overflow_drops_the_latest_stamps() -> None:
    """What is nearest to being decided stays."""
    story = Story()
    said = [story.say("ann") for _ in range(20)]
    drops = Counter[Drop]()
    replica = causal(messages_max=16, drops=drops)
    for message in said[:0:-1]:
        replica.offer(Arrival(message))

    kept = sorted(dot.seq for dot in replica.held)
    assert list(range(2, 2 + len(kept))) == kept
    assert len(kept) + drops[Drop.HOLDBACK_OVERFLOW] == 19


def test_an_overflow_of_bytes_drops_too() -> None:
    """The hold-back is bounded in bytes as well as in messages."""
    story = Story()
    said = [story.say("ann", body="x" * 1_000) for _ in range(20)]
    drops = Counter[Drop]()
    replica = causal(bytes_max=10_000, drops=drops)
    for message in said[1:]:
        replica.offer(Arrival(message))

        assert replica.held_bytes <= 10_000

    assert drops[Drop.HOLDBACK_OVERFLOW] > 0
    assert Dot(log_of("ann"), 2) in replica.held


def test_what_was_shed_leaves_no_memory() -> None:
    """A stream of messages whose causes never come is held in the hold-back's bound."""
    said: list[Message] = []
    for seq in range(1, 5_001):
        said.append(successor(said[-1] if said else None, seq))
    replica = causal(messages_max=64)
    tracemalloc.start()
    try:
        tell(replica, said[:0:-1])
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert len(replica.held) <= 64
    assert held < 200_000


def test_what_was_shed_can_wait_again() -> None:
    """A message dropped by an overflow is decided when it comes back, and decided once."""
    story = Story()
    said = [story.say("ann") for _ in range(8)]
    replica = causal(messages_max=4)
    tell(replica, said[:0:-1])
    tell(replica, said[:0:-1])
    decided = tell(replica, said) + tell(replica, said)

    assert said == decided


class TestForks:
    def test_other_bytes_at_the_head_are_a_fork(self) -> None:
        """Same dot, other bytes: refused, and nothing moves."""
        story = Story()
        message = story.say("ann")
        replica = causal()
        tell(replica, [message])

        assert replica.offer(Arrival(variant(message))) == (Outcome.FORKED, [])
        assert message.hash == replica.head(message.log).hash

    def test_other_bytes_of_what_waits_are_a_fork(self) -> None:
        """The first copy that came waits on; the other is refused."""
        story = Story()
        story.say("ann")
        second = story.say("ann")
        replica = causal()
        replica.offer(Arrival(second))

        assert replica.offer(Arrival(variant(second))) == (Outcome.FORKED, [])
        assert second == replica.held[second.dot].message

    def test_the_same_bytes_are_no_fork(self) -> None:
        """A copy is a duplicate, of what is decided and of what waits."""
        story = Story()
        first, second = story.say("ann"), story.say("ann")
        replica = causal()

        assert Outcome.HELD is replica.offer(Arrival(second))[0]
        assert Outcome.DUPLICATE is replica.offer(Arrival(second))[0]
        assert Outcome.DECIDED is replica.offer(Arrival(first))[0]
        assert Outcome.DUPLICATE is replica.offer(Arrival(second))[0]
        assert Outcome.DUPLICATE is replica.offer(Arrival(first))[0]

    def test_a_broken_chain_is_refused_in_any_order(self) -> None:
        """A message whose parent is another's is refused, early or late."""
        story = Story()
        first, second = story.say("ann"), story.say("ann")
        broken = variant(second, parent=b"elsewher")
        drops = Counter[Drop]()
        in_order, reversed_order = causal(drops=drops), causal(drops=drops)

        assert [first] == tell(in_order, [first, broken])
        assert [first] == tell(reversed_order, [broken, first])
        assert in_order.heads == reversed_order.heads
        assert (in_order.held, reversed_order.held) == ({}, {})
        assert drops == {Drop.BROKEN_CHAIN: 2}

    @given(steps, st.randoms(use_true_random=False), st.integers(0, 40))
    def test_a_broken_message_stops_what_follows_it_and_no_other(
        self, steps: list, random: Random, at: int
    ) -> None:
        """Whatever the order, what is decided is all that does not come after the broken one."""
        story = Story(steps)
        if not story.said:
            return
        victim = story.said[at % len(story.said)]
        broken = (
            variant(victim, stamp=victim.stamp)
            if victim.seq == 1
            else variant(victim, parent=b"elsewher")
        )
        told = [broken if m is victim else m for m in story.said]
        replica = causal()
        decided = {m.dot for m in tell(replica, shuffled(told, random))}
        after = {m.dot for m in story.said if victim.dot in story.past[m.dot]}
        if victim.seq == 1:
            # The fork is believed, as nothing else is known of the log; its chain breaks after it.
            own = {dot for dot in after if dot.log == victim.log}
            after = {d for d in after if d in own or own & story.past[d]}
        else:
            after.add(victim.dot)

        assert {m.dot for m in story.said} - after == decided

    def test_a_stamp_that_does_not_rise_is_refused(self) -> None:
        """Stamps rise along every log."""
        story = Story()
        first, second = story.say("ann"), story.say("ann")
        replica = causal()

        assert [first] == tell(replica, [first, variant(second, stamp=first.stamp)])
        assert [second] == tell(replica, [second])

    def test_the_right_bytes_are_taken_after_the_wrong_ones(self) -> None:
        """A refusal takes no place: the log goes on with what fits."""
        story = Story()
        said = [story.say("ann") for _ in range(3)]
        replica = causal()
        tell(replica, [said[2], variant(said[1], parent=b"elsewher"), said[0]])

        assert [said[1], said[2]] == tell(replica, [said[1]])


class TestGaps:
    def test_gaps_are_what_is_neither_decided_nor_waiting(self) -> None:
        """Of 1..6 with 1 decided and 3, 4 waiting there lack 2, 5 and 6."""
        story = Story()
        said = [story.say("ann") for _ in range(4)]
        replica = causal()
        tell(replica, [said[0], said[2], said[3]])
        log = log_of("ann")

        assert Spans([(2, 2), (5, 6)]) == replica.gaps(log, 6)
        assert Spans() == replica.gaps(log, 1)
        assert Spans([(1, 2)]) == replica.gaps(log_of("bob"), 2)

    def test_missing_names_the_predecessor_and_the_causes(self) -> None:
        """Where to start asking for what a waiting message stands on."""
        story = Story()
        first = story.say("bob")
        story.say("ann")
        story.say("ann")
        story.hear("ann", first)
        third = story.say("ann")
        replica = causal()
        tell(replica, [third])

        assert [Dot(log_of("ann"), 2), first.dot] == replica.missing(third)

    @pytest.mark.parametrize("known", [True, False])
    def test_what_is_decided_or_waiting_is_known(self, known: bool) -> None:
        """Another copy of either says nothing new."""
        story = Story()
        said = [story.say("ann") for _ in range(5)]
        replica = causal()
        tell(replica, [said[0], said[2]])
        dots = [said[0].dot, said[2].dot] if known else [said[1].dot, said[3].dot]

        assert [known, known] == [replica.knows(dot) for dot in dots]


def test_a_replica_is_born_where_a_history_ends() -> None:
    """Decided heads, origins and frontiers come from the history and do not change it."""
    story = Story()
    said = [story.say("ann"), story.say("bob")]
    before = causal()
    tell(before, said)
    history = History(before.heads, before.origins, before.frontiers)
    reborn = Causal(history, PLENTY, PLENTY, Counter())
    heads, frontiers = dict(history.heads), {r: dict(f) for r, f in history.frontiers.items()}

    assert tell(reborn, said) == []
    assert [m.dot for m in said] == sorted(reborn.causes_of_next("lobby", log_of("cyd")))

    story.hear("cyd", *said)
    tell(reborn, [story.say("cyd")])

    assert (heads, frontiers) == (history.heads, history.frontiers)


def test_a_deep_tangle_costs_no_stack() -> None:
    """Ten thousand messages told backwards are decided, as a loop and not by recursion."""
    said: list[Message] = []
    for seq in range(1, 10_001):
        said.append(successor(said[-1] if said else None, seq))
    replica = causal()

    assert said == tell(replica, said[::-1])
