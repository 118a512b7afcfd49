"""What all machines of one Replica share, so that each of them is handed one thing."""

from dataclasses import dataclass, field
from random import Random

from flc_udp.config import Settings
from flc_udp.core.effects import Outbox
from flc_udp.core.offences import Drops, Offences
from flc_udp.core.peer_walls import PeerWalls
from flc_udp.core.standing import Standing


@dataclass(frozen=True, slots=True)
class Shared:
    """A Replica has the same one all its life, while the things in it change."""

    settings: Settings
    standing: Standing
    random: Random
    """The only chance there is: the same seed makes the same decisions."""
    out: Outbox = field(default_factory=Outbox)
    """Where the effects of all decisions go."""
    walls: PeerWalls = field(default_factory=PeerWalls)
    """What members told of their clocks."""
    drops: Drops = field(default_factory=Drops)
    """What was not taken, by reason."""
    offences: Offences = field(init=False)
    """Who did what no sound node does."""

    def __post_init__(self) -> None:
        """What was dropped is told of its sender."""
        object.__setattr__(self, "offences", Offences(self.drops))


class CoreMachine:
    """A machine of a Replica has at hand what all of them share."""

    def __init__(self, shared: Shared) -> None:
        self._settings = shared.settings
        self._standing = shared.standing
        self._random = shared.random
        self._out = shared.out
        self._drops = shared.drops
        self._offences = shared.offences
