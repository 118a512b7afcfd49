"""Roots: 8-byte hashes of sets, kept up to date row by row, the same in whatever order rows came.

The root of a set is the exclusive or of the hashes of its rows. Two nodes with equal roots hold the
same set, except by an accident with a chance of 2^-64. Their probes need to say nothing more.
"""

from __future__ import annotations

from hashlib import blake2b

from flc_udp.config import HASH_BYTES
from flc_udp.model.dots import LogId
from flc_udp.model.history import Head
from flc_udp.wire.rows import MemberRow


def log_hash(log: LogId, head: Head) -> int:
    """The hash of a log's row: its id, and the seq and hash of its head."""
    return _hash(log, head.seq.to_bytes(8, "big"), head.hash)


def member_hash(row: MemberRow) -> int:
    """The hash of all of a live member's row that nodes must agree on.

    Only the state and the accuser are left out.
    """
    numbers = row.incarnation.to_bytes(8, "big") + row.boot.to_bytes(8, "big")
    # Names and tags have no zero bytes, and the keys of tags have no equals sign, so rows with
    # different contents are never written alike.
    text = "\0".join((str(row.address), row.name, *map(str, row.tags)))
    return _hash(row.id, numbers, text.encode())


def _hash(*parts: bytes) -> int:
    return int.from_bytes(blake2b(b"".join(parts), digest_size=HASH_BYTES).digest(), "big")


class Root:
    """The root of a set of which rows are added and removed."""

    __slots__ = ("_sum",)

    def __init__(self) -> None:
        self._sum = 0

    def toggle(self, row_hash: int) -> None:
        """Add the hash of a row, or remove it again."""
        self._sum ^= row_hash

    def value(self) -> bytes:
        """The root as 8 bytes, as it stands in packets."""
        return self._sum.to_bytes(HASH_BYTES, "big")
