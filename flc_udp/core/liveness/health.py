"""Local health: how far this node trusts its own judgement of others (Lifeguard, DSN 2018, 4.1).

A node that is slow itself, because it stalled, lacks CPU or waits for its disk, finds that others
do not answer in time. So what looks like their fault first raises a score against this node, and
the score stretches its probe interval and its timeouts by the factor 1 + score. Evidence that
others hear this node in time lowers the score again.

Rules. Nobody is blamed for the time in which this node was not running: `Membership.stalled` moves
every deadline by it. The score is bounded, and each change of it has a name, so that `flc status`
can say why it is what it is.
"""

from collections import Counter
from enum import StrEnum

from flc_udp.model.units import Micros


class Change(StrEnum):
    """What moves the score by one. The values are labels of a metric and never change.

    An answer to a probe is in favour of this node, or a round in time where there is nobody else.
    """

    PROBE_ANSWERED = "probe answered"
    ALONE = "alone"
    """A round was due in time, and there is no live member to probe."""
    PROBE_FAILED = "probe failed"
    NACK_MISSING = "nack missing"
    """A relay should have heard this node and answered it, and did not."""
    ACCUSED = "accused"
    STALLED = "stalled"
    SLOW_COMMIT = "slow commit"


class Health:
    """The score of one node, from 0 to `score_max`. With a `score_max` of 0 this is plain SWIM."""

    def __init__(self, score_max: int) -> None:
        self.score = 0
        self.score_max = score_max
        self.counts: Counter[Change] = Counter()
        self.last: dict[Change, int] = {}
        """The moment at which each change was last noted, in µs."""

    @property
    def multiplier(self) -> int:
        """The factor for intervals and timeouts: 1 or more."""
        return 1 + self.score

    def note(self, change: Change, now: Micros) -> None:
        """Take one piece of evidence into account."""
        self.counts[change] += 1
        self.last[change] = now
        points = -1 if change in (Change.PROBE_ANSWERED, Change.ALONE) else +1
        self.score = min(max(self.score + points, 0), self.score_max)
