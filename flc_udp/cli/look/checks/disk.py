"""Checks of the disk: whether it has room, how slow a sync is, and whether SQLite's WAL works."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from pathlib import Path

from flc_udp.cli.look.checks.proc import read
from flc_udp.cli.look.checks.verdict import Verdict, fail, ok, warn
from flc_udp.cli.text import size_text

SYNC, FREE, SYSTEM = "disk sync", "free space", "file system"
SYNCS = 5
"""The median of this many syncs counts."""
SYNC_BYTES = 4_096
SYNC_MS_MAX = 20.0
"""An idle disk whose sync takes longer is slower than a spinning one. People notice that each time
they say something."""

NETWORK = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "fuse.sshfs")
"""SQLite's WAL cannot rely on the locks and shared memory of these (sqlite.org/wal.html)."""

MEMORY = ("tmpfs", "ramfs")
MOUNTS = Path("/proc/mounts")


def disk(directory: Path, free_bytes_min: int) -> list[Verdict]:
    """Make the three checks of an existing directory."""
    found = os.statvfs(directory)
    free_bytes = found.f_bavail * found.f_frsize
    kind = file_system_of(str(directory.resolve()), read(MOUNTS))
    return [free_space(free_bytes, free_bytes_min), file_system(kind), sync(directory)]


def free_space(free_bytes: int, free_bytes_min: int) -> Verdict:
    """Judge whether the node takes posts, which it refuses below `free_bytes_min`."""
    found = f"{size_text(free_bytes)}, posts are refused below {size_text(free_bytes_min)}"
    if free_bytes < free_bytes_min:
        advice = "make room, or lower disk_free_bytes_min; retention_bytes keeps a log small"
        return fail(FREE, found, advice)
    return ok(FREE, found)


def file_system_of(path: str, mounts: str) -> str:
    """Return the type of the deepest mount above `path`, or "" if unknown.

    `mounts` is the text of /proc/mounts.
    """
    best, kind = "", ""
    for fields in map(str.split, mounts.splitlines()):
        # The kernel writes a space as \040, and other characters in the same way.
        point = fields[1].encode().decode("unicode_escape")
        is_above = path == point or path.startswith(point.rstrip("/") + "/")
        # If two mounts have one place, the later one hides the earlier one.
        if is_above and len(point) >= len(best):
            best, kind = point, fields[2]
    return kind


def file_system(kind: str) -> Verdict:
    """Judge whether a message that is durable there stays durable."""
    if kind in NETWORK:
        found = f"{kind} is a network file system: SQLite's WAL does not work on it"
        return fail(SYSTEM, found, "give a directory on a disk of this machine, with --data")
    if kind in MEMORY:
        found = f"{kind} is memory: all messages are lost when the machine loses power"
        return warn(SYSTEM, found, "give a directory on a disk, with --data")
    return ok(SYSTEM, kind or "this system does not tell it")


def sync(directory: Path) -> Verdict:
    """Measure how long a small write takes to reach the disk. It leaves no file behind."""
    try:
        return sync_time(statistics.median(sync_times_ms(directory)))
    except OSError as error:
        return warn(SYNC, f"not measured: {error.strerror}", "run this as the user of the node")


def sync_times_ms(directory: Path) -> list[float]:
    """Measure SYNCS syncs of a file that has no name."""
    times_ms = []
    with tempfile.TemporaryFile(dir=directory, buffering=0) as file:
        for _ in range(SYNCS):
            file.write(bytes(SYNC_BYTES))
            began_s = time.perf_counter()
            os.fsync(file.fileno())
            times_ms.append((time.perf_counter() - began_s) * 1e3)
    return times_ms


def sync_time(sync_ms: float) -> Verdict:
    """Judge the time of a sync, for which every say waits."""
    if sync_ms > SYNC_MS_MAX:
        return warn(
            SYNC,
            f"{sync_ms:.1f} ms; each say waits that long; {SYNC_MS_MAX:.0f} ms or less is usual",
            "look for what else writes there (iostat -x 1), or give a faster disk with --data",
        )
    return ok(SYNC, f"{sync_ms:.2f} ms; each say takes at least that long")
