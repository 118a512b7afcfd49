"""What one life of a machine writes: one thing after another, each in its time and with its fate.

The daemon has one writer thread; so has a machine. A write ends as the disk decides (`disk.Fate`):
it is done, it fails, it is in doubt, or the machine crashes before it or right after it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from flc_udp.config import Settings
from flc_udp.model.errors import StoreFailed
from flc_udp.model.history import BaseLog
from flc_udp.model.units import MS_US, Millis
from flc_udp.sim.audit import by_position
from flc_udp.sim.disk import WALL_STRETCH, Disk, Fate
from flc_udp.sim.follower import Allowed, Arrived
from flc_udp.sim.stage import Stage
from flc_udp.store.log import Log
from flc_udp.waist.node import Node
from flc_udp.waist.ports import Batch

Write = Callable[[Fate], None]

CRASHES = {"append": "commit", "retain": "pruning", "adopt": "the base that is taken"}


class Host(Protocol):
    """The machine that a node runs on, as far as its writes see it."""

    number: int
    settings: Settings
    disk: Disk
    log: Log
    node: Node | None
    paused_until: int

    def wall(self) -> Millis:
        """Its wall clock, in ms since 1970."""

    def crash(self, when: str = "") -> None:
        """Lose everything but the disk."""

    def after_turn(self) -> None:
        """The node did something."""

    def tell_trace(self, mark: str, text: str) -> None:
        """Something happened."""


class Writes:
    """The writes of one run of a node. They end with the machine's next crash."""

    def __init__(self, machine: Host, stage: Stage) -> None:
        self._machine = machine
        self._stage = stage
        self._heap = stage.heap
        self._log = machine.log
        self._disk = machine.disk
        self._waiting: deque[tuple[str, Write]] = deque()
        self._written_at = self._heap.now
        self._node: Node | None = None

    @property
    def _runs(self) -> bool:
        """Whether the node that these writes are for still runs."""
        node = self._machine.node
        if self._node is None:
            self._node = node
        return node is not None and node is self._node

    # --- What the node asks for -------------------------------------------------------------------

    def soon(self, write: Callable[..., None], *args: object) -> None:
        """Do a small write in a moment, unless the machine crashes first."""

        def do() -> None:
            if self._runs:
                write(*args)

        assert self._runs
        self._heap.after(MS_US, do)

    def commit(self, batch: Batch) -> None:
        """Append a batch."""
        self._later("append", partial(self._append, batch))

    def retain(self, before_ms: int | None, bytes_max: int | None) -> None:
        """Delete a little."""
        self._later("retain", partial(self._retain, before_ms, bytes_max))

    def adopt(self, floor: int, base: Sequence[BaseLog]) -> None:
        """Take another node's base."""
        self._later("adopt", partial(self._adopt, floor, base))

    def try_disk(self) -> None:
        """Write a little, after a failure."""
        if self._disk.fails("try_disk"):
            self._machine.tell_trace("F", "fails to write a little")
            self._running.disk_failed()
            return
        self._log.save_incarnation(self._running.me.incarnation)
        self._running.disk_is_well()

    def recover(self) -> None:
        """Open the log anew and tell the node what it holds."""
        if self._disk.fails("recover"):
            self._machine.tell_trace("F", "fails to open its log anew")
            self._running.recovery_failed("the log cannot be opened")
            return
        self._log.recover()
        self._running.recovered(self._log.load(), self._log.last_position())

    # --- One after another ------------------------------------------------------------------------

    def _later(self, operation: str, write: Write) -> None:
        assert self._runs
        self._waiting.append((operation, write))
        start = max(self._written_at, self._heap.now)
        self._written_at = start + self._disk.write_us(self._stage.network.faults)
        self._heap.at(self._written_at, self._write)

    def _write(self) -> None:
        machine = self._machine
        if not self._runs:
            return
        if self._heap.now < machine.paused_until:
            self._heap.at(machine.paused_until, self._write)
            return
        operation, write = self._waiting.popleft()
        fate = self._disk.next_fate(self._stage.network.faults, operation)
        if fate is Fate.CRASH_BEFORE:
            machine.crash(f"between decision and {CRASHES[operation]}")
            return
        write(fate)
        machine.after_turn()

    @property
    def _running(self) -> Node:
        assert self._machine.node is not None
        return self._machine.node

    # --- How each ends ----------------------------------------------------------------------------

    def _append(self, batch: Batch, fate: Fate) -> None:
        machine = self._machine
        arrived = Arrived(batch.wall, self._heap.now)
        try:
            with self._disk.writing("append", fate):
                wall = Millis(batch.wall * WALL_STRETCH)
                first = self._log.append(batch.messages, batch.once, wall)
        except StoreFailed as error:
            machine.tell_trace("F", f"fails to commit: {error}")
            self._log.recover()
            self._find(arrived)
            self._running.commit_failed(str(error))
            return
        machine.tell_trace("C", f"commits {len(batch.messages)} from position {first}")
        self._stage.checks.wrote(machine.number, first, batch.messages, arrived)
        if fate is Fate.CRASH_AFTER:
            machine.crash("between commit and send")
            return
        self._running.committed(batch, first)

    def _find(self, arrived: Arrived) -> None:
        """Look what stands on the disk after a failure. Whoever follows the node reads on there."""
        checks, number = self._stage.checks, self._machine.number
        known = checks.followers[number].position
        written = [message for _, message in by_position(self._log.reader(), known)]
        if written:
            text = f"finds {len(written)} written from position {known + 1}"
            self._machine.tell_trace("C", text)
            checks.found(number, written, arrived)

    def _retain(self, before_ms: int | None, bytes_max: int | None, fate: Fate) -> None:
        machine, checks = self._machine, self._stage.checks
        # Judged by what its operator set, not by what it asks for.
        age_ms, most = machine.settings.retention_age_s * 1_000, machine.settings.retention_bytes
        allowed = Allowed(machine.wall() - age_ms if age_ms else None, self._disk.excess(most))
        failure, ended = None, None
        try:
            with self._disk.writing("retain", fate):
                before = None if before_ms is None else Millis(before_ms * WALL_STRETCH)
                ended = self._log.retain(arrived_before_ms=before, bytes_max=bytes_max)
        except StoreFailed as error:
            machine.tell_trace("F", f"fails to prune: {error}")
            self._log.recover()
            failure = str(error)
        left = self._disk.positions()
        gone = checks.pruned(machine.number, left, self._log.reader().floor(), allowed)
        if gone:
            machine.tell_trace("P", f"prunes {gone}, and keeps {len(left)}")
        if fate is Fate.CRASH_AFTER:
            machine.crash("right after it pruned")
        elif failure is not None:
            self._running.retention_failed(failure)
        elif ended is not None:
            self._running.retained(ended.floor, ended.pruned, more=ended.more)

    def _adopt(self, floor: int, base: Sequence[BaseLog], fate: Fate) -> None:
        machine, failure = self._machine, None
        try:
            with self._disk.writing("adopt", fate):
                history = self._log.adopt(floor, base)
        except StoreFailed as error:
            machine.tell_trace("F", f"fails to take a base: {error}")
            self._log.recover()
            failure, history = str(error), self._log.load()
        if failure is None or fate is Fate.DOUBTED:
            machine.tell_trace("B", f"takes a base of {len(base)} logs below {floor}")
            left = self._disk.positions()
            self._stage.checks.adopted(machine.number, floor, base, history, left)
        if fate is Fate.CRASH_AFTER:
            machine.crash("right after it took a base")
        elif failure is not None:
            self._running.adoption_failed(failure)
        else:
            self._running.adopted(history)
