"""The orderly departure: tell others, until enough of them know or patience runs out."""

from collections.abc import Sequence
from random import Random

from flc_udp.core.liveness.members import Member
from flc_udp.model.dots import NodeId
from flc_udp.model.units import MS_US, Micros

WITNESSES = 8
"""In a large cluster this many members must know before the node goes. Each tells others as news.
"""

WITNESSES_ALL = 32
"""Of at most this many others every one must know. A whole site that goes at once floods nobody."""

RETRY_US = 200 * MS_US
"""The time between two attempts."""

PATIENCE_US = 5 * RETRY_US
"""A leaving node waits this long for witnesses. Then it goes all the same."""


class Leaving:
    """One departure that is under way. Times are in µs."""

    def __init__(self, random: Random, now: Micros) -> None:
        self.retry_at = now
        self._random = random
        self.nonce = random.getrandbits(64)
        """The acks of witnesses bear it."""
        self._give_up = now + PATIENCE_US
        self._witnesses: dict[NodeId, None] = {}

    def receive_ack(self, nonce: int, sender: NodeId) -> bool:
        """Whether an ack is that of a witness."""
        if nonce != self.nonce:
            return False
        self._witnesses[sender] = None
        return True

    def is_over(self, live: int, now: Micros) -> bool:
        """Whether enough of the `live` members know, or patience ran out."""
        enough = live if live <= WITNESSES_ALL else WITNESSES
        return len(self._witnesses) >= enough or now >= self._give_up

    def choose(self, live: Sequence[Member], now: Micros) -> list[Member]:
        """The members to tell now, if it is time: all, or more than are needed."""
        if now < self.retry_at:
            return []
        self.retry_at = Micros(now + RETRY_US)
        untold = [member for member in live if member.row.id not in self._witnesses]
        return self._random.sample(untold, min(WITNESSES_ALL, len(untold)))
