"""Who is alive: how nodes join and leave, and how suspicions and deaths come about.

The detector says whose probes failed, and `claims` decides what is believed. This module takes
packets about liveness, and decides when this node accuses, tells its news, joins and goes.

    a probe round fails        ─▶ suspect ── not refuted in time ─▶ dead ── after long ─▶ reaped
    its subject hears of it    ─▶ alive, at an incarnation above that of the accusation

Rules. Packets about liveness leave in the turn in which they are decided, whatever else waits. News
is pushed to a few members while it is fresh, and piggybacked on probes afterwards. A node that
suspects many others doubts itself. Rows that come from a disk or a setting are addresses to ask,
never claims. An address at which nobody answers is asked ever more rarely, and for ever.
"""

from collections.abc import Iterable
from typing import assert_never

from flc_udp.core.effects import Send
from flc_udp.core.liveness.claims import Claims, claims_of
from flc_udp.core.liveness.detector import Detector
from flc_udp.core.liveness.health import Change
from flc_udp.core.liveness.leaving import Leaving
from flc_udp.core.liveness.members import MemberTable, Rows
from flc_udp.core.liveness.rejoin import Rejoin
from flc_udp.core.liveness.roster import Roster
from flc_udp.core.shared import CoreMachine, Shared
from flc_udp.model.address import Address
from flc_udp.model.dots import VISITOR, NodeId
from flc_udp.model.units import MS_US, NEVER, SECOND_US, Micros, Millis
from flc_udp.wire import packets as wire
from flc_udp.wire.packets import Leave, LivenessPacket, Packet
from flc_udp.wire.rows import MemberRow, State

PUSH_BYTES = 1_100
"""A push of news takes at most this many bytes: a datagram of the smallest size that is allowed."""

NEWS_FANOUT = 3
"""Fresh news of members is pushed to this many of them at once."""

NEWS_PAUSE_US = 200 * MS_US
"""The time between two pushes, as in memberlist. Many claims then share a datagram."""

REAP_INTERVAL_US = 60 * SECOND_US
"""The table is searched for members that died long ago this often, at a wake that comes anyway."""

JOINED = 0
"""The nonce of the ack that answers a join. No ping has it."""

ACCUSED_PERCENT_MAX = 30
"""A node that would accuse a larger share of the live members takes itself for the one cut off."""

ACCUSED_LEAST = 2
"""This many members may always be accused. In a small cluster that is most of it."""


class Membership(CoreMachine):
    """The liveness side of a Replica. Times are in µs."""

    def __init__(self, shared: Shared, me: MemberRow, now: Micros) -> None:
        super().__init__(shared)
        self.members = MemberTable(me, self._settings, self._drops, now)
        self._me = self.members.me
        self.roster = Roster(shared, self.members, now)
        self.detector = Detector(shared, self.members, now)
        self._rejoin = Rejoin(self._settings.rejoin_interval_ms * MS_US, self._random, now)
        self.claims = Claims(shared, self.members, self.detector, self._rejoin)
        self._reap_after_us = self._settings.reap_after_s * SECOND_US
        self._next_reap = self._next_push = now
        self._leaving: Leaving | None = None

    # --- People -----------------------------------------------------------------------------------

    def join(self, seeds: Iterable[Address], now: Micros) -> None:
        """Ask all seeds at once. Those that stay silent are asked again for ever."""
        others = (seed for seed in seeds if seed != self._me.row.address)
        self._send_joins(self._rejoin.join(others, now))

    def forget(self, node: NodeId, now: Micros) -> bool:
        """Take a member that is suspect or dead for one that left. False: it is neither."""
        member = self.members.get(node)
        if member is None or member.row.state in (State.ALIVE, State.LEFT):
            return False
        self._rejoin.answered(member.row.address)
        self.claims.hear(member.row._replace(state=State.LEFT, accuser=VISITOR), now)
        return True

    def leave(self, now: Micros) -> None:
        """Tell the others that this node goes. `has_left` says when it may."""
        row = self._me.row._replace(state=State.LEFT, incarnation=self._me.row.incarnation + 1)
        self.members.refute(row, now)
        self._leaving = Leaving(self._random, now)
        self._wake_leaving(self._leaving, now)

    @property
    def is_leaving(self) -> bool:
        """Whether `leave` was asked for."""
        return self._leaving is not None

    def has_left(self, now: Micros) -> bool:
        """Whether enough members know that this node leaves, or patience ran out."""
        leaving = self._leaving
        return leaving is not None and leaving.is_over(len(self.members.live_by_id()), now)

    # --- The timer --------------------------------------------------------------------------------

    @property
    def wake_at(self) -> int:
        """The first deadline of all the machines."""
        if self._leaving is not None:
            return self._leaving.retry_at
        push_at = self._next_push if self.claims.changed else NEVER
        return min(self.detector.wake_at, self.claims.wake_at, self._rejoin.wake_at, push_at)

    def wake(self, now: Micros) -> None:
        """Start and end what is due."""
        if self._leaving is not None:
            self._wake_leaving(self._leaving, now)
            return
        for node in self.detector.wake(now):
            self._probe_failed(node, now)
        for node in self.claims.suspicions.take_expired(now):
            self.claims.accuse(node, State.DEAD, now)
        self.claims.ask(now)
        silent = self._rejoin.start(len(self.members.live_by_id()), now)
        if silent is not None:
            self._send_joins([silent])
        if now >= self._next_reap:
            self._next_reap = Micros(now + min(self._reap_after_us, REAP_INTERVAL_US))
            self.members.reap(now - self._reap_after_us)

    def _probe_failed(self, node: NodeId, now: Micros) -> None:
        """Accuse a member, or confirm its accusers, unless this node doubts itself too much."""
        left = self.detector.said_left.pop(node, None)
        if left is not None:
            self.claims.hear(left, now)
            return
        live = len(self.members.live_by_id())
        mine = self.claims.suspicions.accused_by(self._me.row.id)
        limit = max(ACCUSED_LEAST, ACCUSED_PERCENT_MAX * live // 100)
        if self._settings.lifeguard and mine >= limit:
            self.detector.health.note(Change.PROBE_FAILED, now)
            return
        self.claims.accuse(node, State.SUSPECT, now)

    def _wake_leaving(self, leaving: Leaving, now: Micros) -> None:
        chosen = leaving.choose(self.members.live(), now)
        if chosen:
            to = tuple(member.row.address for member in chosen)
            self._out.append(Send(to, (Leave(leaving.nonce, self._me.row),)))

    def stalled(self, lag_us: int, now: Micros) -> None:
        """This node did not run for this time at most, which does not count for anybody else."""
        if not self._settings.lifeguard:
            return
        self.detector.probes.move(lag_us)
        self.claims.suspicions.move(lag_us)
        # A long stall is no more evidence than a short one, because no deadline counts its time.
        self.detector.health.note(Change.STALLED, now)

    def push_news(self, now: Micros) -> None:
        """Tell a few members what changed, at once after a quiet moment, else after a pause."""
        if not self.claims.changed or now < self._next_push:
            return
        self.claims.changed = False
        live = self.members.live()
        chosen = self._random.sample(live, min(NEWS_FANOUT, len(live)))
        rows = self.members.take_news(len(chosen), PUSH_BYTES) if chosen else ()
        if rows:
            self._next_push = Micros(now + NEWS_PAUSE_US)
            to = tuple(member.row.address for member in chosen)
            self._out.append(Send(to, (wire.Update(rows),)))

    # --- The network ------------------------------------------------------------------------------

    def receive(  # noqa: C901  # which machine hears of what, on one screen
        self,
        packet: LivenessPacket,
        sender: NodeId,
        source: Address,
        wall: Millis,
        now: Micros,
    ) -> None:
        """Take a packet about liveness, from the node `sender` at the address `source`."""
        match packet:
            case wire.Ping():
                self.detector.receive_ping(packet, sender, source, wall)
                self.roster.compare(packet.members_root, sender, source, now)
            case wire.Ack():
                self._receive_ack(packet, sender, source, now)
            case wire.PingReq():
                self.detector.receive_ping_req(packet, source, now)
            case wire.Nack():
                self.detector.probes.receive_nack(packet.nonce, sender)
            case wire.Relayed():
                self.detector.receive_relayed(packet, now)
            case wire.Join():
                self._receive_join(packet, sender, source, now)
            case Leave():
                self._receive_leave(packet, sender, source, now)
            case wire.Update(rows):
                self._hear_all(rows, sender, source, now, is_news=True)
            case wire.Members(rows):
                self._receive_members(rows, sender, source, now)
            case wire.MemberRanges():
                self.roster.receive_ranges(packet, source)
            case wire.MemberDigest():
                self._hear_table(packet.rows, sender, source, now)
                self.roster.receive_digest(packet, source)
            case _:
                assert_never(packet)

    def _answered(self, sender: NodeId, source: Address) -> None:
        """Somebody was heard at this address, who is asked no more if it counts as alive here.

        A seed whose row is not here yet is asked again. So is a member that is dead here: it may
        never have heard so, and after a restart it may remember nobody.
        """
        member = self.members.get(sender)
        if member is not None and member.is_live:
            self._rejoin.answered(source)

    def _receive_ack(self, ack: wire.Ack, sender: NodeId, source: Address, now: Micros) -> None:
        self._answered(sender, source)
        if self._leaving is not None and self._leaving.receive_ack(ack.nonce, sender):
            return
        self.claims.answered(ack.nonce, sender, now)
        self.detector.receive_ack(ack, sender, now)
        self.roster.compare(ack.members_root, sender, source, now)

    def _receive_join(self, join: wire.Join, sender: NodeId, source: Address, now: Micros) -> None:
        """A newcomer came. Tell it this node's row and roots, and what others believe of it."""
        if join.row.id != sender or sender == self._me.row.id:
            return
        row = _placed(join.row, sender, source)
        held = self.members.get(row.id)
        if row is join.row or held is None or held.row.incarnation != row.incarnation:
            self.claims.hear_of(row, sender, source, now, is_news=True)
        self._answered(sender, source)
        held = self.members.get(row.id)
        rows = [self._me.row]
        if held is not None and held.row != join.row:
            rows.append(held.row)
        if row is not join.row:
            rows.append(row)  # It asks where it is seen.
        answer = self.detector.ack(JOINED, 0)
        known = tuple(dict.fromkeys(rows))
        self._out.send(source, wire.Members(known), answer, *self._ghosts((row,)))

    def _receive_leave(self, leave: Leave, sender: NodeId, source: Address, now: Micros) -> None:
        """A member leaves in order. An ack says that this node knows."""
        if leave.row.id == sender and leave.row.state is State.LEFT:
            self.claims.hear_of(leave.row, sender, source, now, is_news=True)
            self._out.send(source, self.detector.ack(leave.nonce, 0))

    def _receive_members(self, rows: Rows, sender: NodeId, source: Address, now: Micros) -> None:
        """A peer told rows that it knows better. Tell it who of them died or left since."""
        self._hear_table(rows, sender, source, now)
        fallen = self.members.fallen(rows)
        if fallen:
            self._out.send(source, wire.Members(tuple(fallen)))

    def _hear_table(self, rows: Rows, sender: NodeId, source: Address, now: Micros) -> None:
        """Hear the claims of an exchange. A member that was unknown here is no news to others."""
        self.roster.learned(self._hear_all(rows, sender, source, now, is_news=False), now)

    def _hear_all(
        self, rows: Rows, sender: NodeId, source: Address, now: Micros, *, is_news: bool
    ) -> int:
        """Hear the claims of one packet, and answer wrong ones. Return how many were believed."""
        before, claims = self._me.row, self.claims
        rows = tuple(_placed(row, sender, source) for row in rows)
        believed = sum(claims.hear_of(row, sender, source, now, is_news=is_news) for row in rows)
        self._answered(sender, source)
        # The teller may be a node that takes this one for dead, and that this one takes for dead:
        # nothing but this answer would tell it.
        refuted = () if self._me.row is before else (wire.Update((self._me.row,)),)
        self._out.send(source, *refuted, *self._ghosts(rows))
        if refuted and claims.bound.is_wildcard and self._me.row.address == before.address:
            # Perhaps others do not reach it because it is seen at another address now.
            self._out.send(source, wire.Join(self._me.row._replace(address=claims.bound)))
        return believed

    def receive_own(self, packets: Iterable[Packet], source: Address, now: Micros) -> None:
        """Packets under this node's own id came: its own, which came back, or those of a clone."""
        rows = tuple(
            row
            for packet in packets
            for row in claims_of(packet)
            if row.id == self._me.row.id and row.boot != self._me.row.boot
        )
        for row in rows:
            self.claims.hear_of_me(row, now)
        if rows:
            # Clones never tell each other of other members: each drops what the other says.
            self._out.send(source, wire.Update((self._me.row,)))

    # --- Packets ----------------------------------------------------------------------------------

    def _ghosts(self, rows: Iterable[MemberRow]) -> tuple[wire.Members, ...]:
        ghosts = tuple(ghost for row in rows if (ghost := self.members.ghost(row)))
        return (wire.Members(ghosts),) if ghosts else ()

    def _send_joins(self, addresses: Iterable[Address]) -> None:
        for address in addresses:
            rows = tuple(m.row for m in self.members if m.row.address == address)
            accusations = tuple(row for row in rows if row.state is not State.ALIVE)
            believed = (wire.Update(accusations),) if accusations else ()
            self._out.send(address, wire.Join(self._me.row), *believed)


def _placed(row: MemberRow, sender: NodeId, source: Address) -> MemberRow:
    """A row, with the address that its own node is seen at where it does not know its address."""
    if row.id == sender and row.address.is_wildcard:
        return row._replace(address=source)
    return row
