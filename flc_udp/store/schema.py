"""The tables, how they came to be, and the only doors to a database file.

Rules. A migration and the record that it ran (`PRAGMA user_version`) are one transaction, so a
database is always exactly one of the numbered schemas. A file that is not ours (by `PRAGMA
application_id`), or is newer than we know, is refused before anything is written to it.

The layout was chosen by measurement (`bench/store.py --layouts`). A message is a row by position:
appending to the end of a rowid table is the cheapest thing SQLite does. Logs and rooms are small
numbers there, which keeps both indexes thin: one finds a dot, the other is the history. The history
index leads by stamp for all rooms together, so a commit dirties one of its leaves, not one a room.

A file can shrink (`auto_vacuum = INCREMENTAL`) from its creation on. One that was made before that
was so is rewritten once, when it is opened: 4 s a million messages, and twice its size in free
space. A rewriting that was cut short never was, and is tried again at the next start; until then
free pages are used again, and never given back.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from flc_udp.model.errors import FlcError, StoreFailed

APPLICATION_ID = 0x666C_6375
"""`flcu`, in the database header."""

BUSY_TIMEOUT_S = 5.0
"""How long a statement waits for another process (a backup, a shell) that holds a lock."""

WAL_BYTES_KEPT = 64 << 20
"""The WAL file is cut back to this after a batch of large messages blew it up."""

HEADER_BYTES = 100
"""What any SQLite database begins with (its file format, section 1.3)."""

INCREMENTAL = 2
AUTO_VACUUM = f"PRAGMA auto_vacuum = {INCREMENTAL}"
"""Free pages are given back when that is asked for, and not at each commit."""

FIRST = (
    # This node's own few facts.
    "CREATE TABLE node (key TEXT PRIMARY KEY, value ANY) WITHOUT ROWID",
    # Heads. `node` and `name` are the origin, which the log's first message tells.
    """CREATE TABLE log (
        no INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, node BLOB, name TEXT,
        seq INTEGER NOT NULL, hash BLOB NOT NULL, stamp INTEGER NOT NULL)""",
    # `stamp` and `position` are the greatest ever of the room; positions are never reused, so
    # the greatest of them all is the high-water mark, whatever was pruned.
    """CREATE TABLE room (
        no INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE,
        messages INTEGER NOT NULL, stamp INTEGER NOT NULL, position INTEGER NOT NULL)""",
    """CREATE TABLE message (
        position INTEGER PRIMARY KEY, log_no INTEGER NOT NULL, seq INTEGER NOT NULL,
        stamp INTEGER NOT NULL, room_no INTEGER NOT NULL, encoded BLOB NOT NULL)""",
    "CREATE UNIQUE INDEX message_dot ON message (log_no, seq)",
    "CREATE INDEX message_history ON message (stamp, room_no)",
    # A room's vector clock. An edge of its frontier is always a log's last message in the room,
    # so the frontier is the rows that have an `edge_stamp`.
    """CREATE TABLE clock (
        room_no INTEGER NOT NULL, log_no INTEGER NOT NULL, seq INTEGER NOT NULL,
        edge_stamp INTEGER, PRIMARY KEY (room_no, log_no)) WITHOUT ROWID""",
    # `said` packs the client's last numbers and their dots, oldest first.
    "CREATE TABLE once (client TEXT PRIMARY KEY, said BLOB NOT NULL)",
    "CREATE TABLE peer (id BLOB PRIMARY KEY, name TEXT NOT NULL, address TEXT NOT NULL)",
)

SECOND = (
    # The base: what stays of messages that are pruned. Of a log the last one of them; it chains to
    # NO_PARENT where there is none.
    "ALTER TABLE log ADD COLUMN base_seq INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE log ADD COLUMN base_hash BLOB NOT NULL DEFAULT x'0000000000000000'",
    "ALTER TABLE log ADD COLUMN base_stamp INTEGER NOT NULL DEFAULT 0",
    # Of a room its clock and frontier at the floor, as `seq` and `edge_stamp` are those of now.
    "ALTER TABLE clock ADD COLUMN base_seq INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE clock ADD COLUMN base_edge_stamp INTEGER",
    "CREATE INDEX clock_base ON clock (log_no) WHERE base_seq > 0",
    # When it arrived: from `position` on nothing before `wall_ms`, and no stamp at or above the
    # floor was below `least_stamp`. What is held already arrives now, for all that is known.
    """CREATE TABLE arrival (
        position INTEGER PRIMARY KEY, wall_ms INTEGER NOT NULL, least_stamp INTEGER NOT NULL)""",
    """INSERT INTO arrival SELECT 1, CAST(strftime('%s') AS INTEGER) * 1000, stamp
       FROM message ORDER BY stamp LIMIT 1""",
)

LIBRARY_LEAST = (3, 33)
"""SQLite's version, of 2020: with it came `UPDATE … FROM`."""

MIGRATIONS: tuple[tuple[str, ...], ...] = (FIRST, SECOND)
"""Migration n leads from schema n-1 to n. What has been released is never edited, only added to."""


@contextmanager
def failing(operation: str) -> Iterator[None]:
    """Whatever SQLite reports in the block is raised as `StoreFailed` of that operation."""
    try:
        yield
    except sqlite3.Error as error:
        raise StoreFailed(operation, str(error)) from error


@contextmanager
def atomic(connection: sqlite3.Connection) -> Iterator[None]:
    """One transaction, durable when the block is left; all or nothing: the only door to writing."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # Does nothing where SQLite has rolled back by itself, as it may on a full disk.
        connection.rollback()
        raise


def check_library() -> None:
    """Raise FlcError where Python's SQLite is too old for the statements here."""
    if sqlite3.sqlite_version_info < LIBRARY_LEAST:
        least = ".".join(map(str, LIBRARY_LEAST))
        raise FlcError(
            f"this Python has SQLite {sqlite3.sqlite_version}, flc needs {least} or newer",
            "run flc with a Python that was built with a newer SQLite",
        )


def open_writer(path: Path, *, create: bool) -> sqlite3.Connection:
    """Open the database for writing, in the present schema; raises FlcError for what is not ours.

    Without `create`, a file that is gone is an error, and not the beginning of an empty log.
    """
    check_library()
    if path.exists() and path.stat().st_size > 0:
        _look_before_writing(path)
    connection = _connect(path, "rwc" if create else "rw")
    try:
        connection.execute(AUTO_VACUUM)  # Before anything that makes the first page.
        # WAL: readers never wait for the writer. FULL: a commit is on disk when it returns.
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA journal_size_limit = {WAL_BYTES_KEPT}")
        # What is pruned is overwritten in the pages that are written anyway, wherever SQLite's own
        # default is to do so in all (Debian's) or in none.
        connection.execute("PRAGMA secure_delete = FAST")
        migrate(connection, str(path))
        if create:
            let_shrink(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def open_reader(path: Path) -> sqlite3.Connection:
    """Open one more connection to the database, which cannot write."""
    return _connect(path, "ro")


def migrate(connection: sqlite3.Connection, name: str) -> None:
    """Bring the database to the present schema; `name` is what errors call it."""
    version = check_ours(connection, name)
    connection.execute(AUTO_VACUUM)  # Of no effect but on an empty database, or with a VACUUM.
    for number, statements in enumerate(MIGRATIONS[version:], version + 1):
        with atomic(connection):
            for statement in statements:
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {number}")


def let_shrink(connection: sqlite3.Connection) -> None:
    """Rewrite a database that cannot give pages back, as one that can."""
    (mode,) = connection.execute("PRAGMA auto_vacuum").fetchone()
    if mode != INCREMENTAL:
        # Too little space for a copy: to go on as before is better than not to start.
        with suppress(sqlite3.OperationalError):
            connection.execute("VACUUM")


def check_ours(connection: sqlite3.Connection, name: str) -> int:
    """Return the schema's number, 0 for an empty database; raises FlcError for what is not ours."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
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
    assert isinstance(version, int)
    return version


def _look_before_writing(path: Path) -> None:
    # SQLite takes a file below the size of a header for an empty one, and would overwrite it. (By
    # size, not by reading: to close a file of ours drops the locks this process has on it.)
    if path.stat().st_size < HEADER_BYTES:
        raise FlcError(
            f"{path} is no usable SQLite database: it is too short",
            "move the file away",
        )
    # Read-only: even closing a connection that may write can change a file (its WAL is folded in).
    try:
        connection = _connect(path, "ro")
        try:
            check_ours(connection, str(path))
        finally:
            connection.close()
    except sqlite3.OperationalError as error:
        raise FlcError(
            f"{path} cannot be opened: {error}",
            "check that the file and its directory belong to the user that runs flc",
        ) from error
    except sqlite3.DatabaseError as error:
        raise FlcError(
            f"{path} is no usable SQLite database: {error}",
            "move the data directory aside, and begin from a copy by `flc backup` or with --join",
        ) from error


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=BUSY_TIMEOUT_S,
        isolation_level=None,  # transactions are begun and ended by `atomic` alone
        check_same_thread=False,  # one thread at a time, but not always the one that opened it
    )


def used_bytes(connection: sqlite3.Connection) -> int:
    """The size of the database without its free pages."""
    pages, free, size = (
        connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * size)
