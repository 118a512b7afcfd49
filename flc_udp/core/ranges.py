"""Ranges of ids, split 64 ways: how two large tables find where they differ in a few small packets.

A range is named by its lowest id and its level: all ids that share the first 6 × level bits. Its
digest is 64 hashes, one for each sub-range, each the exclusive or of the rows in it; where two
nodes' hashes differ the range is split again, or, with few rows in it, these are told. Ids are
random, so n rows take about log64 n steps (after range-based set reconciliation, Meyer 2023).
"""

from __future__ import annotations

from collections.abc import Iterable

from flc_udp.config import HASH_BYTES, ID_BYTES, RANGE_FANOUT

FANOUT_BITS = RANGE_FANOUT.bit_length() - 1
ID_BITS = 8 * ID_BYTES

FIRST_ID = bytes(ID_BYTES)
LAST_ID = b"\xff" * ID_BYTES


def bounds(low: bytes, level: int) -> tuple[bytes, bytes]:
    """First and last id of the range that begins with `low`'s first 6 × level bits."""
    free = ID_BITS - FANOUT_BITS * level
    first = int.from_bytes(low, "big") >> free << free
    last = first | (1 << free) - 1
    return first.to_bytes(ID_BYTES, "big"), last.to_bytes(ID_BYTES, "big")


def part(low: bytes, level: int, number: int) -> bytes:
    """First id of one of a range's 64 parts, each a range of the next level."""
    first = int.from_bytes(bounds(low, level)[0], "big")
    shift = ID_BITS - FANOUT_BITS * (level + 1)
    return (first | number << shift).to_bytes(ID_BYTES, "big")


def hashes(rows: Iterable[tuple[bytes, int]], level: int) -> bytes:
    """The digest of a range: 64 hashes of 8 bytes, from the (id, row hash) of every row in it."""
    sums = [0] * RANGE_FANOUT
    shift = ID_BITS - FANOUT_BITS * (level + 1)
    for node, row_hash in rows:
        sums[int.from_bytes(node, "big") >> shift & (RANGE_FANOUT - 1)] ^= row_hash
    return b"".join(total.to_bytes(HASH_BYTES, "big") for total in sums)


def differing(mine: bytes, theirs: bytes) -> list[int]:
    """Numbers of the parts whose hashes differ."""
    return [
        number
        for number in range(RANGE_FANOUT)
        if mine[number * HASH_BYTES : (number + 1) * HASH_BYTES]
        != theirs[number * HASH_BYTES : (number + 1) * HASH_BYTES]
    ]
