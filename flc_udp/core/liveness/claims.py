"""Claims about members: which are believed, what follows from them, and which are refuted.

Rules. The member table decides what is believed, by one order. A node that hears of a new suspicion
may verify it at once, because independent accusers shorten it (`suspicion`). This node refutes
every claim about itself that differs from what it says, at a higher incarnation. Another process
under this node's id is a clone. Of the two, the one with the lower boot nonce takes a new id, and a
node takes at most one in a minute, whatever others claim.

A member that was not heard yet is believed to be there when it answers (`hearsay`). A member that
others say left is probed first. Of two members at one address the one that answers there now is
there, and the other one is not any more.
"""

from flc_udp.config import ID_BYTES
from flc_udp.core.liveness.detector import Detector
from flc_udp.core.liveness.health import Change
from flc_udp.core.liveness.hearsay import Hearsay
from flc_udp.core.liveness.members import LIVE, MemberTable, Rows
from flc_udp.core.liveness.rejoin import Rejoin
from flc_udp.core.liveness.suspicion import Suspicions, limits_of
from flc_udp.core.notices import MEMBER_NOTICES, CloneMet, MemberSuspected, Refuted
from flc_udp.core.shared import CoreMachine, Shared
from flc_udp.model.address import Address
from flc_udp.model.dots import VISITOR, NodeId
from flc_udp.model.errors import Drop
from flc_udp.model.tags import Tags
from flc_udp.model.units import SECOND_US, Micros
from flc_udp.wire.packets import Join, Leave, MemberDigest, Members, Packet, Update
from flc_udp.wire.rows import MemberRow, State

NEW_ID_PAUSE_US = 60 * SECOND_US
"""A node takes no second new id before."""

INCARNATION_LEAD = 1 << 33
"""Incarnations begin at the seconds of a clock. One that is further ahead of this node's than any
clock below the year 2200 can be is malformed: after the last one nobody could refute anything. A
node that others drove half as far takes a new id."""

VERIFIERS = 8
"""About this many members verify a new suspicion by a probe of their own, at any cluster size. If
the suspect lives, 3 of 8 accuse it all the same only once in 70 times."""


class Claims(CoreMachine):
    """Decides what one node believes of members."""

    def __init__(
        self, shared: Shared, members: MemberTable, detector: Detector, rejoin: Rejoin
    ) -> None:
        super().__init__(shared)
        self.suspicions = Suspicions()
        self.changed = True
        """Whether there is news that nobody was told yet."""
        self._members = members
        self._detector = detector
        self._rejoin = rejoin
        self._me = members.me
        self._started = self._me.row.incarnation
        self._walls = shared.walls
        self.hearsay = Hearsay(shared)
        self._new_id_at = self._clone_told_at = -NEW_ID_PAUSE_US
        self.bound = self._me.row.address
        """The address that this node was born with. A wildcard: it is told by others where it is.
        """

    def doubted(self, row: MemberRow, sender: NodeId, now: Micros) -> MemberRow:
        """Take a member that another node calls dead for a suspect first, with time to refute.

        Otherwise two islands that merge would take all members of the other side for dead, until
        each of them refutes. A member that has long been suspect here is dead at once. One that
        another node says left is asked first.
        """
        held = self._members.get(row.id)
        if row.state is State.LEFT and sender != row.id and held and held.is_live:
            self._detector.said_left[row.id] = row
            self._detector.probe(row.id, now)
            return held.row
        if row.state is not State.DEAD or held is None or not held.is_live:
            return row
        if not self._settings.lifeguard or self.suspicions.is_ripe(row.id, now):
            return row
        return row._replace(state=State.SUSPECT, accuser=sender)

    def hear(self, row: MemberRow, now: Micros, *, is_news: bool = True) -> bool:
        """Believe a claim if it overrides what is believed. Return whether it did."""
        if row.id == self._me.row.id:
            self.hear_of_me(row, now)
            return False
        before = self._members.get(row.id)
        if (before is not None and before.row is row) or row.address.is_wildcard:
            return False  # Most claims are heard again and again.
        if before is None:
            self._bury(row, now)
        state_before = None if before is None else before.row.state
        if not self._members.apply(row, now, is_news=is_news):
            self._hear_accuser(row)
            return False
        self.changed = True
        if row.state is State.SUSPECT:
            self._begin_suspicion(row, now)
        else:
            self.suspicions.clear(row.id)
        if row.state not in LIVE:
            self._detector.probes.drop(row.id)
        if row.state is State.DEAD:
            self._rejoin.add_dead(row.address, len(self._members.live_by_id()), now)
        elif row.state in (State.ALIVE, State.LEFT):
            self._rejoin.answered(row.address)
        if row.state != state_before:
            self._tell(row)
        return True

    def hear_of(
        self, row: MemberRow, sender: NodeId, source: Address, now: Micros, *, is_news: bool
    ) -> bool:
        """Hear a claim that a node at `source` makes. Return whether it was new and is possible."""
        if row.incarnation > self._walls.own // 1_000 + INCARNATION_LEAD:
            self._drops[Drop.INCARNATION_AHEAD] += 1
            return False
        is_known = row.id == self._me.row.id or self._members.get(row.id) is not None
        if is_known or (row.id == sender and row.address == source):
            return self.hear(self.doubted(row, sender, now), now, is_news=is_news)
        if row.state not in LIVE or row.address.is_wildcard or self._members.ghost(row):
            return False
        return self.hearsay.add(row, sender, source, is_news=is_news)

    def answered(self, nonce: int, sender: NodeId, now: Micros) -> None:
        """A member answers a ping: it is there, and did not leave."""
        self._detector.said_left.pop(sender, None)
        told = self.hearsay.answered(nonce, sender)
        if told is not None:
            self.hear(told.row, now, is_news=told.is_news)

    @property
    def wake_at(self) -> int:
        """When somebody is to be asked who was only told of, or a suspect dies."""
        return min(self.hearsay.wake_at, self.suspicions.wake_at)

    def ask(self, now: Micros) -> None:
        """Ask those of whom others told."""
        for nonce, address in self.hearsay.take_due(now):
            self._out.send(address, self._detector.ping(nonce))

    def _bury(self, row: MemberRow, now: Micros) -> None:
        """A member is new here: whoever was at its address before is there no more."""
        for member in self._members.live():
            if member.row.address == row.address:
                self.hear(member.row._replace(state=State.LEFT, accuser=VISITOR), now)

    def _hear_accuser(self, row: MemberRow) -> None:
        """A known accusation by a new accuser is a confirmation, and is passed on as such."""
        member = self._members.get(row.id)
        if member is None or row.state is not State.SUSPECT or row[:3] != member.row[:3]:
            return
        if self.suspicions.confirm(row.id, row.accuser):
            self._members.news.confirm(row.id, row.accuser)
            self.changed = True

    def hear_of_me(self, row: MemberRow, now: Micros) -> None:
        """Refute a claim about this node that differs from what this node says."""
        me = self._me.row
        if row.state is State.ALIVE and row.boot != me.boot and row.incarnation > self._started:
            self._meet_clone(row, now)
            if row.id != self._me.row.id:
                return
        seen_at = me.address
        is_newest = row.state is State.ALIVE and row.incarnation >= me.incarnation
        if me.address.is_wildcard or (self.bound.is_wildcard and is_newest):
            seen_at = row.address
        # Any difference counts, not only the state: with a restored disk a run may begin at the
        # incarnation of a run that was lost with the disk.
        contested = row.incarnation >= me.incarnation and row != me
        if me.state is State.LEFT or not (contested or seen_at != me.address):
            return
        if row.state is not State.ALIVE:
            self._detector.health.note(Change.ACCUSED, now)
        incarnation = max(row.incarnation, me.incarnation) + 1
        if self._speak(me._replace(incarnation=incarnation, address=seen_at), row, now):
            self._out.append(Refuted(row.state.name.lower(), incarnation))

    def retag(self, tags: Tags, now: Micros) -> None:
        """Have other tags from now on. A node that leaves keeps those it has."""
        me = self._me.row
        if tags != me.tags and me.state is not State.LEFT:
            self._speak(me._replace(incarnation=me.incarnation + 1, tags=tags), me, now)

    def _speak(self, me: MemberRow, instead_of: MemberRow, now: Micros) -> bool:
        """Say this of this node from now on. False: it took a new id instead."""
        self.changed = True
        is_driven = me.incarnation > self._walls.own // 1_000 + INCARNATION_LEAD // 2
        if is_driven and self._may_take_new_id(now):
            self._take_new_id(instead_of, now)
            return False
        self._members.refute(me, now)
        return True

    def _meet_clone(self, row: MemberRow, now: Micros) -> None:
        """Another process runs under this node's id. The one with the lower nonce takes a new id.

        A claim of a former run would not be newer than what this run began with.
        """
        keeps = self._me.row.boot > row.boot or not self._may_take_new_id(now)
        if not keeps or now >= self._clone_told_at + NEW_ID_PAUSE_US:
            self._clone_told_at = now
            self._out.append(CloneMet(row.id, row.address, keeps))
        if not keeps:
            self._take_new_id(row, now)

    def _may_take_new_id(self, now: Micros) -> bool:
        return now >= self._new_id_at + NEW_ID_PAUSE_US

    def _take_new_id(self, claim: MemberRow, now: Micros) -> None:
        """Be another node from now on. `claim` says what is known of the node this one was."""
        self._new_id_at = now
        self._started = self._me.row.incarnation
        self._members.rename(NodeId(self._random.randbytes(ID_BYTES)))
        self.hear_of(claim, self._me.row.id, self._me.row.address, now, is_news=True)
        self.changed = True

    def accuse(self, node: NodeId, state: State, now: Micros) -> None:
        """Claim that a member is in this state. A suspicion names this node as accuser."""
        member = self._members.get(node)
        if member is not None and member.is_live:
            accuser = self._me.row.id if state is State.SUSPECT else VISITOR
            self.hear(member.row._replace(state=state, accuser=accuser), now)

    def _begin_suspicion(self, row: MemberRow, now: Micros) -> None:
        live = len(self._members.live_by_id())
        self.suspicions.start(row.id, row.accuser, limits_of(self._settings, live), now)
        may_verify = self._settings.lifeguard and row.accuser != self._me.row.id
        if may_verify and self._random.random() * live < VERIFIERS:
            self._detector.probe(row.id, now)

    def _tell(self, row: MemberRow) -> None:
        who = (row.id, row.name, row.address)
        if row.state is State.SUSPECT:
            accuser = self._members.get(row.accuser)
            name = None if accuser is None else accuser.row.name
            self._out.append(MemberSuspected(*who, accuser=name))
        else:
            self._out.append(MEMBER_NOTICES[row.state](*who))


def claims_of(packet: Packet) -> Rows:
    """The claims about members in a packet."""
    match packet:
        case Join(row) | Leave(_, row):
            return (row,)
        case Members() | MemberDigest() | Update():
            return packet.rows
        case _:
            return ()
