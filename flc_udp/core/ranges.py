"""Ranges of ids: two nodes find in a few small packets where their large tables differ.

A range is all ids that share their first 6 × level bits. It is named by its lowest id and its
level. Its digest is 64 hashes, one for each of its 64 parts: the exclusive or of the hashes of the
rows in that part. Where the hashes of two nodes differ, the part is split again, or its rows are
told if they are few. Ids are random, so n rows take about log64 n steps (after range-based set
reconciliation, Meyer 2023).

The root of a table is the exclusive or of the hashes of all its rows, in whatever order they came.
Two nodes with equal roots hold the same rows, except by an accident with a chance of 2^-64. Their
probes need to say nothing more.

Two tables are compared in this way: durable logs (`standing`, `repair/exchange`) and live members
(`liveness/members`, `liveness/roster`).
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Mapping
from hashlib import blake2b
from typing import Generic, TypeVar, cast

from flc_udp.config import HASH_BYTES, ID_BYTES, RANGE_FANOUT
from flc_udp.model.dots import LogId, NodeId

Id = TypeVar("Id", LogId, NodeId)
"""The ids of a table are all of logs, or all of nodes."""

FANOUT_BITS = RANGE_FANOUT.bit_length() - 1
ID_BITS = 8 * ID_BYTES

FIRST_ID = bytes(ID_BYTES)


def row_hash_of(*parts: bytes) -> int:
    """The hash of a row that consists of these parts."""
    return int.from_bytes(blake2b(b"".join(parts), digest_size=HASH_BYTES).digest(), "big")


def bounds(low: Id, level: int) -> tuple[Id, Id]:
    """The first and the last id of the range that `low` is in at this level."""
    free = ID_BITS - FANOUT_BITS * level
    first = int.from_bytes(low, "big") >> free << free
    last = first | (1 << free) - 1
    return cast("Id", _id(first)), cast("Id", _id(last))


def after(node: Id) -> Id:
    """The next id. The last one is followed by itself."""
    following = int.from_bytes(node, "big") + 1
    return node if following >> ID_BITS else cast("Id", _id(following))


def part(low: Id, level: int, number: int) -> Id:
    """The first id of one of the 64 parts of a range. A part is a range of the next level."""
    first = int.from_bytes(bounds(low, level)[0], "big")
    shift = ID_BITS - FANOUT_BITS * (level + 1)
    return cast("Id", _id(first | number << shift))


def _id(number: int) -> bytes:
    return number.to_bytes(ID_BYTES, "big")


class Table(Generic[Id]):
    """The hashes of rows by their ids. It knows their root, and the digest of any range of them."""

    __slots__ = ("_hashes", "_order", "_parts", "_root")

    def __init__(self, rows: Mapping[Id, int]) -> None:
        self._root = 0
        self._hashes: dict[Id, int] = {}
        self._order: list[Id] = sorted(rows)
        # Every exchange begins with the digest of the range of all ids, so it is kept up to date.
        self._parts = [0] * RANGE_FANOUT
        for node in self._order:
            self._toggle(node, rows[node])
            self._hashes[node] = rows[node]

    def __len__(self) -> int:
        return len(self._order)

    @property
    def root(self) -> bytes:
        """The root as it stands in packets."""
        return self._root.to_bytes(HASH_BYTES, "big")

    def put(self, node: Id, row_hash: int) -> None:
        """Add a row, or replace the one that has this id."""
        before = self._hashes.get(node)
        if before is None:
            insort(self._order, node)
        else:
            self._toggle(node, before)
        self._hashes[node] = row_hash
        self._toggle(node, row_hash)

    def drop(self, node: Id) -> None:
        """Remove a row, if there is one with this id."""
        before = self._hashes.pop(node, None)
        if before is not None:
            del self._order[bisect_left(self._order, node)]
            self._toggle(node, before)

    def count(self, low: Id, high: Id) -> int:
        """How many ids are in low..high (both included)."""
        return bisect_right(self._order, high) - bisect_left(self._order, low)

    def ids(self, low: Id, high: Id) -> list[Id]:
        """The ids in low..high (both included), ascending."""
        return self._order[bisect_left(self._order, low) : bisect_right(self._order, high)]

    def hashes(self, low: Id, level: int) -> bytes:
        """The digest of one range, which is 64 hashes of 8 bytes."""
        sums = self._parts
        if level > 0:
            sums = [0] * RANGE_FANOUT
            shift = ID_BITS - FANOUT_BITS * (level + 1)
            for node in self.ids(*bounds(low, level)):
                number = int.from_bytes(node, "big") >> shift & (RANGE_FANOUT - 1)
                sums[number] ^= self._hashes[node]
        return b"".join(total.to_bytes(HASH_BYTES, "big") for total in sums)

    def differing(self, low: Id, level: int, theirs: bytes) -> list[Id]:
        """The first ids of the parts in which another table's digest of a range differs."""
        mine = self.hashes(low, level)
        return [
            part(low, level, at // HASH_BYTES)
            for at in range(0, len(mine), HASH_BYTES)
            if mine[at : at + HASH_BYTES] != theirs[at : at + HASH_BYTES]
        ]

    def _toggle(self, node: Id, row_hash: int) -> None:
        self._root ^= row_hash
        self._parts[node[0] >> 8 - FANOUT_BITS] ^= row_hash
