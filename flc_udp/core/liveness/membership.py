"""Who is alive: joining and leaving, claims and refutations, suspicion and death.

The detector says whose probes failed, `claims` what is believed and what follows from it; this file
answers packets and decides when this node accuses, tells its news, joins and goes.

    a probe round fails          ─▶ suspect ── not refuted in time ─▶ dead ── long ─▶ reaped
    its subject hears either     ─▶ alive, at an incarnation above the accusation's

Rules. Membership packets go out in the turn they are decided in, whatever else waits. News is
pushed to a few members when it is fresh and piggybacked on probes afterwards. Many suspicions of
this node's own are a sign about this node. Rows that came from a disk or a setting are addresses to
ask, never claims. An address nobody answers at is asked ever more rarely and never given up.
"""

from __future__ import annotations

from collections.abc import Iterable
from random import Random
from typing import assert_never

from flc_udp.config import Settings
from flc_udp.core.effects import Effect, Send
from flc_udp.core.liveness.claims import Claims, claims_of
from flc_udp.core.liveness.detector import Detector
from flc_udp.core.liveness.health import Change
from flc_udp.core.liveness.leaving import Leaving
from flc_udp.core.liveness.members import MemberTable
from flc_udp.core.liveness.rejoin import Rejoin
from flc_udp.core.liveness.roster import Roster
from flc_udp.core.standing import Standing
from flc_udp.model.address import Address
from flc_udp.model.dots import VISITOR, NodeId
from flc_udp.model.units import MS_US
from flc_udp.wire.packets import (
    Ack,
    Join,
    Leave,
    MemberDigest,
    MemberRanges,
    MemberRow,
    Members,
    Nack,
    Packet,
    Ping,
    PingReq,
    Relayed,
    State,
    Update,
)

PUSH_BYTES = 1_100
"""News of one push: a datagram of its own, of the least size one may have."""

NEWS_PAUSE = 200 * MS_US
"""Between two pushes, as memberlist gossips: a storm of claims shares its datagrams."""

REAP_INTERVAL = 60_000 * MS_US
"""The table is looked through for the long dead so often, at a wake that comes anyway."""

JOINED = 0
"""Nonce of the ack that answers a join: no ping has it."""

NEWS_FANOUT = 3
"""Fresh news of members is pushed to this many of them at once."""

ACCUSED_PERCENT_MAX = 30
"""A node that would accuse a larger share of the live members holds itself for the one cut off."""

ACCUSED_LEAST = 2
"""So many may always be accused: in a small cluster that is most of it."""


class Membership:
    """The liveness half of a Replica. Effects go to `out`, the list the Replica hands round."""

    def __init__(
        self,
        settings: Settings,
        me: MemberRow,
        standing: Standing,
        random: Random,
        out: list[Effect],
        now: int,
    ) -> None:
        self.members = MemberTable(me, settings, now)
        self.roster = Roster(settings, self.members, out, now)
        self.detector = Detector(settings, self.members, standing, random, out, now)
        self._rejoin = Rejoin(settings.rejoin_interval_ms * MS_US, random, now)
        self.claims = Claims(settings, self.members, self.detector, self._rejoin, random, out)
        self._random = random
        self._out = out
        self._settings = settings
        self._reap_after = settings.reap_after_s * 1_000 * MS_US
        self._next_reap = self._next_push = now
        self._leaving: Leaving | None = None

    @property
    def me(self) -> MemberRow:
        """This node's own row."""
        return self.members.me.row

    # --- The user ---------------------------------------------------------------------------

    def join(self, seeds: Iterable[Address], now: int) -> None:
        """Ask all seeds at once; those that stay silent are asked again for ever."""
        self._rejoin.add((seed for seed in seeds if seed != self.me.address), now)
        self._send_joins(self._rejoin.start_all(now))

    def forget(self, node: NodeId, now: int) -> bool:
        """Hold a member that is not alive for one that left; False where it is alive or unknown."""
        member = self.members.get(node)
        if member is None or member.row.state in (State.ALIVE, State.LEFT):
            return False
        self._rejoin.answered(member.row.address)
        self.claims.hear(member.row._replace(state=State.LEFT, accuser=VISITOR), now)
        return True

    def leave(self, now: int) -> None:
        """Tell the others that this node goes; `has_left` when it may."""
        row = self.me._replace(state=State.LEFT, incarnation=self.me.incarnation + 1)
        self.members.refute(row, now)
        self._leaving = Leaving(self._random, now)
        self._wake_leaving(now)

    @property
    def is_leaving(self) -> bool:
        """Whether `leave` was asked for."""
        return self._leaving is not None

    def has_left(self, now: int) -> bool:
        """Whether enough members know that this node leaves, or patience ran out."""
        leaving = self._leaving
        return leaving is not None and leaving.is_over(len(self.members.live()), now)

    # --- The timer --------------------------------------------------------------------------

    @property
    def wake_at(self) -> int:
        """The next deadline of any of the machines."""
        if self._leaving is not None:
            return self._leaving.retry_at
        push_at = self._next_push if self.claims.changed else None
        times = (
            self.detector.wake_at,
            self.claims.suspicions.wake_at,
            self._rejoin.wake_at,
            push_at,
        )
        return min(at for at in times if at is not None)

    def wake(self, now: int) -> None:
        """Start and end what is due."""
        if self._leaving is not None:
            self._wake_leaving(now)
            return
        for node in self.detector.wake(now):
            self._probe_failed(node, now)
        for node in self.claims.suspicions.take_expired(now):
            self.claims.accuse(node, State.DEAD, now)
        silent = self._rejoin.start(len(self.members.live()), now)
        if silent is not None:
            self._send_joins([silent])
        if now >= self._next_reap:
            self._next_reap = now + min(self._reap_after, REAP_INTERVAL)
            self.members.reap(now - self._reap_after)

    def stalled(self, lag: int, now: int) -> None:
        """This node was not running for so long at most: nobody else's time ran."""
        if not self._settings.lifeguard:
            return
        self.detector.move(lag)
        self.claims.suspicions.move(lag)
        intervals = lag // (self._settings.probe_interval_ms * MS_US)
        for _ in range(min(1 + intervals, self._settings.local_health_max)):
            self.detector.health.note(Change.STALLED, now)

    def push_news(self, now: int) -> None:
        """Tell a few members of what changed: at once after a quiet moment, else a pause later."""
        if not self.claims.changed or now < self._next_push:
            return
        self.claims.changed = False
        live = self.members.live()
        chosen = self._random.sample(live, min(NEWS_FANOUT, len(live)))
        rows = self.members.take_news(len(chosen), PUSH_BYTES) if chosen else ()
        if rows:
            self._next_push = now + NEWS_PAUSE
            to = tuple(member.row.address for member in chosen)
            self._out.append(Send(to, (Update(rows),)))

    # --- The network ------------------------------------------------------------------------

    def receive(
        self,
        packet: PingReq | Nack | Relayed | Join | Leave | Update,
        sender: NodeId,
        source: Address,
        now: int,
    ) -> None:
        """What only liveness is concerned with, but for tables."""
        match packet:
            case PingReq():
                self.detector.receive_ping_req(packet, source, now)
            case Nack():
                self.detector.receive_nack(packet, sender)
            case Relayed():
                self.detector.receive_relayed(packet, now)
            case Join():
                self.receive_join(packet, sender, source, now)
            case Leave():
                self.receive_leave(packet, sender, source, now)
            case Update(rows):
                self.receive_rows(rows, sender, source, now)
            case _:
                assert_never(packet)

    def receive_table_packet(
        self,
        packet: Members | MemberRanges | MemberDigest,
        sender: NodeId,
        source: Address,
        now: int,
    ) -> None:
        """Parts of the member table, and what compares it."""
        match packet:
            case Members(rows):
                self.receive_table(rows, sender, source, now)
            case MemberRanges():
                self.roster.receive_ranges(packet, source)
            case MemberDigest():
                self.receive_digest(packet, sender, source, now)
            case _:
                assert_never(packet)

    def receive_probe(
        self, probe: Ping | Ack, sender: NodeId, source: Address, wall: int, now: int
    ) -> None:
        """A ping or an ack came: the detector has the answer, this compares member tables."""
        if isinstance(probe, Ping):
            self.detector.receive_ping(probe, sender, source, wall)
        else:
            self._rejoin.answered(source)
            leaving = self._leaving
            if leaving is not None and leaving.receive_ack(probe.nonce, sender):
                return
            self.detector.receive_ack(probe, sender, now)
        self.roster.compare(probe.members_root, sender, source, now)

    def receive_join(self, join: Join, sender: NodeId, source: Address, now: int) -> None:
        """A newcomer: believe its row, tell where we stand, and what is held of it if not that."""
        row = join.row
        if row.id != sender or sender == self.me.id:
            return
        if row.address.is_wildcard:
            row = row._replace(address=source)
        self.claims.hear(row, now)
        self._rejoin.answered(source)
        held = self.members.get(row.id)
        rows = (self.me,) if held is None or held.row == join.row else (self.me, held.row)
        answer = self.detector.ack(JOINED, 0)
        self._send(source, Members(rows), answer, *self._ghosts((row,)))

    def receive_digest(
        self, digest: MemberDigest, sender: NodeId, source: Address, now: int
    ) -> None:
        """A peer's members of one range: believe what is new in it, tell what is better here."""
        self._hear_table(digest.rows, sender, source, now)
        self.roster.receive_digest(digest, source)

    def receive_table(
        self, rows: tuple[MemberRow, ...], sender: NodeId, source: Address, now: int
    ) -> None:
        """What a peer knows better: believe it, and tell who died or left since it was true."""
        self._hear_table(rows, sender, source, now)
        fallen = self.members.fallen(rows)
        if fallen:
            self._send(source, Members(tuple(fallen)))

    def _hear_table(
        self, rows: tuple[MemberRow, ...], sender: NodeId, source: Address, now: int
    ) -> None:
        """Claims of an exchange: who was unknown is no news to others."""
        self.roster.learned(self._hear_all(rows, sender, source, now, is_news=False), now)

    def receive_rows(
        self, rows: tuple[MemberRow, ...], sender: NodeId, source: Address, now: int
    ) -> None:
        """News of members, from whomever."""
        self._hear_all(rows, sender, source, now, is_news=True)

    def _hear_all(
        self,
        rows: tuple[MemberRow, ...],
        sender: NodeId,
        source: Address,
        now: int,
        *,
        is_news: bool,
    ) -> int:
        """Hear claims of one packet and answer those that are wrong; how many were believed."""
        self._rejoin.answered(source)
        before, claims = self.me, self.claims
        believed = sum(
            claims.hear(claims.doubted(row, sender, now), now, is_news=is_news) for row in rows
        )
        # Who told it may be nobody we would tell otherwise: it holds us for dead, we hold it so.
        refuted = () if self.me is before else (Update((self.me,)),)
        if answer := (*refuted, *self._ghosts(rows)):
            self._send(source, *answer)
        return believed

    def receive_own(self, packets: Iterable[Packet], source: Address, now: int) -> None:
        """Packets under this node's own id: its own, come back, or those of its clone."""
        rows = tuple(
            row
            for packet in packets
            for row in claims_of(packet)
            if row.id == self.me.id and row.boot != self.me.boot
        )
        for row in rows:
            self.claims.hear_of_me(row, now)
        if rows:
            # Clones tell each other of other members never: each drops what the other says.
            self._send(source, Update((self.me,)))

    def receive_leave(self, leave: Leave, sender: NodeId, source: Address, now: int) -> None:
        """An orderly departure: witnessed by an ack."""
        if leave.row.id == sender and leave.row.state is State.LEFT:
            self.claims.hear(leave.row, now)
            self._send(source, self.detector.ack(leave.nonce, 0))

    # --- Failures ---------------------------------------------------------------------------

    def _probe_failed(self, node: NodeId, now: int) -> None:
        """Accuse, or confirm who accused before, unless this node doubts itself too much."""
        live = len(self.members.live())
        mine = self.claims.suspicions.accused_by(self.me.id)
        limit = max(ACCUSED_LEAST, ACCUSED_PERCENT_MAX * live // 100)
        if self._settings.lifeguard and mine >= limit:
            self.detector.health.note(Change.PROBE_FAILED, now)
            return
        self.claims.accuse(node, State.SUSPECT, now)

    # --- Packets ----------------------------------------------------------------------------

    def _ghosts(self, rows: Iterable[MemberRow]) -> tuple[Members, ...]:
        ghosts = tuple(ghost for row in rows if (ghost := self.members.ghost(row)))
        return (Members(ghosts),) if ghosts else ()

    def _send_joins(self, addresses: Iterable[Address]) -> None:
        for address in addresses:
            rows = tuple(m.row for m in self.members if m.row.address == address)
            accusations = tuple(row for row in rows if row.state is not State.ALIVE)
            believed = (Update(accusations),) if accusations else ()
            self._send(address, Join(self.me), *believed)

    def _wake_leaving(self, now: int) -> None:
        leaving = self._leaving
        assert leaving is not None
        chosen = leaving.choose(self.members.live(), now)
        if chosen:
            to = tuple(member.row.address for member in chosen)
            self._out.append(Send(to, (Leave(leaving.nonce, self.me),)))

    def _send(self, to: Address, *packets: Packet) -> None:
        self._out.append(Send((to,), packets))
