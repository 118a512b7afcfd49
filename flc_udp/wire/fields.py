"""Fields: the kinds of values that packets consist of, and what is allowed in each.

The class of a packet or a row names one of these kinds for each field, as in `log: IdOfLog`.
Nothing else has to be declared: the decoder, the JSON of `flc udp` and the search for a fault take
the limits from here.
"""

from __future__ import annotations

from typing import Annotated

from flc_udp.config import (
    HASH_BYTES,
    ID_BYTES,
    MESSAGE_BYTES_MAX,
    PIECE_BYTES,
    RANGE_FANOUT,
    RANGE_LEVELS,
    SEQ_LIMIT,
    STAMP_LIMIT,
)
from flc_udp.model.dots import Dot, LogId, NodeId, parse_dot
from flc_udp.model.drops import Drop
from flc_udp.model.errors import Malformed
from flc_udp.model.message import is_label
from flc_udp.wire.forms import Leaf, Reader, Struct
from flc_udp.wire.message_json import encoded_record, read_encoded

NUMBER_LIMIT = 1 << 64
"""Every number in a packet is below this."""

PIECES_MAX = -(-MESSAGE_BYTES_MAX // PIECE_BYTES)
"""The longest message has this many pieces."""

# --- How values are checked ---------------------------------------------------------------------


def number(limit: int = NUMBER_LIMIT, least: int = 0) -> Leaf:
    """A whole number from `least` on, below `limit`."""

    def read(value: object) -> int:
        # `type(x) is int`: msgpack's true must not pass for 1.
        if type(value) is not int or not least <= value < limit:
            raise Malformed(Drop.NUMBER_OUT_OF_RANGE)
        return value

    greatest = "2^64-1" if limit == NUMBER_LIMIT else limit - 1
    return Leaf(f"a whole number from {least} to {greatest}", read)


def exactly(size_bytes: int, reason: Drop) -> Leaf:
    """Bytes of one size."""

    def read(value: object) -> bytes:
        if type(value) is not bytes or len(value) != size_bytes:
            raise Malformed(reason)
        return value

    return Leaf(f"{2 * size_bytes} hex digits", read, bytes.fromhex, bytes.hex)


def label(reason: Drop) -> Leaf:
    """The name of a room, an author or a node."""

    def read(value: object) -> str:
        if not is_label(value):
            raise Malformed(reason)
        return value

    return Leaf("1 to 128 bytes of UTF-8 without control characters", read)


def any_of(wanted: type, reason: Drop) -> Reader:
    """Read any value of one type."""

    def read(value: object) -> object:
        if type(value) is not wanted:
            raise Malformed(reason)
        return value

    return read


def _read_id_or_none(value: object) -> object:
    return value if value == b"" else ID.read(value)


# --- The kinds ----------------------------------------------------------------------------------

ID = exactly(ID_BYTES, Drop.ID_NOT_8_BYTES)
HASH = exactly(HASH_BYTES, Drop.HASH_NOT_8_BYTES)
BYTES = any_of(bytes, Drop.BYTES_EXPECTED)
SEQ = number(SEQ_LIMIT, least=1)
STAMP = number(STAMP_LIMIT)

Number = Annotated[int, number()]
"""A whole number below 2^64."""

Flag = Annotated[bool, Leaf("true or false", any_of(bool, Drop.FLAG_NOT_BOOLEAN))]
"""True or false."""

Data = Annotated[bytes, Leaf("bytes as hex", BYTES, bytes.fromhex, bytes.hex)]
"""Any bytes."""

IdOfLog = Annotated[LogId, ID]
"""The id of a log, which has 8 bytes."""

IdOfNode = Annotated[NodeId, ID]
"""The id of a node, which has 8 bytes."""

IdOfLogOrNone = Annotated[
    LogId, ID._replace(allowed=f"{ID.allowed}, or none", read=_read_id_or_none)
]
"""An id, or no bytes at all."""

Hash = Annotated[bytes, HASH]
"""A hash, which has 8 bytes."""

Hashes = Annotated[bytes, exactly(RANGE_FANOUT * HASH_BYTES, Drop.RANGE_WITHOUT_64_HASHES)]
"""64 hashes one after another, which is 512 bytes."""

Seq = Annotated[int, SEQ]
"""The number of a message in its log, from 1 to 2^53-1."""

SeqOrZero = Annotated[int, number(SEQ_LIMIT)]
"""The number of a message in its log, or 0 for no message."""

Stamp = Annotated[int, STAMP]
"""A stamp, which is below 2^62."""

StampEnd = Annotated[int, number(STAMP_LIMIT + 1)]
"""A stamp, or 2^62, which is above all stamps."""

Level = Annotated[int, number(RANGE_LEVELS)]
"""How often the ids were split into 64 parts to come to a range, from 0 to 9."""

MessageBytes = Annotated[int, number(MESSAGE_BYTES_MAX + 1)]
"""The length of an encoded message, in bytes."""

PieceNumber = Annotated[int, number(PIECES_MAX)]
"""The number of a piece in its message, from 0."""

Encoded = Annotated[bytes, Leaf("a message or hex", BYTES, read_encoded, encoded_record)]
"""The bytes of one message. They are only read when the message is decided."""

NamedDot = Annotated[
    Dot,
    Leaf(
        'a dot, as "9f2c61d0a47be813:17"',
        Struct(Dot, ID, SEQ).read,
        lambda text: tuple(parse_dot(text)),
        str,
    ),
]
"""The name of a message: `[log id, seq]`."""
