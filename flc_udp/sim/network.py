"""The virtual network, and `Faults`: the threat model as one record.

A datagram may be lost, doubled, damaged or late, or a later one may overtake it. The way between
two nodes may be cut, in one direction or in both. The nodes may be split into islands. What arrives
are exactly the bytes that were sent, unless they were damaged.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from random import Random

from flc_udp.model.address import Address
from flc_udp.model.units import MS_US
from flc_udp.sim.heap import Heap
from flc_udp.sim.trace import Trace


@dataclass(frozen=True, slots=True, kw_only=True)
class DatagramFaults:
    """What may happen to a datagram. The spread of the delay is what changes the order."""

    loss: float = 0.0
    duplicate: float = 0.0
    corrupt: float = 0.0
    delay_us_min: int = 200
    delay_us_max: int = 2_000
    late: float = 0.0
    late_ms_max: int = 3_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults(DatagramFaults):
    """What may go wrong, and how often. Chances are from 0 to 1. An interval of 0 means never."""

    # For the ways between nodes, over the whole cluster: the mean time between two cuts.
    cut_interval_ms: int = 0
    cut_ms_max: int = 6_000
    partition_interval_ms: int = 0
    partition_ms_max: int = 10_000

    # For each commit. A crash before it leaves nothing on the disk. After a crash behind it all is
    # on the disk, and nobody was told. A commit in doubt is reported as failed and is on the disk.
    commit_us_min: int = 300
    commit_us_max: int = 4_000
    commit_stall: float = 0.0
    commit_stall_ms_max: int = 2_000
    commit_failure: float = 0.0
    commit_doubt: float = 0.0
    crash_before_commit: float = 0.0
    crash_after_commit: float = 0.0

    # For the machines, over the whole cluster: crashes, pauses, and disks that are put back.
    crash_interval_ms: int = 0
    leave: float = 0.0
    """This share of the crashes is a leave in good order."""
    restart_ms_max: int = 4_000
    pause_interval_ms: int = 0
    pause_ms_max: int = 3_000
    pause_datagrams_max: int = 256
    """The socket of a machine that stands still keeps this many datagrams, as Linux does."""
    snapshot_interval_ms: int = 0
    put_back: float = 0.0

    save_failure: float = 0.0
    """The chance that a node's id, its incarnation or its peers cannot be saved."""

    # For the disks, over the whole cluster: bits that flip in blocks, reads that fail for a while,
    # directories that are away for a while, and disks that are full for a while.
    rot_interval_ms: int = 0
    unreadable_interval_ms: int = 0
    unreadable_ms_max: int = 3_000
    away_interval_ms: int = 0
    away_ms_max: int = 3_000
    full_interval_ms: int = 0
    full_ms_max: int = 3_000

    # For whoever operates the nodes: other settings, other keys, and disks that are copied and run
    # twice.
    reload_interval_ms: int = 0
    rekey_interval_ms: int = 0
    clone_interval_ms: int = 0

    # For the processors: each block that becomes durable keeps one busy for so long, and each
    # datagram and each block that was known already keeps it busy for a tenth of that.
    block_us: int = 0

    # For the clocks that people set.
    wall_offset_ms_max: int = 500
    wall_drift_ppm_max: int = 100
    clock_interval_ms: int = 0
    """Somebody sets a clock this often, over the whole cluster."""

    def of_datagrams(self) -> "Faults":
        """The faults of datagrams alone: machines, disks and ways work."""
        return Faults(**{f.name: getattr(self, f.name) for f in fields(DatagramFaults)})


PORT = 7352

CALM = Faults()
"""A good network and good disks, and nobody trips over a cable."""

Receive = Callable[[bytes, Address], object]
"""Takes (datagram, source address)."""


class Network:
    """Carries datagrams between addresses. Nodes are numbers here."""

    def __init__(self, heap: Heap, trace: Trace, random: Random, faults: Faults) -> None:
        self.faults = faults
        self.datagrams = 0
        self.bytes = 0
        self.numbers: dict[Address, int] = {}
        """The nodes by their addresses, in the order in which they came."""
        self._heap = heap
        self._trace = trace
        self._random = random
        self._ends: list[tuple[Address, Receive]] = []
        self._cuts: Counter[tuple[int, int]] = Counter()
        self._islands: dict[int, int] = {}
        """{node: its island}. All others are together on island 0."""

    def attach(self, receive: Receive) -> tuple[int, Address]:
        """Add a node, and return its number and the address that it is given."""
        number = len(self._ends)
        address = Address(f"10.0.{number >> 8}.{number & 0xFF}", PORT)
        self.numbers[address] = number
        self._ends.append((address, receive))
        return number, address

    def cut(self, sender: int, receiver: int) -> None:
        """Let nothing get from one node to the other. The way back is another way."""
        self._cuts[sender, receiver] += 1

    def mend(self, sender: int, receiver: int) -> None:
        """Undo one cut of this way, if there is one."""
        self._cuts[sender, receiver] = max(self._cuts[sender, receiver] - 1, 0)

    def split(self, islands: Iterable[Iterable[int]]) -> None:
        """Let nothing cross between islands. Nodes that are not named are one more island."""
        self._islands = {n: island for island, nodes in enumerate(islands, 1) for n in nodes}

    def heal(self) -> None:
        """Open every way."""
        self._cuts.clear()
        self._islands.clear()

    def reachable(self, one: int, others: Iterable[Address]) -> list[int]:
        """The running nodes among them that datagrams may reach and come from."""
        numbers = (self.numbers[other] for other in others if other in self.numbers)
        running = (n for n in numbers if self._trace.running >> n & 1)
        return [n for n in running if not (self._is_cut(one, n) or self._is_cut(n, one))]

    def _is_cut(self, sender: int, receiver: int) -> bool:
        is_apart = self._islands.get(sender, 0) != self._islands.get(receiver, 0)
        return is_apart or self._cuts[sender, receiver] > 0

    def transmit(self, sender: int, datagram: bytes, to: Address) -> None:
        """Send one datagram and decide its fate."""
        self.datagrams += 1
        self.bytes += len(datagram)
        receiver = self.numbers[to]
        faults, chance = self.faults, self._random.random
        if self._is_cut(sender, receiver):
            self._trace.packet(sender, receiver, "x", "cut", datagram)
            return
        if chance() < faults.duplicate:
            self._carry(sender, receiver, datagram)
        if chance() < faults.loss:
            self._trace.packet(sender, receiver, "x", "lost", datagram)
            return
        self._carry(sender, receiver, datagram)

    def _carry(self, sender: int, receiver: int, datagram: bytes) -> None:
        faults, chance = self.faults, self._random.random
        spread = faults.delay_us_max - faults.delay_us_min
        delay = faults.delay_us_min + int(spread * chance())
        if chance() < faults.late:
            delay += int(faults.late_ms_max * MS_US * chance())
        if chance() < faults.corrupt:
            datagram = self._damage(datagram)
        self._heap.after(delay, self._arrive, sender, receiver, datagram)

    def _damage(self, datagram: bytes) -> bytes:
        """Cut the datagram short, or turn one bit."""
        at = self._random.randrange(len(datagram))
        if self._random.random() < 1 / 4:
            return datagram[:at]
        bit = 1 << self._random.randrange(8)
        return datagram[:at] + bytes((datagram[at] ^ bit,)) + datagram[at + 1 :]

    def _arrive(self, sender: int, receiver: int, datagram: bytes) -> None:
        is_running = self._trace.running >> receiver & 1
        mark, fate = (">", "") if is_running else ("x", "down")
        self._trace.packet(sender, receiver, mark, fate, datagram)
        if is_running:
            self._ends[receiver][1](datagram, self._ends[sender][0])
