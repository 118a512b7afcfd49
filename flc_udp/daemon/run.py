"""`flc run`: one node in the foreground, from its settings to its orderly leave.

Rules. The data directory is locked before anything else is touched. What cannot work is refused
before the node is seen by anybody. SIGTERM and SIGINT leave in order; a broken invariant ends the
process with its traceback, because a restart from the log is safer than going on.
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
import secrets
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

import structlog
import uvloop

from flc_udp import __version__
from flc_udp.config import ID_BYTES, Settings
from flc_udp.core.liveness.members import alive_row
from flc_udp.daemon.control.ops import Ops
from flc_udp.daemon.control.says import Says
from flc_udp.daemon.control.server import Control
from flc_udp.daemon.ground import LoopGround
from flc_udp.daemon.hooks.hooks import Hooks
from flc_udp.daemon.keys import Keys
from flc_udp.daemon.records import Record
from flc_udp.daemon.seeds import check_seeds, keep_joining
from flc_udp.daemon.settings import reload, unknown_variables
from flc_udp.daemon.stderr import log_to_stderr
from flc_udp.daemon.supervisor import Notifier, Supervisor
from flc_udp.daemon.udp import Datagrams, bind, resolve
from flc_udp.daemon.watch.clients import clients_of
from flc_udp.daemon.watch.status import Status
from flc_udp.daemon.watch.web import Listening, Page, Web, listening
from flc_udp.model.address import Address, parse_numeric
from flc_udp.model.dots import NodeId
from flc_udp.model.errors import FlcError, StoreFailed
from flc_udp.model.message import Message, check_label
from flc_udp.model.tags import parse_tags
from flc_udp.store.directory import DataDirectory, default_directory
from flc_udp.store.log import Log
from flc_udp.waist.node import Node
from flc_udp.wire.seal import SESSION_BYTES, Keyring

DRAIN_S = 5.0
"""A leaving node waits so long for commits that are under way."""

PEERS_PAUSE_S = 10.0
"""Between two writings of who is there: a flapping cluster does not wear the disk."""

PEERS_SAVED_MAX = 256
"""Members remembered for a start without seeds."""

GARBAGE_THRESHOLDS = (50_000, 20, 100)
"""Objects made before the collector looks for cycles. Messages are in none, and thousands of them
wait at a time: with Python's 700 the collector takes half of a node's work that catches up."""


def main(load: Callable[[], Settings]) -> int:
    """Run a node until it is told to leave; raises FlcError where it cannot begin.

    `load` reads its settings: once now, and again with each SIGHUP.
    """
    settings = load()
    log_to_stderr(settings)
    for variable, hint in unknown_variables(os.environ):
        structlog.get_logger().warning("variable_unknown", variable=variable, hint=hint)
    gc.freeze()
    gc.set_threshold(*GARBAGE_THRESHOLDS)
    directory = DataDirectory.open(settings.data or default_directory(os.environ))
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
        daemon.join_remembered()
        daemon.join_seeds()
        return await daemon.until_left()
    finally:
        await daemon.stop()


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
        self._logger = structlog.get_logger()
        self._reader = log.reader()
        self._ground = LoopGround(log, directory, self._show, self._reader.last_position)
        self._watched = watched
        self._web: Web | None = None
        self._status = Status(
            settings,
            self._ground,
            directory,
            self._reader,
            keys,
            metrics=None if watched is None else watched.address,
        )
        ops = Ops(self._ground, self._reader, self._status, keys, self.leave)
        self._says = Says(self._ground, self._reader, name)
        self._control = Control(ops, self._says, settings.post_queue_max, self._broke)
        self._hooks = Hooks(settings, self._ground, ops, directory.path, self._broke)
        self._status.more |= {"clients": self._clients, "hooks": self._hook_records}
        self._supervisor = Supervisor(Notifier(os.environ), self._ground, self._status.line)
        self._datagrams: Datagrams | None = None
        self._ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._joining: asyncio.Task[None] | None = None
        self._next_save = 0.0
        self._ground.after_turn += [self._end_if_left, self._save_peers]

    async def start(self, sock: socket.socket, address: Address) -> None:
        """From here on the node is seen."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._loop_broke)
        maps_v4 = sock.family == socket.AF_INET6
        datagrams = self._datagrams = Datagrams(self._ground.received, maps_v4=maps_v4)
        # The node first: whoever missed it may send to it the moment its socket is read.
        node = self._make_node(address)
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
        self._logger.info(
            "node_started",
            id=node.replica.liveness.me.id.hex(),
            address=str(address),
            data=str(self._directory.path),
            cluster=self._settings.cluster,
            sealed=not self._keys.ring.is_open,
            messages=node.replica.standing.messages,
            metrics=None if self._watched is None else str(self._watched.address),
            version=__version__,
        )

    def join_remembered(self) -> None:
        """Ask the peers of former runs, all at once."""
        remembered = [parse_numeric(address) for _, _, address in self._log.peers()]
        self._join_addresses([address for address in remembered if address is not None])

    def join_seeds(self) -> None:
        """Ask the seeds, all at once; they are looked up again while silent."""
        if self._joining is not None:
            self._joining.cancel()
        seeds = self._settings.join
        joining = keep_joining(seeds, self._join_addresses, self._live_addresses)
        self._joining = asyncio.get_running_loop().create_task(joining)

    async def until_left(self) -> int:
        """The exit code, when the node has left."""
        return await self._ended

    def leave(self) -> None:
        """Leave in order; asked twice, at once."""
        node = self._ground.node
        if node.replica.liveness.is_leaving:
            self._end(0)
            return
        self._logger.info("node_leaving")
        self._supervisor.stopping()
        node.replica.leave(self._ground.now())
        self._ground.turn_soon()

    async def stop(self) -> None:
        """Finish what is being written and let go of everything."""
        self._supervisor.stopping()
        if self._joining is not None:
            self._joining.cancel()
        self._next_save = 0.0
        self._save_peers()
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
        self._logger.info("node_stopped")

    # --- Inside -------------------------------------------------------------------------------

    async def _serve_pages(self, watched: Listening) -> None:
        # Here, so that a node nobody watches starts 25 ms sooner and is 2 MB smaller.
        from flc_udp.daemon.watch.metrics import NodeCollector  # noqa: PLC0415  # as said above
        from flc_udp.daemon.watch.pages import pages_of  # noqa: PLC0415  # as said above

        pages: dict[str, Callable[[], Page]] = {}  # Filled below: the metrics tell of the web too.
        web = self._web = Web(pages)
        parts = (self._control, self._says, self._hooks, web)
        collector = NodeCollector(self._status, self._ground, self._directory, self._reader, *parts)
        pages |= pages_of(self._status, collector)
        await web.serve(watched.sock)

    def _hook_records(self) -> Record:
        return {name: figures.record() for name, figures in self._hooks.figures().items()}

    def _clients(self) -> Record:
        return clients_of(self._control, self._says)._asdict()

    def _make_node(self, address: Address) -> Node:
        node_id = self._log.identity(_fresh_id())
        # Above all that was ever said of this id: by its former runs, and by their accusers.
        incarnation = max(self._log.incarnation() + 1, int(time.time()))
        self._log.save_incarnation(incarnation)
        boot, tags = secrets.randbits(63), parse_tags(self._settings.tags)
        return Node(
            self._settings,
            alive_row(node_id, incarnation, address, self._name, boot, tags),
            self._log.load(),
            self._reader,
            self._keys.seal(secrets.token_bytes(SESSION_BYTES)),
            self._ground,
            random.SystemRandom(),
        )

    def _join_addresses(self, addresses: list[Address]) -> None:
        self._ground.node.replica.join(addresses, self._ground.now())
        self._ground.turn_soon()

    def _live_addresses(self) -> set[Address]:
        members = self._ground.node.replica.liveness.members
        return {member.row.address for member in members.live()}

    def _reload(self) -> None:
        """Read the settings again; where they cannot be, the node goes on as before."""
        self._supervisor.reloading()
        try:
            found = self._load()
            check_seeds(found.join)
        except FlcError as error:
            self._logger.warning("settings_not_reloaded", error=str(error), hint=error.hint)
        else:
            settings, changed, needs_restart = reload(self._settings, found)
            if needs_restart:
                self._logger.warning("restart_needed", settings=needs_restart)
            self._go_on_with(settings, changed)
            self._logger.info("settings_reloaded", changed=changed)
        self._supervisor.reloaded()

    def _go_on_with(self, settings: Settings, changed: list[str]) -> None:
        self._settings = self._status.settings = settings
        log_to_stderr(settings)
        self._ground.node.reload(settings)
        self._hooks.reload(settings)
        if "join" in changed:
            self.join_seeds()
        self._ground.turn_soon()

    def _show(self, first_position: int, messages: Sequence[Message]) -> None:
        self._control.show(first_position, messages)
        self._hooks.shown()

    def _end_if_left(self) -> None:
        if self._ground.node.replica.liveness.has_left(self._ground.now()):
            self._end(0)

    def _end(self, code: int) -> None:
        if not self._ended.done():
            self._ended.set_result(code)

    def _save_peers(self) -> None:
        now = time.monotonic()
        if not self._ground.members_changed or now < self._next_save:
            return
        self._ground.members_changed = False
        self._next_save = now + PEERS_PAUSE_S
        live = self._ground.node.replica.liveness.members.live()
        rows = [(m.row.id, m.row.name, str(m.row.address)) for m in live[:PEERS_SAVED_MAX]]
        if rows:
            self._ground.write_later(partial(self._log.save_peers, rows))

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
    """A log that opens and cannot be read or written to is no place to start from."""
    try:
        yield
    except StoreFailed as error:
        hint = f"see `df {database.parent}` and `flc fsck --data {database.parent}`"
        raise FlcError(f"the log {database} cannot be used: {error}", hint) from error


def _check_exposure(settings: Settings, ring: Keyring, bound: Address) -> None:
    if not ring.is_open or bound.is_loopback or settings.insecure:
        return
    if len(ring.keys) > 1:  # It is on its way from open to sealed.
        raise FlcError(
            f"{bound} is not loopback and the ring opens without a key too: anybody could write",
            "say --insecure until `flc keys remove open` was done on all nodes",
        )
    raise FlcError(
        f"{bound} is not loopback and there is no key: anybody could read and write",
        "make a key with `flc keygen > FILE` and give --key-file FILE, or say --insecure",
    )


async def _advertised(settings: Settings, bound: Address) -> Address:
    """What others reach this node by; a wildcard bind learns it from its seeds."""
    if not settings.advertise:
        return bound
    address = (await resolve(settings.advertise))[0]
    return address if address.port else Address(address.host, bound.port)


def _fresh_id() -> NodeId:
    while not any(node := secrets.token_bytes(ID_BYTES)):
        pass
    return node
