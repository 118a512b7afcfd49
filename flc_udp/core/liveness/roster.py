"""The roster: two nodes' tables of live members compared by ranges, as their logs are.

    probes carry roots ─▶ unequal ─▶ member-ranges ⇄ member-digest ─▶ members

News reaches everybody within seconds, at a cost that does not grow. The roster finds what news
missed, brings a newcomer the whole table, and merges islands.

Rules. Equal roots cost nothing. At most one exchange begins in an interval. Exchanges become rarer
while they find nothing, and follow at once while they find much, so a newcomer draws a large table
at its own pace. No answer has more than ROWS_MOST rows.
"""

from collections.abc import Iterable

from flc_udp.config import RANGE_LEVELS, SEAL_BYTES
from flc_udp.core.liveness.members import MemberTable
from flc_udp.core.ranges import FIRST_ID, after, bounds
from flc_udp.core.shared import CoreMachine, Shared
from flc_udp.model.address import Address
from flc_udp.model.dots import VISITOR, NodeId
from flc_udp.model.units import MS_US, Micros
from flc_udp.wire.packets import MemberDigest, MemberRanges, Members, Packet
from flc_udp.wire.packing import HEAD_BYTES, packed_row
from flc_udp.wire.rows import MemberRow

ROWS_FEW = 16
"""A range with at most this many members is told and not split further: about a datagram."""

ROWS_MOST = 1_024
"""An answer has at most this many rows, about 80 kB. The next exchange finds the others."""

RANGES_MOST = 8
"""An answer splits at most this many ranges further."""

MUCH = 64
"""When an exchange brought this many members, there are more, so the next one is due soon."""

NEXT_PAUSE_US = 50 * MS_US
"""Before that next exchange the node waits this long for the rest of the answer."""

DIGEST_HEAD_BYTES = 32
"""The size of a digest's fields without its rows, rounded up."""


class Roster(CoreMachine):
    """The exchanges of one node. Times are in µs."""

    def __init__(self, shared: Shared, members: MemberTable, now: Micros) -> None:
        super().__init__(shared)
        settings = self._settings
        self._members = members
        self._shortest_us = settings.exchange_interval_ms * MS_US
        self._pause_us = self._shortest_us
        self._next_exchange = now
        self._learned = 0
        self._rows_bytes = settings.packet_bytes_max - SEAL_BYTES - HEAD_BYTES - DIGEST_HEAD_BYTES

    def compare(self, root: bytes, sender: NodeId, source: Address, now: Micros) -> None:
        """A probe told a peer's root. Start an exchange if it differs and one is due."""
        if sender == VISITOR:
            return
        if root == self._members.table.root:
            self._pause_us = self._shortest_us
        elif now >= self._next_exchange:
            self._next_exchange = Micros(now + self._pause_us)
            self._learned = 0
            self._pause_us = min(2 * self._pause_us, self._settings.exchange_backoff_ms * MS_US)
            self._out.send(source, *self._range(NodeId(FIRST_ID), 0))

    def learned(self, rows: int, now: Micros) -> None:
        """A packet of an answer brought this many rows that were believed."""
        self._learned += rows
        if rows:
            self._pause_us = self._shortest_us
        if self._learned >= MUCH:
            self._next_exchange = Micros(min(self._next_exchange, now + NEXT_PAUSE_US))

    def receive_ranges(self, ranges: MemberRanges, source: Address) -> None:
        """Go on where a peer's hashes differ: split the range further, or tell its rows."""
        answer: list[Packet] = []
        rows = splits = 0
        for low in self._members.table.differing(*ranges):
            packets = self._range(low, ranges.level + 1)
            splits += isinstance(packets[0], MemberRanges)
            rows += sum(len(p.rows) for p in packets if isinstance(p, MemberDigest))
            if splits > RANGES_MOST or rows > ROWS_MOST:
                break
            answer += packets
        self._out.send(source, *answer)

    def receive_digest(self, digest: MemberDigest, source: Address) -> None:
        """Tell the rows that override those in a digest.

        The digest's own rows were heard before.
        """
        better = self._members.better(*digest)[:ROWS_MOST]
        if better:
            self._out.send(source, Members(tuple(better)))

    def _range(self, low: NodeId, level: int) -> list[Packet]:
        """Describe a range of members: by its rows if they are few, else by hashes of its parts."""
        table = self._members.table
        first, last = bounds(low, level)
        if level < RANGE_LEVELS and table.count(first, last) > ROWS_FEW:
            return [MemberRanges(first, level, table.hashes(first, level))]
        return list(self._digests(first, last))

    def _digests(self, low: NodeId, high: NodeId) -> Iterable[MemberDigest]:
        """The rows in as many digests as it takes. Together their ranges cover low..high."""
        members = self._members
        rows: list[MemberRow] = []
        room = self._rows_bytes
        for node in members.table.ids(low, high):
            member = members.get(node)
            assert member is not None
            size = len(packed_row(member.row))
            if size > room:
                yield MemberDigest(low, rows[-1].id, tuple(rows))
                low, rows, room = after(rows[-1].id), [], self._rows_bytes
            rows.append(member.row)
            room -= size
        yield MemberDigest(low, high, tuple(rows))
