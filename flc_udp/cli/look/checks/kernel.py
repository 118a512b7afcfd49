"""Checks of what the kernel does with datagrams before the daemon sees them.

The kernel may grant a smaller receive buffer than the daemon asks for, and it drops what does not
fit. It reports neither to the daemon, but on Linux both can be read in /proc.
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
DROPPED = "the machine is busy or the buffer small; the node pulls what was lost, which costs time"


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
    return warn(
        BUFFER,
        f"{size_text(got_bytes)} of the {size_text(asked_bytes)} asked for{because}",
        f"sysctl -w net.core.rmem_max={asked_bytes}, then restart the node; until then a burst "
        "loses more datagrams, which are pulled again",
    )


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
