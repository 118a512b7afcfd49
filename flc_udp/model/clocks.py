"""Clocks: the vector clock that says what came before what, and the stamp that orders history.

Causality asks only vector clocks and causes. The stamp (hybrid logical clock, Kulkarni et al.
2014) is one integer, `(wall_ms << 16) + lift`: it rises along every log and every cause, so to
sort by it is to print a linear extension of causality.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum

from flc_udp.model.dots import LogId

STAMP_WALL_SHIFT = 16
"""Low bits of a stamp that count steps within one millisecond of wall clock."""


class Order(Enum):
    """How two vector clocks stand to each other."""

    EQUAL = "equal"
    BEFORE = "before"
    AFTER = "after"
    CONCURRENT = "concurrent"


class VectorClock:
    """Immutable {log: last seq seen}; a log that is absent stands at 0 (Fidge, Mattern 1988)."""

    __slots__ = ("_seqs",)

    def __init__(self, seqs: Mapping[LogId, int] | None = None) -> None:
        self._seqs = {log: seq for log, seq in (seqs or {}).items() if seq > 0}

    def __getitem__(self, log: LogId) -> int:
        return self._seqs.get(log, 0)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, VectorClock):
            return NotImplemented
        return self._seqs == other._seqs

    def __hash__(self) -> int:
        return hash(frozenset(self._seqs.items()))

    def __len__(self) -> int:
        return len(self._seqs)

    def __repr__(self) -> str:
        return "VectorClock(" + ", ".join(f"{log.hex()}:{seq}" for log, seq in self.items()) + ")"

    def items(self) -> Iterator[tuple[LogId, int]]:
        """(log, seq) pairs by log id."""
        return iter(sorted(self._seqs.items()))

    def increment(self, log: LogId) -> VectorClock:
        """A new clock with `log` one further."""
        return VectorClock({**self._seqs, log: self[log] + 1})

    def merge(self, other: VectorClock) -> VectorClock:
        """The least clock that has seen all that both have."""
        merged = dict(self._seqs)
        for log, seq in other._seqs.items():
            if merged.get(log, 0) < seq:
                merged[log] = seq
        return VectorClock(merged)

    def covers(self, other: VectorClock) -> bool:
        """Whether everything `other` has seen is seen here too."""
        return all(self[log] >= seq for log, seq in other._seqs.items())

    def compare(self, other: VectorClock) -> Order:
        """Exactly one of the four orders."""
        before, after = other.covers(self), self.covers(other)
        if before and after:
            return Order.EQUAL
        if before:
            return Order.BEFORE
        return Order.AFTER if after else Order.CONCURRENT


def next_stamp(wall_ms: int, previous: int, causes_greatest: int) -> int:
    """Stamp of a new message: above its log's previous one and above all its causes."""
    return max(wall_ms << STAMP_WALL_SHIFT, previous + 1, causes_greatest + 1)
