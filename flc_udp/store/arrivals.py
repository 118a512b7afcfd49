"""When the messages that are held arrived here: a few thousand rows, enough to prune by age.

Promise. `least_since` is never too high, so nothing is pruned before its time. If the time of an
arrival is not known exactly, the message counts as arrived later.

Rules. A row stands for a bucket: all that was committed within a minute from `wall_ms` on, and the
least stamp of it. A wall clock that jumps back opens no bucket: until it has caught up, everything
counts as arrived at the latest time that it ever showed. When there are too many rows, each two
neighbours become one, which counts as arrived when the later one did. So old times are coarser.
"""

import sqlite3

from flc_udp.config import STAMP_LIMIT
from flc_udp.model.units import Millis

BUCKET_MS = 60_000
"""A bucket takes what arrives until this long after it was opened."""

BUCKETS_MAX = 4_096
"""There are at most this many buckets: at least the last 34 hours by the minute, or a year by the
hour or two."""

SELECT_LAST = "SELECT position, wall_ms, least_stamp FROM arrival ORDER BY position DESC LIMIT 1"
INSERT_ARRIVAL = "INSERT INTO arrival (position, wall_ms, least_stamp) VALUES (?, ?, ?)"
SELECT_LEAST = """
    SELECT count(*), min(CASE WHEN wall_ms > ? THEN least_stamp END) FROM arrival
"""
DELETE_PAST = """
    DELETE FROM arrival WHERE wall_ms <= ? AND position < (SELECT max(position) FROM arrival)
"""


class Arrivals:
    """The buckets of one database. Whoever changes them has a transaction open."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        last: tuple[int, int, int] | None = connection.execute(SELECT_LAST).fetchone()
        self._position, self._wall_ms, self._least = last or (0, -BUCKET_MS, STAMP_LIMIT)

    def add(self, position: int, wall: Millis, least: int) -> None:
        """Messages arrived now: the first one's position, and their least stamp."""
        if wall >= self._wall_ms + BUCKET_MS:
            (count,) = self._connection.execute("SELECT count(*) FROM arrival").fetchone()
            if count >= BUCKETS_MAX:
                self._halve()
            self._position, self._wall_ms, self._least = position, wall, least
            self._connection.execute(INSERT_ARRIVAL, (position, wall, least))
        elif least < self._least:
            self._least = least
            sql = "UPDATE arrival SET least_stamp = ? WHERE position = ?"
            self._connection.execute(sql, (least, self._position))

    def least_since(self, wall_ms: Millis) -> int:
        """A stamp such that whatever arrived at `wall_ms` or later has this stamp or a higher one.

        What came below the floor is an exception. Where no arrival is known, it is 0.
        """
        found = self._connection.execute(SELECT_LEAST, (wall_ms - BUCKET_MS,))
        count, least = found.fetchone()
        if not count:
            return 0
        return STAMP_LIMIT if least is None else int(least)

    def forget_before(self, wall_ms: Millis) -> None:
        """Delete the buckets of what arrived earlier, except the last: it tells the latest time."""
        self._connection.execute(DELETE_PAST, (wall_ms - BUCKET_MS,))

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
