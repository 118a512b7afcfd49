"""Rot: rows whose block is no longer what was written there.

Promise. A block that has changed on the disk is never given to anybody, and never taken for what
was said. Reading goes on without it.

Rules. A row keeps the hash of its block, and whoever reads the block compares the two. Which of
them has changed is told by the hash chain: the next block of the log names the hash of this one,
and the log's row names that of its last block. Other nodes are asked for a block with that hash.
"""

from collections.abc import Iterable, Iterator

from flc_udp.model.block import decode, hash_of
from flc_udp.model.dots import LogId
from flc_udp.model.errors import Malformed, StoreFailed
from flc_udp.model.history import RottenBlock
from flc_udp.store.queries import Queries

SELECT_NAME = """
    SELECT log.id, block.seq - count + 1, block.seq FROM block JOIN log ON log.no = log_no
    WHERE position = ?
"""
SELECT_NEXT = """
    SELECT encoded, block.hash FROM block
    WHERE log_no = (SELECT no FROM log WHERE id = ?) AND seq > ? ORDER BY seq LIMIT 1
"""
SELECT_HEAD = "SELECT hash FROM log WHERE id = ? AND seq = ?"

NOTICED_MAX = 4_096
"""At most this many rotten rows are remembered at a time. Others are met again."""


def is_sound(encoded: object, digest: object) -> bool:
    """Whether a block is what was written. Both values are as the disk gives them."""
    return isinstance(encoded, bytes) and hash_of(encoded) == digest


class Rot:
    """The rotten rows that were met by one reader, by their positions."""

    def __init__(self, queries: Queries) -> None:
        self._queries = queries
        self._met: dict[int, None] = {}

    def __len__(self) -> int:
        return len(self._met)

    def sound(self, rows: Iterable[tuple[int, bytes, bytes]]) -> Iterator[tuple[int, bytes]]:
        """(position, encoded) of those rows (position, encoded, hash) that are sound."""
        for position, encoded, digest in rows:
            if is_sound(encoded, digest):
                yield position, encoded
            else:
                self.met(position)

    def met(self, position: int) -> None:
        """The row at this position is rotten."""
        if len(self._met) < NOTICED_MAX:
            self._met[position] = None

    def take(self) -> list[RottenBlock]:
        """The blocks of the rows that were met since the last call, as far as they have a proof.

        One without a proof is met again when the block after it, which is rotten too, is healed.
        While the disk cannot be read, they wait for a later call.
        """
        try:
            found = [self.name(position) for position in self._met]
        except StoreFailed:
            return []
        self._met = {}
        return [block for block in found if block is not None]

    def name(self, position: int) -> RottenBlock | None:
        """What is known of the row at this position, or None if it has no proof."""
        for log, first, last in self._queries.rows(SELECT_NAME, (position,)):
            proof = self._proof(log, last)
            return None if proof is None else RottenBlock(log, first, last, proof)
        return None

    def _proof(self, log: LogId, last: int) -> bytes | None:
        for encoded, digest in self._queries.rows(SELECT_NEXT, (log, last)):
            try:
                return decode(encoded).parent if is_sound(encoded, digest) else None
            except Malformed:
                return None
        head: bytes | None = self._queries.value(SELECT_HEAD, (log, last))
        return head
