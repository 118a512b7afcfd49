"""Real daemons on loopback for the benchmarks: started, joined, measured, and ended by pid."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Self

from flc_udp.client import Client
from flc_udp.model.errors import FlcError

READY_S = 30.0


class Cluster:
    """`nodes` processes of `flc run` under `base`, and a client of each."""

    def __init__(self, base: Path, nodes: int, *flags: str) -> None:
        self.processes: list[asyncio.subprocess.Process] = []
        self.clients: list[Client] = []
        self._base = base
        self._nodes = nodes
        self._flags = flags

    async def __aenter__(self) -> Self:
        seed: list[str] = []
        for number in range(self._nodes):
            await self.start(number, *seed)
            status = await self.clients[number].status()
            seed = seed or ["--join", status["node"]["address"]]
        await until(self.all_alive, "the nodes did not find each other")
        return self

    async def __aexit__(self, *_exc: object) -> None:
        for client in self.clients:
            await client.close()
        for process in self.processes:
            if process.returncode is None:
                process.terminate()
        for process in self.processes:
            await process.wait()

    async def start(self, number: int, *flags: str) -> None:
        """Start node `number`, for the first time or again, and connect to it."""
        data = self._base / f"node{number}"
        command = [sys.executable, "-m", "flc_udp", "run", "--data", str(data)]
        command += ["--bind", "127.0.0.1:0", "--name", f"node{number}", *self._flags, *flags]
        quiet = asyncio.subprocess.DEVNULL
        process = await asyncio.create_subprocess_exec(*command, stderr=quiet)
        client = await _connect(data / "control.sock")
        self.processes[number : number + 1] = [process]
        self.clients[number : number + 1] = [client]

    async def all_alive(self) -> bool:
        """Whether every node holds every other for alive, and nobody for anything else."""
        for client in self.clients:
            states = [member["state"] for member in await client.members()]
            if states.count("alive") != self._nodes:
                return False
        return True

    def cpu_s(self) -> list[float]:
        """CPU seconds each daemon has used, user and system (proc(5))."""
        ticks = os.sysconf("SC_CLK_TCK")
        stats = [Path(f"/proc/{process.pid}/stat").read_text() for process in self.processes]
        fields = [stat.rpartition(")")[2].split() for stat in stats]
        return [(int(field[11]) + int(field[12])) / ticks for field in fields]


async def until(
    condition: Callable[[], Awaitable[bool]], otherwise: str, limit_s: float = READY_S
) -> None:
    """Wait for it, looking often; ends the program with `otherwise` when the time is out."""
    deadline = time.monotonic() + limit_s
    while not await condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"error: {otherwise} in {limit_s:.0f} s")
        await asyncio.sleep(0.02)


async def _connect(path: Path) -> Client:
    deadline = time.monotonic() + READY_S
    while True:
        try:
            return await Client.connect(path)
        except FlcError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.02)


def progress(what: str, done: int, total: int) -> None:
    """A bar on a terminal, a line for each finished step elsewhere; on stderr."""
    if sys.stderr.isatty():
        share = done / total
        bar = "#" * int(share * 30)
        end = "\n" if done == total else ""
        print(f"\r{what:<44} [{bar:<30}] {share:4.0%}", end=end, file=sys.stderr, flush=True)
    elif done == total:
        print(what, file=sys.stderr, flush=True)
