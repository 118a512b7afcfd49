"""What was promised to clients: which messages must be there in the end, and which may be.

A message that was acknowledged is on the disk of the node that acknowledged it, and on those of the
nodes that its answer names. What a node shows is on its disk, too. A database that is deleted takes
its copies with it, and one that is put back to a backup all that is younger than that backup. So a
message may be gone in the end only if no disk is left that it was promised to be on. Then it may
still be there, because nodes give each other more than they promise.
"""

from __future__ import annotations

from collections.abc import Collection


class Ledger:
    """What the clients of a cluster were told."""

    def __init__(self) -> None:
        self.tried: set[str] = set()
        """Every body that anybody ever tried to say. Each is said once."""
        self.homes: dict[str, set[str]] = {}
        """{dot of a message: names of the nodes on whose disks it must be}."""
        self._acknowledged: set[str] = set()
        self._names: dict[str, str] = {}
        """The nodes by their ids. A database that is gone takes the id with it."""
        self.gone: set[str] = set()
        """Ids of nodes whose databases are gone: they must acknowledge nothing that is said."""

    def runs(self, node: str, name: str) -> None:
        """A node of this id has the database of that name."""
        if node not in self.gone:
            self._names[node] = name

    def acknowledged(self, dot: str, nodes: Collection[str]) -> None:
        """A client was told that these nodes have a message. What went meanwhile has none."""
        assert dot not in self._acknowledged, f"{dot} was given twice"
        self._acknowledged.add(dot)
        for node in nodes:
            self.shown(dot, node)

    def shown(self, dot: str, node: str) -> None:
        """A node has a message, unless its database went meanwhile."""
        homes = self.homes.setdefault(dot, set())
        if node in self._names:
            homes.add(self._names[node])

    def on(self, name: str) -> set[str]:
        """What must be on the disk of that name."""
        return {dot for dot, names in self.homes.items() if name in names}

    def lost(self, name: str, left: Collection[str] = ()) -> None:
        """The database of that name is gone, and in its place is one that has what is left."""
        self.gone |= {node for node, other in self._names.items() if other == name}
        self._names = {node: other for node, other in self._names.items() if other != name}
        for dot, names in self.homes.items():
            if dot not in left:
                names.discard(name)

    def agreed(self, history: dict[str, str], names: Collection[str]) -> int:
        """All these nodes have one history, {dot: body}: judge it. Return how many are missing."""
        missing = self.homes.keys() - history.keys()
        broken = [dot for dot in missing if self.homes[dot]]
        assert broken == [], f"{len(broken)} messages are gone, as {broken[0]}"
        bodies = list(history.values())
        assert len(set(bodies)) == len(bodies), "something was said twice"
        assert set(bodies) <= self.tried, f"made up: {sorted(set(bodies) - self.tried)[:3]}"
        for dot, homes in self.homes.items():
            if dot in history:
                homes.update(names)
        return len(missing)
