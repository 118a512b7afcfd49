"""The window of a link: how many bytes of rumors may be on their way over it.

    pusher ── rumor(at) … ──▶ peer        pusher ◀── taken(at) ── peer, every few datagrams

Rules. `at` counts the bytes that a node has pushed, over all links. A peer says how far it has
read; what it has not read is in flight. Beyond the window nothing more is pushed to the peer: it is
told what there is, as over a lazy link, and pulls when it can. So a peer that is slow or stands
still costs nobody more than a window. What is never acknowledged counts as lost after a while.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from flc_udp.model.units import MS_US, SECOND_US, Micros

TAKEN_BYTES = 16_384
"""A peer says how far it has read after this many bytes. A window holds at least twice as many."""

LOST_AFTER_US = SECOND_US
"""What was pushed longer ago is in flight no more."""

ANSWERS_WITHIN_US = 300 * MS_US
"""A peer that is only slow says within this time how far it has read."""

BEHIND_PAUSE_US = 200 * MS_US
"""For this long after something was not pushed to it, a peer is told what there is."""


class _Pushed(NamedTuple):
    at: int
    size: int
    when: int


@dataclass(slots=True)
class PushWindow:
    """What is in flight over one link, and what came over it and is not acknowledged."""

    in_flight: int = 0
    """Bytes."""
    unacknowledged: int = 0
    """Bytes that came and that the peer was not told of yet."""
    _pushed: deque[_Pushed] = field(default_factory=deque)
    _behind_until: int = 0
    _answered_at: int = -ANSWERS_WITHIN_US

    def push(self, at: int, size: int, limit: int, now: Micros) -> bool:
        """This many bytes are to be pushed. True: there is room for them."""
        while self._pushed and now - self._pushed[0].when > LOST_AFTER_US:
            self.in_flight -= self._pushed.popleft().size
        if self.in_flight and self.in_flight + size > limit:
            self._behind_until = now + BEHIND_PAUSE_US
            return False
        self._pushed.append(_Pushed(at, size, now))
        self.in_flight += size
        return True

    def taken(self, at: int, now: Micros) -> None:
        """The peer has read up to this byte."""
        self._answered_at = now
        while self._pushed and self._pushed[0].at <= at:
            self.in_flight -= self._pushed.popleft().size

    def came(self, size: int) -> bool:
        """This many bytes came from the peer. True: it is to be told how far they were read."""
        self.unacknowledged += size
        if self.unacknowledged < TAKEN_BYTES:
            return False
        self.unacknowledged = 0
        return True

    def answers(self, now: Micros) -> bool:
        """Whether the peer lately said how far it has read. One that stands still does not."""
        return now - self._answered_at < ANSWERS_WITHIN_US

    def on_the_way(self, now: Micros) -> int:
        """Bytes that were pushed, are not acknowledged, and are not old enough to be lost."""
        return sum(pushed.size for pushed in self._pushed if now - pushed.when <= LOST_AFTER_US)

    def is_behind(self, now: Micros) -> bool:
        """Whether something was not pushed lately, so that the peer has to be told of it."""
        return now < self._behind_until
