"""Why a data directory cannot be used, and the way out: what one finds who looks at it.

Rules. What the system reports is often not the reason: SQLite says "unable to open database file"
for a file of another user and for a disk without inodes. So the hint goes by what there is.
"""

import errno
import os
import stat
from pathlib import Path

from flc_udp.store.rights import OWN_FILES, user_text

OR_ANOTHER = "or give another directory with --data"
FULL_HINT = f"make room on its disk (`df -h` and `df -i`), {OR_ANOTHER}"
LOCKED_NAMES = ("SQLITE_BUSY", "SQLITE_LOCKED")
"""By their names, because clients read this file, too, and have no use for SQLite."""

FULL_ERRORS = (errno.ENOSPC, errno.EDQUOT)


def way_out(directory: Path, error: BaseException) -> str:
    """What to do about a data directory that cannot be used because of this error."""
    name = getattr(error, "sqlite_errorname", "")
    if name.startswith(LOCKED_NAMES):
        return f"another program has the log open: `fuser -v {directory}/*` tells which; end it"
    there = next(p for p in (directory, *directory.parents) if os.path.exists(p))  # noqa: PTH110  # raises nothing
    if not there.is_dir():
        return f"{there} is a file: move it away, {OR_ANOTHER}"
    if hint := _of_disk(there):
        return hint
    if name == "SQLITE_FULL" or getattr(error, "errno", 0) in FULL_ERRORS:
        return FULL_HINT
    for place in (there, *(there / name for name in OWN_FILES)):
        if os.path.lexists(place) and not _may_be_used(place):
            return _not_ours(place, directory)
    return (
        "this user may write there: look at the kernel's log (`dmesg`), and at what a sandbox or "
        f"the machine's policy forbids, {OR_ANOTHER}"
    )


def _of_disk(there: Path) -> str:
    disk = os.statvfs(there)
    if disk.f_flag & os.ST_RDONLY:
        return f"its file system is mounted read-only: mount it for writing, {OR_ANOTHER}"
    has_room = disk.f_bavail > 0 and (disk.f_favail > 0 or disk.f_files == 0)
    return "" if has_room else FULL_HINT


def _may_be_used(place: Path) -> bool:
    rights = os.R_OK | os.W_OK | (os.X_OK if place.is_dir() else 0)
    return os.access(place, rights, effective_ids=os.access in os.supports_effective_ids)


def _not_ours(place: Path, directory: Path) -> str:
    found, user = place.lstat(), os.geteuid()
    if found.st_uid == user:
        mode = stat.S_IMODE(found.st_mode)
        return f"{place} has mode {mode:04o}: `chmod u+rwX {place}`, {OR_ANOTHER}"
    whose = f"{place} belongs to {user_text(found.st_uid)}, and flc runs as {user_text(user)}"
    if place in directory.parents:
        return f"{whose}: make {directory} as that user and `chown {user}` it, {OR_ANOTHER}"
    return f"{whose}: run flc as that user, or `chown -R {user} {directory}`, {OR_ANOTHER}"
