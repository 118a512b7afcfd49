"""The stage: what all machines of one play share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random

from flc_udp.config import Settings
from flc_udp.model.message import Message
from flc_udp.model.notices import Notice
from flc_udp.sim.checks import Checks
from flc_udp.sim.heap import Heap
from flc_udp.sim.network import Network
from flc_udp.sim.trace import Trace
from flc_udp.wire.seal import Keyring


@dataclass(frozen=True, slots=True)
class Stage:
    """One seed, one heap of virtual time, one network, one trace, and who watches."""

    seed: int
    heap: Heap
    network: Network
    trace: Trace
    checks: Checks
    settings: Settings
    ring: Keyring
    watchers: list[Callable[[int, Sequence[Message]], object]] = field(default_factory=list)
    """Called with everything that a node shows: (the node's number, messages)."""
    listeners: list[Callable[[int, Notice], object]] = field(default_factory=list)
    """Called with every fact that a node tells people: (the node's number, notice)."""

    def random(self, concern: str) -> Random:
        """Chance for one concern. What one concern draws does not change what another draws."""
        return Random(f"{self.seed}/{concern}")
