"""Anti-entropy: digests that find what is missing anywhere, and pulls that fetch it.

    probes carry roots ─▶ unequal ─▶ ranges ⇄ digest ─▶ wants ─▶ pull ─▶ replay … end ─▶ pull …
    hold-back and `have` tell of live gaps sooner ──────▲ └─ many ─▶ catch-up ─▶ pulls …

Rules. `exchange` finds what is missing and `wants` remembers it; here it is asked for, of one who
holds it, until it came or nobody has it. What was merely overtaken on its way gets a grace first.
Many missing messages are `catch_up`'s, so that repair of the few stays quick beside it.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from random import Random
from typing import assert_never

from flc_udp.config import CATCHING_UP_MESSAGES, SEAL_BYTES, STAMP_LIMIT, Settings
from flc_udp.core.causal import Causal
from flc_udp.core.effects import Adopt, Effect, Send, StreamBase, StreamReplay
from flc_udp.core.liveness.members import Member, MemberTable
from flc_udp.core.notices import HistoryTruncated
from flc_udp.core.push.links import Links
from flc_udp.core.repair.base import BaseTake
from flc_udp.core.repair.catch_up import PEERS_MAX, CatchUp, StampWindow
from flc_udp.core.repair.exchange import Exchange
from flc_udp.core.repair.pieces import Pieces
from flc_udp.core.repair.pulls import REPAIR_MESSAGES_MAX
from flc_udp.core.repair.wants import Wants
from flc_udp.core.standing import Standing
from flc_udp.model.address import Address
from flc_udp.model.dots import Dot, LogId, NodeId, Spans
from flc_udp.wire.packets import (
    Base,
    BaseEnd,
    BasePull,
    Digest,
    Have,
    Packet,
    Piece,
    Pull,
    Ranges,
    Replay,
    ReplayEnd,
    Want,
)

MS = 1_000

DIGEST_HEAD_BYTES = 64
"""Seal's payload head and the digest's other fields, rounded up."""

WANT_BYTES = 32
"""A want without pieces at its longest: an id of 10 bytes, two seqs of 9, two arrays' headers."""

PIECE_NUMBER_BYTES = 3
"""A piece's number in a want at its longest."""

PIECE_SPANS_MAX = 24
"""Spans of missing pieces one want names."""

SPANS_BYTES = 5 * WANT_BYTES + 2 * PIECE_SPANS_MAX * PIECE_NUMBER_BYTES
"""What one log's spans take at most, with pieces missing of the first."""

SPANS_PER_LOG = 4
"""Gaps of one log that one pull names; the rest is asked for when these are filled."""


class AntiEntropy:
    """The repair half of a Replica. Effects go to `out`, the list the Replica hands round."""

    def __init__(
        self,
        settings: Settings,
        standing: Standing,
        links: Links,
        causal: Causal,
        members: MemberTable,
        random: Random,
        out: list[Effect],
        now: int,
    ) -> None:
        self.pieces = Pieces()
        self.wants = Wants(settings.pull_timeout_ms * MS, settings.repair_timeout_ms * MS)
        self.catch_up = CatchUp(settings.pull_timeout_ms * MS, settings.pull_bytes_max)
        self.base = BaseTake(settings.pull_timeout_ms * MS)
        self.exchange = Exchange(settings, standing, causal, members, self.wants, random, out, now)
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
        self._helpers: list[NodeId] = []
        self._given_up: list[LogId] = []
        self._ended: dict[LogId, None] = {}  # Logs of windows that came: to be counted again.

    @property
    def wake_at(self) -> int | None:
        """When a gap is due or a pull has been silent too long."""
        times = (self.wants.wake_at, self.catch_up.wake_at, self.base.deadline)
        return min((at for at in times if at is not None), default=None)

    def is_due(self, now: int) -> bool:
        """Whether `wake` is."""
        due = self.wake_at
        return due is not None and due <= now

    @property
    def is_idle(self) -> bool:
        """Whether nothing is wanted of anybody, and that has been reckoned."""
        return self.wants.is_idle and not self.catch_up.logs and not self.base.is_on

    @property
    def pulls(self) -> int:
        """How many pulls are under way."""
        return len(self.wants.pulls) + len(self.catch_up.pulls)

    def look_again(self, now: int) -> None:
        """The disk took something: what waited for that may be asked for."""
        self.wants.look_again(now)
        self.catch_up.look_again(now)

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
        if self.is_idle:
            return
        gaps, wants = self._causal.gaps, self.wants
        wants.recount(self._ended, gaps)
        self._ended.clear()
        wants.close_silent(now, gaps)
        self.catch_up.close_silent(now)
        wants.ripen(now, gaps)
        live = [member.row.id for member in self._members.live()]
        found = self._catch_up(live, now, is_busy)
        pulls, found_too = wants.take_due(now, gaps, live, is_busy)
        for peer, spans in pulls:
            self._pull(self._members[peer], spans, now)
        if found or found_too:
            self.exchange.found()
        self._take_base(live, now)
        self._standing.catching_up = wants.to_go >= CATCHING_UP_MESSAGES

    def _catch_up(self, live: list[NodeId], now: int, is_busy: bool) -> bool:
        """Go on with catch-up, or begin it; whether a digest found what it begins with."""
        catch_up, wants = self.catch_up, self.wants
        missing, found = wants.take_many(has_begun=bool(catch_up.logs))
        if missing:
            if not catch_up.logs:
                self._helpers = self._random.sample(live, min(PEERS_MAX, len(live)))
            catch_up.take_over(missing, now)
        before = dict(catch_up.logs)
        peers_of = partial(self._peers_of, dict.fromkeys(live))
        is_full = self._causal.is_half_full
        while window := catch_up.take(now, peers_of, is_busy=is_busy, is_full=is_full):
            self._pull_window(window, now)
        for log in catch_up.take_released():
            wants.give_back(log, before[log], now, self._causal.gaps)
        return found

    def _peers_of(self, live: dict[NodeId, None], log: LogId) -> list[NodeId]:
        """Whom to ask for a log: who told of it, then the others that help with this catch-up."""
        asked = (*self.wants.tellers(log), *self._helpers)
        return [peer for peer in dict.fromkeys(asked) if peer in live]

    # --- The network ------------------------------------------------------------------------

    def receive(
        self,
        packet: Have | Ranges | Digest | ReplayEnd | BasePull | Base | BaseEnd,
        sender: NodeId,
        source: Address,
        now: int,
    ) -> None:
        """What only repair is concerned with."""
        match packet:
            case Have():
                self.receive_have(packet, sender, now)
            case Ranges():
                self.exchange.receive_ranges(packet, source)
            case Digest():
                self.exchange.receive_digest(packet, sender, source, now)
            case ReplayEnd():
                self.receive_end(packet, sender, now)
            case BasePull():
                self._out.append(StreamBase(source, packet))
            case Base():
                self.base.heard(packet, sender, now)
            case BaseEnd():
                self.receive_base_end(packet, sender, source, now)
            case _:
                assert_never(packet)

    def receive_have(self, have: Have, sender: NodeId, now: int) -> None:
        """A peer holds these durably: ask for what is unknown here, if nobody pushes it in time."""
        due = now if have.pull else now + self._have_grace
        for dot in have.dots:
            if not self._causal.knows(dot):
                self.wants.add(dot.log, dot.seq, sender, due)

    def receive_pull(self, pull: Pull, source: Address) -> None:
        """Somebody asks: the Node reads it from the log."""
        heads = ((want.log, want.high, self._standing.head(want.log)) for want in pull.wants)
        # Stamps rise along a log: below its head's nothing of it can be lacking here.
        lacks = (log for log, high, head in heads if head.seq < high and head.stamp < pull.below)
        self._out.append(StreamReplay(source, pull, tuple(dict.fromkeys(lacks))))

    def heard(self, replay: Replay, sender: NodeId, now: int) -> int | None:
        """A part of a replay came: how many messages were asked for; None if they were not.

        0 of what catch-up asked for, which takes it at its turn.
        """
        if self.catch_up.heard(replay, sender, now):
            return 0
        return self.wants.heard(replay.nonce, sender, now)

    def receive_piece(self, piece: Piece, sender: NodeId, now: int) -> tuple[bytes | None, int]:
        """Part of a large message came: the whole, with its last, and how many were asked for."""
        whole = self.pieces.add(piece)
        if self.catch_up.heard_piece(sender, now):
            return whole, self.wants.to_go
        asked = self.wants.heard_any(sender, now)
        if whole is None:
            self.not_taken(piece.log, piece.seq, sender, now)
        return whole, asked

    def receive_end(self, end: ReplayEnd, sender: NodeId, now: int) -> None:
        """A replay ended: what it did not bring is asked for again."""
        if end.floor:
            self.wants.below_floor(end.lacks, sender, end.floor)
        window = self.catch_up.ended(end, sender, now)
        if window is None:
            is_empty = not end.sent and end.next >= STAMP_LIMIT
            self.wants.ended(end.nonce, sender, now, self._causal.gaps, is_empty=is_empty)
        else:
            self._ended.update(dict.fromkeys(window.logs))

    # --- The base ---------------------------------------------------------------------------

    def receive_base_end(self, end: BaseEnd, sender: NodeId, source: Address, now: int) -> None:
        """A page of a base came to its end."""
        following = self.base.ended(end, sender, self._random.getrandbits(64), now)
        if isinstance(following, Adopt):
            live = [member.row.id for member in self._members.live()]
            if not self.wants.needs_base(self._given_up, live, now, self._causal.gaps):
                return  # Who came while it was taken brought it, or may keep it.
            self._out += [HistoryTruncated(following.floor, sender), following]
        elif following is not None:
            self._send(source, [following])

    def _take_base(self, live: list[NodeId], now: int) -> None:
        """What no reachable member keeps is given up for the base of who keeps the most."""
        if self.base.is_on:
            if self.base.deadline is not None and self.base.deadline <= now:
                following = self.base.again(now)
                if following is not None and self.base.peer in live:
                    self._send(self._members[self.base.peer].row.address, [following])
            return
        # Whatever our own floor is: what is missing lies below theirs.
        truncated = self.wants.take_truncated()
        floors = [
            (floor, peer)
            for asked in truncated.values()
            for peer, floor in asked.items()
            if floor and peer in live
        ]
        if floors:
            self._given_up = list(truncated)
            _, peer = min(floors)
            pull = self.base.begin(peer, self._random.getrandbits(64), now)
            self._send(self._members[peer].row.address, [pull])

    # --- Packets ----------------------------------------------------------------------------

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
        for_pieces = any(want.pieces for want in wants)
        self.wants.asked(nonce, peer.row.id, asked, now, for_pieces=for_pieces)
        # Live traffic that did not come by the tree: if it happens again the branch is broken.
        is_live = sum(missing.count() for _, missing in asked) <= REPAIR_MESSAGES_MAX
        graft = is_live and self._links.missed(peer.row.id, now)
        pull = Pull(nonce, self._credit, graft, 0, STAMP_LIMIT, tuple(wants))
        self._send(peer.row.address, [pull])

    def _pull_window(self, window: StampWindow, now: int) -> None:
        wants: list[Want] = []
        room = self._payload_bytes - WANT_BYTES * len(window.logs)
        for log in window.logs:
            missing = list(self._causal.gaps(log, self.wants.upper(log)))
            # All that is missing of a window has to be named, in one datagram.
            spans = SPANS_PER_LOG if room > SPANS_BYTES else 1
            if len(missing) > spans:
                missing[spans - 1 :] = [(missing[spans - 1][0], missing[-1][1])]
            more = list(self._wants_of(log, Spans(missing)))
            room -= sum(WANT_BYTES + PIECE_NUMBER_BYTES * len(w.pieces) for w in more) - WANT_BYTES
            wants += more
        if not wants:
            self.catch_up.nothing_missing(window)
            return
        nonce = self._random.getrandbits(64)
        self.catch_up.asked(nonce, window, now, pieces=any(want.pieces for want in wants))
        peer = self._members[window.peer].row.address
        pull = Pull(nonce, self.catch_up.credit, False, window.after, window.below, tuple(wants))
        self._send(peer, [pull])

    def _wants_of(self, log: LogId, missing: Spans) -> Iterable[Want]:
        for low, high in list(missing)[:SPANS_PER_LOG]:
            pieces = self.pieces.missing(Dot(log, low))[: 2 * PIECE_SPANS_MAX]
            if not pieces:
                yield Want(log, low, high)
                continue
            yield Want(log, low, low, pieces)
            if low < high:
                yield Want(log, low + 1, high)
