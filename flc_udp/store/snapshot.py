"""A database as it stands at one moment, for a reader that leaves no trace.

Rules. The connection cannot write, and holds one read transaction: what a running node appends
meanwhile is not seen, and only the folding in of its WAL waits for the end. Nothing is made beside
the file where that can be helped. A node that ended in order leaves neither a WAL nor the WAL's
index (`-shm`), and an ordinary reader would make both; so such a file is read as one that cannot
change, and it is an error if it did.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from flc_udp.model.errors import FlcError
from flc_udp.store.schema import BUSY_TIMEOUT_S, HEADER_BYTES, MIGRATIONS, check_ours

UNREADABLE = (sqlite3.DatabaseError, UnicodeDecodeError)
"""What reading a broken file raises; the second where SQLite's own message quotes broken text."""


class Way(NamedTuple):
    """How to open a file: the parameters of its URI (sqlite.org/uri.html), and how it is locked."""

    parameters: str
    locking: str = "NORMAL"


SHARED = Way("mode=ro")
"""As any reader beside a running node: the WAL's index is shared, and made where there is none."""

IMMUTABLE = Way("mode=ro&immutable=1")
"""No locks and no other files: for a database that has no WAL."""

PRIVATE = Way("mode=ro&vfs=unix-none", "EXCLUSIVE")
"""The WAL's index in this process's memory: for a WAL in a directory that cannot be written to."""


@contextmanager
def snapshot(path: Path) -> Iterator[sqlite3.Connection]:
    """Open the database at `path`, of the present schema; raises FlcError for anything else.

    Text that is no UTF-8 comes as surrogates and raises nothing. Raises FlcError at the end, too,
    if a node was started and what was read is of no one moment.
    """
    path = path.absolute().resolve()  # SQLite puts the WAL beside the file itself, not a link to it
    ways, before = _look(path)
    with _refusing(path):
        connection = _open(path, ways)
    with closing(connection):
        with _refusing(path):
            _check_schema(connection, path)
        yield connection
    if SHARED not in ways and _look(path)[1] != before:
        raise FlcError(
            f"{path} changed while it was read: a node was started",
            "run it again: beside a running node one moment is read",
        )


def _look(path: Path) -> tuple[list[Way], tuple[int, int]]:
    """The ways to try in their order, and what changes with the file."""
    try:
        found = path.stat()
        wal, index = (Path(f"{path}-{name}") for name in ("wal", "shm"))
        has_wal = wal.exists() and wal.stat().st_size > 0
        # A running node has an index, and one that was killed leaves it.
        ways = [SHARED] if index.exists() else [SHARED, PRIVATE] if has_wal else [IMMUTABLE]
    except OSError as error:
        raise FlcError(
            f"there is no log at {path}: {error.strerror}",
            "name a node's data directory with --data, and be a user who may read it",
        ) from error
    if found.st_size < HEADER_BYTES:
        raise FlcError(f"{path} is no SQLite database: it is too short", _REPLACE)
    return ways, (found.st_mtime_ns, found.st_size)


def _open(path: Path, ways: list[Way]) -> sqlite3.Connection:
    way, *others = ways
    try:
        return _open_so(path, way)
    except sqlite3.OperationalError:
        if not others:
            raise
        return _open(path, others)


def _open_so(path: Path, way: Way) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.as_uri()}?{way.parameters}",
        uri=True,
        timeout=BUSY_TIMEOUT_S,
        isolation_level=None,
    )
    try:
        connection.text_factory = lambda text: text.decode(errors="surrogateescape")
        connection.execute(f"PRAGMA locking_mode = {way.locking}")
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()  # This is the moment.
    except BaseException:
        connection.close()
        raise
    return connection


def _check_schema(connection: sqlite3.Connection, path: Path) -> None:
    version = check_ours(connection, str(path))
    if version < len(MIGRATIONS):
        raise FlcError(
            f"{path} has schema {version}, which was before {len(MIGRATIONS)}",
            "start the node once, which brings it up to date: flc run",
        )


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        raise FlcError(
            f"{path} cannot be opened: {error}",
            "be a user who may read it, or copy it and its -wal to where you may write",
        ) from error
    except UNREADABLE as error:
        raise FlcError(f"{path} is no usable SQLite database: {error}", _REPLACE) from error


_REPLACE = "move the data directory aside and start the node with --join: it catches up from others"
