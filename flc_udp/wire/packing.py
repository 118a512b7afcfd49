"""Packing: packets are put into payloads, none of which is longer than the budget allows.

A packet goes into the present payload if there is room for it, else into the next one. A packet
with an array of items is spread over as many payloads as needed, and a block that is too large
for any payload is cut into pieces. So only this module has to know how long a datagram may be.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain, groupby

import msgpack

from flc_udp.config import ID_BYTES, PIECE_BYTES
from flc_udp.model.block import hash_of, peek_dot
from flc_udp.model.dots import NodeId
from flc_udp.wire.codec import fields_of, head_of, row_fields
from flc_udp.wire.packets import Base, Have, Members, Packet, Piece, Pull, Replay, Rumor, Update
from flc_udp.wire.rows import MemberRow

_packer = msgpack.Packer(autoreset=True)
_pack = _packer.pack
_array_header = _packer.pack_array_header

HEAD_BYTES = 3 + 2 + ID_BYTES
"""The header of a payload's array and the sender's id take at most this many bytes."""

LIST_BYTES = 3
"""The header of an array of items takes at most this many bytes."""

BLOCK_HEAD_BYTES = 3
"""The header of a block that fits into a datagram takes at most this many bytes."""

ROWS_CACHED = 8_192
"""This many rows are remembered as bytes, because the same news goes to many members."""


class Packer:
    """Fills payloads with packets, one payload after another, each within the budget."""

    def __init__(self, sender: NodeId, payload_bytes_max: int) -> None:
        self.payloads: list[bytes] = []
        self._sender = _pack(sender)
        self._budget = payload_bytes_max - HEAD_BYTES
        self._parts: list[bytes] = []
        self._room = self._budget

    def add(self, packet: Packet) -> None:
        """Add one packet, in several payloads if it needs them."""
        match packet:
            case Rumor() | Replay():
                self._add_blocks(packet)
            case Members() | Update():
                self._add_items(_head_of(packet), [packed_row(row) for row in packet.rows])
            case Pull() | Have() | Base():
                self._add_items(_head_of(packet), list(map(_pack, packet[-1])))
            case _:
                self._add_part(_pack(fields_of(packet)))

    def close(self) -> None:
        """End the present payload, if there is anything in it."""
        if self._parts:
            array = (_array_header(1 + len(self._parts)), self._sender, *self._parts)
            self.payloads.append(b"".join(array))
            self._parts = []
            self._room = self._budget

    def _add_part(self, part: bytes) -> None:
        assert len(part) <= self._budget, f"a packet of {len(part)} bytes"
        if len(part) > self._room:
            self.close()
        self._parts.append(part)
        self._room -= len(part)

    def _add_blocks(self, packet: Rumor | Replay) -> None:
        head = _head_of(packet)
        longest = self._budget - len(head) - LIST_BYTES - BLOCK_HEAD_BYTES
        if isinstance(packet, Rumor) and not 0 < max(map(len, packet.blocks), default=0) <= longest:
            self._add_part(head + _array_header(0))  # Pieces do not say how far the pusher is.
        for is_whole, blocks in groupby(packet.blocks, lambda encoded: len(encoded) <= longest):
            if is_whole:
                self._add_items(head, list(map(_pack, blocks)))
                continue
            for piece in chain.from_iterable(map(pieces_of, blocks)):
                self._add_part(_pack(fields_of(piece)))

    def _add_items(self, head: bytes, items: list[bytes]) -> None:
        overhead = len(head) + LIST_BYTES
        start, size = 0, overhead
        for at, item in enumerate(items):
            if size + len(item) > self._room:
                self._add_list(head, items[start:at], size)
                self.close()
                start, size = at, overhead
            size += len(item)
        self._add_list(head, items[start:], size)

    def _add_list(self, head: bytes, items: list[bytes], size: int) -> None:
        if items:
            assert size <= self._room, f"an item of {size} bytes"
            self._parts.append(b"".join((head, _array_header(len(items)), *items)))
            self._room -= size


def _head_of(packet: Packet) -> bytes:
    """Pack a packet without its last field, the items."""
    fields = head_of(packet)
    return b"".join((_array_header(len(fields) + 1), *map(_pack, fields)))


def pack(sender: NodeId, packets: Sequence[Packet], payload_bytes_max: int) -> list[bytes]:
    """Put packets into payloads, in their order."""
    packer = Packer(sender, payload_bytes_max)
    for packet in packets:
        packer.add(packet)
    packer.close()
    return packer.payloads


@lru_cache(maxsize=ROWS_CACHED)
def packed_row(row: MemberRow) -> bytes:
    """Pack the row of a member."""
    return bytes(_pack(row_fields(row)))


def pieces_of(encoded: bytes, numbers: tuple[int, ...] = ()) -> Iterator[Piece]:
    """Cut an encoded block into all its pieces, or those of (first, last, first, last, …)."""
    dot = peek_dot(encoded)
    assert dot is not None
    digest = hash_of(encoded)
    count = -(-len(encoded) // PIECE_BYTES)
    for first, last in zip(numbers[::2] or (0,), numbers[1::2] or (count - 1,), strict=True):
        for number in range(first, min(last, count - 1) + 1):
            data = encoded[number * PIECE_BYTES : (number + 1) * PIECE_BYTES]
            yield Piece(dot.log, dot.seq, digest, len(encoded), number, data)
