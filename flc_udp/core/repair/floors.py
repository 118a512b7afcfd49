"""Who was asked for a log that some member no longer keeps from where it is wanted, and has it not.

Rules. A member was asked when it told its floor, or that it has nothing, or was silent again and
again: a lost datagram is no answer, and who stands still for a moment is not left out. One that
answers with anything is not through.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from flc_udp.model.dots import NodeId

ENOUGH = 14
"""So much doubt in a row, and a member counts as one that has nothing: of silences, which grow ever
longer, it takes four seconds. By then who is gone is no longer asked."""

SILENT = 1
VAIN = 2
"""An answer of which nothing came, if anything was in it."""


@dataclass(slots=True)
class Floors:
    """What members answered for one log."""

    asked: dict[NodeId, int] = field(default_factory=dict)
    """{member: its floor, which it has a base for, or 0 where it has nothing}."""
    is_through: bool = False
    """Whether all were asked, so that a base may be taken, and after a while all asked anew."""
    doubts: Counter[NodeId] = field(default_factory=Counter)

    def has_some(self, peer: NodeId) -> None:
        """It told of what is wanted, or brought some: if it had nothing, it has now."""
        self.doubts.pop(peer, None)
        if self.asked.get(peer) == 0:
            del self.asked[peer]

    def doubt(self, peer: NodeId, weight: int) -> None:
        """It was asked, and nothing came."""
        self.doubts[peer] += weight
        if self.doubts[peer] >= ENOUGH:
            self.asked.setdefault(peer, 0)

    def others(self, peers: Iterable[NodeId]) -> dict[NodeId, None]:
        """Those of them that are still to be asked."""
        return {peer: None for peer in peers if peer not in self.asked}
