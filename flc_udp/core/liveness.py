"""Who is alive: joining and leaving, claims and refutations, suspicion and death.

The member table believes claims by one order; the detector says whose probes failed; this file
decides which claims this node makes.

    a probe round fails          ─▶ suspect ── not refuted in time ─▶ dead ── long ─▶ reaped
    its subject hears either     ─▶ alive, at an incarnation above the accusation's

Rules. Liveness packets go out in the turn they are decided in, whatever else waits. News is pushed
to a few members when it is fresh and piggybacked on probes afterwards. Who hears a new suspicion
may verify it at once: independent accusers shorten it (`suspicion`). Many suspicions of this node's
own are a sign about this node. Rows that came from a disk or a setting are addresses to ask, never
claims. An address nobody answers at is asked ever more rarely and never given up.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import log10
from random import Random

from flc_udp.config import Settings
from flc_udp.core.detector import Detector
from flc_udp.core.effects import Effect, Notice, Send
from flc_udp.core.health import SCORE_MAX
from flc_udp.core.members import PUSH_ROWS, Members
from flc_udp.core.rejoin import Rejoin
from flc_udp.core.standing import Standing
from flc_udp.core.suspicion import Suspicions
from flc_udp.model.address import Address
from flc_udp.model.dots import VISITOR, NodeId
from flc_udp.wire.packets import Ack, Join, Leave, MemberRow, Packet, Ping, State, Update
from flc_udp.wire.packets import Members as MembersPacket

MS = 1_000
NEWS_FANOUT = 4
"""Members that fresh news is pushed to at once."""

NEWS_PAUSE = 200 * MS
"""Between two pushes, as memberlist gossips: a storm of claims shares its datagrams."""

LEAVE_WITNESSES = 3
LEAVE_RETRY = 200 * MS
LEAVE_PATIENCE = 5 * LEAVE_RETRY
"""A leaving node waits so long for witnesses; then it goes all the same."""

REAP_INTERVAL = 60_000 * MS
"""The table is looked through for the long dead so often, at a wake that comes anyway."""

ACCUSERS_ENOUGH = 3
"""K of Lifeguard: with so many accusers besides the first a suspicion is at its shortest."""

VERIFIERS = 8
"""About so many members verify a new suspicion by a probe of their own, at any cluster size: that
ACCUSERS_ENOUGH of them are there fails once in 70 times."""

ACCUSED_SHARE = 0.3
"""Of the live members; who would accuse more at once holds itself for the one that is cut off."""

ACCUSED_LEAST = 2
"""So many may always be accused: in a small cluster that is most of it."""

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
        self.detector = Detector(settings, self.members, standing, random, out, now)
        self.changed = True
        self._random = random
        self._out = out
        self._settings = settings
        self._suspicions = Suspicions()
        self._rejoin = Rejoin(settings.rejoin_interval_ms * MS, random, now)
        self._exchange_interval = settings.exchange_interval_ms * MS
        self._next_exchange = now
        self._reap_after = settings.reap_after_s * 1_000 * MS
        self._next_reap = self._next_push = now
        self._leaving: _Leaving | None = None

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
        self._hear(member.row._replace(state=State.LEFT, accuser=VISITOR), now)
        return True

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

    # --- The timer --------------------------------------------------------------------------

    @property
    def wake_at(self) -> int:
        """The next deadline of any of the machines."""
        if self._leaving is not None:
            return self._leaving.retry_at
        push_at = self._next_push if self.changed else None
        times = (self.detector.wake_at, self._suspicions.wake_at, self._rejoin.wake_at, push_at)
        return min(at for at in times if at is not None)

    def wake(self, now: int) -> None:
        """Start and end what is due."""
        if self._leaving is not None:
            self._wake_leaving(now)
            return
        for node in self.detector.wake(now):
            self._probe_failed(node, now)
        for node in self._suspicions.take_expired(now):
            self._accuse(node, State.DEAD, now)
        silent = self._rejoin.start(len(self.members.live()), now)
        if silent is not None:
            self._send_joins([silent])
        if now >= self._next_reap:
            self._next_reap = now + min(self._reap_after, REAP_INTERVAL)
            self.members.reap(now - self._reap_after)

    def stalled(self, lag: int) -> None:
        """This node was not running for so long at most: nobody else's time ran."""
        if not self._settings.lifeguard:
            return
        self.detector.move(lag)
        self._suspicions.move(lag)
        intervals = lag // (self._settings.probe_interval_ms * MS)
        for _ in range(min(1 + intervals, SCORE_MAX)):
            self.detector.health.note("stalled")

    def push_news(self, now: int) -> None:
        """Tell a few members of what changed: at once after a quiet moment, else a pause later."""
        if not self.changed or now < self._next_push:
            return
        self.changed = False
        live = self.members.live()
        chosen = self._random.sample(live, min(NEWS_FANOUT, len(live)))
        rows = self.members.take_news(len(chosen), PUSH_ROWS) if chosen else ()
        if rows:
            self._next_push = now + NEWS_PAUSE
            to = tuple(member.row.address for member in chosen)
            self._out.append(Send(to, (Update(rows),)))

    # --- The network ------------------------------------------------------------------------

    def receive_probe(self, probe: Ping | Ack, sender: NodeId, source: Address, now: int) -> None:
        """A ping or an ack came: the detector has the answer, this compares member tables."""
        if isinstance(probe, Ping):
            self.detector.receive_ping(probe, sender, source)
        else:
            self._rejoin.answered(source)
            leaving = self._leaving
            if leaving is not None and probe.nonce == leaving.nonce:
                leaving.witnesses[sender] = None
                return
            self.detector.receive_ack(probe, sender, now)
        self._compare(probe.members_root, sender, source, now)

    def receive_join(self, join: Join, sender: NodeId, source: Address, now: int) -> None:
        """A newcomer: believe its row, answer with all of ours, its own as held here too."""
        row = join.row
        if row.id != sender or sender == self.me.id:
            return
        if row.address.is_wildcard:
            row = row._replace(address=source)
        self._hear(row, now)
        self._rejoin.answered(source)
        self._send(source, MembersPacket(self.members.rows()), *self._ghosts((row,)))

    def receive_rows(self, rows: tuple[MemberRow, ...], source: Address, now: int) -> None:
        """Claims about members, from whomever."""
        self._rejoin.answered(source)
        before = self.me
        for row in rows:
            self._hear(row, now)
        # Who told it may be nobody we would tell otherwise: it holds us for dead, we hold it so.
        refuted = () if self.me is before else (Update((self.me,)),)
        if answer := (*refuted, *self._ghosts(rows)):
            self._send(source, *answer)

    def receive_leave(self, leave: Leave, sender: NodeId, source: Address, now: int) -> None:
        """An orderly departure: witnessed by an ack."""
        if leave.row.id == sender and leave.row.state is State.LEFT:
            self._hear(leave.row, now)
            self._send(source, self.detector.ack(leave.nonce, 0))

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
            self._hear_accuser(row)
            return
        self.changed = True
        if row.state is State.SUSPECT:
            self._begin_suspicion(row, now)
        else:
            self._suspicions.clear(row.id)
        if row.state is State.DEAD:
            self._rejoin.add_dead(row.address, len(self.members.live()), now)
        elif row.state in (State.ALIVE, State.LEFT):
            self._rejoin.answered(row.address)
        if row.state != state_before:
            self._tell(row)

    def _hear_accuser(self, row: MemberRow) -> None:
        """An old accusation by somebody new is a confirmation, and passed on as such."""
        member = self.members.get(row.id)
        if member is None or row.state is not State.SUSPECT or row[:3] != member.row[:3]:
            return
        if self._suspicions.confirm(row.id, row.accuser):
            self.members.confirm(row)
            self.changed = True

    def _hear_of_me(self, row: MemberRow, now: int) -> None:
        """Refute what is said of this node if it is not what this node says itself."""
        me = self.me
        seen_at = row.address if me.address.is_wildcard else me.address
        # Any difference counts, not the state alone: with a restored disk a run may begin at the
        # incarnation of one that was lost with it.
        contested = row.incarnation >= me.incarnation and row != me
        if self.is_leaving or not (contested or seen_at != me.address):
            return
        if row.state is not State.ALIVE:
            self.detector.health.note("accused")
        incarnation = max(row.incarnation, me.incarnation) + 1
        self.members.refute(me._replace(incarnation=incarnation, address=seen_at), now)
        self.changed = True
        claim = row.state.name.lower()
        self._out.append(Notice("refuted", {"claim": claim, "incarnation": incarnation}))

    def _probe_failed(self, node: NodeId, now: int) -> None:
        """Accuse, or confirm who accused before, unless this node doubts itself too much."""
        live = len(self.members.live())
        mine = self._suspicions.accused_by(self.me.id)
        limit = max(ACCUSED_LEAST, int(ACCUSED_SHARE * live))
        if self._settings.lifeguard and mine >= limit:
            self.detector.health.note("probe failed")
            return
        self._accuse(node, State.SUSPECT, now)

    def _accuse(self, node: NodeId, state: State, now: int) -> None:
        member = self.members.get(node)
        if member is not None and member.is_live:
            accuser = self.me.id if state is State.SUSPECT else VISITOR
            self._hear(member.row._replace(state=state, accuser=accuser), now)

    def _begin_suspicion(self, row: MemberRow, now: int) -> None:
        settings = self._settings
        live = len(self.members.live())
        shortest = round(settings.suspect_timeout_ms * MS * max(1.0, log10(live + 1)))
        if not settings.lifeguard:
            self._suspicions.start(row.id, row.accuser, 0, (shortest, shortest), now)
            return
        longest = shortest * settings.suspect_timeout_factor
        enough = min(ACCUSERS_ENOUGH, live // 2)
        self._suspicions.start(row.id, row.accuser, enough, (shortest, longest), now)
        if row.accuser != self.me.id and self._random.random() * live < VERIFIERS:
            self.detector.probe(row.id, now)

    def _tell(self, row: MemberRow) -> None:
        fields = {"id": row.id.hex(), "member": row.name, "address": str(row.address)}
        accuser = self.members.get(row.accuser)
        if row.state is State.SUSPECT and accuser is not None:
            fields["accuser"] = accuser.row.name
        self._out.append(Notice(TOLD_AS[row.state], fields))

    # --- Packets ----------------------------------------------------------------------------

    def _compare(self, root: bytes, sender: NodeId, source: Address, now: int) -> None:
        """Unequal member tables are exchanged whole, at most once an interval."""
        if sender == VISITOR or root == self.members.root.value() or now < self._next_exchange:
            return
        self._next_exchange = now + self._exchange_interval
        self._send(source, Join(self.me))

    def _ghosts(self, rows: Iterable[MemberRow]) -> tuple[Update, ...]:
        ghosts = tuple(ghost for row in rows if (ghost := self.members.ghost(row)))
        return (Update(ghosts),) if ghosts else ()

    def _send_joins(self, addresses: Iterable[Address]) -> None:
        for address in addresses:
            rows = tuple(m.row for m in self.members if m.row.address == address)
            accusations = tuple(row for row in rows if row.state is not State.ALIVE)
            believed = (Update(accusations),) if accusations else ()
            self._send(address, Join(self.me), *believed)

    def _wake_leaving(self, now: int) -> None:
        leaving = self._leaving
        assert leaving is not None
        if now < leaving.retry_at:
            return
        leaving.retry_at = now + LEAVE_RETRY
        live = [m for m in self.members.live() if m.row.id not in leaving.witnesses]
        chosen = self._random.sample(live, min(2 * LEAVE_WITNESSES, len(live)))
        if chosen:
            to = tuple(member.row.address for member in chosen)
            self._out.append(Send(to, (Leave(leaving.nonce, self.me),)))

    def _send(self, to: Address, *packets: Packet) -> None:
        self._out.append(Send((to,), packets))
