"""`flc run`: one node in the foreground, from reading its settings until it has left.

Rules. The data directory is locked before anything else is touched. What cannot work is refused
before the node is seen by anybody. SIGTERM and SIGINT leave in order. A broken invariant ends the
process with its traceback, because a restart from the log is safer than going on.
"""

import asyncio
import gc
import os
import random
import resource
import signal
import socket
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from flc_udp import __version__
from flc_udp.config import Settings
from flc_udp.daemon import notices
from flc_udp.daemon.control.keeping import keep_socket
from flc_udp.daemon.control.operations import Operations
from flc_udp.daemon.control.says import SayRequests
from flc_udp.daemon.control.server import DESCRIPTORS_LEAST, Control
from flc_udp.daemon.ground import LoopGround
from flc_udp.daemon.hooks.hooks import Hooks
from flc_udp.daemon.keys import Keys
from flc_udp.daemon.loop import choose
from flc_udp.daemon.next_start import check_files
from flc_udp.daemon.seeds import keep_joining
from flc_udp.daemon.settings import reload, unknown_variables
from flc_udp.daemon.stderr import log_to_stderr, tell
from flc_udp.daemon.supervisor import Supervisor
from flc_udp.daemon.udp import Bound, bind, resolve
from flc_udp.daemon.watch.status import Status
from flc_udp.daemon.watch.web import Web
from flc_udp.model.address import Address
from flc_udp.model.errors import FlcError, StoreFailed
from flc_udp.model.labels import check_label
from flc_udp.store.directory import DataDirectory, default_directory
from flc_udp.store.log import Log
from flc_udp.store.rights import open_to_others
from flc_udp.store.way_out import way_out
from flc_udp.waist.birth import give_birth, remembered_addresses
from flc_udp.waist.node import Node
from flc_udp.wire.seal import Keyring

DRAIN_S = 5.0
"""A leaving node waits at most this long for commits that are under way."""

GARBAGE_THRESHOLDS = (50_000, 20, 100)
"""How many objects are made before the collector looks for cycles. Messages are in no cycle, and
thousands of them wait at a time. With Python's default of 700 the collector takes half of the time
of a node that catches up."""


def main(load: Callable[[], Settings]) -> int:
    """Run a node until it is told to leave; raises FlcError where it cannot begin.

    `load` reads its settings: once now, and again with each SIGHUP.
    """
    _check_descriptors()
    settings = load()
    log_to_stderr(settings)
    for variable, hint in unknown_variables(os.environ):
        tell(notices.VariableUnknown(variable, hint))
    loop_factory, problem = choose()
    if problem:
        tell(notices.LoopReplaced(problem))
    gc.freeze()
    gc.set_threshold(*GARBAGE_THRESHOLDS)
    path = Path(settings.data or default_directory(os.environ))
    with suppress(OSError):  # Whoever locks the directory tells that better.
        check_files(path.absolute())
    directory = DataDirectory(path, settings.control_group)
    try:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(_run(settings, load, directory))
    finally:
        directory.release()
    return 0


async def _run(settings: Settings, load: Callable[[], Settings], directory: DataDirectory) -> None:
    name = settings.name or socket.gethostname()
    check_label("node name", name)
    structlog.contextvars.bind_contextvars(node=name)
    keys = Keys(settings, directory)
    with ExitStack() as sockets:
        sock, bound = await bind(settings.bind)
        sockets.enter_context(sock)
        _check_exposure(settings, keys.ring, bound)
        address = await _advertised(settings, bound)
        watched = await bind(settings.metrics, socket.SOCK_STREAM) if settings.metrics else None
        if watched is not None:
            sockets.enter_context(watched.sock)
        log = Log.open(directory.database)
        with _blaming(directory.database):
            daemon = Daemon(settings, load, directory, log, keys, name, watched)
        try:
            with _blaming(directory.database):
                await daemon.start(sock, address)
            await daemon.ended
        finally:
            await daemon.stop()


@dataclass(eq=False)
class Daemon:
    """The parts of a running node, joined."""

    settings: Settings
    load: Callable[[], Settings]
    directory: DataDirectory
    log: Log
    keys: Keys
    name: str
    watched: Bound | None

    def __post_init__(self) -> None:
        """Join the parts. Nobody sees the node yet."""
        settings, directory = self.settings, self.directory
        reader = self._reader = self.log.reader()
        ground = self._ground = LoopGround(self.log, directory, reader.last_position())
        pages = None if self.watched is None else self.watched.address
        status = self._status = Status(settings, ground, directory, reader, self.keys, pages)
        operations = Operations(ground, reader, status, self.keys, self.leave)
        says = SayRequests(ground, reader, self.name)
        self._control = Control(operations, says, settings.post_queue_max)
        ground.on_show.append(self._control.show)
        ground.on_answered.append(self._control.flush_all)
        self._hooks = Hooks(settings, ground, reader, directory.path)
        status.slowed_s = self._control.slowed_s
        status.more |= {"clients": self._control.figures, "hooks": self._hooks.record}
        self._supervisor = Supervisor(os.environ, ground, status.line)
        self._web = Web(ground.failures)
        self._joining: asyncio.Task[None] | None = None
        self._keeping: asyncio.Task[None] | None = None
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when the node has left, or with what broke it."""
        ground.after_turn.append(self._end_if_left)
        ground.broke = self._broke

    async def start(self, sock: socket.socket, address: Address) -> None:
        """From here on the node can be seen by others."""
        loop, settings, ground = asyncio.get_running_loop(), self.settings, self._ground
        loop.set_exception_handler(self._loop_failed)
        # The kernel counts twice the size of full datagrams, and about that of their buffers.
        buffer_bytes = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        ground.buffer_bytes = buffer_bytes // 2
        # All that can be refused comes first, and the ring is written last of that.
        with ExitStack() as on_failure:
            listening = on_failure.enter_context(self.directory.bind_control())
            node, remembered = self._born(address), remembered_addresses(self.log, ground)
            self.keys.save()
            # The node first: whoever missed it may send to it the moment its socket is read.
            ground.start(node)
            ground.datagrams.bound = sock
            await loop.create_datagram_endpoint(lambda: ground.datagrams, sock=sock)
            await self._control.listen(listening)
            on_failure.pop_all()
        self._keeping = asyncio.create_task(
            keep_socket(self.directory, self._control, ground.failures)
        )
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.leave)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        if self.watched is not None:
            # Here, so that a node nobody watches starts 25 ms sooner and is 2 MB smaller.
            from flc_udp.daemon.watch.pages import pages_of  # noqa: PLC0415  # as said above

            self._web.pages = pages_of(self._status, self._control, self._hooks, self._web)
            await self._web.serve(self.watched.sock)
        self._hooks.start(settings.hook_processes, ground.failures)
        self._supervisor.ready()
        tell(
            notices.NodeStarted(
                id=node.me.id,
                address=address,
                data=self.directory.path,
                cluster=settings.cluster,
                sealed=not self.keys.ring.is_open,
                messages=node.facts().messages,
                metrics=None if self.watched is None else self.watched.address,
                version=__version__,
            )
        )
        for found in open_to_others(self.directory.path, settings.key_file):
            tell(notices.OpenToOthers(*found))
        self._join(remembered)
        self._join_seeds()

    def leave(self) -> None:
        """Leave in order. When asked twice, leave at once."""
        if self._ground.node.facts().is_leaving:
            self._end()
            return
        tell(notices.NodeLeaving())
        self._supervisor.stopping()
        self._ground.node.leave()
        self._ground.turn_soon()

    async def stop(self) -> None:
        """Finish what is being written, and close everything."""
        self._supervisor.stopping()
        for task in (self._joining, self._keeping):
            if task is not None:
                task.cancel()
        if self._ground.has_started:
            self._ground.node.stop()
        await self._hooks.stop()
        # Posts that were taken are answered before the socket closes; a failing disk answers none.
        with suppress(TimeoutError):
            await asyncio.wait_for(self._ground.drained(), DRAIN_S)
        self._web.close()
        await self._control.close()
        self.directory.remove_socket()
        await self._ground.stop()
        self._ground.datagrams.close()
        self._reader.close()
        self.log.close()
        if self._ground.has_started:
            tell(notices.NodeStopped())

    # --- Inside -----------------------------------------------------------------------------------

    def _born(self, address: Address) -> Node:
        log, reader, seal, ground = self.log, self._reader, self.keys.seal, self._ground
        chance = random.SystemRandom()
        return give_birth(self.settings, self.name, address, log, reader, seal, ground, chance)

    def _join(self, addresses: list[Address]) -> None:
        """Ask at these addresses to be let into the cluster, at all of them at once."""
        self._ground.node.join(addresses)
        self._ground.turn_soon()

    def _join_seeds(self) -> None:
        """Ask the seeds. While they are silent, their names are looked up again."""
        if self._joining is not None:
            self._joining.cancel()
        self._joining = asyncio.create_task(self._keep_joining())

    async def _keep_joining(self) -> None:
        live, seeds, failures = self._live_addresses, self.settings.join, self._ground.failures
        await asyncio.gather(*(keep_joining(seed, self._join, live, failures) for seed in seeds))

    def _live_addresses(self) -> set[Address]:
        return {row.address for row in self._ground.node.live_rows()}

    def _reload(self) -> None:
        """Read the settings again. Where they cannot be read, the node goes on as before."""
        self._supervisor.reloading()
        try:
            found = self.load()
        except FlcError as error:
            tell(notices.SettingsNotReloaded(str(error), error.hint))
        else:
            self.settings, changed, needs_restart = reload(self.settings, found)
            if needs_restart:
                tell(notices.RestartNeeded(needs_restart))
            self._status.settings = self.settings
            log_to_stderr(self.settings)
            self._ground.node.reload(self.settings)
            self._hooks.reload(self.settings)
            if "join" in changed:
                self._join_seeds()
            self._ground.turn_soon()
            tell(notices.SettingsReloaded(changed))
        self._supervisor.reloaded()

    def _end_if_left(self) -> None:
        if self._ground.node.has_left:
            self._end()

    def _end(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)

    def _loop_failed(self, _loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        error = context.get("exception")
        # uvloop tells of what a protocol raised without a message.
        message = str(context.get("message", "the event loop met an error"))
        failed = error if isinstance(error, BaseException) else RuntimeError(message)
        self._ground.failures.of_part("the event loop", failed)

    def _broke(self, error: BaseException) -> None:
        if not self.ended.done():
            self.ended.set_exception(error)


@contextmanager
def _blaming(database: Path) -> Iterator[None]:
    """Say that the log cannot be used, where it opens and then cannot be read or written."""
    try:
        yield
    except StoreFailed as error:
        hint = f"`flc fsck --repair --data {database.parent}` keeps what can be read of it"
        if isinstance(error.__cause__, sqlite3.OperationalError):
            hint = way_out(database.parent, error.__cause__)
        raise FlcError(f"the log {database} cannot be used: {error}", hint) from error


def _check_descriptors() -> None:
    """Raise FlcError if the process may open so few that it would fail here and there."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit != resource.RLIM_INFINITY and limit < DESCRIPTORS_LEAST:
        raise FlcError(
            f"{limit} descriptors are allowed, at least {DESCRIPTORS_LEAST} are needed",
            "`ulimit -n 4096` in the shell that starts it; under systemd LimitNOFILE=4096",
        )


def _check_exposure(settings: Settings, ring: Keyring, bound: Address) -> None:
    if not ring.is_open or bound.is_loopback or settings.insecure:
        return
    if len(ring.keys) > 1:  # The cluster is on its way from open to sealed.
        raise FlcError(
            f"{bound} is not loopback and the ring opens without a key too: anybody could write",
            "say --insecure until `flc keys remove open` was done on all nodes",
        )
    raise FlcError(
        f"{bound} is not loopback and there is no key: anybody could read and write",
        "make a key with `flc keygen > FILE; chmod 600 FILE` and give --key-file FILE, or say "
        "--insecure",
    )


async def _advertised(settings: Settings, bound: Address) -> Address:
    """The address that others reach this node by. A wildcard bind learns it from its seeds."""
    if not settings.advertise:
        return bound

    def misfit(address: Address) -> tuple[bool, bool]:
        is_other = (":" in address.host) != (":" in bound.host)
        return is_other and bound.host != "::", address.is_loopback and not bound.is_loopback

    address = min(await resolve(settings.advertise), key=misfit)  # The first of those that fit.
    return address if address.port else Address(address.host, bound.port)
