"""What clients said under numbers at one node, and that each number stands for one message.

Rules. A number is said once. Whoever repeats it is told the dot under which it was said, also after
a crash and after a commit of which nobody knows how it ended. A number is called forgotten only
where a greater one was said, and not as long as it has to be remembered. A disk that was put back
to an earlier state has forgotten what was said since.
"""

from collections import defaultdict
from collections.abc import Callable

from flc_udp.config import ONCE_REMEMBERED
from flc_udp.model.dots import Dot
from flc_udp.sim.violation import Violation
from flc_udp.waist.ports import Once
from flc_udp.waist.says import Forgotten


class Numbers:
    """The numbers that one disk was given, in the order in which they were said."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._dots: dict[str, dict[int, Dot]] = defaultdict(dict)
        """The last `ONCE_REMEMBERED` of each client."""

    def dot(self, once: Once | None) -> Dot | None:
        """What was said under a number that is remembered."""
        return None if once is None else self._dots[once[0]].get(once[1])

    def said(self, once: Once | None, dot: Dot) -> None:
        """A message was written to the disk."""
        if once is None:
            return
        client, n = once
        dots = self._dots[client]
        if n <= max(dots, default=0):
            raise Violation(f"{self._name}: {dot} says number {n} of {client} again")
        dots[n] = dot
        if len(dots) > ONCE_REMEMBERED:
            del dots[min(dots)]

    def refused(self, once: Once | None, why: Exception) -> None:
        """Somebody was told why it is not said, or not known."""
        if once is not None and isinstance(why, Forgotten):
            client, n = once
            dots = self._dots[client]
            if n in dots or n > max(dots, default=0):
                raise Violation(f"{self._name}: number {n} of {client} is called forgotten")

    def put_back(self, knows: Callable[[Dot], bool]) -> None:
        """The disk is as it was earlier. What it does not know any more, it has forgotten."""
        for client, dots in self._dots.items():
            self._dots[client] = {n: dot for n, dot in dots.items() if knows(dot)}
