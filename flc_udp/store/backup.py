"""A copy of a database as it stood at one moment, in one plain file, made beside a running node.

Promise. The file is there under its name whole, checked and durable, or not at all. It holds the
history and nothing of the node: no id, no incarnation, no peers. So whoever starts from it is
another node that holds everything, also beside the one that was copied; and since a log is one
run's, no dot is minted twice. It remembers what clients numbered (`once`) up to that moment.

Rules. Pages are copied inside one read transaction: what a node appends meanwhile is not seen and
does not begin the copying anew, only the folding in of its WAL waits. No lock stops the writer, but
a disk that is given gigabytes at once would; so every step is flushed before the next is taken.
`VACUUM INTO` would make a denser file, in a single step of any length. A process that is killed
leaves a `.NAME.….part`, which is no copy.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from flc_udp.model.errors import FlcError
from flc_udp.model.history import History
from flc_udp.store.directory import flush_directory
from flc_udp.store.fsck import Fsck
from flc_udp.store.snapshot import UNREADABLE, snapshot
from flc_udp.store.tables import Kept

STEP_PAGES = 1_024
"""Copied and flushed at a time: 4 MiB, which no disk is long about."""

JOURNALS = ("-wal", "-shm", "-journal")
"""What SQLite keeps beside a database, and would take for this one's."""

ANONYMOUS = (
    "DELETE FROM node WHERE key IN ('id', 'incarnation')",
    "DELETE FROM peer",
)
"""All but the history: another node is to begin from it, of whatever cluster it is let into."""


class Backup(NamedTuple):
    """What was copied: heads and frontiers, and the file's size."""

    history: History
    size: int


def back_up(source: Path, target: Path, *, replace: bool) -> Backup:
    """Copy the database at `source` to `target`, which may be there if `replace`.

    Raises FlcError, with nothing at `target` changed.
    """
    _check_target(source, target, replace=replace)
    with _named_when_done(target) as (temporary, file):
        with snapshot(source) as connection:
            _copy(connection, temporary, file, source)
        os.fsync(file)
        history = _checked(temporary, source)
        _check_target(source, target, replace=replace)  # Minutes later: another may have come.
        return Backup(history, os.fstat(file).st_size)


def _check_target(source: Path, target: Path, *, replace: bool) -> None:
    for name in JOURNALS:
        if os.path.lexists(f"{target}{name}"):
            raise FlcError(
                f"{target}{name} is there: {target} is a database in use, or one was killed",
                "name another file; what is beside it would be taken for the copy's",
            )
    try:
        found = target.lstat()
    except OSError:
        return  # There is none, or else making one tells why it cannot be.
    if not stat.S_ISREG(found.st_mode):
        raise FlcError(f"{target} is there and no plain file", "name another file")
    if source.exists() and target.samefile(source):
        raise FlcError(f"{target} is the node's own database", "name another file")
    if not replace:
        raise FlcError(f"{target} is there already", "name another file, or say --force")


@contextmanager
def _named_when_done(target: Path) -> Iterator[tuple[Path, int]]:
    """A new file beside `target`, open, that takes its name when the block has ended well."""
    hint = "name a file on a disk with enough space, in a directory that you may write to"
    try:
        # Readable by its owner alone, from the beginning: it is all that was ever said.
        file, name = tempfile.mkstemp(".part", f".{target.name}.", target.parent)
    except OSError as error:
        raise FlcError(f"{target} cannot be made: {error.strerror}", hint) from error
    try:
        yield Path(name), file
        Path(name).replace(target)
        flush_directory(target.parent)
    except BaseException as error:
        Path(name).unlink(missing_ok=True)
        if isinstance(error, OSError | sqlite3.OperationalError):
            raise FlcError(f"{target} cannot be written: {error}", hint) from error
        raise
    finally:
        os.close(file)


def _copy(connection: sqlite3.Connection, path: Path, file: int, source: Path) -> None:
    def flush(_status: int, _remaining: int, _total: int) -> None:
        os.fsync(file)

    with closing(sqlite3.connect(path, isolation_level=None)) as copy, _blaming(source):
        # Nobody reads it before it has its name, so there is nothing to roll back to.
        copy.execute("PRAGMA journal_mode = OFF")
        copy.execute("PRAGMA synchronous = OFF")
        connection.backup(copy, pages=STEP_PAGES, progress=flush)
        # The copied header says WAL. Alone with the file, SQLite needs no index to leave it.
        copy.execute("PRAGMA locking_mode = EXCLUSIVE")
        copy.execute("PRAGMA journal_mode = MEMORY")
        copy.execute("PRAGMA secure_delete = ON")  # What is left out is not to be found, either.
        for statement in ANONYMOUS:
            copy.execute(statement)


def _checked(path: Path, source: Path) -> History:
    """What the copy holds; raises FlcError where it is not all that `flc fsck` asks for."""
    with snapshot(path) as connection:
        for finding in Fsck(connection).findings():
            where = f" of {finding.dot}" if finding.dot else ""
            raise _damaged(source, f"{finding.check}{where}: {finding.problem}")
        return Kept(connection).history()


@contextmanager
def _blaming(source: Path) -> Iterator[None]:
    """Where the copy is no database, its pages were none."""
    try:
        yield
    except sqlite3.OperationalError:
        raise  # The disk's fault.
    except UNREADABLE as error:
        raise _damaged(source, str(error)) from error


def _damaged(source: Path, problem: str) -> FlcError:
    return FlcError(
        f"{source} is damaged, and so is its copy, which was not kept: {problem}",
        f"flc fsck --data {source.parent} tells all that is wrong, and what to do",
    )
