"""Clusters of real daemons on this machine, for the demo, the benchmarks and the tests.

    with temporary_cluster() as cluster:
        asyncio.run(play(cluster))    # ann, ben, cho = await cluster.start(3)

Promise: what is started here is ended here. A daemon is ended by its process id alone and then
reaped, so the id never belongs to another process; and `temporary_cluster` leaves no file either.
"""

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import flc_udp
from flc_udp.cli.connect import SOCKET
from flc_udp.client import Client
from flc_udp.model.errors import FlcError

FLC = (sys.executable, "-P", "-m", "flc_udp")
"""The words that start this same flc again."""

NAMES = ("ann", "ben", "cho", "dee", "eli", "fay", "gus", "hal")

POLL_S = 0.02
"""The time between two looks at a condition: a person does not notice it."""

START_S = 45.0
"""A daemon that does not answer after this time has failed, even on a busy machine."""

END_S = 3.0
"""A daemon may take this time to leave in order; then it is killed."""

END_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

NOT_OURS = ("FLC_", "STATE_DIRECTORY", "XDG_", "PYTHON", "NOTIFY_SOCKET", "WATCHDOG_")
"""Variables that begin like this would lead a daemon or a command somewhere else."""


async def until(
    promise: str, is_kept: Callable[[], Awaitable[bool]], limit_s: float = START_S
) -> None:
    """Wait until the promise is kept; raises FlcError that names it when the time is over."""
    deadline_s = time.monotonic() + limit_s
    while not await is_kept():
        if time.monotonic() > deadline_s:
            raise broken(promise, f"not within {limit_s:.0f} s")
        await asyncio.sleep(POLL_S)


def broken(promise: str, how: str) -> FlcError:
    """Make the error of a promise that did not hold."""
    hint = "run it again; if it happens again, please report it"
    return FlcError(f"promise broken: {promise} ({how})", hint)


def clean_environment() -> dict[str, str]:
    """Give this process's environment, without what would lead a daemon or command elsewhere."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(NOT_OURS)}
    return {**kept, "PYTHONPATH": str(Path(flc_udp.__file__).parents[1])}


class LocalNode:
    """One daemon: its directory, its log, its process, and connections to it."""

    def __init__(self, name: str, home: Path, options: tuple[str, ...] = ()) -> None:
        self.name, self.data, self.log = name, home / name, home / f"{name}.log"
        self.options = options
        """Words for `flc run`, after those of `launch`."""
        self.environ: dict[str, str] = {}
        """Variables that a launch adds to the environment, or replaces in it."""
        self.prefix: tuple[str, ...] = ()
        """A command that runs the daemon in another place, as the same process."""
        self.address = self.id = ""
        self.processes: list[subprocess.Popen[bytes]] = []
        """The processes of all launches."""
        self.clients: list[Client] = []
        """Connections to it."""

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The process of the last launch."""
        return self.processes[-1]

    @property
    def control(self) -> Client:
        """The newest connection."""
        return self.clients[-1]

    def launch(self, *seeds: str) -> None:
        """Start the process, whether or not it can run."""
        where = ("--name", self.name, "--data", str(self.data), "--bind", "127.0.0.1:0")
        joins = [word for seed in seeds for word in ("--join", seed)]
        words = ("run", *where, "--profile", "local", *joins, *self.options)
        with self.log.open("ab") as log:
            self.processes.append(self.spawn(words, {**clean_environment(), **self.environ}, log))

    def spawn(
        self, words: Sequence[str], environ: Mapping[str, str], log: BinaryIO
    ) -> subprocess.Popen[bytes]:
        """Start `flc` with these words."""
        return subprocess.Popen(
            [*self.prefix, *FLC, *words],
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            start_new_session=True,  # Ctrl-C is for whoever ends the nodes in order.
        )

    async def start(self, *seeds: str) -> None:
        """Start it and wait until it answers."""
        self.launch(*seeds)
        await self.ready()

    async def ready(self) -> None:
        """Wait until it answers, and learn who it is."""
        await until(f"{self.name} starts", self._answers)
        node = (await self.control.status())["node"]
        self.address, self.id = node["address"], node["id"]

    async def _answers(self) -> bool:
        if self.process.poll() is not None:
            words = self.log.read_text(errors="replace").strip().splitlines() or ["no word"]
            raise broken(f"{self.name} starts", words[-1])
        try:
            await self.client()
        except FlcError:
            return False
        return True

    async def client(self) -> Client:
        """Make a new connection."""
        self.clients.append(await Client.connect(self.data / SOCKET))
        return self.control

    def kill9(self) -> None:
        """`kill -9`: it says goodbye to nobody."""
        self.process.kill()
        self.process.wait()

    async def states(self) -> dict[str, str]:
        """Give {name: state} of the members as this node sees them."""
        return {member["name"]: member["state"] for member in await self.control.members()}

    async def history(self, *words: str) -> bytes:
        """Give what `flc log -n 0 --json` prints."""
        process = await asyncio.create_subprocess_exec(
            *FLC, "log", *words, "-n", "0", "--json", "--data", str(self.data),
            env=clean_environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        )  # fmt: skip
        lines, _ = await process.communicate()
        if process.returncode:
            raise broken(f"{self.name} prints its log", f"exit {process.returncode}")
        return lines


class LocalCluster:
    """Nodes whose directories are in one directory."""

    make_node = LocalNode

    def __init__(self, home: Path) -> None:
        self.home = home
        self.nodes: list[LocalNode] = []

    def node(self, *options: str, name: str = "") -> LocalNode:
        """Add a node, which is not started."""
        number = len(self.nodes)
        name = name or (NAMES[number] if number < len(NAMES) else f"node{number}")
        self.nodes.append(self.make_node(name, self.home, options))
        return self.nodes[-1]

    async def start(self, count: int, *options: str) -> list[LocalNode]:
        """Start new nodes, and wait until all of them see all of them alive."""
        nodes = [self.node(*options) for _ in range(count)]
        await self.start_these(*nodes)
        return nodes

    async def start_these(self, first: LocalNode, *others: LocalNode) -> None:
        """Start these nodes; the first is the seed of the others."""
        await first.start()
        for node in others:
            node.launch(first.address)
        for node in others:
            await node.ready()
        await self.all_alive(first, *others)

    async def all_alive(self, *nodes: LocalNode, seconds: float = START_S) -> None:
        """Wait until each of these nodes sees exactly these alive, and nobody else."""
        assert nodes, "of no nodes it would always be true"
        wanted = {node.name: "alive" for node in nodes}

        async def are_seen() -> bool:
            return all([await node.states() == wanted for node in nodes])

        await until("every node sees every member alive", are_seen, seconds)

    async def is_converged(self) -> bool:
        """Whether all nodes hold the same messages."""
        return len({(await node.control.digest())["root"] for node in self.nodes}) == 1

    def end(self) -> None:
        """End all nodes: in order if they do it within END_S, else by kill -9."""
        started = [process for node in self.nodes for process in node.processes]
        for process in started:
            process.terminate()
        deadline_s = time.monotonic() + END_S
        for process in started:
            try:
                process.wait(max(deadline_s - time.monotonic(), 0))
            except subprocess.TimeoutExpired:
                process.kill()  # This reaches a stopped process too.
                process.wait()


@contextmanager
def temporary_cluster() -> Iterator[LocalCluster]:
    """Give an empty cluster; when the block ends, by whatever way, nothing is left of it."""
    home = tempfile.TemporaryDirectory(prefix="flc-", ignore_cleanup_errors=True)
    cluster = LocalCluster(Path(home.name))
    handlers = {number: signal.getsignal(number) for number in END_SIGNALS}
    # All of them end as Ctrl-C does, which asyncio turns into an orderly cancel.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        if handlers[number] is not signal.SIG_IGN:  # It is ignored under nohup.
            signal.signal(number, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        yield cluster
    finally:
        for number in END_SIGNALS:
            signal.signal(number, signal.SIG_IGN)  # Nothing may stop the clearing up.
        cluster.end()
        home.cleanup()
        for number, handler in handlers.items():
            signal.signal(number, handler)
