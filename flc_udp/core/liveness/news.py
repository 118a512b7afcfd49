"""News of members: what is to be told, and how often it has been told (SWIM, section 4.1).

Rules. The piece that was told the fewest times goes first. Each piece is dropped after λ·log2 N
tellings: by then all have heard it with high probability, and the cost of a packet does not grow.
News gets a number of bytes, so it never crowds messages out of a datagram, but one row always goes,
however long it is. A suspicion is told once for each accuser, because whoever hears it counts the
accusers.
"""

from collections.abc import Callable
from heapq import nsmallest
from math import ceil, log2

from flc_udp.model.dots import VISITOR, NodeId
from flc_udp.wire.packing import packed_row
from flc_udp.wire.rows import MemberRow

TRANSMITS_FACTOR = 2
"""A piece of news is told this many times the binary logarithm of the number of members."""

ROW_BYTES_LEAST = 48
"""No row is shorter. It has two ids of 10 bytes, an address, numbers and headers."""


class News(dict[NodeId, dict[NodeId, int]]):
    """{subject: {accuser: times told}}. The accuser is a visitor's id, except in suspicions."""

    def put(self, node: NodeId, accuser: NodeId = VISITOR) -> None:
        """What is believed of a member changed. Everything told before is old."""
        self[node] = {accuser: 0}

    def confirm(self, node: NodeId, accuser: NodeId) -> None:
        """A suspicion has one more accuser."""
        self.setdefault(node, {})[accuser] = 0

    def take(
        self,
        row_of: Callable[[NodeId], MemberRow | None],
        members: int,
        listeners: int,
        bytes_max: int,
    ) -> tuple[MemberRow, ...]:
        """The rows to tell to this many listeners out of `members`, within `bytes_max` bytes."""
        if not self:
            return ()
        limit = TRANSMITS_FACTOR * ceil(log2(members + 1))
        told = ((n, node, by) for node, news in self.items() for by, n in news.items())
        rows: list[MemberRow] = []
        for times, node, accuser in nsmallest(bytes_max // ROW_BYTES_LEAST, told):
            row = row_of(node)
            if row is None:
                del self[node]
                continue
            if row.accuser != accuser:
                row = row._replace(accuser=accuser)
            bytes_max -= len(packed_row(row))
            # The first goes at any size. Else a row with many tags would keep all others back.
            if bytes_max < 0 and rows:
                break
            self._count(node, accuser, times + listeners, limit)
            rows.append(row)
        return tuple(rows)

    def _count(self, node: NodeId, accuser: NodeId, times: int, limit: int) -> None:
        self[node][accuser] = times
        if times >= limit:
            del self[node][accuser]
            if not self[node]:
                del self[node]
