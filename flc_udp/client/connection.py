"""One connection to a control socket: requests go out as lines, and answers are matched by id.

Rules. Answers are futures, which are resolved where the line is read: there is no task for each
message. While records of a follow wait unread, the socket is not read, which stops the daemon, too.
But it is read while somebody waits for an answer: otherwise a program that says something between
two messages of a long follow would wait for ever.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any, Self, cast

import orjson

from flc_udp.client.requests import Question, SayGroup, check_length, encoded, settle
from flc_udp.client.said import Record, Said, refusal
from flc_udp.model.errors import FlcError

ANSWER_BYTES_MAX = 32 << 20
"""The daemon writes no line that is longer than this. The largest message fits, even if each of its
bytes is escaped."""

UNREAD_BYTES_MAX = 1 << 20
"""The socket is not read while records of more bytes than this wait to be taken."""

FLUSH_REQUESTS = 64
"""A turn that collects this many requests writes them before it ends."""

SOCKET_PATH_BYTES_MAX = 107
"""A longer path does not fit sockaddr_un on Linux, which needs one more byte for its end."""


class DaemonGoneError(FlcError):
    """The connection ended. An unanswered request may have been carried out, or may not."""


class Stream:
    """The records of one list or follow, in order. It has one reader at a time."""

    def __init__(self, on_taken: Callable[[], None]) -> None:
        self.end: Record = {}
        """The record that closed the list."""
        self.has_ended = False
        self.unread_bytes = 0
        self._on_taken = on_taken
        self._records: list[Record] = []
        self._error: FlcError | None = None
        self._arrived = asyncio.Event()

    async def batch(self) -> list[Record]:
        """Wait for a record and return all that are here; [] means that the list has ended.

        Raises FlcError if the daemon refused or has gone away.
        """
        while not self._records and not self.has_ended:
            self._arrived.clear()
            await self._arrived.wait()
        records, self._records, self.unread_bytes = self._records, [], 0
        self._on_taken()
        if not records and self._error is not None:
            raise self._error
        return records

    async def __aiter__(self) -> AsyncIterator[Record]:
        while batch := await self.batch():
            for record in batch:
                yield record

    def feed(self, record: Record, size: int) -> None:
        """Take one record, whose line had `size` bytes."""
        if record.get("ok") is False:
            self.close(refusal(record))
        elif record.get("end"):
            self.end = record
            self.close()
        else:
            self._records.append(record)
            self.unread_bytes += size
            self._arrived.set()

    def close(self, error: FlcError | None = None) -> None:
        """End it: no more records will come."""
        self.has_ended, self._error = True, error
        self._arrived.set()


class Connection(asyncio.Protocol):
    """One connection to a daemon. It is made by `connect`, and is an async context manager."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.has_heard = False
        """Whether the daemon has sent anything: even a stuck one takes connections."""
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._closed = asyncio.Event()
        self._gone: DaemonGoneError | None = None
        self._last_id = 0
        self._answers: dict[int, Question | SayGroup] = {}
        """Requests that wait for their answer, by their number."""
        self._unanswered = 0
        """How many says they have. Another request counts as one."""
        self._streams: dict[int, Stream] = {}
        self._out: list[bytes] = []
        self._says: SayGroup | None = None
        """Those that go out next, and that others may still join."""
        self._is_writable = self._reads = True
        self._progress = asyncio.Event()
        self._partial = b""

    @classmethod
    async def connect(cls, path: str | os.PathLike[str]) -> Self:
        """Connect to the daemon behind the socket at `path`; raises FlcError that says why not."""
        connection = cls(os.fspath(path))
        try:
            with _socket_address(connection.path) as address:
                await connection._loop.create_unix_connection(lambda: connection, address)
        except OSError as error:
            problem = f"no daemon answers at {connection.path}: {error.strerror or error}"
            hint = "start one: flc run; if one runs, be its user or in its --control-group"
            raise FlcError(problem, hint) from error
        return connection

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Send what is still here and end the connection; open requests fail."""
        self._flush()
        self._transport.close()
        await self._closed.wait()

    def abort(self) -> None:
        """End the connection at once, although not everything may be sent."""
        self._transport.abort()

    async def drain(self, in_flight_max: int = 4096) -> None:
        """Wait until the socket takes more, and at most this many requests are unanswered."""
        unsent = len(self._out) + (0 if self._says is None else len(self._says.futures))
        if unsent >= FLUSH_REQUESTS:  # Otherwise a tight loop collects without limit.
            self._flush()
        while self._gone is None:
            if self._is_writable and self._unanswered <= in_flight_max:
                return
            self._progress.clear()
            await self._progress.wait()
        raise self._gone

    def stream(self, op: str, **arguments: object) -> Stream:
        """Ask for a list or a follow, whose records come as the daemon sends them."""
        stream = self._streams[self._send({"op": op, **arguments})] = Stream(self._regulate)
        return stream

    def _ask(self, request: Record, convert: Callable[[Record], object]) -> asyncio.Future[Any]:
        """Ask for one record; the future has what `convert` makes of it, or FlcError."""
        future: asyncio.Future[Any] = self._loop.create_future()
        self._answers[self._send(request)] = Question((future,), convert)
        self._unanswered += 1
        self._regulate()
        return future

    def _say(self, request: Record, body: object) -> asyncio.Future[Said]:
        """Say one body, with others whose `request` is the same."""
        text, says = encoded(body), self._says
        if says is None or not says.takes(request, text):
            says = SayGroup(request)
        future = says.add(text, self._loop)
        if says is not self._says:
            self._answers[self._next_id()] = says
            self._says = says
            self._regulate()
        self._unanswered += 1
        return future

    def _send(self, request: Record) -> int:
        line = encoded({**request, "id": self._last_id + 1}) + b"\n"
        check_length(len(line))
        number = self._next_id()
        self._out.append(line)
        return number

    def _next_id(self) -> int:
        """Number a request that goes out soon, after all before it; raises DaemonGoneError."""
        if self._gone is not None:
            raise self._gone
        if not self._out and self._says is None:
            self._loop.call_soon(self._flush)
        self._end_says()
        self._last_id += 1
        return self._last_id

    def _end_says(self) -> None:
        """No other joins the says that go out next."""
        if self._says is not None:
            says, self._says = self._says, None
            self._out.append(says.line(self._last_id))

    def _flush(self) -> None:
        self._end_says()
        if self._out and not self._transport.is_closing():
            self._transport.write(b"".join(self._out))
        self._out.clear()

    # --- What the event loop calls --------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        # The cast is needed because uvloop's transports do not inherit from asyncio's.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Read the complete lines; an incomplete line waits for its rest."""
        self.has_heard = True
        lines, newline, self._partial = (self._partial + data).rpartition(b"\n")
        if len(self._partial) > ANSWER_BYTES_MAX:
            self._break("a line longer than any answer")
        elif newline:
            try:
                for line in lines.split(b"\n"):
                    self._take(orjson.loads(line), len(line))
            except (ValueError, LookupError, TypeError, AttributeError):
                self._break("a line that is no answer")
            self._regulate()
            self._progress.set()

    def pause_writing(self) -> None:
        """Hold back: the daemon reads slower than we write."""
        self._is_writable = False

    def resume_writing(self) -> None:
        """Go on: the daemon has caught up."""
        self._is_writable = True
        self._progress.set()

    def connection_lost(self, error: Exception | None) -> None:
        """Fail all that is open."""
        problem = f"the daemon at {self.path} has gone away"
        self._gone = self._gone or DaemonGoneError(problem, "its log says why; start it: flc run")
        self._refuse_all(self._gone)
        self._progress.set()
        self._closed.set()

    def _take(self, record: Record, size: int) -> None:
        number = record.pop("id", None)
        if (stream := self._streams.get(number)) is not None:
            stream.feed(record, size)
            if stream.has_ended:
                del self._streams[number]
        elif (waiting := self._answers.get(number)) is not None:
            settle(waiting.futures, waiting.outcomes(record))
            del self._answers[number]
            self._unanswered -= len(waiting.futures)
        elif record.get("ok") is False:
            # The daemon could not read whose line it was, so any answer may be missing now.
            self._refuse_all(refusal(record))

    def _refuse_all(self, error: FlcError) -> None:
        answers, self._answers, self._unanswered = self._answers, {}, 0
        streams, self._streams = self._streams, {}
        self._says = None  # These are refused, too, so no other may join them.
        for future in chain.from_iterable(waiting.futures for waiting in answers.values()):
            if not future.done():
                future.set_exception(error)
                future.exception()  # asyncio complains about an error that nobody looked at.
        for stream in streams.values():
            stream.close(error)

    def _break(self, what: str) -> None:
        problem = f"the daemon at {self.path} sent {what}"
        self._gone = DaemonGoneError(problem, "is it of another version? see flc --version")
        self.abort()

    def _regulate(self) -> None:
        unread_bytes = sum(stream.unread_bytes for stream in self._streams.values())
        reads = unread_bytes <= UNREAD_BYTES_MAX or bool(self._answers)
        if reads == self._reads or self._transport.is_closing():
            return
        self._reads = reads
        if reads:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()


@contextmanager
def _socket_address(path: str) -> Iterator[str]:
    """Give a spelling of `path` that fits a socket address, however long the path is."""
    if len(os.fsencode(path)) <= SOCKET_PATH_BYTES_MAX:
        yield path
        return
    directory, name = os.path.split(path)
    fd = os.open(directory, os.O_PATH)
    try:
        yield f"/proc/self/fd/{fd}/{name}"
    finally:
        os.close(fd)
