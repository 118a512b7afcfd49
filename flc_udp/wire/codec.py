"""Packets to msgpack values and back. Every limit is checked here, once, on the way in.

`read` raises Malformed and nothing else, whatever the bytes: a sealed datagram with one bad packet
is dropped whole, since its sender holds the key and is either broken or ahead of us.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from itertools import pairwise

import msgpack

from flc_udp.config import (
    HASH_BYTES,
    ID_BYTES,
    INCARNATION_LIMIT,
    MESSAGE_BYTES_MAX,
    PIECE_BYTES,
    RANGE_FANOUT,
    RANGE_LEVELS,
    SEQ_LIMIT,
    STAMP_LIMIT,
)
from flc_udp.model.address import parse_numeric
from flc_udp.model.dots import Dot
from flc_udp.model.drops import Drop
from flc_udp.model.errors import Malformed
from flc_udp.model.history import BaseLog, BaseRoom, Head
from flc_udp.model.message import Origin, is_label
from flc_udp.model.tags import Tag, check_tags
from flc_udp.wire.fields import (
    Fields,
    a_flag,
    a_hash,
    a_number,
    a_seq,
    an_array,
    an_id,
    some_bytes,
)
from flc_udp.wire.packets import (
    KIND_OF,
    Ack,
    Base,
    BaseEnd,
    BasePull,
    Digest,
    DigestRow,
    Have,
    Join,
    Kind,
    Leave,
    MemberDigest,
    MemberRanges,
    MemberRow,
    Members,
    Nack,
    Packet,
    Piece,
    Ping,
    PingReq,
    Prune,
    Pull,
    Ranges,
    Receipt,
    Relayed,
    Replay,
    ReplayEnd,
    Rumor,
    State,
    Taken,
    Update,
    Want,
)

ADDRESS_CHARS_MAX = 64
"""More than any address has: what is longer is not even remembered."""

ROWS_CACHED = 8_192
"""Member rows as they last came: in a storm of claims most of them have been read before."""

PIECES_MAX = -(-MESSAGE_BYTES_MAX // PIECE_BYTES)

# --- Rows -------------------------------------------------------------------------------------


def _member_row(value: object) -> MemberRow:
    try:
        return _checked_row(*an_array(value, 8)[:8])
    except TypeError:  # A map is nothing to look up, and no field of a row.
        raise Malformed(Drop.MEMBER_ROW_HAS_MAP) from None


def _base_log(value: object) -> BaseLog:
    log, head, origin, rooms = an_array(value, 4)[:4]
    seq, digest, stamp = an_array(head, 3)[:3]
    head = Head(a_seq(seq), a_hash(digest), a_number(stamp, STAMP_LIMIT))
    found = None
    if origin is not None:
        node, name = an_array(origin, 2)[:2]
        if not is_label(name):
            raise Malformed(Drop.BASE_ORIGIN_NOT_A_NODE)
        found = Origin(an_id(node), name)
    return BaseLog(
        an_id(log), head, found, tuple(_base_room(room, head) for room in an_array(rooms))
    )


def _base_room(value: object, head: Head) -> BaseRoom:
    room, seq, edge = an_array(value, 3)[:3]
    if not is_label(room) or a_seq(seq) > head.seq:
        raise Malformed(Drop.BASE_ROOM_NOT_OF_LOG)
    return BaseRoom(room, seq, None if edge is None else a_number(edge, STAMP_LIMIT))


@lru_cache(maxsize=ROWS_CACHED, typed=True)
def _checked_row(
    node: object,
    incarnation: object,
    state: object,
    address: object,
    name: object,
    boot: object,
    accuser: object,
    tags: object,
) -> MemberRow:
    """Check one claim; the same one comes from many, and is checked once."""
    if type(state) is not int or not State.ALIVE <= state <= State.LEFT:
        raise Malformed(Drop.MEMBER_STATE_UNKNOWN)
    is_short = isinstance(address, str) and len(address) <= ADDRESS_CHARS_MAX
    parsed = parse_numeric(address) if is_short else None
    if parsed is None:
        raise Malformed(Drop.MEMBER_ADDRESS_NOT_CANONICAL)
    if not isinstance(name, str) or not is_label(name):
        raise Malformed(Drop.MEMBER_NAME_NOT_ALLOWED)
    if an_id(node) == bytes(ID_BYTES):
        raise Malformed(Drop.MEMBER_ID_IS_VISITOR)
    return MemberRow(
        an_id(node),
        a_number(incarnation, INCARNATION_LIMIT),
        State(state),
        parsed,
        name,
        a_number(boot),
        an_id(accuser),
        check_tags(tuple(map(_tag, an_array(tags)))),
    )


def _tag(value: object) -> Tag:
    # Just two: rows are remembered as they came, with all that is in them.
    if type(value) is not tuple or len(value) != len(Tag._fields):
        raise Malformed(Drop.MEMBER_TAG_NOT_ALLOWED)
    return Tag(*value)


def _write_row(row: MemberRow) -> Fields:
    return (row.id, row.incarnation, int(row.state), str(row.address), *row[4:])


def _want(value: object) -> Want:
    log, low, high, pieces = an_array(value, 4)[:4]
    numbers = tuple(a_number(piece, PIECES_MAX) for piece in an_array(pieces))
    want = Want(an_id(log), a_seq(low), a_seq(high), numbers)
    ascending = all(a <= b for a, b in pairwise(pieces))
    if low > high or len(pieces) % 2 or not ascending or (pieces and low != high):
        raise Malformed(Drop.WANT_NOT_A_SPAN)
    return want


def _digest_row(value: object) -> DigestRow:
    log, seq, head = an_array(value, 3)[:3]
    return DigestRow(an_id(log), a_seq(seq), a_hash(head))


def _dot(value: object) -> Dot:
    log, seq = an_array(value, 2)[:2]
    return Dot(an_id(log), a_seq(seq))


# --- Packets, in --------------------------------------------------------------------------------


def _read_ping(f: Fields) -> Ping:
    roots, flag = (a_hash(f[1]), a_hash(f[2])), a_flag(f[3])
    return Ping(a_number(f[0]), *roots, flag, an_id(f[4]), a_number(f[5]))


def _read_ack(f: Fields) -> Ack:
    roots, flag, held = (a_hash(f[1]), a_hash(f[2])), a_flag(f[3]), a_number(f[4], SEQ_LIMIT)
    return Ack(a_number(f[0]), *roots, flag, held, a_number(f[5]), a_number(f[6]))


def _read_ping_req(f: Fields) -> PingReq:
    return PingReq(a_number(f[0]), an_id(f[1]))


def _read_nack(f: Fields) -> Nack:
    return Nack(a_number(f[0]))


def _read_relayed(f: Fields) -> Relayed:
    return Relayed(a_number(f[0]), an_id(f[1]))


def _read_join(f: Fields) -> Join:
    return Join(_member_row(f[0]))


def _read_members(f: Fields) -> Members:
    return Members(tuple(map(_member_row, an_array(f[0]))))


def _read_update(f: Fields) -> Update:
    return Update(tuple(map(_member_row, an_array(f[0]))))


def _read_leave(f: Fields) -> Leave:
    return Leave(a_number(f[0]), _member_row(f[1]))


def _read_rumor(f: Fields) -> Rumor:
    return Rumor(a_flag(f[0]), a_number(f[1]), tuple(map(some_bytes, an_array(f[2]))))


def _read_taken(f: Fields) -> Taken:
    return Taken(a_number(f[0]))


def _read_piece(f: Fields) -> Piece:
    log, seq, digest, total, number, data = f[:6]
    total = a_number(total, MESSAGE_BYTES_MAX + 1)
    number = a_number(number, PIECES_MAX)
    if len(some_bytes(data)) != min(PIECE_BYTES, total - number * PIECE_BYTES) or not data:
        raise Malformed(Drop.PIECE_DOES_NOT_FIT)
    return Piece(an_id(log), a_seq(seq), a_hash(digest), total, number, data)


def _read_have(f: Fields) -> Have:
    return Have(a_flag(f[0]), tuple(map(_dot, an_array(f[1]))))


def _read_prune(_f: Fields) -> Prune:
    return Prune()


def _read_range(f: Fields) -> tuple[bytes, int, bytes]:
    level, hashes = a_number(f[1], RANGE_LEVELS), some_bytes(f[2])
    if len(hashes) != RANGE_FANOUT * HASH_BYTES:
        raise Malformed(Drop.RANGE_WITHOUT_64_HASHES)
    return an_id(f[0]), level, hashes


def _read_ranges(f: Fields) -> Ranges:
    return Ranges(*_read_range(f))


def _read_member_ranges(f: Fields) -> MemberRanges:
    return MemberRanges(*_read_range(f))


def _read_member_digest(f: Fields) -> MemberDigest:
    low, high, rows = an_id(f[0]), an_id(f[1]), tuple(map(_member_row, an_array(f[2])))
    if low > high:
        raise Malformed(Drop.DIGEST_RANGE_EMPTY)
    return MemberDigest(low, high, rows)


def _read_digest(f: Fields) -> Digest:
    low, high, rows = an_id(f[0]), an_id(f[1]), tuple(map(_digest_row, an_array(f[3])))
    logs = [low, *(row.log for row in rows), high]
    if any(a > b for a, b in pairwise(logs)):
        raise Malformed(Drop.DIGEST_ROWS_OUT_OF_ORDER)
    return Digest(low, high, a_flag(f[2]), rows)


def _read_pull(f: Fields) -> Pull:
    after, below = a_number(f[3], STAMP_LIMIT + 1), a_number(f[4], STAMP_LIMIT + 1)
    wants = tuple(map(_want, an_array(f[5])))
    return Pull(a_number(f[0]), a_number(f[1]), a_flag(f[2]), after, below, wants)


def _read_replay(f: Fields) -> Replay:
    return Replay(a_number(f[0]), tuple(map(some_bytes, an_array(f[1]))))


def _read_replay_end(f: Fields) -> ReplayEnd:
    next_, floor = a_number(f[2], STAMP_LIMIT + 1), a_number(f[3], STAMP_LIMIT)
    return ReplayEnd(
        a_number(f[0]),
        a_number(f[1]),
        next_,
        floor,
        tuple(map(an_id, an_array(f[4]))),
    )


def _read_base_pull(f: Fields) -> BasePull:
    return BasePull(a_number(f[0]), b"" if f[1] == b"" else an_id(f[1]))


def _read_base(f: Fields) -> Base:
    return Base(a_number(f[0]), tuple(map(_base_log, an_array(f[1]))))


def _read_base_end(f: Fields) -> BaseEnd:
    floor, version, rows = a_number(f[1], STAMP_LIMIT), a_number(f[2]), a_number(f[3])
    return BaseEnd(a_number(f[0]), floor, version, rows, b"" if f[4] == b"" else an_id(f[4]))


def _read_receipt(f: Fields) -> Receipt:
    return Receipt(an_id(f[0]), a_seq(f[1]))


READERS: dict[int, tuple[int, Callable[[Fields], Packet]]] = {
    Kind.PING: (6, _read_ping),
    Kind.ACK: (7, _read_ack),
    Kind.PING_REQ: (2, _read_ping_req),
    Kind.NACK: (1, _read_nack),
    Kind.RELAYED: (2, _read_relayed),
    Kind.JOIN: (1, _read_join),
    Kind.MEMBERS: (1, _read_members),
    Kind.UPDATE: (1, _read_update),
    Kind.LEAVE: (2, _read_leave),
    Kind.RUMOR: (3, _read_rumor),
    Kind.PIECE: (6, _read_piece),
    Kind.PRUNE: (0, _read_prune),
    Kind.HAVE: (2, _read_have),
    Kind.RANGES: (3, _read_ranges),
    Kind.DIGEST: (4, _read_digest),
    Kind.PULL: (6, _read_pull),
    Kind.REPLAY: (2, _read_replay),
    Kind.REPLAY_END: (5, _read_replay_end),
    Kind.RECEIPT: (2, _read_receipt),
    Kind.TAKEN: (1, _read_taken),
    Kind.BASE_PULL: (2, _read_base_pull),
    Kind.BASE: (2, _read_base),
    Kind.BASE_END: (5, _read_base_end),
    Kind.MEMBER_RANGES: (3, _read_member_ranges),
    Kind.MEMBER_DIGEST: (3, _read_member_digest),
}
"""Kind → (least number of fields after the kind, reader of those fields)."""


def read(payload: bytes) -> tuple[bytes, list[Packet], int]:
    """Take an opened payload apart: (sender's node id, packets, how many kinds were unknown)."""
    try:
        parts = msgpack.unpackb(payload, use_list=False)
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise Malformed(Drop.PAYLOAD_NOT_MSGPACK) from error
    sender, *bodies = an_array(parts, 1)
    packets = []
    unknown = 0
    for body in bodies:
        kind, *_ = an_array(body, 1)
        count, reader = READERS.get(kind, (0, None)) if type(kind) is int else (0, None)
        if reader is None:
            unknown += 1
        elif len(body) <= count:
            raise Malformed(Drop.PACKET_TOO_SHORT)
        else:
            packets.append(reader(body[1:]))
    return an_id(sender), packets, unknown


# --- Packets, out -------------------------------------------------------------------------------


def fields_of(packet: Packet) -> Fields:
    """`[kind, field, …]` as msgpack will write it."""
    kind = KIND_OF[type(packet)]
    match packet:
        case Join() | Leave():
            return (kind, *packet[:-1], _write_row(packet.row))
        case Members() | Update() | MemberDigest():
            return (kind, *packet[:-1], tuple(map(item_of, packet[-1])))
        case _:
            return (kind, *packet)


def item_of(item: MemberRow | Want | DigestRow | BaseLog | Dot | bytes) -> Fields | bytes:
    """One item of a packet's tuple as msgpack will write it."""
    match item:
        case MemberRow():
            return _write_row(item)
        case _:
            return item
