"""The window of a link: how many bytes of rumors may be on their way over it.

    pusher ── rumor(at) … ──▶ peer        pusher ◀── taken(at) ── peer, every few datagrams

Rules. `at` counts what a node has pushed, over all links. A peer that has read so far says so; what
it has not is in flight, and beyond the window nothing more is pushed to it: it is told what there
is, as on a lazy link, and pulls when it can. So a peer that is slow or stands still costs nobody
more than a window. What is never answered is taken for lost after a while.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

TAKEN_BYTES = 16_384
"""A peer answers every so many bytes; a window has at least two of it."""

LOST_AFTER = 1_000_000
"""What was pushed so long ago is in flight no more, in µs."""

ANSWERS_WITHIN = 300_000
"""A peer that is only slow says within it how far it has read, in µs."""

BEHIND_PAUSE = 200_000
"""For so long after something was not pushed, a peer is told what there is, in µs."""


class _Pushed(NamedTuple):
    at: int
    size: int
    when: int


@dataclass(slots=True)
class Window:
    """What is in flight over one link, and what came over it unanswered; times in µs."""

    in_flight: int = 0
    untold: int = 0
    """Bytes that came and were not answered yet."""
    _pushed: deque[_Pushed] = field(default_factory=deque)
    _behind_until: int = 0
    _answered_at: int = -ANSWERS_WITHIN

    def push(self, at: int, size: int, limit: int, now: int) -> bool:
        """So many bytes are to be pushed; whether there is room for them."""
        while self._pushed and now - self._pushed[0].when > LOST_AFTER:
            self.in_flight -= self._pushed.popleft().size
        if self.in_flight and self.in_flight + size > limit:
            self._behind_until = now + BEHIND_PAUSE
            return False
        self._pushed.append(_Pushed(at, size, now))
        self.in_flight += size
        return True

    def taken(self, at: int, now: int) -> None:
        """The peer has read so far."""
        self._answered_at = now
        while self._pushed and self._pushed[0].at <= at:
            self.in_flight -= self._pushed.popleft().size

    def came(self, size: int) -> bool:
        """So many bytes came from the peer; whether it is to be told how far it was read."""
        self.untold += size
        if self.untold < TAKEN_BYTES:
            return False
        self.untold = 0
        return True

    def answers(self, now: int) -> bool:
        """Whether the peer said of late how far it has read: one that stands still does not."""
        return now - self._answered_at < ANSWERS_WITHIN

    def on_the_way(self, now: int) -> int:
        """Bytes that were pushed, not answered, and not so long ago that they are lost."""
        return sum(pushed.size for pushed in self._pushed if now - pushed.when <= LOST_AFTER)

    def is_behind(self, now: int) -> bool:
        """Whether something was not pushed of late, so that the peer has to be told of it."""
        return now < self._behind_until
