"""How long commits and messages take, counted in a few fixed classes.

Rules. Nothing is noted for each message. A batch is one observation, so a node costs the same
whether somebody scrapes it or not. Classes never change while a node runs, because their counters
may never fall.
"""

from bisect import bisect_left
from collections.abc import Callable
from itertools import accumulate

from flc_udp.model.dots import LogId
from flc_udp.model.units import Millis
from flc_udp.waist.ports import Batch

COMMIT_BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""From a fast disk's sync to one that holds this node unhealthy."""

AGE_BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 600.0, 3600.0)
"""From one hop on a local network to a partition that healed."""


class Histogram:
    """Observations in seconds, each counted at the smallest bound that is not less."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.total = 0.0
        self._counts = [0] * (len(bounds) + 1)

    def note(self, seconds: float) -> None:
        """Count one observation."""
        self.total += seconds
        self._counts[bisect_left(self.bounds, seconds)] += 1

    def cumulative(self) -> list[int]:
        """How many observations are within each bound; the last figure counts all of them."""
        return list(accumulate(self._counts))


class Timings:
    """What one node measures about itself."""

    def __init__(self) -> None:
        self.commit = Histogram(COMMIT_BOUNDS_S)
        """From when the loop hands a batch to the writer until the batch is known to be durable."""
        self.age = Histogram(AGE_BOUNDS_S)
        """From the author's time until this node's time when durable, for a sample of messages."""
        self.from_the_future = 0
        """Samples with a negative age: the author's clock is ahead of this node's."""

    def arrived(self, batch: Batch, is_own: Callable[[LogId], bool], wall_ms: Millis) -> None:
        """A batch is durable: note the age of one message of another node, at either end of it.

        A node decides its own posts last in a turn, and commits them first after a pause. So if
        neither end is a message of another node, there is seldom one between.
        """
        for block in (batch.blocks[0], batch.blocks[-1]):
            if not is_own(block.log):
                age_ms = wall_ms - block.wall
                self.from_the_future += age_ms < 0
                self.age.note(max(age_ms, 0) / 1_000)
                return
