"""A payload put together exactly as told, and the place of the fault in one that does not decode.

For `flc udp` alone. The daemon's decoder says why it refuses a payload and drops it; to note which
byte it was would cost time for every datagram that is well. Here the same forms are walked once
more, down to the smallest part that is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import msgpack

from flc_udp.model.dots import NodeId
from flc_udp.model.drops import Drop
from flc_udp.model.errors import Malformed
from flc_udp.wire.codec import FORMS, fields_of, read
from flc_udp.wire.fields import ID
from flc_udp.wire.forms import Array, Form, OrNil, Struct
from flc_udp.wire.packets import Kind, Packet

PACKER = msgpack.Packer(autoreset=True)

Step = tuple[int, str]
"""One step from an array into a part of it: its place, and how people call it."""


class Fault(NamedTuple):
    """Why a payload is refused, at which byte of it, and where that is as people say it."""

    reason: str
    at: int
    where: str

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}" if self.where else self.reason


def payload_of(sender: NodeId, packets: Sequence[Packet]) -> bytes:
    """One payload with just these packets: nothing is spread, cut or left out to fit a budget."""
    return PACKER.pack((sender, *map(fields_of, packets)))


def kind_name(kind: Kind) -> str:
    """`PING_REQ` as the documents spell it: `ping-req`."""
    return kind.name.lower().replace("_", "-")


def fault_of(payload: bytes) -> Fault | None:
    """What is wrong with a payload, or None if it decodes."""
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
    """Where the last whole part of a payload ends, and which one that is."""
    at, where = 0, ""
    unpacker = _unpacker(payload)
    try:
        for number in range(unpacker.read_array_header()):
            unpacker.skip()
            at, where = unpacker.tell(), f"after packet {number}" if number else "after sender"
    except (ValueError, msgpack.UnpackException):
        pass
    return at, where


def _steps(parts: object) -> Iterator[Step]:
    """The way to the smallest part of a payload that is refused."""
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
            yield number, f"packet {number}, {kind_name(Kind(kind))}"
            yield from _steps_in(struct, tuple(fields), 1)
            return


def _steps_in(form: Form, value: object, first: int = 0) -> Iterator[Step]:
    for at, (name, part, found) in enumerate(_parts(form, value), first):
        if _is_refused(part, found):
            yield at, name
            yield from _steps_in(part, found)
            return


def _parts(form: Form, value: object) -> Iterator[tuple[str, Form, Any]]:
    """(name, form, value) of each part of an array, if it is one and long enough."""
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
    """Where in a payload a part begins."""
    unpacker = _unpacker(payload)
    for number in path:
        unpacker.read_array_header()
        for _ in range(number):
            unpacker.skip()
    at: int = unpacker.tell()
    return at


def _unpacker(data: bytes) -> Any:  # noqa: ANN401  # msgpack-types knows no `tell`
    unpacker = msgpack.Unpacker(use_list=False)
    unpacker.feed(data)
    return unpacker
