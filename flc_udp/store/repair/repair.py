"""`flc fsck --repair`: a damaged database is copied, and one that is sound takes its place.

    copy ─▶ fold the WAL in ─▶ write a new database ─▶ check it ─▶ put it in the old one's place

Promise. The copy has all files of the database, byte for byte, and is durable before anything is
changed. The new database is complete, checked and durable before it takes the name, which is one
step. So a process that is killed leaves the old database or the new one, which can be started or
repaired again; and of what it had not finished, a directory that the next repair removes.

Rules. The caller has the directory's lock. Nothing is mended in place but the first page, which is
the same in all our databases: without it SQLite reads nothing. Folding in the WAL changes nothing
that could be read. One that has changed on the disk is folded in by `store/wal`, because SQLite
would leave out what is behind the change.
"""

import os
import shutil
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from flc_udp.model.dots import Dot
from flc_udp.model.errors import FlcError
from flc_udp.store.connections import (
    IMMUTABLE,
    PRIVATE,
    UNREADABLE,
    connect,
    header_problem,
    snapshot,
)
from flc_udp.store.directory import DataDirectory, flush_directory
from flc_udp.store.files import DatabaseFiles
from flc_udp.store.fsck.database import Fsck
from flc_udp.store.queries import atomic, pragma
from flc_udp.store.repair.fill import Filled, fill
from flc_udp.store.repair.pages import Pages
from flc_udp.store.repair.tables import text_or_bytes
from flc_udp.store.schema import check_ours, migrate
from flc_udp.store.wal import find_committed, find_cut, find_damage, fold_in, wal_of
from flc_udp.store.way_out import FULL_HINT, way_out

WORK = "repair.part"
"""The directory of what is not finished. Whoever repairs next removes it."""

COPY = "before-repair-%Y%m%dT%H%M%S.%fZ"

IN_WAL_MODE = b"\2\2"
"""Stands in the first page from byte 18 on."""

SELECT_SCHEMA = "SELECT name, rootpage, sql FROM sqlite_schema"


class Repaired(NamedTuple):
    """What a repair did."""

    copy: Path
    filled: Filled


def needs_repair(path: Path) -> bool:
    """Whether fsck finds anything but blocks that wait for their bytes already."""
    try:
        with snapshot(path) as connection:
            check = Fsck(connection)
            count = sum(1 for _ in check.findings())
            if count > check.walk.waiting:
                return True
        return header_problem(path) is not None
    except FlcError:
        return True


def repair(directory: DataDirectory) -> Repaired:
    """Mend the database of a directory, which is damaged; raises FlcError if that cannot be."""
    path, work = directory.database, directory.path / WORK
    files = DatabaseFiles(path)
    files.check_before_opening()
    with _removed_afterwards(work):
        try:
            damage, cut = find_damage(path), find_cut(path)
            if damage and cut and damage.frames >= cut.frames + cut.lost:
                cut = None  # All of it can be read.
            is_readable = _is_first_page_sound(path, has_wal=damage is None)
            copy = _copy(directory, work)
        except OSError as error:
            problem = f"{path} cannot be copied, and was not changed: {error.strerror}"
            raise FlcError(problem, way_out(path.parent, error)) from error
        hint = (
            f"what is there was copied to {copy}, and nothing else was changed; to begin anew, "
            f"move {path.parent} aside and start with --join"
        )
        try:
            if damage is not None:
                fold_in(path, damage)
                is_readable = _is_first_page_sound(path, has_wal=False)
            if not is_readable:
                _write_first_page(path)
            _fold(path)
            filled = _rebuild(path, work / path.name)
            if cut is not None:
                told = f"{wal_of(path).name} {cut.words}: nothing names the messages in them"
                filled = filled._replace(forgotten=[*filled.forgotten, told])
        except (OSError, *UNREADABLE) as error:
            raise FlcError(f"{path} could not be repaired: {error}", hint) from error
        (work / path.name).replace(path)
        flush_directory(path.parent)
    return Repaired(copy, filled)


@contextmanager
def _removed_afterwards(work: Path) -> Iterator[None]:
    shutil.rmtree(work, ignore_errors=True)
    try:
        yield
    finally:
        shutil.rmtree(work, ignore_errors=True)


# --- The copy -------------------------------------------------------------------------------------


def _copy(directory: DataDirectory, work: Path) -> Path:
    """Copy all files of the database into a directory of their own, durable; return that."""
    names = sorted(directory.path.glob(f"{directory.database.name}*"))
    size_bytes = sum(name.stat().st_size for name in names)
    if directory.free_bytes() < 2 * size_bytes:
        problem = f"{directory.path} has no room for a copy and a new database: {2 * size_bytes}"
        raise FlcError(f"{problem} bytes; nothing was changed", FULL_HINT)
    work.mkdir(mode=0o700)
    for name in names:
        shutil.copy2(name, work)
        with (work / name.name).open("rb") as file:
            os.fsync(file.fileno())
    flush_directory(work)
    copy = directory.path / datetime.now(UTC).strftime(COPY)
    work.rename(copy)
    flush_directory(directory.path)
    work.mkdir(mode=0o700)
    return copy


# --- The file -------------------------------------------------------------------------------------


def _is_first_page_sound(path: Path, *, has_wal: bool) -> bool:
    """Whether the file can be read with the first page that it has; raises FlcError if not ours.

    A damaged WAL is kept away: one in which SQLite finds nothing it would delete.
    """
    with closing(_fresh()) as fresh:
        promised = set(fresh.execute(SELECT_SCHEMA))
    wal, is_written = wal_of(path), header_problem(path) is None
    way = PRIVATE if has_wal and wal.exists() and wal.stat().st_size else IMMUTABLE
    try:
        with closing(connect(path, way)) as connection:
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            connection.text_factory = text_or_bytes
            found = set(connection.execute(SELECT_SCHEMA))
            if found != promised and len(found & promised) < len(promised) - 1:
                check_ours(connection, str(path))
                return True
            # Each migration changes the schema. So this is ours, whatever the header says.
            with suppress(FlcError):
                is_ours = found == promised and check_ours(connection, str(path)) > 0
                return is_ours and is_written
            return False
    except UNREADABLE:
        return False


def _fresh() -> sqlite3.Connection:
    fresh = sqlite3.connect(":memory:", isolation_level=None)
    migrate(fresh, "the schema")
    return fresh


def _write_first_page(path: Path) -> None:
    """Put the first page of a new database in the place of one that cannot be read."""
    with closing(_fresh()) as fresh:
        page_bytes = pragma(fresh, "page_size")
        pages = max(path.stat().st_size // page_bytes, pragma(fresh, "page_count"))
        page = bytearray(fresh.serialize()[:page_bytes])
    with path.open("r+b") as file:
        file.truncate(pages * page_bytes)  # SQLite reads none that ends before its tables begin.
        page[18:20] = IN_WAL_MODE  # A WAL that is there counts.
        page[28:32] = pages.to_bytes(4)
        file.write(page)
        file.flush()
        os.fsync(file.fileno())


def _fold(path: Path) -> None:
    """Make the file whole without a WAL, so that its name alone is to be exchanged.

    SQLite folds nothing into a file that is far shorter than the WAL or its own first page says, as
    a disk may leave it that lost what it had synced. The missing pages are empty then. And it reads
    no WAL if the first page is of the time before there was one.
    """
    try:
        is_done = _fold_by_sqlite(path)
    except sqlite3.OperationalError:
        raise  # Somebody else has it open, or the disk fails.
    except sqlite3.DatabaseError:
        is_done = _fold_by_hand(path)
    if not is_done:
        raise FlcError(f"the WAL of {path} cannot be folded in", "end what else reads the file")


def _fold_by_sqlite(path: Path) -> bool:
    """Let SQLite do it. False: somebody else keeps it from that."""
    with closing(connect(path, "mode=rw")) as connection:
        connection.execute("PRAGMA journal_mode = DELETE").fetchone()
    if not wal_of(path).exists():
        return True
    with path.open("rb") as file:
        mode = file.read(20)[18:]
    return mode != IN_WAL_MODE and _fold_by_hand(path)


def _fold_by_hand(path: Path) -> bool:
    if (committed := find_committed(path)) is not None:
        fold_in(path, committed)
    _write_first_page(path)
    return _fold_by_sqlite(path)


# --- The new database -----------------------------------------------------------------------------


def _rebuild(path: Path, target: Path) -> Filled:
    with path.open("rb") as file, closing(connect(path, IMMUTABLE)) as old:
        old.text_factory = text_or_bytes
        with closing(sqlite3.connect(target, isolation_level=None)) as new:
            new.execute("ATTACH ? AS scratch", (str(target.with_name("scratch.db")),))
            for name in ("main", "scratch"):  # It is synced once, when it is whole.
                new.execute(f"PRAGMA {name}.journal_mode = OFF").fetchone()
                new.execute(f"PRAGMA {name}.synchronous = OFF")
            migrate(new, str(target))
            pages = Pages(file.fileno(), pragma(old, "page_size"))
            with atomic(new):
                filled = fill(old, new, pages)
            new.execute("DETACH scratch")
            _check(new, filled)
        was = os.fstat(file.fileno())
    target.chmod(stat.S_IMODE(was.st_mode))
    os.chown(target, was.st_uid, was.st_gid)
    with target.open("rb") as file:
        os.fsync(file.fileno())
    return filled


def _check(new: sqlite3.Connection, filled: Filled) -> None:
    """Raise an error if fsck finds what should not be there.

    What an author wrote with a wrong stamp stays: these are the bytes that were said.
    """
    waiting = {Dot(lost.log, lost.first) for lost in filled.waiting}
    for check, problem, dot, *_ in Fsck(new).findings():
        if check != "stamp" and not (check == "message" and dot in waiting):
            raise sqlite3.DatabaseError(f"the new one has a fault, {check} {dot}: {problem}")
