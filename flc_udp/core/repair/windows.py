"""Windows: what catch-up asks for, cut by stamps and by logs, and how wide it is cut.

    groups of logs      ├── window ──┼── window ──┤
    (one pull names     ├── window ──┼── window ──┤
    one group)          └─ stretch ──┴─ stretch ──┘──▶ stamps, from the lowest on

Rules. Stretches of stamps follow one another without gaps. In each stretch every group has a
window, except where an answer told that nothing of the group is missing there. A window is asked of
one peer at a time.

A credit bounds the bytes of one answer. It grows by a step with each window that came whole, and
halves where datagrams were lost. From each answer follows how dense the messages are, and so how
wide the next stretch has to be for answers as large as the credit.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from flc_udp.config import PULL_BYTES_LEAST, STAMP_LIMIT
from flc_udp.core.repair.pull_packets import LOGS_PER_PULL
from flc_udp.model.clocks import STAMP_WALL_SHIFT
from flc_udp.model.dots import VISITOR, LogId, NodeId
from flc_udp.wire.packets import ReplayEnd

TRIES_MAX = 256
"""After this many answers of one peer without progress another peer is asked for the same. A
largest message, in pieces of the least credit, takes a quarter of that."""

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
class StampWindow:
    """The stamps after..below (the second not included) of some logs."""

    after: int
    below: int
    logs: tuple[LogId, ...]
    group: int
    """The number of the group that these logs are of."""
    refused: tuple[NodeId, ...] = ()
    """Peers that are not asked for it any more: they were silent, or lack some of it."""
    tries: int = 0
    """How often it was asked for without progress."""
    peer: NodeId = VISITOR
    """The peer that is asked for it now. What follows is about that peer's answer."""
    deadline: int = 0
    blocks: int = 0
    """How many blocks came."""
    size_bytes: int = 0
    """The size of these blocks."""
    first_stamp: int = 0
    """The stamp of the first block that came."""
    laid_aside: list[bytes] = field(default_factory=list)
    """Those of them that are not taken yet, because something before them is still to come."""
    has_some: bool = False
    """Whether anything came, be it a piece."""
    in_pieces: bool = False
    """Whether some of it comes in pieces. The end of an answer does not count these, so only one
    more answer can tell that all of them came."""

    def rest(self, after: int, logs: tuple[LogId, ...], *, refuse: bool) -> "StampWindow":
        """What is to be asked for again: some of its logs, from `after` on.

        `refuse`: do not ask this peer again.
        """
        tries = self.tries + 1 if after == self.after else 0
        refused = (*self.refused, self.peer) if refuse or tries > TRIES_MAX else self.refused
        return StampWindow(after, self.below, logs, self.group, refused, tries)


@dataclass(slots=True)
class Stretches:
    """The groups of logs, and how far each was asked for."""

    _groups: list[tuple[LogId, ...]] = field(default_factory=list)
    _next_of: list[int] = field(default_factory=list)
    """For each group, the lowest stamp at which something may be missing."""
    _edge: int = 0
    """Everything below this stamp was asked for."""

    def __len__(self) -> int:
        return len(self._groups)

    @property
    def is_through(self) -> bool:
        """Whether all stamps were asked for."""
        return self._edge >= STAMP_LIMIT

    def add(self, logs: Sequence[LogId]) -> None:
        """Ask for these logs too, from the lowest stamp on: all that comes may wait for theirs."""
        for at in range(0, len(logs), LOGS_PER_PULL):
            self._groups.append(tuple(logs[at : at + LOGS_PER_PULL]))
            self._next_of.append(0)
            self._edge = 0

    def probe(self) -> list[StampWindow]:
        """A first window, of all stamps. Its answer tells where the missing begins.

        It also tells how dense the messages are. There is none where nothing is to be asked for.
        """
        for group, logs in enumerate(self._groups):
            if self._next_of[group] < STAMP_LIMIT:
                return [StampWindow(0, STAMP_LIMIT, logs, group)]
        self._edge = STAMP_LIMIT
        return []

    def cut(self, width: int) -> list[StampWindow]:
        """The windows of the next stretch, which is `width` stamps wide."""
        if self.is_through:
            return []
        self._edge = max(self._edge, min(self._next_of))
        after, self._edge = self._edge, min(self._edge + width, STAMP_LIMIT)
        return [
            StampWindow(after, self._edge, logs, group)
            for group, logs in enumerate(self._groups)
            if self._next_of[group] < self._edge
        ]

    def goes_on_at(self, group: int, stamp: int) -> None:
        """An answer told that nothing of a group is missing, or to be had, below this stamp."""
        self._next_of[group] = max(stamp, self._next_of[group])

    def nothing_missing(self, window: StampWindow) -> None:
        """Nothing is missing of the logs of a window, in any stamps."""
        if window.logs == self._groups[window.group]:
            self._next_of[window.group] = STAMP_LIMIT

    def give_up(self, window: StampWindow) -> None:
        """Ask for the logs of a window no more."""
        group = tuple(log for log in self._groups[window.group] if log not in window.logs)
        self._groups[window.group] = group
        if not group:
            self._next_of[window.group] = STAMP_LIMIT


@dataclass(slots=True)
class Pace:
    """The credit, and the width of the next stretch."""

    credit_bytes_max: int
    credit_bytes: int = 4 * PULL_BYTES_LEAST
    """An answer goes at most one block beyond it."""
    width: int = 0
    """Stamps. 0: no answer has told yet how dense the messages are."""

    def lost_some(self) -> None:
        """A datagram of an answer was lost."""
        self.credit_bytes = max(self.credit_bytes // 2, PULL_BYTES_LEAST)

    def came_whole(self) -> None:
        """All of an answer came."""
        self.credit_bytes = min(self.credit_bytes + CREDIT_STEP_BYTES, self.credit_bytes_max)

    def measure(self, window: StampWindow, end: ReplayEnd, groups: int) -> None:
        """Make the next stretch as wide as the answer to this window suggests.

        `groups` windows share a stretch.
        """
        if self.width:
            # Blocks that were lost count as large as those that came.
            size_bytes = window.size_bytes * end.sent // max(window.blocks, 1)
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
