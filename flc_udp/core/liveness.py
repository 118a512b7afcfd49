"""Who is alive: probes, suspicion, refutation, joining and leaving, told in packets.

The member table believes claims by one order; this file decides which claims this node makes.

    nobody answers three pings  ─▶ suspect ── not refuted in time ─▶ dead
    its subject hears either    ─▶ alive, at an incarnation above the accusation's

Rules. Liveness packets go out in the turn they are decided in, whatever else waits. News is pushed
to a few members when it is fresh and piggybacked on probes afterwards. Rows that came from a disk
or a setting are addresses to ask, never claims. An address nobody answers at is asked ever more
rarely and never given up.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from random import Random

from flc_udp.config import Settings
from flc_udp.core.effects import Effect, Notice, Send
from flc_udp.core.members import Member, Members
from flc_udp.core.probe import Probe, Rejoin, Suspicions
from flc_udp.core.standing import Standing
from flc_udp.model.address import Address
from flc_udp.model.dots import VISITOR, NodeId
from flc_udp.wire.packets import (
    Ack,
    Join,
    Leave,
    MemberRow,
    Packet,
    Ping,
    State,
    Update,
)
from flc_udp.wire.packets import Members as MembersPacket

MS = 1_000
PIGGYBACK_ROWS = 6
"""News rows on a probe: about 60 bytes each, so a probe stays a small datagram."""

NEWS_FANOUT = 4
"""Members that fresh news is pushed to at once."""

LEAVE_WITNESSES = 3
LEAVE_RETRY = 200 * MS
LEAVE_PATIENCE = 1_000 * MS
"""A leaving node waits so long for witnesses; then it goes all the same."""

TOLD_AS = {
    State.ALIVE: "member_alive",
    State.SUSPECT: "member_suspected",
    State.DEAD: "member_died",
    State.LEFT: "member_left",
}


@dataclass(slots=True)
class _Leaving:
    nonce: int
    give_up: int
    retry_at: int
    witnesses: dict[NodeId, None]


class Liveness:
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
        self.members = Members(me, settings.members_max, now)
        self.standing = standing
        self.changed = True
        self._random = random
        self._out = out
        self._probe = Probe(
            random, settings.probe_interval_ms * MS, settings.probe_timeout_ms * MS, now
        )
        self._suspicions = Suspicions(settings.suspect_timeout_ms * MS)
        self._rejoin = Rejoin(settings.rejoin_interval_ms * MS, now)
        self._exchange_interval = settings.exchange_interval_ms * MS
        self._next_exchange = now
        self._leaving: _Leaving | None = None

    # --- The user ---------------------------------------------------------------------------

    def join(self, seeds: Iterable[Address], now: int) -> None:
        """Ask all seeds at once; those that stay silent are asked again for ever."""
        self._rejoin.add((seed for seed in seeds if seed != self.me.address), now)
        self._send_joins(self._rejoin.start_all(now))

    def leave(self, now: int) -> None:
        """Tell the others that this node goes; `has_left` when it may."""
        row = self.me._replace(state=State.LEFT, incarnation=self.me.incarnation + 1)
        self.members.refute(row, now)
        nonce = self._random.getrandbits(64)
        self._leaving = _Leaving(nonce, now + LEAVE_PATIENCE, now, {})
        self._wake_leaving(now)

    @property
    def is_leaving(self) -> bool:
        """Whether `leave` was asked for."""
        return self._leaving is not None

    def has_left(self, now: int) -> bool:
        """Whether enough members know that this node leaves, or patience ran out."""
        leaving = self._leaving
        if leaving is None:
            return False
        witnesses = min(LEAVE_WITNESSES, len(self.members.live()))
        return len(leaving.witnesses) >= witnesses or now >= leaving.give_up

    @property
    def me(self) -> MemberRow:
        """This node's own row."""
        return self.members.me.row

    # --- The timer --------------------------------------------------------------------------

    @property
    def wake_at(self) -> int:
        """The next deadline of any of the machines."""
        if self._leaving is not None:
            return self._leaving.retry_at
        times = (self._probe.wake_at, self._suspicions.wake_at, self._rejoin.wake_at)
        return min(at for at in times if at is not None)

    def wake(self, now: int) -> None:
        """Start and end what is due."""
        if self._leaving is not None:
            self._wake_leaving(now)
            return
        for node, tries_left in self._probe.take_overdue(now):
            self._ping_failed(node, tries_left, now)
        target = self._probe.start(self._targets, now)
        if target is not None:
            self._ping(target, self._probe.ask(target, now))
        for node in self._suspicions.take_expired(now):
            self._accuse(node, State.DEAD, now)
        silent = self._rejoin.start(now)
        if silent is not None:
            self._send_joins([silent])

    def probe_now(self, nodes: Iterable[NodeId], now: int) -> None:
        """Ask these members at once: their acks say what they hold."""
        for node in nodes:
            member = self.members.get(node)
            if member is not None and member.is_live:
                self._ping(node, self._probe.ask(node, now))

    def push_news(self) -> None:
        """Tell a few members of what changed in this turn."""
        live = self.members.live()
        if not self.changed or not live:
            return
        self.changed = False
        rows = self.members.take_news(PIGGYBACK_ROWS)
        if rows:
            chosen = self._random.sample(live, min(NEWS_FANOUT, len(live)))
            to = tuple(member.row.address for member in chosen)
            self._out.append(Send(to, (Update(rows),)))

    # --- The network ------------------------------------------------------------------------

    def receive_ping(self, ping: Ping, sender: NodeId, source: Address, now: int) -> None:
        """Answer, and tell the prober what is believed of it where that is not `alive`."""
        standing = self.standing
        ack = Ack(
            ping.nonce,
            standing.root.value(),
            self.members.root.value(),
            standing.catching_up,
            standing.held(ping.log),
        )
        self._send(source, ack, *self._news_for(sender))
        self._compare(ping.members_root, sender, source, now)

    def receive_ack(self, ack: Ack, sender: NodeId, source: Address, now: int) -> None:
        """A probe was answered, or somebody witnessed our leaving."""
        self._rejoin.answered(source)
        leaving = self._leaving
        if leaving is not None and ack.nonce == leaving.nonce:
            leaving.witnesses[sender] = None
            return
        rtt = self._probe.receive_ack(ack.nonce, sender, now)
        member = self.members.get(sender)
        if rtt is not None and member is not None:
            member.rtt = rtt
        self._compare(ack.members_root, sender, source, now)

    def receive_join(self, join: Join, sender: NodeId, source: Address, now: int) -> None:
        """A newcomer: believe its row, answer with all of ours, its own as held here too."""
        row = join.row
        if row.id != sender or sender == self.me.id:
            return
        if row.address.is_wildcard:
            row = row._replace(address=source)
        self._hear(row, now)
        self._rejoin.answered(source)
        self._send(source, MembersPacket(self.members.rows()))

    def receive_rows(self, rows: tuple[MemberRow, ...], source: Address, now: int) -> None:
        """Claims about members, from whomever."""
        self._rejoin.answered(source)
        for row in rows:
            self._hear(row, now)

    def receive_leave(self, leave: Leave, sender: NodeId, source: Address, now: int) -> None:
        """An orderly departure: witnessed by an ack."""
        if leave.row.id == sender and leave.row.state is State.LEFT:
            self._hear(leave.row, now)
            root = self.standing.root.value()
            self._send(source, Ack(leave.nonce, root, self.members.root.value(), False, 0))

    # --- Claims -----------------------------------------------------------------------------

    def _hear(self, row: MemberRow, now: int) -> None:
        if row.id == self.me.id:
            self._hear_of_me(row, now)
            return
        if row.address.is_wildcard:
            return
        before = self.members.get(row.id)
        state_before = None if before is None else before.row.state
        if not self.members.apply(row, now):
            return
        self.changed = True
        if row.state is State.SUSPECT:
            self._suspicions.start(row.id, now)
        else:
            self._suspicions.clear(row.id)
        if row.state is State.DEAD:
            self._rejoin.add((row.address,), now)
        elif row.state is State.ALIVE:
            self._rejoin.answered(row.address)
        if row.state != state_before:
            self._tell(row)

    def _hear_of_me(self, row: MemberRow, now: int) -> None:
        """Refute what is said of this node if it is not what this node says itself."""
        me = self.me
        seen_at = row.address if me.address.is_wildcard else me.address
        # Any difference counts, not the state alone: with a restored disk a run may begin at the
        # incarnation of one that was lost with it.
        contested = row.incarnation >= me.incarnation and row != me
        if self.is_leaving or not (contested or seen_at != me.address):
            return
        incarnation = max(row.incarnation, me.incarnation) + 1
        self.members.refute(me._replace(incarnation=incarnation, address=seen_at), now)
        self.changed = True
        self._out.append(
            Notice("refuted", {"claim": row.state.name.lower(), "incarnation": incarnation})
        )

    def _ping_failed(self, node: NodeId, tries_left: int, now: int) -> None:
        member = self.members.get(node)
        if member is None or not member.is_live:
            return
        if tries_left > 0:
            self._ping(node, self._probe.ask(node, now, tries_left))
        elif member.row.state is State.ALIVE:
            self._accuse(node, State.SUSPECT, now)

    def _accuse(self, node: NodeId, state: State, now: int) -> None:
        member = self.members.get(node)
        if member is not None and member.is_live:
            self._hear(member.row._replace(state=state), now)

    def _tell(self, row: MemberRow) -> None:
        fields = {"id": row.id.hex(), "member": row.name, "address": str(row.address)}
        self._out.append(Notice(TOLD_AS[row.state], fields))

    # --- Packets ----------------------------------------------------------------------------

    def _targets(self) -> list[NodeId]:
        return [member.row.id for member in self.members.live()]

    def _ping(self, node: NodeId, nonce: int) -> None:
        standing = self.standing
        ping = Ping(
            nonce,
            standing.root.value(),
            self.members.root.value(),
            standing.catching_up,
            standing.log,
        )
        self._send(self.members[node].row.address, ping, *self._news_for(node))

    def _news_for(self, node: NodeId) -> tuple[Packet, ...]:
        """News to piggyback; who is not believed alive hears that first, so that it can refute."""
        rows = self.members.take_news(PIGGYBACK_ROWS)
        about = None if node == VISITOR else self.members.get(node)
        if about is not None and about.row.state is not State.ALIVE and about.row not in rows:
            rows = (about.row, *rows)
        return (Update(rows),) if rows else ()

    def _compare(self, root: bytes, sender: NodeId, source: Address, now: int) -> None:
        """Unequal member tables are exchanged whole, at most once an interval."""
        if sender == VISITOR or root == self.members.root.value() or now < self._next_exchange:
            return
        self._next_exchange = now + self._exchange_interval
        self._send(source, Join(self.me))

    def _send_joins(self, addresses: Iterable[Address]) -> None:
        for address in addresses:
            believed = [m.row for m in self._at(address) if m.row.state is not State.ALIVE]
            accusations = (Update(tuple(believed)),) if believed else ()
            self._send(address, Join(self.me), *accusations)

    def _at(self, address: Address) -> list[Member]:
        return [member for member in self.members if member.row.address == address]

    def _wake_leaving(self, now: int) -> None:
        leaving = self._leaving
        assert leaving is not None
        if now < leaving.retry_at:
            return
        retry = now + LEAVE_RETRY
        leaving.retry_at = min(retry, leaving.give_up) if now < leaving.give_up else retry
        live = [m for m in self.members.live() if m.row.id not in leaving.witnesses]
        chosen = self._random.sample(live, min(2 * LEAVE_WITNESSES, len(live)))
        if chosen:
            to = tuple(member.row.address for member in chosen)
            self._out.append(Send(to, (Leave(leaving.nonce, self.me),)))

    def _send(self, to: Address, *packets: Packet) -> None:
        self._out.append(Send((to,), packets))
