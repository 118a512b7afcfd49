"""Push: new messages go to a few links the moment they may, and each node passes them on once.

Rules. A link is kept while its member lives, so that the graph is stable; only what is new is
forwarded, never back to its teller nor to the node that wrote it. What is lost is repaired by
pulls. Messages above ANNOUNCE_BYTES are announced (`have`) instead, and pulled by who lacks them.
"""

from __future__ import annotations

from random import Random

from flc_udp.core.effects import Send
from flc_udp.core.members import Member
from flc_udp.model.dots import Dot, NodeId
from flc_udp.model.message import Message
from flc_udp.wire.packets import Have, Rumor

ANNOUNCE_BYTES = 8_192
"""Above this a message costs more to push in vain than the round trip to ask for it."""


class Links:
    """Up to `links_max` live members that new messages are pushed to."""

    def __init__(self, random: Random, links_max: int) -> None:
        self._random = random
        self._links_max = links_max
        self._links: dict[NodeId, Member] = {}

    def refill(self, live: list[Member]) -> None:
        """Keep the links that live, fill the free places by chance."""
        by_id = {member.row.id: member for member in live}
        self._links = {node: by_id[node] for node in self._links if node in by_id}
        free = self._links_max - len(self._links)
        others = [member for node, member in by_id.items() if node not in self._links]
        if free > 0 and others:
            chosen = self._random.sample(others, min(free, len(others)))
            self._links.update((member.row.id, member) for member in chosen)

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
