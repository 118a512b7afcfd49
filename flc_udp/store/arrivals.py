"""When what is held arrived here: enough to prune by age, in a few thousand rows for any log.

Promise. The least stamp of all that arrived after a moment is never told too high, so nothing is
pruned before its time: what is not known exactly counts as arrived later.

Rules. A row stands for a bucket: what was committed from `wall_ms` on for a minute, and the least
stamp among it. A wall clock that jumps back opens no bucket: until it has caught up, everything
counts as arrived at the latest time it ever showed. Where rows become too many, each two become
one, which counts as arrived when the later did: the further back, the coarser.
"""

from __future__ import annotations

import sqlite3

from flc_udp.config import STAMP_LIMIT

BUCKET_MS = 60_000
"""Nothing in a bucket arrived so long after it was opened."""

BUCKETS_MAX = 4_096
"""The latest 34 hours by the minute at least, a year by the hour or two."""

SELECT_LAST = "SELECT position, wall_ms, least_stamp FROM arrival ORDER BY position DESC LIMIT 1"
SELECT_LEAST = """
    SELECT count(*), min(CASE WHEN wall_ms > ? THEN least_stamp END) FROM arrival
"""
DELETE_PAST = """
    DELETE FROM arrival WHERE wall_ms <= ? AND position < (SELECT max(position) FROM arrival)
"""


class Arrivals:
    """The buckets of one database; all but reading is in the caller's transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        (self._count,) = connection.execute("SELECT count(*) FROM arrival").fetchone()
        last = connection.execute(SELECT_LAST).fetchone() or (0, -BUCKET_MS, STAMP_LIMIT)
        self._position: int = last[0]
        self._wall_ms: int = last[1]
        self._least: int = last[2]

    def add(self, position: int, now_ms: int, least: int) -> None:
        """Something arrived now: its first position, and its least stamp."""
        if now_ms >= self._wall_ms + BUCKET_MS:
            if self._count >= BUCKETS_MAX:
                self._halve()
            self._position, self._wall_ms, self._least = position, now_ms, least
            sql = "INSERT INTO arrival VALUES (?, ?, ?)"
            self._connection.execute(sql, (position, now_ms, least))
            self._count += 1
        elif least < self._least:
            self._least = least
            sql = "UPDATE arrival SET least_stamp = ? WHERE position = ?"
            self._connection.execute(sql, (least, self._position))

    def least_since(self, wall_ms: int) -> int:
        """What arrived at `wall_ms` or later has stamps of at least this, or is below the floor.

        0 where nothing is known of what is held.
        """
        row = self._connection.execute(SELECT_LEAST, (wall_ms - BUCKET_MS,)).fetchone()
        count, least = row
        if not count:
            return 0
        return STAMP_LIMIT if least is None else int(least)

    def forget_before(self, wall_ms: int) -> None:
        """Drop the buckets of what arrived earlier, but for the last: it tells the latest time."""
        self._count -= self._connection.execute(DELETE_PAST, (wall_ms - BUCKET_MS,)).rowcount

    def _halve(self) -> None:
        *rows, _ = self._connection.execute(
            "SELECT position, least_stamp FROM arrival ORDER BY position"
        ).fetchall()
        pairs = list(zip(rows[::2], rows[1::2], strict=False))
        write = self._connection.executemany
        write("DELETE FROM arrival WHERE position = ?", [(p,) for (p, _), _ in pairs])
        write(
            "UPDATE arrival SET least_stamp = min(least_stamp, ?) WHERE position = ?",
            [(least, position) for (_, least), (position, _) in pairs],
        )
        self._count -= len(pairs)
