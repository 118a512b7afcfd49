"""What stands in packets: fields, each of a kind that says what is allowed, and rows of fields.

The class of a packet or a row names a kind for each of its fields, as in `log: IdOfLog`. Nothing
else has to be declared: the decoder, the JSON of `flc udp` and the search for a fault take the
limits from here. A row is an item of an array in a packet.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated, NamedTuple

from flc_udp import config
from flc_udp.model.address import Address, parse_numeric
from flc_udp.model.block import Origin
from flc_udp.model.dots import VISITOR, Dot, LogId, NodeId, parse_dot
from flc_udp.model.errors import Drop, Malformed
from flc_udp.model.history import BaseLog, BaseRoom, Head
from flc_udp.model.labels import is_label
from flc_udp.model.tags import Tag, is_tag, tags_fault
from flc_udp.wire.block_json import encoded_record, read_encoded
from flc_udp.wire.forms import Array, CachedStruct, Leaf, OrNil, Reader, Struct

NUMBER_LIMIT = 1 << 64
"""Every number in a packet is below this."""

PIECES_MAX = -(-config.BLOCK_BYTES_MAX // config.PIECE_BYTES)
"""The longest block has this many pieces."""

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

ID = exactly(config.ID_BYTES, Drop.ID_NOT_8_BYTES)
HASH = exactly(config.HASH_BYTES, Drop.HASH_NOT_8_BYTES)
BYTES = any_of(bytes, Drop.BYTES_EXPECTED)
SEQ = number(config.SEQ_LIMIT, least=1)
STAMP = number(config.STAMP_LIMIT)

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

Hashes = Annotated[
    bytes, exactly(config.RANGE_FANOUT * config.HASH_BYTES, Drop.RANGE_WITHOUT_64_HASHES)
]
"""64 hashes one after another, which is 512 bytes."""

Seq = Annotated[int, SEQ]
"""The number of a message in its log, from 1 to 2^53-1."""

SeqOrZero = Annotated[int, number(config.SEQ_LIMIT)]
"""The number of a message in its log, or 0 for no message."""

Stamp = Annotated[int, STAMP]
"""A stamp, which is below 2^62."""

StampEnd = Annotated[int, number(config.STAMP_LIMIT + 1)]
"""A stamp, or 2^62, which is above all stamps."""

Level = Annotated[int, number(config.RANGE_LEVELS)]
"""How often the ids were split into 64 parts to come to a range, from 0 to 9."""

BlockBytes = Annotated[int, number(config.BLOCK_BYTES_MAX + 1)]
"""The length of an encoded block, in bytes."""

PieceNumber = Annotated[int, number(PIECES_MAX)]
"""The number of a piece in its block, from 0."""

Encoded = Annotated[bytes, Leaf("a block or hex", BYTES, read_encoded, encoded_record)]
"""The bytes of one block. They are only read when the block is decided."""

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

# --- Rows ---------------------------------------------------------------------------------------

ADDRESS_CHARS_MAX = 64
"""No address is longer. A longer text is not looked at, because looking at it remembers it."""


class State(IntEnum):
    """What is believed of a member. At one incarnation, the greater state overrides the lesser."""

    ALIVE = 0
    SUSPECT = 1
    DEAD = 2
    LEFT = 3


STATES = {state.name.lower(): int(state) for state in State}


def _read_state(value: object) -> State:
    if type(value) is not int or not State.ALIVE <= value <= State.LEFT:
        raise Malformed(Drop.MEMBER_STATE_UNKNOWN)
    return State(value)


def _read_member_id(value: object) -> object:
    if value == VISITOR:
        raise Malformed(Drop.MEMBER_ID_IS_VISITOR)
    return ID.read(value)


def _read_address(value: object) -> Address:
    is_short = type(value) is str and len(value) <= ADDRESS_CHARS_MAX
    address = parse_numeric(value) if is_short else None
    if address is None:
        raise Malformed(Drop.MEMBER_ADDRESS_NOT_CANONICAL)
    return address


def _read_tag(value: object) -> Tag:
    # Nothing may follow the two: rows are remembered as they came, with all that is in them.
    if type(value) is not tuple or len(value) != len(Tag._fields) or not is_tag(*value):
        raise Malformed(Drop.MEMBER_TAG_NOT_ALLOWED)
    return Tag(*value)


MemberState = Annotated[
    State,
    Leaf(
        f"one of {', '.join(STATES)}",
        _read_state,
        STATES.__getitem__,
        lambda state: state.name.lower(),
    ),
]
"""The number of a state."""

MemberId = Annotated[NodeId, ID._replace(read=_read_member_id)]
"""The id of a node, which is not the visitors' id."""

MemberName = Annotated[str, label(Drop.MEMBER_NAME_NOT_ALLOWED)]
"""The name of a node."""

Incarnation = Annotated[int, number(config.INCARNATION_LIMIT)]
"""A number below 2^48."""

NumericAddress = Annotated[
    Address,
    Leaf('a numeric address, as "127.0.0.1:7352" or "[::1]:7352"', _read_address, to_json=str),
]
"""The text `HOST:PORT` or `[HOST]:PORT`, numeric and in its canonical spelling."""

MemberTags = Annotated[
    tuple[Tag, ...],
    Array(
        Leaf(
            'an object as {"key":"role","value":"db"}',
            _read_tag,
            lambda tag: tuple(Tag(**tag)),
            Tag._asdict,
        ),
        tags_fault,
    ),
]
"""An array of tags, each `[key, value]`, in the order of their keys."""

BaseRow = Annotated[
    BaseLog,
    Struct(
        BaseLog,
        ID,
        Struct(Head, SEQ, HASH, STAMP),
        OrNil(Struct(Origin, ID, label(Drop.BASE_ORIGIN_NOT_A_NODE))),
        Array(Struct(BaseRoom, label(Drop.BASE_ROOM_NOT_OF_LOG), SEQ, OrNil(STAMP))),
    ),
]
"""A log as it stands at a floor."""


class MemberRow(NamedTuple):
    """A claim about one member: its state at an incarnation (SWIM 4.2).

    Only the member itself raises its incarnation, so its newest word about itself wins. `boot` is a
    random number of its present run. If the state is suspect, `accuser` is the node whose own
    probes failed; in all other rows it is eight zero bytes. `tags` are the member's tags at this
    incarnation, in the order of their keys.
    """

    id: MemberId
    incarnation: Incarnation
    state: MemberState
    address: NumericAddress
    name: MemberName
    boot: Number
    accuser: IdOfNode = VISITOR
    tags: MemberTags = ()


Row = Annotated[MemberRow, CachedStruct(MemberRow, Drop.MEMBER_ROW_HAS_MAP)]
"""A claim about one member. The same claim comes from many nodes, and is checked once."""


class Want(NamedTuple):
    """The messages `low` to `high` of a log, both included.

    If `pieces` is not empty, `low` and `high` are the same, and only these pieces of the block that
    begins there are wanted: `pieces` is (first, last, first, last, …), both included.
    """

    log: IdOfLog
    low: Seq
    high: Seq
    pieces: tuple[PieceNumber, ...] = ()

    def fault(self) -> Drop | None:
        """Say why no such span can be wanted."""
        is_span = self.low == self.high if self.pieces else self.low <= self.high
        are_pairs = len(self.pieces) % 2 == 0 and list(self.pieces) == sorted(self.pieces)
        return None if is_span and are_pairs else Drop.WANT_NOT_A_SPAN


class DigestRow(NamedTuple):
    """A log as it is durable at the sender: its last message's number, its last block's hash."""

    log: IdOfLog
    seq: Seq
    hash: Hash
