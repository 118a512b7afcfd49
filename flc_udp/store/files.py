"""The files of a database: whether they belong together, and whether they are still there.

    flc.db         the database
    flc.db-wal     what was committed since it was last folded into the database
    flc.db-shm     the index of that
    flc.db-life    which database it belongs to

Promise. What is committed is found under the database's name by whoever opens it next.

Rules. Each time that the writer opens the database, a *life* begins: the WAL is folded in and is
empty, and a random number is written into the database and into `flc.db-life`. What then gathers in
the WAL belongs to a database with this number. So a backup that was put over `flc.db` beside the
WAL of another database is refused, where SQLite would make one broken history of the two. Folding
in also settles what a WAL is worth whose last syncs failed: its pages may be in memory alone.

While the writer has the files open, they may be deleted, moved, replaced or cut short by others.
Whatever was written then would be gone with the process, so before each transaction the names are
compared with the files that are open, and their sizes with what SQLite has written to them. How
much of the WAL that is stands in its index (sqlite.org/walformat.html, section 2.1), and so do the
sums of its last frame. Another content may also be written into the same files, as `cp` does. Then
the WAL has another last frame, and the database has not this life's number where it was. Only a
copy of the database from the same life is not told from it.
"""

import os
import secrets
import sqlite3
import stat
import struct
from contextlib import closing, suppress
from pathlib import Path
from zlib import crc32

from flc_udp.model.errors import FlcError, StoreFailed
from flc_udp.store.directory import write_whole
from flc_udp.store.queries import atomic, pragma
from flc_udp.store.rights import FILE_MODE
from flc_udp.store.sums import changed_rows, know_sums

MOUNTS = Path("/proc/self/mountinfo")
"""Where Linux tells what is mounted: the fifth word of each line is the place (proc(5))."""

INDEX_HEADER = struct.Struct("=12xxxHII")
"""How the WAL's index begins: the page size, the frames of the WAL, the pages of the database."""

INDEX_SUMS = struct.Struct("=24xII8s")
"""What the index has of the WAL's last frame: its two sums, and its salts."""

FRAME_SUMS = struct.Struct(">8x8sII")
"""Where they stand in the frame."""

INDEX_BYTES_LEAST = 1 << 15
WAL_HEADER_BYTES, FRAME_HEADER_BYTES = 32, 24

SAVE_LIFE = "INSERT OR REPLACE INTO node (key, value) VALUES ('life', ?)"
SELECT_LIFE = "SELECT value FROM node WHERE key = 'life'"
SELECT_PAGE = "SELECT rootpage FROM sqlite_schema WHERE name = 'node'"


class DatabaseFiles:
    """The files of one database, which has its writer in this process or will have it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.wal = path.with_name(f"{path.name}-wal")
        self._life = path.with_name(f"{path.name}-life")
        self._index = path.with_name(f"{path.name}-shm")
        self._fds: list[int] = []
        """The database, the WAL and its index. They stay open as long as the process has the
        database open: closing them would drop the locks that SQLite has on the files."""
        self._opened: list[tuple[Path, tuple[int, int]]] = []
        self._seen_bytes = self._seen_ns = 0
        self._life_text, self._life_found = "", (0, 0, 0)
        self._life_at = slice(0)
        """Where in the database the number of its life is: in which page."""

    def check_before_opening(self, *, make: bool = True) -> None:
        """Raise FlcError if what lies there is no database that this node may write to.

        A missing file is made, if asked for. Raises OSError if that cannot be, or if one cannot be
        read.
        """
        path = self.path
        if path.is_symlink():
            raise FlcError(
                f"{path} is a link to {path.resolve()}",
                "two nodes could write one database: move the file itself here, or name its own "
                "directory with --data",
            )
        self.check_presence()
        if not path.exists():
            if not make:
                return
            # For its owner alone, whatever the umask is. SQLite gives the WAL the same rights.
            os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, FILE_MODE))
            return
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            kind = "a directory" if stat.S_ISDIR(found.st_mode) else "no plain file"
            raise FlcError(
                f"{path} is {kind}, and the log is a file of that name",
                "move it away, or name another data directory with --data",
            )
        if found.st_nlink > 1:
            raise FlcError(
                f"{path} has {found.st_nlink} names",
                f"two nodes could write one database: `find -samefile {path}` finds the others; "
                "remove them",
            )
        if _is_mounted(path):
            raise FlcError(
                f"{path} is a mount of its own, and what is committed lies in {self.wal.name}, "
                "which is not on it",
                f"mount the whole directory {path.parent}",
            )
        self._check_life()

    def check_presence(self) -> None:
        """Raise FlcError if the database is missing or empty, and what lies beside it is not.

        SQLite would make an empty database, and delete the WAL with all that was committed last.
        """
        try:
            if self.path.stat().st_size:
                return
        except PermissionError:  # Whoever opens it is told.
            return
        except FileNotFoundError:
            pass
        beside = [name for name in (self._life, self.wal, self._index) if _has_content(name)]
        if beside:
            state = "is empty" if self.path.exists() else "is missing"
            names = " and ".join(map(str, beside))
            raise FlcError(
                f"{self.path} {state}, and it held a log before: {beside[0].name} is of that",
                "put it back; a backup goes into an empty directory; to begin an empty log here, "
                f"move {names} away",
            )

    def _check_life(self) -> None:
        lives = self._lives()
        with suppress(FileNotFoundError):
            if self.wal.stat().st_size and lives and self._life_in_database() not in (*lives, None):
                raise FlcError(
                    f"{self.path} was replaced, and {self.wal.name} belongs to the one before",
                    f"to go on from the one before, put that back; from the one that is there now: "
                    f"move {self.wal} and {self._index} away, and keep them, because what was "
                    f"committed last is in them; if only {self._life.name} is of another "
                    f"database, move that away instead",
                )

    def _lives(self) -> list[str]:
        try:
            lives, _, told = self._life.read_text("ascii").rstrip("\n").rpartition(" ")
        except (FileNotFoundError, UnicodeDecodeError):
            return []
        # One of the numbers may be "", which is that of a database without one.
        return lives.split(" ") if told == _sum_of(lives) else []

    def _life_in_database(self) -> str | None:
        """The number in the database itself, whatever its WAL has. It is "" where there is none.

        None: the file is damaged, so nothing tells that it was replaced.
        """
        uri = f"{self.path.absolute().as_uri()}?mode=ro&immutable=1"
        try:
            with closing(sqlite3.connect(uri, uri=True)) as connection:
                know_sums(connection)
                if changed_rows(connection, ["node"]):
                    return None
                return _life_in(connection)
        except sqlite3.OperationalError:
            # It has none, unless it cannot be read at all: then this raises OSError.
            self.path.open("rb").close()
            return ""
        except sqlite3.DatabaseError:
            return None

    def begin_life(self, connection: sqlite3.Connection) -> None:
        """Fold in the WAL, and note which files are open; raises FlcError, OSError, sqlite3.Error.

        The writer calls this before anything else is written.
        """
        before = _life_in(connection)
        # The letter keeps SQLite from taking it for a number: 12e4567 would be one without end.
        life = f"x{secrets.token_hex(8)}"
        # A process may be killed at any moment: until all is done, either number is right.
        self._write_lives(f"{before} {life}")
        with atomic(connection):
            connection.execute(SAVE_LIFE, (life,))
        (is_busy, *_) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if is_busy:
            raise FlcError(
                f"another program reads {self.path}, so its WAL cannot be folded in",
                f"end it first: `fuser {self.path}` tells which it is",
            )
        self._write_lives(life)
        page_bytes = pragma(connection, "page_size")
        (page,) = connection.execute(SELECT_PAGE).fetchone()
        self._life_at = slice((page - 1) * page_bytes, page * page_bytes)
        self._note_opened()

    def _write_lives(self, lives: str) -> None:
        self._life_text = lives
        write_whole(self._life, f"{lives} {_sum_of(lives)}\n")
        self._life_found = _version(self._life.stat())

    def _note_opened(self) -> None:
        found = [(name, name.stat()) for name in (self.path, self.wal, self._index)]
        self._opened = [(name, _identity(stat)) for name, stat in found]
        self._seen_bytes, self._seen_ns = found[0][1].st_size, found[0][1].st_mtime_ns
        if [_identity(os.fstat(fd)) for fd in self._fds] != [key for _, key in self._opened]:
            self._fds = [os.open(name, os.O_RDONLY | os.O_CLOEXEC) for name, _ in self._opened]

    def closed(self, *, for_good: bool = False) -> None:
        """The writer was closed. SQLite may have removed what was beside the database."""
        del self._opened[1:]
        if for_good:
            for fd in self._fds:
                os.close(fd)
            self._fds.clear()

    def check(self, operation: str) -> None:
        """Raise StoreFailed if the files are not what the writer has opened and written."""
        sizes = self.check_names(operation)
        if len(sizes) > 1:
            self._check_sizes(operation, sizes)
            self._keep_life(operation)

    def _keep_life(self, operation: str) -> None:
        """Write the number of this life again if somebody has deleted or changed its file."""
        try:
            with suppress(FileNotFoundError):
                if _version(os.stat(self._life)) == self._life_found:  # noqa: PTH116  # as below
                    return
            self._write_lives(self._life_text)
        except OSError as error:
            problem = f"{self._life} cannot be written again: {error.strerror}"
            raise StoreFailed(operation, problem) from error

    def check_names(self, operation: str) -> list[int]:
        """Raise StoreFailed if a file is no longer under its name; return their sizes, in bytes."""
        sizes = []
        for name, identity in self._opened:
            try:
                found = os.stat(name)  # noqa: PTH116  # a path's own method takes twice as long
            except OSError:
                found = None
            if found is None or _identity(found) != identity:
                raise StoreFailed(
                    operation,
                    f"{name} was deleted, moved or replaced under the running node: put it back, "
                    "or stop the node once others hold what it has",
                )
            sizes.append(found.st_size)
            if len(sizes) == 1 and found.st_mtime_ns != self._seen_ns and self._fds:
                self._check_life_at_its_place(operation)
                self._seen_ns = found.st_mtime_ns
        return sizes

    def _check_life_at_its_place(self, operation: str) -> None:
        at = self._life_at
        page = os.pread(self._fds[0], at.stop - at.start, at.start)
        is_cut = os.fstat(self._fds[0]).st_size < self._seen_bytes  # Then its size is told.
        if self._life_text.encode() not in page and not is_cut:
            raise _overwritten(operation, self.path)

    def _check_sizes(self, operation: str, sizes: list[int]) -> None:
        """Raise StoreFailed if less is in the files than SQLite has written there."""
        _, wal, index = self._fds
        header = os.pread(index, INDEX_SUMS.size, 0).ljust(INDEX_SUMS.size, b"\0")
        page, frames, pages = INDEX_HEADER.unpack_from(header)
        page = 1 << 16 if page == 1 else page
        in_wal = WAL_HEADER_BYTES + frames * (FRAME_HEADER_BYTES + page) if frames else 0
        # The database grows when the WAL is folded in. Pages that were given back are cut off then.
        least = min(self._seen_bytes, pages * page) if pages else self._seen_bytes
        for (name, _), size, wanted in zip(
            self._opened, sizes, (least, in_wal, INDEX_BYTES_LEAST), strict=True
        ):
            if size < wanted:
                raise StoreFailed(
                    operation,
                    f"{name} was cut short under the running node, to {size} of {wanted} bytes: "
                    "stop the node once others hold what it has",
                )
        self._seen_bytes = sizes[0]
        if frames:
            last = os.pread(wal, FRAME_SUMS.size, in_wal - FRAME_HEADER_BYTES - page)
            *sums, salts = INDEX_SUMS.unpack(header)
            if FRAME_SUMS.unpack(last) != (salts, *sums):
                raise _overwritten(operation, self.wal)


def _life_in(connection: sqlite3.Connection) -> str:
    (life,) = connection.execute(SELECT_LIFE).fetchone() or ("",)
    return str(life)


def _overwritten(operation: str, path: Path) -> StoreFailed:
    return StoreFailed(
        operation,
        f"{path} was overwritten under the running node: stop it, and `flc fsck --repair` keeps "
        "what can be kept; others give the rest, and a backup belongs in an empty directory",
    )


def _has_content(name: Path) -> bool:
    return name.is_file() and name.stat().st_size > 0


def _sum_of(lives: str) -> str:
    return f"{crc32(lives.encode()):08x}"


def _version(found: os.stat_result) -> tuple[int, int, int]:
    """Two numbers that are other ones if a file was replaced, and one if it was written."""
    return (*_identity(found), found.st_mtime_ns)


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def _is_mounted(path: Path) -> bool:
    """Whether this file, and not a directory above it, is a place where something is mounted."""
    with suppress(OSError):
        place = os.fsencode(path.resolve())
        lines = MOUNTS.read_bytes().splitlines()
        return any(_unescaped(line.split()[4]) == place for line in lines)
    return False


def _unescaped(word: bytes) -> bytes:
    """A word of mountinfo, in which a blank is written as its number."""
    return word.decode("unicode_escape").encode("latin-1") if b"\\" in word else word
