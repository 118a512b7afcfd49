"""The data directory of a daemon: one running node owns it, or nobody does.

Rules. The lock is taken before anything else in the directory is touched. An open file holds it, so
it ends with the process, however that ends. Only its owner can read what is in the directory.
"""

import errno
import fcntl
import grp
import os
import pwd
import stat
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from hashlib import blake2b
from pathlib import Path

from flc_udp.model.errors import FlcError

DATABASE = "flc.db"
"""The name of the log's file in a data directory."""

FULL_HINT = "make room on its disk (see `df`), or give another directory with --data"

DIRECTORY_MODE = 0o700
FILE_MODE = 0o600

SOCKET_PATH_BYTES_MAX = 103
"""A socket's path has at most this many bytes: `sun_path` holds 108 on Linux and 104 on macOS and
BSD, and ends with a zero."""


class DataDirectory:
    """A directory that is locked for this process until `release`, or until the process ends."""

    def __init__(self, path: str | Path) -> None:
        """Lock the directory, which is made if there is none; raises FlcError, which names it."""
        self.path = path = Path(path).absolute()
        self.database = path / DATABASE
        self.keys = path / "keys"
        self._control = path / "control.sock"
        try:
            _make(path)
            self._lock = _lock(path)
        except OSError as error:
            is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            raise FlcError(
                f"data directory {path} cannot be used: {error.strerror}",
                FULL_HINT if is_full else "give one that you can write to, with --data",
            ) from error

    def release(self) -> None:
        """Unlock. The lock file stays, so that two processes never lock two different files."""
        os.close(self._lock)

    def free_bytes(self) -> int:
        """The space left on the file system that this user may take."""
        found = os.statvfs(self.path)
        return found.f_bavail * found.f_frsize

    def file_bytes(self) -> dict[str, int]:
        """The sizes of the log's files, without those that do not exist; raises OSError."""
        files = {"database": self.database, "wal": self.database.with_name("flc.db-wal")}
        return {name: path.stat().st_size for name, path in files.items() if path.exists()}

    def write_keys(self, text: str) -> None:
        """Write `keys` whole and durable, or leave it as it was; raises OSError."""
        write_whole(self.keys, text)

    def socket_path(self) -> Path:
        """Where to bind the control socket. What an earlier run left there is removed.

        If the path is too long for a socket, it becomes a symbolic link to a short path, in a
        directory of this user's own. Raises FlcError if that directory is another user's.
        """
        self._control.unlink(missing_ok=True)
        if len(os.fsencode(self._control)) <= SOCKET_PATH_BYTES_MAX:
            return self._control
        short = _short_directory(self.path) / "control.sock"
        short.unlink(missing_ok=True)
        self._control.symlink_to(short)
        return short

    def remove_socket(self) -> None:
        """Remove the socket at the path that `socket_path` gave: the daemon listens no more."""
        if self._control.is_symlink():
            short = self._control.readlink()
            short.unlink(missing_ok=True)
            with suppress(OSError):
                short.parent.rmdir()
        self._control.unlink(missing_ok=True)


def default_directory(environ: Mapping[str, str] = os.environ) -> Path:
    """The data directory of a daemon that was started without --data."""
    if given := environ.get("FLC_DATA"):
        return Path(given)
    # If a unit has several, systemd separates them by colons.
    if given := environ.get("STATE_DIRECTORY", "").partition(":")[0]:
        return Path(given)
    return user_directory(environ)


def user_directory(environ: Mapping[str, str]) -> Path:
    """The data directory of a daemon that a user starts, and nobody named another one."""
    state = environ.get("XDG_STATE_HOME", "")
    if Path(state).is_absolute():  # XDG: a relative path is ignored.
        return Path(state, "flc")
    try:
        home = environ.get("HOME") or pwd.getpwuid(os.getuid()).pw_dir
    except KeyError as error:
        raise FlcError(
            f"user {os.getuid()} has no home directory, and HOME is not set",
            "name the data directory with --data or FLC_DATA",
        ) from error
    return Path(home, ".local", "state", "flc")


def _make(path: Path) -> None:
    missing = [place for place in (path, *path.parents) if not place.exists()]
    for place in reversed(missing):
        place.mkdir(mode=DIRECTORY_MODE, exist_ok=True)


def _lock(path: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    with ExitStack() as on_failure:
        lock = os.open(path / "lock", flags, FILE_MODE)
        on_failure.callback(os.close, lock)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(lock, 32, 0).decode("ascii", "replace").strip() or "unknown"
            raise FlcError(
                f"data directory {path} is in use by a running node, process {holder}",
                "stop that one first, or give this one another directory with --data",
            ) from error
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        on_failure.pop_all()
    return lock


def _short_directory(path: Path) -> Path:
    run = Path(f"/run/user/{os.getuid()}")
    base = run if os.access(run, os.W_OK | os.X_OK) else Path("/tmp")  # noqa: S108  # checked below
    name = blake2b(os.fsencode(path.resolve()), digest_size=8).hexdigest()
    short = base / f"flc-{os.getuid()}-{name}"
    with suppress(FileExistsError):
        short.mkdir(mode=DIRECTORY_MODE)
    # Everybody may write to /tmp, so this must be a real directory, and ours.
    found = short.lstat()
    ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
    if not ours or stat.S_IMODE(found.st_mode) & 0o077:
        raise FlcError(
            f"{short}, where the control socket would be, is not this user's alone",
            "give a data directory with a shorter path, with --data",
        )
    return short


def give_to(path: Path, group: str) -> None:
    """Let a group, by its name or number, use the control socket, too; raises FlcError."""
    try:
        number = int(group) if group.isdecimal() else grp.getgrnam(group).gr_gid
        # A sandbox may forbid to change a group, also where there is nothing to change.
        if path.stat().st_gid != number:
            os.chown(path, -1, number)
        path.chmod(0o660)
    except (LookupError, OSError) as error:
        raise FlcError(
            f"control socket cannot be given to group {group!r}: {error}",
            "name a group that exists and that this user is in",
        ) from error


def write_whole(path: Path, text: str) -> None:
    """Write a file whole and durable, for its owner alone, or leave it as it was; raises OSError.

    One process at a time.
    """
    written = path.with_name(f"{path.name}.new")
    written.unlink(missing_ok=True)  # A process that was killed here left it.
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with os.fdopen(os.open(written, flags, FILE_MODE), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    written.replace(path)
    flush_directory(path.parent)


def flush_directory(path: Path) -> None:
    """Make the names of files in a directory durable, as fsync of the files themselves does not."""
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
