"""The kernel's filter of the UDP socket, as a program for its packet filter (socket(7), bpf(4)).

A filter sees a datagram from its UDP header on, which has 8 bytes, and can look back at the IP
header. It answers how many bytes of it are kept: 0 drops it. Any user may set one on a socket of
his own. Linux alone has it here: elsewhere all is read.
"""

import array
import errno
import socket
import struct
import sys
from collections.abc import Iterable
from ipaddress import ip_address

from flc_udp.config import WIRE_VERSION
from flc_udp.model.address import Address
from flc_udp.waist.flood import Door
from flc_udp.wire.seal import KEY_ID_AT

ATTACH, DETACH = 26, 27
"""SO_ATTACH_FILTER and SO_DETACH_FILTER, for which Python has no names."""

STEP, PROGRAM = struct.Struct("=HBBI"), struct.Struct("@HP")

LOAD_BYTE, LOAD_HALF, LOAD_WORD = 0x30, 0x28, 0x20
IF_EQUAL, IF_ANY_BIT, JUMP, AND, RETURN = 0x15, 0x45, 0x05, 0x54, 0x06
"""The steps that are used (linux/filter.h): a load from a place, a comparison, and an answer."""

UDP_HEADER_BYTES = 8
SOURCE_PORT_AT = 0
IP_AT, RANDOM_AT = 0xFFF00000, 0xFFFFF000 + 56
"""SKF_NET_OFF, where the IP header begins, and SKF_AD_OFF + SKF_AD_RANDOM, a random number."""

SOURCE_AT = {4: IP_AT + 12, 6: IP_AT + 8}
KEEP_ALL = 0xFFFFFFFF

STEPS_MAX, STEPS_BETWEEN = 4_096, 10
"""The kernel takes no longer program. Between its parts there are so many steps at most."""

Step = tuple[int, int, int, int]
"""A code, how many steps to go over if a comparison holds and if not, and a number."""


def narrow(sock: socket.socket, door: Door | None) -> bool:
    """Let the kernel drop what does not pass, or nothing any more; return whether it does so."""
    if sys.platform != "linux":
        return False
    try:
        if door is None:
            sock.setsockopt(socket.SOL_SOCKET, DETACH, 0)
            return False
        _attach(sock, program(door))
    except OSError as error:
        if error.errno == errno.ENOMEM and door is not None and door.addresses:
            # Filters are options of a socket, of which it has few kB (net.core.optmem_max).
            return narrow(sock, door._replace(addresses=door.addresses[: len(door.addresses) // 2]))
        return False  # A sandbox forbids it, or no filter was there.
    return True


def _attach(sock: socket.socket, steps: list[Step]) -> None:
    code = array.array("B", b"".join(STEP.pack(*step) for step in steps))
    place, _ = code.buffer_info()
    sock.setsockopt(socket.SOL_SOCKET, ATTACH, PROGRAM.pack(len(steps), place))


def program(door: Door) -> list[Step]:
    """The filter for this door. The first of the addresses are in it, as many as there is room."""
    sample: list[Step] = [
        (LOAD_WORD, 0, 0, RANDOM_AT),
        (IF_ANY_BIT, 0, 1, door.sample - 1),
        (RETURN, 0, 0, 0),
        (RETURN, 0, 0, KEEP_ALL),
    ]
    room = STEPS_MAX - len(sample) - len(door.key_ids) - STEPS_BETWEEN
    known = [(RETURN, 0, 0, KEEP_ALL)] if door.addresses is None else _known(door.addresses, room)
    keys: list[Step] = [(LOAD_WORD, 0, 0, UDP_HEADER_BYTES + KEY_ID_AT)]
    for left, key_id in zip(range(len(door.key_ids), 0, -1), door.key_ids, strict=True):
        keys.append((IF_EQUAL, left, 0, int.from_bytes(key_id, "big")))
    keys.append((JUMP, 0, 0, len(known)))  # To the sample.
    version: list[Step] = [
        (LOAD_BYTE, 0, 0, UDP_HEADER_BYTES),
        (IF_EQUAL, 1, 0, WIRE_VERSION),
        (JUMP, 0, 0, len(keys) + len(known)),
    ]
    return [*version, *keys, *known, *sample]


def _known(addresses: Iterable[Address], room: int) -> list[Step]:
    """Keep what is from one of these addresses, else go on."""
    ways: dict[int, list[Step]] = {4: [], 6: []}
    for address in addresses:
        host = ip_address(address.host)
        steps = _is_from(host.packed, SOURCE_AT[host.version], address.port)
        room -= len(steps)
        if room < 0:
            break
        ways[host.version] += steps
    return [
        (LOAD_BYTE, 0, 0, IP_AT),
        (AND, 0, 0, 0xF0),
        (IF_EQUAL, 1, 0, 0x40),  # The version of IP.
        (JUMP, 0, 0, len(ways[4]) + 1),
        *ways[4],
        (JUMP, 0, 0, len(ways[6])),
        *ways[6],
    ]


def _is_from(source: bytes, at: int, port: int) -> list[Step]:
    words = range(0, len(source), 4)
    steps: list[Step] = []
    for place in words:
        steps.append((LOAD_WORD, 0, 0, at + place))
        left = 2 * (len(words) - place // 4 - 1) + 3
        steps.append((IF_EQUAL, 0, left, int.from_bytes(source[place : place + 4], "big")))
    return [
        *steps,
        (LOAD_HALF, 0, 0, SOURCE_PORT_AT),
        (IF_EQUAL, 0, 1, port),
        (RETURN, 0, 0, KEEP_ALL),
    ]
