"""The ground the daemon's Node stands on: one loop, one socket, one writer thread.

Rules. The loop decides, sends and reads; the writer thread alone commits, one batch at a time, so a
slow disk never stalls a probe. All that came in since the last turn is taken in one turn. There is
one timer, for the Node's one deadline.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import structlog

from flc_udp.core.effects import Notice
from flc_udp.daemon.udp import Datagrams, KernelBuffer
from flc_udp.daemon.watch.timings import Timings
from flc_udp.model.address import Address
from flc_udp.model.dots import NodeId
from flc_udp.model.errors import StoreFailed
from flc_udp.model.history import BaseLog, History
from flc_udp.model.message import Message
from flc_udp.store.directory import DataDirectory
from flc_udp.store.log import Log, Retained
from flc_udp.waist.node import Node
from flc_udp.waist.ports import Batch

Show = Callable[[int, Sequence[Message]], None]

RECOVER_S = 1.0
"""While a failed log cannot be reopened, or written to, it is tried so often."""

WARNINGS = {"member_suspected", "member_died", "refuted", "clone_met"}
ERRORS = {"commit_failed", "log_forked"}


class LoopGround:
    """asyncio under one Node. Made before the Node; `start` joins the two."""

    def __init__(
        self, log: Log, directory: DataDirectory, show: Show, last_position: Callable[[], int]
    ) -> None:
        self.node: Node
        self.after_turn: list[Callable[[], None]] = []
        """Called at the end of each turn: what waits for something to have happened looks."""
        self.on_notice: list[Callable[[Notice], None]] = []
        """Called with each fact as it is told."""
        self.members_changed = False
        self.timings = Timings()
        self._log = log
        self._directory = directory
        self._show = show
        self._last_position = last_position
        self._loop = asyncio.get_running_loop()
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="flc-writer")
        self._datagrams: Datagrams | None = None
        self._logger = structlog.get_logger()
        self._writes = 0
        self._wrote = asyncio.Event()
        self._turn_is_due = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0

    @property
    def send_errors(self) -> int:
        """Datagrams the kernel would not send, or refused earlier ones."""
        return 0 if self._datagrams is None else self._datagrams.errors

    def kernel_buffer(self) -> KernelBuffer | None:
        """Where datagrams wait before this process takes them."""
        return None if self._datagrams is None else self._datagrams.kernel_buffer()

    async def drained(self) -> None:
        """Wait until all that is decided is on disk."""
        while self._writes > 0 or self.node.replica.uncommitted > 0:
            self._wrote.clear()
            await self._wrote.wait()

    def start(self, node: Node, datagrams: Datagrams) -> None:
        """The Node stands; the first turn is due."""
        self.node = node
        self._datagrams = datagrams
        self.turn_soon()

    async def stop(self) -> None:
        """No more turns; what was given to the writer is finished."""
        if self._timer is not None:
            self._timer.cancel()
        self._turn_is_due = True  # So that no other is called for.
        await self._loop.run_in_executor(None, self._writer.shutdown)

    # --- Turns ------------------------------------------------------------------------------

    def turn_soon(self) -> None:
        """One turn for all that comes in until the loop gets to it."""
        if not self._turn_is_due:
            self._turn_is_due = True
            self._loop.call_soon(self._turn)

    def received(self, datagram: bytes, source: Address) -> None:
        """A datagram for the next turn."""
        self.node.datagram_received(datagram, source)
        self.turn_soon()

    def _turn(self) -> None:
        self._turn_is_due = False
        self.node.turn()
        self._end_turn()

    def _end_turn(self) -> None:
        for look in list(self.after_turn):
            look()
        self._set_timer()

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

    # --- What the Node asks for ---------------------------------------------------------------

    def now(self) -> int:
        """Monotonic µs."""
        return time.monotonic_ns() // 1_000

    def wall(self) -> int:
        """Milliseconds since 1970."""
        return time.time_ns() // 1_000_000

    def transmit(self, datagram: bytes, to: Address) -> None:
        """Send one datagram."""
        assert self._datagrams is not None
        self._datagrams.send(datagram, to)

    def commit(self, batch: Batch) -> None:
        """Append in the writer thread."""
        future = self._loop.run_in_executor(
            self._writer, self._log.append, batch.messages, batch.once, batch.wall
        )
        future.add_done_callback(partial(self._committed, batch, self.now()))

    def retain(self, arrived_before_ms: int | None, bytes_max: int | None) -> None:
        """Let go of a little in the writer thread."""
        step = partial(self._log.retain, arrived_before_ms=arrived_before_ms, bytes_max=bytes_max)
        self._loop.run_in_executor(self._writer, step).add_done_callback(self._retained)

    def adopt(self, floor: int, base: Sequence[BaseLog]) -> None:
        """Take another's base in the writer thread."""
        future = self._loop.run_in_executor(self._writer, self._log.adopt, floor, base)
        future.add_done_callback(self._adopted)

    def save_incarnation(self, incarnation: int) -> None:
        """Remember it, after what is being written."""
        self.write_later(partial(self._log.save_incarnation, incarnation))

    def save_identity(self, node: NodeId) -> None:
        """The same."""
        self.write_later(partial(self._log.save_identity, node))

    def write_later(self, write: Callable[[], None]) -> None:
        """Do a small write in the writer thread; that it failed is logged and nothing more."""
        self._writes += 1
        future = self._loop.run_in_executor(self._writer, write)
        future.add_done_callback(self._written)

    def free_bytes(self) -> int:
        """Free space of the data directory's file system."""
        return self._directory.free_bytes()

    def show(self, first_position: int, messages: Sequence[Message]) -> None:
        """To the followers."""
        self._show(first_position, messages)

    def tell(self, notice: Notice) -> None:
        """To the log, by its name and weight, and to whom else it may concern."""
        if notice.name.startswith("member_"):
            self.members_changed = True
        if notice.name in ERRORS:
            self._logger.error(notice.name, **notice.fields)
        elif notice.name in WARNINGS:
            self._logger.warning(notice.name, **notice.fields)
        else:
            self._logger.info(notice.name, **notice.fields)
        for look in self.on_notice:
            look(notice)

    # --- Retention --------------------------------------------------------------------------

    def _retained(self, future: asyncio.Future[Retained]) -> None:
        error = future.exception()
        if error is None:
            step = future.result()
            self.node.retained(step.floor, step.pruned, more=step.more)
        elif isinstance(error, StoreFailed):
            self._logger.warning("retention_failed", reason=str(error))
            self.node.retained(self.node.replica.standing.floor, 0, more=False)
        else:
            raise error
        self._end_turn()

    def _adopted(self, future: asyncio.Future[History]) -> None:
        error = future.exception()
        if error is None:
            self.node.adopted(future.result())
            self._end_turn()
        elif isinstance(error, StoreFailed):
            self._logger.warning("base_failed", reason=str(error))
            # It may be on the disk all the same: what the log really is decides.
            self._loop.call_later(RECOVER_S, self._reopen_after_base)
        else:
            raise error

    def _reopen_after_base(self) -> None:
        self._loop.run_in_executor(self._writer, self._reopen).add_done_callback(self._adopted)

    # --- Commits ------------------------------------------------------------------------------

    def _committed(self, batch: Batch, began: int, future: asyncio.Future[int]) -> None:
        self._wrote.set()
        error = future.exception()
        if error is None:
            self.timings.commit.note((self.now() - began) / 1e6)
            standing = self.node.replica.standing
            if not standing.catching_up:
                self.timings.arrived(batch, standing.log, self.wall())
            self.node.committed(batch, future.result())
            self._end_turn()
        elif isinstance(error, StoreFailed):
            self._recover(str(error))
        else:
            raise error

    def _recover(self, reason: str) -> None:
        """Reopen the log and read what it really holds, however often that takes."""
        future = self._loop.run_in_executor(self._writer, self._reopen)
        future.add_done_callback(partial(self._recovered, reason))

    def _reopen(self) -> History:
        self._log.recover()
        return self._log.load()

    def _recovered(self, reason: str, future: asyncio.Future[History]) -> None:
        error = future.exception()
        if error is None:
            self.node.commit_failed(reason, future.result())
            # What was reported as failed may be on the disk all the same: then it is shown now.
            self._show(self._last_position() + 1, ())
            self._loop.call_later(RECOVER_S, self._try_disk)
        elif isinstance(error, StoreFailed):
            self.node.commit_failed(f"{reason}; {error}", None)
            self._loop.call_later(RECOVER_S, self._recover, reason)
        else:
            raise error
        self._end_turn()

    def _try_disk(self) -> None:
        """Write a little, so that the node learns that the disk is well though nobody speaks."""
        if self.node.failing is not None:
            incarnation = self.node.replica.liveness.me.incarnation
            save = partial(self._log.save_incarnation, incarnation)
            self._loop.run_in_executor(self._writer, save).add_done_callback(self._tried_disk)

    def _tried_disk(self, future: asyncio.Future[None]) -> None:
        error = future.exception()
        if error is None:
            self.node.disk_is_well()
        elif isinstance(error, StoreFailed):
            self._loop.call_later(RECOVER_S, self._try_disk)
        else:
            raise error

    def _written(self, future: asyncio.Future[None]) -> None:
        self._writes -= 1
        self._wrote.set()
        error = future.exception()
        if isinstance(error, StoreFailed):
            self._logger.warning("write_failed", reason=str(error))
        elif error is not None:
            raise error
