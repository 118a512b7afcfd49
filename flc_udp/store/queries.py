"""How the database is asked and written: bounded reads, and one door to writing.

Promise. A transaction is written as a whole or not at all. What SQLite reports reaches others as
`StoreFailed`, which names the operation that failed.

Rules. Many rows are written with few statements. SQLite works without the interpreter's lock, and
taking the lock back from a busy loop costs up to a switch interval (`sys.setswitchinterval`),
whether one row was written or five hundred. Row by row, a commit of 2,500 rows beside a busy
loop took eight times as long as without it.
"""

import sqlite3
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any

from flc_udp.model.errors import Malformed, StoreFailed
from flc_udp.store.sums import IS_SOUND

PAGE_ROWS = 256
"""A page of blocks has at most this many rows."""

PAGE_BYTES = 1 << 17
"""A page of blocks ends with the row that brings it to this many bytes. Hundreds of lists that wait
for their readers may each hold one."""

ROWS_AT_ONCE = (512, 64, 8, 1)
"""A statement is prepared for each of these numbers of rows. They are few, so that each statement
stays prepared. SQLite allows 32,766 values in one."""

OF_ROOM = "(:room IS NULL OR room_no = (SELECT no FROM room WHERE name = :room))"
"""A condition on blocks: they are of the room with this name, or of any if there is no name."""

SELECT_FACT = f"""
    SELECT (SELECT value FROM node WHERE key = ?), (
        SELECT count(*) FROM node WHERE NOT {IS_SOUND["node"]})
"""  # noqa: S608  # texts of ours

Values = Sequence[Any] | Mapping[str, Any]


@contextmanager
def failing(operation: str) -> Iterator[None]:
    """Raise whatever SQLite reports in the block as `StoreFailed` of that operation.

    So is whatever cannot be done with what is stored, because that is input, like a datagram.
    """
    try:
        yield
    except sqlite3.Error as error:
        is_busy = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY
        raise StoreFailed(operation, str(error), is_busy=is_busy) from error
    except Malformed as error:
        problem = f"a block cannot be read, and `flc fsck` tells which: {error}"
        raise StoreFailed(operation, problem) from error
    except (TypeError, ValueError, ArithmeticError, LookupError, struct.error) as error:
        problem = f"what is stored makes no sense, and `flc fsck` tells where: {error!r}"
        raise StoreFailed(operation, problem) from error


def check_sound(*, is_sound: bool, of: str) -> None:
    """Raise StoreFailed if a row is not as it was written; `of` says what it tells."""
    if not is_sound:
        raise StoreFailed("read", f"{of} has changed on the disk, and `flc fsck` tells where")


@contextmanager
def atomic(connection: sqlite3.Connection) -> Iterator[None]:
    """Run the block in a transaction, which is durable when the block has ended well.

    Every write goes through here.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # On a full disk SQLite may have rolled back by itself. Then this does nothing.
        connection.rollback()
        raise


def pragma(connection: sqlite3.Connection, name: str) -> int:
    """A number that SQLite tells of the database, by its name there."""
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


def used_bytes(connection: sqlite3.Connection) -> int:
    """The size of the database without its free pages."""
    pages = pragma(connection, "page_count") - pragma(connection, "freelist_count")
    return pages * pragma(connection, "page_size")


class ManyRows:
    """A statement with one row of `(?, …)`, which is repeated for as many rows as there are.

    Its effect is that of `executemany`: each row is written once and in order.
    """

    def __init__(self, statement: str) -> None:
        row = statement[statement.index("(?") : statement.rindex("?)") + 2]
        self._sizes = tuple(
            (rows * row.count("?"), statement.replace(row, ", ".join([row] * rows)))
            for rows in ROWS_AT_ONCE
        )

    def write(self, connection: sqlite3.Connection, values: Sequence[Any]) -> None:
        """Write rows whose values come one after the other."""
        at = 0
        for size, statement in self._sizes:
            while len(values) - at >= size:
                connection.execute(statement, values[at : at + size])
                at += size


class Queries:
    """Reads on one connection. None keeps a transaction open. Failures are `StoreFailed`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.failure: tuple[str, float] | None = None
        """Why the last read that failed did so, and when by the monotonic clock, in s."""

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Raise StoreFailed for whatever SQLite reports in the block, and note it."""
        try:
            with failing("read"):
                yield
        except StoreFailed as error:
            self.failure = (str(error), time.monotonic())
            raise

    def rows(self, sql: str, values: Values = ()) -> list[Any]:
        """All rows of the answer."""
        with self.reading():
            return self.connection.execute(sql, values).fetchall()

    def value(self, sql: str, values: Values = ()) -> Any:  # noqa: ANN401  # as SQLite answers
        """The first column of the first row, or None."""
        rows = self.rows(sql, values)
        return rows[0][0] if rows else None

    def page(self, sql: str, values: Values) -> list[Any]:
        """The first rows, up to `PAGE_BYTES` of encoded blocks in their second column."""
        page, size_bytes = [], 0
        with self.reading(), closing(self.connection.execute(sql, values)) as cursor:
            for row in cursor:
                page.append(row)
                size_bytes += len(row[1]) if isinstance(row[1], bytes) else 0  # It may be rotten.
                if size_bytes >= PAGE_BYTES:
                    break
        return page

    def fact(self, key: str) -> Any:  # noqa: ANN401  # as SQLite answers
        """What the node keeps under a key, or None; raises StoreFailed where that has changed."""
        (value, changed), *_ = self.rows(SELECT_FACT, (key,))
        with self.reading():
            check_sound(is_sound=not changed, of="what the node keeps about itself")
        return value

    def last_position(self) -> int:
        """The greatest position that was ever given, or 0."""
        return int(self.value("SELECT max(position) FROM room") or 0)
