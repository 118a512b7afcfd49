"""Who may use what lies in a data directory: its owner, and of the control socket perhaps a group.

Rules. A file of the node has mode 0600. The directory has mode 0700, or 0710 for `--control-group`:
members of the group pass it to the socket, which has mode 0660. They can neither list it nor open
any other file in it. What is right already is not changed, because a sandbox may forbid a change
that would change nothing.
"""

import grp
import os
import pwd
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from flc_udp.model.errors import FlcError

DIRECTORY_MODE = 0o700
GROUPS_DIRECTORY_MODE = 0o710
FILE_MODE = 0o600
GROUPS_SOCKET_MODE = 0o660

OTHERS = 0o077
OTHERS_OF_KEYS = 0o027
"""A key file may be read by a group that the node is in, as where root owns it."""

OWN_FILES = ("lock", "keys", "flc.db", "flc.db-wal", "flc.db-shm", "flc.db-journal", "flc.db-life")
"""The files that a node makes."""


def user_text(user: int) -> str:
    """A user as an error names it, by name and number."""
    try:
        return f"{pwd.getpwuid(user).pw_name} (uid {user})"
    except KeyError:
        return f"uid {user}"


def open_to_others(directory: Path, key_file: str) -> Iterator[tuple[Path, str, str]]:
    """(path, mode, what to do) of the data directory and the key file, where they are open."""
    places = [(directory, OTHERS, DIRECTORY_MODE)]
    if key_file:
        places.append((Path(key_file), OTHERS_OF_KEYS, FILE_MODE))
    for path, others, closed in places:
        with suppress(OSError):  # What cannot be looked at is found out where it is read.
            mode = stat.S_IMODE(path.stat().st_mode)
            if mode & others and mode != GROUPS_DIRECTORY_MODE:
                yield path, f"{mode:04o}", f"`chmod {closed:o} {path}`"


def number_of(group: str) -> int | None:
    """The number of a group that is given by name or number, None for ""; raises FlcError."""
    if not group:
        return None
    try:
        return int(group) if group.isdecimal() else grp.getgrnam(group).gr_gid
    except KeyError as error:
        raise FlcError(
            f"there is no group {group!r} for the control socket",
            "`getent group` lists the groups; name one that this user is in",
        ) from error


def close_files(directory: Path) -> None:
    """Take the rights of others from the node's files; raises OSError."""
    for path in (directory / name for name in OWN_FILES):
        with suppress(FileNotFoundError):
            found = path.lstat()
            is_own = stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid()
            if is_own and found.st_mode & OTHERS:
                path.chmod(FILE_MODE)


def let_pass(directory: Path, group: int | None) -> None:
    """Let a group pass a directory. For None take back what an earlier run gave; raises OSError."""
    found = directory.stat()
    if group is None:
        if stat.S_IMODE(found.st_mode) == GROUPS_DIRECTORY_MODE and found.st_uid == os.geteuid():
            directory.chmod(DIRECTORY_MODE)
    elif not found.st_mode & (0o010 if found.st_gid == group else 0o001):
        give(directory, group, GROUPS_DIRECTORY_MODE)


def give(path: Path, group: int, mode: int) -> None:
    """Let a group use a file as this mode says; raises OSError."""
    if path.stat().st_gid != group:
        # Nobody of the group that it had keeps a right that was meant for that group.
        path.chmod(mode & ~OTHERS)
        os.chown(path, -1, group)
    path.chmod(mode)


def check_plain(path: Path) -> None:
    """Raise FlcError if something else than a plain file has this name, or a link."""
    try:
        mode = path.lstat().st_mode
    except (FileNotFoundError, PermissionError):  # Whoever opens it is told.
        return
    if stat.S_ISLNK(mode):
        raise FlcError(
            f"{path} is a link to {path.resolve()}",
            "two nodes could use one file: move the file itself here, or name its own directory "
            "with --data",
        )
    if not stat.S_ISREG(mode):
        kind = "a directory" if stat.S_ISDIR(mode) else "no plain file"
        raise FlcError(
            f"{path} is {kind}, and the node has a file of that name",
            "move it away, and the file back if it was moved: see `ls -l` there",
        )
