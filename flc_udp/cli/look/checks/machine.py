"""Checks of this machine: the versions of what flc needs, the kernel's UDP sockets, and the disk.

The kernel may grant a smaller receive buffer than the daemon asks for, and it drops what does not
fit. It reports neither to the daemon, but on Linux both can be read in /proc.
"""

import os
import shutil
import socket
import sqlite3
import statistics
import sys
import tempfile
import timeit
from contextlib import suppress
from pathlib import Path

from flc_udp.cli.look.checks.verdict import Verdict, fail, ok, warn
from flc_udp.cli.text import size_text
from flc_udp.store.connections import LIBRARY_LEAST

EVENT_LOOP = "uvloop"

BUFFER, DROPS = "receive buffer", "kernel drops"
RMEM_MAX = Path("/proc/sys/net/core/rmem_max")
NET = Path("/proc/net")
DROPPED = (
    "the machine is busy, the buffer small, or there is a flood (see flc status); the node pulls "
    "what was lost, which costs time"
)

SYNC, FREE, SYSTEM = "disk sync", "free space", "file system"
SYNCS = 5
"""The median of this many syncs counts."""
WRITTEN = bytes(4_096)
SYNC_MS_MAX = 20.0
"""An idle disk whose sync takes longer is slower than a spinning one. People notice that each time
they say something."""

NETWORK = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "fuse.sshfs")
"""SQLite's WAL cannot rely on the locks and shared memory of these (sqlite.org/wal.html)."""

MEMORY = ("tmpfs", "ramfs")
MOUNTS = Path("/proc/mounts")


def read(path: Path) -> str:
    """Return the text of a file, or "" if it cannot be read, as of /proc outside Linux."""
    try:
        return path.read_text()
    except OSError:
        return ""


# --- Versions -------------------------------------------------------------------------------------


def versions() -> list[Verdict]:
    """Check the Python that runs this command, which would also run a daemon of this flc."""
    return [
        ok("python", _dotted(sys.version_info[:3])),  # An older one cannot import flc.
        at_least("sqlite", sqlite3.sqlite_version_info, LIBRARY_LEAST),
        event_loop(),
    ]


def at_least(name: str, found: tuple[int, ...], least: tuple[int, ...]) -> Verdict:
    """Judge a version by the oldest one that works."""
    if found < least:
        advice = f"run flc with a Python that has {name} {_dotted(least)} or newer"
        return fail(name, f"{_dotted(found)} is too old", advice)
    return ok(name, _dotted(found))


def event_loop() -> Verdict:
    """Try uvloop, without which a node runs on Python's own loop, and more slowly."""
    from flc_udp.daemon.loop import choose

    _, problem = choose()
    if problem:
        found = f"it cannot be used, so a node runs on Python's own loop, more slowly: {problem}"
        return warn(EVENT_LOOP, found, "reinstall flc-udp, or uvloop alone, for this machine")
    return ok(EVENT_LOOP, "it works")


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


# --- The kernel -----------------------------------------------------------------------------------


def kernel(port: int | None) -> list[Verdict]:
    """Make both checks; `port` is the UDP port of the daemon, if one runs."""
    from flc_udp.daemon.udp import RECEIVE_BUFFER_BYTES

    tables = [read(NET / "udp"), read(NET / "udp6")]
    lost = buffer_errors(read(NET / "snmp"), read(NET / "snmp6"))
    maximum = read(RMEM_MAX).strip()
    return [
        receive_buffer(RECEIVE_BUFFER_BYTES, granted(RECEIVE_BUFFER_BYTES), maximum),
        drops(port, None if port is None else drops_at(port, tables), lost),
    ]


def granted(asked_bytes: int) -> int:
    """Return the receive buffer that a UDP socket gets if it asks for `asked_bytes`."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        with suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, asked_bytes)
        found_bytes = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
    # Linux answers with twice the size, because it adds its own bookkeeping (socket(7)).
    return found_bytes // 2 if sys.platform == "linux" else found_bytes


def receive_buffer(asked_bytes: int, got_bytes: int, maximum: str) -> Verdict:
    """Judge whether bursts fit the buffer; `maximum` is net.core.rmem_max, or "" if unknown."""
    if got_bytes >= asked_bytes:
        return ok(BUFFER, f"{size_text(got_bytes)}, as asked for")
    because = f": net.core.rmem_max is {maximum}" if maximum else ""
    found = f"{size_text(got_bytes)} of the {size_text(asked_bytes)} asked for{because}"
    advice = (
        f"sysctl -w net.core.rmem_max={asked_bytes}, then restart the node; until then a burst "
        "loses more datagrams, which are pulled again"
    )
    return warn(BUFFER, found, advice)


def drops_at(port: int, tables: list[str]) -> int | None:
    """Count what sockets of that port dropped (column `drops`); None if there is no such socket."""
    found = [
        int(fields[-1])
        for table in tables
        for fields in map(str.split, table.splitlines()[1:])
        if fields and int(fields[1].rpartition(":")[2], 16) == port
    ]
    return sum(found) if found else None


def buffer_errors(snmp: str, snmp6: str) -> int:
    """Count the datagrams that found a full buffer: of all programs since boot, IPv4 and IPv6."""
    udp = [line.split() for line in snmp.splitlines() if line.startswith("Udp:")]
    counters = dict(zip(*udp, strict=True)) if udp else {}
    counters |= dict(line.split() for line in snmp6.splitlines())
    return sum(int(counters.get(name, 0)) for name in ("RcvbufErrors", "Udp6RcvbufErrors"))


def drops(port: int | None, dropped: int | None, lost: int) -> Verdict:
    """Judge what the daemon's socket dropped; `lost` counts for all programs of the machine."""
    everybody = f"{lost} by all programs since boot (RcvbufErrors)"
    if dropped:
        return warn(DROPS, f"{dropped} datagrams of the node's own port {port}", DROPPED)
    if dropped == 0:
        return ok(DROPS, f"none at the node's port {port}; {everybody}")
    where = "no node runs here" if port is None else f"no socket has port {port} here"
    return ok(DROPS, f"{where}; {everybody}")


# --- The disk -------------------------------------------------------------------------------------


def disk(directory: Path, free_bytes_min: int) -> list[Verdict]:
    """Make the three checks of an existing directory."""
    free_bytes = shutil.disk_usage(directory).free
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
    with tempfile.TemporaryFile(dir=directory, buffering=0) as file:
        times_s = timeit.repeat(
            lambda: os.fsync(file), lambda: file.write(WRITTEN), number=1, repeat=SYNCS
        )
    return [took_s * 1e3 for took_s in times_s]


def sync_time(sync_ms: float) -> Verdict:
    """Judge the time of a sync, for which every say waits."""
    if sync_ms > SYNC_MS_MAX:
        found = f"{sync_ms:.1f} ms; each say waits that long; {SYNC_MS_MAX:.0f} ms or less is usual"
        advice = "look for what else writes there (iostat -x 1), or give a faster disk with --data"
        return warn(SYNC, found, advice)
    return ok(SYNC, f"{sync_ms:.2f} ms; each say takes at least that long")
