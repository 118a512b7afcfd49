"""The control socket: NDJSON on a Unix socket, fit for `nc -U`; the CLI and bots talk here.

One JSON object a line in, one or more lines out, each with the request's `id`. Requests may be
pipelined. Answers come in order per op: says among says, lists among lists.

Rules. A bad line gets an error and the connection goes on. A publisher faster than the disk is not
read from until it is slower; a reader slower than its answers is not written for. What a connection
costs is bounded however it behaves.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

from flc_udp.core.effects import Deliver
from flc_udp.daemon.control.follow import Follow, Line, Own
from flc_udp.daemon.control.ops import Ops
from flc_udp.daemon.control.requests import LINE_BYTES_MAX, parse, unreadable
from flc_udp.daemon.control.says import Say, Says
from flc_udp.daemon.control.surplus import TurnedAway
from flc_udp.daemon.records import Record, encode
from flc_udp.daemon.shown import ShownCursor
from flc_udp.model.dots import Dot, Spans
from flc_udp.model.errors import FlcError, StoreFailed
from flc_udp.store.directory import give_to

SAYS_MAX = 2_048
"""Says of one connection that wait for their commit; beyond it the connection is not read."""

OUTPUT_BYTES_HIGH = 1 << 20
"""Answers not yet taken by the other end; beyond it followers and lists wait."""

FOLLOWS_MAX = 1_024
"""Follows of one connection."""

CONNECTIONS_MAX = 512

READ_AGAIN_S = 1.0
"""A follower that could not read the log tries again after so long."""


class Connection(asyncio.Protocol):
    """One client of the control socket."""

    def __init__(self, control: Control) -> None:
        self.own: Own = {}
        self.is_full = False
        self._control = control
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

    # --- asyncio.Protocol ---------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client came."""
        # A cast, because uvloop's transports do not inherit from asyncio's.
        self._transport = transport = cast("asyncio.Transport", transport)
        transport.set_write_buffer_limits(high=OUTPUT_BYTES_HIGH)
        if not self._control.admit(self):
            self._control.turned_away.add(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """It went; what it said goes its way all the same."""
        self._transport = None
        self._follows.clear()
        self._has_room.set()
        for task in self._tasks:
            task.cancel()
        self._control.dismiss(self)

    def pause_writing(self) -> None:
        """The other end does not read."""
        self.is_full = True
        self._has_room.clear()
        self._read_or_not()

    def resume_writing(self) -> None:
        """It does again: followers that lagged meanwhile read on."""
        self.is_full = False
        self._has_room.set()
        self._read_or_not()
        for follow in self._follows:
            self.pump(follow)

    def data_received(self, data: bytes) -> None:
        """Any number of lines, and parts of lines."""
        *lines, rest = data.split(b"\n")
        for line in lines:
            size = self._partial_bytes + len(line)
            if self._partial:
                line = b"".join((*self._partial, line))  # noqa: PLW2901  # the line made whole
                self._partial.clear()
            self._line(line, size)
            self._partial_bytes = 0
        self._partial_bytes += len(rest)
        if self._partial_bytes > LINE_BYTES_MAX:
            self._partial.clear()  # Its end is awaited, and then it is refused.
        elif rest:
            self._partial.append(rest)
        self.flush()

    def eof_received(self) -> bool:
        """No more is asked, as of `nc -N`: what was is answered first, but a follow has its end."""
        self._is_ending = not self._follows
        self._end_if_done()
        return self._is_ending

    def _end_if_done(self) -> None:
        if self._is_ending and not (self._says or self._tasks) and self._transport is not None:
            self.flush()
            self._transport.close()

    # --- Requests -----------------------------------------------------------------------------

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
        op = request.get("op")
        ops = self._control.ops
        if op == "say":
            self._say(request, request_id)
        elif op == "follow":
            self._follow(request, request_id)
        elif isinstance(op, str) and op in ops.answers:
            self._answer({"ok": True, **ops.answers[op](request)}, request_id)
        elif isinstance(op, str) and op in ops.lists:
            self._start_list(ops.lists[op](request), request_id)
        else:
            raise FlcError(f"unknown op {op!r}", f"known are: say, follow, {ops.names}")

    def _say(self, request: Record, request_id: object) -> None:
        say = Say(request_id, self._said, self.remember)
        self._says.append(say)
        try:
            self._control.says.begin(say, request)
        except FlcError as error:
            say.finish(error)
        self._read_or_not()

    def _said(self) -> None:
        """Some say has its answer: write those whose turn it is."""
        while self._says and self._says[0].answer is not None:
            say = self._says.popleft()
            if isinstance(say.answer, FlcError):
                self._refuse(say.answer, say.id)
            elif say.answer is not None:
                self._answer(say.answer, say.id)
        self._control.flush_soon(self)
        self._read_or_not()
        self._end_if_done()

    def _read_or_not(self) -> None:
        """Read on only while its says are taken and its answers are.

        Its share of what may wait is the whole's among all connections: many publishers are slowed
        as one is.
        """
        most = min(SAYS_MAX, self._control.says_max // self._control.count)
        wants = not self.is_full and len(self._says) < (most if self._reads else most // 2 + 1)
        if wants == self._reads or self._transport is None or self._transport.is_closing():
            return
        if self._is_ending:
            return  # There is nothing more to read.
        self._reads = wants
        (self._transport.resume_reading if wants else self._transport.pause_reading)()

    def remember(self, dot: Dot) -> None:
        """This connection said that."""
        self.own.setdefault(dot.log, Spans()).add(dot.seq)

    def _follow(self, request: Record, request_id: object) -> None:
        if len(self._follows) >= FOLLOWS_MAX:
            raise FlcError("too many follows", f"{FOLLOWS_MAX} a connection are allowed")
        room, position = self._control.ops.follow_from(request)
        tag = "" if request_id is None else f',"id":{encode(request_id)}'
        control = self._control
        follow = Follow(self, control.ops.reader, tag, room, position, control.shown)
        self._follows.append(follow)
        self.pump(follow)

    def pump(self, follow: Follow) -> None:
        """Let a lagging follower read on, a page each turn of the loop."""
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
        self._control.flush_soon(self)

    def _pump_again(self, follow: Follow) -> None:
        follow.is_pumping = False
        self.pump(follow)

    @property
    def follows(self) -> int:
        """How many rooms are followed here."""
        return len(self._follows)

    def lags(self) -> list[int]:
        """How many messages each follow is behind."""
        return [follow.lag for follow in self._follows]

    @property
    def is_paused(self) -> bool:
        """Whether it is not read from until its says are taken, or its answers."""
        return not self._reads

    @property
    def unread_bytes(self) -> int:
        """What was written for it and has not been taken."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def show(self, lines: Sequence[Line]) -> None:
        """New messages, for those follows that have seen all before; the others read on."""
        for follow in self._follows:
            if not follow.show(lines):
                self.pump(follow)
        self._control.flush_soon(self)

    # --- Lists --------------------------------------------------------------------------------

    def _start_list(self, items: Any, request_id: object) -> None:  # noqa: ANN401  # an async generator
        task = asyncio.get_running_loop().create_task(self._list(items, request_id))
        self._tasks[task] = None
        task.add_done_callback(self._list_ended)

    async def _list(self, items: Any, request_id: object) -> None:  # noqa: ANN401  # as above
        async with self._lists:
            end: Record = {}
            try:
                async for item in items:
                    if "end" in item:
                        end = item
                    else:
                        self._answer({"item": item}, request_id)
                    if len(self._output) >= 64:  # noqa: PLR2004  # a write for each would be dear
                        self.flush()
                        await self._has_room.wait()
                self._answer({"ok": True, **(end or {"end": True})}, request_id)
            except FlcError as error:
                self._refuse(error, request_id)
            except StoreFailed as error:
                self._refuse(unreadable(error), request_id)
            self.flush()

    def _list_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        self._end_if_done()
        if not task.cancelled() and task.exception() is not None:
            self._control.broke(task.exception())

    # --- Output -------------------------------------------------------------------------------

    def write(self, line: str) -> None:
        """One line, written with others at the end of the turn."""
        self._output.append(line)

    def _answer(self, record: Record, request_id: object) -> None:
        if request_id is not None:
            record["id"] = request_id
        self._output.append(encode(record))

    def _refuse(self, error: FlcError, request_id: object) -> None:
        self._answer({"ok": False, "error": str(error), "hint": error.hint}, request_id)

    def flush(self) -> None:
        """What has gathered goes out in one write."""
        output, self._output = self._output, []
        if output and self._transport is not None and not self._transport.is_closing():
            output.append("")
            # Half a surrogate pair, which JSON can say and UTF-8 cannot, goes back as it came.
            self._transport.write("\n".join(output).encode(errors="backslashreplace"))


class Control:
    """The server and its connections."""

    def __init__(
        self,
        ops: Ops,
        says: Says,
        shown: ShownCursor,
        says_max: int,
        broke: Callable[[BaseException | None], None],
    ) -> None:
        self.ops = ops
        self.shown = shown
        self.says_max = says_max
        """Says that may wait for their commit, over all connections."""
        self.says = says
        self.broke = broke
        self.turned_away = TurnedAway()
        self._connections: dict[Connection, None] = {}
        self._to_flush: dict[Connection, None] = {}
        self._server: asyncio.Server | None = None

    async def listen(self, path: Path, group: str) -> None:
        """Serve on a Unix socket that only its owner, and `group` if given, may use."""
        loop = asyncio.get_running_loop()
        # Made without rights for others: a moment between bind and chmod would be enough for them.
        before = os.umask(0o177)
        try:
            make = partial(Connection, self)
            self._server = await loop.create_unix_server(make, str(path), backlog=CONNECTIONS_MAX)
        finally:
            os.umask(before)
        if group:
            give_to(path, group)

    async def close(self) -> None:
        """No more clients; those that are here are told by the end of their stream."""
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.flush()
            if connection._transport is not None:  # noqa: SLF001  # its own file
                connection._transport.close()  # noqa: SLF001  # its own file

    @property
    def count(self) -> int:
        """How many connections there are, one at least."""
        return max(len(self._connections), 1)

    @property
    def connections(self) -> tuple[Connection, ...]:
        """All that are here now."""
        return tuple(self._connections)

    def show(self, deliver: Deliver) -> None:
        """New durable messages, for all who follow. Without any, followers read on from the log."""
        following = [connection for connection in self._connections if connection.follows]
        if not following:
            return
        lines = [Line(at, message) for at, message in enumerate(deliver.messages, deliver.position)]
        for connection in following:
            connection.show(lines)

    def admit(self, connection: Connection) -> bool:
        """Whether one more connection is taken."""
        if len(self._connections) >= CONNECTIONS_MAX:
            return False
        self._connections[connection] = None
        return True

    def dismiss(self, connection: Connection) -> None:
        """A connection ended."""
        self._connections.pop(connection, None)
        self._to_flush.pop(connection, None)

    def flush_soon(self, connection: Connection) -> None:
        """Write what a connection has gathered, once, when this turn of the loop is done."""
        if not self._to_flush:
            asyncio.get_running_loop().call_soon(self._flush_all)
        self._to_flush[connection] = None

    def _flush_all(self) -> None:
        connections, self._to_flush = self._to_flush, {}
        for connection in connections:
            connection.flush()
