import tracemalloc
from collections import Counter
from collections.abc import Iterable
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flc_udp.core.causal import Arrival, Causal, Outcome
from flc_udp.model.block import NO_PARENT, Block, Origin, pack_body, write
from flc_udp.model.clocks import next_stamp
from flc_udp.model.dots import Dot, Spans
from flc_udp.model.errors import Drop
from flc_udp.model.history import History
from tests.model.stories import AUTHORS, ROOMS, Story, last_dot, log_of, variant

PLENTY = 1 << 20

steps = st.lists(
    st.tuples(
        st.sampled_from(AUTHORS),
        st.sampled_from(ROOMS),
        st.none() | st.integers(0, 40),
        st.integers(1, 4),
    ),
    max_size=25,
)
"""Who speaks, where, which earlier block they hear first, and how many messages they say."""


def story_of(steps: Iterable[tuple[str, str, int | None, int]]) -> Story:
    """What they said, each step in one block."""
    story = Story()
    for author, room, hears, count in steps:
        if hears is not None and story.said:
            story.hear(author, story.said[hears % len(story.said)])
        story.say(author, room, *map(str, range(count)))
    return story


def causal(
    blocks_max: int = PLENTY, bytes_max: int = 1 << 30, drops: Counter[Drop] | None = None
) -> Causal:
    """A newborn with room for so much that comes early; it counts in `drops`."""
    return Causal(History(), blocks_max, bytes_max, Counter() if drops is None else drops)


def tell(replica: Causal, blocks: Iterable[Block]) -> list[Block]:
    """Offer blocks one after another; what is decided, in order."""
    return [arrival.block for block in blocks for arrival in replica.offer(Arrival(block))[1]]


def shuffled(blocks: list[Block], random: Random, copies: int = 1) -> list[Block]:
    """So many copies of each in an order of no meaning."""
    mixed = blocks * copies
    random.shuffle(mixed)
    return mixed


def dots(blocks: Iterable[Block]) -> list[Dot]:
    """The names of their messages, in order."""
    return [message.dot for block in blocks for message in block.messages()]


def check_order(story: Story, decided: list[Block]) -> None:
    """Each message stands once, after all of its causal past."""
    seen: set[Dot] = set()
    for dot in dots(decided):
        assert dot not in seen
        assert story.past[dot] <= seen
        seen.add(dot)


def check_nothing_waits(replica: Causal) -> None:
    """All that is kept of a hold-back is empty, as it was at the beginning."""
    # That nothing is left inside is what is claimed, and no other way tells it.
    left = (replica.held, replica._held_of, replica._waiting_for)  # noqa: SLF001
    assert left == ({}, {}, {})
    assert (replica.held_messages, replica.held_bytes) == (0, 0)


def successor(before: Block | None, seq: int) -> Block:
    """The next block of a log of one author who hears nobody."""
    return write(
        log=log_of("ann"),
        first=seq,
        room="lobby",
        author="ann",
        wall=1,
        stamp=next_stamp(1, before.stamp if before else 0, 0),
        causes=(),
        parent=before.hash if before else NO_PARENT,
        bodies=[pack_body("")],
        origin=None if before else Origin(log_of("ann"), "ann"),
    )


@given(steps, st.randoms(use_true_random=False), st.integers(1, 3))
def test_any_order_of_arrival_is_decided_in_an_order_of_causes(
    steps: list, random: Random, copies: int
) -> None:
    """Everything is decided, once, after its causes; nothing waits at the end."""
    story = story_of(steps)
    replica = causal()
    decided = tell(replica, shuffled(story.said, random, copies))

    check_order(story, decided)
    assert set(dots(story.said)) == set(dots(decided))
    check_nothing_waits(replica)


@given(steps, st.randoms(use_true_random=False))
def test_what_is_decided_is_at_every_moment_all_that_can_be(steps: list, random: Random) -> None:
    """Nothing waits that lacks nothing: decided is the closed part of what has come."""
    story = story_of(steps)
    replica = causal()
    came: set[Dot] = set()
    decided: set[Dot] = set()
    for block in shuffled(story.said, random):
        came.update(dots([block]))
        decided.update(dots(tell(replica, [block])))

        assert {dot for dot in came if story.past[dot] <= came} == decided
        assert came - decided == set(dots(arrival.block for arrival in replica.held.values()))


@given(steps, st.randoms(use_true_random=False), st.integers(1, 3))
def test_heads_and_frontiers_do_not_depend_on_the_order(
    steps: list, random: Random, copies: int
) -> None:
    """Two that hold the same messages know the same, and it is what the story says."""
    story = story_of(steps)
    replica, other = causal(), causal()
    tell(replica, story.said)
    tell(other, shuffled(story.said, random, copies))
    everything = dots(story.said)

    assert replica.heads == other.heads
    assert replica.origins == other.origins
    assert replica.frontiers == other.frontiers
    for room in ROOMS:
        next_causes = {d for d in story.maximal(everything, room) if d.log != log_of("ann")}
        assert next_causes == {d for d in replica.causes_of_next(room) if d.log != log_of("ann")}


@given(steps, st.randoms(use_true_random=False), st.integers(1, 6))
def test_an_overflow_costs_a_later_pull_and_nothing_else(
    steps: list, random: Random, room: int
) -> None:
    """However small the hold-back, telling again what is missing decides everything, once."""
    story = story_of(steps)
    replica = causal(blocks_max=room)
    decided: list[Block] = []
    for _ in range(len(story.said) + 1):
        for block in shuffled(story.said, random):
            decided += tell(replica, [block])

            held = [arrival.block for arrival in replica.held.values()]
            assert len(held) <= room
            assert len(dots(held)) == replica.held_messages
            assert sum(len(block.encoded) for block in held) == replica.held_bytes

    check_order(story, decided)
    assert len(story.said) == len(decided)
    check_nothing_waits(replica)


def test_an_overflow_drops_the_latest_stamps() -> None:
    """What is nearest to being decided stays."""
    story = Story()
    said = [story.say("ann") for _ in range(20)]
    drops = Counter[Drop]()
    replica = causal(blocks_max=16, drops=drops)
    for block in said[:0:-1]:
        replica.offer(Arrival(block, asked=True))

    kept = sorted(dot.seq for dot in replica.held)
    assert list(range(2, 2 + len(kept))) == kept
    assert len(kept) + drops[Drop.HOLDBACK_OVERFLOW] == 19


def test_an_overflow_of_bytes_drops_too() -> None:
    """The hold-back is bounded in bytes as well as in blocks."""
    story = Story()
    said = [story.say("ann", body="x" * 1_000) for _ in range(20)]
    drops = Counter[Drop]()
    replica = causal(bytes_max=10_000, drops=drops)
    for block in said[1:]:
        replica.offer(Arrival(block))

        assert replica.held_bytes <= 10_000

    assert drops[Drop.HOLDBACK_OVERFLOW] > 0
    assert Dot(log_of("ann"), 2) in replica.held


def test_the_bound_is_for_blocks_and_not_for_messages() -> None:
    """Blocks of five messages count as one each, and half is reached with the third of four."""
    story = Story()
    said = [story.say("ann", "lobby", *"abcde") for _ in range(20)]
    drops = Counter[Drop]()
    replica = causal(blocks_max=4, drops=drops)
    halves = []
    for block in said[1:6]:
        replica.offer(Arrival(block, asked=True))
        halves.append((replica.held_messages, replica.is_half_full))

    # The fifth is one too many: the latest goes.
    assert halves == [(5, False), (10, False), (15, True), (20, True), (20, True)]
    assert drops == {Drop.HOLDBACK_OVERFLOW: 1}
    assert sorted(replica.held) == [block.dot for block in said[1:5]]
    assert replica.held_bytes == sum(len(block.encoded) for block in said[1:5])


@pytest.mark.parametrize("seq", [1, 2, 3])
@pytest.mark.parametrize("waits_first", [False, True])
def test_a_cause_in_a_block_is_there_when_that_block_is_decided(
    seq: int, waits_first: bool
) -> None:
    """Whichever of its messages is named: not while the block waits itself, and at once then."""
    story = Story()
    before, block = story.say("ann"), story.say("ann", "lobby", "a", "b", "c")
    story.hear("bob", block)
    reply = variant(story.say("bob"), causes=(Dot(block.log, block.first + seq - 1),))
    replica = causal()
    for early in (reply, block) if waits_first else (block, reply):
        assert replica.offer(Arrival(early)) == (Outcome.HELD, [])

    assert tell(replica, [before]) == [before, block, reply]
    check_nothing_waits(replica)
    assert reply.dot in replica.causes_of_next("lobby")


def test_a_cause_beyond_the_end_of_a_block_is_not_there_yet() -> None:
    """It is the next block's."""
    story = Story()
    block, following = story.say("ann", "lobby", "a", "b"), story.say("ann", "lobby", "c", "d")
    story.hear("bob", following)
    reply = variant(story.say("bob"), causes=(Dot(block.log, block.last + 1),))
    replica = causal()

    assert tell(replica, [reply, block]) == [block]
    assert tell(replica, [following]) == [following, reply]


def test_what_was_shed_leaves_no_memory() -> None:
    """A stream of messages whose causes never come is held in the hold-back's bound."""
    said: list[Block] = []
    for seq in range(1, 5_001):
        said.append(successor(said[-1] if said else None, seq))
    replica = causal(blocks_max=64)
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
    replica = causal(blocks_max=4)
    tell(replica, said[:0:-1])
    tell(replica, said[:0:-1])
    decided = tell(replica, said) + tell(replica, said)

    assert said == decided


class TestForks:
    def test_other_bytes_at_the_head_are_a_fork(self) -> None:
        """Same dot, other bytes: refused, and nothing moves."""
        story = Story()
        block = story.say("ann")
        replica = causal()
        tell(replica, [block])

        assert replica.offer(Arrival(variant(block))) == (Outcome.FORKED, [])
        assert block.hash == replica.head(block.log).hash

    def test_other_bytes_of_what_waits_are_a_fork(self) -> None:
        """The first copy that came waits on; the other is refused."""
        story = Story()
        story.say("ann")
        second = story.say("ann")
        replica = causal()
        replica.offer(Arrival(second))

        assert replica.offer(Arrival(variant(second))) == (Outcome.FORKED, [])
        assert second == replica.held[second.dot].block

    @pytest.mark.parametrize(("first", "count"), [(2, 2), (2, 3), (2, 9), (3, 1), (3, 2), (4, 5)])
    def test_another_block_with_some_of_the_heads_numbers_is_a_fork(
        self, first: int, count: int
    ) -> None:
        """Wherever in the head's block it begins, and wherever it ends."""
        story = Story()
        said = [story.say("ann"), story.say("ann", "lobby", "a", "b", "c")]
        other = forged(said[1], first, count)
        replica = causal()
        tell(replica, said)

        assert replica.contradicts(other.dot, other.encoded)
        assert replica.offer(Arrival(other)) == (Outcome.FORKED, [])
        assert (replica.head(other.log).hash, replica.held) == (said[1].hash, {})

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
        """A block whose parent is another's is refused, early or late."""
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
        story = story_of(steps)
        if not story.said:
            return
        victim = story.said[at % len(story.said)]
        broken = (
            variant(victim, stamp=victim.stamp)
            if victim.first == 1
            else variant(victim, parent=b"elsewher")
        )
        told = [broken if block is victim else block for block in story.said]
        replica = causal()
        decided = set(dots(tell(replica, shuffled(told, random))))
        after = {dot for dot in dots(story.said) if last_dot(victim) in story.past[dot]}
        if victim.first == 1:
            # The fork is believed, as nothing else is known of the log; its chain breaks after it.
            own = {dot for dot in after if dot.log == victim.log}
            after = {d for d in after if d in own or own & story.past[d]}
        else:
            after.update(dots([victim]))

        assert set(dots(story.said)) - after == decided

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


MADE_UP = b"made-up-"
"""A log that nobody writes: what has causes in it waits for ever."""


def forged(block: Block, first: int, count: int, **changes: object) -> Block:
    """A block of the same log with these numbers, as somebody else might write it."""
    parent = NO_PARENT if first == 1 else b"elsewher"
    origin = Origin(b"eve-----", "eve") if first == 1 else None
    bodies = ["forged"] * count
    how = {"parent": parent, "origin": origin, **changes}
    return variant(block, first=first, bodies=bodies, **how)


class TestOverlappingForgeries:
    """A forgery that waits, and shares numbers with a block of the true log."""

    @given(
        steps,
        st.lists(
            st.tuples(
                st.integers(0, 40), st.integers(-3, 3), st.integers(1, 9), st.booleans(),
                st.booleans(),
            ),
            max_size=12,
        ),
        st.randoms(use_true_random=False),
    )  # fmt: skip
    def test_they_never_stop_the_true_log(self, steps: list, lies: list, random: Random) -> None:
        """Whatever comes first: told again, all that is true is decided, and no forgery stays.

        Forgeries begin before, at, and inside of a true block, and end in it, with it, and far
        behind it. Those with a true parent wait for causes that nobody writes.
        """
        story = story_of(steps)
        if not story.said:
            return
        forgeries = []
        for at, begins, count, has_parent, has_causes in lies:
            block = story.said[at % len(story.said)]
            first = min(max(block.first + begins, 1), block.last)
            ends = max(first + count - 1, block.first)
            how = {}
            if has_parent and first == block.first:
                how |= {"parent": block.parent, "origin": block.origin}
            causes = block.causes
            if has_parent or has_causes or first == 1:
                causes = (*causes, Dot(MADE_UP, count))
            if len({*causes}) <= 60:
                forgeries.append(forged(block, first, ends - first + 1, causes=causes, **how))
        drops = Counter[Drop]()
        replica = causal(drops=drops)
        decided: list[Block] = []
        expected = 0
        false = {forgery.encoded for forgery in forgeries}
        for _ in range(len(story.said) + 1):
            for block in shuffled(story.said + forgeries, random):
                before = drops[Drop.BROKEN_CHAIN]
                outcome, more = replica.offer(Arrival(block))
                decided += [arrival.block for arrival in more]
                if block.encoded in false:
                    assert more == []
                    expected += outcome is Outcome.HELD
                    expected += drops[Drop.BROKEN_CHAIN] - before

        check_order(story, decided)
        assert set(dots(story.said)) == set(dots(decided))
        assert false.isdisjoint(block.encoded for block in decided)
        check_nothing_waits(replica)
        assert drops == ({Drop.BROKEN_CHAIN: expected} if expected else {})

    @pytest.mark.parametrize("has_causes", [False, True])
    @pytest.mark.parametrize(
        ("first", "count"), [(2, 1), (2, 3), (2, 9), (3, 1), (3, 2), (3, 9), (4, 1), (4, 9)]
    )
    def test_the_one_that_follows_the_head_is_decided(
        self, first: int, count: int, has_causes: bool
    ) -> None:
        """With its first number, inside, and across: what waits is dropped, counted, forgotten."""
        story = Story()
        said = [story.say("ann"), story.say("ann", "lobby", "a", "b", "c"), story.say("ann")]
        how = {"causes": (Dot(MADE_UP, 1),)} if has_causes else {}
        lie = forged(said[1], first, count, **how)
        drops = Counter[Drop]()
        replica = causal(drops=drops)
        assert replica.offer(Arrival(lie)) == (Outcome.HELD, [])
        assert replica.knows(lie.dot)

        assert tell(replica, said) == said
        assert drops == {Drop.BROKEN_CHAIN: 1}
        check_nothing_waits(replica)

    def test_one_before_the_head_that_waits_for_causes_is_dropped_too(self) -> None:
        """It has the true parent, and only its made-up cause keeps it from being decided."""
        story = Story()
        said = [story.say("ann"), story.say("ann", "lobby", "a", "b", "c")]
        lie = forged(said[1], 2, 9, parent=said[0].hash, causes=(Dot(MADE_UP, 1),))
        drops = Counter[Drop]()
        replica = causal(drops=drops)
        tell(replica, said[:1])
        assert replica.offer(Arrival(lie)) == (Outcome.HELD, [])

        assert replica.offer(Arrival(said[1])) == (Outcome.DECIDED, [Arrival(said[1])])
        assert drops == {Drop.BROKEN_CHAIN: 1}
        check_nothing_waits(replica)

    def test_what_they_waited_for_wakes_only_what_still_waits(self) -> None:
        """A made-up cause that is written after all changes nothing any more."""
        story = Story()
        cause = story.say("bob")
        said = [story.say("ann"), story.say("ann"), story.say("ann")]
        story.hear("ann", cause)
        said.append(story.say("ann"))
        lie = forged(said[1], 2, 2, parent=said[0].hash, causes=(cause.dot,))
        replica = causal()
        tell(replica, [said[0], lie, *said[1:]])
        assert list(replica.held) == [said[3].dot]

        assert tell(replica, [cause]) == [cause, said[3]]
        check_nothing_waits(replica)


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
    assert dots(said) == sorted(reborn.causes_of_next("lobby"))

    story.hear("cyd", *said)
    tell(reborn, [story.say("cyd")])

    assert (heads, frontiers) == (history.heads, history.frontiers)


def test_a_deep_tangle_costs_no_stack() -> None:
    """Ten thousand messages told backwards are decided, as a loop and not by recursion."""
    said: list[Block] = []
    for seq in range(1, 10_001):
        said.append(successor(said[-1] if said else None, seq))
    replica = causal()

    assert said == tell(replica, said[::-1])
