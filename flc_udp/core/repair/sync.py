"""A sync: a few members are asked now where they stand, however long the pause between exchanges.

    sync ── ping ──▶ a few members ── ack(root) ──▶ it differs ─▶ an exchange at once
                                                    it is equal ─▶ nothing more to do

Rules. A member's answer is the root that it tells, in its ack or in a ping of its own. The first
root that differs begins an exchange at once. Later ones are paced as any other. Only the latest
sync counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from flc_udp.model.dots import NodeId

SYNC_MEMBERS = 3
"""This many members are asked if none is named. Catch-up asks as many at once."""


class Sync:
    """One sync: whom it asked, and whether their latest roots were this node's own."""

    def __init__(self, asked: Iterable[NodeId] = ()) -> None:
        self._agrees: dict[NodeId, bool | None] = dict.fromkeys(asked)

    @property
    def agrees(self) -> Mapping[NodeId, bool | None]:
        """{member that was asked: whether its latest root was equal}. None: it told none yet."""
        return self._agrees

    def heard(self, node: NodeId, *, agrees: bool) -> bool:
        """A member told its root. Return whether an exchange with it is due at once."""
        if node not in self._agrees:
            return False
        is_first = self._agrees[node] is None
        self._agrees[node] = agrees
        return is_first and not agrees
