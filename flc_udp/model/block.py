"""The block: messages of one room and one author, encoded once, and the same bytes ever after.

A block holds messages that its author's node took in one turn: one message, or neighbours of the
same room and author. It is the unit that is hashed, decided, sent, stored and deleted, so all its
messages have one hash, one stamp and one list of causes. It is a msgpack array of at least ten
fields:

    log, seq, room, author, wall, lift, causes, parent, bodies, origin, …

`seq` is the number of the first message, and the other messages have the next numbers. `wall` is in
ms since 1970, and the stamp of the block is `(wall << 16) + lift`. `causes` is flat (log, seq, log,
seq, …), sorted by dot. It names what the first message comes after, and each other message comes
after the one before it. `parent` is the hash of the log's previous block (eight zero bytes before
the first), which makes each log a hash chain.

`bodies` is an array with a text or bytes for each message. It has 1 to 1,024 of them, and more than
one only if the whole block has at most 1,100 bytes. `origin` is [node id, node name] in the block
with seq 1 and nil in all others. Unknown trailing fields are kept, because the bytes are kept, and
ignored; there is room for five, as the array's header is one byte. The log's id and `seq` follow
it, so a block's first bytes name its first message (`peek_dot`).

Rules. Acceptance is a pure function of the bytes: no setting, clock or table has a say, so all
nodes accept the same blocks. Everything that enters, from the network, the disk or this node's own
author, enters through `decode`.
"""

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import NamedTuple

import msgpack

from flc_udp import config
from flc_udp.model.clocks import STAMP_WALL_SHIFT
from flc_udp.model.dots import Dot, LogId, NodeId
from flc_udp.model.errors import Drop, FlcError, Malformed
from flc_udp.model.labels import check_label, is_label
from flc_udp.model.message import Message
from flc_udp.model.units import Millis

NO_PARENT = bytes(config.HASH_BYTES)
"""What the first block of a log names as its parent."""

FIELDS = 10

ARRAY_HEAD = bytes((0x90 | FIELDS,))
"""How msgpack begins an array of that many fields."""

ARRAY_HEAD_LAST = 0x9F
"""The greatest first byte of an array whose header has one byte."""

FIXARRAY_MAX = 15
"""The header of an array of more items has 3 bytes, else 1."""

_new = tuple.__new__
"""A named tuple's own constructor costs two to four times as much."""

_packer = msgpack.Packer(autoreset=True)
_pack = _packer.pack


class Origin(NamedTuple):
    """The node whose run a log is; carried by the log's first block."""

    node: NodeId
    name: str


class Block(NamedTuple):
    """One immutable block; a tuple because a node makes thousands of them a second.

    Its messages have the numbers `first` to `last`, both included. `encoded` is what the author
    wrote, `hash` the 8-byte BLAKE2b of it.
    """

    log: LogId
    first: int
    last: int
    room: str
    author: str
    wall: Millis
    stamp: int
    causes: tuple[Dot, ...]
    parent: bytes
    bodies: tuple[str | bytes, ...]
    origin: Origin | None
    encoded: bytes
    hash: bytes

    @property
    def dot(self) -> Dot:
        """The name of its first message, which names the block, too."""
        return _new(Dot, (self.log, self.first))

    def messages(self) -> Iterator[Message]:
        """Its messages, in their order."""
        causes = self.causes
        for seq, body in enumerate(self.bodies, self.first):
            fields = (self.log, seq, self.room, self.author, body, self.wall, self.stamp, causes)
            yield _new(Message, fields)
            causes = ()


def hash_of(encoded: bytes) -> bytes:
    """8-byte BLAKE2b (RFC 7693): identity of a block's bytes, link of its log's chain."""
    return blake2b(encoded, digest_size=config.HASH_BYTES).digest()


def pack_body(body: str | bytes, bytes_max: int = config.BODY_BYTES_MAX) -> bytes:
    """Pack a body as it stands in a block; raises FlcError if it is too long, or no Unicode."""
    try:
        packed: bytes = _pack(body)
    except UnicodeEncodeError as error:
        raise FlcError("body is not valid Unicode text", "say it as bytes") from error
    if len(packed) > bytes_max:  # With the header before it, which is at most 5 bytes.
        size = len(body.encode() if isinstance(body, str) else body)
        if size > bytes_max:
            hint = "send it in parts, or raise body_bytes_max on this node (at most 1 MiB)"
            raise FlcError(f"body has {size} bytes, allowed are {bytes_max}", hint)
    return packed


def write(
    *,
    log: LogId,
    first: int,
    room: str,
    author: str,
    wall: Millis,
    stamp: int,
    causes: tuple[Dot, ...],
    parent: bytes,
    bodies: Sequence[bytes],
    origin: Origin | None = None,
) -> Block:
    """Encode a new block and read it back as every receiver will; raises FlcError.

    It holds as many of the packed `bodies` as fit into one block, and at least the first. `causes`
    in any order. A refusal leaves no trace, so the caller's numbers are not used up.
    """
    check_label("room", room)
    check_label("author", author)
    if origin is not None:
        check_label("node", origin.name)
    if len(causes) > config.CAUSES_MAX:
        raise FlcError(
            f"room {room!r} has {len(causes)} concurrent heads, allowed are {config.CAUSES_MAX}",
            "let the cluster settle: another node's next message in the room joins them",
        )
    flat = [part for dot in sorted(causes) for part in dot]
    lift = stamp - (wall << STAMP_WALL_SHIFT)
    try:
        head = _pack((log, first, room, author, wall, lift, flat, parent))[1:]
        tail = _pack(origin)
        taken = bodies[: _fitting(bodies, config.SHARED_BYTES_MAX - len(head) - len(tail))]
        return decode(
            b"".join((ARRAY_HEAD, head, _packer.pack_array_header(len(taken)), *taken, tail))
        )
    except (Malformed, OverflowError) as error:
        hint = f"a body may have {config.BODY_BYTES_MAX} bytes"
        if "stamp" in str(error):
            hint = "some node's clock was set far ahead, and this room goes by it: use another room"
        raise FlcError(f"message refused: {error}", hint) from error


def _fitting(bodies: Sequence[bytes], room_bytes: int) -> int:
    """How many of these share a block that has this much room beside its other fields."""
    room_bytes -= len(ARRAY_HEAD) + 1
    for count, body in enumerate(bodies[: config.BODIES_MAX]):
        room_bytes -= len(body)
        if count == FIXARRAY_MAX:
            room_bytes -= 2
        if room_bytes < 0:
            return max(count, 1)
    return min(len(bodies), config.BODIES_MAX)


def decode(encoded: bytes) -> Block:  # noqa: C901, PLR0912  # all that is checked
    """Read one block; raises Malformed with a fixed reason, and nothing else, for other bytes."""
    if len(encoded) > config.BLOCK_BYTES_MAX:
        raise Malformed(Drop.BLOCK_TOO_LARGE)
    try:
        fields = msgpack.unpackb(encoded, use_list=False, ext_hook=_no_extension)
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise Malformed(Drop.BLOCK_NOT_MSGPACK) from error
    if type(fields) is not tuple or len(fields) < FIELDS:
        raise Malformed(Drop.BLOCK_NOT_ITS_FIELDS)
    if len(fields) > FIELDS:
        fields = fields[:FIELDS]
    log, first, room, author, wall, lift, flat, parent, bodies, origin = fields
    # `type(x) is int`, not isinstance: msgpack's true and false must not pass for 1 and 0.
    if type(bodies) is not tuple or not 1 <= len(bodies) <= config.BODIES_MAX:
        raise Malformed(Drop.BLOCK_BODIES_OUT_OF_RANGE)
    if type(first) is not int or not 0 < first <= config.SEQ_LIMIT - len(bodies):
        raise Malformed(Drop.BLOCK_SEQ_OUT_OF_RANGE)
    if type(wall) is not int or type(lift) is not int or wall < 0 or lift < 0:
        raise Malformed(Drop.BLOCK_CLOCK_OUT_OF_RANGE)
    stamp = (wall << STAMP_WALL_SHIFT) + lift
    if stamp >= config.STAMP_LIMIT:
        raise Malformed(Drop.BLOCK_STAMP_OUT_OF_RANGE)
    if type(log) is not bytes or len(log) != config.ID_BYTES:
        raise Malformed(Drop.BLOCK_LOG_NOT_AN_ID)
    begins = encoded[0] <= ARRAY_HEAD_LAST and encoded[1:_LOG_AT] == LOG_HEAD
    if not begins or encoded[_SEQ_AT] not in SEQ_HEADS:
        raise Malformed(Drop.BLOCK_WITHOUT_DOT)
    if type(parent) is not bytes or len(parent) != config.HASH_BYTES:
        raise Malformed(Drop.BLOCK_PARENT_NOT_A_HASH)
    if not is_label(room) or not is_label(author):
        raise Malformed(Drop.BLOCK_LABEL_NOT_ALLOWED)
    if len(bodies) == 1:
        _check_body(bodies[0])
    elif len(encoded) > config.SHARED_BYTES_MAX:
        raise Malformed(Drop.BLOCK_SHARED_TOO_LARGE)
    elif not BODY_TYPES.issuperset(map(type, bodies)):
        raise Malformed(Drop.BLOCK_BODY_OF_OTHER_TYPE)
    causes = () if flat == () else _read_causes(flat, log)
    is_first = first == 1 or parent == NO_PARENT
    read_origin = _read_origin(origin, first, parent) if is_first or origin is not None else None
    digest = blake2b(encoded, digest_size=config.HASH_BYTES).digest()
    head = (log, first, first + len(bodies) - 1, room, author, wall, stamp, causes, parent)
    return _new(Block, (*head, bodies, read_origin, encoded, digest))


def _no_extension(_code: int, _data: bytes) -> None:
    raise ValueError("extension types are not part of the format")


BODY_TYPES = frozenset((str, bytes))


def _check_body(body: object) -> None:
    if type(body) is str:
        # A character is at most 4 bytes: only long texts need to be encoded to be measured.
        if len(body) * 4 > config.BODY_BYTES_MAX and len(body.encode()) > config.BODY_BYTES_MAX:
            raise Malformed(Drop.BLOCK_BODY_TOO_LARGE)
    elif type(body) is not bytes:
        raise Malformed(Drop.BLOCK_BODY_OF_OTHER_TYPE)
    elif len(body) > config.BODY_BYTES_MAX:
        raise Malformed(Drop.BLOCK_BODY_TOO_LARGE)


def _read_causes(flat: object, log: bytes) -> tuple[Dot, ...]:
    if type(flat) is not tuple or len(flat) % 2 or len(flat) > 2 * config.CAUSES_MAX:
        raise Malformed(Drop.BLOCK_CAUSES_NOT_DOTS)
    causes = []
    previous = b""
    parts = iter(flat)
    for cause_log, seq in zip(parts, parts, strict=False):
        if type(cause_log) is not bytes or len(cause_log) != config.ID_BYTES:
            raise Malformed(Drop.BLOCK_CAUSES_NOT_DOTS)
        if type(seq) is not int or not 0 < seq < config.SEQ_LIMIT:
            raise Malformed(Drop.BLOCK_CAUSES_NOT_DOTS)
        if cause_log <= previous or cause_log == log:
            raise Malformed(Drop.BLOCK_CAUSES_OUT_OF_ORDER)
        previous = cause_log
        causes.append(_new(Dot, (cause_log, seq)))
    return tuple(causes)


def _read_origin(origin: object, first: int, parent: bytes) -> Origin:
    """Read the origin of a block that has one, or has to have one."""
    if (first == 1) != (parent == NO_PARENT):
        raise Malformed(Drop.BLOCK_CHAIN_WITHOUT_BEGINNING)
    if first != 1:
        raise Malformed(Drop.BLOCK_ORIGIN_MISPLACED)
    if type(origin) is not tuple or len(origin) < 2:  # noqa: PLR2004  # node and name
        raise Malformed(Drop.BLOCK_ORIGIN_NOT_A_NODE)
    node, name = origin[:2]
    if type(node) is not bytes or len(node) != config.ID_BYTES or not is_label(name):
        raise Malformed(Drop.BLOCK_ORIGIN_NOT_A_NODE)
    return Origin(NodeId(node), name)


_LOG_AT = 3
_SEQ_AT = _LOG_AT + config.ID_BYTES
_SEQ_WIDTHS = {0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8}

LOG_HEAD = b"\xc4\x08"
"""How msgpack begins 8 bytes."""

SEQ_HEADS = frozenset((*range(0x80), *_SEQ_WIDTHS))
"""The first bytes of those numbers that `peek_dot` reads: all that msgpack writes for them."""


def peek_dot(encoded: bytes) -> Dot | None:
    """The dot of a block's first message without decoding the rest; None if it does not begin so.

    Most copies of a block are duplicates; this tells them at a tenth of the price of `decode`.
    """
    if len(encoded) <= _SEQ_AT or encoded[1:_LOG_AT] != LOG_HEAD:
        return None
    first = encoded[_SEQ_AT]
    if first < 0x80:  # noqa: PLR2004  # msgpack positive fixint
        return _new(Dot, (encoded[_LOG_AT:_SEQ_AT], first))
    width = _SEQ_WIDTHS.get(first)
    if width is None:
        return None
    seq = int.from_bytes(encoded[_SEQ_AT + 1 : _SEQ_AT + 1 + width], "big")
    return _new(Dot, (encoded[_LOG_AT:_SEQ_AT], seq))


def stamp_of(encoded: bytes) -> int:
    """The stamp of an encoded block, 0 of what is none."""
    try:
        return decode(encoded).stamp
    except Malformed:
        return 0
