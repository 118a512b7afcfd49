"""Rings: which members a node is linked to in a large cluster, the same seen from both ends.

All members stand on a few rings, on each in another order of their ids, and every member is linked
to its two neighbours on each ring (Law and Siu 2003: such graphs expand). So both ends know of
every link, nobody is left out, and a member that comes or goes moves two links on each ring.
"""

from __future__ import annotations

from bisect import bisect_left, insort

from flc_udp.config import ID_BYTES
from flc_udp.model.dots import NodeId


class Rings:
    """The members of one cluster on `count` rings."""

    def __init__(self, count: int) -> None:
        self._rings: list[list[bytes]] = [[] for _ in range(count)]
        self._nodes: set[NodeId] = set()

    def stand(self, nodes: set[NodeId]) -> None:
        """Let exactly these members stand on the rings. The cost is that of those that changed."""
        for node in self._nodes - nodes:
            for number, ring in enumerate(self._rings):
                del ring[bisect_left(ring, _turned(number, node))]
        for node in nodes - self._nodes:
            for number, ring in enumerate(self._rings):
                insort(ring, _turned(number, node))
        self._nodes = nodes

    def neighbours(self, node: NodeId) -> dict[NodeId, None]:
        """The members next to one, on all rings."""
        neighbours: dict[NodeId, None] = {}
        for number, ring in enumerate(self._rings):
            at = bisect_left(ring, _turned(number, node))
            for key in (ring[at - 1], ring[(at + 1) % len(ring)]):
                neighbours[NodeId(_turned(-number, key))] = None
        return neighbours


def _turned(ring: int, node: bytes) -> bytes:
    """An id as the key of one ring. Ids are random, so each of their bytes gives another order."""
    at = ring % ID_BYTES
    return node[at:] + node[:at]
