"""Followers: positions in the local order that move as fast as their reader takes what they see.

Rules. Nothing is shown before the Node shows it, though the log may hold it a moment sooner: only
then is it known who said it. A follower that has seen everything gets new messages as they are
shown, rendered and joined once for all followers of a room. For a follower that is behind, because
it began in the past or reads slowly, nothing is kept in memory: it reads on from the log whenever
its reader has room. So a follower costs a few numbers, however far behind it is.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import chain, islice
from typing import NamedTuple, Protocol

from flc_udp.core.effects import Deliver
from flc_udp.daemon.ground import LoopGround
from flc_udp.daemon.patient import PatientReader
from flc_udp.model.dots import LogId, Spans
from flc_udp.model.errors import StoreFailed
from flc_udp.model.json_lines import compact
from flc_udp.model.message import Message
from flc_udp.store.reader import messages_of
from flc_udp.wire.message_json import message_record

PAGE_BLOCKS, PAGE_MESSAGES = 64, 256
"""A follower that is behind reads this much before others have their turn."""

READ_AGAIN_S = 1.0
"""A follower that could not read the log tries again after this time."""

Own = dict[LogId, Spans]
"""What was said over one connection: spans of logs."""

NOT_OWN = b"false}"


class Line(NamedTuple):
    """A message on its way to followers, as far as it is the same for all of them."""

    position: int
    message: Message
    text: bytes
    """Its record, up to whether the reader said it."""


def render(rows: Iterable[tuple[int, Message]]) -> list[Line]:
    """The lines of (position, message)."""
    form = b'{"message":%b,"position":%d,"own":'
    return [
        Line(position, message, form % (compact(message_record(message)), position))
        for position, message in rows
    ]


class NewLines:
    """What was just shown. It is rendered when the first follower wants it."""

    def __init__(self, deliver: Deliver) -> None:
        self.first, self.last = deliver.position, deliver.last
        self.size_bytes = sum(len(block.encoded) for block in deliver.blocks)
        self.logs = {block.log for block in deliver.blocks}
        self._blocks = deliver.blocks
        self._rooms = {None, *(block.room for block in deliver.blocks)}
        self._lines: dict[str | None, list[Line]] = defaultdict(list)
        self._joined: dict[str | None, bytes] = {}

    def lines(self, room: str | None) -> list[Line]:
        """The lines of a room, or of all."""
        if room not in self._rooms:
            return []
        if not self._lines:
            messages = chain.from_iterable(block.messages() for block in self._blocks)
            for line in render(enumerate(messages, self.first)):
                self._lines[None].append(line)
                self._lines[line.message.room].append(line)
        return self._lines[room]

    def joined(self, room: str | None) -> bytes:
        """The lines of a room, or of all, for whoever has said none of them."""
        if room not in self._joined:
            texts = [line.text for line in self.lines(room)]
            self._joined[room] = b"false}\n".join(texts) + NOT_OWN if texts else b""
        return self._joined[room]


class Outlet(Protocol):
    """Where the lines of a follower and the answers to a say go: a connection."""

    own: Own

    def remember(self, log: LogId, low: int, high: int) -> None:
        """These messages were said over it."""

    @property
    def is_full(self) -> bool:
        """Whether the reader at the other end does not keep up, or has gone."""

    @property
    def share_bytes(self) -> int:
        """How much the reader may leave unread. More than that it is not given at once."""

    def read_soon(self, read: Callable[[], None]) -> None:
        """Call this when it is this connection's turn to read from the log."""

    def failed(self, follow: "Follow", error: Exception) -> None:
        """This follow came to something that nobody expected: it is over."""

    def write(self, line: bytes) -> None:
        """Send one line or more, together with others, at the next flush."""

    def flush_soon(self) -> None:
        """Flush when this turn of the loop is done."""


@dataclass(slots=True, eq=False)
class Follow:
    """One follower of one room, or of all."""

    outlet: Outlet
    reader: PatientReader
    ground: LoopGround
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
        return max(self.ground.shown - self.position, 0)

    def pump(self) -> None:
        """Read on from the log, a page in each turn, while the outlet has room."""
        if self.is_pumping or self.outlet.is_full:
            return  # Where it is full, it pumps again when it has room.
        self.is_pumping = True
        self.outlet.read_soon(self._read_on)

    def _read_on(self) -> None:
        """It is its turn. A follow that has ended meanwhile has an outlet that is full."""
        self.is_pumping = False
        if self.outlet.is_full:
            return
        try:
            if self._read_page():
                self.pump()
        except StoreFailed:
            self.is_pumping = True
            asyncio.get_running_loop().call_later(READ_AGAIN_S, self._pump_again)
        except Exception as error:  # noqa: BLE001  # a follow fails alone
            self.outlet.failed(self, error)
        self.outlet.flush_soon()

    def _pump_again(self) -> None:
        self.is_pumping = False
        self.pump()

    def _read_page(self) -> bool:
        """Read a page from the log. True: there may be more."""
        shown = self.ground.shown
        page = self.reader.after(self.position, self.room, PAGE_BLOCKS)
        page = [row for row in page if row[0] <= shown]
        lines = render(islice(messages_of(page, self.position), PAGE_MESSAGES))
        self._write(lines)
        if len(lines) == PAGE_MESSAGES:
            self.position = lines[-1].position
        else:
            self.position = page[-1][0] if page else max(self.position, shown)
        self._say_caught_up()
        return bool(page)

    def show(self, new: NewLines) -> None:
        """Take what was just shown. A follower that is behind reads on from the log."""
        try:
            self._show(new)
        except Exception as error:  # noqa: BLE001  # a follow fails alone
            self.outlet.failed(self, error)

    def _show(self, new: NewLines) -> None:
        is_behind = self.position < new.first - 1 or new.last < new.first
        if is_behind or self.outlet.is_full or new.size_bytes > self.outlet.share_bytes:
            self.pump()
            return
        own = self.outlet.own
        if self.position < new.first and not self.tag and new.logs.isdisjoint(own):
            if joined := new.joined(self.room):
                self.outlet.write(joined)
        else:
            self._write(line for line in new.lines(self.room) if line.position > self.position)
        self.position = new.last
        self._say_caught_up()

    def _write(self, lines: Iterable[Line]) -> None:
        for line in lines:
            spans = self.outlet.own.get(line.message.log)
            own = b"true" if spans and line.message.seq in spans else b"false"
            self.outlet.write(line.text + own + self.tag + b"}")

    def _say_caught_up(self) -> None:
        if self.catches_up_at is not None and self.position >= self.catches_up_at:
            self.catches_up_at = None
            self.outlet.write(b'{"caught_up":true,"position":%d%b}' % (self.position, self.tag))
