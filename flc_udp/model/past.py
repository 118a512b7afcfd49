"""The vector clock of every message, computed from causes in one forward pass over the history.

The clock of a message has, for each log, the last message of the room that it comes after, and it
counts the message itself. A clock is never sent or stored, because it follows from the clocks of
the causes and of the previous message in the log. To compute it, the pass keeps for each pair of
logs the numbers at which the one heard of the other. That takes as much memory as there are causes.
"""

from __future__ import annotations

from bisect import bisect_right

from flc_udp.model.clocks import VectorClock
from flc_udp.model.dots import LogId
from flc_udp.model.message import Message


class _Steps:
    """A number that only rises along a log: at `seqs[i]` it became `values[i]`."""

    __slots__ = ("seqs", "values")

    def __init__(self) -> None:
        self.seqs: list[int] = []
        self.values: list[int] = []

    def at(self, seq: int) -> int:
        place = bisect_right(self.seqs, seq)
        return self.values[place - 1] if place else 0

    def rise(self, seq: int, value: int) -> None:
        if not self.values or value > self.values[-1]:
            self.seqs.append(seq)
            self.values.append(value)


class Past:
    """Computes the clocks of messages, which are given in an order that respects causality."""

    def __init__(self) -> None:
        self._rooms: dict[str, dict[LogId, dict[LogId, _Steps]]] = {}

    def pass_over(self, message: Message) -> VectorClock:
        """Compute the clock of a message, after those of all its causes."""
        room = self._rooms.setdefault(message.room, {})
        seqs: dict[LogId, int] = {}
        for log, seq in (*message.causes, (message.log, message.seq)):
            for other, steps in room.get(log, {}).items():
                seqs[other] = max(seqs.get(other, 0), steps.at(seq))
            seqs[log] = max(seqs.get(log, 0), seq)
        learned = room.setdefault(message.log, {})
        for other, seq in seqs.items():
            learned.setdefault(other, _Steps()).rise(message.seq, seq)
        return VectorClock(seqs)
