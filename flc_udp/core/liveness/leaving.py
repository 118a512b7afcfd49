"""The orderly departure: tell some, until enough have witnessed it or patience runs out."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from flc_udp.core.liveness.members import Member
from flc_udp.model.dots import NodeId

MS = 1_000

WITNESSES = 8
"""Members of a large cluster that know of it before this node goes: each tells it on as news."""

WITNESSES_ALL = 32
"""Of so many others every one is to know: a whole site that goes at once floods nobody."""

RETRY = 200 * MS
PATIENCE = 5 * RETRY
"""A leaving node waits so long for witnesses; then it goes all the same."""


class Leaving:
    """One departure under way; times in µs."""

    def __init__(self, random: Random, now: int) -> None:
        self.retry_at = now
        self._random = random
        self._nonce = random.getrandbits(64)
        self._give_up = now + PATIENCE
        self._witnesses: dict[NodeId, None] = {}

    @property
    def nonce(self) -> int:
        """What a witness's ack bears."""
        return self._nonce

    def receive_ack(self, nonce: int, sender: NodeId) -> bool:
        """Whether an ack is a witness's."""
        if nonce != self._nonce:
            return False
        self._witnesses[sender] = None
        return True

    def is_over(self, live: int, now: int) -> bool:
        """Whether enough of so many live members know, or patience ran out."""
        enough = live if live <= WITNESSES_ALL else WITNESSES
        return len(self._witnesses) >= enough or now >= self._give_up

    def choose(self, live: Sequence[Member], now: int) -> list[Member]:
        """Whom to tell now, if it is time to: all, or more than are needed."""
        if now < self.retry_at:
            return []
        self.retry_at = now + RETRY
        untold = [member for member in live if member.row.id not in self._witnesses]
        return self._random.sample(untold, min(WITNESSES_ALL, len(untold)))
