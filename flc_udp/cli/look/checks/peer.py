"""The way to a peer: whether it answers, and whether datagrams of full size get there whole.

Sizes are tried with fragmentation forbidden. The kernel knows a path's MTU only from routers that
tell (ICMP), and firewalls swallow that. So a datagram of full size is sent too: a ping, filled up
with words that mean nothing to anybody, has an answer or has not.
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

PING_BYTES_MAX = 43
"""A ping as it is packed, with the longest nonce."""

PACKET_BYTES_LEAST: int = next(
    setting.metadata["low"] for setting in fields(Settings) if setting.name == "packet_bytes_max"
)

NACK_BYTES = 3
NOTHING = Nack(0)
"""A relay's word about a ping that nobody sent: no ping has nonce 0."""


class Ways(NamedTuple):
    """What Linux calls things in one family (ip(7), ipv6(7)); `headers` come before the payload."""

    level: int
    mtu_discover: int
    mtu: int
    headers: int


WAYS = {
    socket.AF_INET: Ways(socket.IPPROTO_IP, 10, 14, 20 + 8),
    socket.AF_INET6: Ways(socket.IPPROTO_IPV6, 23, 24, 40 + 8),
}
DO_NOT_FRAGMENT = 2
"""IP_PMTUDISC_DO, and the same for IPv6."""


class Reached(NamedTuple):
    """What came of pings: the answer and its time, None where there was none."""

    answer: VisitorAnswer | None
    ms: float = 0.0
    ahead_ms: float | None = None
    """How far its wall clock is ahead of this one, give or take half of `ms`; None: not told."""
    problem: str = ""


class Path(NamedTuple):
    """What is known of a path: its MTU (None: not told), and if a full datagram was answered."""

    mtu: int | None
    is_answered: bool
    headers: int


def peer(
    address: str,
    ring: Keyring,
    packet_bytes_max: int,
    members: list[Record],
    patience_s: float = PATIENCE_S,
) -> list[Verdict]:
    """Whether it answers; where it does, its clock and the path."""
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
        path = Path(path_mtu(probe, ways), full.answer is not None, ways.headers)
    return [verdict, clock_verdict(reached), path_verdict(path, packet_bytes_max)]


def filling(payload_bytes: int) -> list[Nack]:
    """What goes with a ping to make a payload of that size, within a few bytes."""
    return [NOTHING] * max((payload_bytes - HEAD_BYTES - PING_BYTES_MAX) // NACK_BYTES, 0)


def reach(probe: Visitor, payload_bytes: int, patience_s: float) -> Reached:
    """Ping with a payload of that size until it is answered, a few times."""
    problem = ""
    for _ in range(TRIES):
        began = time.perf_counter()
        try:
            nonce = probe.ping(filling(payload_bytes))
        except OSError as error:
            problem = error.strerror or str(error)
            if error.errno == errno.EMSGSIZE:
                break
            continue
        answer = probe.answer(nonce, patience_s)
        if answer is not None:
            ms = (time.perf_counter() - began) * 1e3
            # Half of the way back and forth is as good a guess as any (RFC 5905, section 8).
            here = time.time() * 1e3 - ms / 2
            return Reached(answer, ms, answer.ack.wall - here if answer.ack.wall else None)
    return Reached(None, math.inf, problem=problem)


def path_mtu(probe: Visitor, ways: Ways) -> int | None:
    """What the kernel knows by now; a socket has to be connected to be told."""
    if sys.platform != "linux":
        return None
    with socket.socket(probe.socket.family, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(ways.level, ways.mtu_discover, DO_NOT_FRAGMENT)
        sock.connect(probe.target)
        return sock.getsockopt(ways.level, ways.mtu)


def answered(address: str, reached: Reached, members: list[Record]) -> Verdict:
    """Whether it is there, and whether this machine's own node thinks so too."""
    if reached.answer is None:
        why = f": {reached.problem}" if reached.problem else ""
        return fail(
            PEER,
            f"{address} did not answer{why}",
            "key or cluster name? else is the node up (flc status there), and does UDP get in?",
        )
    node = reached.answer.node.hex()
    found = f"{node} at {reached.answer.source} answers in {reached.ms:.2f} ms"
    known = next((member for member in members if member["id"] == node), None)
    if known is None or known["state"] == "alive":
        return ok(PEER, found)
    return warn(
        PEER,
        f"{found}, and this machine's node holds it for {known['state']}",
        "this probe came from another port: do firewalls let the node's own port through?",
    )


def clock_verdict(reached: Reached) -> Verdict:
    """Whether both tell the same time, as well as one answer shows."""
    if reached.ahead_ms is None:
        return ok(CLOCK, "not told: a node of an older version")
    ahead = reached.ahead_ms / 1e3
    way = "ahead of" if ahead > 0 else "behind"
    found = f"{abs(ahead):.3f} s {way} this machine's, give or take {reached.ms / 2e3:.3f} s"
    if abs(ahead) - reached.ms / 2e3 <= SKEW_S:
        return ok(CLOCK, found)
    return warn(
        CLOCK,
        f"{found}: history is ordered by causes first, but then by these clocks",
        "compare `date -u` on both, and run NTP on both",
    )


def path_verdict(path: Path, packet_bytes_max: int) -> Verdict:
    """Whether a datagram of the largest size gets there in one piece."""
    fits = None if path.mtu is None else path.mtu - path.headers
    if fits is not None and fits < packet_bytes_max:
        return warn(
            MTU,
            f"{path.mtu} bytes: a datagram of {packet_bytes_max} goes in fragments, and with one "
            "of them all is lost",
            f"set packet_bytes_max = {fits} on every node that uses this path"
            if fits >= PACKET_BYTES_LEAST
            else f"the path needs an MTU of {PACKET_BYTES_LEAST + path.headers}: a tunnel in it?",
        )
    told = "not told" if path.mtu is None else f"{path.mtu} bytes"
    if not path.is_answered:
        return fail(
            MTU,
            f"{told}, but datagrams of {packet_bytes_max} get no answer, and small ones do",
            "let ICMP `fragmentation needed` through, or set packet_bytes_max = "
            f"{PACKET_BYTES_LEAST} on every node that uses this path",
        )
    return ok(MTU, f"{told}: a datagram of {packet_bytes_max} went there whole")
