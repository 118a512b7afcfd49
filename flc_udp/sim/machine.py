"""A machine: a disk and clocks that stay, and a node that runs on them until it crashes.

It is the ground of its node (`node.Ground`), as the daemon is: datagrams and posts ask for a turn,
what is written takes time, one thing after another, and the node is told how it ended, one timer
follows `wake_at`. Beyond that it only breaks: it can crash at any moment, also between a decision
and its commit and between the commit and what it would have sent, its disk can fail, and it can
stand still for a while.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from functools import partial

from flc_udp.config import ID_BYTES, Settings
from flc_udp.core.effects import Notice
from flc_udp.core.liveness.members import alive_row
from flc_udp.model.address import Address, parse_numeric
from flc_udp.model.dots import NodeId
from flc_udp.model.drops import Drop
from flc_udp.model.errors import FlcError, StoreFailed
from flc_udp.model.history import BaseLog
from flc_udp.model.message import Message
from flc_udp.model.tags import parse_tags
from flc_udp.sim.audit import by_position, found
from flc_udp.sim.checks import Utterance, Violation
from flc_udp.sim.disk import WALL_STRETCH, Disk, Fate
from flc_udp.sim.follower import Allowed, Arrived
from flc_udp.sim.heap import MS
from flc_udp.sim.stage import Stage
from flc_udp.store.log import Log
from flc_udp.waist.node import Node
from flc_udp.waist.ports import Batch, Post, Said
from flc_udp.wire.seal import SESSION_BYTES, Seal

EPOCH_MS = 1_767_225_600_000
"""What clocks that are right show when a play begins: the first of January 2026."""

TURN_US = 150
"""From the first datagram to the turn that takes it; others may come in between."""

TURNS_MAX = 20_000
"""Turns a second; a node that needs more spins."""

SECOND = 1_000 * MS

PEERS_PAUSE = 10 * SECOND
"""Between two writings of who is there, as in the daemon; the first, and a leaver's, at once."""


Write = Callable[[Fate], None]

CRASHES = {"append": "commit", "retain": "pruning", "adopt": "the base that is taken"}


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
        self._wall_offset = random.randint(-faults.wall_offset_ms_max, faults.wall_offset_ms_max)
        self._wall_ppm = random.uniform(-1, 1) * faults.wall_drift_ppm_max
        self._life = 0
        self._paused_until = self._buffered = 0
        self._turn_due = self._peers_due = False
        self._writes: deque[tuple[str, Write]] = deque()
        self._written_at = 0
        self._next_save = 0
        self._timer_at: int | None = None
        self._turns = 0
        self._turns_since = 0
        self.log = Log.over(self.disk.connection)

    # --- Its fate ---------------------------------------------------------------------------

    def start(self, *, alone: bool = False) -> None:
        """Run a node from what the disk holds; `alone` it asks nobody to be let in."""
        assert self.node is None, f"{self.name} runs already"
        self._life += 1
        self._turn_due, self._timer_at, self._paused_until = False, None, 0
        self._writes.clear()
        self._written_at = self._next_save = self.now()
        self._peers_due = False
        random = self._stage.random(f"{self.name}/{self._life}")
        self.log = log = Log.over(self.disk.connection)
        identity = log.identity(random.randbytes(ID_BYTES))
        incarnation = max(log.incarnation() + 1, self.wall() // 1000)
        log.save_incarnation(incarnation)
        said = (self.address, self.name, random.getrandbits(63), parse_tags(self.settings.tags))
        row = alive_row(identity, incarnation, *said)
        seal = Seal(self._stage.ring, random.randbytes(SESSION_BYTES))
        self._stage.trace.running |= 1 << self.number
        self.node = Node(self.settings, row, log.load(), log.reader(), seal, self, random)
        self._tell("^", f"starts, life {self._life}")
        self._stage.checks.started(self.number, found(log))
        if not alone:
            remembered = (parse_numeric(address) for _, _, address in log.peers())
            self.node.replica.join([*self._seeds, *filter(None, remembered)], self.now())
        self._turn_soon()

    def crash(self, when: str = "") -> None:
        """Lose everything but the disk."""
        if self.node is None:
            return
        self._tell("X", f"crashes {when}".rstrip())
        self._stop()

    def leave(self) -> None:
        """Go in order: tell the others, then stop."""
        if self.node is not None:
            self._tell("L", "leaves")
            self.node.replica.leave(self.now())
            self._turn_soon()

    def pause(self, duration: int) -> None:
        """Stand still; what comes in meanwhile waits."""
        self._paused_until = self.now() + duration
        self._buffered = 0
        self._tell("Z", f"stands still for {duration // MS} ms")

    def put_back(self) -> None:
        """Give the disk of a machine that is down an earlier state."""
        assert self.node is None, "a disk is put back while nothing runs on it"
        self.disk.put_back()
        self.log = Log.over(self.disk.connection)
        self._tell("R", "has its disk put back")
        self._stage.checks.put_back(self.number, found(self.log))

    def _stop(self) -> None:
        node = self.node
        assert node is not None
        self.counts += node.counts
        self.drops += node.drops + node.replica.drops
        self.node = None
        self._stage.trace.running &= ~(1 << self.number)
        self._stage.checks.crashed(self.number)

    def _tell(self, mark: str, text: str) -> None:
        self._stage.trace.add(self._heap.now, self.number, mark, text)

    # --- What comes in ----------------------------------------------------------------------

    def say(self, room: str, body: str | bytes, author: str) -> Utterance:
        """Say something here; what is returned tells what became of it."""
        utterance = self._stage.checks.utters(self.number, room, body, self.now())
        self._tell("S", f"says in {room}: {body[:24]!r}")
        if self.node is None:
            self._answered(utterance, FlcError(f"{self.name} is down", "start it"))
            return utterance
        self.node.post(Post(room, author, body, partial(self._answered, utterance)))
        self._turn_soon()
        return utterance

    def _answered(self, utterance: Utterance, answer: Said | FlcError) -> None:
        self._tell("A", f"is told {answer.dot if isinstance(answer, Said) else answer}")
        self._stage.checks.answered(self.number, utterance, answer)

    def _receive(self, datagram: bytes, source: Address, _sender: int) -> None:
        assert self.node is not None
        if self._heap.now < self._paused_until:
            if self._buffered >= self._stage.network.faults.pause_datagrams_max:
                return
            self._buffered += 1
        self.node.datagram_received(datagram, source)
        self._turn_soon()

    # --- The turn ---------------------------------------------------------------------------

    def _turn_soon(self) -> None:
        if not self._turn_due:
            self._turn_due = True
            self._heap.after(TURN_US, self._turn, self._life)

    def _turn(self, life: int) -> None:
        if life != self._life or self.node is None:
            return
        if self._heap.now < self._paused_until:
            self._heap.at(self._paused_until, self._turn, life)
            return
        self._turn_due = False
        self._count_turn()
        self.node.turn()
        self._after_turn()

    def _after_turn(self) -> None:
        node = self.node
        if node is None:
            return
        if node.replica.liveness.has_left(self._heap.now):
            self._tell("L", "has left")
            self._save_peers(self._life)
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
        if self._heap.now - self._turns_since >= SECOND:
            self._turns, self._turns_since = 0, self._heap.now
        elif self._turns > TURNS_MAX:
            raise Violation(f"{self.name}: more than {TURNS_MAX} turns in a second: it spins")

    # --- The ground -------------------------------------------------------------------------

    def now(self) -> int:
        """Monotonic time in µs, the same for all: nothing compares it between machines."""
        return self._heap.now

    def wall(self) -> int:
        """Milliseconds since 1970, as wrong as this machine's clock is."""
        true = self._heap.now / MS
        return EPOCH_MS + self._wall_offset + int(true * (1 + self._wall_ppm / 1e6))

    def transmit(self, datagram: bytes, to: Address) -> None:
        """Send one datagram."""
        self._stage.network.transmit(self.number, datagram, to)

    def commit(self, batch: Batch) -> None:
        """Start one commit."""
        self._write_later("append", partial(self._append, batch))

    def retain(self, arrived_before_ms: int | None, bytes_max: int | None) -> None:
        """Let go of a little."""
        self._write_later("retain", partial(self._retain, arrived_before_ms, bytes_max))

    def adopt(self, floor: int, base: Sequence[BaseLog]) -> None:
        """Take another's base."""
        assert self.node is not None
        live = [member.row.address for member in self.node.replica.liveness.members.live()]
        reachable = self._stage.network.reachable(self.number, live)
        self._stage.checks.adopts(self.number, base, reachable, self.now())
        self._write_later("adopt", partial(self._adopt, floor, base))

    def save_incarnation(self, incarnation: int) -> None:
        """Remember it, soon: a crash may come first."""
        self._heap.after(MS, self._save_incarnation, self._life, incarnation)

    def save_identity(self, node: NodeId) -> None:
        """Remember it, soon."""
        self._heap.after(MS, self._save_identity, self._life, node)

    def free_bytes(self) -> int:
        """Free space of the disk."""
        return self.disk.free_bytes

    def show(self, first_position: int, messages: Sequence[Message]) -> None:
        """These are durable; who follows this node sees them."""
        last = first_position + len(messages) - 1
        self._tell("*", f"shows {first_position} to {last}")
        self._stage.checks.showed(self.number, first_position, messages)
        for watch in self._stage.watchers:
            watch(self.number, messages)

    def tell(self, notice: Notice) -> None:
        """Put a fact for people into the trace."""
        fields = " ".join(f"{name}={value}" for name, value in notice.fields.items())
        self._tell("!", f"{notice.name} {fields}")
        for listen in self._stage.listeners:
            listen(self.number, notice)
        if notice.name == "member_alive" and not self._peers_due:
            self._peers_due = True
            self._heap.at(self._next_save, self._save_peers, self._life)

    # --- The disk ---------------------------------------------------------------------------

    def _save_incarnation(self, life: int, incarnation: int) -> None:
        if life == self._life and self.node is not None:
            self.log.save_incarnation(incarnation)

    def _save_identity(self, life: int, node: NodeId) -> None:
        if life == self._life and self.node is not None:
            self.log.save_identity(node)

    def _save_peers(self, life: int) -> None:
        if life == self._life and self.node is not None:
            self._peers_due = False
            self._next_save = self.now() + PEERS_PAUSE
            rows = [member.row for member in self.node.replica.liveness.members.live()]
            if rows:
                self.log.save_peers([(row.id, row.name, str(row.address)) for row in rows])

    def _write_later(self, operation: str, write: Write) -> None:
        """One thing after another, each in its time: the daemon has one writer."""
        self._writes.append((operation, write))
        start = max(self._written_at, self._heap.now)
        self._written_at = start + self.disk.write_us(self._stage.network.faults)
        self._heap.at(self._written_at, self._write, self._life)

    def _write(self, life: int) -> None:
        if life != self._life or self.node is None:
            return
        if self._heap.now < self._paused_until:
            self._heap.at(self._paused_until, self._write, life)
            return
        operation, write = self._writes.popleft()
        fate = self.disk.next_fate(self._stage.network.faults, operation)
        if fate is Fate.CRASH_BEFORE:
            self.crash(f"between decision and {CRASHES[operation]}")
            return
        write(fate)
        self._after_turn()

    def _append(self, batch: Batch, fate: Fate) -> None:
        assert self.node is not None
        arrived = Arrived(batch.wall, self._heap.now)
        try:
            with self.disk.writing("append", fate):
                wall = batch.wall * WALL_STRETCH
                first = self.log.append(batch.messages, batch.once, wall)
        except StoreFailed as error:
            self._tell("F", f"fails to commit: {error}")
            self.log.recover()
            self._find(arrived)
            self.node.commit_failed(str(error), self.log.load())
            return
        self._tell("C", f"commits {len(batch.messages)} from position {first}")
        self._stage.checks.wrote(self.number, first, batch.messages, arrived)
        if fate is Fate.CRASH_AFTER:
            self.crash("between commit and send")
            return
        self.node.committed(batch, first)

    def _find(self, arrived: Arrived) -> None:
        """Look what stands on the disk after a failure; who follows the node reads on there."""
        checks = self._stage.checks
        known = checks.followers[self.number].position
        written = [message for _, message in by_position(self.log.reader(), known)]
        if written:
            self._tell("C", f"finds {len(written)} written from position {known + 1}")
            checks.found(self.number, written, arrived)

    def _retain(self, before_ms: int | None, bytes_max: int | None, fate: Fate) -> None:
        assert self.node is not None
        # Judged by what its operator set, not by what it asks for.
        age_ms, most = self.settings.retention_age_s * 1_000, self.settings.retention_bytes
        allowed = Allowed(self.wall() - age_ms if age_ms else None, self.disk.excess(most))
        floor, pruned, more = self.node.replica.standing.floor, 0, False
        try:
            with self.disk.writing("retain", fate):
                before = None if before_ms is None else before_ms * WALL_STRETCH
                floor, pruned, more = self.log.retain(arrived_before_ms=before, bytes_max=bytes_max)
        except StoreFailed as error:
            self._tell("F", f"fails to prune: {error}")
            self.log.recover()
            floor, pruned, more = self.node.replica.standing.floor, 0, False
        left = self.disk.positions()
        gone = self._stage.checks.pruned(self.number, left, self.log.reader().floor(), allowed)
        if gone:
            self._tell("P", f"prunes {gone}, and keeps {len(left)}")
        if fate is Fate.CRASH_AFTER:
            self.crash("right after it pruned")
            return
        self.node.retained(floor, pruned, more=more)

    def _adopt(self, floor: int, base: Sequence[BaseLog], fate: Fate) -> None:
        assert self.node is not None
        is_taken = True
        try:
            with self.disk.writing("adopt", fate):
                history = self.log.adopt(floor, base)
        except StoreFailed as error:
            self._tell("F", f"fails to take a base: {error}")
            self.log.recover()
            history, is_taken = self.log.load(), fate is Fate.DOUBTED
        if is_taken:
            self._tell("B", f"takes a base of {len(base)} logs below {floor}")
            left = self.disk.positions()
            self._stage.checks.adopted(self.number, floor, base, history, left)
        if fate is Fate.CRASH_AFTER:
            self.crash("right after it took a base")
            return
        self.node.adopted(history if is_taken else None)
