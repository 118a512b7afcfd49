"""One client of the control socket: its lines in, its answers out, and what it may cost.

Rules. A bad line gets an error, and the connection goes on. A client that says more than the disk
takes is not read until it is slower. A client that does not read its answers gets no more of them
until it does. So what a connection costs is bounded, however it behaves.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from typing import Protocol, cast

from flc_udp.daemon.control.follow import Follow, Line, Own
from flc_udp.daemon.control.operations import Operations
from flc_udp.daemon.control.requests import LINE_BYTES_MAX, parse, unreadable
from flc_udp.daemon.control.says import Say, Says
from flc_udp.daemon.control.surplus import TurnedAway
from flc_udp.daemon.records import encode
from flc_udp.daemon.shown import ShownCursor
from flc_udp.model.dots import Dot, Spans
from flc_udp.model.errors import FlcError, StoreFailed
from flc_udp.wire.message_json import Record

SAYS_MAX = 2_048
"""When this many says of one connection wait for their commit, the connection is not read."""

OUTPUT_BYTES_HIGH = 1 << 20
"""When the other end has not taken this much, followers and lists wait."""

OUTPUT_LINES = 64
"""A list is written in parts of this many lines, because a write for each would cost too much."""

FOLLOWS_MAX = 1_024
"""One connection may have this many follows."""

READ_AGAIN_S = 1.0
"""A follower that could not read the log tries again after this time."""


class Server(Protocol):
    """What a connection needs of the server."""

    operations: Operations
    says: Says
    shown: ShownCursor
    turned_away: TurnedAway

    @property
    def says_max_each(self) -> int:
        """How many says of one connection may wait: its share of those that may wait at all."""

    def admit(self, connection: ControlConnection) -> bool:
        """Whether one more connection is taken."""

    def dismiss(self, connection: ControlConnection) -> None:
        """A connection ended."""

    def flush_soon(self, connection: ControlConnection) -> None:
        """Write what a connection has gathered, when this turn of the loop is done."""

    def broke(self, error: BaseException | None) -> None:
        """Something happened that must not happen."""


class ControlConnection(asyncio.Protocol):
    """One client."""

    def __init__(self, host: Server) -> None:
        self.own: Own = {}
        self.is_full = False
        """Whether the other end does not read what it asked for."""
        self._host = host
        self._reads = True
        self._is_ending = False
        self._transport: asyncio.Transport | None = None
        self._partial: list[bytes] = []
        self._partial_bytes = 0
        self._says: deque[Say] = deque()
        self._follows: list[Follow] = []
        self._lists = asyncio.Lock()
        self._tasks: dict[asyncio.Task[None], None] = {}
        self._output: list[str] = []
        self._has_room = asyncio.Event()
        self._has_room.set()

    # --- asyncio.Protocol -------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client came."""
        # A cast, because uvloop's transports do not inherit from asyncio's.
        self._transport = transport = cast("asyncio.Transport", transport)
        transport.set_write_buffer_limits(high=OUTPUT_BYTES_HIGH)
        if not self._host.admit(self):
            self._host.turned_away.add(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client went. What it said goes its way all the same."""
        self._transport = None
        self._follows.clear()
        self._has_room.set()
        for task in self._tasks:
            task.cancel()
        self._host.dismiss(self)

    def pause_writing(self) -> None:
        """The other end does not read."""
        self.is_full = True
        self._has_room.clear()
        self._read_or_not()

    def resume_writing(self) -> None:
        """The other end reads again. Followers that fell behind meanwhile read on."""
        self.is_full = False
        self._has_room.set()
        self._read_or_not()
        for follow in self._follows:
            self.pump(follow)

    def data_received(self, data: bytes) -> None:
        """Any number of lines and parts of lines came."""
        *lines, rest = data.split(b"\n")
        for line in lines:
            size = self._partial_bytes + len(line)
            whole = b"".join((*self._partial, line)) if self._partial else line
            self._partial.clear()
            self._line(whole, size)
            self._partial_bytes = 0
        self._partial_bytes += len(rest)
        if self._partial_bytes > LINE_BYTES_MAX:
            self._partial.clear()  # Its end is still waited for; then the line is refused.
        elif rest:
            self._partial.append(rest)
        self.flush()

    def eof_received(self) -> bool:
        """The client asks no more, as `nc -N`. Answer what it asked; a follow ends at once."""
        self._is_ending = not self._follows
        self._end_if_done()
        return self._is_ending

    def _end_if_done(self) -> None:
        if self._is_ending and not (self._says or self._tasks):
            self.close()

    def close(self) -> None:
        """Write what has gathered, and end the connection."""
        self.flush()
        if self._transport is not None:
            self._transport.close()

    # --- Requests ---------------------------------------------------------------------------------

    def _line(self, line: bytes, size: int) -> None:
        request_id: object = None
        try:
            request = parse(line, size)
            request_id = request.get("id")
            self._do(request, request_id)
        except FlcError as error:
            self._refuse(error, request_id)
        except StoreFailed as error:
            self._refuse(unreadable(error), request_id)

    def _do(self, request: Record, request_id: object) -> None:
        op, operations = request.get("op"), self._host.operations
        match op:
            case "say":
                self._say(request, request_id)
            case "follow":
                self._follow(request, request_id)
            case str() if op in operations.answers:
                self._answer({"ok": True, **operations.answers[op](request)}, request_id)
            case str() if op in operations.lists:
                self._start_list(operations.lists[op](request), request_id)
            case _:
                raise FlcError(f"unknown op {op!r}", f"known are: say, follow, {operations.names}")

    def _say(self, request: Record, request_id: object) -> None:
        say = Say(request_id, self._said, self.remember)
        self._says.append(say)
        try:
            self._host.says.begin(say, request)
        except FlcError as error:
            say.finish(error)
        self._read_or_not()

    def _said(self) -> None:
        """A say has its answer. Write the answers whose turn it is."""
        while self._says and (answer := self._says[0].answer) is not None:
            say = self._says.popleft()
            if isinstance(answer, FlcError):
                self._refuse(answer, say.id)
            else:
                self._answer(answer, say.id)
        self._host.flush_soon(self)
        self._read_or_not()
        self._end_if_done()

    def _read_or_not(self) -> None:
        """Read on only while the client's says are taken, and its answers are read."""
        most = min(SAYS_MAX, self._host.says_max_each)
        # Once it is not read, half of its says must have been taken before it is read again.
        wants = not self.is_full and len(self._says) < (most if self._reads else most // 2 + 1)
        if wants == self._reads or self._transport is None or self._transport.is_closing():
            return
        if self._is_ending:
            return  # There is nothing more to read.
        self._reads = wants
        if wants:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def remember(self, dot: Dot) -> None:
        """A message was said over this connection."""
        self.own.setdefault(dot.log, Spans()).add(dot.seq)

    # --- Follows ----------------------------------------------------------------------------------

    def _follow(self, request: Record, request_id: object) -> None:
        if len(self._follows) >= FOLLOWS_MAX:
            raise FlcError("too many follows", f"{FOLLOWS_MAX} a connection are allowed")
        host = self._host
        room, position = host.operations.follow_from(request)
        tag = "" if request_id is None else f',"id":{encode(request_id)}'
        follow = Follow(self, host.operations.reader, tag, room, position, host.shown)
        self._follows.append(follow)
        self.pump(follow)

    def pump(self, follow: Follow) -> None:
        """Let a follower that is behind read on, a page in each turn of the loop."""
        if follow.is_pumping or self._transport is None:
            return
        loop = asyncio.get_running_loop()
        try:
            if follow.pump():
                follow.is_pumping = True
                loop.call_soon(self._pump_again, follow)
        except StoreFailed:
            follow.is_pumping = True
            loop.call_later(READ_AGAIN_S, self._pump_again, follow)
        self._host.flush_soon(self)

    def _pump_again(self, follow: Follow) -> None:
        follow.is_pumping = False
        self.pump(follow)

    def show(self, lines: Sequence[Line]) -> None:
        """Show new messages to the follows that have seen all before. The others read on."""
        for follow in self._follows:
            if not follow.show(lines):
                self.pump(follow)
        self._host.flush_soon(self)

    # --- Lists ------------------------------------------------------------------------------------

    def _start_list(self, items: AsyncIterator[Record], request_id: object) -> None:
        task = asyncio.get_running_loop().create_task(self._list(items, request_id))
        self._tasks[task] = None
        task.add_done_callback(self._list_ended)

    async def _list(self, items: AsyncIterator[Record], request_id: object) -> None:
        async with self._lists:
            end: Record = {"end": True}
            try:
                async for item in items:
                    if "end" in item:
                        end = item
                    else:
                        self._answer({"item": item}, request_id)
                    if len(self._output) >= OUTPUT_LINES:
                        self.flush()
                        await self._has_room.wait()
                self._answer({"ok": True, **end}, request_id)
            except FlcError as error:
                self._refuse(error, request_id)
            except StoreFailed as error:
                self._refuse(unreadable(error), request_id)
            self.flush()

    def _list_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        self._end_if_done()
        if not task.cancelled() and task.exception() is not None:
            self._host.broke(task.exception())

    # --- Output -----------------------------------------------------------------------------------

    def write(self, line: str) -> None:
        """Write one line, together with others, at the end of the turn."""
        self._output.append(line)

    def _answer(self, record: Record, request_id: object) -> None:
        if request_id is not None:
            record["id"] = request_id
        self._output.append(encode(record))

    def _refuse(self, error: FlcError, request_id: object) -> None:
        self._answer({"ok": False, "error": str(error), "hint": error.hint}, request_id)

    def flush(self) -> None:
        """Write what has gathered, in one write."""
        output, self._output = self._output, []
        if output and self._transport is not None and not self._transport.is_closing():
            output.append("")
            # Half a surrogate pair, which JSON can say and UTF-8 cannot, goes back as it came.
            self._transport.write("\n".join(output).encode(errors="backslashreplace"))

    # --- What it costs ----------------------------------------------------------------------------

    @property
    def follows(self) -> int:
        """How many follows there are."""
        return len(self._follows)

    def lags(self) -> list[int]:
        """How many messages each follow is behind."""
        return [follow.lag for follow in self._follows]

    @property
    def is_paused(self) -> bool:
        """Whether it is not read until its says are taken, or its answers are read."""
        return not self._reads

    @property
    def unread_bytes(self) -> int:
        """What was written for the other end, and has not been taken."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()
