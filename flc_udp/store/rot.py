"""Rot: rows that are no longer what was written there.

Promise. A block that has changed on the disk is never given to anybody, and never taken for what
was said. Reading goes on without it.

Rules. A row keeps the hash of its block, and whoever reads the block compares the two. Which of
them has changed is told by the hash chain: the next block of the log names the hash of this one,
and the log's row names that of its last block. Where neither is known, it is what the row says.
Other nodes are asked for a block with that hash.

The other columns of a row, and the two indexes, follow from the block. `look_through` compares
them. So does it find what nobody reads, if it is called again and again.
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress

from flc_udp.model.block import Block, decode, hash_of
from flc_udp.model.dots import LogId
from flc_udp.model.errors import Malformed, StoreFailed
from flc_udp.model.history import PlacedBlock, RottenBlock
from flc_udp.store.queries import Queries

SELECT_NAME = """
    SELECT log.id, block.seq - count + 1, block.seq, block.stamp, encoded, block.hash
    FROM block JOIN log ON log.no = log_no WHERE position = ?
"""
SELECT_NEXT = """
    SELECT encoded, block.hash FROM block
    WHERE log_no = (SELECT no FROM log WHERE id = ?) AND seq > ? ORDER BY seq LIMIT 1
"""
SELECT_HEAD = "SELECT hash FROM log WHERE id = ? AND seq = ?"
SELECT_ROWS = """
    SELECT position, encoded, hash FROM block WHERE position > ? ORDER BY position LIMIT ?
"""
SELECT_STANDS = """
    SELECT count(*)
    FROM block NOT INDEXED CROSS JOIN log ON log.no = log_no CROSS JOIN room ON room.no = room_no
    WHERE block.position = :position AND log.id = :log AND block.seq = :seq AND count = :count
        AND block.stamp = :stamp AND room.name = :room
        AND block.position = (
            SELECT found.position FROM block AS found INDEXED BY block_dot
            WHERE found.log_no = log.no AND found.seq = :seq)
        AND block.position = (
            SELECT found.position FROM block AS found INDEXED BY block_history
            WHERE found.stamp = :stamp AND found.room_no = room.no AND found.position = :position)
"""

NOTICED_MAX = 4_096
"""At most this many rotten rows are remembered at a time. Others are met again."""

ROWS_A_LOOK = 32
"""`look_through` looks at so many rows, which takes less than a millisecond."""


def is_sound(encoded: object, digest: object) -> bool:
    """Whether a block is what was written. Both values are as the disk gives them."""
    return isinstance(encoded, bytes) and hash_of(encoded) == digest


def stands(queries: Queries, position: int, block: Block) -> bool:
    """Whether a row and both indexes say what follows from its block."""
    row = {
        "position": position,
        "log": block.log,
        "seq": block.last,
        "count": len(block.bodies),
        "stamp": block.stamp,
        "room": block.room,
    }
    return bool(queries.value(SELECT_STANDS, row))


class Rot:
    """The rotten rows that were met by one reader, by their positions."""

    def __init__(self, queries: Queries) -> None:
        self._queries = queries
        self._met: dict[int, None] = {}
        self._crooked: dict[int, Block] = {}

    def __len__(self) -> int:
        return len(self._met) + len(self._crooked)

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

    def misled(self, position: int, encoded: bytes, digest: bytes) -> None:
        """The history index leads to this row, and does not say what the row says."""
        if is_sound(encoded, digest) and len(self._crooked) < NOTICED_MAX:
            self._crooked[position] = decode(encoded)

    def look_through(self, after: int) -> int:
        """Look at the next rows after a position; return the last one's position, 0 at the end.

        Raises StoreFailed.
        """
        page = self._queries.page(SELECT_ROWS, (after, ROWS_A_LOOK))
        for position, encoded in self.sound(page):
            block = decode(encoded)
            if not stands(self._queries, position, block):
                self._crooked[position] = block
        return page[-1][0] if page else 0

    def take(self) -> tuple[list[RottenBlock], list[PlacedBlock]]:
        """The rotten blocks that were met since the last call, and sound ones with wrong rows."""
        met, self._met = self._met, {}
        rotten: list[RottenBlock] = []
        for position in met:
            with suppress(StoreFailed):  # It is met again.
                if (block := self.name(position)) is not None:
                    rotten.append(block)
        crooked, self._crooked = self._crooked, {}
        return rotten, list(map(PlacedBlock, crooked, crooked.values()))

    def name(self, position: int) -> RottenBlock | None:
        """What is known of the row at this position.

        None: it needs nobody's help, or its columns tell nothing.
        """
        for *told, encoded, digest in self._queries.rows(SELECT_NAME, (position,)):
            log, first, last, stamp = told
            if not (type(first) is type(last) is int and 0 < first <= last):
                return None
            proof = self.proof(log, last)
            if proof is not None and is_sound(encoded, proof):  # Only the row's hash has changed.
                self._crooked[position] = decode(encoded)
                return None
            # Where the next block is rotten, too, others' copies have to fit the row's own hash.
            return RottenBlock(log, first, last, proof or digest, position, stamp)
        return None

    def proof(self, log: LogId, last: int) -> bytes | None:
        """The hash that the block must have whose last message has this number, if it is known."""
        for encoded, digest in self._queries.rows(SELECT_NEXT, (log, last)):
            try:
                return decode(encoded).parent if is_sound(encoded, digest) else None
            except Malformed:
                return None
        head: bytes | None = self._queries.value(SELECT_HEAD, (log, last))
        return head
