"""The member table: what is believed of every node, by one total order of claims.

Rules. A claim overrides another of the same member exactly when its (incarnation, state) is
greater (SWIM, Das et al. 2002, section 4.2), the rest of the row breaking ties: so any two nodes
that have heard the same claims believe the same, in whatever order they heard them. Only the
subject raises its incarnation. The address, name and tags travel with the claim and change with it.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from flc_udp.config import Settings
from flc_udp.core.liveness.news import News
from flc_udp.core.liveness.probe import RoundTrip
from flc_udp.core.ranges import Table, row_hash_of
from flc_udp.model.address import Address
from flc_udp.model.dots import VISITOR, Dot, NodeId
from flc_udp.model.errors import Drop
from flc_udp.model.tags import Tags
from flc_udp.model.units import Micros
from flc_udp.wire.packets import Update
from flc_udp.wire.rows import MemberRow, State

LIVE = (State.ALIVE, State.SUSPECT)

Rows = tuple[MemberRow, ...]
"""Claims about members, as they stand in a packet."""

NEWS_BYTES = 480
"""News may take this many bytes of a probe: six usual rows, which never crowd out the rest."""


@dataclass(slots=True)
class Member:
    """A row of the table, and what only this node knows of the member. Moments are in µs."""

    row: MemberRow
    since: int
    """The moment at which the state last changed here."""
    rtt_us: int | None = None
    """The last round trip of a probe."""
    round_trip: RoundTrip | None = None
    """The timeout of the next probe follows this."""
    health: int = 0
    """Its local health, as it last said: 0 is well, 8 is the worst."""
    catching_up: bool = False
    """Whether it last said that it is catching up."""
    root_at: int | None = None
    """The moment at which it last told its root of all logs."""
    agreed_at: int | None = None
    """The moment at which its root was last that of this node. The roots agree if this is
    `root_at`."""
    agreed_on: Dot | None = None
    """The last message of this run at that moment. The member held it, as everything else."""

    @property
    def is_live(self) -> bool:
        """Whether it is alive or suspect. Such members count in roots and in `--wait all`."""
        return self.row.state in LIVE

    def put(self, row: MemberRow, now: Micros) -> None:
        """This is believed of it from now on."""
        if row.state != self.row.state:
            self.since = now
        self.row = row


def overrides(claim: MemberRow, held: MemberRow) -> bool:
    """Whether a claim replaces what is believed of the same member."""
    return _rank(claim) > _rank(held)


def _rank(row: MemberRow) -> tuple[object, ...]:
    # All after the state only breaks ties: between honest claims there are none. Who accuses is no
    # part of it.
    return (row.incarnation, row.state, *row[3:6], row.tags)


def alive_row(
    node: NodeId, incarnation: int, address: Address, name: str, boot: int, tags: Tags = ()
) -> MemberRow:
    """A node's row about itself at its start. `boot` is a nonce of this run."""
    return MemberRow(node, incarnation, State.ALIVE, address, name, boot, tags=tags)


def member_hash(row: MemberRow) -> int:
    """The hash of all of a live member's row that nodes must agree on.

    Only the state and the accuser are left out.
    """
    numbers = row.incarnation.to_bytes(8, "big") + row.boot.to_bytes(8, "big")
    # Names and tags have no zero bytes, and the keys of tags have no equals sign, so rows with
    # different contents are never written alike.
    text = "\0".join((str(row.address), row.name, *map(str, row.tags)))
    return row_hash_of(row.id, numbers, text.encode())


class MemberTable:
    """All members. This node's own row stands apart, as `me`."""

    def __init__(
        self, me: MemberRow, settings: Settings, drops: Counter[Drop], now: Micros
    ) -> None:
        self.me = Member(me, now)
        self.table = Table({me.id: member_hash(me)})
        """The live members, whose table two nodes compare."""
        self._others: dict[NodeId, Member] = {}
        # These are asked for in every turn and change rarely, so they are kept until they change.
        self._live: dict[NodeId, Member] | None = None
        self._reaped: dict[NodeId, MemberRow] = {}
        self._rows_max = settings.members_max
        self._drops = drops
        self.news = News()
        self.news.put(me.id)

    def __getitem__(self, node: NodeId) -> Member:
        return self._others[node]

    def get(self, node: NodeId) -> Member | None:
        """A member, or this node itself. None: it is unknown."""
        return self.me if node == self.me.row.id else self._others.get(node)

    def __iter__(self) -> Iterator[Member]:
        """This node first, then the others in the order in which they were first heard of."""
        yield self.me
        yield from self._others.values()

    def live(self) -> list[Member]:
        """The others that are alive or suspect, in the order in which they were first heard of."""
        return list(self.live_by_id().values())

    def live_by_id(self) -> Mapping[NodeId, Member]:
        """The live others by their ids."""
        if self._live is None:
            self._live = {node: m for node, m in self._others.items() if m.is_live}
        return self._live

    def apply(self, claim: MemberRow, now: Micros, *, is_news: bool = True) -> bool:
        """Believe a claim about another node if it overrides what is believed. True: it did.

        Without `is_news`, a member that was unknown here is not told to others.
        """
        assert claim.id != self.me.row.id
        member = self._others.get(claim.id)
        was_live = member is not None and member.is_live
        if member is None:
            reaped = self._reaped.get(claim.id)
            if reaped is not None and not overrides(claim, reaped):
                return False
            if not self._make_room():
                self._drops[Drop.MEMBER_TABLE_FULL] += 1
                return False
            self._others[claim.id] = Member(claim, now)
        elif overrides(claim, member.row):
            member.put(claim, now)
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
            self.news.put(claim.id, claim.accuser)
        return True

    def better(self, low: NodeId, high: NodeId, theirs: Iterable[MemberRow]) -> list[MemberRow]:
        """The rows of members in low..high that override those in `theirs`, or are not there."""
        known = {row.id: row for row in theirs}
        live = (self.row_of(node) for node in self.table.ids(low, high))
        better = [
            row for row in live if row and (row.id not in known or overrides(row, known[row.id]))
        ]
        return better + self.fallen(known.values())

    def fallen(self, claims: Iterable[MemberRow]) -> list[MemberRow]:
        """The rows of members that died or left, for those of these claims that are older."""
        held = [(self._others.get(claim.id), claim) for claim in claims]
        return [m.row for m, claim in held if m and not m.is_live and overrides(m.row, claim)]

    def reap(self, before: int) -> None:
        """Delete members that died or left before that moment from the table.

        The last claim is remembered, so that a node that reaps later cannot bring them back as
        ghosts.
        """
        gone = [m for m in self._others.values() if not m.is_live and m.since < before]
        for member in gone:
            self._forget(member)
            self._reaped[member.row.id] = member.row
            if len(self._reaped) > self._rows_max:
                del self._reaped[next(iter(self._reaped))]

    def ghost(self, claim: MemberRow) -> MemberRow | None:
        """The claim with which a member was reaped, if the given claim is older.

        Whoever told the older claim must know this. Otherwise islands that reaped each other's
        members would never believe that those are back.
        """
        reaped = self._reaped.get(claim.id)
        if reaped is None or claim.id in self._others or not overrides(reaped, claim):
            return None
        return reaped

    def _forget(self, member: Member) -> None:
        del self._others[member.row.id]
        self._live = None
        self.news.pop(member.row.id, None)

    def refute(self, row: MemberRow, now: Micros) -> None:
        """Replace this node's own row by a newer one."""
        assert row.id == self.me.row.id
        self.me.put(row, now)
        if row.state in LIVE:
            self.table.put(row.id, member_hash(row))
        else:
            self.table.drop(row.id)
        self.news.put(row.id)

    def rename(self, node: NodeId) -> None:
        """Give this node another id. The former one is that of another node."""
        self.table.drop(self.me.row.id)
        self.news.pop(self.me.row.id, None)
        self.me.row = self.me.row._replace(id=node)
        self.table.put(node, member_hash(self.me.row))
        self.news.put(node)

    def take_news(self, listeners: int = 1, bytes_max: int = NEWS_BYTES) -> Rows:
        """The rows to tell to this many listeners, within a number of bytes."""
        return self.news.take(self.row_of, len(self._others) + 1, listeners, bytes_max)

    def news_for(self, node: NodeId) -> tuple[Update, ...]:
        """The news to piggyback on a packet to a member.

        A member that is not believed alive is told that first, so that it can refute (the buddy
        system of Lifeguard, section 4.3).
        """
        rows = self.take_news()
        if self.me.row.state is State.LEFT and self.me.row not in rows:
            rows = (self.me.row, *rows)  # Others believe that of itself alone.
        about = None if node == VISITOR else self._others.get(node)
        if about is not None and about.row.state is not State.ALIVE and about.row not in rows:
            rows = (about.row, *rows)
        return (Update(rows),) if rows else ()

    def row_of(self, node: NodeId) -> MemberRow | None:
        """A member's row, this node's own too. None: it is unknown."""
        member = self.get(node)
        return None if member is None else member.row

    def _make_room(self) -> bool:
        """Delete the member that has been dead for longest. A live one is never deleted."""
        if len(self._others) + 1 < self._rows_max:
            return True
        gone = [member for member in self._others.values() if not member.is_live]
        if not gone:
            return False
        self._forget(min(gone, key=lambda member: member.since))
        return True
