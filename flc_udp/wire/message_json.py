"""A message as the JSON record people and scripts read, and such a record as a message's bytes.

A message's record is a function of its bytes, key for key: converged nodes print the same. What
travels needs more than history shows: `encoded_record` adds `parent` and `origin`, and `encoded`
where the author wrote the same fields in other bytes than we would.
"""

from __future__ import annotations

import base64
import binascii
import time
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from flc_udp.model.clocks import STAMP_WALL_SHIFT
from flc_udp.model.dots import Dot, parse_dot
from flc_udp.model.errors import FlcError, Malformed
from flc_udp.model.message import NO_PARENT, Message, Origin, decode, write

Record = dict[str, object]

EPOCH = datetime.fromtimestamp(0, UTC)

KEYS = {
    "dot": '"<16 hex digits>:<number from 1>"',
    "room": "text",
    "author": "text",
    "body": 'text, or {"base64":"…"} for bytes',
    "said_at": "a time of RFC 3339, as 2026-01-31T12:00:00.000Z",
    "stamp": "a whole number, by default the least of `said_at`",
    "causes": "an array of dots, by default empty",
    "parent": "16 hex digits, the hash of the log's message before it; zero for the first",
    "origin": '{"node":"<16 hex digits>","name":text} with seq 1, else null',
    "encoded": "hex of the whole message, which then goes as it is",
}
"""What a typed message has, and what is allowed there."""

DERIVED = ("log", "seq")
"""Printed for convenience; typed, `dot` says it."""


@lru_cache(maxsize=256)
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def rfc3339(wall_ms: int) -> str:
    """`2026-01-31T12:00:00.000Z`."""
    seconds, ms = divmod(wall_ms, 1_000)
    return f"{_second(seconds)}.{ms:03d}Z"


def message_record(message: Message) -> Record:
    """A message, exactly."""
    body = message.body
    return {
        "dot": f"{message.log.hex()}:{message.seq}",
        "log": message.log.hex(),
        "seq": message.seq,
        "room": message.room,
        "author": message.author,
        "body": body if isinstance(body, str) else {"base64": base64.b64encode(body).decode()},
        "said_at": rfc3339(message.wall),
        "stamp": message.stamp,
        "causes": [str(dot) for dot in message.causes],
    }


def encoded_record(encoded: bytes) -> Record | str:
    """A message as it travels: its record where it is one, else hex."""
    try:
        message = decode(encoded)
    except Malformed:
        return encoded.hex()
    origin = message.origin
    record = {
        **message_record(message),
        "parent": message.parent.hex(),
        "origin": origin and {"node": origin.node.hex(), "name": origin.name},
    }
    return record if read_encoded(record) == encoded else {**record, "encoded": encoded.hex()}


def read_encoded(value: Any) -> bytes:  # noqa: ANN401  # whatever JSON holds
    """The bytes of a typed message, or of hex; raises FlcError naming the key."""
    if isinstance(value, str):
        return _hex("a message", value, "an object, or its bytes as hex")
    if not isinstance(value, dict):
        raise FlcError("a message is no object", "type an object as `flc log --json` does, or hex")
    strange = [key for key in value if key not in KEYS and key not in DERIVED]
    if strange:
        raise FlcError(f"a message has no key {strange[0]!r}", f"it has {', '.join(KEYS)}")
    if "encoded" in value:
        return _hex("encoded", value["encoded"], KEYS["encoded"])
    return _write(value)


def _write(record: Record) -> bytes:
    def part(key: str, read: Any) -> Any:  # noqa: ANN401  # each key has a type of its own
        if key not in record:
            raise FlcError(f"a message has no {key!r}", f"{key} takes {KEYS[key]}")
        return _read(key, record[key], KEYS[key], read)

    dot: Dot = part("dot", parse_dot)
    for key, meant in (("log", dot.log.hex()), ("seq", dot.seq)):
        if record.get(key, meant) != meant:
            raise FlcError(f"{key} is not that of the dot {dot}", f"leave {key!r} out")
    wall = part("said_at", _wall)
    is_first = dot.seq == 1
    return write(
        log=dot.log,
        seq=dot.seq,
        room=part("room", _text),
        author=part("author", _text),
        wall=wall,
        stamp=part("stamp", _number) if "stamp" in record else wall << STAMP_WALL_SHIFT,
        causes=part("causes", _causes) if "causes" in record else (),
        parent=NO_PARENT if is_first and "parent" not in record else part("parent", bytes.fromhex),
        body=part("body", _body),
        origin=part("origin", _origin) if is_first or "origin" in record else None,
    ).encoded


def _read(key: str, value: Any, allowed: str, read: Any) -> Any:  # noqa: ANN401  # as above
    try:
        return read(value)
    except (ValueError, TypeError, LookupError, OverflowError, FlcError, binascii.Error) as error:
        raise FlcError(f"{key} is {str(value)[:40]!r}", f"{key} takes {allowed}") from error


def _hex(key: str, value: object, allowed: str) -> bytes:
    encoded: bytes = _read(key, value, allowed, bytes.fromhex)
    return encoded


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _number(value: object) -> int:
    if type(value) is not int:
        raise TypeError
    return value


def _wall(value: str) -> int:
    moment = datetime.fromisoformat(value)
    if moment.tzinfo is None:  # a time of no place is a time of nowhere
        raise ValueError
    return (moment - EPOCH) // timedelta(milliseconds=1)


def _causes(value: object) -> tuple[Dot, ...]:
    if not isinstance(value, list):
        raise TypeError
    return tuple(map(parse_dot, value))


def _body(value: Any) -> str | bytes:  # noqa: ANN401  # whatever JSON holds
    return value if isinstance(value, str) else base64.b64decode(value["base64"], validate=True)


def _origin(value: Any) -> Origin | None:  # noqa: ANN401  # whatever JSON holds
    return None if value is None else Origin(bytes.fromhex(value["node"]), _text(value["name"]))
