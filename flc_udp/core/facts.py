"""Facts: what may be seen of a Replica from outside, as frozen values of one moment.

Status, metrics, hooks, the simulator and tests look at nothing else. Taking the facts costs a few
microseconds for each member of the cluster, so nothing takes them for each message.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from flc_udp.core.causal import Causal
from flc_udp.core.liveness.health import Change, Health
from flc_udp.core.liveness.members import LIVE, Member
from flc_udp.core.log_side import LogSide
from flc_udp.core.offences import Offence
from flc_udp.core.push.links import Links
from flc_udp.core.push.receipts import Receipts
from flc_udp.core.repair.healing import Healing
from flc_udp.core.standing import Standing
from flc_udp.model.block import Origin
from flc_udp.model.dots import Dot, LogId, NodeId
from flc_udp.model.errors import Drop
from flc_udp.model.units import Micros
from flc_udp.wire.rows import MemberRow


class LinkFacts(NamedTuple):
    """The link to a peer that new messages are pushed to."""

    is_eager: bool
    """Whether messages are pushed over it. Over a lazy link the peer is only told what there is."""
    in_flight_bytes: int
    """What was pushed and is not acknowledged yet."""
    is_window_full: bool
    """Whether rumors were dropped lately, because too much waited for the link's window."""


class CarriedRoom(NamedTuple):
    """A room whose stamps somebody carried far ahead."""

    room: str
    stamp: int
    """The greatest one of its frontier."""
    log: LogId
    """The log that did it: the first one that was seen so, or the furthest one after a start."""
    origin: Origin | None
    """The node whose log that is."""


class MemberFacts(NamedTuple):
    """A member as this node knows it. Durations are in µs, and count back from now."""

    row: MemberRow
    state_for_us: int
    """How long ago its state changed here."""
    rtt_us: int | None
    """The last round trip of a probe."""
    health: int
    """Its local health, as it last said: 0 is well."""
    catching_up: bool
    """Whether it last said that it is catching up."""
    lag_messages: int = 0
    """Messages of this run's log that it has not said to hold."""
    behind_for_us: int = 0
    """For how long it had not reached this node's mark when it last spoke. 0 means it keeps up."""
    told_for_us: int | None = None
    """How long ago it last said how far it is."""
    agreed_for_us: int | None = None
    """How long ago it last had the same root as this node."""
    roots_agree: bool | None = None
    """Whether it had this node's root when it last told its own. None: it has told none yet."""
    link: LinkFacts | None = None

    @property
    def is_live(self) -> bool:
        """Whether it is alive or suspect."""
        return self.row.state in LIVE

    @property
    def is_behind(self) -> bool:
        """Whether it was behind when it last said how far it is."""
        return self.lag_messages > 0 and self.behind_for_us > 0


class HealthFacts(NamedTuple):
    """This node's local health. A score of 0 is well."""

    score: int
    score_max: int
    multiplier: int
    """The factor by which probe intervals and timeouts are stretched."""
    counts: Mapping[Change, int]
    """How often each change was noted."""
    last_for_us: Mapping[Change, int]
    """How long ago each change was last noted, in µs."""


class RepairFacts(NamedTuple):
    """What is missing here, and how it is fetched."""

    to_go: int
    """Messages known to be missing, as last counted."""
    pulls: int
    """Pulls under way."""
    is_idle: bool
    """Whether nothing is wanted of anybody, held back, or on its way to the disk."""
    synced: Mapping[NodeId, bool | None]
    """For each member that the last sync asked: whether its root agreed. None: it is silent."""
    holdback_blocks: int
    holdback_messages: int
    """Messages that came before their causes, and wait."""
    holdback_bytes: int
    pieces_bytes: int
    """Parts of large messages that are not complete yet."""
    rotten: tuple[Dot, ...]
    """Blocks that have changed on this disk and are fetched anew, by their first messages."""
    forks_for_us: Mapping[Dot, int]
    """Messages of which another one has the name, and for how long this is known, in µs."""


@dataclass(frozen=True, slots=True)
class Facts:
    """One Replica at one moment."""

    me: MemberRow
    """This node's own row."""
    log: LogId
    """The log of this run. It is all zeros before this run's first post."""
    members: tuple[MemberFacts, ...]
    """All members: this node first, then the others in the order in which they were first heard of.
    """
    members_root: bytes
    """The root of all live members: equal for nodes that see the same cluster."""
    health: HealthFacts
    root: bytes
    """The root of all durable logs: equal for nodes with the same history."""
    logs: int
    messages: int
    """Messages this node durably knows, including those it has pruned."""
    rooms: int
    floor: int
    """The stamp from which every message is kept. 0 where nothing was ever pruned."""
    repair: RepairFacts
    uncommitted: int
    """Blocks that are decided and not durable yet."""
    catching_up: bool
    """Whether so much is missing that nobody should be sent here to read."""
    is_leaving: bool
    drops: Mapping[Drop, int]
    offences: tuple[Offence, ...]
    """What nodes did lately that no sound node does."""
    carried: tuple[CarriedRoom, ...]
    """Rooms whose stamps are more than a day ahead of the clock."""

    @property
    def others(self) -> tuple[MemberFacts, ...]:
        """All members but this node."""
        return self.members[1:]

    @property
    def live(self) -> tuple[MemberFacts, ...]:
        """The other members that are alive or suspect."""
        return tuple(member for member in self.others if member.is_live)


# --- How they are taken ---------------------------------------------------------------------------


def peer_facts(
    member: Member, standing: Standing, links: Links, receipts: Receipts, now: Micros
) -> MemberFacts:
    """One other member as this node knows it."""
    node, agreed_at, agreed_on = member.row.id, member.agreed_at, member.agreed_on
    link = links.get(node)
    held, mark = receipts.held.get(node, 0), receipts.marks.get(node)
    told_at = [] if mark is None else [mark.told_at]
    if agreed_at is not None and agreed_on is not None:
        told_at.append(agreed_at)
        held = max(held, agreed_on.seq if agreed_on.log == standing.log else 0)
    return MemberFacts(
        member.row,
        now - member.since,
        member.rtt_us,
        member.health,
        member.catching_up,
        lag_messages=standing.own_head - held,
        behind_for_us=0 if mark is None or held >= mark.seq else mark.behind_for_us,
        told_for_us=now - max(told_at) if told_at else None,
        agreed_for_us=None if agreed_at is None else now - agreed_at,
        roots_agree=None if member.root_at is None else member.root_at == agreed_at,
        link=None
        if link is None
        else LinkFacts(link.is_eager, link.window.on_the_way(now), link.window.is_behind(now)),
    )


def health_facts(health: Health, now: Micros) -> HealthFacts:
    """The local health, and what moved it."""
    ago_us = {change: now - at for change, at in health.last.items()}
    counts = dict(health.counts)
    return HealthFacts(health.score, health.score_max, health.multiplier, counts, ago_us)


def carried_rooms(
    causal: Causal, carried_by: Mapping[str, LogId], far_stamp: int
) -> tuple[CarriedRoom, ...]:
    """The rooms with stamps from `far_stamp` on, and who carried them."""
    found = []
    for room, frontier in causal.frontiers.items():
        stamp, furthest = max((edge.stamp, log) for log, edge in frontier.items())
        if stamp >= far_stamp:
            log = carried_by.get(room, furthest)
            found.append(CarriedRoom(room, stamp, log, causal.origins.get(log)))
    return tuple(found)


def repair_facts(log_side: LogSide, healing: Healing, now: Micros) -> RepairFacts:
    """What is missing, and how it is fetched."""
    repair, causal = log_side.repair, log_side.causal
    return RepairFacts(
        to_go=repair.wants.to_go,
        pulls=repair.pulls,
        is_idle=repair.is_idle and not (causal.held or log_side.uncommitted),
        synced=dict(repair.exchange.synced),
        holdback_blocks=len(causal.held),
        holdback_messages=causal.held_messages,
        holdback_bytes=causal.held_bytes,
        pieces_bytes=repair.pieces.held_bytes,
        rotten=tuple(healing.rotten),
        forks_for_us={dot: now - at for dot, at in repair.exchange.forks.items()},
    )
