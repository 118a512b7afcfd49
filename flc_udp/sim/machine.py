"""A machine: a disk and clocks that stay, and a node that runs on them until it crashes.

It is the ground of its node (`waist.ports.Ground`), as `daemon.ground` is. Datagrams and posts ask
for a turn, one timer follows the node's `wake_at`, and what is written takes time, one thing after
another (`writes`). Beyond that a machine only breaks: it can crash at any moment, its disk can
fail, it can stand still for a while, and its disk can be put back to an earlier state.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

from flc_udp.config import Settings
from flc_udp.core.effects import Deliver
from flc_udp.model.address import Address
from flc_udp.model.dots import Dot, NodeId
from flc_udp.model.drops import Drop
from flc_udp.model.errors import FlcError
from flc_udp.model.history import BaseLog
from flc_udp.model.notices import Notice
from flc_udp.model.units import MS_US, SECOND_US, Micros, Millis
from flc_udp.sim.audit import found
from flc_udp.sim.checks import Utterance, Violation
from flc_udp.sim.disk import Disk
from flc_udp.sim.stage import Stage
from flc_udp.sim.writes import Writes
from flc_udp.store.log import Log
from flc_udp.waist.birth import give_birth, remembered_addresses
from flc_udp.waist.node import Node
from flc_udp.waist.ports import Batch, Committed, PeerRow, Post
from flc_udp.waist.waits import WaitEnded
from flc_udp.wire.seal import Seal

EPOCH_MS = 1_767_225_600_000
"""What correct clocks show when a play begins: the first of January 2026."""

TURN_US = 150
"""The time from the first datagram to the turn that takes it. Others may come in between."""

TURNS_MAX = 20_000
"""A node that needs more turns in a second spins."""


class Machine:
    """One machine of the play. `node` is None while nothing runs on it."""

    def __init__(
        self,
        stage: Stage,
        name: str,
        address: Address,
        seeds: Sequence[Address],
        settings: Settings,
    ) -> None:
        self.name = name
        self.address = address
        self.settings = settings
        self.disk = Disk(stage.random(f"{name}/disk"))
        self.node: Node | None = None
        self.counts: Counter[str] = Counter()
        self.drops: Counter[Drop] = Counter()
        self.number = stage.network.attach(address, self._receive)
        stage.checks.add(name)
        self._stage = stage
        self._heap = stage.heap
        self._seeds = seeds
        faults, random = stage.network.faults, stage.random(f"{name}/clock")
        self._wall_offset_ms = random.randint(-faults.wall_offset_ms_max, faults.wall_offset_ms_max)
        self._wall_ppm = random.uniform(-1, 1) * faults.wall_drift_ppm_max
        self._life = 0
        self.paused_until = self._buffered = 0
        self._turn_due = False
        self._timer_at: int | None = None
        self._turns = 0
        self._turns_since = 0
        self.log = Log.over(self.disk.connection)
        self._writes = Writes(self, stage)

    # --- Its fate ---------------------------------------------------------------------------------

    def start(self, *, alone: bool = False) -> None:
        """Run a node from what the disk holds. With `alone` it asks nobody to be let in."""
        assert self.node is None, f"{self.name} runs already"
        self._life += 1
        self._turn_due, self._timer_at, self.paused_until = False, None, 0
        random = self._stage.random(f"{self.name}/{self._life}")
        self.log = Log.over(self.disk.connection)
        self._writes = Writes(self, self._stage)
        self._stage.trace.running |= 1 << self.number
        seal_of = partial(Seal, self._stage.ring)
        reader = self.log.reader()
        self.node = give_birth(
            self.settings, self.name, self.address, self.log, reader, seal_of, self, random
        )
        self.tell_trace("^", f"starts, life {self._life}")
        self._stage.checks.started(self.number, found(self.log))
        if not alone:
            self.node.join([*self._seeds, *remembered_addresses(self.log)])
        self._turn_soon()

    def crash(self, when: str = "") -> None:
        """Lose everything but the disk."""
        if self.node is None:
            return
        self.tell_trace("X", f"crashes {when}".rstrip())
        self._stop()

    def leave(self) -> None:
        """Go in order: tell the others, then stop."""
        if self.node is not None:
            self.tell_trace("L", "leaves")
            self.node.leave()
            self._turn_soon()

    def pause(self, duration_us: int) -> None:
        """Stand still. What comes in meanwhile waits."""
        self.paused_until = self.now() + duration_us
        self._buffered = 0
        self.tell_trace("Z", f"stands still for {duration_us // MS_US} ms")

    def put_back(self) -> None:
        """Give the disk of a machine that is down an earlier state."""
        assert self.node is None, "a disk is put back while nothing runs on it"
        self.disk.put_back()
        self.log = Log.over(self.disk.connection)
        self.tell_trace("R", "has its disk put back")
        self._stage.checks.put_back(self.number, found(self.log))

    def _stop(self) -> None:
        node = self.node
        assert node is not None
        self.counts += node.counts
        self.drops += node.drops()
        self.node = None
        self._stage.trace.running &= ~(1 << self.number)
        self._stage.checks.crashed(self.number)

    def tell_trace(self, mark: str, text: str) -> None:
        """Something happened here: add a line to the trace."""
        self._stage.trace.add(self._heap.now, self.number, mark, text)

    # --- What comes in ----------------------------------------------------------------------------

    def say(self, room: str, body: str | bytes, author: str, *, receipt: bool = False) -> Utterance:
        """Say something here. What is returned tells what becomes of it."""
        utterance = self._stage.checks.utters(self.number, room, body, self.now())
        self.tell_trace("S", f"says in {room}: {body[:24]!r}")
        if self.node is None:
            self._answered(utterance, FlcError(f"{self.name} is down", "start it"))
            return utterance
        done = partial(self._answered, utterance)
        self.node.post(Post(room, author, body, done, receipt=receipt))
        self._turn_soon()
        return utterance

    def wait(
        self, dot: Dot, needed: int | None, timeout_us: int, done: Callable[[WaitEnded], None]
    ) -> None:
        """Wait until other nodes hold what was said here."""
        assert self.node is not None
        self.node.wait(dot, needed, timeout_us, done)
        self._turn_soon()

    def _answered(self, utterance: Utterance, answer: Committed | FlcError) -> None:
        told = answer.dot if isinstance(answer, Committed) else answer
        self.tell_trace("A", f"is told {told}")
        self._stage.checks.answered(self.number, utterance, answer)

    def _receive(self, datagram: bytes, source: Address, _sender: int) -> None:
        assert self.node is not None
        if self._heap.now < self.paused_until:
            faults = self._stage.network.faults
            if self._buffered >= faults.pause_datagrams_max:
                return
            self._buffered += 1
        self.node.datagram_received(datagram, source)
        self._turn_soon()

    # --- The turn ---------------------------------------------------------------------------------

    def _turn_soon(self) -> None:
        if not self._turn_due:
            self._turn_due = True
            self._heap.after(TURN_US, self._turn, self._life)

    def _turn(self, life: int) -> None:
        if life != self._life or self.node is None:
            return
        if self._heap.now < self.paused_until:
            self._heap.at(self.paused_until, self._turn, life)
            return
        self._turn_due = False
        self._count_turn()
        self.node.turn()
        self.after_turn()

    def after_turn(self) -> None:
        """The node did something: see whether it has left, and when it is to be woken."""
        node = self.node
        if node is None:
            return
        if node.has_left:
            self.tell_trace("L", "has left")
            node.stop()
            self._stop()
            return
        due = max(node.wake_at, self._heap.now + TURN_US)
        if self._timer_at is None or due < self._timer_at:
            self._timer_at = due
            self._heap.at(due, self._timer, self._life, due)

    def _timer(self, life: int, due: int) -> None:
        if life == self._life and due == self._timer_at:
            self._timer_at = None
            self._turn(life)

    def _count_turn(self) -> None:
        self._turns += 1
        if self._heap.now - self._turns_since >= SECOND_US:
            self._turns, self._turns_since = 0, self._heap.now
        elif self._turns > TURNS_MAX:
            raise Violation(f"{self.name}: more than {TURNS_MAX} turns in a second: it spins")

    # --- The ground -------------------------------------------------------------------------------

    def now(self) -> Micros:
        """Monotonic time in µs. It is the same for all: nothing compares it between machines."""
        return Micros(self._heap.now)

    def wall(self) -> Millis:
        """Milliseconds since 1970, as wrong as this machine's clock is."""
        true_ms = self._heap.now / MS_US
        return Millis(EPOCH_MS + self._wall_offset_ms + int(true_ms * (1 + self._wall_ppm / 1e6)))

    def transmit(self, datagram: bytes, to: Address) -> None:
        """Send one datagram."""
        self._stage.network.transmit(self.number, datagram, to)

    def commit(self, batch: Batch) -> None:
        """Start one commit."""
        self._writes.commit(batch)

    def recover(self) -> None:
        """Open the log anew and read what it holds."""
        self._writes.recover()

    def try_disk(self) -> None:
        """Write a little, soon."""
        self._writes.soon(self._writes.try_disk)

    def retain(self, arrived_before_ms: Millis | None, bytes_max: int | None) -> None:
        """Delete a little."""
        self._writes.retain(arrived_before_ms, bytes_max)

    def adopt(self, floor: int, base: Sequence[BaseLog]) -> None:
        """Take another node's base."""
        assert self.node is not None
        live = [row.address for row in self.node.live_rows()]
        reachable = self._stage.network.reachable(self.number, live)
        self._stage.checks.adopts(self.number, base, reachable, self.now())
        self._writes.adopt(floor, base)

    def save_incarnation(self, incarnation: int) -> None:
        """Remember it, soon: a crash may come first."""
        self._writes.soon(self.log.save_incarnation, incarnation)

    def save_identity(self, node: NodeId) -> None:
        """Remember it, soon."""
        self._writes.soon(self.log.save_identity, node)

    def save_peers(self, rows: Sequence[PeerRow]) -> None:
        """Remember these members."""
        self.log.save_peers(rows)

    def free_bytes(self) -> int:
        """Free space of the disk."""
        return self.disk.free_bytes

    def show(self, deliver: Deliver) -> None:
        """Show these messages to whoever follows this node."""
        first, messages = deliver.position, deliver.messages
        if not messages:
            return
        self.tell_trace("*", f"shows {first} to {first + len(messages) - 1}")
        self._stage.checks.showed(self.number, first, messages)
        for watch in self._stage.watchers:
            watch(self.number, messages)

    def tell(self, notice: Notice) -> None:
        """Put a fact for people into the trace."""
        fields = " ".join(f"{name}={value}" for name, value in notice.record().items())
        self.tell_trace("!", f"{notice.event()} {fields}")
        for listen in self._stage.listeners:
            listen(self.number, notice)
