"""Probe rounds (SWIM, Das et al. 2002, section 3): who is asked whether it lives, and until when.

    direct ping ── no ack in time ─▶ a second ping, and pings through others ── nothing ─▶ failed
         └── ack ─▶ answered ◀── ack or relayed ──┘

One round an interval, over all targets in random order before any is asked again; more rounds at
once where somebody else's suspicion is to be verified. The timeout of the direct ping follows the
measured round trip (RFC 6298). Knows no table and no packet; times in µs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

from flc_udp.model.dots import NodeId

INDIRECT_TIMEOUTS = 2
"""The indirect stage lasts so many direct timeouts: the way through a relay is twice as long."""

MULTIPLIER_MAX = 9


@dataclass(frozen=True, slots=True)
class RoundTrip:
    """Smoothed round trip of a member, or of all, and its variation (RFC 6298, section 2)."""

    smoothed: int
    variation: int

    @classmethod
    def first(cls, sample: int) -> RoundTrip:
        """The first sample taken."""
        return cls(sample, sample // 2)

    @classmethod
    def after(cls, before: RoundTrip | None, sample: int) -> RoundTrip:
        """One sample more than before."""
        if before is None:
            return cls.first(sample)
        variation = before.variation + (abs(before.smoothed - sample) - before.variation) // 4
        return cls(before.smoothed + (sample - before.smoothed) // 8, variation)

    def timeout(self, least: int, most: int) -> int:
        """How long an answer may take, within bounds."""
        return min(max(self.smoothed + 4 * self.variation, least), most)


@dataclass(slots=True)
class Round:
    """One probe of one member under way."""

    node: NodeId
    nonce: int
    timeout: int
    sent: int
    deadline: int
    is_indirect: bool = False
    is_measured: bool = True
    """Whether an ack measures the round trip: not after a second ping, nor after a stall."""
    relays: dict[NodeId, bool] = field(default_factory=dict)
    """{relay: whether it has been heard from in this round}."""

    @property
    def nacks_missing(self) -> int:
        """Relays that should have heard us and said so, and did not."""
        return sum(not heard for heard in self.relays.values())


class ProbeAnswer(NamedTuple):
    """An ack in time: how long after the first ping, and whether that is the round trip.

    After a second ping or a stall it is a bound only: no round trip is longer.
    """

    elapsed: int
    is_round_trip: bool


class Probes:
    """All rounds of one node, and whose turn is next."""

    def __init__(self, random: Random, interval: int, now: int) -> None:
        self._random = random
        self._interval = interval
        self._order: list[NodeId] = []
        self._rounds: dict[NodeId, Round] = {}
        # A random phase: nodes started together do not probe together.
        self._next_at = now + random.randrange(interval)

    @property
    def wake_at(self) -> int:
        """When there is something to do: a round to start, or a stage that ends."""
        return min([self._next_at, *(r.deadline for r in self._rounds.values())])

    def take_turn(
        self, targets: Mapping[NodeId, object], multiplier: int, now: int
    ) -> NodeId | None:
        """Whose turn it is, or None if no round is due or nobody is there."""
        if now < self._next_at:
            return None
        interval = self._interval * multiplier
        self._next_at = max(self._next_at + interval, now + interval // 2)
        while self._order:
            node = self._order.pop()
            if node in targets:
                return node
        self._order = list(targets)
        self._random.shuffle(self._order)
        return self._order.pop() if self._order else None

    def is_probing(self, node: NodeId) -> bool:
        """Whether a round of that member is under way."""
        return node in self._rounds

    def begin(self, node: NodeId, timeout: int, now: int) -> Round:
        """A direct ping is being sent."""
        # Zero is the nonce of an ack that answers no ping.
        nonce = self._random.getrandbits(64) or 1
        self._rounds[node] = Round(node, nonce, timeout, now, now + timeout)
        return self._rounds[node]

    def take_overdue(self, now: int) -> list[Round]:
        """Rounds whose stage has ended without an answer. Those in their last are over."""
        overdue = [r for r in self._rounds.values() if r.deadline <= now]
        for round_ in overdue:
            if round_.is_indirect:
                del self._rounds[round_.node]
        return overdue

    def go_indirect(self, round_: Round, relays: Iterable[NodeId], now: int) -> None:
        """The second stage: the target is pinged again, and through these."""
        round_.is_indirect = True
        round_.is_measured = False
        round_.relays = dict.fromkeys(relays, False)
        round_.deadline = now + INDIRECT_TIMEOUTS * round_.timeout

    def drop(self, node: NodeId) -> None:
        """Its round is over without a result: it is known to be dead, or gone."""
        self._rounds.pop(node, None)

    def receive_ack(self, nonce: int, node: NodeId, now: int) -> ProbeAnswer | None:
        """What this says of the round it answers, if it does."""
        round_ = self._rounds.get(node)
        if round_ is None or round_.nonce != nonce:
            return None
        del self._rounds[node]
        return ProbeAnswer(now - round_.sent, round_.is_measured)

    def receive_nack(self, nonce: int, relay: NodeId) -> None:
        """A relay was heard from."""
        for round_ in self._rounds.values():
            if round_.nonce == nonce and relay in round_.relays:
                round_.relays[relay] = True

    def move(self, lag: int) -> None:
        """This node was not running for so long: no answer could have been heard meanwhile."""
        for round_ in self._rounds.values():
            round_.deadline += lag
            round_.is_measured = False
