"""A disk: one SQLite database in memory, which outlives the node that writes to it.

A commit on it takes its time and has a fate. It can fail in the middle of the transaction (SQLite
is interrupted after some of its instructions, so the log's own way of undoing is what undoes), and
the machine can crash before it or right after. A disk can be put back to an earlier state.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from enum import Enum
from random import Random

from flc_udp.ground import Batch
from flc_udp.sim.heap import MS
from flc_udp.sim.network import Faults
from flc_udp.store.log import Log, StoreFailed

SNAPSHOTS_KEPT = 3

INSTRUCTIONS_MAX = 60
"""A commit that is to fail does so within so many of SQLite's instructions."""


class Fate(Enum):
    """What becomes of a commit."""

    DONE = "done"
    FAILED = "failed"
    """Nothing is written, and the node is told."""
    DOUBTED = "doubted"
    """The node is told that it failed, and all is written: as when only the last sync fails."""
    CRASH_BEFORE = "crash before"
    """Nothing is written."""
    CRASH_AFTER = "crash after"
    """All is written, and the node never hears of it."""


class Disk:
    """The connection is the disk; `Log.over` stands on it, one run of a node after another."""

    def __init__(self, random: Random) -> None:
        self.connection = sqlite3.connect(":memory:", isolation_level=None)
        self.free_bytes = 1 << 40
        self.snapshots: deque[bytes] = deque(maxlen=SNAPSHOTS_KEPT)
        self.fates: deque[Fate] = deque()
        """Of the next commits, where a play wants them; of all others chance decides."""
        self._random = random

    def close(self) -> None:
        """Give the memory back."""
        self.connection.close()

    def keep_snapshot(self) -> None:
        """Remember how it is now; the oldest of several is forgotten."""
        self.snapshots.append(self.connection.serialize())

    def put_back(self) -> None:
        """Be as at the oldest snapshot that is kept."""
        self.connection.deserialize(self.snapshots[0])

    def commit_us(self, faults: Faults) -> int:
        """How long the next commit takes."""
        chance = self._random.random
        spread = faults.commit_us_max - faults.commit_us_min
        duration = faults.commit_us_min + int(spread * chance())
        if chance() < faults.commit_stall:
            duration += int(faults.commit_stall_ms_max * MS * chance())
        return duration

    def next_fate(self, faults: Faults) -> Fate:
        """What becomes of the next commit."""
        if self.fates:
            return self.fates.popleft()
        chance = self._random.random()
        for fate, share in (
            (Fate.CRASH_BEFORE, faults.crash_before_commit),
            (Fate.CRASH_AFTER, faults.crash_after_commit),
            (Fate.FAILED, faults.commit_failure),
            (Fate.DOUBTED, faults.commit_doubt),
        ):
            if chance < share:
                return fate
            chance -= share
        return Fate.DONE

    def append(self, log: Log, batch: Batch, fate: Fate) -> int:
        """Commit through the log that stands on it; raises StoreFailed."""
        if fate is Fate.FAILED:
            self._interrupt_once(self._random.randint(1, INSTRUCTIONS_MAX))
        try:
            first = log.append(batch.messages, batch.once)
        finally:
            self.connection.set_progress_handler(None, 0)
        if fate is Fate.DOUBTED:
            raise StoreFailed("append", "the last sync failed")
        return first

    def _interrupt_once(self, instructions: int) -> None:
        has_failed = False

        def interrupt() -> int:
            nonlocal has_failed
            fails, has_failed = not has_failed, True
            return int(fails)

        self.connection.set_progress_handler(interrupt, instructions)
