from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from flc_udp.config import SEQ_LIMIT
from flc_udp.model.dots import VISITOR, Dot, Spans, parse_dot
from flc_udp.model.errors import FlcError
from flc_udp.model.visible import brief

LOG = bytes.fromhex("9f2c61d0a47be813")
LEAST, MOST = 0, 40

ranges = st.tuples(st.integers(LEAST, MOST), st.integers(LEAST, MOST)).map(sorted).map(tuple)
many_ranges = st.lists(ranges, max_size=8)


def numbers_of(found: list[tuple[int, int]]) -> set[int]:
    """The set that ranges stand for."""
    return {number for low, high in found for number in range(low, high + 1)}


class SpansAgainstSets(RuleBasedStateMachine):
    """Spans and a Python set, told the same."""

    def __init__(self) -> None:
        super().__init__()
        self.spans = Spans()
        self.numbers: set[int] = set()

    @rule(span=ranges)
    def add(self, span: tuple[int, int]) -> None:
        """A range goes in."""
        self.spans.add(*span)
        self.numbers |= numbers_of([span])

    @rule(number=st.integers(LEAST, MOST))
    def add_one(self, number: int) -> None:
        """One number goes in."""
        self.spans.add(number)
        self.numbers.add(number)

    @rule(span=ranges)
    def remove(self, span: tuple[int, int]) -> None:
        """A range comes out."""
        self.spans.remove(*span)
        self.numbers -= numbers_of([span])

    @rule(number=st.integers(LEAST, MOST))
    def remove_one(self, number: int) -> None:
        """One number comes out."""
        self.spans.remove(number)
        self.numbers.discard(number)

    @rule(other=many_ranges)
    def minus(self, other: list[tuple[int, int]]) -> None:
        """The difference is a new set; both sides stay as they were."""
        subtrahend = Spans(other)
        difference = self.spans.minus(subtrahend)
        assert self.numbers - numbers_of(other) == numbers_of(list(difference))
        assert numbers_of(other) == numbers_of(list(subtrahend))
        difference.add(LEAST, MOST)

    @invariant()
    def same(self) -> None:
        """Membership, count and truth are the set's."""
        assert self.numbers == numbers_of(list(self.spans))
        assert self.numbers == {n for n in range(LEAST - 1, MOST + 2) if n in self.spans}
        assert len(self.numbers) == self.spans.count()
        assert bool(self.numbers) is bool(self.spans)

    @invariant()
    def canonical(self) -> None:
        """Ranges are sorted, apart by at least one number, and the only such ones."""
        assert all(low <= high for low, high in self.spans)
        assert all(before + 1 < after for (_, before), (after, _) in pairwise(self.spans))
        assert Spans((n, n) for n in self.numbers) == self.spans


class TestSpans:
    test_spans_are_a_set_of_numbers = SpansAgainstSets.TestCase

    @given(many_ranges, st.permutations(range(8)))
    def test_equal_sets_are_equal_spans(
        self, told: list[tuple[int, int]], order: list[int]
    ) -> None:
        """However a set was put together, there is one form of it."""
        other = [told[at] for at in order if at < len(told)]

        assert Spans(told) == Spans(other)
        assert repr(Spans(told)) == repr(Spans(other))

    def test_a_million_numbers_are_one_pair(self) -> None:
        """Costs grow with ranges, not with numbers."""
        spans = Spans([(1, 1_000_000)])
        spans.remove(500_000)

        assert list(spans) == [(1, 499_999), (500_001, 1_000_000)]
        assert spans.count() == 999_999

    def test_neighbours_join(self) -> None:
        """1-2 and 3-4 are 1-4, and what joins both sides makes one of three."""
        spans = Spans([(1, 2), (6, 7)])
        spans.add(3, 5)

        assert list(spans) == [(1, 7)]

    def test_the_last_ranges_may_be_kept(self) -> None:
        """However many numbers they have; fewer ranges stay as they are."""
        spans = Spans([(1, 1), (3, 9), (11, 12)])
        for most, kept in ((4, [(1, 1), (3, 9), (11, 12)]), (2, [(3, 9), (11, 12)])):
            spans.keep_last(most)
            assert list(spans) == kept

    def test_unequal_to_what_is_no_spans(self) -> None:
        """A set of pairs is not one, and a mutable thing has no hash."""
        assert Spans() != set()
        with pytest.raises(TypeError):
            hash(Spans())


class TestDots:
    @given(st.binary(min_size=8, max_size=8), st.integers(1, SEQ_LIMIT - 1))
    def test_the_text_of_a_dot_is_read_back(self, log: bytes, seq: int) -> None:
        """16 hex digits, a colon, a number."""
        dot = Dot(log, seq)

        assert dot == parse_dot(str(dot))

    def test_it_looks_like_this(self) -> None:
        """As `flc log --json` prints it."""
        assert str(Dot(LOG, 17)) == "9f2c61d0a47be813:17"

    @pytest.mark.parametrize(
        "text",
        [
            "",
            ":",
            "9f2c61d0a47be813",
            "9f2c61d0a47be813:",
            ":17",
            "9f2c61d0a47be813:0",
            "9f2c61d0a47be813:-1",
            f"9f2c61d0a47be813:{SEQ_LIMIT}",
            "9f2c61d0a47be813:" + "9" * 5_000,
            "9f2c61d0a47be8:17",
            "9f2c61d0a47be81300:17",
            "9f2c61d0a47be81g:17",
            "9f2c61d0a47be813:17:1",
            "9f2c61d0a47be813:x",
            "9f2c61d0a47be813:+17",
            "9f2c61d0a47be813: 17",
            "9f2c61d0a47be813:17\n",
            "9f2c61d0a47be813:1_7",
            "9f2c61d0a47be813:017",
            "9f2c61d0a47be813:\u0661\u0667",
            "9f 2c 61 d0 a4 7b e8 13:17",
            "\uff19f2c61d0a47be813:17",
        ],
    )
    def test_anything_else_is_refused_with_a_hint(self, text: str) -> None:
        """The error names what was typed."""
        with pytest.raises(FlcError) as refused:
            parse_dot(text)

        assert brief(text) in str(refused.value)
        assert refused.value.hint

    def test_hex_of_either_case_is_read(self) -> None:
        """People paste what they have."""
        assert Dot(LOG, 17) == parse_dot("9F2C61D0A47BE813:17")

    def test_dots_sort_by_log_and_number(self) -> None:
        """By the number's value, not its text."""
        dots = [Dot(LOG, 9), Dot(LOG, 10), Dot(LOG[::-1], 1)]

        assert [dots[2], dots[0], dots[1]] == sorted(dots)

    def test_a_visitor_has_an_id_of_zeros(self) -> None:
        """Eight of them."""
        assert bytes(8) == VISITOR
