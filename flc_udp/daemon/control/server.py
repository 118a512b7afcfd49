"""The control socket: NDJSON on a Unix socket, fit for `nc -U`. The CLI and bots talk here.

A request is one line with one JSON object. Its answer is one or more lines, each with the request's
`id`. Requests may be pipelined. Answers come in order for each op: says among says, lists among
lists.

Rules. A bad line gets an error, and the connection goes on. Whoever sends much at once has its
lines done in turns, beside those of others. A client that says more than the disk takes is not read
until it is slower. A client that does not read its answers gets no more of them until it does. So
what a connection costs is bounded, however it behaves.
"""

import asyncio
import resource
import select
import socket
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial
from typing import cast

from flc_udp.core.effects import Deliver
from flc_udp.daemon.control.follow import Follow, NewLines, Own
from flc_udp.daemon.control.held import HELD_BYTES_MAX, LINE_BYTES_FREE, SentLines
from flc_udp.daemon.control.operations import Operations
from flc_udp.daemon.control.requests import parse, tag_of, tagged, told
from flc_udp.daemon.control.says import RefusedSay, SayRequest, SayRequests
from flc_udp.daemon.control.surplus import LINGERING_MAX, TurnedAway
from flc_udp.daemon.control.turns import Turns
from flc_udp.daemon.patient import PatientReader
from flc_udp.model.dots import LogId, Spans
from flc_udp.model.errors import FlcError, StoreFailed
from flc_udp.wire.message_json import Record

CONNECTIONS_MAX = 512
"""At most this many clients are served at a time."""

DESCRIPTORS_KEPT = 32
"""So many of the descriptors that the process may have are for the node itself, its database, its
hooks, and clients that are told that there are too many."""

CLIENTS_LEAST = 8
"""A node that could serve fewer clients at a time does not begin."""

DESCRIPTORS_LEAST = DESCRIPTORS_KEPT + CLIENTS_LEAST

SAYS_MAX = 2_048
"""When this many messages of one connection wait for their commit, its lines wait."""

LISTS_MAX = 64
"""When this many lists of one connection wait for their turn, its lines wait."""

OUTPUT_BYTES_HIGH = 1 << 20
"""When the other end has not taken this much, followers and lists wait."""

OUTPUT_BYTES = 1 << 16
"""When this much has gathered it is written, even in the middle of a turn: only then is it known
whether the other end takes it."""

LOOK_S = 1.0
"""While answers wait for a client that asks no more, it is looked for this often."""

OWN_RANGES_MAX = 4_096
"""Of what was said over a connection so many stretches of the log are remembered, the last ones.
Where others speak in between, each say is a stretch."""

FOLLOWS_MAX = 1_024
"""One connection may have this many follows."""


class ControlConnection(asyncio.Protocol):
    """One client."""

    def __init__(self, host: "Control") -> None:
        self.own: Own = {}
        self.reads = True
        """False until its says are taken, or its answers are read."""
        self.paused_at_s = 0.0
        """When that began."""
        self.follows: list[Follow] = []
        self._host = host
        self._is_ending = self._is_gone = False
        self._transport: asyncio.Transport
        self._is_read = True
        """False also while lines wait for their turn."""
        self._lines = SentLines(host.says.held)
        self._says: deque[SayRequest | RefusedSay] = deque()
        """In the order of their answers."""
        self._unanswered = self._unanswered_bytes = 0
        """Messages of the says that wait, and what they take in memory."""
        self._lists: deque[tuple[str, AsyncIterator[Record], bytes]] = deque()
        """Those that wait for their turn: (op, items, tag)."""
        self._listing: asyncio.Task[None] | None = None
        self._output = bytearray()
        self._has_room = asyncio.Event()
        self._has_room.set()

    # --- asyncio.Protocol -------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client came."""
        # A cast, because uvloop's transports do not inherit from asyncio's.
        self._transport = transport = cast("asyncio.Transport", transport)
        transport.set_write_buffer_limits(high=OUTPUT_BYTES_HIGH)
        self._host.admit(self, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client went. What it said goes its way all the same."""
        self._is_ending = self._is_gone = True
        self._has_room.clear()
        self.follows.clear()
        self._lists.clear()
        if self._listing is not None:
            self._listing.cancel()
        for say in self._says:
            if isinstance(say, SayRequest):
                self._host.says.gone(say)
        self._host.dismiss(self)
        self._host.turns.soon(self)

    def pause_writing(self) -> None:
        """The other end does not read."""
        self._has_room.clear()
        self._read_or_not()

    def resume_writing(self) -> None:
        """The other end reads again. Followers that fell behind meanwhile read on."""
        self._has_room.set()
        self._read_or_not()
        for follow in tuple(self.follows):
            follow.pump()

    def failed(self, follow: Follow, error: Exception) -> None:
        """A follow came to something that nobody expected: it ends, and its reader is told."""
        if follow in self.follows:
            self.follows.remove(follow)
        self._refuse(self._host.failed("follow", error), follow.tag)

    def data_received(self, data: bytes) -> None:
        """Any number of lines and parts of lines came."""
        self._lines.add(data)
        self._host.turns.soon(self)

    def eof_received(self) -> bool:
        """The client asks no more, as `nc -N`. Answer what it asked; a follow ends at once."""
        self._is_ending = True
        self._host.turns.soon(self)
        return not self._transport.is_closing()

    def do_lines(self, until_s: float) -> None:
        """Do lines until then, one at least, and ask for another turn where it has more."""
        while self._lines.wait and self._may_go_on():
            self._line(self._lines.next)
            if time.monotonic() >= until_s:
                break
        if self._is_ending and not self._lines.wait:
            self._end_asking()
        self.settle()

    def _end_asking(self) -> None:
        if self._is_gone:
            self._lines.drop()
            return
        if self._lines.has_begun:
            self._line(self._lines.last)  # The last line needs no newline.
        self.follows.clear()
        self._end_if_gone()

    def _end_if_gone(self) -> None:
        """Look now and then whether anybody is there for the answers: no event would tell."""
        if self._transport.is_closing():
            return
        if is_hung_up(self._transport.get_extra_info("socket").fileno()):
            self.abort()
        else:
            asyncio.get_running_loop().call_later(LOOK_S, self._end_if_gone)

    def _end_if_done(self) -> None:
        if self._is_ending and not (self._lines.wait or self._says or self._listing):
            self.close()

    def abort(self) -> None:
        """End the connection at once."""
        self._transport.abort()

    def close(self) -> None:
        """Write what has gathered, and end the connection."""
        self.flush()
        self._transport.close()

    # --- Requests ---------------------------------------------------------------------------------

    def _line(self, give: Callable[[], bytes | None]) -> None:
        tag, op = b"", "a line"
        try:
            if (line := give()) is None:
                return
            request = parse(line)
            tag, op = tag_of(request), str(request.get("op"))
            self._do(request, tag, len(line))
        except Exception as error:  # noqa: BLE001  # a request fails alone
            self._refuse(self._host.failed(op, error), tag)

    def _do(self, request: Record, tag: bytes, size_bytes: int) -> None:
        op, operations = request.get("op"), self._host.operations
        match op:
            case "say":
                self._say(request, tag, size_bytes)
            case _ if self._is_gone:
                pass  # Nobody is there for an answer.
            case "follow":
                self._follow(request, tag)
            case str() if op in operations.answers:
                self._answer({"ok": True, **operations.answers[op](request)}, tag)
            case str() if op in operations.lists:
                self._start_list(op, operations.lists[op](request), tag)
            case _:
                known = ", ".join(("say", "follow", *operations.answers, *operations.lists))
                raise FlcError(f"unknown op {op!r}", f"known are: {known}")

    def _say(self, request: Record, tag: bytes, size_bytes: int) -> None:
        say: SayRequest | RefusedSay
        try:
            say = self._host.says.request(self, request, tag, size_bytes)
            if self._is_gone:
                self._host.says.gone(say)
        except Exception as error:  # noqa: BLE001  # a request fails alone
            say = RefusedSay(tagged({"ok": False, **told(self._host.failed("say", error))}, tag))
        self._says.append(say)
        self._unanswered += len(say.requested)
        self._unanswered_bytes += say.size_bytes

    def _answer_says(self) -> None:
        """Write the answers of says whose turn it is."""
        while self._says and (answer := self._says[0].answer) is not None:
            say = self._says.popleft()
            self._unanswered -= len(say.requested)
            self._unanswered_bytes -= say.size_bytes
            self._put(answer)

    def _may_go_on(self) -> bool:
        """Whether the client's says are taken, and its answers are read if it is there."""
        # Once it is not read, half of its says must have been taken before it is read again.
        return (
            (self._is_gone or not self.is_full)
            and len(self._lists) < LISTS_MAX
            and self._host.says_few(
                self._unanswered, self._unanswered_bytes, 1 if self.reads else 2
            )
        )

    def _read_or_not(self) -> None:
        """Do its lines and read on, or wait."""
        wants = self._may_go_on() or (self._is_ending and not self._lines.wait)
        if self.reads and not wants:
            self.paused_at_s = time.monotonic()
        self.reads = wants
        if wants and self._lines.wait:
            self._host.turns.soon(self)
        wants &= not self._lines.wait
        if wants == self._is_read or self._transport.is_closing() or self._is_ending:
            return  # When it is ending, there is nothing more to read.
        self._is_read = wants
        if wants:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def remember(self, log: LogId, low: int, high: int) -> None:
        """These messages were said over this connection."""
        spans = self.own.setdefault(log, Spans())
        spans.add(low, high)
        spans.keep_last(OWN_RANGES_MAX)

    # --- Follows ----------------------------------------------------------------------------------

    def _follow(self, request: Record, tag: bytes) -> None:
        if len(self.follows) >= FOLLOWS_MAX:
            raise FlcError("too many follows", f"{FOLLOWS_MAX} a connection are allowed")
        operations = self._host.operations
        reader, ground = operations.reader, operations.ground
        room, position = operations.follow_from(request)
        follow = Follow(
            self, PatientReader(reader), ground, room, position, tag, catches_up_at=ground.shown
        )
        self.follows.append(follow)
        follow.pump()

    def show(self, new: NewLines) -> None:
        """Show new messages to the follows that have seen all before. The others read on."""
        for follow in tuple(self.follows):
            follow.show(new)
        if self._output:
            self._host.flush_soon(self)

    # --- Lists ------------------------------------------------------------------------------------

    def _start_list(self, op: str, items: AsyncIterator[Record], tag: bytes) -> None:
        self._lists.append((op, items, tag))
        if self._listing is None:
            self._listing = asyncio.get_running_loop().create_task(self._list_all())

    async def _list_all(self) -> None:
        """Write one list after another."""
        while self._lists:
            op, items, tag = self._lists.popleft()
            await self._has_room.wait()
            try:
                async for item in items:
                    self._answer({"ok": True, **item} if "end" in item else {"item": item}, tag)
                    await self._has_room.wait()
            except Exception as error:  # noqa: BLE001  # a request fails alone
                self._refuse(self._host.failed(op, error), tag)
            self.flush()
            self._read_or_not()
            await asyncio.sleep(0)  # Other work has a turn, however many lists wait.
        self._listing = None  # Here and not later: a list that comes now begins another task.
        self._end_if_done()

    # --- Output -----------------------------------------------------------------------------------

    def write(self, line: bytes) -> None:
        """Write one line, together with others, at the end of the turn."""
        self._put(line)
        if len(self._output) > OUTPUT_BYTES:
            self.flush()

    def _put(self, line: bytes) -> None:
        self._output += line
        self._output += b"\n"

    def _answer(self, record: Record, tag: bytes) -> None:
        self.write(tagged(record, tag))

    def _refuse(self, error: FlcError | StoreFailed, tag: bytes) -> None:
        self._answer({"ok": False, **told(error)}, tag)

    def flush_soon(self) -> None:
        """Write what has gathered, once, when this turn of the loop is done."""
        self._host.flush_soon(self)

    def settle(self) -> None:
        """A turn of the loop is done: write what has gathered, and see how the client goes on."""
        self.flush()
        self._read_or_not()
        self._end_if_done()

    def flush(self) -> None:
        """Write what has gathered, in one write."""
        self._answer_says()
        output, self._output = self._output, bytearray()
        if output and not self._transport.is_closing():
            self._transport.write(output)

    @property
    def is_full(self) -> bool:
        """Whether the other end does not read what it asked for, or has gone."""
        return not self._has_room.is_set()

    @property
    def unread_bytes(self) -> int:
        """What was written for the other end, and has not been taken."""
        return self._transport.get_write_buffer_size()


def is_hung_up(descriptor: int) -> bool:
    """Whether the other end of a socket is closed, and not only its way to us."""
    look = select.poll()
    look.register(descriptor, 0)  # POLLHUP is always told.
    return any(events & select.POLLHUP for _, events in look.poll(0))


@dataclass(eq=False)
class Control:
    """The server and its connections."""

    operations: Operations
    says: SayRequests
    says_max: int
    """How many messages of all clients may wait for their commit before clients are slowed."""

    def __post_init__(self) -> None:
        """Nobody is here yet."""
        ground = self.operations.ground
        self.failed = ground.failures.of_request
        self._part_failed = ground.failures.of_part
        self.turns = Turns(ground.failures.of_part)
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        spare = CONNECTIONS_MAX if limit == resource.RLIM_INFINITY else limit - DESCRIPTORS_KEPT
        self._connections_max = max(min(spare, CONNECTIONS_MAX), CLIENTS_LEAST)
        self.turned_away = TurnedAway(min(self._connections_max // 8, LINGERING_MAX))
        self._connections: dict[ControlConnection, None] = {}
        self._to_flush: dict[ControlConnection, None] = {}
        self._server: asyncio.Server | None = None

    async def listen(self, bound: socket.socket) -> None:
        """Serve on a Unix socket, and no more on the one before."""
        before = self._server
        loop, make = asyncio.get_running_loop(), partial(ControlConnection, self)
        self._server = await loop.create_unix_server(make, sock=bound, backlog=CONNECTIONS_MAX)
        if before is not None:
            before.close()

    async def close(self) -> None:
        """Take no more clients. Those that are here see the end of their stream."""
        if self._server is not None:
            self._server.close()
        self.turns.stop()
        for connection in tuple(self._connections):
            connection.close()

    def says_few(self, messages: int, size_bytes: int, part: int) -> bool:
        """Whether so much of one connection may wait, so that many are slowed as one is.

        It may be as much as its share, or a `part` of that.
        """
        share = max(len(self._connections), 1) * part
        return messages <= min(SAYS_MAX // part, self.says_max // share) and (
            size_bytes <= max(HELD_BYTES_MAX // share, LINE_BYTES_FREE)
        )

    def slowed_s(self) -> float:
        """For how long a client has not been read because its says wait; 0 where there is none."""
        waiting = (client for client in self._connections if not (client.reads or client.is_full))
        began_s = min((client.paused_at_s for client in waiting), default=None)
        return 0.0 if began_s is None else time.monotonic() - began_s

    def figures(self) -> dict[str, int]:
        """What the clients cost, and what they wait for, added up over all of them."""
        here, node = self._connections, self.operations.ground.node
        lags = [follow.lag for client in here for follow in client.follows]
        return {
            "connections": len(here),
            # Clients that do not read what they asked for. The node writes nothing more for them.
            "blocked": sum(client.is_full for client in here),
            # Clients that ask faster than the node can do it. It does not read from them meanwhile.
            "paused": sum(not client.reads for client in here),
            # Bytes of answers and messages in memory that clients have not read yet.
            "unread_bytes": sum(client.unread_bytes for client in here),
            # Bytes of requests in memory: parts of lines, and says that are not answered.
            "held_bytes": self.says.held.used_bytes,
            # Lines and says that were refused because too much was held, since the daemon began.
            "held_refused": self.says.held.refused,
            "follows": len(lags),
            # Follows that have not seen everything that is shown. They read on from the log.
            "lagging": sum(lag > 0 for lag in lags),
            # How many messages the furthest is behind, over all rooms and with pruned messages.
            "lag_max": max(lags, default=0),
            # Says that are durable here, and wait for the disks of other nodes.
            "waiting_for_others": len(node.waits),
            # Clients that were refused because there were too many, since the daemon began.
            "turned_away": self.turned_away.count,
        }

    def show(self, deliver: Deliver) -> None:
        """Show new messages to all who follow. Without any, followers read on from the log."""
        new = NewLines(deliver)
        for connection in tuple(self._connections):
            connection.show(new)

    def admit(self, connection: ControlConnection, transport: asyncio.Transport) -> None:
        """Take one more connection, or turn it away."""
        if len(self._connections) >= self._connections_max:
            self.turned_away.add(transport)
        else:
            self._connections[connection] = None

    def dismiss(self, connection: ControlConnection) -> None:
        """A connection ended."""
        self._connections.pop(connection, None)
        self._to_flush.pop(connection, None)

    def flush_soon(self, connection: ControlConnection) -> None:
        """Write what a connection has gathered, once, when this turn of the loop is done."""
        if not self._to_flush:
            asyncio.get_running_loop().call_soon(self.flush_all)
        self._to_flush[connection] = None

    def flush_all(self) -> None:
        """Write what all connections have gathered."""
        connections, self._to_flush = self._to_flush, {}
        for connection in connections:
            try:
                connection.settle()
            except Exception as error:  # noqa: BLE001  # a client fails alone
                self._part_failed("a client", error)
                connection.abort()
