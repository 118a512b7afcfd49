"""The member table: what is believed of every node, by one total order of claims.

Rules. A claim overrides another of the same member exactly when its (incarnation, state) is
greater (SWIM, Das et al. 2002, section 4.2), the rest of the row breaking ties: so any two nodes
that have heard the same claims believe the same, in whatever order they heard them. Only the
subject raises its incarnation. The address and name travel with the claim and change with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, log2

from flc_udp.core.roots import Root, member_hash
from flc_udp.model.address import Address
from flc_udp.model.dots import NodeId
from flc_udp.wire.packets import MemberRow, State

TRANSMITS_FACTOR = 3
"""λ of SWIM's λ·log N: how often one piece of news is piggybacked before it is let go."""

LIVE = (State.ALIVE, State.SUSPECT)


@dataclass(slots=True)
class Member:
    """A row of the table, and what this node alone knows of the member; times in µs."""

    row: MemberRow
    since: int
    """When the state last changed here."""
    rtt: int | None = None
    """Last round trip of a probe."""

    @property
    def is_live(self) -> bool:
        """Alive or suspect: counted in roots and in `--wait all`."""
        return self.row.state in LIVE


def overrides(claim: MemberRow, held: MemberRow) -> bool:
    """Whether `claim` replaces what is held of the same member."""
    # Address, name and boot only break ties: between honest claims there are none.
    return claim[1:] > held[1:]


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
        self._rows_max = rows_max
        self._news: dict[NodeId, int] = {me.id: 0}

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
        return [member for member in self._others.values() if member.is_live]

    def rows(self) -> tuple[MemberRow, ...]:
        """All rows, this node's first."""
        return tuple(member.row for member in self)

    def apply(self, claim: MemberRow, now: int) -> bool:
        """Believe a claim about another node if it overrides what is held; True if it did."""
        assert claim.id != self.me.row.id
        member = self._others.get(claim.id)
        if member is None:
            if not self._make_room():
                self.refused += 1
                return False
            self._others[claim.id] = Member(claim, now)
        elif overrides(claim, member.row):
            self._put(member, claim, now)
        else:
            return False
        if claim.state in LIVE:
            self.root.toggle(member_hash(claim))
        self._news[claim.id] = 0
        return True

    def refute(self, row: MemberRow, now: int) -> None:
        """Speak for this node: its own row replaced by a newer one."""
        assert row.id == self.me.row.id
        self.root.toggle(member_hash(self.me.row))
        if row.state != self.me.row.state:
            self.me.since = now
        self.me.row = row
        if row.state in LIVE:
            self.root.toggle(member_hash(row))
        self._news[row.id] = 0

    def take_news(self, rows_max: int) -> tuple[MemberRow, ...]:
        """Rows to piggyback: the least told first; each is let go after λ·log2 N tellings."""
        limit = TRANSMITS_FACTOR * ceil(log2(len(self._others) + 2))
        chosen = sorted(self._news, key=self._news.__getitem__)[:rows_max]
        rows = []
        for node in chosen:
            member = self.get(node)
            self._news[node] += 1
            if member is None or self._news[node] >= limit:
                del self._news[node]
            if member is not None:
                rows.append(member.row)
        return tuple(rows)

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
        oldest = min(gone, key=lambda member: member.since)
        del self._others[oldest.row.id]
        self._news.pop(oldest.row.id, None)
        return True
