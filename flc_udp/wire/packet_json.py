"""Packets as JSON, for who speaks to the wire by hand: every kind, in both directions.

A packet is an object: `kind`, by the name the documents use, and its fields by theirs, all of them,
in the order `wire/packets.py` declares.

    {"kind":"ping-req","nonce":7,"node":"9f2c61d0a47be813"}

Ids, hashes and all other bytes are hex; a dot is `"9f2c61d0a47be813:17"`, an address
`"127.0.0.1:7352"`, a state `"alive"`; rows are objects. A message is the object of
`wire/message_json.py`, or hex.

Rules. The form is made of the packets' declarations: a new packet needs no line here. Reading gives
back the very packet, and refuses what the wire's own decoder would.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from types import NoneType, UnionType
from typing import Any, NamedTuple, get_args, get_origin, get_type_hints

from flc_udp.config import ID_BYTES
from flc_udp.model.address import Address, parse_numeric
from flc_udp.model.dots import VISITOR, Dot, parse_dot
from flc_udp.model.errors import FlcError
from flc_udp.model.message import is_label
from flc_udp.wire.codec import fields_of
from flc_udp.wire.dissect import (
    PACKETS,
    bounds_of,
    fault_of,
    field_at_fault,
    kind_name,
    path_text,
    payload_of,
)
from flc_udp.wire.fields import NUMBER_LIMIT
from flc_udp.wire.message_json import Record, encoded_record, read_encoded
from flc_udp.wire.packets import KIND_OF, Packet, State

MESSAGES = "messages"
"""The one field whose bytes have a form of their own."""

KINDS: dict[str, Any] = {kind_name(kind): packet for kind, packet in PACKETS.items()}


class Id(bytes):
    """Stands for the id of a log or a node among the types of fields."""

    __slots__ = ()


class Form(NamedTuple):
    """How one type is typed: in words, and the reader, which raises or returns None of others."""

    allowed: str
    read: Callable[[Any], Any]


def _exactly(kind: type) -> Callable[[Any], Any]:
    return lambda value: value if type(value) is kind else None


def _id(value: str) -> bytes | None:
    found = bytes.fromhex(value)
    # Empty where it means that there is none: which fields have that, the decoder knows.
    return found if len(found) in (0, ID_BYTES) else None


def _number(value: object) -> int | None:
    return value if type(value) is int and 0 <= value < NUMBER_LIMIT else None


FORMS: dict[Any, Form] = {
    int: Form("a whole number from 0 to 2^64-1", _number),
    bool: Form("true or false", _exactly(bool)),
    Id: Form("16 hex digits", _id),
    bytes: Form("bytes as hex", bytes.fromhex),
    str: Form(
        "1 to 128 bytes of UTF-8 without control characters",
        lambda value: value if is_label(value) else None,
    ),
    State: Form(
        f"one of {', '.join(state.name.lower() for state in State)}",
        lambda value: {state.name.lower(): state for state in State}[value],
    ),
    Address: Form('a numeric address, as "127.0.0.1:7352" or "[::1]:7352"', parse_numeric),
    Dot: Form('a dot, as "9f2c61d0a47be813:17"', parse_dot),
}

# --- Out ----------------------------------------------------------------------------------------


def packet_record(packet: Packet) -> Record:
    """A packet as an object that JSON can hold."""
    return {"kind": kind_name(KIND_OF[type(packet)]), **_fields_record(packet)}


def _fields_record(fields: Any) -> Record:  # noqa: ANN401  # any named tuple
    return {
        name: list(map(encoded_record, value)) if name == MESSAGES else _plain(value)
        for name, value in fields._asdict().items()
    }


def _plain(value: Any) -> object:  # noqa: ANN401  # any field of a packet
    match value:
        case State():
            return value.name.lower()
        case Dot() | Address():
            return str(value)
        case bytes():
            return value.hex()
        case tuple() if hasattr(value, "_fields"):
            return _fields_record(value)
        case tuple():
            return list(map(_plain, value))
        case _:
            return value


# --- In -----------------------------------------------------------------------------------------


def read_packet(record: object) -> Packet:
    """The packet that was typed; raises FlcError that names the key and what is allowed there."""
    kind = record.get("kind") if isinstance(record, dict) else None
    packet_type = KINDS.get(kind) if isinstance(kind, str) else None
    if not isinstance(record, dict) or packet_type is None:
        problem = f"kind {kind!r} is none" if kind else "a packet is an object with a kind"
        raise FlcError(problem, f"kinds are {', '.join(KINDS)}")
    fields = {key: value for key, value in record.items() if key != "kind"}
    packet: Packet = _named(packet_type, fields, str(kind))
    fault = fault_of(payload_of(VISITOR, [packet]))
    if fault is not None:
        raise _fault_error(str(kind), packet, fault.reason)
    return packet


def _fault_error(kind: str, packet: Packet, reason: str) -> FlcError:
    """What the wire's decoder refuses is every node's to refuse; it does not know our names."""
    raw = fields_of(packet)
    path = field_at_fault(raw)
    where = f"{kind}{path_text(KIND_OF[type(packet)], path)}"
    bounds = bounds_of(raw, path) if path else None
    if bounds is None:
        return FlcError(f"{where}: {reason}", f"no node accepts it; {kind} has {_described(kind)}")
    least, greatest = bounds
    return FlcError(f"{where}: {reason}", f"whole numbers from {least} to {greatest} are allowed")


def described(kind: str) -> dict[str, str]:
    """The fields of a kind, and what is allowed in each."""
    return {name: _allowed(name, hint) for name, hint in _hints(KINDS[kind]).items()}


def _described(kind: str) -> str:
    return "; ".join(f"{name}: {allowed}" for name, allowed in described(kind).items())


@cache
def _hints(kind: Any) -> dict[str, Any]:  # noqa: ANN401  # any class of named tuples
    # Ids are bytes to the type checker; here their own name tells them from other bytes.
    return get_type_hints(kind, localns={"LogId": Id, "NodeId": Id})


def _named(kind: Any, record: object, where: str) -> Any:  # noqa: ANN401  # any named tuple
    hints = _hints(kind)
    has = f"{where} has {', '.join(hints) or 'no fields'}"
    if not isinstance(record, dict):
        raise FlcError(f"{where} is {_short(record)}, which is no object", has)
    strange = [key for key in record if key not in hints]
    if strange:
        raise FlcError(f"{where} has no field {strange[0]!r}", has)
    missing = [name for name in hints if name not in record and name not in kind._field_defaults]
    if missing:
        name = missing[0]
        raise FlcError(f"{where} lacks {name!r}", f"{name} takes {_allowed(name, hints[name])}")
    return kind(
        **{
            name: _field(name, hints[name], value, f"{where}.{name}")
            for name, value in record.items()
        }
    )


def _field(name: str, hint: Any, value: object, where: str) -> Any:  # noqa: ANN401  # any of a packet's
    if get_origin(hint) is UnionType:
        (hint,) = (each for each in get_args(hint) if each is not NoneType)
        return None if value is None else _field(name, hint, value, where)
    if get_origin(hint) is tuple:
        if not isinstance(value, list):
            raise _refusal(where, value, _allowed(name, hint))
        item = get_args(hint)[0]
        read = _message if name == MESSAGES else _field
        return tuple(read(name, item, each, f"{where}[{at}]") for at, each in enumerate(value))
    if hint not in FORMS:
        return _named(hint, value, where)
    return _value(FORMS[hint], value, where)


def _message(_name: str, _hint: object, value: object, where: str) -> bytes:
    try:
        return read_encoded(value)
    except FlcError as error:
        raise FlcError(f"{where}: {error}", error.hint) from error


def _value(form: Form, value: object, where: str) -> Any:  # noqa: ANN401  # any field of a packet
    try:
        found = form.read(value)
    except (ValueError, TypeError, KeyError, AttributeError, FlcError):
        found = None
    if found is None:
        raise _refusal(where, value, form.allowed)
    return found


def _refusal(where: str, value: object, allowed: str) -> FlcError:
    return FlcError(f"{where} is {_short(value)}", f"{where.rpartition('.')[2]} takes {allowed}")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}…"  # noqa: PLR2004  # half a line


def _allowed(name: str, hint: Any) -> str:  # noqa: ANN401  # any type of a field
    if get_origin(hint) is UnionType:
        (some,) = (each for each in get_args(hint) if each is not NoneType)
        return f"{_allowed(name, some)}, or null"
    if get_origin(hint) is tuple:
        item = get_args(hint)[0]
        return (
            f"an array, each item {'a message or hex' if name == MESSAGES else _allowed('', item)}"
        )
    if hint in FORMS:
        return FORMS[hint].allowed
    return f"an object of {', '.join(_hints(hint))}"
