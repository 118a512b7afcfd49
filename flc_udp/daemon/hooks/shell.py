"""Shell commands: each runs to its end or is killed with its process group. None holds the loop.

Rules. A process is started in a thread, because starting one may take long. Its end is seen by a
file descriptor that the loop watches (pidfd_open(2)). Until the process is reaped here, no other
process can have its number, so a kill meets the right group. Its standard input is a file in
memory, so a command that does not read it holds nobody up. Of what it writes, the beginning goes to
the node's standard error as far as that takes it at once, and the rest is only counted.
"""

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from enum import StrEnum
from typing import NamedTuple

from flc_udp.daemon import stderr

OUTPUT_BYTES = 65_536
"""So much of what one command writes goes to the node's standard error."""

OUTPUT_BYTES_A_MINUTE = 4 << 20
"""And so much of what all commands write. A command may run for each message."""

READ_BYTES, READ_PAUSE_S = 65_536, 0.01
"""Beyond that so much is read and dropped at a time, and then nothing for this time: a command that
writes without end costs little, and one that writes a few megabytes is not held up."""

OUTPUTS_MAX = 64
"""Processes that a command left behind may still write. So many outputs are read at a time; the
oldest ends when there are more."""


class How(StrEnum):
    """How a command may end. The values are labels of a metric and never change."""

    WELL = "ended well"
    FAILED = "failed"
    TIMED_OUT = "timed out"
    NOT_STARTED = "not started"


class Ended(NamedTuple):
    """How a command ended, and why; the reason is empty where it ended well."""

    how: How
    reason: str = ""


class Output:
    """What one command writes, with all that it started, until the last of them has closed it."""

    def __init__(
        self, fd: int, ended: Callable[["Output"], None], take: Callable[[bytes, int], int]
    ) -> None:
        """`take` passes on the beginning of what was written, and tells how much that is."""
        self._fd = fd
        self._loop = asyncio.get_running_loop()
        self._ended, self._pass_on = ended, take
        self._passed = self._dropped = 0
        os.set_blocking(fd, False)
        self._loop.add_reader(fd, self._read)

    def _read(self) -> None:
        try:
            data = os.read(self._fd, READ_BYTES)
        except BlockingIOError:
            return
        if not data:
            self.close()
            return
        self._take(data)
        if self._dropped:
            self._loop.remove_reader(self._fd)
            self._loop.call_later(READ_PAUSE_S, self._read_on)

    def _take(self, data: bytes) -> None:
        passed = self._pass_on(data, OUTPUT_BYTES - self._passed)
        self._passed += passed
        self._dropped += len(data) - passed

    def _read_on(self) -> None:
        if self._fd >= 0:
            self._loop.add_reader(self._fd, self._read)

    def close(self) -> None:
        """Read no more of it."""
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            with suppress(BlockingIOError):
                self._take(os.read(self._fd, READ_BYTES))
            os.close(self._fd)
            self._fd = -1
            if self._dropped:
                stderr.write(b"\n... %d bytes more of a command's output\n" % self._dropped)
            self._ended(self)


class Shell:
    """Runs commands by `/bin/sh -c`, as many at a time as it is asked to."""

    def __init__(self) -> None:
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="flc-shell")
        self._running: dict[subprocess.Popen[bytes], None] = {}
        self._outputs: dict[Output, None] = {}
        self._is_closed = False
        self._minute_s, self._minute_bytes = time.monotonic(), 0
        """When the present minute began, and what was passed on in it."""
        self.dropped_bytes = 0
        """What commands wrote and was not passed on."""

    async def run(
        self, command: str, environ: Mapping[str, str], stdin: bytes, timeout_s: float
    ) -> Ended:
        """Run a command. What it writes goes to the node's standard error."""
        loop = asyncio.get_running_loop()
        try:
            process, pidfd, output = await loop.run_in_executor(
                self._starter, _start, command, environ, stdin
            )
        except (OSError, ValueError) as error:  # ValueError: a zero byte in the command.
            return Ended(How.NOT_STARTED, f"cannot be started: {error}")
        self._running[process] = None
        self._outputs[Output(output, self._outputs.pop, self._take)] = None
        if len(self._outputs) > OUTPUTS_MAX:
            next(iter(self._outputs)).close()
        if self._is_closed:
            _kill(process)
        try:
            return await _end_of(process, pidfd, timeout_s)
        finally:
            del self._running[process]

    def _take(self, data: bytes, most: int) -> int:
        """Pass on the beginning of what a command wrote, `most` bytes at most; tell how many."""
        now_s = time.monotonic()
        if now_s >= self._minute_s + 60.0:
            self._minute_s, self._minute_bytes = now_s, 0
        passed = stderr.write(data[: min(most, OUTPUT_BYTES_A_MINUTE - self._minute_bytes)])
        self._minute_bytes += passed
        self.dropped_bytes += len(data) - passed
        return passed

    def kill(self) -> None:
        """Kill what runs and what is about to run, with everything that it started."""
        self._is_closed = True
        for process in self._running:
            _kill(process)

    def close(self) -> None:
        """Start nothing any more."""
        for output in tuple(self._outputs):
            output.close()
        self._starter.shutdown(wait=False, cancel_futures=True)


def _start(
    command: str, environ: Mapping[str, str], stdin: bytes
) -> tuple[subprocess.Popen[bytes], int, int]:
    # Names and rooms are UTF-8, whatever the locale is. A path keeps bytes that are none.
    encoded = {
        name.encode(): text.encode(errors="surrogateescape") for name, text in environ.items()
    }
    with os.fdopen(os.memfd_create("flc-record"), "w+b") as file:
        file.write(stdin)
        file.seek(0)
        output, written = os.pipe()
        try:
            # It gets a session of its own: a Ctrl-C in the node's terminal is meant for the node.
            process = subprocess.Popen(
                ["/bin/sh", "-c", command],
                env=encoded, stdin=file, stdout=written, stderr=written, start_new_session=True,
            )  # fmt: skip
        except BaseException:
            os.close(output)
            raise
        finally:
            os.close(written)
    try:
        return process, os.pidfd_open(process.pid), output
    except OSError:
        _kill(process)
        process.wait()
        os.close(output)
        raise


async def _end_of(process: subprocess.Popen[bytes], pidfd: int, timeout_s: float) -> Ended:
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(pidfd, ended.set)
    is_late = False
    try:
        await asyncio.wait_for(ended.wait(), timeout_s)
    except TimeoutError:
        is_late = True
        _kill(process)
        await ended.wait()
    finally:
        loop.remove_reader(pidfd)
        os.close(pidfd)
    code = process.wait()
    if is_late:
        return Ended(How.TIMED_OUT, f"killed after {timeout_s:g} s")
    if code < 0:
        return Ended(How.FAILED, f"killed by signal {-code}")
    return Ended(How.FAILED, f"exit code {code}") if code else Ended(How.WELL)


def _kill(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
