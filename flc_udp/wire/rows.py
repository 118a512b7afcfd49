"""Rows: the items of the arrays in packets, with the kinds of values that only rows have."""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated, NamedTuple

from flc_udp.config import INCARNATION_LIMIT
from flc_udp.model.address import Address, parse_numeric
from flc_udp.model.dots import VISITOR, NodeId
from flc_udp.model.drops import Drop
from flc_udp.model.errors import Malformed
from flc_udp.model.history import BaseLog, BaseRoom, Head
from flc_udp.model.message import Origin
from flc_udp.model.tags import Tag, is_tag, tags_fault
from flc_udp.wire.fields import (
    HASH,
    ID,
    SEQ,
    STAMP,
    Hash,
    IdOfLog,
    IdOfNode,
    Number,
    PieceNumber,
    Seq,
    label,
    number,
)
from flc_udp.wire.forms import Array, CachedStruct, Leaf, OrNil, Struct

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

Incarnation = Annotated[int, number(INCARNATION_LIMIT)]
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

    If `pieces` is not empty, `low` and `high` are the same, and only these pieces of that message
    are wanted: `pieces` is (first, last, first, last, …), both included.
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
    """A log as the sender durably holds it: the number of its last message, and its hash."""

    log: IdOfLog
    seq: Seq
    hash: Hash
