"""One pull under way, as the asker remembers it."""

from __future__ import annotations

from dataclasses import dataclass

from flc_udp.model.dots import LogId, NodeId

REPAIR_MESSAGES_MAX = 64
"""A pull of at most so many repairs live traffic and is forwarded; a larger one is catch-up."""


@dataclass(slots=True)
class PullUnderWay:
    """One pull under way: of whom, how much was missing of each log, and until when."""

    peer: NodeId
    missing: dict[LogId, int]
    deadline: int
    pieces: bool = False
    """Whether pieces came, which is something though no message is whole."""
    for_pieces: bool = False
    """Whether some were asked for: of them no answer tells how many there are."""

    @property
    def is_catch_up(self) -> bool:
        """Whether it is for more than live repair."""
        return sum(self.missing.values()) > REPAIR_MESSAGES_MAX
