"""The member table: what is believed of every node, by one total order of claims.

Rules. A claim overrides another of the same member exactly when its (incarnation, state) is
greater (SWIM, Das et al. 2002, section 4.2), the rest of the row breaking ties: so any two nodes
that have heard the same claims believe the same, in whatever order they heard them. Only the
subject raises its incarnation. The address, name and tags travel with the claim and change with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from flc_udp.config import Settings
from flc_udp.core.liveness.news import News
from flc_udp.core.liveness.probe import RoundTrip
from flc_udp.core.ranges import Table
from flc_udp.core.roots import Root, member_hash
from flc_udp.model.address import Address
from flc_udp.model.dots import VISITOR, Dot, NodeId
from flc_udp.model.tags import Tags
from flc_udp.wire.packets import MemberRow, State, Update

LIVE = (State.ALIVE, State.SUSPECT)

NEWS_BYTES = 480
"""News may take this many bytes of a probe: six usual rows, which never crowd out the rest."""


@dataclass(slots=True)
class Member:
    """A row of the table, and what this node alone knows of the member; times in µs."""

    row: MemberRow
    since: int
    """When the state last changed here."""
    rtt: int | None = None
    """Last round trip of a probe."""
    round_trip: RoundTrip | None = None
    """What the next probe's timeout follows."""
    health: int = 0
    """Its local health as it last said: 0 is well, 8 the worst."""
    catching_up: bool = False
    """Whether it last said that it is."""
    root_at: int | None = None
    """When it last told its root of all logs."""
    agreed_at: int | None = None
    """When that was last this node's own; roots agreed if it was at `root_at`."""
    agreed_on: Dot | None = None
    """This run's last message then: the member held it, as all else."""

    @property
    def is_live(self) -> bool:
        """Alive or suspect: counted in roots and in `--wait all`."""
        return self.row.state in LIVE


def overrides(claim: MemberRow, held: MemberRow) -> bool:
    """Whether `claim` replaces what is held of the same member."""
    if claim.incarnation != held.incarnation:
        return claim.incarnation > held.incarnation
    if claim.state != held.state:
        return claim.state > held.state
    # These only break ties: between honest claims there are none. Who accuses is no part of it.
    return (*claim[3:6], claim.tags) > (*held[3:6], held.tags)


def alive_row(
    node: NodeId, incarnation: int, address: Address, name: str, boot: int, tags: Tags = ()
) -> MemberRow:
    """A node's row about itself at its start; `boot` is a nonce of this run."""
    return MemberRow(node, incarnation, State.ALIVE, address, name, boot, tags=tags)


class MemberTable:
    """Every member but this node's own row apart, which is `me`."""

    def __init__(self, me: MemberRow, settings: Settings, now: int) -> None:
        self.me = Member(me, now)
        self.table = Table({me.id: member_hash(me)})
        """The live ones: what two nodes compare."""
        self.refused = 0
        self._others: dict[NodeId, Member] = {}
        # Asked for in every turn and changed rarely: kept until something changes.
        self._live: dict[NodeId, Member] | None = None
        self._live_list: list[Member] = []
        self._reaped: dict[NodeId, MemberRow] = {}
        self._rows_max = settings.members_max
        self._news = News()
        self._news.put(me.id)

    @property
    def root(self) -> Root:
        """The root of the live ones."""
        return self.table.root

    def __getitem__(self, node: NodeId) -> Member:
        return self._others[node]

    def get(self, node: NodeId) -> Member | None:
        """The member, this node itself too, or None."""
        return self.me if node == self.me.row.id else self._others.get(node)

    def __iter__(self) -> Iterator[Member]:
        """This node first, then the others in the order they were first heard of."""
        yield self.me
        yield from self._others.values()

    def live(self) -> list[Member]:
        """Others that are alive or suspect, in the order first heard of."""
        self.live_by_id()
        return self._live_list

    def live_by_id(self) -> Mapping[NodeId, Member]:
        """The same, by their ids."""
        if self._live is None:
            self._live = {node: m for node, m in self._others.items() if m.is_live}
            self._live_list = list(self._live.values())
        return self._live

    def rows(self) -> tuple[MemberRow, ...]:
        """All rows, this node's first."""
        return tuple(member.row for member in self)

    def apply(self, claim: MemberRow, now: int, *, is_news: bool = True) -> bool:
        """Believe a claim about another node if it overrides what is held; True if it did.

        Unless `is_news`, a member that was unknown here is not told on.
        """
        assert claim.id != self.me.row.id
        member = self._others.get(claim.id)
        was_live = member is not None and member.is_live
        if member is None:
            reaped = self._reaped.get(claim.id)
            if reaped is not None and not overrides(claim, reaped):
                return False
            if not self._make_room():
                self.refused += 1
                return False
            self._others[claim.id] = Member(claim, now)
        elif overrides(claim, member.row):
            _put(member, claim, now)
        else:
            return False
        is_live = claim.state in LIVE
        if was_live != is_live:
            self._live = None
        if is_live:
            self.table.put(claim.id, member_hash(claim))
        elif was_live:
            self.table.drop(claim.id)
        if is_news or member is not None:
            self._news.put(claim.id, claim.accuser)
        return True

    def confirm(self, claim: MemberRow) -> None:
        """A suspicion that is held has one more accuser: that is to be told too."""
        self._news.confirm(claim.id, claim.accuser)

    def better(self, low: NodeId, high: NodeId, theirs: Iterable[MemberRow]) -> list[MemberRow]:
        """What is known better here of the members in low..high than by who holds `theirs`."""
        known = {row.id: row for row in theirs}
        live = (self._row_of(node) for node in self.table.ids(low, high))
        better = [
            row for row in live if row and (row.id not in known or overrides(row, known[row.id]))
        ]
        return better + self.fallen(known.values())

    def fallen(self, claims: Iterable[MemberRow]) -> list[MemberRow]:
        """What is held of those that died or left, where a claim is older than that."""
        held = [(self._others.get(claim.id), claim) for claim in claims]
        return [m.row for m, claim in held if m and not m.is_live and overrides(m.row, claim)]

    def reap(self, before: int) -> None:
        """Take members that died or left before that time out of the table.

        The last claim is remembered, so that whoever reaps later cannot bring them back as ghosts.
        """
        gone = [m for m in self._others.values() if not m.is_live and m.since < before]
        for member in gone:
            self._forget(member)
            self._reaped[member.row.id] = member.row
            if len(self._reaped) > self._rows_max:
                del self._reaped[next(iter(self._reaped))]

    def ghost(self, claim: MemberRow) -> MemberRow | None:
        """What a member was reaped with, where this claim of it is older: who told it is to know.

        Else islands that reaped each other would never believe that the other is back.
        """
        reaped = self._reaped.get(claim.id)
        if reaped is None or claim.id in self._others or not overrides(reaped, claim):
            return None
        return reaped

    def _forget(self, member: Member) -> None:
        del self._others[member.row.id]
        self._live = None
        self._news.drop(member.row.id)

    def refute(self, row: MemberRow, now: int) -> None:
        """Speak for this node: its own row replaced by a newer one."""
        assert row.id == self.me.row.id
        if row.state != self.me.row.state:
            self.me.since = now
        self.me.row = row
        if row.state in LIVE:
            self.table.put(row.id, member_hash(row))
        else:
            self.table.drop(row.id)
        self._news.put(row.id)

    def rename(self, node: NodeId) -> None:
        """This node is another from now on; what it was is another's."""
        self.table.drop(self.me.row.id)
        self._news.drop(self.me.row.id)
        self.me.row = self.me.row._replace(id=node)
        self.table.put(node, member_hash(self.me.row))
        self._news.put(node)

    def take_news(self, listeners: int = 1, bytes_max: int | None = None) -> tuple[MemberRow, ...]:
        """Rows to tell to so many, within the bytes that news may take of a probe's datagram."""
        size = NEWS_BYTES if bytes_max is None else bytes_max
        return self._news.take(self._row_of, len(self._others) + 1, listeners, size)

    def spend_news(self) -> None:
        """Everybody knows it all: where a simulated cluster begins grown up."""
        self._news.clear()

    def news_for(self, node: NodeId) -> tuple[Update, ...]:
        """News to piggyback on a packet to a member.

        Whoever is not believed alive hears that first, so that it can refute (the buddy system of
        Lifeguard 4.3).
        """
        rows = self.take_news()
        about = None if node == VISITOR else self._others.get(node)
        if about is not None and about.row.state is not State.ALIVE and about.row not in rows:
            rows = (about.row, *rows)
        return (Update(rows),) if rows else ()

    def _row_of(self, node: NodeId) -> MemberRow | None:
        member = self.get(node)
        return None if member is None else member.row

    def _make_room(self) -> bool:
        """A full table lets go of the longest dead, never of the living."""
        if len(self._others) + 1 < self._rows_max:
            return True
        gone = [member for member in self._others.values() if not member.is_live]
        if not gone:
            return False
        self._forget(min(gone, key=lambda member: member.since))
        return True


def _put(member: Member, claim: MemberRow, now: int) -> None:
    if claim.state != member.row.state:
        member.since = now
    member.row = claim
