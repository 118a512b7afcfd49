"""A copy of a database as it stood at one moment, in one plain file, made beside a running node.

Promise. The file is there under its name whole, checked and durable, or not at all. It holds the
history and nothing of the node: no id, no incarnation, no peers. So a node that starts from it is
another node that holds everything, and may run beside the one that was copied. A log belongs to one
run, so no dot is minted twice. What clients numbered (`once`) up to that moment is remembered.

Rules. Pages are copied inside one read transaction. What a node appends meanwhile is not seen and
does not start the copying anew; only the folding in of the node's WAL waits. No lock stops the
writer. But a disk that is given gigabytes at once would, so each step is flushed before the next
one begins. `VACUUM INTO` would make a denser file, but in a single step of any length. A process
that is killed leaves a `.NAME.….part`, which is no copy.
"""

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
from flc_udp.store.connections import UNREADABLE, snapshot
from flc_udp.store.directory import CONTROL, flush_directory
from flc_udp.store.fsck.database import Fsck
from flc_udp.store.rights import OWN_FILES
from flc_udp.store.writer_memory import WriterMemory

STEP_PAGES = 1_024
"""This many pages are copied and flushed at a time: 4 MiB, which keeps no disk busy for long."""

OWN_NAMES = (*OWN_FILES, CONTROL)
"""What a node has in its data directory. It writes some of them as NAME.new first."""

JOURNALS = ("-wal", "-shm", "-journal")
"""Files that SQLite keeps beside a database. It would take those that are there for this one's."""

ANONYMOUS = """
    DELETE FROM node WHERE key IN ('id', 'incarnation', 'life');
    DELETE FROM peer;
"""
"""These leave only the history: another node will begin from it, in whatever cluster lets it in."""


class Backup(NamedTuple):
    """What was copied (heads and frontiers), and the size of the file."""

    history: History
    size_bytes: int


def back_up(source: Path, target: Path, *, replace: bool) -> Backup:
    """Copy the database at `source` to `target`. A file may be there only if `replace` is true.

    Raises FlcError, and then nothing at `target` was changed.
    """
    _check_target(source, target, replace=replace)
    with _named_when_done(target) as (temporary, file):
        try:
            _copy(source, temporary, file)
        except sqlite3.OperationalError:
            raise  # This is the disk's fault.
        except UNREADABLE as error:
            raise _damaged(source, str(error)) from error
        os.fsync(file)
        history = _checked(temporary, source)
        # This took minutes, and another file may have come under the name.
        _check_target(source, target, replace=replace)
        return Backup(history, os.fstat(file).st_size)


def _check_target(source: Path, target: Path, *, replace: bool) -> None:
    for name in JOURNALS:
        if os.path.lexists(f"{target}{name}"):
            raise FlcError(
                f"{target}{name} is there: {target} is a database in use, or one was killed",
                "name another file; what is beside it would be taken for the copy's",
            )
    if _is_of_a_node(target):
        raise _not_ours(target)
    try:
        found = target.lstat()
    except OSError:
        return  # There is none, or making one will tell why it cannot be made.
    if not stat.S_ISREG(found.st_mode):
        raise FlcError(f"{target} is there and no plain file", "name another file")
    if any(map(target.samefile, _files_in(source.parent))):
        raise _not_ours(target)
    if not replace:
        raise FlcError(f"{target} is there already", "name another file, or say --force")


def _is_of_a_node(target: Path) -> bool:
    """Whether a node would take the file for its own, also if it has none by that name yet."""
    is_named_so = target.name.removesuffix(".new") in OWN_NAMES
    return is_named_so and target.with_name("lock").exists()


def _not_ours(target: Path) -> FlcError:
    return FlcError(
        f"{target} belongs to the data directory of a node",
        "name another file; a node could not start again without its own",
    )


def _files_in(directory: Path) -> list[Path]:
    return [path for path in directory.iterdir() if path.is_file()] if directory.exists() else []


@contextmanager
def _named_when_done(target: Path) -> Iterator[tuple[Path, int]]:
    """A new file beside `target`, open, that takes its name when the block has ended well."""
    hint = "name a file on a disk with enough space, in a directory that you may write to"
    try:
        # Only its owner can read it, from the beginning: it holds all that was ever said.
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


def _copy(source: Path, target: Path, file: int) -> None:
    with (
        snapshot(source) as connection,
        closing(sqlite3.connect(target, isolation_level=None)) as copy,
    ):
        # Nobody reads it before it has its name, so it needs nothing to roll back to.
        copy.execute("PRAGMA journal_mode = OFF")
        copy.execute("PRAGMA synchronous = OFF")
        connection.backup(copy, pages=STEP_PAGES, progress=lambda *_: os.fsync(file))
        # The copied header says WAL. Alone with the file, SQLite needs no index to leave it.
        copy.execute("PRAGMA locking_mode = EXCLUSIVE")
        copy.execute("PRAGMA journal_mode = MEMORY")
        copy.execute("PRAGMA secure_delete = ON")  # What is deleted shall not be found, either.
        copy.executescript(ANONYMOUS)


def _checked(path: Path, source: Path) -> History:
    """What the copy holds; raises FlcError if `flc fsck` would find anything in it."""
    with snapshot(path) as connection:
        for finding in Fsck(connection).findings():
            where = f" of {finding.dot}" if finding.dot else ""
            raise _damaged(source, f"{finding.check}{where}: {finding.problem}")
        return WriterMemory(connection).history()


def _damaged(source: Path, problem: str) -> FlcError:
    return FlcError(
        f"{source} is damaged, and so is its copy, which was not kept: {problem}",
        f"flc fsck --data {source.parent} tells all that is wrong, and what to do",
    )
