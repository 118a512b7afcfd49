"""A database as it stands at one moment, for a reader that leaves no trace.

Rules. The connection cannot write and holds one read transaction: it does not see what a running
node appends meanwhile, and only the folding in of the node's WAL waits until it ends. Nothing is
made beside the file where that can be helped. A node that ended in order leaves neither a WAL nor
the WAL's index (`-shm`), and an ordinary reader would make both. So such a file is read as one that
cannot change, and it is an error if it did.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from flc_udp.model.errors import FlcError
from flc_udp.store.connections import check_size, connect, refusing
from flc_udp.store.schema import MIGRATIONS, check_ours


class Way(NamedTuple):
    """How to open a file: the parameters of its URI, and how SQLite locks it."""

    parameters: str
    locking: str = "NORMAL"


SHARED = Way("mode=ro")
"""As any reader beside a running node: the WAL's index is shared, and made if there is none."""

IMMUTABLE = Way("mode=ro&immutable=1")
"""Without locks and other files: for a database that has no WAL."""

PRIVATE = Way("mode=ro&vfs=unix-none", "EXCLUSIVE")
"""With the WAL's index in our own memory: for a WAL in a directory that we cannot write to."""


@contextmanager
def snapshot(path: Path) -> Iterator[sqlite3.Connection]:
    """Open the database at `path`, of the present schema; raises FlcError for anything else.

    Text that is not UTF-8 comes as surrogates and raises nothing. The end of the block raises
    FlcError, too, if a node was started meanwhile: then what was read is not of one moment.
    """
    path = path.absolute().resolve()  # SQLite puts the WAL beside the file, not beside a link to it
    ways, before = _look(path)
    hint = "be a user who may read it, or copy it and its -wal to where you may write"
    with refusing(path, hint):
        connection = _open(path, ways)
    with closing(connection):
        yield connection
    if SHARED not in ways and _look(path)[1] != before:
        raise FlcError(
            f"{path} changed while it was read: a node was started",
            "run it again: beside a running node one moment is read",
        )


def _look(path: Path) -> tuple[list[Way], tuple[int, int]]:
    """The ways to try, in their order, and two numbers that change with the file."""
    try:
        found = path.stat()
        wal, index = (Path(f"{path}-{name}") for name in ("wal", "shm"))
        has_wal = wal.exists() and wal.stat().st_size > 0
        # A running node has an index, and a node that was killed leaves its own.
        ways = [SHARED] if index.exists() else [SHARED, PRIVATE] if has_wal else [IMMUTABLE]
    except OSError as error:
        raise FlcError(
            f"there is no log at {path}: {error.strerror}",
            "name a node's data directory with --data, and be a user who may read it",
        ) from error
    check_size(path, found.st_size)
    return ways, (found.st_mtime_ns, found.st_size)


def _open(path: Path, ways: list[Way]) -> sqlite3.Connection:
    way, *others = ways
    try:
        return _begin(path, way)
    except sqlite3.OperationalError:
        if not others:
            raise
        return _open(path, others)


def _begin(path: Path, way: Way) -> sqlite3.Connection:
    with ExitStack() as on_failure:
        connection = connect(path, way.parameters)
        on_failure.callback(connection.close)
        connection.text_factory = lambda text: text.decode(errors="surrogateescape")
        connection.execute(f"PRAGMA locking_mode = {way.locking}")
        connection.execute("BEGIN")
        version = check_ours(connection, str(path))  # Its first read is the moment.
        if version < len(MIGRATIONS):
            raise FlcError(
                f"{path} has schema {version}, which was before {len(MIGRATIONS)}",
                "start the node once, which brings it up to date: flc run",
            )
        on_failure.pop_all()
    return connection
