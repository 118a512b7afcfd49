"""Push: new messages go along one shared tree the moment they may (Plumtree, Leitão et al. 2007).

    eager links carry messages      lazy links carry `have`: what is durable here, a few bytes
    duplicates on a link ─▶ prune ─▶ both ends lazy
    a `have` of what does not come ─▶ pull ─▶ a second time ─▶ graft ─▶ both ends eager

Rules. Links are symmetric, so the tree serves every author. Only what is new is forwarded, never
back to its teller nor to the node that wrote it. All nodes prune by the same few messages: the
links that one message came first by are a tree, so however many nodes prune by it at once, nobody
is cut off. The last eager link is never pruned, where the network loses much not the second and
third either: what is lost on one comes on another, sooner than it is missed and asked for. One miss
is a lost datagram, two in a row are a broken branch. Beyond a link's window (`window`) its peer is
only told, and pulls. Messages above ANNOUNCE_BYTES are announced on all links and pulled.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from math import ceil, log2

from flc_udp.config import ID_BYTES
from flc_udp.core.effects import Send
from flc_udp.core.liveness.members import Member
from flc_udp.core.push.window import Window
from flc_udp.model.address import Address
from flc_udp.model.dots import Dot, LogId, NodeId
from flc_udp.model.message import Message
from flc_udp.wire.packets import Have, Rumor

MS = 1_000

ANNOUNCE_BYTES = 8_192
"""Above this a message costs more to push in vain than the round trip to ask for it."""

PRUNE_AFTER = 5
"""Rumors that brought nothing new on one link, less those that did, before it is pruned."""

PRUNE_EVERY = 4
"""One message in so many is pruned by. Which they are all nodes know alike, by the dot."""

PRUNE_PAUSE = 300 * MS
"""From one message that a node prunes by to the next: the prunes of the first are done by then."""

GRAFT_WITHIN = 300 * MS
"""Two misses within it, on whatever links, graft one; a single one was a lost datagram."""

MISSED_SHARE = 0.06
"""Of messages, so many may be missed on all eager links together before there are more of them."""

MISSED_OVER = 128
"""Messages that the share is an average over."""

EAGER_LEAST_MOST = 4
"""Links that stay eager however much is lost."""

PART_BYTES = 8_192
"""What goes into a link's window at a time: a few datagrams."""

HAVE_PAUSE = 20 * MS
"""What lazy links are told is collected for so long: one dot a log says it all."""


Addresses = tuple[Address, ...]


@dataclass(slots=True)
class _Link:
    member: Member
    is_eager: bool = True
    duplicates: int = 0
    window: Window = field(default_factory=Window)


def eager_least(missed: float, eager: int) -> int:
    """How many links are to stay eager, if with so many of them this share of messages is missed.

    Each loses p, where all lose p to the power of `eager`.
    """
    loss = min(missed ** (1 / max(eager, 1)), 0.99)
    if loss <= MISSED_SHARE:
        return 1
    return min(ceil(log2(MISSED_SHARE) / log2(loss)), EAGER_LEAST_MOST)


def pushed_bytes(size: int) -> int:
    """Of an encoded message of so many: what is pushed of it to each eager link."""
    return size if size <= ANNOUNCE_BYTES else 0


class Links:
    """Up to `links_max` live members that new messages are pushed to, and that push theirs here.

    All nodes stand on a few rings, each in another order of their ids, and are linked to their
    neighbours on each (Law and Siu 2003: such graphs expand). So every link has two ends that know
    of it, nobody is left out, and a coming or going moves two links a ring.
    """

    def __init__(self, links_max: int, window_bytes: int) -> None:
        self._links_max = links_max
        self._window_bytes = window_bytes
        self._pushed = 0
        self._links: dict[NodeId, _Link] = {}
        self._rings: list[list[bytes]] = [[] for _ in range(max(1, links_max // 2))]
        self._on_rings: set[NodeId] = set()
        self._prune_by: Dot | None = None
        self._next_prune = 0
        self._missed_at = -GRAFT_WITHIN
        self._missed = 0.0

    def refill(self, me: NodeId, live: list[Member]) -> None:
        """Be linked to all if they are few, else to neighbours on the rings; eagerly at first."""
        by_id = {member.row.id: member for member in live}
        self._turn_rings({me, *by_id})
        chosen = by_id if len(by_id) <= self._links_max else self._neighbours(me, by_id)
        self._links = {
            node: self._links.get(node) or _Link(member) for node, member in chosen.items()
        }

    def push(self, size: int, but: Sequence[NodeId | None], now: int) -> tuple[Addresses, int]:
        """Push so many bytes: where to, and what this node has pushed with them altogether.

        To eager links that have room for them, except to these nodes.
        """
        self._pushed += size
        to = tuple(
            link.member.row.address
            for node, link in self._links.items()
            if link.is_eager
            and node not in but
            and link.window.push(self._pushed, size, self._window_bytes, now)
        )
        return to, self._pushed

    def taken(self, node: NodeId, at: int, now: int) -> None:
        """A peer has read what was pushed to it so far."""
        link = self._links.get(node)
        if link is not None:
            link.window.taken(at, now)

    def window(self, node: NodeId) -> tuple[Window, bool] | None:
        """Of a link to that node: its window, and whether it is eager; None where there is none."""
        link = self._links.get(node)
        return None if link is None else (link.window, link.is_eager)

    def room(self, now: int) -> int | None:
        """How many bytes may be pushed so that at least half of the peers have room for them.

        Of those peers that are pushed to and that answer; None where there are none: no limit.
        """
        windows = [link.window for link in self._links.values() if link.is_eager]
        room = sorted(self._window_bytes - w.in_flight for w in windows if w.answers(now))
        return room[len(room) // 2] if room else None

    def came(self, node: NodeId, size: int) -> bool:
        """So many bytes were pushed here by a node; whether to tell it how far they were read."""
        link = self._links.get(node)
        return link is None or link.window.came(size)

    def all(self, *but: NodeId | None) -> Addresses:
        """Every link, except to these nodes."""
        return self._addresses(but)

    def told(self, now: int, *but: NodeId | None) -> Addresses:
        """Where messages are only told of: lazy links, and those that had no room for some."""
        told = [
            node
            for node, link in self._links.items()
            if not link.is_eager or link.window.is_behind(now)
        ]
        return self._addresses(but, told)

    def brought(self, node: NodeId, dot: Dot | None, *, is_new: bool, now: int) -> bool:
        """A rumor, `dot` its first message, came over a link; True if it is to be pruned for it."""
        if is_new:
            self._missed -= self._missed / MISSED_OVER
            self._choose(dot, now)
        link = self._links.get(node)
        if link is None:
            return False
        link.duplicates = max(link.duplicates + (-1 if is_new else 1), 0)
        if is_new or link.duplicates < PRUNE_AFTER or dot is None or dot != self._prune_by:
            return False
        if link.is_eager and self._eager <= eager_least(self._missed, self._eager):
            return False
        self.prune(node)
        return True

    def _choose(self, dot: Dot | None, now: int) -> None:
        """A message came first by a link: if all prune by it, links that bring it later may go."""
        if dot is None or now < self._next_prune or (dot.seq + dot.log[0]) % PRUNE_EVERY:
            return
        self._prune_by = dot
        self._next_prune = now + PRUNE_PAUSE

    def prune(self, node: NodeId) -> None:
        """This end goes lazy."""
        link = self._links.get(node)
        if link is not None:
            link.is_eager, link.duplicates = False, 0

    def graft(self, node: NodeId) -> None:
        """This end goes eager."""
        link = self._links.get(node)
        if link is not None:
            link.is_eager, link.duplicates = True, 0

    def missed(self, node: NodeId, now: int) -> bool:
        """Something that a link told of did not come otherwise; True if the link is grafted.

        An eager one too: the graft that made this end eager may have been lost on its way. A node
        that has too few eager links, because others pruned them, waits for no second miss.
        """
        is_second = now - self._missed_at <= GRAFT_WITHIN
        self._missed_at = now
        self._missed += (1 - self._missed) / MISSED_OVER
        has_few = self._eager < eager_least(self._missed, self._eager)
        if node not in self._links or not (is_second or has_few):
            return False
        self.graft(node)
        return True

    @property
    def _eager(self) -> int:
        return sum(link.is_eager for link in self._links.values())

    def _neighbours(self, me: NodeId, by_id: dict[NodeId, Member]) -> dict[NodeId, Member]:
        neighbours: dict[NodeId, Member] = {}
        for number, ring in enumerate(self._rings):
            at = bisect_left(ring, _turned(number, me))
            for key in (ring[at - 1], ring[(at + 1) % len(ring)]):
                node = _turned(-number, key)
                neighbours[node] = by_id[node]
        return neighbours

    def _turn_rings(self, nodes: set[NodeId]) -> None:
        """Move on the rings who came and who went, not all that are there."""
        for node in self._on_rings - nodes:
            for number, ring in enumerate(self._rings):
                del ring[bisect_left(ring, _turned(number, node))]
        for node in nodes - self._on_rings:
            for number, ring in enumerate(self._rings):
                insort(ring, _turned(number, node))
        self._on_rings = nodes

    def _addresses(
        self, but: tuple[NodeId | None, ...], nodes: Iterable[NodeId] | None = None
    ) -> Addresses:
        chosen = self._links if nodes is None else nodes
        return tuple(self._links[node].member.row.address for node in chosen if node not in but)


class Rumors:
    """What is to be told at the end of this turn, and what lazy links are to be told soon."""

    def __init__(self) -> None:
        self._small: dict[tuple[NodeId | None, NodeId | None, bool], list[bytes]] = {}
        self._large: dict[NodeId | None, list[Dot]] = {}
        self._heads: dict[LogId, tuple[int, NodeId | None]] = {}
        self._have_at: int | None = None

    @property
    def wake_at(self) -> int | None:
        """When lazy links are told."""
        return self._have_at

    def push(
        self, message: Message, teller: NodeId | None, writer: NodeId | None, *, receipt: bool
    ) -> None:
        """A message that may be sent whole; `teller` and `writer` have it already."""
        self._small.setdefault((teller, writer, receipt), []).append(message.encoded)

    def announce(self, message: Message, writer: NodeId | None) -> None:
        """A large message that is durable here."""
        self._large.setdefault(writer, []).append(message.dot)

    def have(self, message: Message, writer: NodeId | None, now: int) -> None:
        """A message that is durable here, and with it all before it in its log."""
        self._heads[message.log] = (message.seq, writer)
        if self._have_at is None:
            self._have_at = now + HAVE_PAUSE

    def take(self, links: Links, now: int) -> list[Send]:
        """What is due, one send for each set of receivers."""
        sends = []
        for (teller, writer, receipt), messages in self._small.items():
            for part, size in _parts(messages):
                to, at = links.push(size, (teller, writer), now)
                sends.append(Send(to, (Rumor(receipt, at, part),)))
        for writer, dots in self._large.items():
            sends.append(Send(links.all(writer), (Have(True, tuple(dots)),)))
        self._small.clear()
        self._large.clear()
        if self._have_at is not None and self._have_at <= now:
            sends += self._take_heads(links, now)
        return [send for send in sends if send.to]

    def _take_heads(self, links: Links, now: int) -> list[Send]:
        by_writer: dict[NodeId | None, list[Dot]] = {}
        for log, (seq, writer) in self._heads.items():
            by_writer.setdefault(writer, []).append(Dot(log, seq))
        self._heads.clear()
        self._have_at = None
        return [
            Send(links.told(now, writer), (Have(False, tuple(dots)),))
            for writer, dots in by_writer.items()
        ]


def _parts(messages: list[bytes]) -> Iterator[tuple[tuple[bytes, ...], int]]:
    """Messages in parts of about PART_BYTES, each with its size: a window ends between two."""
    part: list[bytes] = []
    size = 0
    for encoded in messages:
        part.append(encoded)
        size += len(encoded)
        if size >= PART_BYTES:
            yield tuple(part), size
            part, size = [], 0
    if part:
        yield tuple(part), size


def _turned(ring: int, node: NodeId) -> bytes:
    """An id as the key of one ring: ids are random, so each of their bytes gives another order."""
    at = ring % ID_BYTES
    return node[at:] + node[:at]
