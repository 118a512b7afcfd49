r"""Reads stdin and writes stdout in a program that lives in an event loop, until a reason to quit.

Rules. A thread of its own reads or writes what may block. No descriptor is made non-blocking,
because that flag belongs to the terminal, or to everyone who shares the pipe. The threads are
daemons, so a read that never returns does not keep the process alive. A line ends at \n only, and a
line that is too long is cut, so that memory has a limit.
"""

import asyncio
import math
import os
import select
import stat
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import asynccontextmanager
from threading import Thread
from typing import Any, TypeVar

STDIN, STDOUT = 0, 1

READ_BYTES = 1 << 16
"""A pipe of Linux holds this many bytes."""

Result = TypeVar("Result")


async def in_thread(call: Callable[[], Result]) -> Result:
    """Await a call that blocks. If this is cancelled, the call goes on and its result is lost."""
    future: Future[Result] = Future()

    def work() -> None:
        try:
            future.set_result(call())
        except BaseException as error:  # noqa: BLE001  # Whoever awaits the call gets every error.
            future.set_exception(error)

    future.set_running_or_notify_cancel()  # From now on it cannot be cancelled.
    Thread(target=work, daemon=True).start()
    return await asyncio.wrap_future(future)


def line_batches(fd: int, limit: int) -> Iterator[list[bytes]]:
    r"""Read `fd` to its end. Each line comes as soon as it has ended at \n, with others or alone.

    Of a line over `limit` bytes only `limit + 1` bytes are kept and given.
    """
    rest = b""
    while chunk := _read(fd):
        *lines, rest = (rest + chunk).split(b"\n")
        rest = rest[: limit + 1]
        yield [line[: limit + 1] for line in lines]
    if rest:
        yield [rest]


async def numbered_batches(fd: int, limit: int) -> AsyncIterator[tuple[int, list[bytes]]]:
    """Give the same batches in an event loop, each with the number of its first line, from 1."""
    batches, number = line_batches(fd, limit), 1
    while (batch := await in_thread(lambda: next(batches, None))) is not None:
        yield number, batch
        number += len(batch)


def _read(fd: int) -> bytes:
    while True:
        try:
            return os.read(fd, READ_BYTES)
        except BlockingIOError:  # Another program that shares it made it non-blocking.
            select.select([fd], [], [])


async def print_bytes(data: bytes) -> None:
    """Print all the data, however long that takes. What a cancelled call prints still ends."""

    def write() -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(STDOUT, view) :]
            except BlockingIOError:
                select.select([], [STDOUT], [])

    await in_thread(write)


@asynccontextmanager
async def first_of(*reasons: Coroutine[Any, Any, object]) -> AsyncIterator[None]:
    """Run these until one of them ends, or raise its error; then run the block; then cancel all."""
    tasks = list(map(asyncio.create_task, reasons))
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Silence:
    """A reason to quit: nothing has happened for this many seconds (None: this is no reason)."""

    def __init__(self, span_s: float | None) -> None:
        self._span_s = math.inf if span_s is None else span_s
        self.broken()

    def broken(self) -> None:
        """Begin again, because something has just happened."""
        self._over_at_s = time.monotonic() + self._span_s

    async def over(self, is_busy: Callable[[], bool]) -> None:
        """Wait until the time is over. It is not over while something is going on."""
        while True:
            left_s = self._over_at_s - time.monotonic()
            if left_s <= 0 and not is_busy():
                return
            await asyncio.sleep(max(left_s, 0.01))


async def reader_gone(fd: int) -> None:
    """Raise BrokenPipeError once nobody reads the pipe `fd`. If it is no pipe, wait forever.

    Without this, `flc nc -d | head -1` would stay until the next message.
    """
    gone = asyncio.Event()
    if stat.S_ISFIFO(os.fstat(fd).st_mode):
        # The writing end of a pipe is never readable, so the loop reports only its error (poll(2)).
        asyncio.get_running_loop().add_reader(fd, gone.set)
    await gone.wait()
    raise BrokenPipeError
