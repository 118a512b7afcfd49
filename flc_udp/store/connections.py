"""Opening a database file for the writer, for readers, and for a reader that leaves no trace.

Promise. A file that is not ours, or that is broken, is refused with a hint and stays as it was.

A *snapshot* is the database as it stands at one moment. Its connection cannot write and holds one
read transaction: it does not see what a running node appends meanwhile, and only the folding in of
the node's WAL waits until it ends. Nothing is made beside the file where that can be helped. A node
that ended in order leaves neither a WAL nor the WAL's index (`-shm`), and an ordinary reader would
make both. So such a file is read as one that cannot change, and it is an error if it did.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

from flc_udp.model.errors import FlcError
from flc_udp.store.files import DatabaseFiles
from flc_udp.store.schema import AUTO_VACUUM, MIGRATIONS, check_ours, migrate
from flc_udp.store.sums import know_sums
from flc_udp.store.wal import check_wal, find_cut, wal_of
from flc_udp.store.way_out import way_out

LIBRARY_LEAST = (3, 33)
"""The oldest SQLite that will do, of 2020: it has `UPDATE … FROM`."""

BUSY_TIMEOUT_MS = 5_000
"""A statement waits this long for another process (a backup, a shell) that holds a lock."""

WAL_BYTES_KEPT = 16 << 20
"""A WAL file that a batch of large messages has made larger is cut back to this size."""

HEADER_BYTES = 100
"""Every SQLite database begins with a header of this size (its file format, section 1.3)."""

UNREADABLE = (sqlite3.DatabaseError, UnicodeDecodeError)
"""What reading a broken file raises. The second comes where SQLite's message quotes broken text."""

# The ways to open a file for a snapshot: parameters of its URI.

SHARED = "mode=ro"
"""As any reader beside a running node: the WAL's index is shared, and made if there is none."""

IMMUTABLE = "mode=ro&immutable=1"
"""Without locks and other files: for a database that has no WAL."""

PRIVATE = "mode=ro&vfs=unix-none"
"""With the WAL's index in our own memory: for a WAL in a directory that we cannot write to."""

REPLACE = (
    "`flc fsck --repair` keeps what can be read of it; or move the data directory aside, and begin "
    "from a copy by `flc backup` or with --join"
)


def open_writer(files: DatabaseFiles, *, again: bool = False) -> sqlite3.Connection:
    """Open a database for writing, in the present schema; raises FlcError if it is not ours.

    A missing file is made, but not if this process opens the database `again`.
    """
    path = files.path
    if not again:
        _check_library()
        files.check_before_opening()
        check_wal(path)
        _look_before_writing(path)
    with ExitStack() as on_failure:
        connection = connect(path, "mode=rw" if again else "mode=rwc")
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
        files.begin_life(connection)
        on_failure.pop_all()
    return connection


def connect(path: Path, parameters: str) -> sqlite3.Connection:
    """Connect to a file, with these parameters of its URI (sqlite.org/uri.html).

    Text that is not UTF-8 comes as surrogates and raises nothing: it is found out like any other
    change on the disk.
    """
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?{parameters}",
        uri=True,
        timeout=BUSY_TIMEOUT_MS / 1_000,
        isolation_level=None,  # Transactions are begun and ended by `atomic` alone.
        check_same_thread=False,  # One thread at a time, but not always the one that opened it.
    )
    connection.text_factory = lambda text: text.decode(errors="surrogateescape")
    know_sums(connection)
    return connection


@contextmanager
def refusing(path: Path, hint: str = "") -> Iterator[None]:
    """Raise whatever SQLite reports in the block as FlcError; `hint` is for a file it cannot open.

    Without one, the hint is for a writer.

    What is no database has a hint of its own.
    """
    try:
        yield
    except sqlite3.OperationalError as error:
        hint = hint or way_out(path.absolute().parent, error)
        raise FlcError(f"{path} cannot be opened: {error}", hint) from error
    except UNREADABLE as error:
        raise FlcError(f"{path} is no usable SQLite database: {error}", REPLACE) from error


def check_size(path: Path, size_bytes: int) -> None:
    """Raise FlcError if the file is too short for a database."""
    if size_bytes < HEADER_BYTES:
        raise FlcError(f"{path} is no usable SQLite database: it is too short", REPLACE)


def header_problem(path: Path) -> str | None:
    """Why SQLite would read a database and not write it, by its header; None where it would.

    Nobody in this process has it open: closing a file of ours drops the locks on it.
    """
    with path.open("rb") as file:
        versions = file.read(HEADER_BYTES)[18:20]
    if versions in (b"\1\1", b"\2\2"):
        return None
    return f"the header names the versions {versions.hex(' ')}, which SQLite does not write"


def _check_library() -> None:
    if sqlite3.sqlite_version_info < LIBRARY_LEAST:
        least = ".".join(map(str, LIBRARY_LEAST))
        raise FlcError(
            f"this Python has SQLite {sqlite3.sqlite_version}, flc needs {least} or newer",
            "run flc with a Python that was built with a newer SQLite",
        )


def _look_before_writing(path: Path) -> None:
    if not path.exists() or path.stat().st_size == 0:
        return
    if path.with_name(f"{path.name}-journal").exists():
        return  # A process was killed while it made the file. Only a writer can undo that.
    # SQLite takes a shorter file for an empty one, and would overwrite it. We ask for its size and
    # do not read it: closing a file of ours would drop the locks that this process has on it.
    check_size(path, path.stat().st_size)
    # Even closing a connection that may write can change a file, because its WAL is folded in.
    with refusing(path), closing(connect(path, "mode=ro")) as connection:
        check_ours(connection, str(path))


# --- Snapshots ----------------------------------------------------------------------------------


@contextmanager
def snapshot(path: Path, *, also_damaged: bool = False) -> Iterator[sqlite3.Connection]:
    """Open the database at `path`, of the present schema; raises FlcError for anything else.

    What SQLite does not read of a damaged WAL is missing, if it is to be opened `also_damaged`.

    Text that is not UTF-8 comes as surrogates and raises nothing. The end of the block raises
    FlcError, too, if a node was started meanwhile: then what was read is not of one moment.
    """
    path = path.absolute().resolve()  # SQLite puts the WAL beside the file, not beside a link to it
    DatabaseFiles(path).check_presence()
    ways, before = _look(path)
    if not also_damaged:
        check_wal(path)
    elif find_cut(path) is not None:  # What proves it is left as it is.
        ways = [PRIVATE if wal_of(path).exists() else IMMUTABLE]
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


def _look(path: Path) -> tuple[list[str], tuple[int, int]]:
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


def _open(path: Path, ways: list[str]) -> sqlite3.Connection:
    *others, last = ways
    for way in others:
        with suppress(sqlite3.OperationalError):
            return _begin(path, way)
    return _begin(path, last)


def _begin(path: Path, way: str) -> sqlite3.Connection:
    with ExitStack() as on_failure:
        connection = connect(path, way)
        on_failure.callback(connection.close)
        if way == PRIVATE:  # SQLite keeps the index in memory only if nobody else may have one.
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("BEGIN")
        version = check_ours(connection, str(path))  # Its first read is the moment.
        if version < len(MIGRATIONS):
            raise FlcError(
                f"{path} has schema {version}, which was before {len(MIGRATIONS)}",
                "start the node once, which brings it up to date: flc run",
            )
        on_failure.pop_all()
    return connection
