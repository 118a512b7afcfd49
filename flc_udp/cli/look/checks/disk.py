"""The disk of the data directory: its room, how long a commit waits for it, and if WAL works."""

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
SYNC_BYTES = 4_096
SYNC_MS_MAX = 20.0
"""A disk at rest that takes longer is slower than a spinning one: people notice it at each say."""

NETWORK = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "fuse.sshfs")
"""File systems whose locks and shared memory SQLite's WAL cannot rely on (sqlite.org/wal.html)."""

MEMORY = ("tmpfs", "ramfs")
MOUNTS = Path("/proc/mounts")


def disk(directory: Path, free_bytes_min: int) -> list[Verdict]:
    """All three, of a directory that is there."""
    found = os.statvfs(directory)
    free = found.f_bavail * found.f_frsize
    kind = file_system_of(str(directory.resolve()), read(MOUNTS))
    return [free_space(free, free_bytes_min), file_system(kind), sync(directory)]


def free_space(free: int, least: int) -> Verdict:
    """Whether posts are taken (disk_free_bytes_min)."""
    if free < least:
        advice = "make room, or lower disk_free_bytes_min; retention_bytes keeps a log small"
        return fail(FREE, f"{size_text(free)}: below {size_text(least)} posts are refused", advice)
    return ok(FREE, f"{size_text(free)}, posts are refused below {size_text(least)}")


def file_system_of(path: str, mounts: str) -> str:
    """The type of the deepest mount above `path` in a text as /proc/mounts; empty if unknown."""
    best, kind = "", ""
    for fields in map(str.split, mounts.splitlines()):
        # Spaces and the like stand there as \040.
        point = fields[1].encode().decode("unicode_escape")
        is_above = path == point or path.startswith(point.rstrip("/") + "/")
        # The later of two mounts at one place covers the earlier.
        if is_above and len(point) >= len(best):
            best, kind = point, fields[2]
    return kind


def file_system(kind: str) -> Verdict:
    """Whether a durable message stays one there."""
    if kind in NETWORK:
        found = f"{kind} is a network file system: SQLite's WAL does not work on it"
        return fail(SYSTEM, found, "give a directory on a disk of this machine, with --data")
    if kind in MEMORY:
        found = f"{kind} is memory: what is said is gone with the machine's power"
        return warn(SYSTEM, found, "give a directory on a disk, with --data")
    return ok(SYSTEM, kind or "not told by this system")


def sync(directory: Path) -> Verdict:
    """How long it takes to have a little on disk; nothing is left there."""
    try:
        return sync_time(statistics.median(sync_times_ms(directory)))
    except OSError as error:
        return warn(SYNC, f"not measured: {error.strerror}", "be the user that runs the node")


def sync_times_ms(directory: Path) -> list[float]:
    """Several, of a file without a name."""
    times = []
    with tempfile.TemporaryFile(dir=directory, buffering=0) as file:
        for _ in range(SYNCS):
            file.write(bytes(SYNC_BYTES))
            began = time.perf_counter()
            os.fsync(file.fileno())
            times.append((time.perf_counter() - began) * 1e3)
    return times


def sync_time(ms: float) -> Verdict:
    """What it means to those who speak."""
    if ms > SYNC_MS_MAX:
        return warn(
            SYNC,
            f"{ms:.1f} ms: each say waits at least so long, {SYNC_MS_MAX:.0f} ms would be usual",
            "look for what else writes there (iostat -x 1), or give a faster disk with --data",
        )
    return ok(SYNC, f"{ms:.2f} ms, which is the least that a say takes")
