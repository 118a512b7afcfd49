"""A cluster of real daemons on this machine, for as long as a `with` block lasts.

Promise: when the block ends, by whatever way, its processes have ended and its directory is gone.
Processes are ended by their ids alone, and each is reaped here, so no id can have become another's.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterable, Awaitable, Callable
from pathlib import Path
from typing import Self

import flc_udp
from flc_udp.cli.connect import SOCKET
from flc_udp.client import Client, DaemonGoneError, Record, Shown
from flc_udp.model.errors import FlcError

POLL_SECONDS = 0.02
"""Between two looks at a condition: well under what a person notices."""

START_SECONDS = 15.0
"""A daemon that does not answer by then has failed, on a busy machine too."""

END_SECONDS = 3.0
"""An orderly departure gets so long before it is forced."""

END_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


async def until(
    promise: str, kept: Callable[[], Awaitable[bool]], seconds: float = START_SECONDS
) -> None:
    """Wait until `kept()`; raises FlcError naming the promise when `seconds` are over."""
    deadline = time.monotonic() + seconds
    while not await kept():
        if time.monotonic() > deadline:
            raise broken(promise, f"not within {seconds:.0f} s")
        await asyncio.sleep(POLL_SECONDS)


def broken(promise: str, how: str) -> FlcError:
    """What is raised where a promise did not hold."""
    return FlcError(
        f"promise broken: {promise} ({how})", "run it again; if it happens again, please report it"
    )


class Node:
    """One daemon: its process, a connection to it, and what a follower of all rooms was shown."""

    client: Client

    def __init__(self, name: str, data: Path) -> None:
        self.name, self.data = name, data
        self.address = ""
        self.shown: list[Shown] = []
        self._process: subprocess.Popen[bytes] | None = None
        self._follower: asyncio.Task[None] | None = None

    def start(self, seeds: list[str]) -> None:
        """Start `flc run` with this node's name and directory."""
        self.data.mkdir(exist_ok=True)
        where = ["--name", self.name, "--data", str(self.data), "--bind", "127.0.0.1:0"]
        how = ["--profile", "local", "--log-level", "warning"]
        joins = [word for seed in seeds for word in ("--join", seed)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*flc(), "run", *where, *how, *joins],
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the demo, which ends its nodes itself
            )

    async def answers(self) -> None:
        """Wait until it can be spoken to, and follow it from where it was last followed."""
        await until(f"{self.name} starts", self._connected)
        self.address = (await self.client.status())["node"]["address"]
        seen = self.shown[-1] if self.shown else None
        start = {"from": seen.position, "dot": seen.message["dot"]} if seen else {"from": 0}
        stream = self.client.stream("follow", room=None, **start)
        self._follower = asyncio.create_task(self._follow(stream))

    async def _connected(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            words = self._log.read_text(errors="replace").strip().splitlines() or ["no word"]
            raise broken(f"{self.name} starts", words[-1])
        try:
            self.client = await Client.connect(self.data / SOCKET)
        except FlcError:
            return False
        return True

    async def _follow(self, stream: AsyncIterable[Record]) -> None:
        try:
            async for record in stream:
                if "message" in record:
                    self.shown.append(Shown(record["message"], record["position"], record["own"]))
        except DaemonGoneError:
            return

    @property
    def dots_shown(self) -> list[str]:
        """Dots in the order this node showed them."""
        return [shown.message["dot"] for shown in self.shown]

    async def states(self) -> dict[str, str]:
        """{member's name: state} as this node sees it."""
        return {member["name"]: member["state"] for member in await self.client.members()}

    async def kill(self) -> None:
        """`kill -9`: no leave, no last word."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        if self._follower is not None:
            await self._follower
        await self.client.close()

    async def history(self) -> bytes:
        """Exactly what `flc log -n 0 --json` prints for this node."""
        process = await asyncio.create_subprocess_exec(
            *flc(), "log", "-n", "0", "--json", "--data", str(self.data),
            env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        )  # fmt: skip
        lines, _ = await process.communicate()
        if process.returncode:
            raise broken(f"{self.name} prints its log", f"exit {process.returncode}")
        return lines

    def terminate(self) -> None:
        """Ask it to leave, if it runs."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def reap(self, deadline: float) -> None:
        """Wait until it has ended; force it after `deadline` (monotonic)."""
        if self._process is None:
            return
        try:
            self._process.wait(max(deadline - time.monotonic(), 0))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @property
    def _log(self) -> Path:
        return self.data.with_suffix(".log")


class Cluster:
    """Nodes in one temporary directory."""

    def __init__(self, names: list[str]) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="flc-demo-"))
        self.nodes = [Node(name, self._directory / name) for name in names]
        self._handlers = {number: signal.getsignal(number) for number in END_SIGNALS}

    def __enter__(self) -> Self:
        # All of them end as Ctrl-C does, which asyncio turns into an orderly cancel.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for number in (signal.SIGTERM, signal.SIGHUP):
            if self._handlers[number] is not signal.SIG_IGN:  # nohup
                signal.signal(number, lambda *_: signal.raise_signal(signal.SIGINT))
        return self

    def __exit__(self, *_exc: object) -> None:
        for number in END_SIGNALS:
            signal.signal(number, signal.SIG_IGN)  # nothing may stop the clearing up
        for node in self.nodes:
            node.terminate()
        deadline = time.monotonic() + END_SECONDS
        for node in self.nodes:
            node.reap(deadline)
        shutil.rmtree(self._directory, ignore_errors=True)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)


def flc() -> list[str]:
    """The words that start this same flc again."""
    return [sys.executable, "-P", "-m", "flc_udp"]


def environment() -> dict[str, str]:
    """This process's, without settings that would send the nodes to another cluster."""
    ours = {"PYTHONPATH", "STATE_DIRECTORY"}
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in ours and not name.startswith("FLC_")
    }
    return {**kept, "PYTHONPATH": str(Path(flc_udp.__file__).parent.parent)}
