"""A token bucket: so much of something a second, and a little more at once."""

from flc_udp.model.units import SECOND_US, Micros


class TokenBucket:
    """Says when something was done often enough."""

    __slots__ = ("_at", "_burst", "_each_us", "_saved_us")

    def __init__(self, a_second: int, burst: int, now: Micros) -> None:
        """At most `burst` at once, and `a_second` on average."""
        self._each_us = SECOND_US // a_second
        self._burst = burst * self._each_us
        self._saved_us, self._at = self._burst, now

    def take(self, now: Micros) -> bool:
        """Whether it may be done once more. If so, that counts."""
        self._saved_us = min(self._saved_us + now - self._at, self._burst)
        self._at = now
        if self._saved_us < self._each_us:
            return False
        self._saved_us -= self._each_us
        return True
