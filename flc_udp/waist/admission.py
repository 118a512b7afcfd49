"""Admission: how fast this node takes posts of its own while it is behind with those of others.

Rules. A node that keeps up takes all that its peers have room for. One that is behind takes less
and less, since what it takes it also sends to all others, and what it has no time to receive it has
to pull, which costs more. So under any load the cluster settles where all keep up: the rate falls
quickly while the node falls back, comes back quickly to a part of what it was then, and grows
slowly from there (after Chiu and Jain 1989, and CUBIC, RFC 9438). What is not taken yet waits, and
the socket of whoever says it is not read on: nothing is refused, and nobody is quite shut out.
"""

from __future__ import annotations

BEHIND_MESSAGES = 4_000
"""Known to be missing, held back or unread with which a node is behind: a good part of a second's
work, and more than all peers' windows together bring of small messages where there are few."""

LOOK_PAUSE = 50_000
"""Between two looks at how far behind it is, in µs."""

DECREASE = 0.8
"""Of the rate, at each look that finds the node behind and not catching up."""

CATCHING_UP = 0.98
"""Of how far behind it was a node is by the next look, if it catches up fast enough."""

INCREASE = 1.02
"""Of the rate, at each look that does not: by half a second."""

REGAIN = 1.2
"""The same, up to REGAINED of what was taken when it last began to fall."""

REGAINED = 0.7
"""Part of it that was surely not too much."""

RATE_LEAST = 200
"""Posts a second that are always taken."""

RATE_MOST = 1_000_000
"""More than any node can: no limit."""

BURST = 0.2
"""Seconds of posts that may be taken at once: a turn may take so long."""


class Admission:
    """The rate, and what it allows at a time. Times in µs."""

    def __init__(self, now: int) -> None:
        self.rate: float = RATE_MOST
        self._looked_at = self._filled_at = now
        self._taken = self._behind = 0
        self._was_enough: float = 0
        self._is_falling = False
        self._allowed: float = 0
        self._is_wanted = False
        """Whether more was asked for than was allowed, since the last look."""

    @property
    def is_open(self) -> bool:
        """Whether there is no limit."""
        return self.rate >= RATE_MOST

    def allows(self, now: int, waiting: int, behind: int) -> int:
        """How many of the posts that wait, and that peers have room for, may be taken now.

        `behind` is what this node has still to take in.
        """
        if now - self._looked_at >= LOOK_PAUSE:
            self._look(now, behind)
        seconds, self._filled_at = (now - self._filled_at) / 1e6, now
        if self.is_open:
            return waiting
        self._allowed = min(self._allowed + self.rate * seconds, max(self.rate * BURST, 1))
        self._is_wanted |= waiting > self._allowed
        return min(int(self._allowed), waiting)

    def took(self, posts: int) -> None:
        """So many were."""
        self._taken += posts
        self._allowed = max(self._allowed - posts, 0)

    def _look(self, now: int, behind: int) -> None:
        taken = self._taken * 1e6 / (now - self._looked_at)
        is_wanted, self._is_wanted = self._is_wanted, False
        self._looked_at, self._taken = now, 0
        was_behind, self._behind = self._behind, behind
        is_behind = behind > BEHIND_MESSAGES
        if is_behind and behind > was_behind * CATCHING_UP:
            # From what it took, not from what it might have taken.
            rate = min(self.rate, taken)
            if not self._is_falling:
                self._was_enough, self._is_falling = rate * REGAINED, True
            self.rate = max(rate * DECREASE, RATE_LEAST)
        elif not is_behind:
            self._is_falling = False
            # Where nobody asks for as much, the limit may go.
            increase = INCREASE if self.rate >= self._was_enough else REGAIN
            self.rate = min(self.rate * (increase if is_wanted else 2), RATE_MOST)
