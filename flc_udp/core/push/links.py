"""Links: the tree along which new messages are pushed (Plumtree, Leitão et al. 2007).

    eager links carry messages      lazy links carry `have`: what is durable here, in a few bytes
    duplicates on a link ─▶ prune ─▶ both ends go lazy
    a `have` of what does not come ─▶ pull ─▶ a second time ─▶ graft ─▶ both ends go eager

Rules. Links are symmetric, so one tree serves every author. All nodes prune by the same few blocks.
The links by which one block came first are a tree, so nobody is cut off however many nodes prune by
it at once. The last eager link is never pruned, and where the network loses much, neither are the
second and the third: what is lost on one link then comes on another, sooner than it would be missed
and asked for. One miss is a lost datagram; two in a row are a broken branch.

In a large cluster all members stand on a few rings, on each in another order of their ids, and
every member is linked to its two neighbours on each ring (Law and Siu 2003: such graphs expand). So
both ends know of every link, nobody is left out, and a member that comes or goes moves two links on
each ring.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import ceil, log2

from flc_udp.config import ID_BYTES, SHARED_BYTES_MAX
from flc_udp.core.effects import Send
from flc_udp.core.liveness.members import Member
from flc_udp.core.push.window import BUFFER_BYTES, PushWindow, Reading
from flc_udp.model.address import Address
from flc_udp.model.block import Block, peek_dot
from flc_udp.model.dots import BEGINNING, Dot, NodeId
from flc_udp.model.units import MS_US, SECOND_US, Micros
from flc_udp.wire.packets import Rumor, Taken

ANNOUNCE_BYTES = 8_192
"""A larger block is announced and pulled. Pushing it in vain would cost more than asking for it.
"""

PRUNE_PERIOD_MS = 300
"""Nodes prune by the first block that the lead log has in each such period of its author's clock.
The prunes by the one before are done by then."""

PRUNE_PAUSE_US = PRUNE_PERIOD_MS * MS_US // 2
"""And never sooner after the one before, whatever that clock says."""

LEAD_US = 2 * SECOND_US
"""The lead log is the one with the lowest id of those that spoke within this time."""

GRAFT_WITHIN_US = 300 * MS_US
"""Two misses within this time, on whatever links, graft a link. A single one was a lost datagram.
"""

MISSED_SHARE = 0.06
"""A node keeps more eager links if all of them together miss a larger share of the messages."""

MISSED_OVER = 128
"""The share is an average over about this many messages."""

LOSS_BYTES = 65_536
"""How much is lost on the way is an average over about this many bytes that peers acknowledged. A
node that is merely slow misses much, too, and more eager links would make it slower."""

LOSS_FOR_US = 10 * SECOND_US
"""What windows tell of losses is believed for this long."""

LOSS_MOST = 0.99
"""The loss where windows tell nothing. More is never believed: no number of links would help."""

EAGER_LEAST_MOST = 4
"""This many links stay eager however much is lost."""

Addresses = tuple[Address, ...]


@dataclass(slots=True)
class Link:
    """One peer that this node pushes to, and that pushes to this node."""

    member: Member
    boot: int
    """The run of the member. Another one counts what it pushes, and what came, anew."""
    is_eager: bool = True
    window: PushWindow = field(default_factory=PushWindow)
    """What this node pushes over it."""
    reading: Reading = field(default_factory=Reading)
    """What the peer pushes over it."""


def eager_least(missed: float, eager: int, loss_max: float = LOSS_MOST) -> int:
    """How many links must stay eager, if with `eager` of them this share of messages is missed.

    If each link loses the share p, all together lose p to the power of `eager`. It is known that p
    is at most `loss_max`.
    """
    loss = min(missed ** (1 / max(eager, 1)), loss_max, LOSS_MOST)
    if loss <= MISSED_SHARE:
        return 1
    return min(ceil(log2(MISSED_SHARE) / log2(loss)), EAGER_LEAST_MOST)


def pushed_bytes(size: int) -> int:
    """How many bytes of an encoded block of this size are pushed over each eager link."""
    return size if size <= ANNOUNCE_BYTES else 0


class Links:
    """Up to `links_max` live members that new messages are pushed to. Times are in µs."""

    def __init__(self, links_max: int, buffer_bytes: int = BUFFER_BYTES) -> None:
        self._links_max = links_max
        self._buffer_bytes = buffer_bytes
        self._pushed_bytes = 0
        self._links: dict[NodeId, Link] = {}
        self._rings = Rings(max(1, links_max // 2))
        self._prune_by: Dot | None = None
        self._brought_by: NodeId | None = None
        """Who told the block by which all prune first. A copy of it may come after it."""
        self._lead = BEGINNING
        """The log by whose blocks all nodes prune."""
        self._leads_until = 0
        self._period = self._next_prune = 0
        self._missed_at = -GRAFT_WITHIN_US
        self._missed = 0.0
        self._loss = LOSS_MOST
        """The share of bytes that is lost on the way at most, as windows told at `_told_at`."""
        self._told_at = 0

    def refill(self, me: NodeId, live: list[Member]) -> None:
        """Be linked to all members if they are few, else to neighbours.

        New links are eager, and the link to a member that restarted is a new one at both ends.
        """
        by_id = {member.row.id: member for member in live}
        self._rings.stand({me, *by_id})
        chosen = by_id if len(by_id) <= self._links_max else self._rings.neighbours(me)
        before, self._links = self._links, {}
        for node in chosen:
            member, link = by_id[node], before.get(node)
            if link is None or link.boot != member.row.boot:
                link = Link(member, member.row.boot)
            self._links[node] = link

    def get(self, node: NodeId) -> Link | None:
        """The link to that member, if there is one."""
        return self._links.get(node)

    # --- Pushing ----------------------------------------------------------------------------------

    def push(
        self,
        blocks: tuple[bytes, ...],
        but: Sequence[NodeId | None],
        now: Micros,
        *,
        receipt: bool,
    ) -> Send:
        """Push blocks over every eager link, except to these nodes.

        Return what is to be sent now. Where a window has no room, it waits.
        """
        size = sum(map(len, blocks))
        self._pushed_bytes += size
        rumor = Rumor(receipt, self._pushed_bytes, blocks)
        to = tuple(
            link.member.row.address
            for node, link in self._links.items()
            if link.is_eager and node not in but and link.window.push(rumor, size, now)
        )
        return Send(to, (rumor,))

    def take_waiting(self, now: Micros) -> list[Send]:
        """What waited, and may be pushed now."""
        return [
            Send((link.member.row.address,), tuple(rumors))
            for link in self._links.values()
            if link.window.waiting and (rumors := link.window.take_waiting(now))
        ]

    @property
    def is_waiting(self) -> bool:
        """Whether anything waits for a window to open."""
        return any(link.window.waiting for link in self._links.values())

    def taken(self, node: NodeId, taken: Taken, now: Micros) -> None:
        """A peer has read what was pushed to it."""
        link = self._links.get(node)
        if link is not None:
            acknowledged, lost = link.window.taken(*taken, now)
            lost_before = self._loss_max(now) * LOSS_BYTES
            self._loss = (lost_before + lost) / (LOSS_BYTES + acknowledged)
            self._told_at = now

    def room(self, now: Micros) -> int | None:
        """How many bytes may be pushed so that at least half of the peers have room for them.

        Only peers count that messages are pushed to and that answer. None: there is no such peer,
        and no limit.
        """
        windows = [link.window for link in self._links.values() if link.is_eager]
        room = sorted(w.limit - w.in_flight - w.waiting for w in windows if w.answers(now))
        return room[len(room) // 2] if room else None

    def came(self, node: NodeId, at: int, size: int) -> Taken | None:
        """A node pushed this many bytes here, up to its byte `at`. Return what to answer."""
        link = self._links.get(node)
        read = (at, at) if link is None else link.reading.take(at, size)
        if read is None:
            return None
        return Taken(*read, room=self._buffer_bytes // max(self._eager, 1))

    def came_in_pieces(self, node: NodeId, size: int) -> None:
        """A part of a block came, which may have been pushed."""
        link = self._links.get(node)
        if link is not None:
            link.reading.add(size)

    def all(self, but: NodeId | None) -> Addresses:
        """The addresses of all peers except that one."""
        return self._addresses(but, self._links)

    def told(self, but: NodeId | None, now: Micros) -> Addresses:
        """Peers that are only told what there is: over lazy links, and where rumors were lost."""
        links = self._links.items()
        told = [node for node, link in links if not link.is_eager or link.window.is_behind(now)]
        return self._addresses(but, told)

    def _addresses(self, but: NodeId | None, nodes: Iterable[NodeId]) -> Addresses:
        return tuple(self._links[node].member.row.address for node in nodes if node != but)

    # --- The tree ---------------------------------------------------------------------------------

    def heard(self, block: Block, teller: NodeId | None, now: Micros) -> None:
        """A new block came, or one was said here. See whether all nodes prune by it.

        A larger block is not known by its rumor everywhere, so no node prunes by it.
        """
        if len(block.encoded) > SHARED_BYTES_MAX:
            return
        if block.log > self._lead and now < self._leads_until:
            return
        self._lead, self._leads_until = block.log, now + LEAD_US
        period, self._period = self._period, block.wall // PRUNE_PERIOD_MS
        if self._period != period and now >= self._next_prune:
            self._prune_by, self._brought_by = block.dot, teller
            self._next_prune = now + PRUNE_PAUSE_US

    def brought(self, node: NodeId, blocks: Sequence[bytes], now: Micros, *, is_new: bool) -> bool:
        """A rumor with these blocks came over a link. True: the link is to be pruned."""
        if is_new:
            self._missed -= self._missed / MISSED_OVER
        link = self._links.get(node)
        if link is None or is_new or node == self._brought_by:
            return False
        if self._prune_by not in map(peek_dot, blocks):
            return False
        if link.is_eager and self._eager <= self._eager_least(now):
            return False
        self.prune(node)
        return True

    def prune(self, node: NodeId) -> None:
        """This end of the link goes lazy."""
        link = self._links.get(node)
        if link is not None:
            link.is_eager = False
            link.window.drop_waiting()

    def graft(self, node: NodeId) -> None:
        """This end of the link goes eager."""
        link = self._links.get(node)
        if link is not None:
            link.is_eager = True

    def missed(self, node: NodeId, now: Micros) -> bool:
        """What a peer told of did not come by the tree. True: the link to it is grafted.

        An eager link may be grafted too: the graft that made this end eager may have been lost on
        its way. A node with too few eager links, because others pruned them, does not wait for a
        second miss.
        """
        is_second = now - self._missed_at <= GRAFT_WITHIN_US
        self._missed_at = now
        self._missed += (1 - self._missed) / MISSED_OVER
        has_few = self._eager < self._eager_least(now)
        if node not in self._links or not (is_second or has_few):
            return False
        self.graft(node)
        return True

    def _eager_least(self, now: Micros) -> int:
        """How many links must stay eager."""
        return eager_least(self._missed, self._eager, self._loss_max(now))

    def _loss_max(self, now: Micros) -> float:
        return self._loss if now - self._told_at <= LOSS_FOR_US else LOSS_MOST

    @property
    def _eager(self) -> int:
        return sum(link.is_eager for link in self._links.values())


class Rings:
    """The members of one cluster on `count` rings."""

    def __init__(self, count: int) -> None:
        self._rings: list[list[bytes]] = [[] for _ in range(count)]
        self._nodes: set[NodeId] = set()

    def stand(self, nodes: set[NodeId]) -> None:
        """Let exactly these members stand on the rings. The cost is that of those that changed."""
        for node in self._nodes - nodes:
            for number, ring in enumerate(self._rings):
                del ring[bisect_left(ring, _turned(number, node))]
        for node in nodes - self._nodes:
            for number, ring in enumerate(self._rings):
                insort(ring, _turned(number, node))
        self._nodes = nodes

    def neighbours(self, node: NodeId) -> dict[NodeId, None]:
        """The members next to one, on all rings."""
        neighbours: dict[NodeId, None] = {}
        for number, ring in enumerate(self._rings):
            at = bisect_left(ring, _turned(number, node))
            for key in (ring[at - 1], ring[(at + 1) % len(ring)]):
                neighbours[NodeId(_turned(-number, key))] = None
        return neighbours


def _turned(ring: int, node: bytes) -> bytes:
    """An id as the key of one ring. Ids are random, so each of their bytes gives another order."""
    at = ring % ID_BYTES
    return node[at:] + node[:at]
