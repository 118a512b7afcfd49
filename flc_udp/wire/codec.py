"""Packets to msgpack values and back. Every limit is checked here, once, on the way in.

`read` raises Malformed and nothing else, whatever the bytes: a sealed datagram with one bad packet
is dropped whole, since its sender holds the key and is either broken or ahead of us.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from itertools import pairwise
from typing import Any

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
)
from flc_udp.model.address import parse_numeric
from flc_udp.model.dots import Dot
from flc_udp.model.errors import Malformed
from flc_udp.model.message import is_label
from flc_udp.wire.packets import (
    KIND_OF,
    Ack,
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
    Update,
    Want,
)

NUMBER_LIMIT = 1 << 64
ADDRESS_CHARS_MAX = 64
"""More than any address has: what is longer is not even remembered."""

ROWS_CACHED = 8_192
"""Member rows as they last came: in a storm of claims most of them have been read before."""

PIECES_MAX = -(-MESSAGE_BYTES_MAX // PIECE_BYTES)

Fields = tuple[Any, ...]


# --- Fields -----------------------------------------------------------------------------------


def _number(value: object, limit: int = NUMBER_LIMIT) -> int:
    # `type(x) is int`: msgpack's true must not pass for 1.
    if type(value) is not int or not 0 <= value < limit:
        raise Malformed("number out of range")
    return value


def _flag(value: object) -> bool:
    if type(value) is not bool:
        raise Malformed("flag is not true or false")
    return value


def _id(value: object) -> bytes:
    if type(value) is not bytes or len(value) != ID_BYTES:
        raise Malformed("id is not 8 bytes")
    return value


def _hash(value: object) -> bytes:
    if type(value) is not bytes or len(value) != HASH_BYTES:
        raise Malformed("hash is not 8 bytes")
    return value


def _bytes(value: object) -> bytes:
    if type(value) is not bytes:
        raise Malformed("bytes expected")
    return value


def _array(value: object, at_least: int = 0) -> Fields:
    if type(value) is not tuple or len(value) < at_least:
        raise Malformed("array expected")
    return value


def _seq(value: object) -> int:
    seq = _number(value, SEQ_LIMIT)
    if seq == 0:
        raise Malformed("number out of range")
    return seq


# --- Rows -------------------------------------------------------------------------------------


def _member_row(value: object) -> MemberRow:
    try:
        return _checked_row(*_array(value, 7)[:7])
    except TypeError:  # A map is nothing to look up, and no field of a row.
        raise Malformed("member row has a map in it") from None


@lru_cache(maxsize=ROWS_CACHED, typed=True)
def _checked_row(
    node: object,
    incarnation: object,
    state: object,
    address: object,
    name: object,
    boot: object,
    accuser: object,
) -> MemberRow:
    """Check one claim; the same one comes from many, and is checked once."""
    if type(state) is not int or not State.ALIVE <= state <= State.LEFT:
        raise Malformed("member state unknown")
    is_short = isinstance(address, str) and len(address) <= ADDRESS_CHARS_MAX
    parsed = parse_numeric(address) if is_short else None
    if parsed is None:
        raise Malformed("member address is not numeric and canonical")
    if not isinstance(name, str) or not is_label(name):
        raise Malformed("member name not allowed")
    if _id(node) == bytes(ID_BYTES):
        raise Malformed("member id is a visitor's")
    return MemberRow(
        _id(node),
        _number(incarnation, INCARNATION_LIMIT),
        State(state),
        parsed,
        name,
        _number(boot),
        _id(accuser),
    )


def _write_row(row: MemberRow) -> Fields:
    return (row.id, row.incarnation, int(row.state), str(row.address), *row[4:])


def _want(value: object) -> Want:
    log, low, high, *pieces = _array(value, 3)
    want = Want(_id(log), _seq(low), _seq(high), tuple(_number(p, PIECES_MAX) for p in pieces))
    ascending = all(a <= b for a, b in pairwise(pieces))
    if low > high or len(pieces) % 2 or not ascending or (pieces and low != high):
        raise Malformed("want is not a span")
    return want


def _digest_row(value: object) -> DigestRow:
    log, seq, head = _array(value, 3)[:3]
    return DigestRow(_id(log), _seq(seq), _hash(head))


def _dot(value: object) -> Dot:
    log, seq = _array(value, 2)[:2]
    return Dot(_id(log), _seq(seq))


# --- Packets, in --------------------------------------------------------------------------------


def _read_ping(f: Fields) -> Ping:
    return Ping(_number(f[0]), _hash(f[1]), _hash(f[2]), _flag(f[3]), _id(f[4]), _number(f[5]))


def _read_ack(f: Fields) -> Ack:
    held = _number(f[4], SEQ_LIMIT)
    return Ack(_number(f[0]), _hash(f[1]), _hash(f[2]), _flag(f[3]), held, _number(f[5]))


def _read_ping_req(f: Fields) -> PingReq:
    return PingReq(_number(f[0]), _id(f[1]))


def _read_nack(f: Fields) -> Nack:
    return Nack(_number(f[0]))


def _read_relayed(f: Fields) -> Relayed:
    return Relayed(_number(f[0]), _id(f[1]))


def _read_join(f: Fields) -> Join:
    return Join(_member_row(f[0]))


def _read_members(f: Fields) -> Members:
    return Members(tuple(map(_member_row, _array(f[0]))))


def _read_update(f: Fields) -> Update:
    return Update(tuple(map(_member_row, _array(f[0]))))


def _read_leave(f: Fields) -> Leave:
    return Leave(_number(f[0]), _member_row(f[1]))


def _read_rumor(f: Fields) -> Rumor:
    return Rumor(_flag(f[0]), tuple(map(_bytes, _array(f[1]))))


def _read_piece(f: Fields) -> Piece:
    log, seq, digest, total, number, data = f[:6]
    total = _number(total, MESSAGE_BYTES_MAX + 1)
    number = _number(number, PIECES_MAX)
    if len(_bytes(data)) != min(PIECE_BYTES, total - number * PIECE_BYTES) or not data:
        raise Malformed("piece does not fit its message")
    return Piece(_id(log), _seq(seq), _hash(digest), total, number, data)


def _read_have(f: Fields) -> Have:
    return Have(_flag(f[0]), tuple(map(_dot, _array(f[1]))))


def _read_prune(_f: Fields) -> Prune:
    return Prune()


def _read_range(f: Fields) -> tuple[bytes, int, bytes]:
    level, hashes = _number(f[1], RANGE_LEVELS), _bytes(f[2])
    if len(hashes) != RANGE_FANOUT * HASH_BYTES:
        raise Malformed("range does not have 64 hashes")
    return _id(f[0]), level, hashes


def _read_ranges(f: Fields) -> Ranges:
    return Ranges(*_read_range(f))


def _read_member_ranges(f: Fields) -> MemberRanges:
    return MemberRanges(*_read_range(f))


def _read_member_digest(f: Fields) -> MemberDigest:
    low, high, rows = _id(f[0]), _id(f[1]), tuple(map(_member_row, _array(f[2])))
    if low > high:
        raise Malformed("digest range is empty")
    return MemberDigest(low, high, rows)


def _read_digest(f: Fields) -> Digest:
    low, high, rows = _id(f[0]), _id(f[1]), tuple(map(_digest_row, _array(f[3])))
    logs = [low, *(row.log for row in rows), high]
    if any(a > b for a, b in pairwise(logs)):
        raise Malformed("digest rows out of order")
    return Digest(low, high, _flag(f[2]), rows)


def _read_pull(f: Fields) -> Pull:
    return Pull(_number(f[0]), _number(f[1]), _flag(f[2]), tuple(map(_want, _array(f[3]))))


def _read_replay(f: Fields) -> Replay:
    return Replay(_number(f[0]), tuple(map(_bytes, _array(f[1]))))


def _read_replay_end(f: Fields) -> ReplayEnd:
    return ReplayEnd(_number(f[0]), _flag(f[1]))


def _read_receipt(f: Fields) -> Receipt:
    return Receipt(_id(f[0]), _seq(f[1]))


READERS: dict[int, tuple[int, Callable[[Fields], Packet]]] = {
    Kind.PING: (6, _read_ping),
    Kind.ACK: (6, _read_ack),
    Kind.PING_REQ: (2, _read_ping_req),
    Kind.NACK: (1, _read_nack),
    Kind.RELAYED: (2, _read_relayed),
    Kind.JOIN: (1, _read_join),
    Kind.MEMBERS: (1, _read_members),
    Kind.UPDATE: (1, _read_update),
    Kind.LEAVE: (2, _read_leave),
    Kind.RUMOR: (2, _read_rumor),
    Kind.PIECE: (6, _read_piece),
    Kind.PRUNE: (0, _read_prune),
    Kind.HAVE: (2, _read_have),
    Kind.RANGES: (3, _read_ranges),
    Kind.DIGEST: (4, _read_digest),
    Kind.PULL: (4, _read_pull),
    Kind.REPLAY: (2, _read_replay),
    Kind.REPLAY_END: (2, _read_replay_end),
    Kind.RECEIPT: (2, _read_receipt),
    Kind.MEMBER_RANGES: (3, _read_member_ranges),
    Kind.MEMBER_DIGEST: (3, _read_member_digest),
}
"""Kind → (least number of fields after the kind, reader of those fields)."""


def read(payload: bytes) -> tuple[bytes, list[Packet], int]:
    """Take an opened payload apart: (sender's node id, packets, how many kinds were unknown)."""
    try:
        parts = msgpack.unpackb(payload, use_list=False)
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise Malformed("payload is not msgpack") from error
    sender, *bodies = _array(parts, 1)
    packets = []
    unknown = 0
    for body in bodies:
        kind, *_ = _array(body, 1)
        count, reader = READERS.get(kind, (0, None)) if type(kind) is int else (0, None)
        if reader is None:
            unknown += 1
        elif len(body) <= count:
            raise Malformed("packet is too short")
        else:
            packets.append(reader(body[1:]))
    return _id(sender), packets, unknown


# --- Packets, out -------------------------------------------------------------------------------


def fields_of(packet: Packet) -> Fields:
    """`[kind, field, …]` as msgpack will write it."""
    kind = KIND_OF[type(packet)]
    match packet:
        case Join(row):
            return (kind, _write_row(row))
        case Leave(nonce, row):
            return (kind, nonce, _write_row(row))
        case Members(rows) | Update(rows):
            return (kind, tuple(map(_write_row, rows)))
        case MemberDigest(low, high, rows):
            return (kind, low, high, tuple(map(_write_row, rows)))
        case Pull(nonce, credit, graft, wants):
            return (kind, nonce, credit, graft, tuple(map(item_of, wants)))
        case _:
            return (kind, *packet)


def item_of(item: MemberRow | Want | DigestRow | Dot | bytes) -> Fields | bytes:
    """One item of a packet's tuple as msgpack will write it."""
    match item:
        case MemberRow():
            return _write_row(item)
        case Want():
            return (*item[:3], *item.pieces)
        case _:
            return item
