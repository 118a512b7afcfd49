"""What the tables of a damaged database tell, as far as they can be read.

Rules. A table is read from its beginning to the damage and from its end to the damage. What comes
may be of any type: whoever takes it looks at it first. Which log and which room a number stands for
is told by the rows of blocks that are sound, and only then by the tables.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from flc_udp.model.block import decode
from flc_udp.model.dots import LogId
from flc_udp.model.errors import Malformed
from flc_udp.model.labels import is_label
from flc_udp.store.connections import UNREADABLE
from flc_udp.store.repair.pages import Pages
from flc_udp.store.sums import SUMMED, set_right

# `own` is the hash of the bytes, and `told` the one in the row. A row without `own` stands for a
# block of which only the indexes tell.
CREATE = (
    """CREATE TABLE scratch.found (
        log, first, last, position, stamp, room, own, told, parent, at, log_no, room_no)""",
    "CREATE TABLE scratch.dot (log_no, seq, position)",
    "CREATE TABLE scratch.place (stamp, room_no, position PRIMARY KEY)",
    "CREATE TABLE scratch.log (no PRIMARY KEY, id)",
    "CREATE TABLE scratch.room (no PRIMARY KEY, name)",
)
INSERT_FOUND = "INSERT INTO scratch.found VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
# The last of equal rows stays, and it is what most blocks tell.
LEARN_NUMBERS = (
    """INSERT OR REPLACE INTO scratch.log
        SELECT log_no, log FROM scratch.found WHERE own = told GROUP BY 1, 2 ORDER BY count(*)""",
    """INSERT OR REPLACE INTO scratch.room
        SELECT room_no, room FROM scratch.found WHERE own = told GROUP BY 1, 2 ORDER BY count(*)""",
)
STAND_IN = """
    INSERT INTO scratch.found (log, last, position, stamp, room)
    SELECT log.id, dot.seq, position, stamp, room.name
    FROM scratch.dot JOIN scratch.place USING (position)
        JOIN scratch.log AS log ON log.no = log_no JOIN scratch.room AS room ON room.no = room_no
    WHERE typeof(seq) = 'integer' AND typeof(stamp) = 'integer' AND typeof(position) = 'integer'
"""


def salvaged(old: sqlite3.Connection, select: str, order: str) -> Iterator[tuple[Any, ...]]:
    """The rows that can be read. Where one cannot, others may come twice."""
    down = ", ".join(f"{column} DESC" for column in order.split(", "))
    for way in (order, down):
        try:
            yield from old.execute(f"{select} ORDER BY {way}")
        except UNREADABLE:
            continue
        return


class SummedRow(NamedTuple):
    """A row of a table that has sums."""

    columns: Sequence[Any]
    """Those that its sum is over."""
    is_sound: bool
    """Whether they are as they were written, as far as the sum tells."""
    others: Sequence[Any]


def summed(
    old: sqlite3.Connection, table: str, order: str, others: str = "NULL"
) -> Iterator[SummedRow]:
    """The rows that can be read. A bit that has changed in one is set right."""
    names = SUMMED[table]
    width = names.count(",") + 1
    for row in salvaged(old, f"SELECT {names}, checksum, {others} FROM {table}", order):  # noqa: S608  # ours
        columns, checksum, *rest = row[:width], *row[width:]
        right = set_right(old, table, columns, checksum)
        yield SummedRow(columns if right is None else right, right is not None, rest)


def is_whole(old: sqlite3.Connection, table: str) -> bool:
    """Whether all rows can be read, and the table's index has the same."""
    try:
        return old.execute(f"PRAGMA integrity_check({table})").fetchall() == [("ok",)]
    except UNREADABLE:
        return False


def find_blocks(old: sqlite3.Connection, pages: Pages, new: sqlite3.Connection) -> None:
    """Write all that may be a block into the tables of CREATE, which `new` has attached."""
    for statement in CREATE:
        new.execute(statement)
    new.executemany(INSERT_FOUND, _decoded(pages))
    for sql, select, order in (
        ("INTO scratch.dot VALUES (?, ?, ?)", DOTS, "log_no, seq"),
        ("OR REPLACE INTO scratch.place VALUES (?, ?, ?)", PLACES, "stamp, room_no"),
    ):
        new.executemany(f"INSERT {sql}", salvaged(old, select, order))
    for table, column in (("log", "id"), ("room", "name")):
        for order in (column, "no"):  # First by the index, then by the table.
            rows = salvaged(old, f"SELECT no, {column} FROM {table}", order)  # noqa: S608  # ours
            named = ((no, name) for no, name in rows if is_log(name) or is_name(name))
            new.executemany(f"INSERT OR IGNORE INTO scratch.{table} VALUES (?, ?)", named)  # noqa: S608  # ours
    for statement in (*LEARN_NUMBERS, STAND_IN):
        new.execute(statement)


DOTS = "SELECT log_no, seq, position FROM block INDEXED BY block_dot"
PLACES = "SELECT stamp, room_no, position FROM block INDEXED BY block_history"


def _decoded(pages: Pages) -> Iterator[tuple[Any, ...]]:
    for row in pages.rows():
        try:
            block = decode(row.encoded) if isinstance(row.encoded, bytes) else None
        except Malformed:
            continue
        if block is not None:
            said = (block.log, block.first, block.last, row.position, block.stamp, block.room)
            yield (*said, block.hash, row.hash, block.parent, row.at, row.log_no, row.room_no)


def is_log(value: object) -> bool:
    """Whether this can be the id of a log."""
    return isinstance(value, bytes) and len(value) == len(LogId(bytes(8)))


def is_name(value: object) -> bool:
    """Whether this can be the name of a room."""
    return isinstance(value, str) and is_label(value)


def is_count(value: object) -> bool:
    """Whether this can be a number of something."""
    return isinstance(value, int) and value >= 0


def text_or_bytes(value: bytes) -> str | bytes:
    """Text as SQLite gives it, or its bytes if it is none."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value
