"""Where this node stands: what it durably holds, which is all that it ever says of itself.

The Replica keeps two sets of heads. `Causal` has the *decided* ones, which duplicates and wants are
judged by. This module has the *durable* ones: roots, acks, digests and receipts speak of nothing
else.
"""

from collections.abc import Iterable, Mapping

from flc_udp.config import ID_BYTES
from flc_udp.core.ranges import Table, row_hash_of
from flc_udp.model.block import Block
from flc_udp.model.dots import LogId
from flc_udp.model.history import NO_HEAD, Head
from flc_udp.wire.rows import DigestRow

NO_LOG = LogId(bytes(ID_BYTES))
"""The id of a node's own log before its first post."""


def log_hash(log: LogId, head: Head) -> int:
    """The hash of a log's row: its id, and the seq and hash of its head."""
    return row_hash_of(log, head.seq.to_bytes(8, "big"), head.hash)


class Standing:
    """The durable heads and their table, this run's log, and whether the node is catching up."""

    def __init__(self, heads: Mapping[LogId, Head], floor: int = 0, pruned_below: int = 0) -> None:
        self.log = NO_LOG
        """The log of this run that the next post goes on with, as far as is known."""
        self.own: dict[LogId, int] = {}
        """The logs of this run, and their last stamps. There is one, but for rooms whose stamps
        were carried far ahead."""
        self.reset(heads, floor, pruned_below)

    def reset(self, heads: Mapping[LogId, Head], floor: int, pruned_below: int) -> None:
        """Hold exactly what the log holds, as after a start."""
        self.floor = floor
        """The stamp from which every message is kept."""
        self.pruned_below = pruned_below
        """What comes below this stamp is deleted at once."""
        self.catching_up = False
        self.messages = sum(head.seq for head in heads.values())
        self.table = Table({log: log_hash(log, head) for log, head in heads.items()})
        self._heads = dict(heads)

    @property
    def own_head(self) -> int:
        """The durable head's seq of this run's log."""
        return self.held(self.log)

    def held(self, log: LogId) -> int:
        """The durable head's seq of a log. It is 0 where nothing is held."""
        return self.head(log).seq

    def head(self, log: LogId) -> Head:
        """The durable head of a log. It is NO_HEAD where nothing is held."""
        return self._heads.get(log, NO_HEAD)

    def commit(self, blocks: Iterable[Block]) -> None:
        """These blocks became durable. Each follows the head of its log."""
        last: dict[LogId, Block] = {block.log: block for block in blocks}
        for log, block in last.items():
            head = Head(block.last, block.hash, block.stamp)
            self.messages += head.seq - self.held(log)
            self._heads[log] = head
            self.table.put(log, log_hash(log, head))

    def rows(self, low: LogId, high: LogId) -> list[DigestRow]:
        """The durable heads of logs with ids in low..high (both included), by id."""
        return [
            DigestRow(log, self._heads[log].seq, self._heads[log].hash)
            for log in self.table.ids(low, high)
        ]
