"""Push: new messages go to a few links the moment they may, and each node passes them on once.

Rules. A link is kept while its member lives, so that the graph is stable; only what is new is
forwarded, never back to its teller nor to the node that wrote it. What is lost is repaired by
pulls. Messages above ANNOUNCE_BYTES are announced (`have`) instead, and pulled by who lacks them.
"""

from __future__ import annotations

from functools import partial

from flc_udp.config import ID_BYTES
from flc_udp.core.effects import Send
from flc_udp.core.members import Member
from flc_udp.model.dots import Dot, NodeId
from flc_udp.model.message import Message
from flc_udp.wire.packets import Have, Rumor

ANNOUNCE_BYTES = 8_192
"""Above this a message costs more to push in vain than the round trip to ask for it."""


class Links:
    """Up to `links_max` live members that new messages are pushed to, and that push theirs here.

    All nodes stand on a few rings, each in another order of their ids, and are linked to their
    neighbours on each (Law and Siu 2003: such graphs expand). So every link has two ends that know
    of it, nobody is left out, and a coming or going moves two links a ring.
    """

    def __init__(self, links_max: int) -> None:
        self._links_max = links_max
        self._links: dict[NodeId, Member] = {}

    def refill(self, me: NodeId, live: list[Member]) -> None:
        """Be linked to all if they are few, else to the neighbours on the rings."""
        by_id = {member.row.id: member for member in live}
        if len(by_id) <= self._links_max:
            self._links = by_id
            return
        neighbours: dict[NodeId, None] = {}
        for ring in range(max(1, self._links_max // 2)):
            order = sorted([me, *by_id], key=partial(_turned, ring))
            at = order.index(me)
            neighbours |= dict.fromkeys((order[at - 1], order[(at + 1) % len(order)]))
        self._links = {node: by_id[node] for node in neighbours}

    def but(self, *nodes: NodeId | None) -> tuple[Member, ...]:
        """All links except these nodes'."""
        return tuple(member for node, member in self._links.items() if node not in nodes)


class Rumors:
    """What is to be pushed at the end of this turn, together with what is told alike."""

    def __init__(self) -> None:
        self._small: dict[tuple[NodeId | None, NodeId | None, bool], list[bytes]] = {}
        self._large: dict[tuple[NodeId | None, NodeId | None], list[Dot]] = {}

    def push(
        self, message: Message, teller: NodeId | None, writer: NodeId | None, *, receipt: bool
    ) -> None:
        """A message that may be sent whole; `teller` and `writer` have it already."""
        self._small.setdefault((teller, writer, receipt), []).append(message.encoded)

    def announce(self, message: Message, writer: NodeId | None) -> None:
        """A large message that is durable here."""
        self._large.setdefault((None, writer), []).append(message.dot)

    def take(self, links: Links) -> list[Send]:
        """The pushes of this turn, one for each set of receivers."""
        sends = []
        for (teller, writer, receipt), messages in self._small.items():
            to = tuple(member.row.address for member in links.but(teller, writer))
            if to:
                sends.append(Send(to, (Rumor(receipt, tuple(messages)),)))
        for (teller, writer), dots in self._large.items():
            to = tuple(member.row.address for member in links.but(teller, writer))
            if to:
                sends.append(Send(to, (Have(tuple(dots)),)))
        self._small.clear()
        self._large.clear()
        return sends


def _turned(ring: int, node: NodeId) -> bytes:
    """An id as the key of one ring: ids are random, so each of their bytes gives another order."""
    at = ring % ID_BYTES
    return node[at:] + node[:at]
