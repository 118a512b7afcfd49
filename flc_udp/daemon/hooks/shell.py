"""Shell commands, each run to its end or killed with its process group, none of it on the loop.

Rules. A process is started in a thread, since starting one takes as long as the machine likes; its
end is a file descriptor the loop watches (pidfd_open(2)). Until it is reaped here its number is
nobody else's, so a kill meets the right group. What it is told is a file in memory: one that does
not read its standard input holds nobody up.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

STDERR = 2

OUTCOMES = ("ended well", "failed", "timed out", "not started")
"""How a command may end."""

NOT_STARTED, TIMED_OUT = "cannot be started", "killed after"
"""How the reasons begin that are not the command's own."""


def outcome(reason: str) -> str:
    """One of OUTCOMES, from the reason that `Shell.run` gave."""
    if reason.startswith(NOT_STARTED):
        return "not started"
    if reason.startswith(TIMED_OUT):
        return "timed out"
    return "failed" if reason else "ended well"


class Shell:
    """Runs commands by `/bin/sh -c`, as many at a time as it is asked to."""

    def __init__(self) -> None:
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="flc-shell")
        self._running: dict[subprocess.Popen[bytes], None] = {}
        self._is_closed = False

    async def run(
        self, command: str, environ: Mapping[str, str], stdin: str, timeout_s: float
    ) -> str:
        """Why it failed, or nothing; what it writes goes to the node's standard error."""
        loop = asyncio.get_running_loop()
        try:
            process, pidfd = await loop.run_in_executor(
                self._starter, _start, command, environ, stdin
            )
        except (OSError, ValueError) as error:  # ValueError: a zero byte in the command.
            return f"{NOT_STARTED}: {error}"
        self._running[process] = None
        if self._is_closed:
            _kill(process)
        try:
            return await _end_of(process, pidfd, timeout_s)
        finally:
            del self._running[process]

    def kill(self) -> None:
        """End what runs, and what is about to, with all that it started."""
        self._is_closed = True
        for process in self._running:
            _kill(process)

    def close(self) -> None:
        """Nothing is started any more."""
        self._starter.shutdown(wait=False, cancel_futures=True)


def _start(
    command: str, environ: Mapping[str, str], stdin: str
) -> tuple[subprocess.Popen[bytes], int]:
    # UTF-8 whatever the locale is: names and rooms are, and half a surrogate pair is lost.
    encoded = {name.encode(): text.encode(errors="replace") for name, text in environ.items()}
    with os.fdopen(os.memfd_create("flc-record"), "w+b") as file:
        file.write(stdin.encode(errors="replace"))
        file.seek(0)
        # Its own session: a Ctrl-C in the node's terminal is the node's, which gives it a grace.
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


async def _end_of(process: subprocess.Popen[bytes], pidfd: int, timeout_s: float) -> str:
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
        return f"{TIMED_OUT} {timeout_s:g} s"
    return f"killed by signal {-code}" if code < 0 else f"exit code {code}" if code else ""


def _kill(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
