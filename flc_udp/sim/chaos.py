"""Chaos: what goes wrong in a play while people talk, and how all of it ends.

Rules. How often each thing goes wrong stands in the faults of the plan (`network.Faults`), and what
it hits is drawn from the seed. When the play heals, every way is open again, every machine runs and
every disk works. What no disk has a sound copy of any more, somebody brings from elsewhere: nodes
can give to each other only what they have.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from random import Random

from flc_udp.model.units import MS_US
from flc_udp.sim.machine import Machine
from flc_udp.sim.plan import Plan, draw_retention
from flc_udp.sim.world import World
from flc_udp.wire.ring import add, remove, use
from flc_udp.wire.seal import KEY_BYTES, Keyring

ROT_MAX = 4
"""So many blocks of a disk change at a time, at most."""


CLOCK_LEAST, CLOCK_MOST = -5.7, 1.7
"""Clocks are set by 10 to the power of this, in years: from a minute to fifty years."""


FREE_BYTES = 1 << 40

KEY_PAUSE_MS = 20
"""The time between two nodes' steps in a change of keys."""

CLONES_MAX = 2
"""So many disks are copied in a play, at most."""


class Chaos:
    """What goes wrong in one play."""

    def __init__(self, plan: Plan, world: World, late: Mapping[str, int]) -> None:
        self.is_on = False
        """Whether people talk and things go wrong now."""
        self._world = world
        self._network = world.network
        self._machines = list(world.machines.values())
        self._plan = plan
        self._rings = self._key_change()
        """The rings of a change of keys that are still to come."""
        self._late = {world.machines[name]: at for name, at in late.items()}
        self._random = Random(f"{plan.seed}/chaos")

    def start(self) -> None:
        """Let things go wrong from now on."""
        self.is_on = True
        faults = self._network.faults
        for mean_ms, action in (
            (faults.cut_interval_ms, self._cut),
            (faults.partition_interval_ms, self._split),
            (faults.crash_interval_ms, self._crash),
            (faults.pause_interval_ms, self._pause),
            (faults.snapshot_interval_ms, self._snapshot),
            (faults.rot_interval_ms, self._rot),
            (faults.unreadable_interval_ms, self._unreadable),
            (faults.clock_interval_ms, self._change_clock),
            (faults.away_interval_ms, self._move_away),
            (faults.full_interval_ms, self._fill),
            (faults.reload_interval_ms, self._reload),
            (faults.rekey_interval_ms, self._rekey),
            (faults.clone_interval_ms, self._clone),
            # Machines also crash by themselves, at a commit. Somebody comes and starts them.
            (faults.restart_ms_max / 2, self._start_one),
        ):
            self.every(self._random, mean_ms, action)
        for machine, at in self._late.items():
            self._world.heap.at(at * MS_US, self._start_late, machine)

    def every(self, random: Random, mean_ms: float, action: Callable[[], object]) -> None:
        """Do something again and again, at random times, while the play is on."""

        def act() -> None:
            if self.is_on:
                action()
                self.every(random, mean_ms, action)

        if mean_ms > 0:
            self._world.heap.after(int(random.expovariate(1 / mean_ms) * MS_US), act)

    def heal(self) -> None:
        """Let nothing more go wrong but for datagrams, and start what is down."""
        self.is_on = False
        self._world.heal()
        self._network.faults = self._network.faults.of_datagrams()
        for machine in self._machines:
            disk = machine.disk
            disk.is_readable, disk.is_away, disk.free_bytes = True, False, FREE_BYTES
            machine.set_clock()
            machine.rekey(self._machines[0].ring)
            if machine.node is not None and machine.node.facts().is_leaving:
                machine.crash("while it leaves")
        self.start_all()

    def start_all(self) -> None:
        """Start what is down, once each block has a sound copy on some disk."""
        self._bring_copies()
        for machine in self._machines:
            if machine.node is None:
                machine.start()

    def rotten(self) -> list[str]:
        """The machines on whose disks blocks have changed."""
        return [machine.name for machine in self._machines if not all(machine.soundness().values())]

    def _bring_copies(self) -> None:
        disks = [(machine, machine.soundness()) for machine in self._machines]
        whole = {dot for _, blocks in disks for dot, is_sound in blocks.items() if is_sound}
        for machine, blocks in disks:
            gone = [dot for dot, is_sound in blocks.items() if dot not in whole and not is_sound]
            whole.update(gone)
            if gone:
                machine.crash("for its blocks that nobody else has")
                machine.bring(gone)

    # --- What goes wrong --------------------------------------------------------------------------

    def _cut(self) -> None:
        random, network = self._random, self._network
        if len(self._machines) < 2:  # noqa: PLR2004  # a way has two ends
            return
        one, other = random.sample(range(len(self._machines)), 2)
        ways = [(one, other)] if random.random() < 1 / 2 else [(one, other), (other, one)]
        duration = random.randint(1, network.faults.cut_ms_max) * MS_US
        for way in ways:
            network.cut(*way)
            self._world.heap.after(duration, network.mend, *way)

    def _split(self) -> None:
        random, network = self._random, self._network
        network.split([[n for n in range(len(self._machines)) if random.random() < 1 / 2]])
        duration = random.randint(1, network.faults.partition_ms_max) * MS_US
        self._world.heap.after(duration, network.split, ())

    def _crash(self) -> None:
        machine = self._random.choice(self._machines)
        if self._random.random() < self._network.faults.leave:
            machine.leave()
        else:
            machine.crash()

    def _pause(self) -> None:
        machine = self._random.choice(self._machines)
        if machine.node is not None:
            machine.pause(self._random.randint(1, self._network.faults.pause_ms_max) * MS_US)

    def _snapshot(self) -> None:
        self._random.choice(self._machines).disk.keep_snapshot()

    def _rot(self) -> None:
        self._random.choice(self._machines).rot(self._random.randint(1, ROT_MAX))

    def _unreadable(self) -> None:
        machine = self._random.choice(self._machines)
        duration_ms = self._random.randint(1, self._network.faults.unreadable_ms_max)
        machine.cannot_read(duration_ms * MS_US)

    def _change_clock(self) -> None:
        """A clock is set by minutes or by decades, forwards or backwards; or it stands, or goes."""
        random, machine = self._random, self._random.choice(self._machines)
        match random.randrange(4):
            case 0:
                machine.stop_clock()
            case 1:
                machine.set_clock()
            case _:
                years = 10 ** random.uniform(CLOCK_LEAST, CLOCK_MOST)
                machine.jump_clock(random.choice((years, -years)))

    def _move_away(self) -> None:
        """The directory of a disk is away for a while. What is open can still be read."""
        disk, most = self._random.choice(self._machines).disk, self._network.faults.away_ms_max
        disk.is_away = True

        def come_back() -> None:
            disk.is_away = False

        self._world.heap.after(self._random.randint(1, most) * MS_US, come_back)

    def _fill(self) -> None:
        """A disk is full for a while, but for a little."""
        disk, most = self._random.choice(self._machines).disk, self._network.faults.full_ms_max
        disk.free_bytes = self._random.randint(0, 1 << 20)

        def make_room() -> None:
            disk.free_bytes = FREE_BYTES

        self._world.heap.after(self._random.randint(1, most) * MS_US, make_room)

    def _reload(self) -> None:
        """An operator changes the tags of a node, and where some nodes prune, how much it keeps."""
        random, machine = self._random, self._random.choice(self._machines)
        settings = replace(machine.settings, tags=(f"rack={random.randint(1, 9)}",))
        if self._plan.draw_own([machine.name]):
            settings = draw_retention(settings, random.choice(("all", "age", "bytes")), random)
        machine.reload(settings)

    def _key_change(self) -> Iterator[Keyring]:
        """One key is added everywhere, then used, then the former one is removed, and so on."""
        ring, random = self._world.ring, Random(f"{self._plan.seed}/keys")
        while True:
            yield (ring := add(ring, random.randbytes(KEY_BYTES)))
            yield (ring := use(ring, ring.keys[1].name))
            yield (ring := remove(ring, ring.keys[1].name))

    def _rekey(self) -> None:
        """Take one step of the change on all nodes, one after another."""
        ring = next(self._rings)
        self._world.trace.learn(ring)

        def step(machine: Machine) -> None:
            if self.is_on:  # Else all have the same by now.
                machine.rekey(ring)

        for number, machine in enumerate(self._machines):
            self._world.heap.after(number * KEY_PAUSE_MS * MS_US, step, machine)

    def _clone(self) -> None:
        """Somebody copies a disk to another machine, and runs it there, too."""
        if len(self._machines) < self._plan.nodes + CLONES_MAX:
            other = self._random.choice(self._machines)
            self._world.add(f"{other.name}{len(self._machines)}", other.settings)
            machine = list(self._world.machines.values())[-1]
            self._machines.append(machine)
            machine.rekey(other.ring)
            machine.copy_of(other)
            machine.start()

    def _start_one(self) -> None:
        down = [m for m in self._machines if m.node is None and m not in self._late]
        if not down:
            return
        machine = self._random.choice(down)
        if machine.disk.snapshots and self._random.random() < self._network.faults.put_back:
            machine.put_back()
        machine.start()

    def _start_late(self, machine: Machine) -> None:
        if self.is_on:  # Else it was started with all others.
            del self._late[machine]
            machine.start()
