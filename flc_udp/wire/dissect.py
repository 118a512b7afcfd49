"""A payload of exactly the packets that were typed, and where the fault is in one that came.

This is for `flc udp` alone. The decoder of the daemon says why it refuses a payload, and the daemon
drops it: to note which byte it was would take time for every good datagram. Here the same forms are
walked once more, down to the smallest part that is refused.
"""

from collections.abc import Iterator, Sequence
from io import BytesIO
from typing import Any, NamedTuple

import msgpack

from flc_udp.model.dots import NodeId
from flc_udp.model.errors import Drop, Malformed
from flc_udp.wire.codec import FORMS, fields_of, read
from flc_udp.wire.forms import Array, Form, OrNil, Struct
from flc_udp.wire.packets import TITLE_OF, Packet
from flc_udp.wire.rows import ID

Step = tuple[int, str]
"""A step from an array to one of its parts: the place of the part, and its name."""


class Fault(NamedTuple):
    """Why a payload is refused, at which byte, and the place in words."""

    reason: str
    at: int
    where: str

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}" if self.where else self.reason


def payload_of(sender: NodeId, packets: Sequence[Packet]) -> bytes:
    """Make one payload of just these packets. Nothing is spread or cut to fit a budget."""
    return bytes(msgpack.packb((sender, *map(fields_of, packets))))


def fault_of(payload: bytes) -> Fault | None:
    """Find what is wrong with a payload; None if it can be read."""
    try:
        read(payload)
    except Malformed as error:
        if error.reason is Drop.PAYLOAD_NOT_MSGPACK:
            return Fault(error.reason, *_broken_off(payload))
        steps = list(_steps(msgpack.unpackb(payload, use_list=False)))
        where = "".join(name for _, name in steps)
        return Fault(error.reason, _offset(payload, [at for at, _ in steps]), where)
    return None


def _broken_off(payload: bytes) -> tuple[int, str]:
    """Find where the last whole part of a payload ends, and which part that is."""
    at, where = 0, ""
    unpacker: Any = msgpack.Unpacker(BytesIO(payload))  # Its type does not know `tell`.
    try:
        for number in range(unpacker.read_array_header()):
            unpacker.skip()
            at, where = unpacker.tell(), f"after packet {number}" if number else "after sender"
    except (ValueError, msgpack.UnpackException):
        pass
    return at, where


def _steps(parts: object) -> Iterator[Step]:
    """Find the way to the smallest part of a payload that is refused."""
    if type(parts) is not tuple or not parts:
        return
    sender, *bodies = parts
    if _is_refused(ID, sender):
        yield 0, "sender"
        return
    for number, body in enumerate(bodies, 1):
        if type(body) is not tuple or not body:
            yield number, f"packet {number}"
            return
        kind, *fields = body
        struct = FORMS.get(kind) if type(kind) is int else None
        if struct is not None and _is_refused(struct, tuple(fields)):
            yield number, f"packet {number}, {TITLE_OF[struct.made]}"
            yield from _steps_in(struct, tuple(fields), 1)
            return


def _steps_in(form: Form, value: object, first: int = 0) -> Iterator[Step]:
    for at, (name, part, found) in enumerate(_parts(form, value), first):
        if _is_refused(part, found):
            yield at, name
            yield from _steps_in(part, found)
            return


def _parts(form: Form, value: object) -> Iterator[tuple[str, Form, Any]]:
    """List the parts of an array that is long enough: (name, form, value)."""
    if type(value) is not tuple:
        return
    match form:
        case OrNil():
            yield from _parts(form.form, value)
        case Array():
            yield from ((f"[{at}]", form.item, each) for at, each in enumerate(value))
        case Struct() if len(value) >= len(form.fields):
            named = zip(form.fields.items(), value, strict=False)
            yield from ((f".{name}", part, each) for (name, part), each in named)


def _is_refused(form: Form, value: object) -> bool:
    try:
        form.read(value)
    except Malformed:
        return True
    return False


def _offset(payload: bytes, path: Sequence[int]) -> int:
    """Find the byte at which a part of a payload begins."""
    unpacker: Any = msgpack.Unpacker(BytesIO(payload))
    for number in path:
        unpacker.read_array_header()
        for _ in range(number):
            unpacker.skip()
    return int(unpacker.tell())
