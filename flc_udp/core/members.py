"""The member table: what is believed of every node, by one total order of claims.

Rules. A claim overrides another of the same member exactly when its (incarnation, state) is
greater (SWIM, Das et al. 2002, section 4.2), the rest of the row breaking ties: so any two nodes
that have heard the same claims believe the same, in whatever order they heard them. Only the
subject raises its incarnation. The address and name travel with the claim and change with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from heapq import nsmallest
from math import ceil, log2

from flc_udp.core.probe import RoundTrip
from flc_udp.core.roots import Root, member_hash
from flc_udp.model.address import Address
from flc_udp.model.dots import VISITOR, NodeId
from flc_udp.wire.packets import MemberRow, State, Update

TRANSMITS_FACTOR = 3
"""λ of SWIM's λ·log N: how often one piece of news is piggybacked before it is let go."""

PIGGYBACK_ROWS = 6
"""News rows on one packet: at about 70 bytes each a probe stays a small datagram."""

PUSH_ROWS = 16
"""News rows of one push: a datagram of its own, filled but not overfilled by usual names."""

LIVE = (State.ALIVE, State.SUSPECT)


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

    @property
    def is_live(self) -> bool:
        """Alive or suspect: counted in roots and in `--wait all`."""
        return self.row.state in LIVE


def overrides(claim: MemberRow, held: MemberRow) -> bool:
    """Whether `claim` replaces what is held of the same member."""
    # Address, name and boot only break ties: between honest claims there are none. Who accuses
    # is no part of the claim.
    return claim[1:6] > held[1:6]


def alive_row(node: NodeId, incarnation: int, address: Address, name: str, boot: int) -> MemberRow:
    """A node's row about itself at its start; `boot` is a nonce of this run."""
    return MemberRow(node, incarnation, State.ALIVE, address, name, boot)


class Members:
    """Every member but this node's own row apart, which is `me`."""

    def __init__(self, me: MemberRow, rows_max: int, now: int) -> None:
        self.me = Member(me, now)
        self.root = Root()
        self.root.toggle(member_hash(me))
        self.refused = 0
        self._others: dict[NodeId, Member] = {}
        # Asked for in every turn and changed rarely: kept until something changes.
        self._live: dict[NodeId, Member] | None = None
        self._live_list: list[Member] = []
        self._reaped: dict[NodeId, MemberRow] = {}
        self._rows_max = rows_max
        # {subject: {accuser: times told}}: a suspicion is told once for each accuser.
        self._news: dict[NodeId, dict[NodeId, int]] = {me.id: {VISITOR: 0}}

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

    def apply(self, claim: MemberRow, now: int) -> bool:
        """Believe a claim about another node if it overrides what is held; True if it did."""
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
            self._put(member, claim, now)
        else:
            return False
        if was_live != (claim.state in LIVE):
            self._live = None
        if claim.state in LIVE:
            self.root.toggle(member_hash(claim))
        self._news[claim.id] = {claim.accuser: 0}
        return True

    def confirm(self, claim: MemberRow) -> None:
        """A suspicion that is held has one more accuser: that is to be told too."""
        self._news.setdefault(claim.id, {})[claim.accuser] = 0

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
        self._news.pop(member.row.id, None)

    def refute(self, row: MemberRow, now: int) -> None:
        """Speak for this node: its own row replaced by a newer one."""
        assert row.id == self.me.row.id
        self.root.toggle(member_hash(self.me.row))
        if row.state != self.me.row.state:
            self.me.since = now
        self.me.row = row
        if row.state in LIVE:
            self.root.toggle(member_hash(row))
        self._news[row.id] = {VISITOR: 0}

    def take_news(
        self, listeners: int = 1, rows_max: int = PIGGYBACK_ROWS
    ) -> tuple[MemberRow, ...]:
        """Rows to tell to so many: the least told first, let go after λ·log2 N tellings."""
        limit = TRANSMITS_FACTOR * ceil(log2(len(self._others) + 2))
        told = ((n, node, by) for node, news in self._news.items() for by, n in news.items())
        rows = []
        for times, node, accuser in nsmallest(rows_max, told):
            member = self.get(node)
            self._news[node][accuser] += listeners
            if member is None or times + listeners >= limit:
                self._let_go(node, accuser)
            if member is not None:
                rows.append(member.row._replace(accuser=accuser))
        return tuple(rows)

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

    def _let_go(self, node: NodeId, accuser: NodeId) -> None:
        del self._news[node][accuser]
        if not self._news[node]:
            del self._news[node]

    def _put(self, member: Member, claim: MemberRow, now: int) -> None:
        if member.is_live:
            self.root.toggle(member_hash(member.row))
        if claim.state != member.row.state:
            member.since = now
        member.row = claim

    def _make_room(self) -> bool:
        """A full table lets go of the longest dead, never of the living."""
        if len(self._others) + 1 < self._rows_max:
            return True
        gone = [member for member in self._others.values() if not member.is_live]
        if not gone:
            return False
        self._forget(min(gone, key=lambda member: member.since))
        return True
