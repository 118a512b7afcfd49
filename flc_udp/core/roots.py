"""Roots: 8-byte hashes of sets, kept incrementally, the same whatever order things came in.

A set's root is the exclusive or of its rows' hashes. Two nodes whose roots are equal hold the same
set, but for accidents of 2^-64; that is all their probes need to say.
"""

from __future__ import annotations

from hashlib import blake2b

from flc_udp.config import HASH_BYTES
from flc_udp.model.dots import LogId
from flc_udp.model.history import Head
from flc_udp.wire.packets import MemberRow


def log_hash(log: LogId, head: Head) -> int:
    """Hash of one log's row: id, head seq, head hash."""
    return _hash(log, head.seq.to_bytes(8, "big"), head.hash)


def member_hash(row: MemberRow) -> int:
    """Hash of what must agree about a live member: all of its row but the state and the accuser."""
    numbers = row.incarnation.to_bytes(8, "big") + row.boot.to_bytes(8, "big")
    # No zero byte stands in a name or a tag, and no equals sign in a tag's key: no two rows of
    # different contents are written alike.
    text = "\0".join((str(row.address), row.name, *map(str, row.tags)))
    return _hash(row.id, numbers, text.encode())


def _hash(*parts: bytes) -> int:
    return int.from_bytes(blake2b(b"".join(parts), digest_size=HASH_BYTES).digest(), "big")


class Root:
    """The root of a set whose rows come and go."""

    __slots__ = ("_sum",)

    def __init__(self) -> None:
        self._sum = 0

    def toggle(self, row_hash: int) -> None:
        """Put a row's hash in, or take it out again."""
        self._sum ^= row_hash

    def value(self) -> bytes:
        """The 8 bytes that travel."""
        return self._sum.to_bytes(HASH_BYTES, "big")
