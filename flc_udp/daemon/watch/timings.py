"""How long things take, counted in a few fixed classes: what can be noted once a commit.

Rules. Nothing is noted a message: a batch is one observation, so a scraped node and one that nobody
scrapes cost the same. Classes never change while a node runs, as counters never fall.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate

from flc_udp.model.dots import LogId
from flc_udp.waist.ports import Batch

COMMIT_BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""From a fast disk's sync to one that holds this node unhealthy."""

AGE_BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 600.0, 3600.0)
"""From one hop on a local network to a partition that healed."""


class Histogram:
    """Observations in seconds, by the least bound that holds them."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.total = 0.0
        self._counts = [0] * (len(bounds) + 1)

    def note(self, seconds: float) -> None:
        """One observation."""
        self.total += seconds
        self._counts[bisect_left(self.bounds, seconds)] += 1

    def cumulative(self) -> list[int]:
        """How many lay within each bound, and last how many there are."""
        return list(accumulate(self._counts))


class Timings:
    """What one node measures of itself."""

    def __init__(self) -> None:
        self.commit = Histogram(COMMIT_BOUNDS_S)
        """From the loop's handing a batch to the writer to the loop's knowing it durable."""
        self.age = Histogram(AGE_BOUNDS_S)
        """From its author's clock to this node's when durable here, of a sample of messages."""
        self.from_the_future = 0
        """Samples that were younger than nothing: the author's clock is ahead of this one."""

    def arrived(self, batch: Batch, own: LogId, wall_ms: int) -> None:
        """A batch is durable: note the age of one message of others, from either end of it.

        Its own posts a node decides last in a turn and commits first after a pause, so between the
        ends there is seldom a stranger where neither is one.
        """
        for message in (batch.messages[0], batch.messages[-1]):
            if message.log != own:
                age_ms = wall_ms - message.wall
                self.from_the_future += age_ms < 0
                self.age.note(max(age_ms, 0) / 1_000)
                return
