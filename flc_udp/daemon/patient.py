"""Reading on by position: a block that has changed on the disk is waited for, and then passed over.

Rules. Others are asked for such a block, and mostly give it within a second. Where nobody has it,
whoever reads on would stand still for ever. `flc status` names it all the while.
"""

import time

from flc_udp.model.errors import StoreFailed
from flc_udp.store.reader import Reader

PATIENCE_S = 60.0
"""So long a block is waited for. For as long after that, others are passed over at once."""


class PatientReader:
    """`Reader.after`, for one that reads on and on."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._failing_since_s: float | None = None

    def after(self, position: int, room: str | None, limit: int) -> list[tuple[int, bytes]]:
        """As `Reader.after`. What still has changed after PATIENCE_S is left out."""
        now_s = time.monotonic()
        since_s = now_s if self._failing_since_s is None else self._failing_since_s
        leaves_out = now_s - since_s >= PATIENCE_S
        try:
            page = self._reader.after(position, room, limit, leaves_out=leaves_out)
        except StoreFailed:
            self._failing_since_s = since_s
            raise
        if not leaves_out or now_s - since_s >= 2 * PATIENCE_S:
            self._failing_since_s = None
        return page
