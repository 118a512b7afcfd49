"""Exchanges: two nodes whose roots differ find the logs in which they do, in a few small packets.

    probes carry roots ─▶ unequal ─▶ ranges ⇄ digest ─▶ wants

Rules. A digest tells what is durable here; wanted is what is not decided here. At most one exchange
begins in an interval, and exchanges become rarer while they find nothing, unless a `sync` asks for
one now. For a sync a few members are probed, and each answers by the root that it tells in its ack
or in a ping of its own. The first one that differs begins an exchange at once, later ones are paced
as any other, and only the latest sync counts. Whatever was lost, an exchange finds it. Everything
else in the core only makes it quicker.
"""

from collections.abc import Sequence

from flc_udp.config import RANGE_LEVELS, SEAL_BYTES
from flc_udp.core.causal import Causal
from flc_udp.core.liveness.members import MemberTable
from flc_udp.core.notices import LogForked
from flc_udp.core.ranges import FIRST_ID, after, bounds
from flc_udp.core.repair.wants import Wants
from flc_udp.core.shared import CoreMachine, Shared
from flc_udp.model.address import Address
from flc_udp.model.dots import VISITOR, Dot, LogId, NodeId
from flc_udp.model.errors import Drop
from flc_udp.model.units import MS_US, Micros
from flc_udp.wire.packets import Digest, Packet, Ranges
from flc_udp.wire.rows import DigestRow, State

SYNC_MEMBERS = 3
"""A sync asks this many members if none is named. Catch-up asks as many at once."""

DIGEST_GRACES = 10
"""A gap that a digest tells of is given this many graces. Under load a digest is only ahead of the
rumors that bring the same."""

DIGEST_ROW_BYTES = 31
"""A row takes at most this much: an id and a hash of 10 bytes each, a seq of 9, and two heads."""

DIGEST_ROWS_FEW = 32
"""A range with at most this many rows is told and not split further: about a datagram."""

DIGEST_ROWS_MOST = 2_048
"""A digest is answered with at most this many rows, about 64 kB. The next exchange finds the
others."""

RANGES_MOST = 8
"""An answer splits at most this many ranges further. The next exchange finds the others."""

FORKS_MAX = 1_024
"""So many forks are remembered, and told of once."""

DIGEST_HEAD_BYTES = 64
"""The head of a payload and a digest without its rows take at most this much."""


class Exchange(CoreMachine):
    """The exchanges of one node. What they find goes to `wants`. Times are in µs."""

    def __init__(
        self, shared: Shared, causal: Causal, members: MemberTable, wants: Wants, now: Micros
    ) -> None:
        super().__init__(shared)
        self.synced: dict[NodeId, bool | None] = {}
        """{member that the last sync asked: whether its latest root was this node's own}.

        None: it told none yet."""
        self.forks: dict[Dot, int] = {}
        """The forked messages that were told of, and when."""
        self._causal = causal
        self._members = members
        self._wants = wants
        payload_bytes = self._settings.packet_bytes_max - SEAL_BYTES - DIGEST_HEAD_BYTES
        self._rows_max = payload_bytes // DIGEST_ROW_BYTES
        self._shortest_us = self._settings.exchange_interval_ms * MS_US
        self._pause_us = self._shortest_us
        self._next_at = now
        self._was_answered = False
        """Whether a peer told what it holds since the last exchange began."""

    # --- When -------------------------------------------------------------------------------------

    def sync(self, nodes: Sequence[NodeId], now: Micros) -> list[NodeId]:
        """Compare with these members now, or with a few of all if none is named.

        Return those that are alive, which the caller has to probe. The pauses between exchanges
        are short again.
        """
        alive = [m.row.id for m in self._members.live() if m.row.state is State.ALIVE]
        if nodes:
            asked = [node for node in alive if node in nodes]
        else:
            asked = self._random.sample(alive, min(SYNC_MEMBERS, len(alive)))
        self.synced = dict.fromkeys(asked)
        self._pause_us = self._shortest_us
        self._next_at = now
        return asked

    def compare(
        self, root: bytes, catching_up: bool, sender: NodeId, source: Address, now: Micros
    ) -> None:
        """A probe told a peer's root. Start an exchange if it differs and one is due."""
        if sender == VISITOR:
            return
        agrees = root == self._standing.table.root
        member = self._members.get(sender)
        if member is not None:
            member.catching_up, member.root_at = catching_up, now
            if agrees:
                log = self._standing.log
                member.agreed_at, member.agreed_on = now, Dot(log, self._standing.held(log))
        is_asked = self.synced.get(sender, True) is None
        if sender in self.synced:
            self.synced[sender] = agrees
        if agrees or (not is_asked and (catching_up or now < self._next_at)):
            return
        # What waits here for its causes lacks something, and what an exchange found may not be all.
        if is_asked or self._causal.held or self._wants.found:
            self._pause_us = self._shortest_us
            self._wants.found = False
        self._next_at = Micros(now + self._pause_us)
        if self._was_answered:  # What was lost on the way has found nothing out.
            self._pause_us = min(2 * self._pause_us, self._settings.exchange_backoff_ms * MS_US)
        self._was_answered = False
        self._out.send(source, *self._range(LogId(FIRST_ID), 0))

    # --- What differs -----------------------------------------------------------------------------

    def receive_ranges(self, ranges: Ranges, source: Address) -> None:
        """Go on where a peer's hashes differ: split the range further, or tell its rows."""
        self._was_answered = True
        table = self._standing.table
        answer: list[Packet] = []
        splits = 0
        for low in table.differing(*ranges):
            is_large = table.count(*bounds(low, ranges.level + 1)) > DIGEST_ROWS_FEW
            splits += is_large
            if not is_large or splits <= RANGES_MOST:
                answer += self._range(low, ranges.level + 1)
        self._out.send(source, *answer)

    def receive_digest(self, digest: Digest, sender: NodeId, source: Address, now: Micros) -> None:
        """Want what the sender is ahead in, and tell it what it is behind in."""
        self._was_answered = True
        due_at = now + DIGEST_GRACES * self._settings.pull_grace_ms * MS_US
        for row in digest.rows if sender in self._members.live_by_id() else ():
            head = self._causal.head(row.log)
            if self._causal.refused(*row):
                self.tell_fork(Dot(row.log, row.seq), now)
            elif row.seq > head.seq:
                self._wants.add(row.log, row.seq, sender, due_at, by_digest=True)
            elif row.seq == head.seq and row.hash != head.hash:
                self.tell_fork(Dot(row.log, row.seq), now)
        if not digest.reply:
            return
        theirs = {row.log: row.seq for row in digest.rows}
        mine = self._standing.rows(digest.low, digest.high)
        ahead = [row for row in mine if row.seq > theirs.get(row.log, 0)][:DIGEST_ROWS_MOST]
        if ahead:
            self._out.send(source, *self._digests(digest.low, digest.high, ahead, reply=False))

    def tell_fork(self, dot: Dot, now: Micros) -> None:
        """Two messages have one name: a disk or a machine was copied, or it broke. Say it once."""
        self._drops[Drop.FORKED_LOG] += 1
        if dot not in self.forks:
            self._out.append(LogForked(dot))
            origin = self._causal.origins.get(dot.log)
            if origin is not None:
                self._offences.note(origin.node, None, "has a log that was forked", now)
            self.forks[dot] = now
            if len(self.forks) > FORKS_MAX:
                del self.forks[next(iter(self.forks))]

    # --- Packets ----------------------------------------------------------------------------------

    def _range(self, low: LogId, level: int) -> list[Packet]:
        """Describe a range of logs: by its rows if they are few, else by hashes of its parts."""
        first, last = bounds(low, level)
        table = self._standing.table
        if level < RANGE_LEVELS and table.count(first, last) > DIGEST_ROWS_FEW:
            return [Ranges(first, level, table.hashes(first, level))]
        return self._digests(first, last, self._standing.rows(first, last), reply=True)

    def _digests(
        self, low: LogId, high: LogId, rows: list[DigestRow], *, reply: bool
    ) -> list[Packet]:
        """The rows in as many digests as it takes. Together their ranges cover low..high."""
        digests: list[Packet] = []
        start = low
        for at in range(0, max(len(rows), 1), self._rows_max):
            part = tuple(rows[at : at + self._rows_max])
            is_last = at + self._rows_max >= len(rows)
            end = high if is_last else part[-1].log
            digests.append(Digest(start, end, reply, part))
            start = after(end)
        return digests
