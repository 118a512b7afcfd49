"""Which members a node remembers for its next start, and when it writes them down.

Rules. Members are written when another one has come alive, but not often, so that a cluster whose
members come and go does not wear the disk. A death alone writes nothing.
"""

from flc_udp.core.notices import MemberAlive
from flc_udp.model.notices import Notice
from flc_udp.model.units import SECOND_US, Micros

PAUSE_US = 10 * SECOND_US
"""The time between two writings."""

PEERS_MAX = 256
"""This many members are enough to find the cluster again."""


class PeerMemory:
    """When the members are to be written."""

    def __init__(self, now: Micros) -> None:
        self._next = now
        self._changed = False

    def heard(self, notice: Notice) -> None:
        """Something happened to a member, or to something else."""
        self._changed |= isinstance(notice, MemberAlive)

    def is_due(self, now: Micros, *, at_once: bool = False) -> bool:
        """Whether the members are to be written now. `at_once`: however short the pause was."""
        is_due = self._changed and (at_once or now >= self._next)
        if is_due:
            self._changed, self._next = False, Micros(now + PAUSE_US)
        return is_due

    def not_written(self) -> None:
        """The last writing failed."""
        self._changed = True
