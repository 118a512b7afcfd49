"""The world: machines, a network between them, and one seed; its methods read as a play.

    world = World("abc", seed=7)
    world.cut("a", "b")
    world.say("a", "ops", "hi")
    world.machines["b"].pause(500_000)
    world.run(2_000)
    world.heal()
    world.settle()

Rules. Everything that happens comes from the seed. Virtual time is the only clock, every concern
draws from a random of its own, and nothing is iterated in hash order. What runs here is the code
that the daemon runs: Node, Replica, wire and the SQLite log. Only the ground is another.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from string import ascii_lowercase
from typing import Self

from flc_udp.config import Settings
from flc_udp.model.units import MS_US
from flc_udp.sim.audit import audit
from flc_udp.sim.checks import Utterance
from flc_udp.sim.disk import Fate, by_position
from flc_udp.sim.machine import Machine
from flc_udp.sim.network import CALM, Faults
from flc_udp.sim.stage import Stage
from flc_udp.sim.violation import Violation
from flc_udp.waist.node import Node
from flc_udp.wire.rows import State

LOOK_US = 50 * MS_US
"""The world looks this often whether everything is quiet."""

TAIL_LINES = 40


class NotConverged(Violation):
    """The nodes did not come to agree in time."""


class World(Stage):
    """Machines by name. All are started at once, except those in `late`.

    `own` has settings of single machines. With `grown` all nodes know each other already.
    """

    def __init__(
        self,
        nodes: int | Sequence[str],
        seed: int = 0,
        faults: Faults = CALM,
        settings: Settings | None = None,
        *,
        own: Mapping[str, Settings] | None = None,
        late: Collection[str] = (),
        grown: bool = False,
    ) -> None:
        super().__init__(seed, faults, settings or Settings())
        names = names_of(nodes) if isinstance(nodes, int) else nodes
        self.machines: dict[str, Machine] = {}
        for name in names:
            self.add(name, (own or {}).get(name))
        for name in names:
            if name not in late:
                self.machines[name].start(alone=grown)
        if grown:
            self._acquaint()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if error is not None:
            error.add_note("\n".join(self.trace.tail(TAIL_LINES)))
        for machine in self.machines.values():
            machine.disk.connection.close()

    # --- The machines -----------------------------------------------------------------------

    def add(self, name: str, settings: Settings | None = None) -> None:
        """Add a machine with an empty disk. It is still to be started."""
        self.trace.names.append(name)
        self.machines[name] = Machine(self, name, settings or self.settings)

    def _acquaint(self) -> None:
        """Let all nodes know each other, as if they had been together for long."""
        nodes = [machine.running for machine in self.machines.values() if machine.node]
        rows = [node.me for node in nodes]
        for node in nodes:
            node.acquaint(rows)

    def start(self, *names: str) -> None:
        """Run nodes from what their disks hold."""
        for name in names:
            self.machines[name].start()

    restart = start

    def crash(self, *names: str) -> None:
        """Let these machines lose everything but their disks."""
        for name in names:
            self.machines[name].crash()

    def fate(self, name: str, *fates: Fate, of: str = "append") -> None:
        """Decide how its next writes of one kind end.

        Commits are of the kind `append`, deletions `retain`, and bases that are taken `adopt`. Of
        the kinds `recover` and `try_disk`, which follow a failure, those that are FAILED fail.
        """
        self.machines[name].disk.fates[of].extend(fates)

    # --- The network ------------------------------------------------------------------------

    def cut(self, sender: str, receiver: str, *, one_way: bool = False) -> None:
        """Let nothing get from one node to the other, nor back unless `one_way`."""
        self.network.cut(self._number(sender), self._number(receiver))
        if not one_way:
            self.network.cut(self._number(receiver), self._number(sender))

    def mend(self, sender: str, receiver: str) -> None:
        """Undo a cut in both directions."""
        self.network.mend(self._number(sender), self._number(receiver))
        self.network.mend(self._number(receiver), self._number(sender))

    def partition(self, *islands: Iterable[str]) -> None:
        """Let nothing cross between islands. Nodes that are not named are one more island."""
        self.network.split([sorted(map(self._number, island)) for island in islands])

    def heal(self) -> None:
        """Open every way again."""
        self.network.heal()

    def calm(self) -> None:
        """Let nothing go wrong by chance any more. Delays stay as they are."""
        old = self.network.faults
        self.network.faults = replace(
            CALM, delay_us_min=old.delay_us_min, delay_us_max=old.delay_us_max
        )

    def _number(self, name: str) -> int:
        return self.machines[name].number

    # --- People -----------------------------------------------------------------------------

    def say(self, name: str, room: str, body: str | bytes, *, receipt: bool = False) -> Utterance:
        """Somebody says something at a node; what is returned tells what became of it."""
        return self.machines[name].say(room, body, receipt=receipt)[0]

    def shown(self, name: str, room: str) -> list[str | bytes]:
        """The bodies in a room, in the order in which a follower of the node saw them."""
        blocks = by_position(self.machines[name].log.reader())
        return [body for _, block in blocks if block.room == room for body in block.bodies]

    def history(self, name: str, room: str) -> list[str | bytes]:
        """The bodies in a room, in the order in which all nodes print them."""
        rows = self.machines[name].log.reader().history(room)
        return [message.body for _, message in rows]

    def view(self, name: str) -> dict[str, State]:
        """What a running node believes of all members, itself included."""
        members = self.machines[name].running.facts().members
        return {member.row.name: member.row.state for member in members}

    # --- Time -------------------------------------------------------------------------------

    @property
    def now_ms(self) -> int:
        """The virtual time since the beginning."""
        return self.heap.now // MS_US

    def run(self, duration_ms: int) -> None:
        """Let time pass."""
        self.heap.run_until(self.heap.now + duration_ms * MS_US)

    def settle(self, limit_ms: int = 60_000) -> int:
        """Run until all running nodes agree and rest, and audit them. Return the ms it took.

        Raises NotConverged, or the Violation that was found.
        """
        took = self.run_until_quiet(limit_ms, members_too=True)
        audit(self.checks, [(m.name, m.log) for m in self.machines.values() if m.node is not None])
        return took

    def run_until_quiet(self, limit_ms: int, *, members_too: bool) -> int:
        """Run until histories agree, and with `members_too` members. Return the ms it took."""
        began, end = self.heap.now, self.heap.now + limit_ms * MS_US
        while (why := self.unrest(members_too=members_too)) is not None:
            if self.heap.now >= end:
                raise NotConverged(f"not converged after {limit_ms} ms: {why}")
            self.heap.run_until(min(self.heap.now + LOOK_US, end))
        return (self.heap.now - began) // MS_US

    def unrest(self, *, members_too: bool) -> str | None:
        """Why the running nodes are not at rest, in words. None: they are."""
        running = {m.name: m.node for m in self.machines.values() if m.node is not None}
        roots: dict[bytes, str] = {}
        for name, node in running.items():
            queued = node.queued()
            for what in ("posts", "uncommitted", "wanted", "pulls"):
                if queued[what]:
                    return f"{name} has {queued[what]} {what}"
            if node.waits:
                return f"{name} waits for others"
            roots.setdefault(node.root, name)
        if len(roots) > 1:
            return f"histories differ between {' and '.join(roots.values())}"
        return self._disagreement(running) if members_too else None

    def _disagreement(self, running: dict[str, Node]) -> str | None:
        """Who does not know exactly the running nodes as alive, by their own rows."""
        expected = {node.me.id: node.me for node in running.values()}
        for name, node in running.items():
            if {row.id: row for row in (node.me, *node.live_rows())} != expected:
                return f"{name} does not see exactly the running nodes as alive"
            if rotten := node.facts().repair.rotten:
                return f"{name} still heals {rotten[0]} and {len(rotten) - 1} other blocks"
        roots = {node.facts().members_root for node in running.values()}
        return "member roots differ" if len(roots) > 1 else None


def names_of(count: int) -> list[str]:
    """The names a, b, … z. If there are more nodes, they are numbered."""
    letters = list(ascii_lowercase[:count])
    return letters if count <= len(letters) else [f"n{number}" for number in range(count)]
