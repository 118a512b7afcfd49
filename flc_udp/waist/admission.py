"""Admission: how fast a node takes posts of its own while it is behind with those of others.

Rules. A node that keeps up takes every post that its peers have room for. A node that is behind
takes fewer and fewer, because it also sends to all others what it takes, and because everything it
has no time to receive has to be pulled later, which costs more. So under any load a cluster settles
where all nodes keep up. The rate falls quickly while the node falls back, returns quickly to a part
of what it was before, and grows slowly from there (after Chiu and Jain 1989, and CUBIC, RFC 9438).
A post that is not taken yet waits, and the socket of the client that says it is not read meanwhile.
No post is refused for this reason, and no client is shut out completely.
"""

from math import inf

from flc_udp.model.units import MS_US, Micros

BEHIND_MESSAGES = 16_000
"""A node is behind when more messages than this are missing, held back or unread. That is a good
part of a second's work. Where there are few peers, their windows together bring fewer small
messages."""

LOOK_PAUSE_US = 50 * MS_US
"""The time between two looks at how far behind the node is."""

DECREASE = 0.8
"""A look that finds the node behind and not catching up multiplies the rate by this."""

CATCHING_UP = 0.98
"""A node catches up fast enough if at each look it is behind by at most this part of before."""

INCREASE = 1.02
"""Every other look multiplies the rate by this, which is by one half in a second."""

REGAIN = 1.2
"""The rate grows by this factor instead, up to REGAINED of what was taken when it began to fall."""

REGAINED = 0.7
"""This part of the former rate was surely not too much."""

RATE_LEAST = 200
"""This many messages a second are always taken."""

RATE_MOST = 1_000_000
"""No node can take more messages a second, so this rate is no limit."""

BURST_S = 0.2
"""What this time allows may be taken at once, because a turn may take this long."""


class Admission:
    """The rate, in messages a second, and how many it allows at a time."""

    def __init__(self, now: Micros) -> None:
        self.rate: float = RATE_MOST
        self._looked_at = self._filled_at = now
        self._taken = self._behind = 0
        self._was_enough: float = 0
        self._is_falling = False
        self._allowed: float = 0
        self._is_wanted = False
        """Whether more waited than was allowed, since the last look."""

    def allow(self, now: Micros, behind: int) -> float:
        """How many messages may be taken now.

        `behind` is how many messages of others this node has still to take in.
        """
        if now - self._looked_at >= LOOK_PAUSE_US:
            self._look(now, behind)
        seconds, self._filled_at = (now - self._filled_at) / 1e6, now
        if self.rate >= RATE_MOST:
            return inf
        most = max(self.rate * BURST_S, 1)
        self._allowed = min(self._allowed + self.rate * seconds, most)
        return self._allowed

    def took(self, messages: int, waiting: int) -> None:
        """So many messages were taken, and this many posts still wait.

        A post is taken as a whole, so it may be more than was allowed: it is saved up afterwards,
        for a second at most.
        """
        self._taken += messages
        if self.rate < RATE_MOST:
            self._allowed = max(self._allowed - messages, -self.rate)
            self._is_wanted |= waiting > 0 and self._allowed < 1

    def _look(self, now: Micros, behind: int) -> None:
        taken = self._taken * 1e6 / (now - self._looked_at)
        is_wanted, self._is_wanted = self._is_wanted, False
        self._looked_at, self._taken = now, 0
        was_behind, self._behind = self._behind, behind
        is_behind = behind > BEHIND_MESSAGES
        if is_behind and behind > was_behind * CATCHING_UP:
            # It falls from what the node took, not from what it might have taken.
            rate = min(self.rate, taken)
            if not self._is_falling:
                self._was_enough, self._is_falling = rate * REGAINED, True
            self.rate = max(rate * DECREASE, RATE_LEAST)
        elif not is_behind:
            self._is_falling = False
            # Where nobody asks for as much as is allowed, the limit may go.
            increase = INCREASE if self.rate >= self._was_enough else REGAIN
            self.rate = min(self.rate * (increase if is_wanted else 2), RATE_MOST)
