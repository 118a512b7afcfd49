"""A block as a JSON object that can be sent, and such an object as a block: for `flc udp`.

It has the keys of the object that shows its first message, with `bodies` for `body`, and more:
`parent` and `origin`, and `encoded` if the author wrote the same fields in other bytes than this
code would.
"""

import base64
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, TypeVar

from flc_udp.config import BODIES_MAX, SHARED_BYTES_MAX
from flc_udp.model.block import NO_PARENT, Origin, decode, pack_body, write
from flc_udp.model.clocks import STAMP_WALL_SHIFT
from flc_udp.model.dots import Dot, NodeId, parse_dot
from flc_udp.model.errors import FlcError, Malformed
from flc_udp.wire.message_json import Record, body_record, message_record

T = TypeVar("T")

EPOCH = datetime.fromtimestamp(0, UTC)

DERIVED = ("log", "seq")
"""These keys repeat what `dot` says. They are printed for convenience and need not be typed."""

# --- Out ----------------------------------------------------------------------------------------


def encoded_record(encoded: bytes) -> Record | str:
    """Give the object from which a block can be sent, or hex if the bytes are no block."""
    try:
        block = decode(encoded)
    except Malformed:
        return encoded.hex()
    origin = block.origin
    shown = message_record(next(block.messages()))
    del shown["body"]
    record: Record = {
        **shown,
        "bodies": list(map(body_record, block.bodies)),
        "parent": block.parent.hex(),
        "origin": origin and {"node": origin.node.hex(), "name": origin.name},
    }
    return record if read_encoded(record) == encoded else {**record, "encoded": encoded.hex()}


# --- In -----------------------------------------------------------------------------------------


def read_encoded(typed: object) -> bytes:
    """Read a block that was typed, as an object or as hex; raises FlcError naming the key."""
    if isinstance(typed, str):
        return bytes(_read("a block", typed, bytes.fromhex, "an object, or its bytes as hex"))
    if not isinstance(typed, dict):
        raise FlcError(
            "a block is no object", "type an object as `flc udp --decode` prints it, or hex"
        )
    strange = [key for key in typed if key not in KEYS and key not in DERIVED]
    if strange:
        raise FlcError(f"a block has no key {strange[0]!r}", f"it has {', '.join(KEYS)}")
    found = {key: _read(key, typed[key], *KEYS[key]) for key in KEYS if key in typed}
    return found["encoded"] if "encoded" in found else _encode(typed, found)


def _encode(typed: Record, found: dict[str, Any]) -> bytes:
    """Encode what was found under the keys of an object."""
    is_first = "dot" in found and found["dot"].seq == 1
    can_lack = ("stamp", "causes", "parent" if is_first else "origin", "encoded")
    for key, (_, allowed) in KEYS.items():
        if key not in found and key not in can_lack:
            raise FlcError(f"a block has no {key!r}", f"{key} takes {allowed}")
    dot: Dot = found.pop("dot")
    for key, meant in (("log", dot.log.hex()), ("seq", dot.seq)):
        if typed.get(key, meant) != meant:
            raise FlcError(f"{key} is not that of the dot {dot}", f"leave {key!r} out")
    wall = found.pop("said_at")
    fields = {"stamp": wall << STAMP_WALL_SHIFT, "causes": (), "parent": NO_PARENT, **found}
    block = write(log=dot.log, first=dot.seq, wall=wall, **fields)
    if len(block.bodies) < len(fields["bodies"]):
        problem = f"{len(fields['bodies'])} bodies do not fit into one block"
        raise FlcError(problem, f"{BODIES_MAX} may, in {SHARED_BYTES_MAX} bytes; one always does")
    return block.encoded


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


def _bodies(value: object) -> list[bytes]:
    return [pack_body(_body(body)) for body in _of(list, value)]


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
    "bodies": (_bodies, 'an array of text, or of {"base64":"…"} for bytes'),
    "said_at": (_wall_ms, "a time of RFC 3339, as 2026-01-31T12:00:00.000Z"),
    "stamp": (partial(_of, int), "a whole number, by default the least of `said_at`"),
    "causes": (_causes, "an array of dots, by default empty"),
    "parent": (
        bytes.fromhex,
        "16 hex digits, the hash of the log's block before it; zero for the first",
    ),
    "origin": (_origin, '{"node":"<16 hex digits>","name":text} with seq 1, else null'),
    "encoded": (bytes.fromhex, "hex of the whole block, which then goes as it is"),
}
"""The keys of a typed block: how each is read, and what is allowed there."""
