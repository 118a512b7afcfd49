"""Where this node stands: what it durably holds, which is all it ever says of itself.

The Replica keeps two sets of heads. `Causal` has the *decided* ones, for duplicates and wants. Here
are the *durable* ones: roots, acks, digests and receipts speak of nothing else.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable

from flc_udp.config import ID_BYTES
from flc_udp.core.ranges import bounds, hashes
from flc_udp.core.roots import Root, log_hash
from flc_udp.model.dots import LogId
from flc_udp.model.history import NO_HEAD, Head
from flc_udp.model.message import Message
from flc_udp.wire.packets import DigestRow

NO_LOG: LogId = bytes(ID_BYTES)
"""A node's own log before its first post."""


class Standing:
    """Durable heads and their root, this run's log, and whether the node is catching up."""

    def __init__(self, heads: dict[LogId, Head]) -> None:
        self.log: LogId = NO_LOG
        self.catching_up = False
        self.root = Root()
        self.messages = sum(head.seq for head in heads.values())
        self._heads: dict[LogId, Head] = dict(heads)
        self._order: list[LogId] = sorted(heads)
        self._hashes = {log: log_hash(log, head) for log, head in heads.items()}
        for row_hash in self._hashes.values():
            self.root.toggle(row_hash)

    @property
    def logs(self) -> int:
        """How many logs are held."""
        return len(self._heads)

    def held(self, log: LogId) -> int:
        """The durable head's seq of a log; 0 where nothing is held."""
        return self._heads.get(log, NO_HEAD).seq

    def commit(self, messages: Iterable[Message]) -> None:
        """These became durable: each follows its log's head."""
        last: dict[LogId, Message] = {message.log: message for message in messages}
        for log, message in last.items():
            before = self._heads.get(log)
            if before is not None:
                self.root.toggle(self._hashes[log])
            else:
                self._order.insert(bisect_left(self._order, log), log)
            head = Head(message.seq, message.hash, message.stamp)
            self._heads[log] = head
            self.messages += head.seq - (before.seq if before else 0)
            self._hashes[log] = log_hash(log, head)
            self.root.toggle(self._hashes[log])

    def count(self, low: LogId, high: LogId) -> int:
        """How many logs have ids in low..high (both included)."""
        return bisect_right(self._order, high) - bisect_left(self._order, low)

    def rows(self, low: LogId, high: LogId) -> list[DigestRow]:
        """Durable heads of the logs with ids in low..high (both included), by id."""
        return [
            DigestRow(log, self._heads[log].seq, self._heads[log].hash)
            for log in self._span(low, high)
        ]

    def hashes(self, low: LogId, level: int) -> bytes:
        """The digest of one range of log ids (`ranges`)."""
        span = self._span(*bounds(low, level))
        return hashes(((log, self._hashes[log]) for log in span), level)

    def _span(self, low: LogId, high: LogId) -> list[LogId]:
        return self._order[bisect_left(self._order, low) : bisect_right(self._order, high)]
