"""The wall clock of the cluster: what the wall of this node is held to, before it mints a stamp.

Rules. Members tell their walls in acks. A stamp goes by a wall that is at most an hour above the
highest of theirs, so that one clock that is set far ahead does not carry all rooms with it. The
highest of the last minute or two counts, so a member that has gone soon counts no more. Who hears
nobody goes by his own wall.
"""

from flc_udp.model.units import MS_US, SECOND_US, Micros, Millis

LEAD_MS_MOST = 3_600_000
"""Clocks of machines differ by seconds, or by hours where somebody took a time zone for another."""

PERIOD_US = 60 * SECOND_US


class PeerWalls:
    """The highest wall that members told, as its distance to this node's monotonic clock."""

    def __init__(self, now: Micros) -> None:
        self._began = now
        self._before: int | None = None
        self._highest: int | None = None

    def heard(self, wall: int, now: Micros) -> None:
        """A member's wall is this now, in ms since 1970."""
        self._turn(now)
        ahead = wall - now // MS_US
        self._highest = ahead if self._highest is None else max(ahead, self._highest)

    def held(self, wall: Millis, now: Micros) -> Millis:
        """This node's wall, or the latest that is believed of it, if that is earlier."""
        self._turn(now)
        told = [ahead for ahead in (self._before, self._highest) if ahead is not None]
        return Millis(min(wall, max(told) + now // MS_US + LEAD_MS_MOST)) if told else wall

    def _turn(self, now: Micros) -> None:
        periods = (now - self._began) // PERIOD_US
        if periods:
            self._before = self._highest if periods == 1 else None
            self._highest = None
            self._began = Micros(self._began + periods * PERIOD_US)
