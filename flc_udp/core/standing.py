"""Where this node stands: what it durably holds, which is all it ever says of itself.

The Replica keeps two sets of heads. `Causal` has the *decided* ones, for duplicates and wants. Here
are the *durable* ones: roots, acks, digests and receipts speak of nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable

from flc_udp.config import ID_BYTES
from flc_udp.core.ranges import Table
from flc_udp.core.roots import Root, log_hash
from flc_udp.model.dots import LogId
from flc_udp.model.history import NO_HEAD, Head
from flc_udp.model.message import Message
from flc_udp.wire.packets import DigestRow

NO_LOG: LogId = bytes(ID_BYTES)
"""A node's own log before its first post."""


class Standing:
    """Durable heads and their table, this run's log, and whether the node is catching up."""

    def __init__(self, heads: dict[LogId, Head], floor: int = 0, log: LogId = NO_LOG) -> None:
        self.log = log
        self.floor = floor
        """Stamp from which on every message is kept."""
        self.catching_up = False
        self.messages = sum(head.seq for head in heads.values())
        self.table = Table({log: log_hash(log, head) for log, head in heads.items()})
        self._heads: dict[LogId, Head] = dict(heads)

    @property
    def root(self) -> Root:
        """The root of all durable heads."""
        return self.table.root

    @property
    def logs(self) -> int:
        """How many logs are held."""
        return len(self._heads)

    def held(self, log: LogId) -> int:
        """The durable head's seq of a log; 0 where nothing is held."""
        return self._heads.get(log, NO_HEAD).seq

    def head(self, log: LogId) -> Head:
        """The durable head of a log; NO_HEAD where nothing is held."""
        return self._heads.get(log, NO_HEAD)

    def commit(self, messages: Iterable[Message]) -> None:
        """These became durable: each follows its log's head."""
        last: dict[LogId, Message] = {message.log: message for message in messages}
        for log, message in last.items():
            head = Head(message.seq, message.hash, message.stamp)
            self.messages += head.seq - self.held(log)
            self._heads[log] = head
            self.table.put(log, log_hash(log, head))

    def rows(self, low: LogId, high: LogId) -> list[DigestRow]:
        """Durable heads of the logs with ids in low..high (both included), by id."""
        return [
            DigestRow(log, self._heads[log].seq, self._heads[log].hash)
            for log in self.table.ids(low, high)
        ]
