"""Pings for others: this node asks a member for another one that got no answer from it."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from flc_udp.model.address import Address
from flc_udp.model.dots import NodeId
from flc_udp.model.units import NEVER, Micros

RELAYS_MAX = 1_024
"""At most this many pings for others are under way. Another ping-req counts as lost."""


@dataclass(slots=True)
class Errand:
    """One ping that is sent for another member."""

    node: NodeId
    asker: Address
    asker_nonce: int
    nack_at: int


class Relay:
    """All errands of one node. Times are in µs."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._errands: dict[int, Errand] = {}

    @property
    def wake_at(self) -> int:
        """When the first asker is to be told that its target is silent."""
        return min((errand.nack_at for errand in self._errands.values()), default=NEVER)

    def begin(self, errand: Errand) -> int | None:
        """Return the nonce to ping with. None: there are too many errands already."""
        if len(self._errands) >= RELAYS_MAX:
            return None
        nonce = self._random.getrandbits(64)
        self._errands[nonce] = errand
        return nonce

    def receive_ack(self, nonce: int, node: NodeId) -> Errand | None:
        """The errand that this ack completes, if there is one."""
        errand = self._errands.get(nonce)
        if errand is None or errand.node != node:
            return None
        return self._errands.pop(nonce)

    def take_silent(self, now: Micros) -> list[Errand]:
        """The errands whose targets did not answer in time."""
        silent = [nonce for nonce, errand in self._errands.items() if errand.nack_at <= now]
        return [self._errands.pop(nonce) for nonce in silent]
