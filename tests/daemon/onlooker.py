"""What daemons say of each other, read in their own logs, where nothing passes too quickly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from tests.daemon.cluster import Node

DIED, SUSPECTED, ALIVE = "member_died", "member_suspected", "member_alive"


class Told(NamedTuple):
    """One node said something of another."""

    by: str
    of: str


class Watch:
    """What these nodes say of others from now on."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self._nodes = nodes
        self._read: Counter[tuple[str, str]] = Counter()
        for event in (DIED, SUSPECTED):
            self.news(event)

    def news(self, event: str) -> list[Told]:
        """Of that event, what was not returned before."""
        told = []
        for node in self._nodes:
            records = node.logged(event)
            known = self._read[node.name, event]
            told += [Told(node.name, record["member"]) for record in records[known:]]
            self._read[node.name, event] = len(records)
        return told
