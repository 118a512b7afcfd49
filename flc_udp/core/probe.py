"""Who is asked whether it lives, and when: probe rounds, suspicions, and the way back in.

Three small machines that know no table and no packet: `Probe` (SWIM's randomized round-robin,
each target asked up to three times before it has failed), `Suspicions` (who dies when, unless it
refutes) and `Rejoin` (addresses nobody answers at, asked ever more rarely, so that islands merge).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from random import Random

from flc_udp.model.address import Address
from flc_udp.model.dots import NodeId

TRIES = 3
"""Pings of one probe: with a quarter of datagrams lost each way 8 % of probes fail, not 44 %."""

SECOND = 1_000_000
FOREVER = 1 << 62
REJOIN_SHARE = 10
"""An address silent for t is asked again after t/10: a cut heals within a tenth of its length."""

REMEMBERED_MAX = 10_000
"""Silent addresses at once; beyond it the one longest silent is forgotten."""


@dataclass(slots=True)
class _Asked:
    node: NodeId
    sent: int
    deadline: int
    tries_left: int


class Probe:
    """One probe an interval, over all targets in random order before any is asked again."""

    def __init__(self, random: Random, interval: int, timeout: int, now: int) -> None:
        self._random = random
        self._interval = interval
        self._timeout = timeout
        self._order: list[NodeId] = []
        self._asked: dict[int, _Asked] = {}
        # A random phase: nodes started together do not probe together.
        self._next_at = now + random.randrange(interval)

    @property
    def wake_at(self) -> int:
        """When there is something to do: a round to start or a ping to give up."""
        return min(self._next_at, *(asked.deadline for asked in self._asked.values()), FOREVER)

    def start(self, targets: Callable[[], Sequence[NodeId]], now: int) -> NodeId | None:
        """The target of this round, or None if no round is due or nobody is there."""
        if now < self._next_at:
            return None
        self._next_at = max(self._next_at + self._interval, now + self._interval // 2)
        candidates = set(targets())
        while self._order:
            node = self._order.pop()
            if node in candidates:
                return node
        self._order = list(targets())
        self._random.shuffle(self._order)
        return self._order.pop() if self._order else None

    def ask(self, node: NodeId, now: int, tries: int = TRIES) -> int:
        """A ping is being sent: its nonce."""
        nonce = self._random.getrandbits(64)
        self._asked[nonce] = _Asked(node, now, now + self._timeout, tries - 1)
        return nonce

    def receive_ack(self, nonce: int, node: NodeId, now: int) -> int | None:
        """The round trip in µs, if this answers a ping to that node still waited for."""
        asked = self._asked.get(nonce)
        if asked is None or asked.node != node:
            return None
        # An answer to any try answers the probe.
        for other in [n for n, a in self._asked.items() if a.node == node]:
            del self._asked[other]
        return now - asked.sent

    def take_overdue(self, now: int) -> list[tuple[NodeId, int]]:
        """(node, tries left) of pings not answered in time; none left is a failed probe."""
        overdue = [(n, a) for n, a in self._asked.items() if a.deadline <= now]
        for nonce, _ in overdue:
            del self._asked[nonce]
        return [(asked.node, asked.tries_left) for _, asked in overdue]


class Suspicions:
    """Deadlines of members held suspect."""

    def __init__(self, timeout: int) -> None:
        self._timeout = timeout
        self._deadlines: dict[NodeId, int] = {}

    @property
    def wake_at(self) -> int | None:
        """When the first suspect dies."""
        return min(self._deadlines.values(), default=None)

    def start(self, node: NodeId, now: int) -> None:
        """A member became suspect."""
        self._deadlines.setdefault(node, now + self._timeout)

    def clear(self, node: NodeId) -> None:
        """It refuted, died or left."""
        self._deadlines.pop(node, None)

    def take_expired(self, now: int) -> list[NodeId]:
        """Suspects whose time is up."""
        expired = [node for node, deadline in self._deadlines.items() if deadline <= now]
        for node in expired:
            del self._deadlines[node]
        return expired


@dataclass(slots=True)
class _Silent:
    since: int
    asked: int | None = None


class Rejoin:
    """Seeds and dead members' addresses, at most one asked a second over all of them."""

    def __init__(self, longest: int, now: int) -> None:
        self._longest = longest
        self._silent: dict[Address, _Silent] = {}
        self._next_at = now

    @property
    def wake_at(self) -> int | None:
        """When the next address is due, if there is any."""
        if not self._silent:
            return None
        return max(self._next_at, min(map(self._due, self._silent.values())))

    def add(self, addresses: Iterable[Address], now: int) -> None:
        """Nobody answers there, since now."""
        for address in addresses:
            self._silent.setdefault(address, _Silent(now))
            if len(self._silent) > REMEMBERED_MAX:
                del self._silent[next(iter(self._silent))]

    def answered(self, address: Address) -> None:
        """Somebody lives there."""
        self._silent.pop(address, None)

    def start_all(self, now: int) -> list[Address]:
        """Every address never asked yet: seeds are joined in parallel."""
        fresh = [address for address, silent in self._silent.items() if silent.asked is None]
        for address in fresh:
            self._silent[address].asked = now
        return fresh

    def start(self, now: int) -> Address | None:
        """The address to ask now, or None."""
        if not self._silent or now < self._next_at:
            return None
        address = min(self._silent, key=lambda address: self._due(self._silent[address]))
        silent = self._silent[address]
        if self._due(silent) > now:
            return None
        silent.asked = now
        self._next_at = now + SECOND
        return address

    def _due(self, silent: _Silent) -> int:
        if silent.asked is None:
            return silent.since
        pause = (silent.asked - silent.since) // REJOIN_SHARE
        return silent.asked + min(max(pause, SECOND), self._longest)
