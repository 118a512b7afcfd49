"""What the kernel does with datagrams before the daemon sees them: how many wait, how many go.

It says neither to anybody: a buffer is granted smaller than it was asked for, and what does not fit
is dropped. Linux tells of both in /proc.
"""

from __future__ import annotations

import socket
import sys
from contextlib import suppress
from pathlib import Path

from flc_udp.cli.look.checks.proc import read
from flc_udp.cli.look.checks.verdict import Verdict, ok, warn
from flc_udp.cli.text import size_text

BUFFER, DROPS = "receive buffer", "kernel drops"
RMEM_MAX = Path("/proc/sys/net/core/rmem_max")
NET = Path("/proc/net")
DROPPED = (
    "a busy machine or a small receive buffer; what was lost is pulled again, which costs time"
)


def kernel(port: int | None) -> list[Verdict]:
    """Both checks, for a daemon at that UDP port, if one runs."""
    from flc_udp.daemon.udp import RECEIVE_BUFFER_BYTES

    tables = [read(NET / "udp"), read(NET / "udp6")]
    lost = buffer_errors(read(NET / "snmp"), read(NET / "snmp6"))
    maximum = read(RMEM_MAX).strip()
    return [
        receive_buffer(RECEIVE_BUFFER_BYTES, granted(RECEIVE_BUFFER_BYTES), maximum),
        drops(port, None if port is None else drops_at(port, tables), lost),
    ]


def granted(asked: int) -> int:
    """What a UDP socket gets that asks for so much."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        with suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, asked)
        found = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
    # Linux answers with the double, which is what it takes with its own bookkeeping (socket(7)).
    return found // 2 if sys.platform == "linux" else found


def receive_buffer(asked: int, got: int, maximum: str) -> Verdict:
    """Whether bursts have the room that the daemon asks for; `maximum` is net.core.rmem_max."""
    if got >= asked:
        return ok(BUFFER, f"{size_text(got)}, as asked for")
    because = f": net.core.rmem_max is {maximum}" if maximum else ""
    return warn(
        BUFFER,
        f"{size_text(got)} of the {size_text(asked)} asked for{because}",
        f"sysctl -w net.core.rmem_max={asked}, then start the node anew; until then more of a "
        "burst is lost and pulled again",
    )


def drops_at(port: int, tables: list[str]) -> int | None:
    """Datagrams dropped at sockets bound to that port (column `drops`); None if there is none."""
    found = [
        int(fields[-1])
        for table in tables
        for fields in map(str.split, table.splitlines()[1:])
        if fields and int(fields[1].rpartition(":")[2], 16) == port
    ]
    return sum(found) if found else None


def buffer_errors(snmp: str, snmp6: str) -> int:
    """Datagrams that found a full buffer, of any program since boot, over both families."""
    udp = [line.split() for line in snmp.splitlines() if line.startswith("Udp:")]
    counters = dict(zip(*udp, strict=True)) if udp else {}
    counters |= dict(line.split() for line in snmp6.splitlines())
    return sum(int(counters.get(name, 0)) for name in ("RcvbufErrors", "Udp6RcvbufErrors"))


def drops(port: int | None, dropped: int | None, lost: int) -> Verdict:
    """`dropped` of the daemon's socket; `lost` of the whole machine, which may be others' loss."""
    everybody = f"{lost} by all programs since boot (RcvbufErrors)"
    if dropped:
        return warn(DROPS, f"{dropped} datagrams of the node's own port {port}", DROPPED)
    if dropped == 0:
        return ok(DROPS, f"none at the node's port {port}; {everybody}")
    where = "no node runs here" if port is None else f"no socket has port {port} here"
    return ok(DROPS, f"{where}; {everybody}")
