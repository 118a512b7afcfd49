"""Probe rounds (SWIM, Das et al. 2002, section 3): who is asked whether it lives, and until when.

    direct ping ── no ack in time ─▶ a second ping, and pings through others ── nothing ─▶ failed
         └── ack ─▶ answered ◀── ack or relayed ──┘

One round begins in each interval. All targets are asked, in random order, before any is asked
again. More rounds run at once where a suspicion of somebody else is verified. The timeout of the
direct ping follows the measured round trip (RFC 6298). This module knows no table and no packet.
Times are in µs.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

from flc_udp.model.dots import NodeId
from flc_udp.model.units import Micros

INDIRECT_TIMEOUTS = 2
"""The indirect stage lasts this many direct timeouts: the way through a relay is twice as long."""


class RoundTrip(NamedTuple):
    """Smoothed round trip of a member, or of all, and its variation (RFC 6298, section 2)."""

    smoothed_us: int
    variation_us: int

    @classmethod
    def after(cls, before: "RoundTrip | None", sample_us: int) -> "RoundTrip":
        """What one more sample makes of it. None: it is the first sample."""
        if before is None:
            return cls(sample_us, sample_us // 2)
        smoothed_us, variation_us = before.smoothed_us, before.variation_us
        variation_us += (abs(smoothed_us - sample_us) - variation_us) // 4
        return cls(smoothed_us + (sample_us - smoothed_us) // 8, variation_us)

    def timeout_us(self, least_us: int, most_us: int) -> int:
        """How long an answer may take, within these bounds."""
        return min(max(self.smoothed_us + 4 * self.variation_us, least_us), most_us)


@dataclass(slots=True)
class Round:
    """One probe of one member that is under way."""

    node: NodeId
    nonce: int
    timeout_us: int
    sent_at: int
    deadline: int
    is_indirect: bool = False
    is_measured: bool = True
    """Whether an ack measures the round trip. After a second ping or a stall the time until the
    ack is only a bound: the round trip is not longer."""
    relays: dict[NodeId, bool] = field(default_factory=dict)
    """{relay: whether it has been heard in this round}."""

    @property
    def nacks_missing(self) -> int:
        """How many relays should have heard this node and answered, and did not."""
        return sum(not heard for heard in self.relays.values())


class Probes:
    """All rounds of one node, and whose turn is next."""

    def __init__(self, random: Random, interval_us: int, now: Micros) -> None:
        self._random = random
        self._interval_us = interval_us
        self._order: list[NodeId] = []
        self._rounds: dict[NodeId, Round] = {}
        # The phase is random, so that nodes that start together do not probe together.
        self._next_at = now + random.randrange(interval_us)

    @property
    def wake_at(self) -> int:
        """When a round is to start, or a stage ends."""
        return min([self._next_at, *(r.deadline for r in self._rounds.values())])

    def is_due(self, now: Micros) -> bool:
        """Whether it is time for the next round."""
        return now >= self._next_at

    def take_turn(
        self, targets: Mapping[NodeId, object], multiplier: int, now: Micros
    ) -> NodeId | None:
        """The member whose turn it is. None: no round is due, or there is no member."""
        if not self.is_due(now):
            return None
        interval_us = self._interval_us * multiplier
        self._next_at = max(self._next_at + interval_us, now + interval_us // 2)
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

    def begin(self, node: NodeId, timeout_us: int, now: Micros) -> Round:
        """Begin a round: a direct ping is being sent."""
        # An ack that answers no ping has the nonce zero.
        nonce = self._random.getrandbits(64) or 1
        self._rounds[node] = Round(node, nonce, timeout_us, now, now + timeout_us)
        return self._rounds[node]

    def take_overdue(self, now: Micros) -> list[Round]:
        """The rounds whose stage ended without an answer. Those in their last stage are over."""
        overdue = [r for r in self._rounds.values() if r.deadline <= now]
        for round_ in overdue:
            if round_.is_indirect:
                del self._rounds[round_.node]
        return overdue

    def go_indirect(self, round_: Round, relays: Iterable[NodeId], now: Micros) -> None:
        """Begin the second stage: the target is pinged again, and through these relays."""
        round_.is_indirect = True
        round_.is_measured = False
        round_.relays = dict.fromkeys(relays, False)
        round_.deadline = now + INDIRECT_TIMEOUTS * round_.timeout_us

    def drop(self, node: NodeId) -> None:
        """End the round of a member without a result: it is known to be dead or gone."""
        self._rounds.pop(node, None)

    def receive_ack(self, nonce: int, node: NodeId) -> Round | None:
        """End the round that an ack answers, and return it. None: it answers none."""
        round_ = self._rounds.get(node)
        if round_ is None or round_.nonce != nonce:
            return None
        return self._rounds.pop(node)

    def receive_nack(self, nonce: int, relay: NodeId) -> None:
        """A relay said that it hears this node."""
        for round_ in self._rounds.values():
            if round_.nonce == nonce and relay in round_.relays:
                round_.relays[relay] = True

    def move(self, lag_us: int) -> None:
        """This node did not run for this time, in which it could not hear any answer."""
        for round_ in self._rounds.values():
            round_.deadline += lag_us
            round_.is_measured = False
