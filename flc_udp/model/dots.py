"""Ids, dots and spans: how messages are named and how sets of them are kept.

A *log* is the messages of one run of one node, numbered 1, 2, 3, … A *dot* names one message.
`Spans` is the exact small set of sequence numbers that gaps and wants are made of.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from flc_udp.config import ID_BYTES, SEQ_LIMIT
from flc_udp.model.errors import FlcError

NodeId = bytes
LogId = bytes

VISITOR: NodeId = bytes(ID_BYTES)
"""Sender id of `flc ping` and its like: answered, never a member."""


class Dot(NamedTuple):
    """The name of one message: (log id of 8 bytes, sequence number from 1)."""

    log: LogId
    seq: int

    def __str__(self) -> str:
        return f"{self.log.hex()}:{self.seq}"


def parse_dot(text: str) -> Dot:
    """Read `9f2c61d0a47be813:17`; raises FlcError for anything else."""
    log, _, seq = text.partition(":")
    try:
        dot = Dot(bytes.fromhex(log), int(seq))
    except ValueError:
        dot = Dot(b"", 0)
    # One spelling: what `int` and `fromhex` are lenient about (signs, spaces, `_`) is no dot.
    is_spelled = str(dot) == text.lower()
    if not is_spelled or len(dot.log) != ID_BYTES or not 0 < dot.seq < SEQ_LIMIT:
        raise FlcError(
            f"{text!r} is not a dot",
            "a dot is 16 hex digits, a colon and a number, as `flc log --json` prints it",
        )
    return dot


class Spans:
    """A set of integers as sorted, disjoint, non-touching closed ranges.

    Costs grow with the number of ranges, not of integers: 1..1_000_000 is one pair.
    """

    __slots__ = ("_highs", "_lows")

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        self._lows: list[int] = []
        self._highs: list[int] = []
        for low, high in ranges:
            self.add(low, high)

    def add(self, low: int, high: int | None = None) -> None:
        """Put low..high (both included) into the set; one integer when high is left out."""
        high = low if high is None else high
        assert low <= high
        first = bisect_left(self._highs, low - 1)
        last = bisect_right(self._lows, high + 1)
        if first < last:
            low = min(low, self._lows[first])
            high = max(high, self._highs[last - 1])
        self._lows[first:last] = [low]
        self._highs[first:last] = [high]

    def remove(self, low: int, high: int | None = None) -> None:
        """Take low..high (both included) out of the set; what is not there is no error."""
        high = low if high is None else high
        assert low <= high
        first = bisect_left(self._highs, low)
        last = bisect_right(self._lows, high)
        rest = [
            (a, b)
            for lo, hi in zip(self._lows[first:last], self._highs[first:last], strict=True)
            for a, b in ((lo, min(hi, low - 1)), (max(lo, high + 1), hi))
            if a <= b
        ]
        self._lows[first:last] = [a for a, _ in rest]
        self._highs[first:last] = [b for _, b in rest]

    def __contains__(self, number: int) -> bool:
        at = bisect_left(self._highs, number)
        return at < len(self._lows) and self._lows[at] <= number

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self._lows, self._highs, strict=True)

    def __bool__(self) -> bool:
        return bool(self._lows)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Spans):
            return NotImplemented
        return self._lows == other._lows and self._highs == other._highs

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __repr__(self) -> str:
        return f"Spans({list(self)})"

    def count(self) -> int:
        """How many integers the set holds."""
        return sum(self._highs) - sum(self._lows) + len(self._lows)

    def minus(self, other: Spans) -> Spans:
        """A new set: what is here and not in `other`."""
        result = Spans()
        result._lows, result._highs = self._lows[:], self._highs[:]
        for low, high in other:
            result.remove(low, high)
        return result
