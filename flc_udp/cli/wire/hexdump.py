"""Finds UDP datagrams in hex: one on each line, or in packets as `tcpdump -x` or `-xx` prints them.

Pure: lines in, datagrams and errors out. A packet's datagram comes out with the row that completes
it, so a live capture is decoded as it goes. A header is believed only if all its lengths agree.
"""

import re
from collections.abc import Iterable, Iterator
from ipaddress import ip_address
from itertools import chain
from typing import NamedTuple

from flc_udp.model.address import Address, fold
from flc_udp.model.errors import FlcError

ROW = re.compile(r"\s*0x([0-9a-f]{4,}):\s+((?:[0-9a-f]{2,4} )*[0-9a-f]{2,4})(?:\s.*)?")
"""A row of tcpdump: the offset, groups of digits, and with -X the same as text."""

HEADING = re.compile(r"\bIP6?\b| > ")
"""The lines above a packet's rows, in which tcpdump describes the packet, match this."""

LINK_BYTES = (0, 14, 18, 16, 20, 4)
"""The bytes before IP: none (-x), Ethernet, Ethernet with a VLAN, the two formats of Linux's
interface `any`, and BSD's loopback."""

UDP, UDP_BYTES = 17, 8
V4_BYTES, V6_BYTES = 20, 40
FRAGMENT_BITS = 0x3FFF
"""The more-fragments flag and the offset (RFC 791 3.1)."""

OPTIONS = (0, 43, 60)
"""The IPv6 extensions that may stand before UDP and tell their own length (RFC 8200 4)."""

HINT = "type a datagram's bytes as hex, one a line, or pipe in `tcpdump -x -n udp`"
WHOLE = "capture whole packets, `tcpdump -x -s 0 udp port 7352`; fragments are not joined"


class Captured(NamedTuple):
    """A datagram, and its two ends where a header names them."""

    datagram: bytes
    source: Address | None = None
    target: Address | None = None


def captured(lines: Iterable[str]) -> Iterator[Captured | FlcError]:
    """Give each datagram as soon as a line completes it, and an error where there is none."""
    packet, began = b"", 0
    for number, line in enumerate(chain(lines, ("",)), 1):  # An empty line ends the last packet.
        row = ROW.fullmatch(line.rstrip())
        offset = int(row[1], 16) if row else 0
        if packet and not offset:
            problem = f"the packet at line {began} has no whole UDP datagram in it"
            yield FlcError(problem, WHOLE)
            packet = b""
        if row is None:
            yield from _typed(line, number)
            continue
        if not offset:
            began = number
        # Where a row is missing, nothing more is added. The error comes at the packet's end.
        if offset == len(packet):
            packet += bytes.fromhex(row[2])
            if found := datagram_in(packet):
                packet = b""  # More rows of this packet do not follow on, so they are ignored.
                yield found


def _typed(line: str, number: int) -> Iterator[Captured | FlcError]:
    digits = "".join(line.split())
    if re.fullmatch(r"([0-9a-fA-F]{2})+", digits):
        yield Captured(bytes.fromhex(digits))
    elif digits and not HEADING.search(line):
        yield FlcError(f"line {number} is not hex", HINT)


def datagram_in(frame: bytes) -> Captured | None:
    """Find the whole UDP datagram in a frame of any link; None where there is none."""
    for link in LINK_BYTES:
        if found := _in_v4(frame[link:]) or _in_v6(frame[link:]):
            return found
    return None


def _in_v4(packet: bytes) -> Captured | None:
    if len(packet) < V4_BYTES or packet[0] >> 4 != 4:  # noqa: PLR2004  # the version
        return None
    header, total = (packet[0] & 15) * 4, _number(packet, 2)
    is_fragment = _number(packet, 6) & FRAGMENT_BITS
    if packet[9] != UDP or is_fragment or not V4_BYTES <= header < total <= len(packet):
        return None
    return _in_udp(packet[header:total], packet[12:16], packet[16:20])


def _in_v6(packet: bytes) -> Captured | None:
    if len(packet) < V6_BYTES or packet[0] >> 4 != 6:  # noqa: PLR2004  # the version
        return None
    body = packet[V6_BYTES : V6_BYTES + _number(packet, 4)]
    kind = packet[6]
    while kind in OPTIONS and len(body) >= UDP_BYTES:
        kind, body = body[0], body[(body[1] + 1) * 8 :]
    return _in_udp(body, packet[8:24], packet[24:40]) if kind == UDP else None


def _in_udp(body: bytes, source: bytes, target: bytes) -> Captured | None:
    if len(body) < UDP_BYTES or _number(body, 4) != len(body):
        return None
    ends = ((source, _number(body, 0)), (target, _number(body, 2)))
    return Captured(body[UDP_BYTES:], *(fold(str(ip_address(ip)), port) for ip, port in ends))


def _number(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 2], "big")
