"""The vector clock of every message, derived from causes in one forward pass over the history.

A message's clock says, for each log, the last of that room's messages it comes after, itself
included. It is never sent nor stored: the clock of a message is the greatest of its causes' clocks
and of its own log's previous one. What is kept is not a clock for each message but, for each pair
of logs, the seqs at which the one learned of the other: as much as there are causes, no more.
"""

from __future__ import annotations

from bisect import bisect_right

from flc_udp.model.clocks import VectorClock
from flc_udp.model.dots import LogId
from flc_udp.model.message import Message


class _Steps:
    """A function of seq that only rises: at `seqs[i]` it became `values[i]`."""

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
    """Clocks of messages that are passed over in an order that respects causality."""

    def __init__(self) -> None:
        self._rooms: dict[str, dict[LogId, dict[LogId, _Steps]]] = {}

    def pass_over(self, message: Message) -> VectorClock:
        """The clock of `message`, whose causes were passed over before."""
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
