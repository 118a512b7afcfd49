r"""stdin and stdout for a program that lives in an event loop.

Rules. A descriptor that may block is read and written in a thread of its own, never made
non-blocking: the flag would belong to the terminal and to everyone who shares the pipe. The
threads are daemons, so that a read that never returns does not keep the process. Lines end at \n
only and never grow without limit.
"""

from __future__ import annotations

import asyncio
import os
import select
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from threading import Thread
from typing import TypeVar

READ_BYTES = 1 << 16
"""What a pipe holds on Linux."""

Result = TypeVar("Result")


async def in_thread(call: Callable[[], Result]) -> Result:
    """Await a call that blocks. Cancelled, it is left behind and what it returns is lost."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Result] = loop.create_future()

    def settle(result: Result | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]  # one of the two is there

    def work() -> None:
        result, problem = None, None
        try:
            result = call()
        except BaseException as error:  # noqa: BLE001  # all of them are the awaiter's
            problem = error
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(settle, result, problem)

    Thread(target=work, daemon=True).start()
    return await future


class LineSplitter:
    r"""Cuts chunks into lines at \n; of a line longer than `limit`, `limit + 1` bytes are kept."""

    def __init__(self, limit: int) -> None:
        self._kept = limit + 1
        self._rest = b""

    def feed(self, chunk: bytes) -> list[bytes]:
        """The lines that `chunk` ends, without their newlines."""
        *lines, rest = chunk.split(b"\n")
        if lines:
            lines[0] = (self._rest + lines[0])[: self._kept]
            self._rest = rest
        else:
            self._rest = (self._rest + rest)[: self._kept]
        return lines

    def end(self) -> list[bytes]:
        """The last line, if it had no newline."""
        rest, self._rest = self._rest, b""
        return [rest] if rest else []


async def line_batches(fd: int, limit: int) -> AsyncIterator[list[bytes]]:
    """Lines of `fd` as they come, several together where they came together, to its end."""
    splitter = LineSplitter(limit)
    while chunk := await in_thread(lambda: _read(fd)):
        yield splitter.feed(chunk)
    yield splitter.end()


def _read(fd: int) -> bytes:
    while True:
        try:
            return os.read(fd, READ_BYTES)
        except BlockingIOError:  # someone who shares it made it non-blocking
            select.select([fd], [], [])


def write_all(fd: int, data: bytes) -> None:
    """Write all of it, however long that takes."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            select.select([], [fd], [])


async def reader_gone(fd: int) -> None:
    """Raise BrokenPipeError once nobody reads the pipe `fd`; for all else, never return.

    Without it `flc nc -d | head -1` would stay until the next message.
    """
    gone = asyncio.Event()
    if stat.S_ISFIFO(os.fstat(fd).st_mode):
        # The writing end of a pipe is never readable; what is reported is its error (poll(2)).
        asyncio.get_running_loop().add_reader(fd, gone.set)
    await gone.wait()
    raise BrokenPipeError
