"""Offences: which node did what no sound node does, so that an operator finds it.

Rules. This is a list for people, and nothing is decided by it: an id can be made up, and the
address is that of whoever sent it here, who may only have passed it on. It is bounded, and an
offence is forgotten some time after its last repetition, when the node has long stopped.
"""

from collections import Counter
from typing import NamedTuple

from flc_udp.model.address import Address
from flc_udp.model.dots import NodeId
from flc_udp.model.errors import Drop
from flc_udp.model.units import SECOND_US, Micros

OFFENCES_MAX = 64
"""At most this many are remembered. Beyond it the one that was repeated longest ago goes."""

REMEMBERED_US = 600 * SECOND_US

DROPS = {
    Drop.PULL_TOO_MANY: "pulls more than any node names",
    Drop.REPLY_BUDGET: "asks in loops",
    Drop.INCARNATION_AHEAD: "tells incarnations beyond every clock",
    Drop.FLOOR_BEYOND_CLOCKS: "tells floors beyond every clock",
    Drop.BASE_OF_NO_USE: "gives bases that cannot be",
    Drop.BROKEN_CHAIN: "sends blocks that do not follow those before them",
    Drop.HOLDBACK_OVERFLOW: "sends more that waits for causes than there is room for",
}
"""What a datagram was dropped for, and what its sender did by that."""


class Offence(NamedTuple):
    """What a node did, how often, and how long ago for the last time."""

    node: NodeId
    address: Address | None
    """Where it sent from. None: what it said came through others."""
    what: str
    times: int
    ago_us: int


class Drops(Counter[Drop]):
    """Counts of drops, which tell at once whether any was counted since."""

    changes = 0

    def __setitem__(self, drop: Drop, count: int) -> None:
        """Count it."""
        self.changes += 1
        super().__setitem__(drop, count)


class Offences:
    """The latest offences."""

    def __init__(self, drops: Drops) -> None:
        self._drops = drops
        self._counts = [0] * len(DROPS)
        self._changes = 0
        self._found: dict[tuple[NodeId, Address | None, str], tuple[int, Micros]] = {}

    def begin(self) -> None:
        """What is dropped from here on is dropped for a datagram."""
        if self._changes != self._drops.changes:
            self._count()

    def end(self, node: NodeId, address: Address | None, now: Micros) -> None:
        """The datagram was of this node, which sends from that address."""
        if self._changes == self._drops.changes:
            return
        before = self._counts
        self._count()
        for what, was, count in zip(DROPS.values(), before, self._counts, strict=True):
            if count > was:
                self.note(node, address, what, now, count - was)

    def _count(self) -> None:
        self._changes = self._drops.changes
        self._counts = [self._drops[drop] for drop in DROPS]

    def note(
        self, node: NodeId, address: Address | None, what: str, now: Micros, count: int = 1
    ) -> None:
        """A node did this."""
        key = node, address, what
        before, _ = self._found.pop(key, (0, now))
        self._found[key] = before + count, now
        if len(self._found) > OFFENCES_MAX:
            del self._found[next(iter(self._found))]

    def lately(self, now: Micros) -> tuple[Offence, ...]:
        """Those that are not long ago, the latest last."""
        return tuple(
            Offence(*key, count, now - at)
            for key, (count, at) in self._found.items()
            if now - at < REMEMBERED_US
        )
