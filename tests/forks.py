"""`flc` as a process of its own, forked from one that has started Python and imported everything.

    code, out, err = await forked("status", "--json", environ=environ, limit_s=45)
    daemon = Forked(("run", "--data", str(data)), environ, streams)

Promise: the command has its own streams, directory, variables and exit code, as from a shell. Only
what comes before `main` is shared: the interpreter's start and the imports take ten times as long
as most commands. What is claimed of that start is tested with `FLC` itself.

Rules. The process that forks starts a second one for each order, which forks the command, waits for
it, and tells its pid at once and its exit code at its end over a socket that came with the order.
"""

from __future__ import annotations

import asyncio
import atexit
import gc
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from flc_udp.cli.commands import COMMANDS, module_of
from flc_udp.cli.main import main

ROOT = Path(__file__).parents[1]
ORDER_BYTES_MAX = 100_000


# --- The side of the tests ------------------------------------------------------------------------


@cache
def _server() -> socket.socket:
    """Start the process that forks, which ends with this one; here it is told what to run."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.forks", str(theirs.fileno())],
        cwd=ROOT, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()],
    )  # fmt: skip
    theirs.close()

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


class Forked:
    """One such process, with the methods of `subprocess.Popen` that tests use; wait for it."""

    def __init__(
        self,
        words: Sequence[str],
        environ: Mapping[str, str],
        streams: Sequence[int],
        cwd: Path | None = None,
    ) -> None:
        order = {"words": words, "environ": dict(environ), "cwd": str(cwd or Path.cwd())}
        self._answers, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            fds = [*streams, theirs.fileno()]
            socket.send_fds(_server(), [json.dumps(order).encode()], fds)
        self.pid = int(self._answers.recv(16))
        self.returncode: int | None = None

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the exit code; raises subprocess.TimeoutExpired."""
        if self.returncode is None:
            self._answers.settimeout(timeout)
            try:
                self.returncode = int(self._answers.recv(16))
            except (TimeoutError, BlockingIOError):
                raise subprocess.TimeoutExpired("flc", timeout or 0) from None
            self._answers.close()
        return self.returncode

    def poll(self) -> int | None:
        """Give the exit code, or None while it runs."""
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, if it still runs."""
        if self.poll() is None:
            with suppress(ProcessLookupError):  # It ended just now.
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)


async def forked(
    *words: str,
    environ: Mapping[str, str],
    stdin: bytes = b"",
    cwd: Path | None = None,
    limit_s: float,
) -> tuple[int, bytes, bytes]:
    """Run `flc` to its end; what does not end in time is killed, and raises TimeoutError."""
    theirs, ours = zip(*(socket.socketpair() for _ in range(3)), strict=True)
    process = Forked(words, environ, [end.fileno() for end in theirs], cwd)
    for end in theirs:
        end.close()
    lines = [await asyncio.open_connection(sock=end) for end in ours]
    (_, feed), (out, _), (err, _) = lines
    try:
        async with asyncio.timeout(limit_s):
            _, *printed = await asyncio.gather(_feed(feed, stdin), out.read(), err.read())
            code = await asyncio.to_thread(process.wait, limit_s)
    finally:
        process.kill()
        process.wait()
        for _, writer in lines:
            writer.close()
    return code, printed[0], printed[1]


async def _feed(writer: asyncio.StreamWriter, stdin: bytes) -> None:
    with suppress(ConnectionError):  # Who ends early has not read it all.
        writer.write(stdin)
        await writer.drain()
        writer.write_eof()


# --- The process that forks -----------------------------------------------------------------------


def serve(orders: socket.socket) -> None:
    """Fork for each order, until nobody can order any more."""
    while True:
        order, fds, _, _ = socket.recv_fds(orders, ORDER_BYTES_MAX, 4)
        with suppress(ChildProcessError):  # there is none
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if not order:
            return
        if not os.fork():
            orders.close()
            watch(json.loads(order), fds)
        for fd in fds:
            os.close(fd)


def watch(order: dict[str, Any], fds: list[int]) -> None:
    """Fork again, for the command itself, and tell its pid and its exit code."""
    *streams, answers = fds
    if not (pid := os.fork()):
        os.close(answers)
        become(order, streams)
    for fd in streams:
        os.close(fd)
    with suppress(BrokenPipeError):  # Who asked has waited long enough.
        os.write(answers, b"%d" % pid)
        _, status = os.waitpid(pid, 0)
        os.write(answers, b"%d" % os.waitstatus_to_exitcode(status))
    os._exit(0)


def become(order: dict[str, Any], streams: list[int]) -> NoReturn:
    """Be `flc` with these words and streams, and end as it ends."""
    for number, (fd, name) in enumerate(zip(streams, ("stdin", "stdout", "stderr"), strict=True)):
        os.dup2(fd, number)
        os.close(fd)
        former = getattr(sys, name)
        mode, buffering = ("w" if number else "r"), (1 if name == "stderr" else -1)
        how = (mode, buffering, former.encoding, former.errors)
        setattr(sys, name, open(number, *how, closefd=False))  # noqa: SIM115  # as Python's own
    os.setsid()
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["environ"])
    sys.argv = ["flc", *order["words"]]
    sys.exit(main())


if __name__ == "__main__":
    for command in COMMANDS:
        module_of(command)
    for module in ("flc_udp.daemon.run", "flc_udp.sim.run"):  # What those import when they run.
        import_module(module)
    gc.freeze()
    serve(socket.socket(fileno=int(sys.argv[1])))
