"""The message: encoded once by its author, forwarded, stored and replayed as the same bytes.

A msgpack array of at least ten fields:

    log, seq, room, author, wall, lift, causes, parent, body, origin, …

`causes` is flat (log, seq, log, seq, …), sorted by dot; `parent` is the hash of the log's previous
message (eight zero bytes before the first), which makes each log a hash chain; `origin` is
[node id, node name] in the message with seq 1 and nil in all others. Unknown trailing fields are
kept, because the bytes are kept, and ignored; there is room for five, as the array's header is one
byte and the log's id follows it: a message's first bytes name it (`peek_dot`).

Rules. Acceptance is a pure function of the bytes: no setting, clock or table has a say, so all
nodes accept the same messages. Everything that enters, from the network, the disk or this node's
own author, enters through `decode`.
"""

from functools import lru_cache
from hashlib import blake2b
from typing import NamedTuple, TypeGuard

import msgpack

from flc_udp.config import (
    BODY_BYTES_MAX,
    CAUSES_MAX,
    HASH_BYTES,
    ID_BYTES,
    LABEL_BYTES_MAX,
    MESSAGE_BYTES_MAX,
    SEQ_LIMIT,
    STAMP_LIMIT,
)
from flc_udp.model.clocks import STAMP_WALL_SHIFT
from flc_udp.model.dots import Dot, LogId, NodeId
from flc_udp.model.errors import Drop, FlcError, Malformed
from flc_udp.model.units import Millis

NO_PARENT = bytes(HASH_BYTES)
"""What the first message of a log names as its parent."""

FIELDS = 10

_new = tuple.__new__
"""A named tuple's own constructor costs two to four times as much."""


class Origin(NamedTuple):
    """The node whose run a log is; carried by the log's first message."""

    node: NodeId
    name: str


class Message(NamedTuple):
    """One immutable message; a tuple because a node makes tens of thousands of them a second.

    `encoded` is what the author wrote, `hash` the 8-byte BLAKE2b of it.
    """

    log: LogId
    seq: int
    room: str
    author: str
    wall: Millis
    stamp: int
    causes: tuple[Dot, ...]
    parent: bytes
    body: str | bytes
    origin: Origin | None
    encoded: bytes
    hash: bytes

    @property
    def dot(self) -> Dot:
        """The message's name."""
        return _new(Dot, (self.log, self.seq))


def hash_of(encoded: bytes) -> bytes:
    """8-byte BLAKE2b (RFC 7693): identity of a message's bytes, link of its log's chain."""
    return blake2b(encoded, digest_size=HASH_BYTES).digest()


def history_key(message: Message) -> tuple[int, LogId, int]:
    """Where a message stands in the converged history: (stamp, log, seq)."""
    return (message.stamp, message.log, message.seq)


@lru_cache(maxsize=4096)
def label_problem(label: str) -> str | None:
    """What is wrong with a room, author or node name, or None.

    1-128 bytes of UTF-8 without U+0000-001F and U+007F-009F; no normalization, case matters.
    """
    try:
        size = len(label.encode())
    except UnicodeEncodeError:
        return "is not valid Unicode text"
    if not 1 <= size <= LABEL_BYTES_MAX:
        return f"has {size} bytes of UTF-8, allowed are 1 to {LABEL_BYTES_MAX}"
    if any(c <= "\x1f" or "\x7f" <= c <= "\x9f" for c in label):
        return "has control characters"
    return None


def is_label(value: object) -> TypeGuard[str]:
    """Whether any value at all is a name; what is too long is not even remembered."""
    return type(value) is str and len(value) <= LABEL_BYTES_MAX and label_problem(value) is None


def check_label(kind: str, label: str) -> None:
    """Raise FlcError where `label` is no room, author or node name; `kind` says which it is."""
    problem = label_problem(label)
    if problem is not None:
        raise FlcError(
            f"{kind} {label[:40]!r} {problem}",
            f"1 to {LABEL_BYTES_MAX} bytes of UTF-8 without control characters are allowed",
        )


def write(
    *,
    log: LogId,
    seq: int,
    room: str,
    author: str,
    wall: Millis,
    stamp: int,
    causes: tuple[Dot, ...],
    parent: bytes,
    body: str | bytes,
    origin: Origin | None = None,
) -> Message:
    """Encode a new message and read it back as every receiver will; raises FlcError.

    `causes` in any order. A refusal leaves no trace, so the caller's seq is not used up.
    """
    check_label("room", room)
    check_label("author", author)
    if len(causes) > CAUSES_MAX:
        raise FlcError(
            f"room {room!r} has {len(causes)} concurrent heads, allowed are {CAUSES_MAX}",
            "let the cluster settle: another node's next message in the room joins them",
        )
    flat = [part for dot in sorted(causes) for part in dot]
    lift = stamp - (wall << STAMP_WALL_SHIFT)
    try:
        encoded: bytes = msgpack.packb(
            (log, seq, room, author, wall, lift, flat, parent, body, origin)
        )
        return decode(encoded)
    except UnicodeEncodeError as error:
        raise FlcError("body is not valid Unicode text", "say it as bytes") from error
    except (Malformed, OverflowError) as error:
        hint = f"a body may have {BODY_BYTES_MAX} bytes"
        if "stamp" in str(error):
            hint = "some node's clock was set far ahead, and this room goes by it: use another room"
        raise FlcError(f"message refused: {error}", hint) from error


def decode(encoded: bytes) -> Message:  # noqa: C901  # all that is checked, on one screen
    """Read one message; raises Malformed with a fixed reason, and nothing else, for other bytes."""
    if len(encoded) > MESSAGE_BYTES_MAX:
        raise Malformed(Drop.MESSAGE_TOO_LARGE)
    try:
        fields = msgpack.unpackb(encoded, use_list=False, ext_hook=_no_extension)
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise Malformed(Drop.MESSAGE_NOT_MSGPACK) from error
    if type(fields) is not tuple or len(fields) < FIELDS:
        raise Malformed(Drop.MESSAGE_NOT_ITS_FIELDS)
    if len(fields) > FIELDS:
        fields = fields[:FIELDS]
    log, seq, room, author, wall, lift, flat, parent, body, origin = fields
    # `type(x) is int`, not isinstance: msgpack's true and false must not pass for 1 and 0.
    if type(seq) is not int or not 0 < seq < SEQ_LIMIT:
        raise Malformed(Drop.MESSAGE_SEQ_OUT_OF_RANGE)
    if type(wall) is not int or type(lift) is not int or wall < 0 or lift < 0:
        raise Malformed(Drop.MESSAGE_CLOCK_OUT_OF_RANGE)
    stamp = (wall << STAMP_WALL_SHIFT) + lift
    if stamp >= STAMP_LIMIT:
        raise Malformed(Drop.MESSAGE_STAMP_OUT_OF_RANGE)
    if type(log) is not bytes or len(log) != ID_BYTES:
        raise Malformed(Drop.MESSAGE_LOG_NOT_AN_ID)
    if not _begins_with(encoded, log):
        raise Malformed(Drop.MESSAGE_WITHOUT_DOT)
    if type(parent) is not bytes or len(parent) != HASH_BYTES:
        raise Malformed(Drop.MESSAGE_PARENT_NOT_A_HASH)
    if not is_label(room) or not is_label(author):
        raise Malformed(Drop.MESSAGE_LABEL_NOT_ALLOWED)
    _check_body(body)
    causes = () if flat == () else _read_causes(flat, log)
    is_first = seq == 1 or parent == NO_PARENT
    read_origin = _read_origin(origin, seq, parent) if is_first or origin is not None else None
    digest = blake2b(encoded, digest_size=HASH_BYTES).digest()
    return _new(
        Message,
        (log, seq, room, author, wall, stamp, causes, parent, body, read_origin, encoded, digest),
    )


def _no_extension(_code: int, _data: bytes) -> None:
    raise ValueError("extension types are not part of the format")


def _check_body(body: object) -> None:
    if type(body) is str:
        # A character is at most 4 bytes: only long texts need to be encoded to be measured.
        if len(body) * 4 > BODY_BYTES_MAX and len(body.encode()) > BODY_BYTES_MAX:
            raise Malformed(Drop.MESSAGE_BODY_TOO_LARGE)
    elif type(body) is not bytes:
        raise Malformed(Drop.MESSAGE_BODY_OF_OTHER_TYPE)
    elif len(body) > BODY_BYTES_MAX:
        raise Malformed(Drop.MESSAGE_BODY_TOO_LARGE)


def _read_causes(flat: object, log: bytes) -> tuple[Dot, ...]:
    if type(flat) is not tuple or len(flat) % 2 or len(flat) > 2 * CAUSES_MAX:
        raise Malformed(Drop.MESSAGE_CAUSES_NOT_DOTS)
    if len(flat) == 2:  # noqa: PLR2004  # one dot, as nearly all that have any
        cause_log, seq = flat
        if type(cause_log) is not bytes or len(cause_log) != ID_BYTES:
            raise Malformed(Drop.MESSAGE_CAUSES_NOT_DOTS)
        if type(seq) is not int or not 0 < seq < SEQ_LIMIT:
            raise Malformed(Drop.MESSAGE_CAUSES_NOT_DOTS)
        if cause_log == log:
            raise Malformed(Drop.MESSAGE_CAUSES_OUT_OF_ORDER)
        return (_new(Dot, flat),)
    causes = []
    previous = b""
    parts = iter(flat)
    for cause_log, seq in zip(parts, parts, strict=False):
        if type(cause_log) is not bytes or len(cause_log) != ID_BYTES:
            raise Malformed(Drop.MESSAGE_CAUSES_NOT_DOTS)
        if type(seq) is not int or not 0 < seq < SEQ_LIMIT:
            raise Malformed(Drop.MESSAGE_CAUSES_NOT_DOTS)
        if cause_log <= previous or cause_log == log:
            raise Malformed(Drop.MESSAGE_CAUSES_OUT_OF_ORDER)
        previous = cause_log
        causes.append(_new(Dot, (cause_log, seq)))
    return tuple(causes)


def _read_origin(origin: object, seq: int, parent: bytes) -> Origin | None:
    if (seq == 1) != (parent == NO_PARENT):
        raise Malformed(Drop.MESSAGE_CHAIN_WITHOUT_BEGINNING)
    if seq != 1:
        if origin is not None:
            raise Malformed(Drop.MESSAGE_ORIGIN_MISPLACED)
        return None
    if type(origin) is not tuple or len(origin) < 2:  # noqa: PLR2004  # node and name
        raise Malformed(Drop.MESSAGE_ORIGIN_NOT_A_NODE)
    node, name = origin[:2]
    if type(node) is not bytes or len(node) != ID_BYTES or not is_label(name):
        raise Malformed(Drop.MESSAGE_ORIGIN_NOT_A_NODE)
    return Origin(NodeId(node), name)


_SEQ_WIDTHS = {0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8}


def peek_dot(encoded: bytes) -> Dot | None:
    """The dot of an encoded message without decoding the rest; None where it does not begin so.

    Most copies of a message are duplicates; this tells them at a tenth of the price of `decode`.
    """
    if len(encoded) <= _SEQ_AT or encoded[1:_LOG_AT] != b"\xc4\x08":
        return None
    first = encoded[_SEQ_AT]
    if first < 0x80:  # noqa: PLR2004  # msgpack positive fixint
        return _new(Dot, (encoded[_LOG_AT:_SEQ_AT], first))
    width = _SEQ_WIDTHS.get(first)
    if width is None:
        return None
    seq = int.from_bytes(encoded[_SEQ_AT + 1 : _SEQ_AT + 1 + width], "big")
    return _new(Dot, (encoded[_LOG_AT:_SEQ_AT], seq))


def _begins_with(encoded: bytes, log: bytes) -> bool:
    """Whether `peek_dot` would find the dot that was decoded: no field of it is written longer."""
    first = encoded[_SEQ_AT]
    is_plain = first < 0x80 or first in _SEQ_WIDTHS  # noqa: PLR2004  # msgpack positive fixint
    return is_plain and encoded[1:_SEQ_AT] == b"\xc4\x08" + log


def stamp_of(encoded: bytes) -> int:
    """The stamp of an encoded message, 0 of what is none."""
    try:
        return decode(encoded).stamp
    except Malformed:
        return 0


_LOG_AT = 3
_SEQ_AT = _LOG_AT + ID_BYTES
