"""The stage: what all machines of one play share."""

from collections.abc import Callable, Sequence
from random import Random

from flc_udp.config import Settings
from flc_udp.model.message import Message
from flc_udp.model.notices import Notice
from flc_udp.sim.checks import Checks
from flc_udp.sim.claims import ClaimChecks
from flc_udp.sim.heap import Heap
from flc_udp.sim.network import Faults, Network
from flc_udp.sim.trace import Trace
from flc_udp.wire.seal import KEY_BYTES, keyring


class Stage:
    """One seed, one heap of virtual time, one network, one trace, and who watches."""

    def __init__(self, seed: int, faults: Faults, settings: Settings) -> None:
        self.seed = seed
        self.settings = settings
        self.ring = keyring((seed.to_bytes(KEY_BYTES, "big"),), "sim")
        self.heap = Heap()
        self.checks = Checks()
        self.claims = ClaimChecks(self.checks)
        self.trace = Trace(self.heap, self.ring)
        self.network = Network(self.heap, self.trace, self.random("network"), faults)
        self.watchers: list[Callable[[int, Sequence[Message]], object]] = []
        """Called with everything that a node shows: (the node's number, messages)."""
        self.listeners: list[Callable[[int, Notice], object]] = []
        """Called with every fact that a node tells people: (the node's number, notice)."""

    def random(self, concern: str) -> Random:
        """Chance for one concern. What one concern draws does not change what another draws."""
        return Random(f"{self.seed}/{concern}")
