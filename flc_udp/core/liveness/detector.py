"""The failure detector: it asks members whether they live, answers pings, and says who failed.

It carries out probe rounds (`probe`), and keeps the score against this node (`health`). It also
pings members for others that got no answer from them. What follows from a failed round is decided
in `membership`.

Rules. Every answer leaves in the turn in which it was asked for. The interval and all timeouts
stretch with local health. A failed round also counts against this node, unless enough relays said
that they hear this node in time.
"""

from typing import NamedTuple

from flc_udp.core.effects import Send
from flc_udp.core.liveness.health import Change, Health
from flc_udp.core.liveness.members import Member, MemberTable
from flc_udp.core.liveness.probe import Probes, Round, RoundTrip
from flc_udp.core.shared import CoreMachine, Shared
from flc_udp.core.standing import NO_LOG
from flc_udp.model.address import Address
from flc_udp.model.clocks import is_usable
from flc_udp.model.dots import LogId, NodeId
from flc_udp.model.units import MS_US, Micros, Millis
from flc_udp.wire.packets import Ack, Nack, Ping, PingReq, Relayed
from flc_udp.wire.rows import MemberRow

RELAYS = 3
"""Members that are asked to ping a member that did not answer a direct ping."""

ASKED_MAX = 4_096
"""So many pings are remembered, for the logs that they ask about."""

ERRANDS_MAX = 1_024
"""At most this many pings for others are under way. Another ping-req counts as lost."""


class Errand(NamedTuple):
    """One ping that is sent for another member."""

    node: NodeId
    asker: Address
    asker_nonce: int
    nack_at: int


class Detector(CoreMachine):
    """Both ends of one node's probes. Times are in µs."""

    def __init__(self, shared: Shared, members: MemberTable, now: Micros) -> None:
        super().__init__(shared)
        settings = self._settings
        self._walls = shared.walls
        self.health = Health(settings.local_health_max if settings.lifeguard else 0)
        self._members = members
        self.probes = Probes(self._random, settings.probe_interval_ms * MS_US, now)
        self._errands: dict[int, Errand] = {}
        """The pings for others, by the nonces that this node pings with."""
        self._asked: dict[int, LogId] = {}
        """{nonce: the log that the ping asked about}, the latest pings of this node."""
        self.said_left: dict[NodeId, MemberRow] = {}
        """What others say of live members: that they left. They are asked first."""
        self._usual: RoundTrip | None = None
        self._timeout_least_us = settings.probe_timeout_min_ms * MS_US
        self._timeout_most_us = settings.probe_timeout_ms * MS_US

    # --- The timer --------------------------------------------------------------------------

    @property
    def wake_at(self) -> int:
        """The next deadline of a round or an errand."""
        return min([self.probes.wake_at, *(errand.nack_at for errand in self._errands.values())])

    def wake(self, now: Micros) -> list[NodeId]:
        """Start and end what is due. Return the members whose rounds failed."""
        failed = [r.node for r in self.probes.take_overdue(now) if self._advance(r, now)]
        for nonce in [nonce for nonce, errand in self._errands.items() if errand.nack_at <= now]:
            errand = self._errands.pop(nonce)
            self._out.send(errand.asker, Nack(errand.asker_nonce))
        live, is_due = self._members.live_by_id(), self.probes.is_due(now)
        target = self.probes.take_turn(live, self.health.multiplier, now)
        if target is not None:
            self.probe(target, now)
        elif is_due and self.health.score:
            # A round in time is all that a node can show for itself when there is nobody to hear.
            self.health.note(Change.ALONE, now)
        return failed

    def probe(self, node: NodeId, now: Micros) -> None:
        """Begin a round of a live member, unless one is under way."""
        member = self._members.get(node)
        if member is None or not member.is_live or self.probes.is_probing(node):
            return
        round_ = self.probes.begin(node, self._timeout_us_of(member), now)
        self._ping(member, round_.nonce)

    def _advance(self, round_: Round, now: Micros) -> bool:
        """Begin the next stage of a round that is overdue, or end it. True: it failed."""
        member = self._members.get(round_.node)
        if member is None or not member.is_live:
            self.probes.drop(round_.node)
            return False
        if round_.node in self.said_left:
            self.probes.drop(round_.node)
            return True  # It is as others say.
        if not round_.is_indirect:
            relays = self._choose_relays(round_.node)
            self.probes.go_indirect(round_, [relay.row.id for relay in relays], now)
            self._ping(member, round_.nonce)
            to = tuple(relay.row.address for relay in relays)
            if to:
                self._out.append(Send(to, (PingReq(round_.nonce, round_.node),)))
            return False
        # Where every relay is silent, or there is none, it may be this node that is not heard.
        if round_.nacks_missing or not round_.relays:
            change = Change.NACK_MISSING if round_.relays else Change.PROBE_FAILED
            self.health.note(change, now)
        return True

    # --- The network ------------------------------------------------------------------------

    def receive_ping(self, ping: Ping, sender: NodeId, source: Address, wall: Millis) -> None:
        """Answer with news, and with `wall`, this node's clock, if it shows a usable time.

        What comes first is this node's doubt about the prober, if it has any.
        """
        ack = self.ack(ping.nonce, self._standing.held(ping.log))
        ack = ack._replace(wall=wall if is_usable(wall) else 0)
        self._out.send(source, ack, *self._members.news_for(sender))
        self._hear_health(sender, ping.health)

    def receive_ack(self, ack: Ack, sender: NodeId, now: Micros) -> None:
        """A member answered a round of this node, or the errand of another one."""
        self._hear_health(sender, ack.health)
        errand = self._errands.get(ack.nonce)
        if errand is not None and errand.node == sender:
            del self._errands[ack.nonce]
            self._out.send(errand.asker, Relayed(errand.asker_nonce, sender))
            return
        round_ = self.probes.receive_ack(ack.nonce, sender)
        if round_ is not None:
            self.health.note(Change.PROBE_ANSWERED, now)
            self._measure(round_, now - round_.sent_at)
            if ack.wall:
                self._walls.heard(sender, ack.wall, now)

    def asked_about(self, nonce: int) -> LogId:
        """The log that a ping of this node asked about. It is NO_LOG for what nobody asked."""
        return self._asked.get(nonce, NO_LOG)

    def receive_ping_req(self, request: PingReq, source: Address, now: Micros) -> None:
        """Ping a member for another one that got no answer from it."""
        member = self._members.get(request.node)
        if member is None or member is self._members.me or len(self._errands) >= ERRANDS_MAX:
            return
        nonce, nack_at = self._random.getrandbits(64), now + self._timeout_us_of(member)
        self._errands[nonce] = Errand(request.node, source, request.nonce, nack_at)
        self._ping(member, nonce)

    def receive_relayed(self, relayed: Relayed, now: Micros) -> None:
        """The target answered a relay, so it lives."""
        if self.probes.receive_ack(relayed.nonce, relayed.node) is not None:
            self.health.note(Change.PROBE_ANSWERED, now)

    # --- Packets ----------------------------------------------------------------------------

    def ack(self, nonce: int, held: int) -> Ack:
        """Make the answer to a ping, a join or a leave."""
        return Ack(nonce, *self._roots, held, self.health.score)

    def _ping(self, member: Member, nonce: int) -> None:
        # A ping may be repeated under its nonce. Where another log began in between, its ack may
        # speak of either, so it is believed of none.
        log = self._standing.log
        self._asked[nonce] = log if self._asked.get(nonce, log) == log else NO_LOG
        if len(self._asked) > ASKED_MAX:
            del self._asked[next(iter(self._asked))]
        news = self._members.news_for(member.row.id)
        self._out.send(member.row.address, self.ping(nonce, log), *news)

    def ping(self, nonce: int, log: LogId = NO_LOG) -> Ping:
        """Make a ping that asks about a log of this run, or about none."""
        return Ping(nonce, *self._roots, log, self.health.score)

    @property
    def _roots(self) -> tuple[bytes, bytes, bool]:
        return self._standing.table.root, self._members.table.root, self._standing.catching_up

    # --- Who and how long -------------------------------------------------------------------

    def _choose_relays(self, node: NodeId) -> list[Member]:
        others = [member for member in self._members.live() if member.row.id != node]
        return self._random.sample(others, min(RELAYS, len(others)))

    def _timeout_us_of(self, member: Member) -> int:
        # In a large cluster few members were measured by this node. Others get what is usual.
        trip = member.round_trip or self._usual
        timeout_us = self._timeout_most_us
        if trip is not None:
            timeout_us = trip.timeout_us(self._timeout_least_us, self._timeout_most_us)
        return timeout_us * self.health.multiplier

    def _measure(self, round_: Round, elapsed_us: int) -> None:
        member = self._members.get(round_.node)
        if member is None:
            return
        if round_.is_measured:
            member.rtt_us = elapsed_us
            member.round_trip = RoundTrip.after(member.round_trip, elapsed_us)
            self._usual = RoundTrip.after(self._usual, elapsed_us)
        elif member.round_trip is None:
            # It is far away, or a ping was lost: it gets more time until it is measured.
            member.round_trip = RoundTrip.after(None, elapsed_us)

    def _hear_health(self, sender: NodeId, score: int) -> None:
        member = self._members.get(sender)
        if member is not None:
            member.health = score
