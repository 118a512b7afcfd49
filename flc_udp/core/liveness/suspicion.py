"""Suspicions: how long a suspect may refute before it is dead (Lifeguard, DSN 2018, 4.2).

A single accuser may be the one at fault, so its word starts a long timeout. Each independent
accuser shortens it, down to the shortest timeout when there are enough of them. When the timeout
ends, the suspect is dead.
"""

from dataclasses import dataclass, field
from math import log, log10

from flc_udp.config import Settings
from flc_udp.model.dots import NodeId
from flc_udp.model.units import MS_US, NEVER, Micros

ACCUSERS_ENOUGH = 3
"""With this many accusers besides the first, a suspicion lasts its shortest time."""


def timeout_after(accusers: int, enough: int, shortest: int, longest: int) -> int:
    """How long a suspicion lasts from its start, with `accusers` accusers besides the first.

    It falls with the logarithm, because the first confirmations say most. Units are those given.
    """
    if enough <= 0:
        return shortest
    share = log(min(accusers, enough) + 1) / log(enough + 1)
    return round(longest - share * (longest - shortest))


def limits_of(settings: Settings, live: int) -> tuple[int, int, int]:
    """How many further accusers are enough among `live` others, and how long a suspicion may last.

    Its shortest and its longest time are in µs. In plain SWIM there is only one timeout, however
    few members accuse.
    """
    shortest_us = round(settings.suspect_timeout_ms * MS_US * max(1.0, log10(live + 1)))
    if not settings.lifeguard:
        return 0, shortest_us, shortest_us
    enough = min(ACCUSERS_ENOUGH, live // 2)
    return enough, shortest_us, shortest_us * settings.suspect_timeout_factor


@dataclass(slots=True)
class _Suspicion:
    started: int
    enough: int
    shortest: int
    longest: int
    accusers: dict[NodeId, None] = field(default_factory=dict)

    @property
    def deadline(self) -> int:
        confirmations = len(self.accusers) - 1
        return self.started + timeout_after(confirmations, self.enough, self.shortest, self.longest)


class Suspicions:
    """All suspicions of one node. Times are in µs."""

    def __init__(self) -> None:
        self._by_node: dict[NodeId, _Suspicion] = {}
        self.wake_at: int = NEVER
        """When the first suspect dies. It is asked for in every turn, so it is kept."""

    def __len__(self) -> int:
        return len(self._by_node)

    def start(
        self, node: NodeId, accuser: NodeId, limits: tuple[int, int, int], now: Micros
    ) -> None:
        """A member became suspect. The limits are those of `limits_of`."""
        self._by_node[node] = _Suspicion(now, *limits, {accuser: None})
        self._find_first()

    def confirm(self, node: NodeId, accuser: NodeId) -> bool:
        """One more member accuses. True: that is news, and worth passing on."""
        suspicion = self._by_node.get(node)
        if suspicion is None or accuser in suspicion.accusers:
            return False
        if len(suspicion.accusers) > suspicion.enough:
            return False
        suspicion.accusers[accuser] = None
        self._find_first()
        return True

    def accused_by(self, accuser: NodeId) -> int:
        """How many members one accuser accuses."""
        return sum(accuser in suspicion.accusers for suspicion in self._by_node.values())

    def is_ripe(self, node: NodeId, now: Micros) -> bool:
        """Whether a suspect had half of its shortest timeout: a refutation would be here."""
        suspicion = self._by_node.get(node)
        return suspicion is not None and now - suspicion.started >= suspicion.shortest // 2

    def clear(self, node: NodeId) -> None:
        """A member refuted, died or left."""
        if self._by_node.pop(node, None) is not None:
            self._find_first()

    def move(self, lag_us: int) -> None:
        """This node did not run for this time, which does not count for anybody."""
        for suspicion in self._by_node.values():
            suspicion.started += lag_us
        self._find_first()

    def take_expired(self, now: Micros) -> list[NodeId]:
        """The suspects whose time is up."""
        if now < self.wake_at:
            return []
        expired = [node for node, s in self._by_node.items() if s.deadline <= now]
        for node in expired:
            del self._by_node[node]
        self._find_first()
        return expired

    def _find_first(self) -> None:
        self.wake_at = min((s.deadline for s in self._by_node.values()), default=NEVER)
