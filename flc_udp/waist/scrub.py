"""The scrub: the whole log is looked through for rows that have changed, again and again.

Promise. What nobody reads is found all the same: of a million blocks within a day. A look
takes less than a millisecond, and two seconds lie between two. The rows of small tables are looked
at each minute.

Rules. What cannot be read is passed over, step by step, until the next pass, and the reader notes
why. The name is that of ZFS and Ceph for the same.
"""

from flc_udp.model.errors import StoreFailed
from flc_udp.model.units import SECOND_US, Micros
from flc_udp.waist.ports import Reads

LOOK_PAUSE_US = 2 * SECOND_US
BLIND_STEP = 32
"""What cannot be read is passed over by so many positions."""

ROWS_PAUSE_US = 60 * SECOND_US
"""So often are the rows of small tables looked at: the node's own facts, logs, rooms, clients."""

PASS_PAUSE_US = 60 * SECOND_US
"""The pause between the end of the log and the next look at its beginning."""


class Scrub:
    """How far the log was looked through."""

    def __init__(self, reader: Reads, now: Micros) -> None:
        self.wake_at = now + LOOK_PAUSE_US
        """When the next look is due, in µs."""
        self._reader = reader
        self._position = 0
        self._rows_at = Micros(now + ROWS_PAUSE_US)

    def rows_are_due(self, now: Micros) -> bool:
        """Whether the rows of small tables are to be looked at. Then they are not for a while."""
        if now < self._rows_at:
            return False
        self._rows_at = Micros(now + ROWS_PAUSE_US)
        return True

    def wake(self, now: Micros) -> None:
        """Look through a few more rows, if that is due."""
        if now < self.wake_at:
            return
        try:
            self._position = self._reader.look_through(self._position)
        except StoreFailed:
            self._position += BLIND_STEP
        self.wake_at = now + (LOOK_PAUSE_US if self._position else PASS_PAUSE_US)
