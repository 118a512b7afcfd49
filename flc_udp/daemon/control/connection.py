"""One client of the control socket: its lines, and in their order the answers to what it says.

Rules. A bad line gets an error, and the connection goes on. Whoever sends much at once has its
lines done in turns, beside those of others. A client that says more than the disk takes is not read
until it is slower. A client that does not read its answers gets no more of them until it does. So
what a connection costs is bounded, however it behaves.
"""

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import Protocol, cast

from flc_udp.daemon.control.follow import Follow, NewLines, Own
from flc_udp.daemon.control.held import SentLines
from flc_udp.daemon.control.lists import Lists
from flc_udp.daemon.control.operations import Operations
from flc_udp.daemon.control.output import ClientOutput
from flc_udp.daemon.control.reads import ReadTurns
from flc_udp.daemon.control.requests import parse, tag_of, tagged, told
from flc_udp.daemon.control.says import RefusedSay, SayRequest, SayRequests, WaitingSays
from flc_udp.daemon.control.turns import Turns
from flc_udp.daemon.patient import PatientReader
from flc_udp.model.dots import LogId, Spans
from flc_udp.model.errors import FlcError, StoreFailed
from flc_udp.model.visible import brief
from flc_udp.wire.message_json import Record

LOOK_S = 1.0
"""While answers wait for a client that asks no more, it is looked for this often."""

OWN_RANGES_MAX = 4_096
"""Of what was said over a connection so many spans of the log are remembered, the last ones.
Where others speak in between, each say is a span of its own."""

FOLLOWS_MAX = 1_024
"""One connection may have this many follows."""


class Host(Protocol):
    """What all clients share: `server.Control`."""

    operations: Operations
    says: SayRequests
    turns: Turns
    reads: ReadTurns

    def failed(self, op: str, error: Exception) -> FlcError | StoreFailed:
        """A request failed. Return what its client is told."""

    def says_few(self, messages: int, size_bytes: int, part: int) -> bool:
        """Whether so much of one connection may wait."""

    def admit(self, connection: "ControlConnection", transport: asyncio.Transport) -> None:
        """Take one more connection, or turn it away."""

    def dismiss(self, connection: "ControlConnection") -> None:
        """A connection ended."""

    def flush_soon(self, connection: "ControlConnection") -> None:
        """Write what a connection has gathered, when this turn of the loop is done."""


class ControlConnection(asyncio.Protocol):
    """One client."""

    def __init__(self, host: Host) -> None:
        self.own: Own = {}
        self.reads = True
        """False until its says are taken, or its answers are read."""
        self.paused_at_s = 0.0
        """When that began."""
        self.follows: list[Follow] = []
        self._host = host
        self._is_ending = self._is_gone = False
        self._transport: asyncio.Transport
        self._output: ClientOutput
        self._is_read = True
        """False also while lines wait for their turn."""
        self._lines = SentLines(host.says.held)
        self._says = WaitingSays()
        self.lists = Lists(self, host.reads)

    # --- asyncio.Protocol -------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client came."""
        # A cast, because uvloop's transports do not inherit from asyncio's.
        self._transport = transport = cast("asyncio.Transport", transport)
        self._output = ClientOutput(transport)
        self._host.admit(self, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client went. What it said goes its way all the same."""
        self._is_ending = self._is_gone = True
        self._output.pause()
        self.follows.clear()
        self.lists.stop()
        self._host.reads.forget(self)
        for say in self._says.requests():
            self._host.says.gone(say)
        self._host.dismiss(self)
        self._host.turns.soon(self)

    def pause_writing(self) -> None:
        """The other end does not read."""
        self._output.pause()
        self._read_or_not()

    def resume_writing(self) -> None:
        """The other end reads again. Followers that fell behind meanwhile read on."""
        self._output.go_on()
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
        if self._output.is_hung_up():
            self.abort()
        else:
            asyncio.get_running_loop().call_later(LOOK_S, self._end_if_gone)

    def _end_if_done(self) -> None:
        if self._is_ending and not (self._lines.wait or self._says or self.lists):
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
            case str() if op in operations.answers:
                # It may change something, so it is also done for a client that went meanwhile.
                self.answer({"ok": True, **operations.answers[op](request)}, tag)
            case "keys":
                self.lists.add("keys", operations.keys_listing(request), tag)
            case _ if self._is_gone:
                pass  # Nobody is there for a list.
            case "follow":
                self._follow(request, tag)
            case str() if op in operations.lists:
                self.lists.add(op, partial(operations.lists[op], request), tag)
            case _:
                known = ", ".join(("say", "follow", *operations.answers, *operations.lists))
                raise FlcError(f"unknown op {brief(op)}", f"known are: {known}")

    def _say(self, request: Record, tag: bytes, size_bytes: int) -> None:
        say: SayRequest | RefusedSay
        try:
            say = self._host.says.request(self, request, tag, size_bytes)
            if self._is_gone:
                self._host.says.gone(say)
        except Exception as error:  # noqa: BLE001  # a request fails alone
            say = RefusedSay(tagged({"ok": False, **told(self._host.failed("say", error))}, tag))
        self._says.add(say)

    def _may_go_on(self) -> bool:
        """Whether the client's says are taken, and its answers are read if it is there."""
        # Once it is not read, half of its says must have been taken before it is read again.
        return (
            (self._is_gone or not self.is_full)
            and not self.lists.are_many
            and self._host.says_few(
                self._says.messages, self._says.size_bytes, 1 if self.reads else 2
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

    async def has_room(self) -> None:
        """Wait until the other end has read enough."""
        await self._output.has_room()

    def list_failed(self, op: str, error: Exception, tag: bytes) -> None:
        """The list ends with this."""
        self._refuse(self._host.failed(op, error), tag)

    def listed(self) -> None:
        """A list has ended."""
        self.settle()

    # --- Output -----------------------------------------------------------------------------------

    def write(self, line: bytes) -> None:
        """Write one line, together with others, at the end of the turn."""
        self._output.put(line)

    def answer(self, record: Record, tag: bytes) -> None:
        """Write one line of an answer."""
        self._output.put(tagged(record, tag))

    def _refuse(self, error: FlcError | StoreFailed, tag: bytes) -> None:
        self.answer({"ok": False, **told(error)}, tag)

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
        for answer in self._says.answers():
            self._output.put(answer)
        self._output.flush()

    def read_soon(self, read: Callable[[], None]) -> None:
        """Call this when it is this connection's turn to read from the log."""
        self._host.reads.soon(self, read)

    def limit(self, share_bytes: int) -> None:
        """The other end may leave so much unread."""
        self._output.limit(share_bytes)

    @property
    def share_bytes(self) -> int:
        """How much the other end may leave unread."""
        return self._output.share_bytes

    @property
    def is_full(self) -> bool:
        """Whether the other end does not read what it asked for, or has gone."""
        return self._output.is_full

    @property
    def unread_bytes(self) -> int:
        """What was written for the other end, and has not been taken."""
        return self._output.unread_bytes
