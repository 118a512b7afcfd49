"""`flc run`: one node in the foreground, from reading its settings until it has left.

Rules. The data directory is locked before anything else is touched. What cannot work is refused
before the node is seen by anybody. SIGTERM and SIGINT leave in order. A broken invariant ends the
process with its traceback, because a restart from the log is safer than going on.
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import structlog
import uvloop

from flc_udp import __version__
from flc_udp.config import Settings
from flc_udp.daemon.control.operations import Operations
from flc_udp.daemon.control.says import Says
from flc_udp.daemon.control.server import Control
from flc_udp.daemon.ground import LoopGround
from flc_udp.daemon.hooks.hooks import Hooks
from flc_udp.daemon.keys import Keys
from flc_udp.daemon.notices import (
    NodeLeaving,
    NodeStarted,
    NodeStopped,
    RestartNeeded,
    SettingsNotReloaded,
    SettingsReloaded,
    VariableUnknown,
)
from flc_udp.daemon.seeds import check_seeds, keep_joining
from flc_udp.daemon.settings import reload, unknown_variables
from flc_udp.daemon.stderr import log_to_stderr, tell
from flc_udp.daemon.supervisor import Notifier, Supervisor
from flc_udp.daemon.udp import Datagrams, bind, resolve
from flc_udp.daemon.watch.clients import clients_of
from flc_udp.daemon.watch.status import Status
from flc_udp.daemon.watch.web import Listening, Page, Web, listening
from flc_udp.model.address import Address
from flc_udp.model.errors import FlcError, StoreFailed
from flc_udp.model.message import check_label
from flc_udp.store.directory import DataDirectory, default_directory
from flc_udp.store.log import Log
from flc_udp.waist.birth import give_birth, remembered_addresses
from flc_udp.waist.node import Node
from flc_udp.wire.message_json import Record
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
    settings = load()
    log_to_stderr(settings)
    for variable, hint in unknown_variables(os.environ):
        tell(VariableUnknown(variable, hint))
    gc.freeze()
    gc.set_threshold(*GARBAGE_THRESHOLDS)
    directory = DataDirectory(settings.data or default_directory(os.environ))
    try:
        return uvloop.run(_run(settings, load, directory))
    finally:
        directory.release()


async def _run(settings: Settings, load: Callable[[], Settings], directory: DataDirectory) -> int:
    name = settings.name or socket.gethostname()
    check_label("node name", name)
    structlog.contextvars.bind_contextvars(node=name)
    check_seeds(settings.join)
    keys = Keys(settings, directory)
    with ExitStack() as refused:
        sock, bound = await bind(settings.bind)
        refused.callback(sock.close)
        _check_exposure(settings, keys.ring, bound)
        address = await _advertised(settings, bound)
        watched = await listening(settings.metrics) if settings.metrics else None
        if watched is not None:
            refused.callback(watched.sock.close)
        log = Log.open(directory.database)
        refused.pop_all()
    with _blaming(directory.database):
        daemon = Daemon(settings, load, directory, log, keys, name, watched)
    try:
        with _blaming(directory.database):
            await daemon.start(sock, address)
        daemon.join(remembered_addresses(log))
        daemon.join_seeds()
        return await daemon.until_left()
    finally:
        await daemon.stop()
        sock.close()  # A start that failed may have given it to nobody.
        if watched is not None:
            watched.sock.close()


class Daemon:
    """The parts of a running node, joined."""

    def __init__(
        self,
        settings: Settings,
        load: Callable[[], Settings],
        directory: DataDirectory,
        log: Log,
        keys: Keys,
        name: str,
        watched: Listening | None,
    ) -> None:
        self._settings = settings
        self._load = load
        self._directory = directory
        self._log = log
        self._keys = keys
        self._name = name
        self._watched = watched
        self._web: Web | None = None
        self._reader = log.reader()
        ground = self._ground = LoopGround(log, directory, self._reader.last_position())
        pages = None if watched is None else watched.address
        self._status = Status(settings, ground, directory, self._reader, keys, pages=pages)
        operations = Operations(ground, self._reader, self._status, keys, self.leave)
        says = Says(ground, self._reader, name)
        self._control = Control(
            operations, says, ground.shown, settings.post_queue_max, self._broke
        )
        ground.on_show.append(self._control.show)
        self._hooks = Hooks(settings, ground, self._reader, directory.path, self._broke)
        self._status.more |= {"clients": self._clients, "hooks": self._hook_records}
        self._supervisor = Supervisor(Notifier(os.environ), ground, self._status.line)
        self._datagrams: Datagrams | None = None
        self._ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._joining: asyncio.Task[None] | None = None
        ground.after_turn.append(self._end_if_left)

    @property
    def _node(self) -> Node:
        return self._ground.node

    async def start(self, sock: socket.socket, address: Address) -> None:
        """From here on the node can be seen by others."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._loop_broke)
        maps_v4 = sock.family == socket.AF_INET6
        datagrams = self._datagrams = Datagrams(self._ground.received, maps_v4=maps_v4)
        # The node first: whoever missed it may send to it the moment its socket is read.
        node = give_birth(
            self._settings,
            self._name,
            address,
            self._log,
            self._reader,
            self._keys.seal,
            self._ground,
            random.SystemRandom(),
        )
        self._ground.start(node, datagrams)
        await loop.create_datagram_endpoint(lambda: datagrams, sock=sock)
        await self._control.listen(self._directory.socket_path(), self._settings.control_group)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.leave)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        if self._watched is not None:
            await self._serve_pages(self._watched)
        self._hooks.start()
        self._supervisor.ready()
        tell(
            NodeStarted(
                id=node.me.id,
                address=address,
                data=self._directory.path,
                cluster=self._settings.cluster,
                sealed=not self._keys.ring.is_open,
                messages=node.facts().messages,
                metrics=None if self._watched is None else self._watched.address,
                version=__version__,
            )
        )

    def join(self, addresses: list[Address]) -> None:
        """Ask at these addresses to be let into the cluster, at all of them at once."""
        self._node.join(addresses)
        self._ground.turn_soon()

    def join_seeds(self) -> None:
        """Ask the seeds. While they are silent, their names are looked up again."""
        if self._joining is not None:
            self._joining.cancel()
        joining = keep_joining(self._settings.join, self.join, self._live_addresses)
        self._joining = asyncio.get_running_loop().create_task(joining)

    async def until_left(self) -> int:
        """Wait until the node has left; return the exit code."""
        return await self._ended

    def leave(self) -> None:
        """Leave in order. When asked twice, leave at once."""
        if self._node.facts().is_leaving:
            self._end(0)
            return
        tell(NodeLeaving())
        self._supervisor.stopping()
        self._node.leave()
        self._ground.turn_soon()

    async def stop(self) -> None:
        """Finish what is being written, and close everything."""
        self._supervisor.stopping()
        if self._joining is not None:
            self._joining.cancel()
        if self._ground.has_started:
            self._node.stop()
        await self._hooks.stop()
        # Posts that were taken are answered before the socket closes; a failing disk answers none.
        with suppress(TimeoutError):
            await asyncio.wait_for(self._ground.drained(), DRAIN_S)
        if self._web is not None:
            self._web.close()
        await self._control.close()
        self._directory.remove_socket()
        await self._ground.stop()
        if self._datagrams is not None:
            self._datagrams.close()
        self._reader.close()
        self._log.close()
        tell(NodeStopped())

    # --- Inside -----------------------------------------------------------------------------------

    async def _serve_pages(self, watched: Listening) -> None:
        # Here, so that a node nobody watches starts 25 ms sooner and is 2 MB smaller.
        from flc_udp.daemon.watch.metrics import NodeCollector  # noqa: PLC0415  # as said above
        from flc_udp.daemon.watch.pages import pages_of  # noqa: PLC0415  # as said above

        pages: dict[str, Callable[[], Page]] = {}  # Filled below: the metrics tell of the web too.
        web = self._web = Web(pages)
        parts = (self._control, self._hooks, web)
        collector = NodeCollector(self._status, self._ground, self._directory, self._reader, *parts)
        pages |= pages_of(self._status, collector)
        await web.serve(watched.sock)

    def _hook_records(self) -> Record:
        return {name: figures.record() for name, figures in self._hooks.figures().items()}

    def _clients(self) -> Record:
        return clients_of(self._control, self._ground.node)._asdict()

    def _live_addresses(self) -> set[Address]:
        return {row.address for row in self._node.live_rows()}

    def _reload(self) -> None:
        """Read the settings again. Where they cannot be read, the node goes on as before."""
        self._supervisor.reloading()
        try:
            found = self._load()
            check_seeds(found.join)
        except FlcError as error:
            tell(SettingsNotReloaded(str(error), error.hint))
        else:
            settings, changed, needs_restart = reload(self._settings, found)
            if needs_restart:
                tell(RestartNeeded(needs_restart))
            self._go_on_with(settings, changed)
            tell(SettingsReloaded(changed))
        self._supervisor.reloaded()

    def _go_on_with(self, settings: Settings, changed: list[str]) -> None:
        self._settings = self._status.settings = settings
        log_to_stderr(settings)
        self._node.reload(settings)
        self._hooks.reload(settings)
        if "join" in changed:
            self.join_seeds()
        self._ground.turn_soon()

    def _end_if_left(self) -> None:
        if self._node.has_left:
            self._end(0)

    def _end(self, code: int) -> None:
        if not self._ended.done():
            self._ended.set_result(code)

    def _loop_broke(self, _loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        error = context.get("exception")
        # uvloop tells of what a protocol raised without a message.
        message = str(context.get("message", "the event loop met an error"))
        self._broke(error if isinstance(error, BaseException) else None, message)

    def _broke(self, error: BaseException | None, message: str = "") -> None:
        if not self._ended.done():
            failure = error or RuntimeError(message)
            self._ended.set_exception(failure)


@contextmanager
def _blaming(database: Path) -> Iterator[None]:
    """Say that the log cannot be used, where it opens and then cannot be read or written."""
    try:
        yield
    except StoreFailed as error:
        hint = f"see `df {database.parent}` and `flc fsck --data {database.parent}`"
        raise FlcError(f"the log {database} cannot be used: {error}", hint) from error


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
        "make a key with `flc keygen > FILE` and give --key-file FILE, or say --insecure",
    )


async def _advertised(settings: Settings, bound: Address) -> Address:
    """The address that others reach this node by. A wildcard bind learns it from its seeds."""
    if not settings.advertise:
        return bound
    address = (await resolve(settings.advertise))[0]
    return address if address.port else Address(address.host, bound.port)
