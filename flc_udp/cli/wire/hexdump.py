"""Finds UDP datagrams in hex: one on each line, or in packets as `tcpdump -x` or `-xx` prints them.

Pure: lines in, datagrams and errors out. A packet's datagram comes out with the row that completes
it, so a live capture is decoded as it goes. A header is believed only if all its lengths agree.
"""

import re
from collections.abc import Iterator
from ipaddress import ip_address
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


class HexReader:
    """Takes line after line, and gives what each of them completes."""

    def __init__(self) -> None:
        self._packet = bytearray()
        self._line = self._began = 0

    def feed(self, line: str) -> Iterator[Captured | FlcError]:
        """Take a line; give what it completes, a datagram or an error that names a line."""
        self._line += 1
        if row := ROW.fullmatch(line.rstrip()):
            yield from self._add(int(row[1], 16), bytes.fromhex(row[2]))
            return
        yield from self.end()
        digits = "".join(line.split())
        if re.fullmatch(r"([0-9a-fA-F]{2})+", digits):
            yield Captured(bytes.fromhex(digits))
        elif digits and not HEADING.search(line):
            yield FlcError(f"line {self._line} is not hex", HINT)

    def end(self) -> Iterator[FlcError]:
        """Give an error if the packet so far has no datagram: no more of its rows come."""
        if self._packet:
            self._packet.clear()
            problem = f"the packet at line {self._began} has no whole UDP datagram in it"
            yield FlcError(problem, WHOLE)

    def _add(self, offset: int, row: bytes) -> Iterator[Captured | FlcError]:
        if offset == 0:
            yield from self.end()
            self._began = self._line
        if offset != len(self._packet):
            return  # A row is missing. The error comes at the packet's end.
        self._packet += row
        if found := datagram_in(bytes(self._packet)):
            self._packet.clear()  # More rows of this packet do not follow on, so they are ignored.
            yield found


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
