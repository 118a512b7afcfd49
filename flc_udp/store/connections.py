"""Opening a database file for the writer and for readers.

Promise. A file that is not ours, or that is broken, is refused with a hint and stays as it was.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from flc_udp.model.errors import FlcError
from flc_udp.store.schema import AUTO_VACUUM, check_ours, migrate

LIBRARY_LEAST = (3, 33)
"""The oldest SQLite that will do, of 2020: it has `UPDATE … FROM`."""

BUSY_TIMEOUT_S = 5.0
"""A statement waits this long for another process (a backup, a shell) that holds a lock."""

WAL_BYTES_KEPT = 64 << 20
"""A WAL file that a batch of large messages has made larger is cut back to this size."""

HEADER_BYTES = 100
"""Every SQLite database begins with a header of this size (its file format, section 1.3)."""

UNREADABLE = (sqlite3.DatabaseError, UnicodeDecodeError)
"""What reading a broken file raises. The second comes where SQLite's message quotes broken text."""

REPLACE = "move the data directory aside, and begin from a copy by `flc backup` or with --join"


def open_writer(path: Path, *, create: bool) -> sqlite3.Connection:
    """Open a database for writing, in the present schema; raises FlcError if it is not ours.

    Without `create`, a missing file is an error and not the beginning of an empty log.
    """
    _check_library()
    if path.exists() and path.stat().st_size > 0:
        _look_before_writing(path)
    with ExitStack() as on_failure:
        connection = connect(path, "mode=rwc" if create else "mode=rw")
        on_failure.callback(connection.close)
        connection.execute(AUTO_VACUUM)  # Before anything that makes the first page.
        # WAL: readers never wait for the writer. FULL: a commit is on disk when it returns.
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA journal_size_limit = {WAL_BYTES_KEPT}")
        # Pruned messages are overwritten in those pages that are written anyway. By default SQLite
        # does so in all pages (Debian's) or in none.
        connection.execute("PRAGMA secure_delete = FAST")
        migrate(connection, str(path))
        on_failure.pop_all()
    return connection


def connect(path: Path, parameters: str) -> sqlite3.Connection:
    """Connect to a file, with these parameters of its URI (sqlite.org/uri.html)."""
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?{parameters}",
        uri=True,
        timeout=BUSY_TIMEOUT_S,
        isolation_level=None,  # Transactions are begun and ended by `atomic` alone.
        check_same_thread=False,  # One thread at a time, but not always the one that opened it.
    )


@contextmanager
def refusing(path: Path, hint: str) -> Iterator[None]:
    """Raise whatever SQLite reports in the block as FlcError; `hint` is for a file it cannot open.

    What is no database has a hint of its own.
    """
    try:
        yield
    except sqlite3.OperationalError as error:
        raise FlcError(f"{path} cannot be opened: {error}", hint) from error
    except UNREADABLE as error:
        raise FlcError(f"{path} is no usable SQLite database: {error}", REPLACE) from error


def check_size(path: Path, size_bytes: int) -> None:
    """Raise FlcError if the file is too short for a database."""
    if size_bytes < HEADER_BYTES:
        raise FlcError(f"{path} is no usable SQLite database: it is too short", REPLACE)


def _check_library() -> None:
    if sqlite3.sqlite_version_info < LIBRARY_LEAST:
        least = ".".join(map(str, LIBRARY_LEAST))
        raise FlcError(
            f"this Python has SQLite {sqlite3.sqlite_version}, flc needs {least} or newer",
            "run flc with a Python that was built with a newer SQLite",
        )


def _look_before_writing(path: Path) -> None:
    # SQLite takes a shorter file for an empty one, and would overwrite it. We ask for its size and
    # do not read it: closing a file of ours would drop the locks that this process has on it.
    check_size(path, path.stat().st_size)
    hint = "check that the file and its directory belong to the user that runs flc"
    # Even closing a connection that may write can change a file, because its WAL is folded in.
    with refusing(path, hint), closing(connect(path, "mode=ro")) as connection:
        check_ours(connection, str(path))
