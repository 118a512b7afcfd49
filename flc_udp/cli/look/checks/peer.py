"""Checks of the way to a peer: whether it answers, and whether full datagrams get there whole.

Fragmentation is forbidden. The kernel knows the MTU of a path only if routers report it (ICMP), and
firewalls often drop these reports. So the check also sends a full datagram: a ping that is filled
up with packets which mean nothing to the peer. Either the peer answers it or not.
"""

from __future__ import annotations

import errno
import math
import socket
import sys
import time
from dataclasses import fields
from typing import NamedTuple

from flc_udp.cli.look.checks.node import SKEW_S
from flc_udp.cli.look.checks.verdict import Verdict, fail, ok, warn
from flc_udp.cli.wire.probe import Visitor, VisitorAnswer
from flc_udp.client import Record
from flc_udp.config import SEAL_BYTES, Settings
from flc_udp.model.errors import FlcError
from flc_udp.wire.packets import Nack
from flc_udp.wire.packing import HEAD_BYTES
from flc_udp.wire.seal import Keyring

PEER, CLOCK, MTU = "peer", "its clock", "path MTU"
TRIES = 3
PATIENCE_S = 1.0
"""The peer has this long to answer each ping."""

PING_BYTES_MAX = 43
"""A packed ping with the longest nonce has this size."""

PACKET_BYTES_LEAST: int = next(
    setting.metadata["within"][0]
    for setting in fields(Settings)
    if setting.name == "packet_bytes_max"
)

NACK_BYTES = 3
NOTHING = Nack(0)
"""This nack belongs to no ping, because no ping has nonce 0. So the peer ignores it."""


class Ways(NamedTuple):
    """The socket options of one family on Linux (ip(7), ipv6(7)), and the size of its headers."""

    level: int
    mtu_discover: int
    mtu: int
    headers_bytes: int


WAYS = {
    socket.AF_INET: Ways(socket.IPPROTO_IP, 10, 14, 20 + 8),
    socket.AF_INET6: Ways(socket.IPPROTO_IPV6, 23, 24, 40 + 8),
}
DO_NOT_FRAGMENT = 2
"""Linux calls this IP_PMTUDISC_DO; it has the same value for IPv6."""


class Reached(NamedTuple):
    """What came of several pings: the answer and its round trip, or None."""

    answer: VisitorAnswer | None
    took_ms: float = 0.0
    ahead_ms: float | None = None
    """Its wall clock is ahead of this one by this much, give or take half of `took_ms`. None: not
    known, because its node does not tell the time."""
    problem: str = ""


class Path(NamedTuple):
    """What is known of a path: its MTU (None: unknown), and if a full datagram was answered."""

    mtu_bytes: int | None
    is_answered: bool
    headers_bytes: int


def peer(
    address: str,
    ring: Keyring,
    packet_bytes_max: int,
    members: list[Record],
    patience_s: float = PATIENCE_S,
) -> list[Verdict]:
    """Check whether the peer answers; if it does, check its clock and the path."""
    try:
        probe = Visitor(address, ring)
    except FlcError as error:
        return [fail(PEER, str(error), error.hint)]
    with probe.socket:
        ways = WAYS[probe.socket.family]
        if sys.platform == "linux":
            probe.socket.setsockopt(ways.level, ways.mtu_discover, DO_NOT_FRAGMENT)
        reached = reach(probe, PING_BYTES_MAX + HEAD_BYTES, patience_s)
        verdict = answered(address, reached, members)
        if reached.answer is None:
            return [verdict]
        full = reach(probe, packet_bytes_max - SEAL_BYTES, patience_s)
        path = Path(path_mtu(probe, ways), full.answer is not None, ways.headers_bytes)
    return [verdict, clock_verdict(reached), path_verdict(path, packet_bytes_max)]


def filling(payload_bytes: int) -> list[Nack]:
    """Return the packets that fill up a ping to a payload of that size, within a few bytes."""
    return [NOTHING] * max((payload_bytes - HEAD_BYTES - PING_BYTES_MAX) // NACK_BYTES, 0)


def reach(probe: Visitor, payload_bytes: int, patience_s: float) -> Reached:
    """Send up to TRIES pings with a payload of that size, until one is answered."""
    problem = ""
    for _ in range(TRIES):
        began_s = time.perf_counter()
        try:
            nonce = probe.ping(filling(payload_bytes))
        except OSError as error:
            problem = error.strerror or str(error)
            if error.errno == errno.EMSGSIZE:
                break
            continue
        answer = probe.answer(nonce, patience_s)
        if answer is not None:
            took_ms = (time.perf_counter() - began_s) * 1e3
            # Both directions are assumed to take the same time (RFC 5905, section 8).
            here_ms = time.time() * 1e3 - took_ms / 2
            return Reached(answer, took_ms, answer.ack.wall - here_ms if answer.ack.wall else None)
    return Reached(None, math.inf, problem=problem)


def path_mtu(probe: Visitor, ways: Ways) -> int | None:
    """Return the MTU that the kernel now knows; it tells it only to a connected socket."""
    if sys.platform != "linux":
        return None
    with socket.socket(probe.socket.family, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(ways.level, ways.mtu_discover, DO_NOT_FRAGMENT)
        sock.connect(probe.target)
        return sock.getsockopt(ways.level, ways.mtu)


def answered(address: str, reached: Reached, members: list[Record]) -> Verdict:
    """Judge whether the peer answers, and whether this machine's own node agrees."""
    if reached.answer is None:
        why = f": {reached.problem}" if reached.problem else ""
        return fail(
            PEER,
            f"{address} did not answer{why}",
            "key or cluster name? else: does the node run (flc status there), and does UDP get in?",
        )
    node = reached.answer.node.hex()
    found = f"{node} at {reached.answer.source} answers in {reached.took_ms:.2f} ms"
    known = next((member for member in members if member["id"] == node), None)
    if known is None or known["state"] == "alive":
        return ok(PEER, found)
    return warn(
        PEER,
        f"{found}, but this machine's node believes that it is {known['state']}",
        "this check used another port: do firewalls let the node's own port through?",
    )


def clock_verdict(reached: Reached) -> Verdict:
    """Judge whether both clocks agree, as exactly as one answer can show."""
    if reached.ahead_ms is None:
        return ok(CLOCK, "not told, because that node has an older version")
    ahead_s, error_s = reached.ahead_ms / 1e3, reached.took_ms / 2e3
    way = "ahead of" if ahead_s > 0 else "behind"
    found = f"{abs(ahead_s):.3f} s {way} this machine's, give or take {error_s:.3f} s"
    if abs(ahead_s) - error_s <= SKEW_S:
        return ok(CLOCK, found)
    return warn(
        CLOCK,
        f"{found}: these clocks order history where causes do not",
        "compare `date -u` on both, and run NTP on both",
    )


def path_verdict(path: Path, packet_bytes_max: int) -> Verdict:
    """Judge whether a datagram of the largest size gets there in one piece."""
    fits_bytes = None if path.mtu_bytes is None else path.mtu_bytes - path.headers_bytes
    if fits_bytes is not None and fits_bytes < packet_bytes_max:
        return warn(
            MTU,
            f"{path.mtu_bytes} bytes: a datagram of {packet_bytes_max} goes in fragments, and if "
            "one of them is lost, all is lost",
            f"set packet_bytes_max = {fits_bytes} on every node that uses this path"
            if fits_bytes >= PACKET_BYTES_LEAST
            else f"the path needs an MTU of {PACKET_BYTES_LEAST + path.headers_bytes}: a tunnel?",
        )
    told = "not told" if path.mtu_bytes is None else f"{path.mtu_bytes} bytes"
    if not path.is_answered:
        return fail(
            MTU,
            f"{told}, but datagrams of {packet_bytes_max} get no answer, although small ones do",
            "let ICMP `fragmentation needed` through, or set packet_bytes_max = "
            f"{PACKET_BYTES_LEAST} on every node that uses this path",
        )
    return ok(MTU, f"{told}: a datagram of {packet_bytes_max} went there whole")
