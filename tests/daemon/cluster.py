"""Clusters of real daemons for the tests: the package's launcher, and what only tests do."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

from flc_udp.cli.run.cluster import NAMES as ALL_NAMES
from flc_udp.cli.run.cluster import LocalCluster, LocalNode
from flc_udp.client import Client, DaemonGoneError
from tests.daemon.process import DEADLINE_S, Ended, run_flc, until
from tests.daemon.relay import Relay
from tests.forks import Forked

NAMES = ALL_NAMES[:5]


class Node(LocalNode):
    """One daemon, with what a test does to it and asks of it."""

    def spawn(
        self, words: Sequence[str], environ: Mapping[str, str], log: BinaryIO
    ) -> subprocess.Popen[bytes]:
        """Fork it, unless what comes before `main` is not as usual."""
        if self.prefix or not all(name.startswith("FLC_") for name in self.environ):
            return super().spawn(words, environ, log)
        with Path(os.devnull).open("r+b") as null:
            streams = [null.fileno(), null.fileno(), log.fileno()]
            return cast("subprocess.Popen[bytes]", Forked(words, environ, streams))

    @property
    def pid(self) -> int:
        """The id of its process, for /proc and limits."""
        return self.process.pid

    def stop(self) -> None:
        """Freeze it (SIGSTOP)."""
        self.process.send_signal(signal.SIGSTOP)

    def cont(self) -> None:
        """Let it go on (SIGCONT)."""
        self.process.send_signal(signal.SIGCONT)

    async def restart(self, *seeds: str) -> None:
        """Kill it if it runs and start it from its directory."""
        self.kill9()
        await self.start(*seeds)

    async def ended(self) -> int:
        """Wait until it ends by itself, and give its exit code."""

        async def look() -> bool:
            return self.process.poll() is not None

        await until(f"{self.name} ends", look)
        return self.process.returncode

    async def clear(self) -> None:
        """End what is left of it, whatever state it is in."""
        for process in self.processes:
            process.kill()  # This reaches a stopped process too.
            process.wait()
        for client in self.clients:
            await client.close()

    async def flc(self, command: str, *words: str, stdin: bytes = b"") -> Ended:
        """Run `flc COMMAND` against this node."""
        return await run_flc(command, "--data", str(self.data), *words, stdin=stdin)

    async def history(self, *words: str) -> bytes:
        """Give what `flc log -n 0 --json` prints."""
        ended = await self.flc("log", *words, "-n", "0", "--json")
        assert ended.code == 0, ended.err
        return ended.out

    async def ask(self, op: str, **arguments: object) -> dict[str, Any]:
        """Ask for one record over the newest connection."""
        return await self.control.request(op, **arguments)

    async def health(self) -> int:
        """Give its local health; 0 is good."""
        members = await self.control.members()
        return next(int(member["health"]) for member in members if member["self"])

    def logged(self, *events: str) -> list[dict[str, Any]]:
        """Give the records of these events in its log, oldest first."""
        whole_lines = self.log.read_text(errors="replace").split("\n")[:-1]
        records = [json.loads(line) for line in whole_lines if line.startswith("{")]
        return [record for record in records if record["event"] in events]

    def resident_bytes(self) -> int:
        """Give its memory (RSS)."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")


class Cluster(LocalCluster):
    """The nodes of one test."""

    make_node = Node
    relay: Relay | None = None
    may_fail = False
    """Whether a test puts faults into the nodes' code, so that their logs have tracebacks."""

    def node(
        self,
        *options: str,
        name: str = "",
        environ: Mapping[str, str] | None = None,
        prefix: tuple[str, ...] = (),
    ) -> Node:
        """Add a node, which is not started; `environ` and `prefix` are a LocalNode's."""
        node = super().node(*options, name=name)
        node.environ, node.prefix = dict(environ or {}), prefix
        return node

    async def start_relayed(self, count: int, seed: int, *options: str) -> tuple[Relay, list[Node]]:
        """Start nodes with a relay between them; each has all of the relay's doors as seeds."""
        self.relay = relay = Relay(seed)
        hosts = [f"127.0.0.{number}" for number in range(11, 11 + count)]
        doors = [await relay.open(name, host) for name, host in zip(NAMES, hosts, strict=False)]
        seeds = [word for door in doors for word in ("--join", door.address)]
        nodes = [
            self.node("--bind", f"{door.host}:0", "--advertise", door.address, *seeds, *options)
            for door in doors
        ]
        for node in nodes:
            node.launch()
        for node in nodes:
            await node.ready()
        await self.all_alive(*nodes)
        return relay, nodes

    async def converged(
        self, *nodes: Node, messages: int = 0, seconds: float = DEADLINE_S
    ) -> bytes:
        """Wait for equal roots over that many messages; give the history that all print."""

        async def equal() -> bool:
            digests = [await node.ask("digest") for node in nodes]
            found = {(digest["root"], digest["messages"]) for digest in digests}
            return len(found) == 1 and messages in (0, digests[0]["messages"])

        await until("their roots are equal", equal, seconds)
        first, *others = [await node.history() for node in nodes]
        for other in others:
            assert first == other
        return first

    async def clear(self) -> None:
        """End all nodes."""
        for node in self.nodes:
            await node.clear()
        if self.relay is not None:
            self.relay.close()

    def tracebacks(self) -> list[str]:
        """Give the tracebacks in the logs, which only a bug can cause."""
        logs = [node.log.read_text(errors="replace") for node in self.nodes if node.log.exists()]
        return [log[log.index("Traceback") :] for log in logs if "Traceback" in log]


async def say_all(client: Client, room: str, bodies: list[str]) -> list[str]:
    """Say all at once; give the dots that were acknowledged before the daemon went away."""
    futures = [client.say_nowait(room, body) for body in bodies]
    outcomes = await asyncio.gather(*futures, return_exceptions=True)
    strange = [
        o for o in outcomes if isinstance(o, Exception) and not isinstance(o, DaemonGoneError)
    ]
    assert not strange, strange
    return [o.dot for o in outcomes if not isinstance(o, BaseException)]
