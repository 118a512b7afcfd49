"""Followers: positions in the local order that move as fast as their reader takes what they see.

Rules. Nothing is shown before the Node shows it, though the log may hold it a moment sooner: only
then is it known who said it. A follower that has seen everything gets new messages as they are
shown, encoded once for all followers. For a follower that is behind, because it began in the past
or reads slowly, nothing is kept in memory: it reads on from the log whenever its reader has room.
So a follower costs a few numbers, however far behind it is.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from flc_udp.daemon.shown import ShownCursor
from flc_udp.model.dots import LogId, Spans
from flc_udp.model.errors import StoreFailed
from flc_udp.model.json_lines import compact
from flc_udp.model.message import Message, decode
from flc_udp.store.log import Reader
from flc_udp.wire.message_json import message_record

PAGE_MESSAGES = 256
"""A follower that is behind reads this many messages before others have their turn."""

READ_AGAIN_S = 1.0
"""A follower that could not read the log tries again after this time."""

Own = dict[LogId, Spans]
"""What was said over one connection: spans of logs."""


class Line:
    """A message on its way to followers. Its record is encoded at most once."""

    __slots__ = ("_json", "message", "position")

    def __init__(self, position: int, message: Message) -> None:
        self.position = position
        self.message = message
        self._json: bytes | None = None

    def json(self) -> bytes:
        """The message's record."""
        if self._json is None:
            self._json = compact(message_record(self.message))
        return self._json


class Outlet(Protocol):
    """Where the lines of a follower go: a connection."""

    own: Own

    @property
    def is_full(self) -> bool:
        """Whether the reader at the other end does not keep up, or has gone."""

    def write(self, line: bytes) -> None:
        """Send one line, together with others, at the next flush."""

    def flush_soon(self) -> None:
        """Flush when this turn of the loop is done."""


@dataclass(slots=True, eq=False)
class Follow:
    """One follower of one room, or of all."""

    outlet: Outlet
    reader: Reader
    shown: ShownCursor
    room: str | None
    position: int
    """Everything up to this position was written, or is of another room."""
    tag: bytes
    """What ends each line: the id of the request."""
    catches_up_at: int | None
    """It has caught up when it has passed this position. None: it has, and its reader was told."""
    is_pumping: bool = False
    """Whether it will read on by itself in a later turn."""

    @property
    def lag(self) -> int:
        """How many positions are shown and not passed yet, those of other rooms included."""
        return max(self.shown.position - self.position, 0)

    def pump(self) -> None:
        """Read on from the log, a page in each turn of the loop, while the outlet has room."""
        if self.is_pumping or self.outlet.is_full:
            return  # Where it is full, it pumps again when it has room.
        loop = asyncio.get_running_loop()
        try:
            self.is_pumping = self._read_page()
            if self.is_pumping:
                loop.call_soon(self._pump_again)
        except StoreFailed:
            self.is_pumping = True
            loop.call_later(READ_AGAIN_S, self._pump_again)
        self.outlet.flush_soon()

    def _pump_again(self) -> None:
        self.is_pumping = False
        self.pump()

    def _read_page(self) -> bool:
        """Read a page from the log. True: there may be more."""
        shown = self.shown.position
        page = self.reader.after(self.position, self.room, PAGE_MESSAGES)
        page = [row for row in page if row[0] <= shown]
        for position, encoded in page:
            self._write(Line(position, decode(encoded)))
        self.position = page[-1][0] if page else max(self.position, shown)
        self._say_caught_up()
        return bool(page)

    def show(self, lines: Sequence[Line]) -> None:
        """Take what was just shown. A follower that is behind reads on from the log."""
        if not lines or self.position < lines[0].position - 1 or self.outlet.is_full:
            self.pump()
            return
        for line in lines:
            if line.position > self.position and self.room in (None, line.message.room):
                self._write(line)
        self.position = max(self.position, lines[-1].position)
        self._say_caught_up()

    def _write(self, line: Line) -> None:
        spans = self.outlet.own.get(line.message.log)
        own = b"true" if spans and line.message.seq in spans else b"false"
        shown = line.json(), line.position, own, self.tag
        self.outlet.write(b'{"message":%b,"position":%d,"own":%b%b}' % shown)

    def _say_caught_up(self) -> None:
        if self.catches_up_at is not None and self.position >= self.catches_up_at:
            self.catches_up_at = None
            self.outlet.write(b'{"caught_up":true,"position":%d%b}' % (self.position, self.tag))
