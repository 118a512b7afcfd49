"""Clusters of real daemons on real loopback, for as long as a test lasts.

Processes are ended by their ids alone, and each is reaped here.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flc_udp.client import Client, DaemonGoneError
from flc_udp.model.errors import FlcError
from tests.daemon.process import DEADLINE_S, FLC, Ended, clean_environment, run_flc, until
from tests.daemon.relay import Relay

NAMES = ("ann", "ben", "cho", "dee", "eli")


class Node:
    """One daemon: its directory, its process, and a connection to it."""

    def __init__(
        self,
        name: str,
        home: Path,
        options: tuple[str, ...] = (),
        environ: Mapping[str, str] | None = None,
        prefix: tuple[str, ...] = (),
    ) -> None:
        self.name = name
        self.data = home / name
        self.log = home / f"{name}.log"
        self.options = options
        self.prefix = prefix
        """A command that runs the daemon in its own place, as the same process."""
        self.address = ""
        self.id = ""
        self.environ = dict(environ or {})
        """What a start adds to the environment, or replaces in it."""
        self._process: subprocess.Popen[bytes] | None = None
        self._clients: list[Client] = []

    # --- Its process --------------------------------------------------------------------------

    async def start(self, *seeds: str) -> None:
        """Start it and wait until it answers."""
        self.launch(*seeds)
        await self.ready()

    def launch(self, *seeds: str) -> None:
        """Start it, whether or not it can run."""
        where = ("--name", self.name, "--data", str(self.data), "--bind", "127.0.0.1:0")
        joins = [word for seed in seeds for word in ("--join", seed)]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self.prefix, *FLC, "run", *where, "--profile", "local", *joins, *self.options],
                env={**clean_environment(), **self.environ},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )

    async def ready(self) -> None:
        """Wait until it answers; learn who it is."""
        await until(f"{self.name} answers", self._connects)
        node = (await self.ask("status"))["node"]
        self.address, self.id = node["address"], node["id"]

    async def _connects(self) -> bool:
        assert self.process.poll() is None, f"{self.name} has ended: {self.log.read_text()}"
        try:
            await self.client()
        except FlcError:
            return False
        return True

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """It has been started."""
        assert self._process is not None
        return self._process

    @property
    def pid(self) -> int:
        """For /proc and limits."""
        return self.process.pid

    def kill9(self) -> None:
        """No leave, no last word."""
        self.process.kill()
        self.process.wait()

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
        """Its exit code, once it has ended by itself."""

        async def look() -> bool:
            return self.process.poll() is not None

        await until(f"{self.name} ends", look)
        return self.process.returncode

    async def clear(self) -> None:
        """End what is left of it, whatever state it is in."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()  # reaches a stopped process too
            self._process.wait()
        for client in self._clients:
            await client.close()

    # --- What it is asked ---------------------------------------------------------------------

    async def client(self) -> Client:
        """Make a new connection, closed with the test."""
        client = await Client.connect(self.data / "control.sock")
        self._clients.append(client)
        return client

    async def flc(self, command: str, *words: str, stdin: bytes = b"") -> Ended:
        """Run `flc COMMAND` against this node."""
        return await run_flc(command, "--data", str(self.data), *words, stdin=stdin)

    async def ask(self, op: str, **arguments: object) -> dict[str, Any]:
        """One record, over the newest connection."""
        return await self._clients[-1].request(op, **arguments)

    async def states(self) -> dict[str, str]:
        """{name: state} of the members as this node sees them."""
        members = await self._clients[-1].members()
        return {member["name"]: member["state"] for member in members}

    async def health(self) -> int:
        """Its score against itself: 0 is good."""
        members = await self._clients[-1].members()
        return next(int(member["health"]) for member in members if member["self"])

    async def history(self, *words: str) -> bytes:
        """What `flc log -n 0 --json` prints."""
        ended = await self.flc("log", *words, "-n", "0", "--json")
        assert (ended.code, ended.err) == (0, "")
        return ended.out

    def logged(self, *events: str) -> list[dict[str, Any]]:
        """The records of these events in its log, oldest first."""
        whole_lines = self.log.read_text(errors="replace").split("\n")[:-1]
        records = [json.loads(line) for line in whole_lines if line.startswith("{")]
        return [record for record in records if record["event"] in events]

    def resident_bytes(self) -> int:
        """Its memory (RSS)."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")


class Cluster:
    """The nodes of one test."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.nodes: list[Node] = []
        self.relay: Relay | None = None

    def node(
        self,
        *options: str,
        name: str = "",
        environ: Mapping[str, str] | None = None,
        prefix: tuple[str, ...] = (),
    ) -> Node:
        """One more node, not started."""
        node = Node(name or NAMES[len(self.nodes)], self.home, options, environ, prefix)
        self.nodes.append(node)
        return node

    async def start(
        self, count: int, *options: str, environ: Mapping[str, str] | None = None
    ) -> list[Node]:
        """That many nodes, all of which see all of them alive."""
        nodes = [self.node(*options, environ=environ) for _ in range(count)]
        await self.start_these(*nodes)
        return nodes

    async def start_these(self, first: Node, *others: Node) -> None:
        """Start them, the first being the others' seed, until all see all of them alive."""
        await first.start()
        for node in others:
            node.launch(first.address)
        for node in others:
            await node.ready()
        await self.all_alive(first, *others)

    async def start_relayed(self, count: int, seed: int, *options: str) -> tuple[Relay, list[Node]]:
        """The same with a relay between them: each is a seed of every other, by its door."""
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

    async def all_alive(self, *nodes: Node, seconds: float = DEADLINE_S) -> None:
        """Wait until each of these sees exactly these alive."""
        wanted = {node.name: "alive" for node in nodes}

        async def seen() -> bool:
            return all([await node.states() == wanted for node in nodes])

        await until("all see all alive", seen, seconds)

    async def converged(
        self, *nodes: Node, messages: int = 0, seconds: float = DEADLINE_S
    ) -> bytes:
        """Wait for equal roots over so many messages; return the one history they all print."""

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
        """End everything."""
        for node in self.nodes:
            await node.clear()
        if self.relay is not None:
            self.relay.close()

    def tracebacks(self) -> list[str]:
        """What daemons wrote of themselves that only a bug makes them write."""
        logs = [node.log.read_text(errors="replace") for node in self.nodes if node.log.exists()]
        return [log[log.index("Traceback") :] for log in logs if "Traceback" in log]


async def say_all(client: Client, room: str, bodies: list[str]) -> list[str]:
    """Say them all at once; the dots of those that were acknowledged before the daemon went."""
    futures = [client.say_nowait(room, body) for body in bodies]
    outcomes = await asyncio.gather(*futures, return_exceptions=True)
    strange = [
        o for o in outcomes if isinstance(o, Exception) and not isinstance(o, DaemonGoneError)
    ]
    assert not strange, strange
    return [o.dot for o in outcomes if not isinstance(o, BaseException)]
