"""The ground under a simulated node: a heap of virtual time, one network, and a disk that fails.

It is the simulator's `waist.ports.Ground`, as `daemon.ground` is the daemon's. Datagrams and posts
ask for a turn, and one timer follows the node's `wake_at`. The daemon has one writer thread, and so
has a machine: it writes one thing after another, each in its time and with its fate. A write ends
as the disk decides (`disk.Fate`): it is done, it fails, it is in doubt, or the machine crashes
before it or right after it.
"""

from collections import Counter, deque
from collections.abc import Callable, Sequence
from functools import partial

from flc_udp.config import Settings
from flc_udp.core.effects import Deliver
from flc_udp.core.push.window import BUFFER_BYTES
from flc_udp.model.address import Address
from flc_udp.model.dots import Dot, NodeId
from flc_udp.model.errors import Drop, StoreFailed
from flc_udp.model.history import BaseLog, PlacedBlock
from flc_udp.model.notices import Notice
from flc_udp.model.units import MS_US, SECOND_US, Micros, Millis
from flc_udp.sim.bounds import Bounds
from flc_udp.sim.disk import OPERATIONS, WALL_STRETCH, Disk, Fate, Result, by_position
from flc_udp.sim.stage import Stage
from flc_udp.sim.violation import Violation
from flc_udp.waist.flood import Door
from flc_udp.waist.node import Node
from flc_udp.waist.ports import Batch, PeerRow
from flc_udp.waist.pruning import APART_MAX_MS

CLOCKS_DIFFER = 0.001
"""A machine's clock is wrong by at most this part of the time that passes."""

EPOCH_MS = 1_767_225_600_000
"""What correct clocks show when a play begins: the first of January 2026."""

TURN_US = 150
"""The time from the first datagram to the turn that takes it. Others may come in between."""

TURNS_MAX = 20_000
"""A node that needs more turns in a second spins."""

TellNode = Callable[[], None]
"""Tells the node how its write ended."""


class HeapGround:
    """What one node after another stands on. `node` is None while nothing runs."""

    def __init__(self, stage: Stage, name: str, settings: Settings) -> None:
        self.name = name
        self.settings = settings
        self.ring = stage.ring
        self.disk = Disk(stage.random(f"{name}/disk"))
        self.log = self.disk.log()
        self.node: Node | None = None
        self.number, self.address = stage.network.attach(self._receive)
        self._stage = stage
        self._heap = stage.heap
        self._network = stage.network
        self.follower = stage.checks.add(name)
        self.buffer_bytes = BUFFER_BYTES
        """How many bytes of datagrams may wait while this machine stands still."""
        self.busy_factor = 1
        """This machine's processor takes so many times as long for everything."""
        self._counted: Counter[str] = Counter()
        """What the nodes of former lives counted."""
        faults, random = stage.network.faults, stage.random(f"{name}/clock")
        offset_ms_max = faults.wall_offset_ms_max
        self._wall_offset_ms = self._right_ms = random.randint(-offset_ms_max, offset_ms_max)
        self._stands_at: int | None = None
        """The µs at which the wall clock stands, while it does."""
        self.ages_ms: int | None = None
        """What must be added to virtual time to get what its last node dated arrivals by."""
        self._wall_ppm = random.uniform(-1, 1) * faults.wall_drift_ppm_max
        self._turns = self._turns_since = 0
        self._bounds = Bounds(name)
        self._life = 0

    def _begin_life(self) -> None:
        """One more node is to run here. Nothing of a former life goes on."""
        self._life += 1
        self.fresh_bytes = self._stage.random(f"{self.name}/{self._life}/fresh").randbytes
        self.log = self.disk.log()
        self._paused_until = self._buffered = self._worked_us = 0
        self._turn_due = False
        self._timer_at: int | None = None
        self._written_at = 0
        self._writes: deque[tuple[str, Callable[[Fate], TellNode]]] = deque()

    def counted(self) -> Counter[str]:
        """What the nodes of all its lives counted, drops by their reason included."""
        if self.node is None:
            return self._counted
        return self._counted + self.node.counts + self.node.drops()

    def crash(self, when: str = "") -> None:
        """Lose everything but the disk."""
        if self.node is not None:
            self._trace("X", f"crashes {when}".rstrip())
            self._end_life()

    def _end_life(self) -> None:
        self._counted = self.counted()
        self.node = None
        self._stage.trace.running &= ~(1 << self.number)
        self.follower.crashed()

    @property
    def running(self) -> Node:
        """The node that runs on it."""
        assert self.node is not None, f"{self.name} is down"
        return self.node

    def _later(self, when: int, action: Callable[..., object], *args: object) -> None:
        """Do something at that moment, unless the machine crashes first."""
        node = self.running

        def act() -> None:
            if self.node is node:
                action(*args)

        self._heap.at(when, act)

    def _trace(self, mark: str, text: str) -> None:
        self._stage.trace.add(self.number, mark, text)

    # --- The turn ---------------------------------------------------------------------------------

    def _receive(self, datagram: bytes, source: Address) -> None:
        if self._heap.now < self._paused_until:
            if self._buffered >= self._network.faults.pause_datagrams_max:
                return
            self._buffered += 1
        self.running.datagram_received(datagram, source)
        self._turn_soon()

    def _turn_soon(self) -> None:
        if not self._turn_due:
            self._turn_due = True
            self._later(self._heap.now + TURN_US, self._turn)

    def _turn(self) -> None:
        if self._heap.now < self._paused_until:
            self._later(self._paused_until, self._turn)
            return
        self._turn_due = False
        self._count_turn()
        self.running.turn()
        self._be_busy()
        self._after_turn()

    def _be_busy(self) -> None:
        """Stand still for as long as a processor takes for the last turn."""
        node, block_us = self.running, self._network.faults.block_us * self.busy_factor
        if not block_us:
            return
        counts, known = node.counts, node.drops()[Drop.DUPLICATE_BLOCK]
        tenths = counts["datagrams received"] + counts["datagrams sent"] + known
        worked_us = block_us * counts["blocks committed"] + block_us * tenths // 10
        self._paused_until = max(self._paused_until, self._heap.now + worked_us - self._worked_us)
        self._worked_us, self._buffered = worked_us, 0

    def _after_turn(self) -> None:
        """The node did something: see whether it has left, and when it is to be woken."""
        node = self.node
        if node is None:
            return
        self._bounds.look(node, self.settings)
        if node.has_left:
            self._trace("L", "has left")
            node.stop()
            self._end_life()
            return
        due = max(node.wake_at, self._heap.now + TURN_US)
        if self._timer_at is None or due < self._timer_at:
            self._timer_at = due
            self._later(due, self._wake, due)

    def _wake(self, due: int) -> None:
        if due == self._timer_at:
            self._timer_at = None
            self._turn()

    def _count_turn(self) -> None:
        self._turns += 1
        if self._heap.now - self._turns_since >= SECOND_US:
            self._turns, self._turns_since = 0, self._heap.now
        elif self._turns > TURNS_MAX:
            raise Violation(f"{self.name}: more than {TURNS_MAX} turns in a second: it spins")

    # --- What the node asks for -------------------------------------------------------------------

    def now(self) -> Micros:
        """Monotonic time in µs. It is the same for all: nothing compares it between machines."""
        return Micros(self._heap.now)

    def wall(self) -> Millis:
        """Milliseconds since 1970, as wrong as this machine's clock is."""
        true_ms = (self._heap.now if self._stands_at is None else self._stands_at) / MS_US
        return Millis(EPOCH_MS + self._wall_offset_ms + int(true_ms * (1 + self._wall_ppm / 1e6)))

    def _note_ages(self) -> None:
        """A node starts, and believes a wall clock that is within a year after the latest arrival.

        If somebody set that clock forwards while nothing ran, what arrived before is older now, as
        far as anybody there can know.
        """
        latest, wall, now_ms = self.log.latest_arrival(), self.wall(), self._heap.now // MS_US
        is_believed = not latest or 0 <= wall - latest <= APART_MAX_MS
        ages_ms = (wall if is_believed else latest) - now_ms
        if self.ages_ms is not None and ages_ms > self.ages_ms:
            self.follower.aged((ages_ms - self.ages_ms) * MS_US)
        self.ages_ms = ages_ms

    def narrow(self, door: Door | None) -> None:
        """Read everything all the same: a simulated machine has no such door."""

    def transmit(self, datagram: bytes, to: Address) -> None:
        """Send one datagram."""
        self._network.transmit(self.number, datagram, to)

    def free_bytes(self) -> int:
        """Free space of the disk."""
        return self.disk.free_bytes

    def answered(self) -> None:
        """Whoever said something here was told already."""

    def show(self, deliver: Deliver) -> None:
        """Show these blocks to whoever follows this node."""
        if not deliver.blocks:
            return
        self._trace("*", f"shows {deliver.position} to {deliver.last}")
        messages = [message for block in deliver.blocks for message in block.messages()]
        self.follower.showed(deliver.position, messages)
        for watch in self._stage.watchers:
            watch(self.number, messages)

    def tell(self, notice: Notice) -> None:
        """Put a fact for people into the trace."""
        fields = " ".join(f"{name}={value}" for name, value in notice.record().items())
        self._trace("!", f"{notice.event()} {fields}")
        for listen in self._stage.listeners:
            listen(self.number, notice)

    # --- Small writes, which take a moment --------------------------------------------------------

    def failed(self, part: str, error: Exception) -> None:
        """Nothing fails in the simulator that nobody expected."""
        raise Violation(f"{self.name}: {part} failed: {error!r}") from error

    def save_self(self, node: NodeId, incarnation: int) -> None:
        """Remember it, soon: a crash may come first."""
        self._stage.checks.named(self.follower, node)
        self._later(self._heap.now + MS_US, self._save, self.log.save_self, node, incarnation)

    def save_peers(self, rows: Sequence[PeerRow]) -> None:
        """Remember these members."""
        if not self._save(self.log.save_peers, rows):
            self._later(self._heap.now + MS_US, self._peers_not_saved)

    def _peers_not_saved(self) -> None:
        self.running.peers_not_saved()

    def _save(self, save: Callable[..., None], *what: object) -> bool:
        """Return whether it was saved."""
        if self.disk.save_fails(self._network.faults):
            self._trace("F", f"fails to {save.__name__}")
            return False
        save(*what)
        return True

    def try_disk(self) -> None:
        """Write a little, soon."""
        self._later(self._heap.now + MS_US, self._try_disk)

    def _try_disk(self) -> None:
        if self.disk.fails("try_disk"):
            self._trace("F", "fails to write a little")
            self.running.disk_failed()
            return
        self.log.save_self(self.running.me.id, self.running.me.incarnation)
        self.running.disk_is_well()

    def recover(self) -> None:
        """Open the log anew and tell the node what it holds."""
        if self.disk.fails("recover"):
            self._trace("F", "fails to open its log anew")
            self.running.recovery_failed("the log cannot be opened")
            return
        self.log.recover()
        self.running.recovered(self.log.load(), self.log.last_position())

    # --- Transactions, one after another ----------------------------------------------------------

    def commit(self, batch: Batch, *, at_once: bool) -> None:
        """Append a batch. With `at_once` the machine stands still meanwhile."""
        self._write_later("append", partial(self._append, batch, self._heap.now))
        if at_once:
            self._paused_until, self._buffered = max(self._paused_until, self._written_at), 0

    def retain(
        self, arrived_before_ms: Millis | None, bytes_max: int | None, stamp_limit: int
    ) -> None:
        """Delete a little."""
        retain = partial(self._retain, self.settings, arrived_before_ms, bytes_max, stamp_limit)
        self._write_later("retain", retain)

    def heal(self, rows: Sequence[PlacedBlock]) -> None:
        """Write these anew."""
        self._write_later("heal", partial(self._heal, rows))

    def adopt(self, floor: int, base: Sequence[BaseLog]) -> None:
        """Take another node's base."""
        live = [row.address for row in self.running.live_rows()]
        reachable = self._network.reachable(self.number, live)
        self.follower.adopts(base, reachable, self.now())
        self._write_later("adopt", partial(self._adopt, floor, base))

    def _write_later(self, operation: str, write: Callable[[Fate], TellNode]) -> None:
        self._writes.append((operation, write))
        start = max(self._written_at, self._heap.now)
        self._written_at = start + self.disk.write_us(self._network.faults)
        self._later(self._written_at, self._write)

    def _write(self) -> None:
        if self._heap.now < self._paused_until:
            self._later(self._paused_until, self._write)
            return
        name, write = self._writes.popleft()
        operation = OPERATIONS[name]
        fate = self.disk.next_fate(self._network.faults, name)
        if fate is Fate.CRASH_BEFORE:
            self.crash(f"between decision and {operation.noun}")
            return
        tell_node = write(fate)
        if fate is Fate.CRASH_AFTER:
            self.crash(operation.right_after)
            return
        tell_node()
        self._after_turn()

    def _attempt(
        self, operation: str, fate: Fate, write: Callable[[], Result]
    ) -> Result | StoreFailed:
        """Write, or return why that failed. Then the log is read anew."""
        result = self.disk.write(operation, fate, write)
        if isinstance(result, StoreFailed):
            self._trace("F", f"fails to {OPERATIONS[operation].verb}: {result}")
            self.log.recover()
        return result

    def _append(self, batch: Batch, arrived: int, fate: Fate) -> TellNode:
        time = Millis(batch.arrived * WALL_STRETCH)
        append = partial(self.log.append, batch.blocks, batch.once, time)
        first = self._attempt("append", fate, append)
        if isinstance(first, StoreFailed):
            self._find(arrived)
            return partial(self.running.commit_failed, str(first))
        self._trace("C", f"commits {len(batch.blocks)} blocks from position {first}")
        self.follower.wrote(first, batch.blocks, arrived)
        return partial(self.running.committed, batch, first)

    def _find(self, arrived: int) -> None:
        """Look what stands on the disk after a failure. Whoever follows the node reads on there."""
        known = self.follower.position
        written = [block for _, block in by_position(self.log.reader(), known)]
        if written:
            self._trace("C", f"finds {len(written)} blocks written from position {known + 1}")
            self.follower.found(written, arrived)

    def _retain(
        self,
        settings: Settings,
        before_ms: int | None,
        bytes_max: int | None,
        stamp_limit: int,
        fate: Fate,
    ) -> TellNode:
        # Judged by what its operator had set, not by what it asks for.
        age_us, most = settings.retention_age_s * SECOND_US, settings.retention_bytes
        kept_us = age_us - int(age_us * CLOCKS_DIFFER)
        allowed = self._heap.now - kept_us if age_us else None, self.disk.excess(most)
        before = None if before_ms is None else Millis(before_ms * WALL_STRETCH)
        retain = partial(
            self.log.retain,
            arrived_before_ms=before,
            bytes_max=bytes_max,
            stamp_limit=stamp_limit,
        )
        ended = self._attempt("retain", fate, retain)
        left = self.disk.positions()
        gone = self.follower.pruned(left, self.log.reader().floor(), *allowed)
        if gone:
            self._trace("P", f"prunes {gone}, and keeps {len(left)}")
        if isinstance(ended, StoreFailed):
            return partial(self.running.retention_failed, str(ended))
        return partial(
            self.running.retained, ended.floor, ended.pruned, more=ended.more, rotten=ended.rotten
        )

    def _heal(self, rows: Sequence[PlacedBlock], fate: Fate) -> TellNode:
        ended = self._attempt("heal", fate, partial(self.log.heal, rows))
        blocks = [row.block for row in rows]
        if isinstance(ended, StoreFailed):
            return partial(self.running.healing_failed, blocks, str(ended))
        if ended:
            self._trace("H", f"heals {', '.join(str(block.dot) for block in ended)}")
        self.follower.healed([Dot(block.log, block.last) for block in ended], self.now())
        return partial(self.running.healed, ended, [one for one in blocks if one not in ended])

    def _adopt(self, floor: int, base: Sequence[BaseLog], fate: Fate) -> TellNode:
        history = self._attempt("adopt", fate, partial(self.log.adopt, floor, base))
        if fate is Fate.DOUBTED or not isinstance(history, StoreFailed):
            self._trace("B", f"takes a base of {len(base)} logs below {floor}")
            self.follower.adopted(floor, base, self.log.load(), self.disk.positions())
        if isinstance(history, StoreFailed):
            return partial(self.running.adoption_failed, str(history))
        return partial(self.running.adopted, history)
