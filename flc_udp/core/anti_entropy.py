"""Anti-entropy: digests that find what is missing anywhere, and pulls that fetch it.

    probes carry roots ─▶ unequal ─▶ ranges ⇄ digest ─▶ wants ─▶ pull ─▶ replay … end ─▶ pull …
    hold-back and `have` tell of live gaps sooner ──────▲

Rules. A digest says what is durable here; what is asked for is what is not decided here. At most
one exchange an interval, rarer while exchanges find nothing, unless a `sync` asks for one now.
Whatever was lost, this finds it: everything else in the core is only quicker.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from random import Random

from flc_udp.config import RANGE_LEVELS, SEAL_BYTES, Settings
from flc_udp.core.causal import Causal
from flc_udp.core.effects import Effect, Notice, Replay, Send
from flc_udp.core.members import Member, Members
from flc_udp.core.pieces import Pieces
from flc_udp.core.ranges import FIRST_ID, after, bounds
from flc_udp.core.rumors import Links
from flc_udp.core.standing import Standing
from flc_udp.core.sync import SYNC_MEMBERS, Sync
from flc_udp.core.wants import REPAIR_MESSAGES_MAX, Wants
from flc_udp.model.address import Address
from flc_udp.model.dots import VISITOR, Dot, LogId, NodeId, Spans
from flc_udp.wire.packets import (
    Digest,
    DigestRow,
    Have,
    Packet,
    Pull,
    Ranges,
    ReplayEnd,
    State,
    Want,
)

MS = 1_000

DIGEST_GRACE = 10
"""Graces a gap found by a digest is given: under load the digest is only ahead of the rumors."""

DIGEST_ROW_BYTES = 31
"""A row at its longest: ids and hashes of 10 bytes, a seq of 9, headers."""

DIGEST_HEAD_BYTES = 64
"""Seal's payload head and the digest's other fields, rounded up."""

WANT_BYTES = 29
"""A want at its longest: an id of 10 bytes, two seqs of 9, a header."""

PIECE_NUMBER_BYTES = 3
"""A piece's number in a want at its longest."""

PIECE_SPANS_MAX = 24
"""Spans of missing pieces one want names."""

SPANS_PER_LOG = 4
"""Gaps of one log that one pull names; the rest is asked for when these are filled."""

CATCHING_UP_MESSAGES = 1_000
"""A node that lacks so many says `catching up`, and nobody starts an exchange with it."""

DIGEST_ROWS_FEW = 32
"""Rows of a range that are told rather than split further: about a datagram."""

DIGEST_ROWS_MOST = 2_048
"""Rows that answer one digest, about 64 kB: what is left over the next exchange finds."""

RANGES_MOST = 8
"""Ranges that are split further in one answer: what is left over the next exchange finds."""


class AntiEntropy:
    """The repair half of a Replica. Effects go to `out`, the list the Replica hands round."""

    def __init__(
        self,
        settings: Settings,
        standing: Standing,
        links: Links,
        causal: Causal,
        members: Members,
        random: Random,
        out: list[Effect],
        now: int,
    ) -> None:
        self.pieces = Pieces()
        self.wants = Wants(settings.pull_timeout_ms * MS, settings.repair_timeout_ms * MS)
        self.last_sync = Sync()
        self.forks = 0
        self._standing = standing
        self._links = links
        self._causal = causal
        self._members = members
        self._random = random
        self._out = out
        self._grace = settings.pull_grace_ms * MS
        self._have_grace = settings.have_grace_ms * MS
        self._credit = settings.pull_bytes_max
        self._payload_bytes = settings.packet_bytes_max - SEAL_BYTES - DIGEST_HEAD_BYTES
        self._rows_max = self._payload_bytes // DIGEST_ROW_BYTES
        self._shortest = settings.exchange_interval_ms * MS
        self._longest = settings.exchange_backoff_ms * MS
        self._pause = self._shortest
        self._next_exchange = now

    @property
    def wake_at(self) -> int | None:
        """When a gap is due or a pull has been silent too long."""
        return self.wants.wake_at

    # --- The user ---------------------------------------------------------------------------

    def sync(self, nodes: Sequence[NodeId], now: int) -> list[NodeId]:
        """Compare with these members now, or with a few of all; those alive, whom to probe for it.

        The pacing of exchanges begins anew.
        """
        alive = [m.row.id for m in self._members.live() if m.row.state is State.ALIVE]
        if nodes:
            asked = [node for node in alive if node in nodes]
        else:
            asked = self._random.sample(alive, min(SYNC_MEMBERS, len(alive)))
        self.last_sync = Sync(asked)
        self._pause = self._shortest
        self._next_exchange = now
        return asked

    # --- Gaps -------------------------------------------------------------------------------

    def held_back(self, log: LogId, seq: int, teller: NodeId, now: int) -> None:
        """A message came before its causes: its teller holds them all."""
        self.wants.add(log, seq, teller, now + self._grace)
        arrival = self._causal.held.get(Dot(log, seq))
        if arrival is not None:
            for dot in self._causal.missing(arrival.message):
                self.wants.add(dot.log, dot.seq, teller, now + self._grace)

    def not_taken(self, log: LogId, seq: int, teller: NodeId, now: int) -> None:
        """A message came that there was no room for."""
        self.wants.add(log, seq, teller, now + self._grace)

    def wake(self, now: int, is_busy: bool) -> None:
        """Ask for what is due; `is_busy` while too much that came waits for the disk."""
        if self.wants.is_idle:
            return
        causal = self._causal
        self.wants.close_silent(now, causal.gaps)
        live = [member.row.id for member in self._members.live()]
        pulls, found = self.wants.take_due(now, causal.gaps, live, is_busy)
        for peer, spans in pulls:
            self._pull(self._members[peer], spans, now)
        if found:
            self._pause = self._shortest
        self._standing.catching_up = self.wants.to_go >= CATCHING_UP_MESSAGES

    # --- The network ------------------------------------------------------------------------

    def compare(
        self, root: bytes, catching_up: bool, sender: NodeId, source: Address, now: int
    ) -> None:
        """A probe told a peer's root: start an exchange if it differs and one is due."""
        if sender == VISITOR:
            return
        agrees = root == self._standing.root.value()
        is_asked = self.last_sync.heard(sender, agrees=agrees)
        if agrees or (not is_asked and (catching_up or now < self._next_exchange)):
            return
        if is_asked or self._causal.held:
            self._pause = self._shortest  # What waits here for its causes is missing something.
        self._next_exchange = now + self._pause
        self._pause = min(2 * self._pause, self._longest)
        self._send(source, self._range(FIRST_ID, 0))

    def receive_ranges(self, ranges: Ranges, source: Address) -> None:
        """Go on where a peer's hashes differ: split further, or tell the rows."""
        table = self._standing.table
        answer: list[Packet] = []
        splits = 0
        for low in table.differing(*ranges):
            is_large = table.count(*bounds(low, ranges.level + 1)) > DIGEST_ROWS_FEW
            splits += is_large
            if not is_large or splits <= RANGES_MOST:
                answer += self._range(low, ranges.level + 1)
        self._send(source, answer)

    def receive_digest(self, digest: Digest, sender: NodeId, source: Address, now: int) -> None:
        """Want what its teller leads in; tell it of what it lacks."""
        due = now + DIGEST_GRACE * self._grace
        theirs = {row.log: row for row in digest.rows}
        for row in digest.rows:
            head = self._causal.head(row.log)
            if row.seq > head.seq:
                self.wants.add(row.log, row.seq, sender, due, by_digest=True)
            elif row.seq == head.seq and row.hash != head.hash:
                self._tell_fork(Dot(row.log, row.seq))
        if digest.reply:
            ahead = [
                row
                for row in self._standing.rows(digest.low, digest.high)
                if row.log not in theirs or theirs[row.log].seq < row.seq
            ]
            if ahead:
                some = ahead[:DIGEST_ROWS_MOST]
                self._send(source, self._digests(digest.low, digest.high, some, reply=False))

    def receive_have(self, have: Have, sender: NodeId, now: int) -> None:
        """A peer holds these durably: ask for what is unknown here, if nobody pushes it in time."""
        due = now if have.pull else now + self._have_grace
        for dot in have.dots:
            if not self._causal.knows(dot):
                self.wants.add(dot.log, dot.seq, sender, due)

    def receive_pull(self, pull: Pull, source: Address) -> None:
        """Somebody asks: the Node reads it from the log."""
        self._out.append(Replay(source, pull.nonce, pull.wants, pull.credit))

    def receive_end(self, end: ReplayEnd, sender: NodeId, now: int) -> None:
        """A replay ended: what it did not bring is asked for again."""
        self.wants.ended(end.nonce, sender, now, self._causal.gaps)

    # --- Packets ----------------------------------------------------------------------------

    def _range(self, low: LogId, level: int) -> list[Packet]:
        """A range of logs: its rows where they are few, else the hashes of its parts."""
        first, last = bounds(low, level)
        table = self._standing.table
        if level < RANGE_LEVELS and table.count(first, last) > DIGEST_ROWS_FEW:
            return [Ranges(first, level, table.hashes(first, level))]
        return self._digests(first, last, self._standing.rows(first, last), reply=True)

    def _digests(
        self, low: LogId, high: LogId, rows: list[DigestRow], *, reply: bool
    ) -> list[Packet]:
        """Rows in as many digests as it takes; together their ranges cover low..high."""
        digests: list[Packet] = []
        start = low
        for at in range(0, max(len(rows), 1), self._rows_max):
            part = tuple(rows[at : at + self._rows_max])
            is_last = at + self._rows_max >= len(rows)
            end = high if is_last else part[-1].log
            digests.append(Digest(start, end, reply, part))
            start = after(end)
        return digests

    def _send(self, to: Address, packets: list[Packet]) -> None:
        if packets:
            self._out.append(Send((to,), tuple(packets)))

    def _pull(self, peer: Member, spans: list[tuple[LogId, Spans]], now: int) -> None:
        nonce = self._random.getrandbits(64)
        wants: list[Want] = []
        asked: list[tuple[LogId, Spans]] = []
        room = self._payload_bytes
        for log, missing in spans:
            more = list(self._wants_of(log, missing))
            room -= sum(WANT_BYTES + PIECE_NUMBER_BYTES * len(want.pieces) for want in more)
            if asked and room < 0:
                break  # Still due: asked for when this pull ends.
            asked.append((log, missing))
            wants += more
        self.wants.asked(nonce, peer.row.id, asked, now)
        # Live traffic that did not come by the tree: if it happens again the branch is broken.
        is_live = sum(missing.count() for _, missing in asked) <= REPAIR_MESSAGES_MAX
        graft = is_live and self._links.missed(peer.row.id, now)
        self._send(peer.row.address, [Pull(nonce, self._credit, graft, tuple(wants))])

    def _wants_of(self, log: LogId, missing: Spans) -> Iterable[Want]:
        for low, high in list(missing)[:SPANS_PER_LOG]:
            pieces = self.pieces.missing(Dot(log, low))[: 2 * PIECE_SPANS_MAX]
            if not pieces:
                yield Want(log, low, high)
                continue
            yield Want(log, low, low, pieces)
            if low < high:
                yield Want(log, low + 1, high)

    def _tell_fork(self, dot: Dot) -> None:
        self.forks += 1
        self._out.append(Notice("log_forked", {"dot": str(dot)}))
