"""The client of a node's control socket: what the command line, bots and benchmarks speak through.

Promise: requests are pipelined on one connection and answered by id, a turn's worth of them is one
write, and nothing here grows without limit.

    client = await Client.connect("/run/flc/control.sock")
    said = await client.say("ops", "hello", author="ann")   # durable on the node's disk now
    async for shown in client.follow("ops", last=10):
        print(shown.message["author"], shown.message["body"])

Rules. An answer is a future, resolved where the line is read: no task a message. Who reads a follow
slowly stops the reading of the socket, and so the daemon; but never while an answer is awaited, or
one who says something between two messages would wait for ever. A follow ends with its connection.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Literal, NamedTuple, Self, TypedDict, Unpack, cast

from flc_udp.model.errors import FlcError

Record = dict[str, Any]
"""One JSON object of the control socket, without the `id` it was matched by."""

REQUEST_BYTES_MAX = 8 << 20
"""A line the daemon reads."""

ANSWER_BYTES_MAX = 32 << 20
"""A line of the daemon's: a largest message whose every byte is escaped, and its causes."""

UNREAD_CHARS_MAX = 1 << 20
"""Of records that nobody has taken yet; beyond it the socket is not read."""

FLUSH_REQUESTS = 64
"""Requests collected in one turn; with more they are written before it ends."""

SOCKET_PATH_BYTES_MAX = 107
"""What fits sockaddr_un on Linux, before its final zero."""

compact = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
"""One record as JSON without spaces, UTF-8 unescaped: how lines look on the socket and stdout."""


class DaemonGoneError(FlcError):
    """The connection ended. What was asked and not answered may or may not have been done."""


class SayOptions(TypedDict, total=False):
    """`author` left out is the node's name; `once` is a client's name and a rising number."""

    author: str | None
    wait: int | Literal["all"] | None
    timeout: float | None
    once: tuple[str, int] | None


class Said(NamedTuple):
    """A message that is durable: its dot, its position here (None: pruned), who holds it too."""

    dot: str
    position: int | None
    held_by: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    timed_out: bool = False


class Shown(NamedTuple):
    """A message as a follower sees it; `own` was said over this same connection."""

    message: Record
    position: int
    own: bool


class Stream:
    """The records of one list or follow, in order, as they come."""

    def __init__(self, taken: Callable[[], None]) -> None:
        self.end: Record = {}
        """The record that closed the list."""
        self.ended = False
        self.chars = 0
        self._taken = taken
        self._records: list[Record] = []
        self._error: FlcError | None = None
        self._arrival: asyncio.Future[None] | None = None

    async def batch(self) -> list[Record]:
        """All records that are here, waiting for the first; [] once the list has ended.

        Raises FlcError where the daemon refused or has gone away. One reader at a time.
        """
        while not self._records and not self.ended:
            self._arrival = asyncio.get_running_loop().create_future()
            await self._arrival
        records, self._records, self.chars = self._records, [], 0
        self._taken()
        if not records and self._error is not None:
            raise self._error
        return records

    async def __aiter__(self) -> AsyncIterator[Record]:
        while batch := await self.batch():
            for record in batch:
                yield record

    def feed(self, record: Record, chars: int) -> None:
        """Take one record, of `chars` characters."""
        if record.get("ok") is False:
            return self.close(_refusal(record))
        if record.get("end"):
            self.end = record
            return self.close()
        self._records.append(record)
        self.chars += chars
        return _wake(self._arrival)

    def close(self, error: FlcError | None = None) -> None:
        """No more will come."""
        self.ended, self._error = True, error
        _wake(self._arrival)


class Client(asyncio.Protocol):
    """One connection to a daemon. Made by `connect`; also an async context manager."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._closed = self._loop.create_future()
        self._gone: DaemonGoneError | None = None
        self._last_id = 0
        self._answers: dict[int, tuple[asyncio.Future[Any], Callable[[Record], object]]] = {}
        self._streams: dict[int, Stream] = {}
        self._out: list[bytes] = []
        self._writable = True
        self._progress: asyncio.Future[None] | None = None
        self._partial = b""
        self._paused = False

    @classmethod
    async def connect(cls, path: str | os.PathLike[str]) -> Self:
        """Reach the daemon behind the socket at `path`; raises FlcError saying what is wrong."""
        client = cls(os.fspath(path))
        try:
            with socket_address(client.path) as address:
                await client._loop.create_unix_connection(lambda: client, address)
        except OSError as error:
            problem = f"no daemon answers at {client.path}: {error.strerror or error}"
            hint = "start one: flc run; of one that runs, be the user or in its --control-group"
            raise FlcError(problem, hint) from error
        return client

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Send what is still here and end the connection; open requests fail."""
        self._flush()
        self._transport.close()
        await asyncio.shield(self._closed)

    def say_nowait(
        self, room: str, body: str | bytes, **options: Unpack[SayOptions]
    ) -> asyncio.Future[Said]:
        """Say without waiting; the future has the dot, or FlcError. `drain` holds back the rest."""
        text = body if isinstance(body, str) else {"base64": base64.b64encode(body).decode()}
        named = {"as" if name == "author" else name: value for name, value in options.items()}
        return self._ask({"op": "say", "room": room, "body": text, **_given(named)}, _said)

    async def say(self, room: str, body: str | bytes, **options: Unpack[SayOptions]) -> Said:
        """Say `body`, wait until it is durable; with `wait` on others too, at most `timeout` s."""
        return await self.say_nowait(room, body, **options)

    def follow(
        self,
        room: str | None = None,
        *,
        position: int | None = None,
        dot: str | None = None,
        last: int | None = None,
    ) -> AsyncIterator[Shown]:
        """Messages as this node shows them: after `position`, or the `last` N, else only new ones.

        `room` None is all rooms; `dot` is what stood at `position`. Asked for now, not at `anext`.
        """
        options = _given({"from": position, "dot": dot, "last": last})
        return _shown(self.stream("follow", room=room, **options))

    def log(self, room: str | None = None, *, n: int = 0, since: str | None = None) -> Stream:
        """The converged history, oldest first: the last `n` messages, 0 for all."""
        return self.stream("log", room=room, n=n, since=since, clock=False, positions=False)

    async def rooms(self) -> list[Record]:
        """Each room, with how much was said in it."""
        return await self.listed("rooms")

    async def members(self) -> list[Record]:
        """Each member this node knows, itself too."""
        return await self.listed("members")

    async def status(self) -> Record:
        """How the node is: `healthy`, `reasons`, counters."""
        return await self.request("status")

    async def digest(self) -> Record:
        """`root`, `members_root`, `logs`, `messages`: equal roots are equal histories."""
        return await self.request("digest")

    async def why(self, dot: str, other: str | None = None) -> Record:
        """`message`, `causes` and `clock` of a dot; of two, their `order` by causality alone."""
        return await self.request("why", dot=dot, other=other)

    async def leave(self) -> None:
        """Ask the node to leave the cluster; returns when its daemon has ended the connection."""
        with suppress(DaemonGoneError):  # it may be quicker to end than to answer
            await self.request("leave")
        await asyncio.shield(self._closed)

    async def request(self, op: str, **arguments: object) -> Record:
        """Ask for one record; raises FlcError with the daemon's words where it refuses."""
        return cast("Record", await self._ask({"op": op, **arguments}, dict))

    def stream(self, op: str, **arguments: object) -> Stream:
        """Ask for a list or a follow: its lines as the daemon sends them."""
        stream = self._streams[self._send({"op": op, **arguments})] = Stream(self._regulate)
        return stream

    async def listed(self, op: str, **arguments: object) -> list[Record]:
        """Ask for a list that is short enough to be held as a whole."""
        return [record["item"] async for record in self.stream(op, **arguments)]

    async def drain(self, in_flight_max: int = 4096) -> None:
        """Wait until no more requests than that are unanswered and the socket takes more."""
        if len(self._out) >= FLUSH_REQUESTS:  # or a tight loop would collect without limit
            self._flush()
        while self._gone is None:
            if self._writable and len(self._answers) <= in_flight_max:
                return
            if self._progress is None or self._progress.done():
                self._progress = self._loop.create_future()
            await self._progress
        raise self._gone

    def _ask(self, request: Record, convert: Callable[[Record], object]) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = self._loop.create_future()
        self._answers[self._send(request)] = (future, convert)
        self._regulate()
        return future

    def _send(self, request: Record) -> int:
        if self._gone is not None:
            raise self._gone
        self._last_id += 1
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(_line({**request, "id": self._last_id}))
        return self._last_id

    def _flush(self) -> None:
        if self._out and not self._transport.is_closing():
            self._transport.write(b"".join(self._out))
        self._out.clear()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is ours."""
        # A cast, because uvloop's transports do not inherit from asyncio's.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Read the whole lines; what is cut off waits for its rest."""
        lines, newline, self._partial = (self._partial + data).rpartition(b"\n")
        if len(self._partial) > ANSWER_BYTES_MAX:
            return self._break("a line longer than any answer")
        if not newline:
            return None
        try:
            for line in lines.decode().split("\n"):
                self._answer(json.loads(line), len(line))
        except (ValueError, LookupError, TypeError, AttributeError):
            self._break("a line that is no answer")
        self._regulate()
        return _wake(self._progress)

    def pause_writing(self) -> None:
        """The daemon reads slower than we write."""
        self._writable = False

    def resume_writing(self) -> None:
        """It has caught up."""
        self._writable = True
        _wake(self._progress)

    def connection_lost(self, error: Exception | None) -> None:
        """Fail what is open."""
        problem = f"the daemon at {self.path} has gone away"
        self._gone = self._gone or DaemonGoneError(problem, "its log says why; start it: flc run")
        self._refuse_all(self._gone)
        _wake(self._progress)
        self._closed.set_result(None)

    def _answer(self, record: Record, chars: int) -> None:
        number = record.pop("id", None)
        if (stream := self._streams.get(number)) is not None:
            stream.feed(record, chars)
            if stream.ended:
                del self._streams[number]
        elif (waiting := self._answers.get(number)) is not None:
            future, convert = waiting
            # Who asked has been cancelled: by Ctrl-C it may be between any two lines.
            with suppress(asyncio.InvalidStateError):
                if record.pop("ok", None) is True:
                    future.set_result(convert(record))
                else:
                    future.set_exception(_refusal(record))
            del self._answers[number]
        elif record.get("ok") is False:
            # It could not even read whose line it was, so nobody's answer is certain to come.
            self._refuse_all(_refusal(record))

    def _refuse_all(self, error: FlcError) -> None:
        answers, self._answers = self._answers, {}
        streams, self._streams = self._streams, {}
        for future, _convert in answers.values():
            if not future.done():
                future.set_exception(error)
                future.exception()  # so that nobody has to have waited for it
        for stream in streams.values():
            stream.close(error)

    def _break(self, what: str) -> None:
        problem = f"the daemon at {self.path} sent {what}"
        self._gone = DaemonGoneError(problem, "is it of another version? see flc --version")
        self._transport.abort()

    def _regulate(self) -> None:
        """Read on only while records are taken, or an answer is awaited."""
        full = not self._answers and sum(s.chars for s in self._streams.values()) > UNREAD_CHARS_MAX
        if full != self._paused and not self._transport.is_closing():
            self._paused = full
            (self._transport.pause_reading if full else self._transport.resume_reading)()


async def _shown(stream: Stream) -> AsyncIterator[Shown]:
    async for record in stream:
        if "message" in record:
            yield Shown(record["message"], record["position"], record["own"])


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)


def _said(record: Record) -> Said:
    held_by, missing = tuple(record.get("held_by", ())), tuple(record.get("missing", ()))
    return Said(record["dot"], record["position"], held_by, missing, bool(record.get("timeout")))


def _given(options: Record) -> Record:
    return {name: value for name, value in options.items() if value is not None}


def _refusal(record: Record) -> FlcError:
    return FlcError(str(record.get("error", "refused")), str(record.get("hint", "see its log")))


def _line(request: Record) -> bytes:
    try:
        line = compact(request).encode() + b"\n"
    except UnicodeEncodeError as error:
        raise FlcError("text that is not valid Unicode", "say it as bytes") from error
    if len(line) > REQUEST_BYTES_MAX:
        problem = f"a request of {len(line)} bytes, allowed are {REQUEST_BYTES_MAX}"
        raise FlcError(problem, "say less at once")
    return line


@contextmanager
def socket_address(path: str) -> Iterator[str]:
    """A spelling of `path` that fits a socket address, however long it is."""
    if len(os.fsencode(path)) <= SOCKET_PATH_BYTES_MAX:
        yield path
        return
    directory, name = os.path.split(path)
    fd = os.open(directory, os.O_PATH)
    try:
        yield f"/proc/self/fd/{fd}/{name}"
    finally:
        os.close(fd)
