"""Virtual time: what happens next, in the order of time and, within one µs, of asking."""

from collections.abc import Callable
from heapq import heappop, heappush

Action = Callable[..., object]


class Heap:
    """The only clock of the simulator, in whole µs. It moves from one happening to the next."""

    def __init__(self) -> None:
        self.now = 0
        self._asked = 0
        self._queue: list[tuple[int, int, Action, tuple[object, ...]]] = []

    def at(self, when: int, action: Action, *args: object) -> None:
        """Do something at `when`, or now if that is past."""
        self._asked += 1
        heappush(self._queue, (max(when, self.now), self._asked, action, args))

    def after(self, delay_us: int, action: Action, *args: object) -> None:
        """Do something after a delay."""
        self.at(self.now + delay_us, action, *args)

    def run_until(self, end: int) -> None:
        """Let everything up to `end` happen. Then it is `end`."""
        queue = self._queue
        while queue and queue[0][0] <= end:
            self.now, _, action, args = heappop(queue)
            action(*args)
        self.now = end
