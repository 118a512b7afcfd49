"""Floors: who was asked for a log of which some member has deleted what is wanted.

A member that deleted it answers with its floor. Another member may still keep it, so each of them
is asked. A base is taken only when all were asked in vain.

Rules. A member counts as asked when it told its floor, when it said that it has nothing, and when
it failed to answer again and again. One silence may be a lost datagram, and a member that stands
still for a moment must not be passed over. A member that brings anything is asked on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from flc_udp.model.dots import NodeId

ENOUGH = 14
"""A member with this much doubt in a row counts as one that has nothing. The pauses between pulls
grow, so silence alone takes four seconds for it. A member that died is known to be dead by then,
and is asked no more."""

SILENT = 1
"""The doubt after a pull that was not answered."""

VAIN = 2
"""The doubt after an answer of which nothing arrived. There may have been something in it."""


@dataclass(slots=True)
class Floors:
    """What members answered for one log."""

    asked: dict[NodeId, int] = field(default_factory=dict)
    """{member: its floor, or 0 where it has nothing}. A member with a floor has a base."""
    is_through: bool = False
    """Whether all were asked. A base may be taken then; after a while all are asked anew."""
    doubts: Counter[NodeId] = field(default_factory=Counter)

    def has_some(self, peer: NodeId) -> None:
        """It said that it holds some, or it brought some. If it had nothing before, it has now."""
        self.doubts.pop(peer, None)
        if self.asked.get(peer) == 0:
            del self.asked[peer]

    def doubt(self, peer: NodeId, weight: int) -> None:
        """It was asked, and nothing arrived."""
        self.doubts[peer] += weight
        if self.doubts[peer] >= ENOUGH:
            self.asked.setdefault(peer, 0)

    def others(self, peers: Iterable[NodeId]) -> dict[NodeId, None]:
        """Those of them that are still to be asked."""
        return {peer: None for peer in peers if peer not in self.asked}
