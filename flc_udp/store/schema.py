"""The tables of a database, and how a file gets them.

Promise. A database always has exactly one of the numbered schemas: a migration and the record that
it ran (`PRAGMA user_version`) are one transaction. A file of another program (by `PRAGMA
application_id`), and one with a schema newer than ours, is refused before anything is written.

The layout was chosen by measurement (`bench/store.py --layouts`). The row of a block is found by
its position, because appending to the end of a rowid table is the cheapest thing that SQLite does.
Logs and rooms are small numbers in it, which keeps both indexes thin: one finds a dot, the other
is the history. The history index begins with the stamp and covers all rooms, so a commit changes
one of its leaves and not one for each room.
"""

import sqlite3

from flc_udp.model.errors import FlcError
from flc_udp.store.queries import atomic, pragma
from flc_udp.store.sums import keep_sums

APPLICATION_ID = 0x666C_6375
"""This number in a database's header says that it is ours. It reads `flcu`."""

AUTO_VACUUM = "PRAGMA auto_vacuum = INCREMENTAL"
"""A file can shrink: free pages are given back when we ask for it, and not at each commit."""

BLOCK_INDEXES = {
    "block_dot": "CREATE UNIQUE INDEX block_dot ON block (log_no, seq)",
    "block_history": "CREATE INDEX block_history ON block (stamp, room_no)",
}

TABLES = (
    # The node's own facts, and four of its base: the floor, the stamp below which this node
    # itself prunes, how many messages were pruned, and a version that changes when the base does.
    "CREATE TABLE node (key TEXT PRIMARY KEY, value ANY, checksum INTEGER) WITHOUT ROWID",
    # A log's head is (seq, hash, stamp). Its origin (node, name) is told by its first block. Its
    # base is the last block that was pruned. Where none was, the log chains to NO_PARENT.
    """CREATE TABLE log (
        no INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, node BLOB, name TEXT,
        seq INTEGER NOT NULL, hash BLOB NOT NULL, stamp INTEGER NOT NULL,
        base_seq INTEGER NOT NULL DEFAULT 0,
        base_hash BLOB NOT NULL DEFAULT x'0000000000000000',
        base_stamp INTEGER NOT NULL DEFAULT 0, checksum INTEGER)""",
    # `messages` counts those that are held. `stamp` and `position` are the greatest that the room
    # ever had. A position is never used again, so the greatest of all rooms is the last one that
    # was given, whatever was pruned. If the message at `position` was pruned, that is
    # `base_position`, too.
    """CREATE TABLE room (
        no INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE,
        messages INTEGER NOT NULL, stamp INTEGER NOT NULL, position INTEGER NOT NULL,
        base_position INTEGER NOT NULL DEFAULT 0, checksum INTEGER)""",
    # `position` and `seq` are those of the block's last message, and `count` counts its messages.
    # `hash` is that of the block as it was written: a row that changed on the disk is told by it.
    """CREATE TABLE block (
        position INTEGER PRIMARY KEY, log_no INTEGER NOT NULL, seq INTEGER NOT NULL,
        count INTEGER NOT NULL, stamp INTEGER NOT NULL, room_no INTEGER NOT NULL,
        hash BLOB NOT NULL, encoded BLOB NOT NULL)""",
    *BLOCK_INDEXES.values(),
    # The rows of a room are its vector clock. An edge of its frontier is always the last message of
    # a log in the room, so the frontier is those rows that have an `edge_stamp`. The base columns
    # are the same clock and frontier as of the floor.
    """CREATE TABLE clock (
        room_no INTEGER NOT NULL, log_no INTEGER NOT NULL, seq INTEGER NOT NULL,
        edge_stamp INTEGER, base_seq INTEGER NOT NULL DEFAULT 0, base_edge_stamp INTEGER,
        checksum INTEGER,
        PRIMARY KEY (room_no, log_no)) WITHOUT ROWID""",
    "CREATE INDEX clock_base ON clock (log_no) WHERE base_seq > 0",
    # `said` packs a client's last numbers and their dots, the oldest first.
    "CREATE TABLE once (client TEXT PRIMARY KEY, said BLOB NOT NULL, checksum INTEGER)",
    # The greatest numbers of clients that have no such row any more, by the hashes of their names.
    "CREATE TABLE past_client (hash BLOB PRIMARY KEY, n INTEGER NOT NULL, checksum INTEGER)",
    """CREATE TABLE peer (
        id BLOB PRIMARY KEY, name TEXT NOT NULL, address TEXT NOT NULL, checksum INTEGER)""",
    # Blocks that are held name causes of these logs that are not: up to this number, they are on a
    # branch of a forked log that was refused here.
    "CREATE TABLE fork (log BLOB PRIMARY KEY, seq INTEGER NOT NULL, checksum INTEGER)",
    # What was appended from `position` on, up to the next row's, did not arrive before `wall_ms`,
    # and none of it that was at or above the floor has a stamp below `least_stamp`.
    """CREATE TABLE arrival (
        position INTEGER PRIMARY KEY, wall_ms INTEGER NOT NULL, least_stamp INTEGER NOT NULL,
        checksum INTEGER)""",
)

MIGRATIONS: tuple[tuple[str, ...], ...] = (TABLES,)
"""Migration n leads from schema n-1 to schema n. After a release, one is added and none edited."""


def check_ours(connection: sqlite3.Connection, name: str) -> int:
    """Return the schema's number, 0 for an empty database; raises FlcError if it is not ours.

    Errors call the database `name`.
    """
    application, version = pragma(connection, "application_id"), pragma(connection, "user_version")
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if application != APPLICATION_ID and (application or version or tables):
        raise FlcError(
            f"{name} is the database of another program",
            "give another data directory with --data, or move the file away",
        )
    if version > len(MIGRATIONS):
        raise FlcError(
            f"{name} has schema {version}, this flc knows schemas up to {len(MIGRATIONS)}",
            "run the newer flc that wrote it; an older one never changes a newer database",
        )
    return version


def migrate(connection: sqlite3.Connection, name: str) -> None:
    """Bring a database to the present schema; raises FlcError, which calls it `name`."""
    version = check_ours(connection, name)
    connection.execute(AUTO_VACUUM)  # It has an effect on an empty database only.
    for number, statements in enumerate(MIGRATIONS[version:], version + 1):
        with atomic(connection):
            for statement in statements:
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {number}")
    keep_sums(connection)
