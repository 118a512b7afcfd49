"""Under which keys others are heard, and who is not heard because this node has not its key.

Rules. A datagram under a key that this node does not have authenticates nobody: anybody can send
one, from any address that he writes into it. So only an address that goes on sending counts, what
is kept is bounded, and a member that is well by its other datagrams is never doubted for it. The
same holds for a datagram whose seal is broken, so it is counted and no more. But where several come
within a minute in the session of a member and from its address, something is wrong with that member
or with the way from it, and that is worth telling, for a while.
"""

from collections import deque
from collections.abc import Iterable

from flc_udp.core.facts import MemberFacts
from flc_udp.model.address import Address
from flc_udp.model.dots import NodeId
from flc_udp.model.units import SECOND_US, Micros
from flc_udp.wire.rows import MemberRow, State

HEARD_MAX = 16_384
"""This many nodes are remembered with the key they seal under. Beyond it the node that was silent
for the longest time is forgotten."""

STRANGERS_MAX = 64
"""This many addresses are remembered that send under unknown keys."""

ENOUGH = 3
"""An address counts once it has sent in so many different seconds. Broken seals count once there
were so many within BROKEN_US."""

BROKEN_US = 60 * SECOND_US

LASTS_US = 180 * SECOND_US
"""Either counts for so long after the last datagram. A node probes those it lost every 60 s or more
often."""


class Hearing:
    """The keys of others, by what came lately."""

    def __init__(self) -> None:
        self._keys: dict[NodeId, tuple[bytes, Micros]] = {}
        """The id of the key of each node's last datagram about liveness, and when that came. Every
        node sends such datagrams, and none sends them often."""
        self._strangers: dict[Address, tuple[int, Micros]] = {}
        """In how many seconds each of these sent, and when last."""
        self._broken = deque[Micros](maxlen=ENOUGH)
        """When the last broken seals came."""
        self._broken_until = 0

    def __len__(self) -> int:
        return len(self._keys)

    def heard(self, node: NodeId, key: bytes, now: Micros) -> None:
        """A datagram about liveness came and was opened with this key."""
        # A holder of the key can make up ids, which push a member out until it is heard again.
        self._keys.pop(node, None)
        self._keys[node] = key, now
        if len(self._keys) > HEARD_MAX:
            del self._keys[next(iter(self._keys))]

    def not_opened(self, source: Address, now: Micros) -> None:
        """A datagram came from there under a key, or a cluster's name, that this node has not."""
        count, last = self._strangers.get(source, (0, now - SECOND_US))
        if now - last < SECOND_US:
            return
        self._strangers.pop(source, None)
        self._strangers[source] = 1 if now - last > LASTS_US else count + 1, now
        if len(self._strangers) > STRANGERS_MAX:
            del self._strangers[next(iter(self._strangers))]

    def seal_broken(self, now: Micros) -> None:
        """A datagram came in the session of a member, from its address, and its seal was broken."""
        self._broken.append(now)
        if len(self._broken) == ENOUGH and now - self._broken[0] <= BROKEN_US:
            self._broken_until = now + LASTS_US

    def seals_break(self, now: Micros) -> bool:
        """Whether so many seals were broken lately that somebody should know."""
        return now < self._broken_until

    def key_of(self, node: NodeId, since: int = 0) -> bytes | None:
        """The key that a node was last heard under; None if it was not heard since then."""
        key, at = self._keys.get(node, (None, 0))
        return key if at >= since else None

    def strangers(self, now: Micros) -> list[Address]:
        """The addresses that go on sending what this node cannot open."""
        return [
            source
            for source, (count, last) in self._strangers.items()
            if count >= ENOUGH and now - last <= LASTS_US
        ]

    def apart(
        self, members: Iterable[MemberFacts], own_key: bytes, now: Micros
    ) -> list[tuple[MemberRow, bytes | None]]:
        """The members that are lost though they send, for one of the two has not the other's key.

        With the key that each seals under; None: this node does not have it.
        """
        strangers, found = self.strangers(now), list[tuple[MemberRow, bytes | None]]()
        for member in members:
            row = member.row
            if row.state not in (State.SUSPECT, State.DEAD):
                continue
            key = self.key_of(row.id, now - member.state_for_us)
            if row.address in strangers:
                found.append((row, None))
            elif key not in (None, own_key):
                found.append((row, key))
        return found
