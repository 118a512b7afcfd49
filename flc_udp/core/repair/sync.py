"""A sync: a few members are asked where they stand now, however long exchanges were to pause.

    sync ── ping ──▶ a few members ── ack(root) ──▶ it differs ─▶ an exchange at once
                                                    it is equal ─▶ nothing more to do

Rules. A root that one of them tells, in its ack or in a ping of its own, is its answer. The first
one that differs begins an exchange; those after it wait for their turn as any other. The latest
sync is the one that counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from flc_udp.model.dots import NodeId

SYNC_MEMBERS = 3
"""Members asked where nobody is named: as many as are caught up from at once."""


class Sync:
    """One sync: whom it asked, and whether their latest roots were this node's own."""

    def __init__(self, asked: Iterable[NodeId] = ()) -> None:
        self._agrees: dict[NodeId, bool | None] = dict.fromkeys(asked)

    @property
    def agrees(self) -> Mapping[NodeId, bool | None]:
        """{member asked: whether its root was equal when it last told it, None while silent}."""
        return self._agrees

    def heard(self, node: NodeId, *, agrees: bool) -> bool:
        """A member told its root: whether an exchange with it is due, whatever the pacing says."""
        if node not in self._agrees:
            return False
        is_first = self._agrees[node] is None
        self._agrees[node] = agrees
        return is_first and not agrees
