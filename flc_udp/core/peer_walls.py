"""The wall clock of the cluster: what this node's wall is held to, and what is far ahead of it.

Rules. Members tell their walls in acks. A stamp goes by a wall that is at most an hour above the
highest of theirs, so that one clock that is set far ahead does not carry all rooms with it. Those
of the last minute or two count, so a member that has gone soon counts no more. Who hears nobody
goes by his own wall.

What this node deletes follows no stamp that is more than two days ahead of the cluster's clock.
That is the wall that half of the members show or have passed, or this node's own, if that is later:
so one that tells a false wall moves nothing, and one whose own clock is far behind believes the
others. A floor that others tell is not judged by it, because their clocks may have been wrong when
they deleted; it deletes nothing here.
"""

from flc_udp.config import CLOCK_STAMP_LIMIT, LEAD_MS_MAX
from flc_udp.model.clocks import STAMP_WALL_SHIFT
from flc_udp.model.dots import NodeId
from flc_udp.model.units import EPOCH, MS_US, SECOND_US, Micros, Millis

LEAD_MS_MOST = 3_600_000
"""Clocks of machines differ by seconds, or by hours where somebody took a time zone for another."""

PERIOD_US = 60 * SECOND_US

Walls = dict[NodeId, int]
"""The highest wall that each member told, as its distance to this node's monotonic clock."""


class PeerWalls:
    """What members told of their walls lately."""

    def __init__(self) -> None:
        self.own: Millis = EPOCH
        """This node's wall, as of its last turn."""
        self._began = Micros(0)
        self._before: Walls = {}
        self._told: Walls = {}

    @property
    def far_stamp(self) -> int:
        """A stamp that is so far ahead of this node's wall that no sound clock made it."""
        return self.own + LEAD_MS_MAX << STAMP_WALL_SHIFT

    def heard(self, node: NodeId, wall: int, now: Micros) -> None:
        """A member's wall is this now, in ms since 1970."""
        self._turn(now)
        ahead = wall - now // MS_US
        self._told[node] = max(ahead, self._told.get(node, ahead))

    def held(self, wall: Millis, now: Micros) -> Millis:
        """This node's wall, or the latest that is believed of it, if that is earlier."""
        self._turn(now)
        told = [*self._before.values(), *self._told.values()]
        return Millis(min(wall, max(told) + now // MS_US + LEAD_MS_MOST)) if told else wall

    def stamp_limit(self, now: Micros) -> int:
        """The stamp from which on nothing is deleted."""
        self._turn(now)
        told = sorted((self._before | self._told).values())
        middle = told[(len(told) - 1) // 2] + now // MS_US if told else 0
        wall = max(middle, self.own) + 2 * LEAD_MS_MAX
        return min(wall << STAMP_WALL_SHIFT, CLOCK_STAMP_LIMIT)

    def _turn(self, now: Micros) -> None:
        periods = (now - self._began) // PERIOD_US
        if periods:
            self._before = self._told if periods == 1 else {}
            self._told = {}
            self._began = Micros(self._began + periods * PERIOD_US)
