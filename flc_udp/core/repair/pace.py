"""The pace of catch-up: how many bytes a window may have, and how many stamps that is.

Rules. A credit bounds the bytes of one answer. It grows by a step with each window that came whole,
and halves where datagrams were lost. From each answer follows how dense the messages are, and so
how wide the next stretch of stamps has to be for answers as large as the credit.
"""

from __future__ import annotations

from dataclasses import dataclass

from flc_udp.config import STAMP_LIMIT
from flc_udp.core.repair.windows import StampWindow
from flc_udp.model.clocks import STAMP_WALL_SHIFT
from flc_udp.wire.packets import ReplayEnd

CREDIT_LEAST_BYTES = 16_384
"""The credit is at least this, however much is lost."""

CREDIT_STEP_BYTES = 8_192
"""A window that came whole adds this to the credit."""

AHEAD_BYTES = 1 << 20
"""The windows of one stretch together are to have at most about this many bytes, because all of it
may wait for its causes."""

GROWTH_MAX = 8
"""A stretch is at most this many times as wide as the one before."""

WIDTH_FIRST = 1_000 << STAMP_WALL_SHIFT
"""The width of a stretch where nothing tells how dense the messages are: a second, in stamps."""


@dataclass(slots=True)
class Pace:
    """The credit, and the width of the next stretch."""

    credit_bytes_max: int
    credit_bytes: int = 4 * CREDIT_LEAST_BYTES
    width: int = 0
    """Stamps. 0: no answer has told yet how dense the messages are."""

    def lost_some(self) -> None:
        """A datagram of an answer was lost."""
        self.credit_bytes = max(self.credit_bytes // 2, CREDIT_LEAST_BYTES)

    def came_whole(self) -> None:
        """All of an answer came."""
        self.credit_bytes = min(self.credit_bytes + CREDIT_STEP_BYTES, self.credit_bytes_max)

    def measure(self, window: StampWindow, end: ReplayEnd, groups: int) -> None:
        """Make the next stretch as wide as the answer to this window suggests.

        `groups` windows share a stretch.
        """
        if self.width:
            # Messages that were lost count as large as those that came.
            size_bytes = window.size_bytes * end.sent // max(window.messages, 1)
            self._fit(window.after, min(end.next, window.below), size_bytes, groups)
        else:
            self._fit(window.first_stamp, end.next, window.size_bytes, groups)
            self.width = self.width or WIDTH_FIRST

    def _fit(self, start: int, reached: int, size_bytes: int, groups: int) -> None:
        """The stamps start..reached had this many bytes. Give a window as many as the credit."""
        if not start < reached < STAMP_LIMIT:
            return
        target_bytes = min(self.credit_bytes, AHEAD_BYTES // max(groups, 1))
        width = max((reached - start) * target_bytes // max(size_bytes, 1), 1)
        self.width = min(width, GROWTH_MAX * (self.width or width))
