"""The vector clock of every message, computed from causes in one forward pass over the history.

The clock of a message has, for each log, the last message of the room that it comes after, and it
counts the message itself. A clock is never sent or stored, because it follows from the clocks of
the causes and of the previous message in the log. To compute it, the pass keeps for each pair of
logs the numbers at which the one heard of the other. That takes as much memory as there are causes.
"""

from bisect import bisect_right
from operator import itemgetter

from flc_udp.model.clocks import VectorClock
from flc_udp.model.dots import LogId
from flc_udp.model.message import Message

_Steps = list[tuple[int, int]]
"""A number that only rises along a log: at each (seq, value) it became that value."""


class Past:
    """Computes the clocks of messages, which are given in an order that respects causality."""

    def __init__(self) -> None:
        self._rooms: dict[str, dict[LogId, dict[LogId, _Steps]]] = {}

    def pass_over(self, message: Message) -> VectorClock:
        """Compute the clock of a message, after those of all its causes."""
        room = self._rooms.setdefault(message.room, {})
        clock = VectorClock()
        for log, seq in (*message.causes, message.dot):
            for other, steps in room.get(log, {}).items():
                if place := bisect_right(steps, seq, key=itemgetter(0)):
                    clock[other] = max(clock[other], steps[place - 1][1])
            clock[log] = max(clock[log], seq)
        learned = room.setdefault(message.log, {})
        for other, seq in clock.items():
            steps = learned.setdefault(other, [])
            if not steps or seq > steps[-1][1]:
                steps.append((message.seq, seq))
        return clock
