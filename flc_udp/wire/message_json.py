"""A message as the JSON object that people and scripts read, and such an object as a message.

The object that shows a message follows from the message's bytes alone, key for key, so nodes that
hold the same messages print the same lines. An object that is to be sent needs more than history
shows. `encoded_record` adds `parent` and `origin` to it, and `encoded` if the author wrote the same
fields in other bytes than this code would.
"""

import base64
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import lru_cache, partial
from typing import Any, TypeVar

from flc_udp.model.clocks import STAMP_WALL_SHIFT
from flc_udp.model.dots import Dot, NodeId, parse_dot
from flc_udp.model.errors import FlcError, Malformed
from flc_udp.model.message import NO_PARENT, Message, Origin, decode, write
from flc_udp.model.units import Millis

Record = dict[str, object]
"""A JSON object."""

T = TypeVar("T")

EPOCH = datetime.fromtimestamp(0, UTC)

DERIVED = ("log", "seq")
"""These keys repeat what `dot` says. They are printed for convenience and need not be typed."""

# --- Out ----------------------------------------------------------------------------------------


@lru_cache(maxsize=256)
def _second(wall_s: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(wall_s))


def rfc3339(wall_ms: Millis) -> str:
    """Write a moment as `2026-01-31T12:00:00.000Z`."""
    seconds, ms = divmod(wall_ms, 1_000)
    return f"{_second(seconds)}.{ms:03d}Z"


def message_record(message: Message) -> Record:
    """Give the object that shows a message, as `flc log --json` prints it."""
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
    """Give the object from which a message can be sent, or hex if the bytes are no message."""
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


# --- In -----------------------------------------------------------------------------------------


def read_encoded(typed: object) -> bytes:
    """Read a message that was typed, as an object or as hex; raises FlcError naming the key."""
    if isinstance(typed, str):
        return bytes(_read("a message", typed, bytes.fromhex, "an object, or its bytes as hex"))
    if not isinstance(typed, dict):
        raise FlcError("a message is no object", "type an object as `flc log --json` does, or hex")
    strange = [key for key in typed if key not in KEYS and key not in DERIVED]
    if strange:
        raise FlcError(f"a message has no key {strange[0]!r}", f"it has {', '.join(KEYS)}")
    found = {key: _read(key, typed[key], *KEYS[key]) for key in KEYS if key in typed}
    return found["encoded"] if "encoded" in found else _encode(typed, found)


def _encode(typed: Record, found: dict[str, Any]) -> bytes:
    """Encode what was found under the keys of an object."""
    is_first = "dot" in found and found["dot"].seq == 1
    can_lack = ("stamp", "causes", "parent" if is_first else "origin", "encoded")
    for key, (_, allowed) in KEYS.items():
        if key not in found and key not in can_lack:
            raise FlcError(f"a message has no {key!r}", f"{key} takes {allowed}")
    dot: Dot = found["dot"]
    for key, meant in (("log", dot.log.hex()), ("seq", dot.seq)):
        if typed.get(key, meant) != meant:
            raise FlcError(f"{key} is not that of the dot {dot}", f"leave {key!r} out")
    wall = found["said_at"]
    fields = {"stamp": wall << STAMP_WALL_SHIFT, "causes": (), "parent": NO_PARENT, **found}
    del fields["dot"], fields["said_at"]
    return write(log=dot.log, seq=dot.seq, wall=wall, **fields).encoded


def _read(key: str, value: object, read: Callable[[Any], Any], allowed: str) -> Any:  # noqa: ANN401  # each key has its type
    try:
        return read(value)
    except (ValueError, TypeError, LookupError, OverflowError, AttributeError, FlcError) as error:
        raise FlcError(f"{key} is {str(value)[:40]!r}", f"{key} takes {allowed}") from error


def _of(wanted: type[T], value: object) -> T:
    # `type(x) is`: JSON's true must not pass for 1.
    if type(value) is not wanted:
        raise TypeError
    return value


def _wall_ms(value: str) -> int:
    moment = datetime.fromisoformat(value)
    if moment.tzinfo is None:  # Without a zone, it says no moment.
        raise ValueError
    return (moment - EPOCH) // timedelta(milliseconds=1)


def _causes(value: object) -> tuple[Dot, ...]:
    return tuple(map(parse_dot, _of(list, value)))


def _body(value: str | dict[str, str]) -> str | bytes:
    return value if isinstance(value, str) else base64.b64decode(value["base64"], validate=True)


def _origin(value: dict[str, str] | None) -> Origin | None:
    if value is None:
        return None
    return Origin(NodeId(bytes.fromhex(value["node"])), _of(str, value["name"]))


KEYS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "dot": (parse_dot, '"<16 hex digits>:<number from 1>"'),
    "room": (partial(_of, str), "text"),
    "author": (partial(_of, str), "text"),
    "body": (_body, 'text, or {"base64":"…"} for bytes'),
    "said_at": (_wall_ms, "a time of RFC 3339, as 2026-01-31T12:00:00.000Z"),
    "stamp": (partial(_of, int), "a whole number, by default the least of `said_at`"),
    "causes": (_causes, "an array of dots, by default empty"),
    "parent": (
        bytes.fromhex,
        "16 hex digits, the hash of the log's message before it; zero for the first",
    ),
    "origin": (_origin, '{"node":"<16 hex digits>","name":text} with seq 1, else null'),
    "encoded": (bytes.fromhex, "hex of the whole message, which then goes as it is"),
}
"""The keys of a typed message: how each is read, and what is allowed there."""
