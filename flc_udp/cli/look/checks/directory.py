"""The data directory: whose it is, who else may look in, and who holds it now.

Nothing is locked to find out: a lock taken only to look would stop a node that starts just then.
"""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from flc_udp.cli.connect import SOCKET
from flc_udp.cli.look.checks.proc import read
from flc_udp.cli.look.checks.verdict import Verdict, fail, ok, warn
from flc_udp.store.directory import DIRECTORY_MODE, FILE_MODE

DIRECTORY, FILES, HOLDER = "data directory", "its files", "its lock"
OTHERS, ROOT = 0o077, 0
OWN = ("flc.db", "flc.db-wal", "flc.db-shm", "keys", "lock", SOCKET)
"""What is a node's there: others' files are not its to judge."""

KEYS = "/keys"
LOCKS = Path("/proc/locks")


class Entry(NamedTuple):
    """A file or directory as far as rights go."""

    path: str
    mode: int
    owner: int


def directory(path: Path) -> list[Verdict]:
    """Who may use it, and who else can; who holds it is `holder`'s."""
    try:
        found = entry(path)
        inside = list(entries(path))
    except FileNotFoundError:
        return [warn(DIRECTORY, f"{path} does not exist", f"flc run --data {path} makes it")]
    except OSError as error:
        advice = "be the user that runs the node, or name another directory with --data"
        return [fail(DIRECTORY, f"{path}: {error.strerror}", advice)]
    return [rights(found, os.geteuid()), rights_inside(inside, found)]


def entries(path: Path) -> Iterator[Entry]:
    """The node's files in a directory, but for links and for what goes meanwhile, as a WAL does."""
    for name in OWN:
        with suppress(FileNotFoundError):
            if not (path / name).is_symlink():
                yield entry(path / name)


def entry(path: Path) -> Entry:
    """As the file system has it."""
    status = path.stat()
    return Entry(str(path), stat.S_IMODE(status.st_mode), status.st_uid)


def rights(found: Entry, user: int) -> Verdict:
    """The keys and all that was said are in there: for its owner alone."""
    if user not in (found.owner, ROOT):
        return fail(
            DIRECTORY,
            f"{found.path} belongs to {_name(found.owner)}, and you are {_name(user)}",
            f"run flc as {_name(found.owner)}, or chown it",
        )
    if found.mode & OTHERS:
        return fail(
            DIRECTORY,
            f"{found.path} is open to others, mode {found.mode:04o}",
            f"chmod {DIRECTORY_MODE:o} {found.path}: it holds keys and all that was said",
        )
    return ok(DIRECTORY, f"{found.path}, mode {found.mode:04o}, of {_name(found.owner)}")


def rights_inside(inside: list[Entry], above: Entry) -> Verdict:
    """The same of each file. In a directory that is shut only the keys have to be so themselves."""
    owner = above.owner
    foreign = [found.path for found in inside if found.owner != owner]
    if foreign:
        return fail(
            FILES,
            f"of another user than their directory: {', '.join(foreign)}",
            f"chown {_name(owner)} {' '.join(foreign)}: was a node run as another user once?",
        )
    # The socket may be a group's (--control-group).
    private = [
        found
        for found in inside
        if Path(found.path).name != SOCKET and (above.mode & OTHERS or found.path.endswith(KEYS))
    ]
    opened = [found.path for found in private if found.mode & OTHERS]
    if opened:
        advice = f"chmod {FILE_MODE:o} {' '.join(opened)}"
        return warn(FILES, f"open to others: {', '.join(opened)}", advice)
    return ok(FILES, f"{len(inside)}, within their owner's reach alone")


def holder_of(path: Path) -> int | None:
    """The process that holds the directory, as far as can be seen from here."""
    lock = path / "lock"
    try:
        return lock_holder(read(LOCKS), lock.stat().st_ino, int(read(lock).strip() or 0))
    except (OSError, ValueError):
        return None


def lock_holder(locks: str, inode: int, written: int) -> int | None:
    """The process `written` into a lock file, if by a text as /proc/locks it holds that file.

    The device is not compared: btrfs has another one there than in stat(2).
    """
    for fields in map(str.split, locks.splitlines()):
        is_lock = fields[1:4] == ["FLOCK", "ADVISORY", "WRITE"]
        if is_lock and int(fields[4]) == written and fields[5].rpartition(":")[2] == str(inode):
            return written
    return None


def holder(process: int | None, problem: str, *, has_socket: bool) -> Verdict:
    """Who holds it, against who answers at its control socket; `problem` is why none does."""
    if not problem:
        return ok(HOLDER, f"held by a running node{f', process {process}' if process else ''}")
    if process is not None:
        return fail(
            HOLDER,
            f"process {process} holds it, but {problem}",
            f"is it stopped or starting? ps -o stat,etime,args {process}; see its log",
        )
    if has_socket:
        return warn(
            HOLDER,
            f"nobody holds it, and {SOCKET} is left over: the node did not end in order",
            "see why in its log or the kernel's (out of memory?); the next flc run clears it",
        )
    return ok(HOLDER, "nobody holds it")


def _name(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)
