"""Below the floor: what no member keeps any more, and the base that is taken in its stead.

    pull ─▶ end(floor, lacks) of one member after another ─▶ none of them can serve it
         ─▶ base-pull ─▶ base … base-end(next) ─▶ base-pull(next) ─▶ … ─▶ adopt

Rules. A base is taken from the member with the lowest floor, since that keeps the most. It comes in
pages; all pages have to be of one version, or it is begun again: retention may move on meanwhile.
Of a page that was lost in part the rest is waited for, and a teller that stays silent is left.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from flc_udp.core.effects import Adopt
from flc_udp.model.dots import VISITOR, LogId, NodeId
from flc_udp.model.history import BaseLog, BaseRoom
from flc_udp.wire.packets import Base, BaseEnd, BasePull

TRIES_MAX = 20
"""Pages in vain, or beginnings, before a teller is left."""

ROWS_MAX = 1 << 20
"""Rows of one base: more logs and rooms than any cluster has."""

BEGINNING: LogId = b""
"""Before the first log, where a page begins."""


@dataclass(slots=True)
class BaseTake:
    """The base that is being taken, if one is; times in µs."""

    timeout: int
    peer: NodeId = VISITOR
    deadline: int | None = None
    """When the page under way has been silent too long."""
    _nonce: int = 0
    _after: LogId = BEGINNING
    _version: int | None = None
    _rows: list[BaseLog] = field(default_factory=list)
    _page: dict[tuple[LogId, tuple[BaseRoom, ...]], BaseLog] = field(default_factory=dict)
    """Rows by log and first room: one of many rooms comes in several."""
    _tries: int = 0

    @property
    def is_on(self) -> bool:
        """Whether a base is being taken."""
        return self.deadline is not None

    def begin(self, peer: NodeId, nonce: int, now: int) -> BasePull:
        """Take the base of `peer`."""
        self.peer, self._tries = peer, 0
        return self._start(nonce, now)

    def stop(self) -> None:
        """Take none."""
        self.deadline = None
        self._rows, self._page = [], {}

    def heard(self, base: Base, peer: NodeId, now: int) -> None:
        """Rows came."""
        if self.is_on and (base.nonce, peer) == (self._nonce, self.peer):
            for row in base.rows[: ROWS_MAX - len(self._rows) - len(self._page)]:
                self._page[row.log, row.rooms[:1]] = row
            self.deadline = now + self.timeout

    def ended(self, end: BaseEnd, peer: NodeId, nonce: int, now: int) -> BasePull | Adopt | None:
        """A page came to its end: what is to be asked next, or the base, which is whole."""
        if not self.is_on or (end.nonce, peer) != (self._nonce, self.peer):
            return None
        was, self._version = self._version, end.version
        if was is not None and end.version != was:
            self._tries += 1
            return None if self._is_over() else self._start(nonce, now)
        if end.rows != len(self._page):
            return self.again(now)
        self._rows += self._page.values()
        if end.next:
            self._after, self._tries = end.next, 0
            return self._ask(nonce, now)
        rows = tuple(_joined(self._rows))
        self.stop()
        if any(row.head.stamp >= end.floor for row in rows):
            return None  # No base: what stands at or above the floor is kept.
        return Adopt(end.floor, rows)

    def again(self, now: int) -> BasePull | None:
        """The page was silent too long, or came in part: the same again, but not for ever.

        What came of it stays, for one version's rows are the same each time.
        """
        self._tries += 1
        if self._is_over():
            return None
        self.deadline = now + self.timeout
        return BasePull(self._nonce, self._after)

    def _is_over(self) -> bool:
        if self._tries > TRIES_MAX:
            self.stop()
        return not self.is_on

    def _start(self, nonce: int, now: int) -> BasePull:
        self._rows, self._after, self._version = [], BEGINNING, None
        return self._ask(nonce, now)

    def _ask(self, nonce: int, now: int) -> BasePull:
        self._nonce, self._page = nonce, {}
        self.deadline = now + self.timeout
        return BasePull(nonce, self._after)


def _joined(rows: list[BaseLog]) -> list[BaseLog]:
    """One row a log: one of many rooms came in several."""
    logs: dict[LogId, BaseLog] = {}
    for row in rows:
        first = logs.get(row.log)
        logs[row.log] = row if first is None else first._replace(rooms=first.rooms + row.rooms)
    return list(logs.values())
