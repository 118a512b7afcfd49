"""Ids, dots and spans: how messages are named, and how sets of their numbers are kept.

A *log* has all messages of one run of one node, numbered 1, 2, 3, … A *dot* is the name of one
message. `Spans` is a set of numbers, for what is held or wanted of a log.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, NewType

from flc_udp.config import ID_BYTES, SEQ_LIMIT
from flc_udp.model.errors import FlcError
from flc_udp.model.visible import brief

NodeId = NewType("NodeId", bytes)
"""The id of a node: 8 random bytes that it keeps across restarts."""

LogId = NewType("LogId", bytes)
"""The id of a log: 8 random bytes, drawn anew for each run of a node."""

BEGINNING = LogId(b"")
"""Lower than the id of any log: whoever reads logs by id begins after it."""

VISITOR = NodeId(bytes(ID_BYTES))
"""The sender id of programs like `flc ping`, which are answered and are never members."""

DOT = re.compile(rf"(?P<log>[0-9a-f]{{{2 * ID_BYTES}}}):(?P<seq>[1-9][0-9]{{0,15}})")
"""A dot has one spelling."""


class Dot(NamedTuple):
    """The name of one message: the id of its log, and its number there, from 1."""

    log: LogId
    seq: int

    def __str__(self) -> str:
        return f"{self.log.hex()}:{self.seq}"


def parse_dot(text: str) -> Dot:
    """Read a dot as `9f2c61d0a47be813:17`; raises FlcError for anything else."""
    found = DOT.fullmatch(text.lower())
    if found is None or int(found["seq"]) >= SEQ_LIMIT:
        raise FlcError(
            f"{brief(text)} is not a dot",
            "a dot is 16 hex digits, a colon and a number, as `flc log --json` prints it",
        )
    return Dot(LogId(bytes.fromhex(found["log"])), int(found["seq"]))


@dataclass(init=False, slots=True)
class Spans:
    """A set of integers, kept as sorted ranges that neither overlap nor touch.

    Its costs grow with the number of ranges, not with the number of integers.
    """

    _lows: list[int]
    _highs: list[int]

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        self._lows, self._highs = [], []
        for low, high in ranges:
            self.add(low, high)

    def add(self, low: int, high: int | None = None) -> None:
        """Add the integers from `low` to `high`, both included, or `low` alone."""
        high = low if high is None else high
        assert low <= high
        if self._highs and low == self._highs[-1] + 1:  # Most sets grow at their end.
            self._highs[-1] = high
            return
        first = bisect_left(self._highs, low - 1)
        last = bisect_right(self._lows, high + 1)
        if first < last:
            low = min(low, self._lows[first])
            high = max(high, self._highs[last - 1])
        self._lows[first:last] = [low]
        self._highs[first:last] = [high]

    def remove(self, low: int, high: int | None = None) -> None:
        """Remove the integers from `low` to `high`, both included, or `low` alone."""
        high = low if high is None else high
        assert low <= high
        first = bisect_left(self._highs, low)
        last = bisect_right(self._lows, high)
        # Only the first of these ranges can begin below `low`, and only the last can end above.
        below = [a for a in self._lows[first:last] if a < low]
        above = [b for b in self._highs[first:last] if b > high]
        self._lows[first:last] = [*below, *(high + 1 for _ in above)]
        self._highs[first:last] = [*(low - 1 for _ in below), *above]

    def keep_last(self, ranges: int) -> None:
        """Remove all but the last ranges, so many."""
        del self._lows[:-ranges], self._highs[:-ranges]

    def overlaps(self, low: int, high: int) -> bool:
        """Whether any integer from `low` to `high`, both included, is in the set."""
        at = bisect_left(self._highs, low)
        return at < len(self._lows) and self._lows[at] <= high

    def __contains__(self, number: int) -> bool:
        return self.overlaps(number, number)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self._lows, self._highs, strict=True)

    def __bool__(self) -> bool:
        return bool(self._lows)

    @property
    def first(self) -> int:
        """The lowest integer in the set, or 0."""
        return self._lows[0] if self._lows else 0

    def count(self) -> int:
        """Count the integers in the set."""
        return sum(self._highs) - sum(self._lows) + len(self._lows)

    def minus(self, other: "Spans") -> "Spans":
        """Make a new set of the integers that are here and not in `other`."""
        result = Spans()
        result._lows, result._highs = self._lows[:], self._highs[:]
        for low, high in other:
            result.remove(low, high)
        return result
