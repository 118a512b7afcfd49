"""Checks of the way to a peer: whether it answers, and whether full datagrams get there whole.

Fragmentation is forbidden. The kernel knows the MTU of a path only if routers report it (ICMP), and
firewalls often drop these reports. So the check also sends a full datagram: a ping that is filled
up with packets which mean nothing to the peer. Either the peer answers it or not.
"""

import errno
import socket
import sys
from collections.abc import Sequence
from contextlib import closing
from typing import NamedTuple

from flc_udp.cli.look.checks.node import SKEW_S
from flc_udp.cli.look.checks.verdict import Verdict, fail, ok, warn
from flc_udp.cli.wire.ping import Visitor, VisitorAnswer, Way
from flc_udp.client import Record
from flc_udp.config import SEAL_BYTES, SETTINGS
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

PACKET_BYTES_LEAST: int = SETTINGS["packet_bytes_max"].metadata["allowed"][0]

NACK_BYTES = 3
NOTHING = Nack(0)
"""This nack belongs to no ping, because no ping has nonce 0. So the peer ignores it."""


class Family(NamedTuple):
    """The socket options of one family on Linux (ip(7), ipv6(7)), and the size of its headers."""

    level: int
    mtu_discover: int
    mtu: int
    headers_bytes: int


FAMILIES = {
    socket.AF_INET: Family(socket.IPPROTO_IP, 10, 14, 20 + 8),
    socket.AF_INET6: Family(socket.IPPROTO_IPV6, 23, 24, 40 + 8),
}
DO_NOT_FRAGMENT = 2
"""Linux calls this IP_PMTUDISC_DO; it has the same value for IPv6."""


def peer(
    address: str, ring: Keyring, packet_bytes_max: int, members: Sequence[Record]
) -> list[Verdict]:
    """Check whether the peer answers; if it does, check its clock and the path."""
    try:
        probe = Visitor(address, ring)
    except FlcError as error:
        return [fail(PEER, str(error), error.hint)]
    with closing(probe):
        if sys.platform == "linux":
            for way in probe.ways:
                family = FAMILIES[way.socket.family]
                way.socket.setsockopt(family.level, family.mtu_discover, DO_NOT_FRAGMENT)
        answer, problem = reach(probe, PING_BYTES_MAX + HEAD_BYTES)
        if answer is None:
            advice = "does the node run (flc status there), and does UDP get in?"
            found = f"{address} did not answer{problem and f': {problem}'}"
            return [fail(PEER, found, f"key or cluster name? else: {advice}")]
        full, _ = reach(probe, packet_bytes_max - SEAL_BYTES)
        (way,) = probe.ways
        family = FAMILIES[way.socket.family]
        mtu_bytes = path_mtu(way, family)
    path = path_verdict(mtu_bytes, family.headers_bytes, packet_bytes_max, full is not None)
    return [answered(answer, members), clock_verdict(answer.ahead_ms, answer.took_ms), path]


def filling(payload_bytes: int) -> list[Nack]:
    """Return the packets that fill up a ping to a payload of that size, within a few bytes."""
    return [NOTHING] * max((payload_bytes - HEAD_BYTES - PING_BYTES_MAX) // NACK_BYTES, 0)


def reach(probe: Visitor, payload_bytes: int) -> tuple[VisitorAnswer | None, str]:
    """Send up to TRIES pings with a payload of that size, until one is answered.

    If none is answered, the second value says what was wrong with sending them, if that is known.
    """
    problem = ""
    for _ in range(TRIES):
        try:
            if answer := probe.ping(PATIENCE_S, filling(payload_bytes)):
                return answer, ""
        except OSError as error:
            problem = error.strerror or str(error)
            if error.errno == errno.EMSGSIZE:
                break
    return None, problem


def path_mtu(way: Way, family: Family) -> int | None:
    """Return the MTU that the kernel now knows; it tells it only to a connected socket."""
    if sys.platform != "linux":
        return None
    way.socket.connect(way.target)
    return way.socket.getsockopt(family.level, family.mtu)


def answered(answer: VisitorAnswer, members: Sequence[Record]) -> Verdict:
    """Judge whether this machine's own node agrees that the peer answers."""
    node = answer.node.hex()
    found = f"{node} at {answer.source} answers in {answer.took_ms:.2f} ms"
    known = next((member for member in members if member["id"] == node), None)
    if known is None or known["state"] == "alive":
        return ok(PEER, found)
    found += f", but this machine's node believes that it is {known['state']}"
    advice = "this check used another port: do firewalls let the node's own port through?"
    return warn(PEER, found, advice)


def clock_verdict(ahead_ms: float, took_ms: float) -> Verdict:
    """Judge whether both clocks agree, as exactly as one answer can show."""
    ahead_s, error_s = ahead_ms / 1e3, took_ms / 2e3
    way = "ahead of" if ahead_s > 0 else "behind"
    found = f"{abs(ahead_s):.3f} s {way} this machine's, give or take {error_s:.3f} s"
    if abs(ahead_s) - error_s <= SKEW_S:
        return ok(CLOCK, found)
    found += ": these clocks order history where causes do not"
    return warn(CLOCK, found, "compare `date -u` on both, and run NTP on both")


def path_verdict(
    mtu_bytes: int | None, headers_bytes: int, packet_bytes_max: int, is_answered: bool
) -> Verdict:
    """Judge whether a datagram of the largest size gets there in one piece.

    An MTU of None is unknown. `is_answered` says whether such a datagram was answered.
    """
    told = "not told" if mtu_bytes is None else f"{mtu_bytes} bytes"
    every_node = "on every node that uses this path"
    if mtu_bytes is not None and (fits_bytes := mtu_bytes - headers_bytes) < packet_bytes_max:
        found = f"{told}: a datagram of {packet_bytes_max} goes in fragments"
        advice = f"set packet_bytes_max = {fits_bytes} {every_node}"
        if fits_bytes < PACKET_BYTES_LEAST:
            advice = f"the path needs an MTU of {PACKET_BYTES_LEAST + headers_bytes}: a tunnel?"
        return warn(MTU, f"{found}, and if one of them is lost, all is lost", advice)
    if not is_answered:
        found = f"{told}, but datagrams of {packet_bytes_max} get no answer, although small ones do"
        limit = f"set packet_bytes_max = {PACKET_BYTES_LEAST} {every_node}"
        return fail(MTU, found, f"let ICMP `fragmentation needed` through, or {limit}")
    return ok(MTU, f"{told}: a datagram of {packet_bytes_max} went there whole")
