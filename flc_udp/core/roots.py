"""Roots: 8-byte hashes of sets, kept incrementally, the same whatever order things came in.

A set's root is the exclusive or of its rows' hashes. Two nodes whose roots are equal hold the same
set, but for accidents of 2^-64; that is all their probes need to say.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b

from flc_udp.config import HASH_BYTES
from flc_udp.model.dots import LogId
from flc_udp.model.history import Head
from flc_udp.model.tags import Tags
from flc_udp.wire.packets import MemberRow

TAGS_CACHED = 8_192
"""Tags whose hash is at hand when a probe tells it."""


def log_hash(log: LogId, head: Head) -> int:
    """Hash of one log's row: id, head seq, head hash."""
    return _hash(log, head.seq.to_bytes(8, "big"), head.hash)


def member_hash(row: MemberRow) -> int:
    """Hash of one live member's row: id, incarnation, address."""
    return _hash(row.id, row.incarnation.to_bytes(8, "big"), str(row.address).encode())


@lru_cache(maxsize=TAGS_CACHED)
def tags_hash(tags: Tags) -> bytes:
    """What probes tell of the sender's tags; of none, nothing."""
    # Neither stands for itself in a tag: no two sets of tags are written alike.
    text = "\0".join(map(str, tags))
    return blake2b(text.encode(), digest_size=HASH_BYTES).digest() if tags else b""


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
