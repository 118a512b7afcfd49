"""Shell commands: each runs to its end or is killed with its process group. None holds the loop.

Rules. A process is started in a thread, because starting one may take long. Its end is seen by a
file descriptor that the loop watches (pidfd_open(2)). Until the process is reaped here, no other
process can have its number, so a kill meets the right group. Its standard input is a file in
memory, so a command that does not read it holds nobody up.
"""

import asyncio
import os
import signal
import subprocess
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from enum import StrEnum
from typing import NamedTuple

STDERR = 2


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


class Shell:
    """Runs commands by `/bin/sh -c`, as many at a time as it is asked to."""

    def __init__(self) -> None:
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="flc-shell")
        self._running: dict[subprocess.Popen[bytes], None] = {}
        self._is_closed = False

    async def run(
        self, command: str, environ: Mapping[str, str], stdin: bytes, timeout_s: float
    ) -> Ended:
        """Run a command. What it writes goes to the node's standard error."""
        loop = asyncio.get_running_loop()
        try:
            process, pidfd = await loop.run_in_executor(
                self._starter, _start, command, environ, stdin
            )
        except (OSError, ValueError) as error:  # ValueError: a zero byte in the command.
            return Ended(How.NOT_STARTED, f"cannot be started: {error}")
        self._running[process] = None
        if self._is_closed:
            _kill(process)
        try:
            return await _end_of(process, pidfd, timeout_s)
        finally:
            del self._running[process]

    def kill(self) -> None:
        """Kill what runs and what is about to run, with everything that it started."""
        self._is_closed = True
        for process in self._running:
            _kill(process)

    def close(self) -> None:
        """Start nothing any more."""
        self._starter.shutdown(wait=False, cancel_futures=True)


def _start(
    command: str, environ: Mapping[str, str], stdin: bytes
) -> tuple[subprocess.Popen[bytes], int]:
    # Names and rooms are UTF-8, whatever the locale is. A path keeps bytes that are none.
    encoded = {
        name.encode(): text.encode(errors="surrogateescape") for name, text in environ.items()
    }
    with os.fdopen(os.memfd_create("flc-record"), "w+b") as file:
        file.write(stdin)
        file.seek(0)
        # It gets a session of its own: a Ctrl-C in the node's terminal is meant for the node.
        process = subprocess.Popen(
            ["/bin/sh", "-c", command],
            env=encoded, stdin=file, stdout=STDERR, start_new_session=True,
        )  # fmt: skip
    try:
        return process, os.pidfd_open(process.pid)
    except OSError:
        _kill(process)
        process.wait()
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
