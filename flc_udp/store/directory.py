"""The data directory of a daemon: one running node owns it, or nobody does.

Rules. The lock is taken before anything else in the directory is touched. An open file holds it, so
it ends with the process, however that ends. The directory itself is locked, too: `lock` may be
deleted. Only its owner can read what is in the directory.
"""

import fcntl
import os
import pwd
import socket
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path

from flc_udp.model.errors import FlcError
from flc_udp.store.locks import holder_of
from flc_udp.store.rights import (
    DIRECTORY_MODE,
    FILE_MODE,
    GROUPS_SOCKET_MODE,
    close_files,
    give,
    let_pass,
    number_of,
)
from flc_udp.store.way_out import way_out

DATABASE = "flc.db"
"""The name of the log's file in a data directory."""

KEYS, LOCK = "keys", "lock"

CONTROL = "control.sock"
"""The name of the control socket there."""

SOCKET_PATH_BYTES_MAX = 103
"""A socket's path has at most this many bytes: `sun_path` holds 108 on Linux and 104 on macOS and
BSD, and ends with a zero."""


class DataDirectory:
    """A directory that is locked for this process until `release`, or until the process ends."""

    def __init__(self, path: str | Path, group: str = "") -> None:
        """Lock the directory, which is made if there is none; raises FlcError, which names it.

        A group that is given, by its name or number, can pass to the control socket.
        """
        self._group = number_of(group)
        self.path = path = Path(path).absolute()
        self.database = path / DATABASE
        self.keys = path / KEYS
        self._control = path / CONTROL
        self._bound: os.stat_result | None = None
        try:
            made = _make(path)
            self._locks, self._place = _lock(path)
        except OSError as error:
            problem = f"data directory {path} cannot be used: {error.strerror}"
            raise FlcError(problem, way_out(path, error)) from error
        try:
            close_files(path)
            # Parents that were there before are somebody else's business.
            for place in made or [path]:
                let_pass(place, self._group)
        except OSError as error:
            self.release()
            raise self._not_given(path, error) from error

    def release(self) -> None:
        """Unlock. The lock file stays, so that two processes never lock two different files."""
        self._locks.close()

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

    def bind_control(self) -> socket.socket:
        """A socket at `control.sock`, for its owner and perhaps a group; raises FlcError.

        What an earlier run left there is removed.
        """
        if self._control.is_dir() and not self._control.is_symlink():
            raise FlcError(
                f"{self._control} is a directory, and the control socket has that name",
                "move it away: the node makes its socket itself",
            )
        # It is made without rights for others: a moment between bind and chmod would be enough.
        before = os.umask(0o177)
        bound = socket.socket(socket.AF_UNIX)
        try:
            self._control.unlink(missing_ok=True)
            _bind(bound, self._control)
            if self._group is not None:
                give(self._control, self._group, GROUPS_SOCKET_MODE)
            self._bound = self._control.lstat()
        except OSError as error:
            bound.close()
            raise self._not_given(self._control, error) from error
        finally:
            os.umask(before)
        return bound

    def has_lost_control(self) -> bool:
        """Whether `control.sock` is not what was bound, in the directory that is locked."""
        if self._bound is None or self._has_control():
            return False
        with suppress(OSError):
            return os.path.samestat(os.fstat(self._place), self.path.stat())
        return False

    def _has_control(self) -> bool:
        with suppress(OSError):
            return self._bound is not None and os.path.samestat(self._bound, self._control.lstat())
        return False

    def _not_given(self, path: Path, error: OSError) -> FlcError:
        if self._group is None:
            whom, hint = "its owner", "be the owner of the data directory"
        else:
            whom = f"group {self._group}"
            hint = "name a group that this user is in; in a sandbox, the one that it runs as"
        return FlcError(f"{path} cannot be given to {whom}: {error.strerror}", hint)

    def remove_socket(self) -> None:
        """Remove the control socket, if it is ours: the daemon listens no more."""
        if self._has_control():
            self._control.unlink()


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


def _make(path: Path) -> list[Path]:
    missing = [place for place in (path, *path.parents) if not place.exists()]
    for place in reversed(missing):
        place.mkdir(mode=DIRECTORY_MODE, exist_ok=True)
    return missing


def _lock(path: Path) -> tuple[ExitStack, int]:
    """Lock the directory and the file in it; return what unlocks them, and the directory."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    with ExitStack() as locks:
        place = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        locks.callback(os.close, place)
        with suppress(OSError):  # Not every file system locks directories.
            _take(place, path)
        lock = os.open(path / LOCK, flags, FILE_MODE)
        locks.callback(os.close, lock)
        _take(lock, path)
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        return locks.pop_all(), place


def _take(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise _in_use(path) from error


def _in_use(path: Path) -> FlcError:
    """Somebody has locked it: a node, or anybody else."""
    holder, whose = None, "process unknown"
    with suppress(OSError):
        whose = f"process {(path / LOCK).read_text('ascii', 'replace')[:32].strip() or 'unknown'}"
        holder = holder_of(path)
    if holder is not None and not holder.is_node:
        return FlcError(
            f"data directory {path} is locked by {holder}, which is no node",
            f"end that process; `chmod 700 {path}` keeps other users from locking it again",
        )
    return FlcError(
        f"data directory {path} is in use by a running node, {holder or whose}",
        "stop that one first, or give this one another directory with --data",
    )


def _bind(sock: socket.socket, path: Path) -> None:
    """Bind a socket at a path of any length; raises OSError.

    A long path is spelled by a descriptor of its directory. So nothing of the socket has to lie in
    a directory that others can write to, or that a service may have for itself alone, as /tmp.
    """
    if len(os.fsencode(path)) <= SOCKET_PATH_BYTES_MAX:
        sock.bind(os.fspath(path))
        return
    directory = os.open(path.parent, os.O_PATH | os.O_CLOEXEC)
    try:
        sock.bind(f"/proc/self/fd/{directory}/{path.name}")
    finally:
        os.close(directory)


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
