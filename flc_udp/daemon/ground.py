"""The ground the daemon's Node stands on: one loop, one socket, one writer thread.

Rules. The loop decides, sends and reads. The writer thread writes, one thing at a time, so a slow
disk never stalls a probe. Only what the Node wants to be written at once, because the disk is
quick, the loop writes itself, while the writer thread has nothing to do. Everything that came in
since the last turn is taken in one turn. There is one timer, for the Node's one deadline. The
ground only does what it is told: what a failure means is decided by the Node.
"""

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from flc_udp.core.effects import Deliver
from flc_udp.core.push.window import BUFFER_BYTES
from flc_udp.daemon.failures import Failures
from flc_udp.daemon.notices import WriteFailed
from flc_udp.daemon.stderr import tell
from flc_udp.daemon.udp import Datagrams
from flc_udp.daemon.watch.timings import Timings
from flc_udp.model.address import Address
from flc_udp.model.dots import NodeId
from flc_udp.model.errors import StoreFailed
from flc_udp.model.history import BaseLog, History, PlacedBlock
from flc_udp.model.notices import Notice
from flc_udp.model.units import Micros, Millis
from flc_udp.store.directory import DataDirectory
from flc_udp.store.log import Log, Retained
from flc_udp.waist.flood import Door
from flc_udp.waist.node import Node
from flc_udp.waist.ports import Batch, PeerRow

Result = TypeVar("Result")

CLOCK: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""Linux has a clock that goes on while the machine is suspended (clock_gettime(2))."""


class LoopGround:
    """asyncio under one Node. It is made before the Node, and `start` joins the two."""

    def __init__(self, log: Log, directory: DataDirectory, last_position: int) -> None:
        self.node: Node
        self.shown = last_position
        """Everything up to this position of the log was shown. The log may hold more for a moment:
        only what was shown may be printed, followed or handed to a hook, because only then is it
        known who said it."""
        self.on_show: list[Callable[[Deliver], None]] = []
        """Called with what is shown."""
        self.on_answered: list[Callable[[], None]] = []
        """Called when posts of a commit have their answers."""
        self.on_notice: list[Callable[[Notice], None]] = []
        """Called with each fact as it is told."""
        self.after_turn: list[Callable[[], None]] = []
        """Called at the end of each turn."""
        self.failures = Failures()
        """What failed alone."""
        self.broke: Callable[[BaseException], None]
        """Called when the node's own state is broken: the daemon ends."""
        self.datagrams = Datagrams(self.received)
        self.timings = Timings()
        self._log = log
        self._directory = directory
        self._loop = asyncio.get_running_loop()
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="flc-writer")
        self.buffer_bytes = BUFFER_BYTES
        """How many bytes of datagrams may wait in the kernel."""
        self.has_started = False
        """Whether the Node stands: a start that fails before has none."""
        self._writes = 0
        """Writes that are under way, or wait for the writer thread."""
        self._wrote = asyncio.Event()
        self._turn_is_due = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0

    async def drained(self) -> None:
        """Wait until every message that is decided is on disk."""
        while self.has_started and self.node.queued()["uncommitted"] > 0:
            self._wrote.clear()
            await self._wrote.wait()

    def start(self, node: Node) -> None:
        """The Node stands, and its first turn is due."""
        self.node, self.has_started = node, True
        self.turn_soon()

    async def stop(self) -> None:
        """Take no more turns. What was given to the writer is finished."""
        if self._timer is not None:
            self._timer.cancel()
        self._turn_is_due = True  # So that no other is called for.
        await self._loop.run_in_executor(None, self._writer.shutdown)

    # --- Turns ------------------------------------------------------------------------------------

    def turn_soon(self) -> None:
        """Take one turn for everything that comes in until the loop gets to it."""
        if not self._turn_is_due:
            self._turn_is_due = True
            self._loop.call_soon(self._turn)

    def received(self, datagram: bytes, source: Address) -> None:
        """Take a datagram for the next turn."""
        self.node.datagram_received(datagram, source)
        self.turn_soon()

    def _turn(self) -> None:
        self._turn_is_due = False
        try:
            self.node.turn()
        except BaseException as error:  # noqa: BLE001  # whatever it is, the state is in doubt
            self.broke(error)
        else:
            self._end_turn()

    def _end_turn(self) -> None:
        self._call("after a turn", self.after_turn)
        self._set_timer()

    def _call(self, part: str, looks: Sequence[Callable[..., None]], *args: object) -> None:
        """Call all of these. One that fails stops no other, and not the node."""
        for look in tuple(looks):
            try:
                look(*args)
            except Exception as error:  # noqa: BLE001  # it fails alone
                self.failures.of_part(part, error)

    def _set_timer(self) -> None:
        at = self.node.wake_at
        if self._timer is not None:
            if at == self._timer_at and not self._timer.cancelled():
                return
            self._timer.cancel()
        self._timer_at = at
        self._timer = self._loop.call_later(max(at - self.now(), 0) / 1e6, self._wake)

    def _wake(self) -> None:
        self._timer = None
        self.turn_soon()

    # --- What the Node asks for -------------------------------------------------------------------

    def now(self) -> Micros:
        """A clock that only goes forward, in µs. It also counts while the machine is suspended."""
        return Micros(time.clock_gettime_ns(CLOCK) // 1_000)

    def wall(self) -> Millis:
        """The wall clock, in ms since 1970. Only this way of asking for it knows any year."""
        return Millis(int(time.clock_gettime(time.CLOCK_REALTIME) * 1_000))

    def fresh_bytes(self, count: int) -> bytes:
        """Give so many bytes that nobody can guess."""
        return secrets.token_bytes(count)

    def transmit(self, datagram: bytes, to: Address) -> None:
        """Send one datagram."""
        self.datagrams.send(datagram, to)

    def narrow(self, door: Door | None) -> None:
        """Let the kernel drop what does not pass."""
        self.datagrams.narrow(door)

    def free_bytes(self) -> int:
        """Free space of the data directory's file system; 0 if it cannot be looked at."""
        try:
            return self._directory.free_bytes()
        except OSError:
            return 0

    def missing(self) -> str | None:
        """Say which file of the log is no longer under its name; None where all are."""
        return self._log.missing()

    def answered(self) -> None:
        """Let answers go out."""
        self._call("answers", self.on_answered)

    def show(self, deliver: Deliver) -> None:
        """Let these messages be seen."""
        self.shown = deliver.last
        self._call("showing", self.on_show, deliver)

    def tell(self, notice: Notice) -> None:
        """Put a fact into the log, and tell whom else it concerns."""
        tell(notice)
        self._call("notices", self.on_notice, notice)

    def failed(self, part: str, error: Exception) -> None:
        """Count it, and put it into the log."""
        self.failures.of_part(part, error)

    # --- What the writer thread does --------------------------------------------------------------

    def commit(self, batch: Batch, *, at_once: bool) -> None:
        """Append a batch, in the writer thread unless that is idle and it is to be done at once."""
        began = self.now()

        def done(first_position: int) -> None:
            self.timings.commit.note((self.now() - began) / 1e6)
            if not self.node.catching_up:
                self.timings.arrived(batch, self.node.is_own, self.wall())
            self.node.committed(batch, first_position)

        append = partial(self._log.append, batch.blocks, batch.once, batch.arrived)
        at_once = at_once and not self._writes
        self._write(append, done, self.node.commit_failed, here=at_once)

    def recover(self) -> None:
        """Open the log anew and read what it holds."""

        def reopen() -> tuple[History, int]:
            self._log.recover()
            return self._log.load(), self._log.last_position()

        self._write(reopen, lambda found: self.node.recovered(*found), self.node.recovery_failed)

    def try_disk(self) -> None:
        """Write a little."""
        node, me = self.node, self.node.me
        write = partial(self._log.save_self, me.id, me.incarnation)
        self._write(write, lambda _: node.disk_is_well(), lambda _: node.disk_failed())

    def retain(
        self, arrived_before_ms: Millis | None, bytes_max: int | None, stamp_limit: int
    ) -> None:
        """Delete a little."""

        def done(step: Retained) -> None:
            self.node.retained(step.floor, step.pruned, more=step.more, rotten=step.rotten)

        step = partial(
            self._log.retain,
            arrived_before_ms=arrived_before_ms,
            bytes_max=bytes_max,
            stamp_limit=stamp_limit,
        )
        self._write(step, done, self.node.retention_failed)

    def adopt(self, floor: int, base: Sequence[BaseLog]) -> None:
        """Take another node's base."""
        adopt = partial(self._log.adopt, floor, base)
        self._write(adopt, self.node.adopted, self.node.adoption_failed)

    def heal(self, rows: Sequence[PlacedBlock]) -> None:
        """Write these anew."""
        node, blocks = self.node, [row.block for row in rows]
        self._write(
            partial(self._log.heal, rows),
            lambda healed: node.healed(healed, [one for one in blocks if one not in healed]),
            partial(node.healing_failed, blocks),
        )

    def save_self(self, node: NodeId, incarnation: int) -> None:
        """Remember it, after what is being written."""
        self._write_later(partial(self._log.save_self, node, incarnation))

    def save_peers(self, rows: Sequence[PeerRow]) -> None:
        """Remember these members, after what is being written."""

        def failed(reason: str) -> None:
            self.tell(WriteFailed(reason))
            self.node.peers_not_saved()

        self._write(partial(self._log.save_peers, rows), lambda _: None, failed)

    def _write_later(self, write: Callable[[], None]) -> None:
        """Do a small write. That it failed is told, and nothing more."""
        self._write(write, lambda _: None, lambda reason: self.tell(WriteFailed(reason)))

    def _write(
        self,
        write: Callable[..., Result],
        done: Callable[[Result], None],
        failed: Callable[[str], None],
        *,
        here: bool = False,
    ) -> None:
        """Do a write in the writer thread, then go on with its result, or with why it failed.

        With `here` the loop itself does it now, so that whatever is written next comes after it,
        unless another process is writing. The Node is told when it has ended this turn.
        """

        def attempt(**how: bool) -> Callable[[], None] | None:
            try:
                return partial(done, write(**how))
            except StoreFailed as error:
                return None if how and error.is_busy else partial(failed, str(error))
            except Exception as error:  # noqa: BLE001  # what stands on the disk is input
                self.failures.of_part("a write", error)
                return partial(failed, f"{type(error).__name__}: {error}")

        def end(tell_node: Callable[[], Callable[[], None] | None]) -> None:
            self._writes -= 1
            self._wrote.set()
            try:
                told = tell_node()
                assert told is not None, "only an attempt that does not wait comes to nothing"
                told()
            except BaseException as error:  # noqa: BLE001  # whatever it is, the state is in doubt
                self.broke(error)
            else:
                self._end_turn()

        self._writes += 1
        if here and (told := attempt(waits=False)) is not None:
            self._loop.call_soon(end, lambda: told)
        else:
            written = self._loop.run_in_executor(self._writer, attempt)
            written.add_done_callback(lambda future: end(future.result))
