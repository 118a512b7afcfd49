"""Shell commands: each runs to its end or is killed with its process group. None holds the loop.

Rules. A process is started in a thread, because starting one may take long. Its end is seen by a
file descriptor that the loop watches (pidfd_open(2)). Until the process is reaped here, no other
process can have its number, so a kill meets the right group. Its standard input is a file in
memory, so a command that does not read it holds nobody up. Of what it writes, the first lines go to
the node's standard error as far as that takes them at once, and the rest is only counted.
"""

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from enum import StrEnum
from typing import NamedTuple

from flc_udp.daemon import stderr
from flc_udp.daemon.notices import HookOutput

OUTPUT_BYTES = 65_536
"""About so much of what one command writes goes to the node's standard error."""

OUTPUT_BYTES_A_MINUTE = 4 << 20
"""And so much of what all commands write. A command may run for each message."""

LINE_BYTES = 2_048
"""A line that is longer is passed on as several."""

LINE_BYTES_LEAST = 128
"""A shorter line counts like one of so many bytes: each takes a moment of the loop."""

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

    def __init__(self, fd: int, shell: "Shell") -> None:
        self._fd = fd
        self._loop = asyncio.get_running_loop()
        self._shell = shell
        self._line = b""
        """What has come of a line that has not ended."""
        self._left_bytes, self._dropped_bytes = OUTPUT_BYTES, 0
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
        if self._dropped_bytes:
            self._loop.remove_reader(self._fd)
            self._loop.call_later(READ_PAUSE_S, self._read_on)

    def _take(self, data: bytes) -> None:
        """Pass on each line that has ended, until there is one that is not taken."""
        data, at = self._line + data, 0
        while not self._dropped_bytes:
            end = data.find(b"\n", at, at + LINE_BYTES) + 1 or at + LINE_BYTES
            if end > len(data):
                self._line = data[at:]
                return
            self._pass_on(data[at:end])
            at = end
        self._drop(len(data) - at)
        self._line = b""

    def _pass_on(self, line: bytes) -> None:
        cost_bytes = self._shell.pass_on(line, self._left_bytes)
        self._left_bytes -= cost_bytes
        if not cost_bytes:
            self._drop(len(line))

    def _drop(self, size_bytes: int) -> None:
        self._dropped_bytes += size_bytes
        self._shell.dropped_bytes += size_bytes

    def _read_on(self) -> None:
        if self._fd >= 0:
            self._loop.add_reader(self._fd, self._read)

    def close(self) -> None:
        """Read no more of it."""
        if self._fd < 0:
            return
        self._loop.remove_reader(self._fd)
        with suppress(BlockingIOError):
            self._take(os.read(self._fd, READ_BYTES))
        os.close(self._fd)
        self._fd = -1
        if self._line:
            self._pass_on(self._line)
        if self._dropped_bytes:
            more = f"... {self._dropped_bytes} bytes more of a command's output"
            stderr.tell_output(HookOutput(more))
        self._shell.outputs.pop(self, None)


class Shell:
    """Runs commands by `/bin/sh -c`, as many at a time as it is asked to."""

    def __init__(self) -> None:
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="flc-shell")
        self._running: dict[subprocess.Popen[bytes], None] = {}
        self.outputs: dict[Output, None] = {}
        """Those that are read."""
        self._is_closed = False
        self._minute_s, self._left_bytes = time.monotonic(), OUTPUT_BYTES_A_MINUTE
        """When the present minute began, and how much may still be passed on in it."""
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
        self.outputs[Output(output, self)] = None
        if len(self.outputs) > OUTPUTS_MAX:
            next(iter(self.outputs)).close()
        if self._is_closed:
            _kill(process)
        try:
            return await _end_of(process, pidfd, timeout_s)
        finally:
            del self._running[process]

    def pass_on(self, line: bytes, most_bytes: int) -> int:
        """Put a line into the node's log if its command and this minute have room for it.

        Return what it costs of that room: 0 if it was not taken.
        """
        now_s = time.monotonic()
        if now_s >= self._minute_s + 60.0:
            self._minute_s, self._left_bytes = now_s, OUTPUT_BYTES_A_MINUTE
        if min(most_bytes, self._left_bytes) < LINE_BYTES_LEAST:
            return 0
        text = line.removesuffix(b"\n").decode(errors="backslashreplace")
        written_bytes = stderr.tell_output(HookOutput(text))
        cost_bytes = max(written_bytes, LINE_BYTES_LEAST) if written_bytes else 0
        self._left_bytes -= cost_bytes
        return cost_bytes

    def kill(self) -> None:
        """Kill what runs and what is about to run, with everything that it started."""
        self._is_closed = True
        for process in self._running:
            _kill(process)

    def close(self) -> None:
        """Start nothing any more."""
        for output in tuple(self.outputs):
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
