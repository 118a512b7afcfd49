import pytest
from hypothesis import given
from hypothesis import strategies as st

from flc_udp.model.clocks import STAMP_WALL_SHIFT, Order, VectorClock, next_stamp
from flc_udp.model.dots import LogId

A, B, C = LogId(b"a" * 8), LogId(b"b" * 8), LogId(b"c" * 8)
BEFORE, AFTER, EQUAL, CONCURRENT = Order.BEFORE, Order.AFTER, Order.EQUAL, Order.CONCURRENT

clocks = st.dictionaries(st.sampled_from([A, B, C]), st.integers(0, 3)).map(VectorClock)
MIRRORED = {BEFORE: AFTER, AFTER: BEFORE, EQUAL: EQUAL, CONCURRENT: CONCURRENT}


def compare(one: VectorClock, other: VectorClock) -> Order:
    """How one clock stands to the other."""
    if one == other:
        return EQUAL
    if one <= other:
        return BEFORE
    return AFTER if one >= other else CONCURRENT


class TestCompare:
    @pytest.mark.parametrize(
        ("one", "other", "order"),
        [
            ({}, {}, EQUAL),
            ({A: 1}, {A: 1}, EQUAL),
            ({A: 0}, {}, EQUAL),
            ({A: 1, B: 0}, {A: 1}, EQUAL),
            ({}, {A: 1}, BEFORE),
            ({A: 1}, {A: 2}, BEFORE),
            ({A: 1}, {A: 1, B: 1}, BEFORE),
            ({A: 1, B: 1}, {A: 2, B: 2}, BEFORE),
            ({A: 1}, {}, AFTER),
            ({A: 2, B: 1}, {A: 1, B: 1}, AFTER),
            ({A: 1}, {B: 1}, CONCURRENT),
            ({A: 2, B: 1}, {A: 1, B: 2}, CONCURRENT),
            ({A: 1, B: 1}, {B: 1, C: 1}, CONCURRENT),
        ],
    )
    def test_it_is_as_the_table_says(
        self, one: dict[bytes, int], other: dict[bytes, int], order: Order
    ) -> None:
        """Absent logs stand at 0; one log ahead on each side is concurrency."""
        assert order is compare(VectorClock(one), VectorClock(other))
        assert MIRRORED[order] is compare(VectorClock(other), VectorClock(one))

    @given(clocks, clocks)
    def test_it_is_exactly_one_of_four(self, one: VectorClock, other: VectorClock) -> None:
        """By definition: component by component, over all logs."""
        pairs = [(one[log], other[log]) for log in (A, B, C)]
        below, above = all(a <= b for a, b in pairs), all(a >= b for a, b in pairs)
        expected = {
            (True, True): EQUAL,
            (True, False): BEFORE,
            (False, True): AFTER,
            (False, False): CONCURRENT,
        }[below, above]

        assert expected is compare(one, other)
        assert (expected is EQUAL) == (one == other)

    @given(clocks, clocks)
    def test_it_is_antisymmetric(self, one: VectorClock, other: VectorClock) -> None:
        """Seen from the other side before is after, and the others are the same."""
        assert MIRRORED[compare(one, other)] is compare(other, one)

    @given(clocks, clocks, clocks)
    def test_before_is_transitive(self, a: VectorClock, b: VectorClock, c: VectorClock) -> None:
        """What came before what came before came before."""
        if compare(a, b) is BEFORE and compare(b, c) is BEFORE:
            assert BEFORE is compare(a, c)

    @given(clocks, clocks)
    def test_covers_is_before_or_equal(self, one: VectorClock, other: VectorClock) -> None:
        """Who has seen everything another has."""
        assert (one >= other) == (compare(one, other) in (AFTER, EQUAL))


class TestAlgebra:
    @given(clocks, st.sampled_from([A, B, C]))
    def test_who_has_seen_one_more_message_comes_after(
        self, clock: VectorClock, log: LogId
    ) -> None:
        """One further in one log, and as before in the others."""
        after = VectorClock({**dict(clock.items()), log: clock[log] + 1})

        assert AFTER is compare(after, clock)
        assert BEFORE is compare(clock, after)

    @given(clocks, clocks)
    def test_merge_is_commutative(self, one: VectorClock, other: VectorClock) -> None:
        """Either way round."""
        assert one | other == other | one

    @given(clocks, clocks, clocks)
    def test_merge_is_associative(self, a: VectorClock, b: VectorClock, c: VectorClock) -> None:
        """In any grouping."""
        assert (a | b) | c == a | (b | c)

    @given(clocks)
    def test_merge_is_idempotent(self, clock: VectorClock) -> None:
        """With itself, and with nothing, it is what it was."""
        assert clock == clock | clock == clock | VectorClock()

    @given(clocks, clocks, clocks)
    def test_merge_is_the_least_upper_bound(
        self, one: VectorClock, other: VectorClock, bound: VectorClock
    ) -> None:
        """It covers both, and whatever covers both covers it."""
        merged = one | other

        assert merged >= one
        assert merged >= other
        assert (bound >= one and bound >= other) == (bound >= merged)


class TestStamps:
    @given(st.integers(0, 1 << 45), st.integers(0, 1 << 61), st.integers(0, 1 << 61))
    def test_a_stamp_is_the_least_that_rises(self, wall: int, previous: int, causes: int) -> None:
        """Above its log's previous, above its causes, not below the wall, and no higher."""
        stamp = next_stamp(wall, previous, causes)

        assert stamp > previous
        assert stamp > causes
        assert stamp >= wall << STAMP_WALL_SHIFT
        assert stamp in (previous + 1, causes + 1, wall << STAMP_WALL_SHIFT)

    def test_a_clock_that_goes_back_does_not_take_stamps_with_it(self) -> None:
        """Within a millisecond, and while the wall is behind, stamps count on."""
        first = next_stamp(1_000, 0, 0)
        second = next_stamp(900, first, 0)

        assert first == 1_000 << STAMP_WALL_SHIFT
        assert first + 1 == second
        assert next_stamp(1_001, second, 0) == 1_001 << STAMP_WALL_SHIFT
