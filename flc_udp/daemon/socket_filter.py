"""The kernel's filter of the UDP socket, as a program for its packet filter (socket(7), bpf(4)).

A filter sees a datagram from its UDP header on, which has 8 bytes, and can look back at the IP
header. It answers how many bytes of it are kept: 0 drops it. Any user may set one on a socket of
his own. Linux alone has it here: elsewhere all is read.
"""

import array
import socket
import struct
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
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

STEPS_MAX = 4_096
"""The kernel takes no longer program."""

BRANCH_MAX = 250
"""A comparison goes over at most 255 steps."""

Step = tuple[int, int, int, int]
"""A code, how many steps to go over if a comparison holds and if not, and a number."""


def narrow(sock: socket.socket, door: Door | None) -> bool:
    """Let the kernel drop what does not pass, or nothing any more; return whether it does so."""
    if sys.platform != "linux":
        return False
    if door is None:
        with suppress(OSError):  # No filter was there.
            sock.setsockopt(socket.SOL_SOCKET, DETACH, 0)
        return False
    ways = [_framed(door, [(RETURN, 0, 0, KEEP_ALL)])]
    if door.addresses is not None:
        ways = [_by_ports(door, door.addresses), by_hosts(door, door.addresses), *ways]
    for steps in ways:
        # Filters are options of a socket, of which it has few kB (net.core.optmem_max). Nobody who
        # is known is kept out: where there is no room for all, less is compared.
        if len(steps) <= STEPS_MAX:
            with suppress(OSError):  # There is no room, or a sandbox forbids it.
                attach(sock, steps)
                return True
    return False


def attach(sock: socket.socket, steps: list[Step]) -> None:
    """Set a filter; raises OSError."""
    code = array.array("B", b"".join(STEP.pack(*step) for step in steps))
    place, _ = code.buffer_info()
    sock.setsockopt(socket.SOL_SOCKET, ATTACH, PROGRAM.pack(len(steps), place))


def _framed(door: Door, known: list[Step]) -> list[Step]:
    """A filter that looks whether the sender is `known` if version and key are right."""
    sample: list[Step] = [
        (LOAD_WORD, 0, 0, RANDOM_AT),
        (IF_ANY_BIT, 0, 1, door.sample - 1),
        (RETURN, 0, 0, 0),
        (RETURN, 0, 0, KEEP_ALL),
    ]
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


def _by_ports(door: Door, addresses: Iterable[Address]) -> list[Step]:
    """By the whole address: five steps for each of IPv4, and eleven for each of IPv6."""
    ways: dict[int, list[Step]] = {4: [], 6: []}
    for address in addresses:
        host = ip_address(address.host)
        ways[host.version] += _is_from(host.packed, SOURCE_AT[host.version], address.port)
    return _framed(door, _of_either(ways[4], ways[6]))


def by_hosts(door: Door, addresses: Iterable[Address]) -> list[Step]:
    """By the last four bytes of the host alone, which is a step for each."""
    hosts: dict[int, dict[int, None]] = {4: {}, 6: {}}
    for address in addresses:
        host = ip_address(address.host)
        hosts[host.version][int.from_bytes(host.packed[-4:], "big")] = None
    last_v6 = SOURCE_AT[6] + 12
    return _framed(
        door, _of_either(_is_one_of(SOURCE_AT[4], hosts[4]), _is_one_of(last_v6, hosts[6]))
    )


def _of_either(v4: list[Step], v6: list[Step]) -> list[Step]:
    """Keep what these steps keep of either version of IP, else go on."""
    return [
        (LOAD_BYTE, 0, 0, IP_AT),
        (AND, 0, 0, 0xF0),
        (IF_EQUAL, 1, 0, 0x40),
        (JUMP, 0, 0, len(v4) + 1),
        *v4,
        (JUMP, 0, 0, len(v6)),
        *v6,
    ]


def _parts(words: list[int]) -> Iterator[list[int]]:
    for at in range(0, len(words), BRANCH_MAX):
        yield words[at : at + BRANCH_MAX]


def _is_one_of(at: int, words: Iterable[int]) -> list[Step]:
    steps: list[Step] = [(LOAD_WORD, 0, 0, at)]
    for part in _parts(list(words)):
        steps += [(IF_EQUAL, len(part) - n, 0, word) for n, word in enumerate(part)]
        steps += [(JUMP, 0, 0, 1), (RETURN, 0, 0, KEEP_ALL)]
    return steps


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
