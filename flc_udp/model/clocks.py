"""Clocks: vector clocks, which say what came before what, and stamps, which order history.

Only vector clocks and causes decide what came before what. A stamp (a hybrid logical clock,
Kulkarni et al. 2014) is one integer, `(wall_ms << 16) + lift`. It rises along every log and every
cause, so messages in the order of their stamps respect causality.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum

from flc_udp.model.dots import LogId
from flc_udp.model.units import Millis

STAMP_WALL_SHIFT = 16
"""The low bits of a stamp. They count the steps within one millisecond of the wall clock."""


class Order(Enum):
    """How one vector clock stands to another."""

    EQUAL = "equal"
    BEFORE = "before"
    AFTER = "after"
    CONCURRENT = "concurrent"


class VectorClock:
    """The last number of each log that was seen (Fidge, Mattern 1988); it never changes.

    The number of a log that is not in it is 0.
    """

    __slots__ = ("_seqs",)

    def __init__(self, seqs: Mapping[LogId, int] | None = None) -> None:
        self._seqs = {log: seq for log, seq in (seqs or {}).items() if seq > 0}

    def __getitem__(self, log: LogId) -> int:
        return self._seqs.get(log, 0)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, VectorClock):
            return NotImplemented
        return self._seqs == other._seqs

    __hash__ = None  # type: ignore[assignment]  # nobody looks one up

    def __repr__(self) -> str:
        return "VectorClock(" + ", ".join(f"{log.hex()}:{seq}" for log, seq in self.items()) + ")"

    def items(self) -> Iterator[tuple[LogId, int]]:
        """List the (log, seq) pairs in the order of the log ids."""
        return iter(sorted(self._seqs.items()))

    def merge(self, other: VectorClock) -> VectorClock:
        """Make the least clock that has seen everything that both have seen."""
        return VectorClock({log: max(self[log], other[log]) for log in self._seqs | other._seqs})

    def covers(self, other: VectorClock) -> bool:
        """Whether this clock has seen everything that `other` has seen."""
        return all(self[log] >= seq for log, seq in other._seqs.items())

    def compare(self, other: VectorClock) -> Order:
        """Say how this clock stands to `other`."""
        before, after = other.covers(self), self.covers(other)
        if before and after:
            return Order.EQUAL
        if before:
            return Order.BEFORE
        return Order.AFTER if after else Order.CONCURRENT


def wall_of(stamp: int) -> Millis:
    """The time that a stamp tells, by its author's clock."""
    return Millis(stamp >> STAMP_WALL_SHIFT)


def next_stamp(wall_ms: Millis, previous: int, causes_greatest: int) -> int:
    """Make the stamp of a new message, above those of its log and of all its causes."""
    return max(wall_ms << STAMP_WALL_SHIFT, previous + 1, causes_greatest + 1)
