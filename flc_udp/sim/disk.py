"""A disk: one SQLite database in memory, which outlives the node that writes to it.

It can fail in the middle of a transaction (SQLite is interrupted after some of its instructions,
so the log's own way of undoing is what undoes) and be put back to an earlier state.
"""

from __future__ import annotations

import sqlite3
from collections import deque

SNAPSHOTS_KEPT = 3


class Disk:
    """The connection is the disk; `Log.over` stands on it, one run of a node after another."""

    def __init__(self) -> None:
        self.connection = sqlite3.connect(":memory:", isolation_level=None)
        self.free_bytes = 1 << 40
        self.snapshots: deque[bytes] = deque(maxlen=SNAPSHOTS_KEPT)

    def close(self) -> None:
        """Give the memory back."""
        self.connection.close()

    def keep_snapshot(self) -> None:
        """Remember how it is now; the oldest of several is forgotten."""
        self.snapshots.append(self.connection.serialize())

    def put_back(self) -> None:
        """Be as at the oldest snapshot that is kept."""
        self.connection.deserialize(self.snapshots[0])

    def fail_once(self, instructions: int) -> None:
        """Interrupt SQLite, once, when it has run so many more of its instructions."""
        left = 1

        def interrupt() -> int:
            nonlocal left
            left -= 1
            return int(left == 0)

        self.connection.set_progress_handler(interrupt, instructions)

    def work_again(self) -> None:
        """Fail no more."""
        self.connection.set_progress_handler(None, 0)
