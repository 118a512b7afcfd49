"""A payload put together exactly as told, and one that does not decode looked at a second time.

For `flc udp` alone. The daemon's decoder says why and drops; which byte it was would cost it time
on every datagram that is well. Here the same decoder is asked again and again, about ever less.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import msgpack

from flc_udp.model.dots import VISITOR, NodeId
from flc_udp.model.errors import Malformed
from flc_udp.wire import codec
from flc_udp.wire.fields import NUMBER_LIMIT, Fields
from flc_udp.wire.packets import KIND_OF, Kind, Packet

Path = tuple[int, ...]
"""Which part of an array: (3, 0) is the first part of the fourth."""

HARMLESS = (0, 1, False, b"", bytes(8), bytes(512), "a", "127.0.0.1:1", None, ())
"""Values of which at least one is right for nearly every field: where it helps, the fault was."""

TRIAL_BYTES_MAX = 4 << 20
"""Decoded to find one fault: beyond it, after some 0.5 s, only its packet is known.

A datagram of the usual size is looked at whole.
"""

DEPTH_MAX = 4
"""No packet's arrays are nested deeper."""

PACKER = msgpack.Packer(autoreset=True)

PACKETS = {kind: packet for packet, kind in KIND_OF.items()}


class _TooLongError(Exception):
    """A search is given up."""


class Fault(NamedTuple):
    """Why a payload is refused, at which byte of it, and where that is as people say it."""

    reason: str
    at: int
    where: str

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}" if self.where else self.reason


def payload_of(sender: NodeId, packets: Sequence[Packet]) -> bytes:
    """One payload with just these packets: nothing is spread, cut or left out to fit a budget."""
    return PACKER.pack((sender, *map(codec.fields_of, packets)))


def kind_name(kind: Kind) -> str:
    """`PING_REQ` as the documents spell it: `ping-req`."""
    return kind.name.lower().replace("_", "-")


def fault_of(payload: bytes) -> Fault | None:
    """What is wrong with a payload, or None where it decodes."""
    problem = _problem(payload)
    if problem is None:
        return None
    at, where = 0, ""
    for at, end, number in _parts(payload):
        part = payload[at:end]
        where = f"packet {number}" if number else "sender"
        found = _problem(b"\x92" + PACKER.pack(VISITOR) + part if number else b"\x91" + part)
        if found is not None:
            return _in_packet(part, at, found, where) if number else Fault(found, at, where)
        at, where = end, f"after {where}"  # noqa: PLW2901  # if there is no whole part any more
    return Fault(problem, at, where)


def _in_packet(part: bytes, at: int, reason: str, where: str) -> Fault:
    packet = msgpack.unpackb(part, use_list=False)
    path = field_at_fault(packet)
    kind = packet[0] if type(packet) is tuple and packet else None
    if type(kind) is int and kind in PACKETS:
        where = f"{where}, {kind_name(Kind(kind))}{path_text(Kind(kind), path)}"
    return Fault(reason, at + _offset(part, path), where)


def path_text(kind: Kind, path: Path) -> str:
    """A part of a packet by its field's name: `.rows[0][3]`."""
    if not path:
        return ""
    names = PACKETS[kind]._fields
    first, *rest = path
    name = names[first - 1] if first <= len(names) else str(first)
    return f".{name}" + "".join(f"[{number}]" for number in rest)


def field_at_fault(packet: object) -> Path:
    """The smallest part of a raw packet at fault, () where no one part alone is."""
    if type(packet) is not tuple or not packet:
        return ()
    kind, *fields = packet
    decoded = 0

    def is_accepted(changed: Fields) -> bool:
        nonlocal decoded
        if decoded > TRIAL_BYTES_MAX:
            raise _TooLongError
        raw = _packed((kind, *changed))
        decoded += len(raw)
        return _problem(raw) is None

    try:
        path = _path(tuple(fields), is_accepted, DEPTH_MAX)
    except _TooLongError:
        return ()
    return (path[0] + 1, *path[1:]) if path else ()


def bounds_of(packet: Fields, path: Path) -> tuple[int, int] | None:
    """The least and the greatest number that would be accepted there, as far as a search tells."""

    def is_accepted(number: int) -> bool:
        return _problem(_packed(_replaced(packet, path, number))) is None

    least = next(filter(is_accepted, (0, 1)), None)
    if least is None:
        return None
    high = NUMBER_LIMIT
    greatest = least
    while high - greatest > 1:
        middle = (greatest + high) // 2
        greatest, high = (middle, high) if is_accepted(middle) else (greatest, middle)
    return least, greatest


def _replaced(parts: Fields, path: Path, value: object) -> Fields:
    first, *rest = path
    inner = _replaced(parts[first], tuple(rest), value) if rest else value
    return (*parts[:first], inner, *parts[first + 1 :])


def _path(parts: Fields, is_accepted: Callable[[Fields], bool], depth: int) -> Path:
    for number, part in enumerate(parts):
        before, after = parts[:number], parts[number + 1 :]
        if type(part) is tuple and depth:

            def is_part_accepted(
                changed: Fields, before: Fields = before, after: Fields = after
            ) -> bool:
                return is_accepted((*before, changed, *after))

            deeper = _path(part, is_part_accepted, depth - 1)
            if deeper:
                return (number, *deeper)
        if any(is_accepted((*before, value, *after)) for value in HARMLESS):
            return (number,)
    return ()


def _packed(raw: Fields) -> bytes:
    """One raw packet as a payload; as none, where it is deeper than msgpack writes."""
    try:
        return PACKER.pack((VISITOR, raw))
    except ValueError:
        return b""


def _problem(payload: bytes) -> str | None:
    try:
        codec.read(payload)
    except Malformed as error:
        return error.reason
    return None


def _parts(payload: bytes) -> Iterator[tuple[int, int, int]]:
    """(begin, end, number) of the whole parts of a payload's array, as far as there are any."""
    unpacker = _unpacker(payload)
    try:
        for number in range(unpacker.read_array_header()):
            begin = unpacker.tell()
            unpacker.unpack()
            yield begin, unpacker.tell(), number
    except (ValueError, msgpack.UnpackException):
        return


def _offset(data: bytes, path: Path) -> int:
    """Where in packed `data` the part begins."""
    at = 0
    for number in path:
        unpacker = _unpacker(data[at:])
        unpacker.read_array_header()
        for _ in range(number):
            unpacker.skip()
        at += unpacker.tell()
    return at


def _unpacker(data: bytes) -> Any:  # noqa: ANN401  # msgpack-types knows no `tell`
    unpacker = msgpack.Unpacker(use_list=False)
    unpacker.feed(data)
    return unpacker
