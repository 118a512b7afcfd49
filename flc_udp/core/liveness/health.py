"""Local health: how far this node trusts its own judgement of others (Lifeguard, DSN 2018, 4.1).

A node that is slow itself, stalled, starved of CPU or waiting for its disk, finds that others do
not answer in time. So what looks like their fault raises a score against this node first, and the
score stretches its probe interval and timeouts by 1 + score. Evidence that it is heard in time
lowers it again.

Rules. Time this node was not running is nobody's fault: `Liveness.stalled` moves every deadline by
it. The score is bounded, and each change has a name, so that `flc status` can say why.
"""

from __future__ import annotations

from collections import Counter

CHANGES = {
    "probe answered": -1,
    "probe failed": +1,
    "nack missing": +1,
    "accused": +1,
    "stalled": +1,
    "slow commit": +1,
}
"""What moves the score, and how far. A missing nack is a relay that should have heard us."""


class Health:
    """The score of one node, from 0 to `score_max`; with that 0 it is plain SWIM."""

    def __init__(self, score_max: int) -> None:
        self.score = 0
        self.score_max = score_max
        self.counts: Counter[str] = Counter()
        self.last: dict[str, int] = {}
        """When each change was noted last, in µs."""

    @property
    def multiplier(self) -> int:
        """What intervals and timeouts are multiplied by: 1 and upwards."""
        return 1 + self.score

    def note(self, change: str, now: int) -> None:
        """One piece of evidence, by its name in CHANGES."""
        self.counts[change] += 1
        self.last[change] = now
        self.score = min(max(self.score + CHANGES[change], 0), self.score_max)
