"""A play from a seed: first safety, then liveness (after TigerBeetle's VOPR).

While people talk, everything goes wrong that the plan allows, and what must never happen is checked
at every step. Then the ways are opened and the machines started, and the nodes must come to agree
within a bound of virtual time. First their histories must agree, while datagrams are still lost;
then, on a calm network, what they believe of each other. At the end the disks are audited.
"""

from collections.abc import Callable, Sequence
from random import Random

from flc_udp.model.message import Message
from flc_udp.model.units import MS_US
from flc_udp.sim.figures import Meter, SimFigures
from flc_udp.sim.machine import Machine
from flc_udp.sim.people import Repeater, draw_wait
from flc_udp.sim.plan import Plan
from flc_udp.sim.world import NotConverged, World, names_of

ROOMS = ("lobby", "lobby", "ops", "Kaffee & Küche")
"""Half of all messages are said in one room."""

REPLY_SHARE = 0.3
"""This share of the messages answers what was just shown."""

BURST_SHARE = 0.05
BURST_MAX = 31
"""Under faults this share of what is said is a burst of up to so many messages at once."""

LARGE_SHARE = 0.03
"""Under faults this share of the bodies is so large that it needs pieces."""

GATHER_MS = 20_000
"""Nodes may get to know each other for at most this time before somebody speaks."""

ANSWERED_MS = 60_000
"""Once nothing fails any more, clients have an answer within this time."""

CONVERGE_MS = 120_000
"""The nodes must agree within this time."""


class Play:
    """One run of a plan."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        names = names_of(plan.nodes)
        late = plan.draw_late(names)
        faults, settings, own = plan.draw_faults(), plan.draw_settings(), plan.draw_own(names)
        self.world = World(names, plan.seed, faults, settings, own=own, late=late)
        self._network = self.world.network
        self._machines = list(self.world.machines.values())
        self._authors = self._machines[: plan.authors or None]
        self._late = {self.world.machines[name]: at for name, at in late.items()}
        self.world.watchers.append(self._think_of_a_reply)
        self._talk = Random(f"{plan.seed}/talk")
        self._chaos = Random(f"{plan.seed}/chaos")
        self._clients = self._draw_clients() if plan.faults == "all" else {}
        self._is_on = False
        self._said = 0

    def _draw_clients(self) -> dict[Machine, Repeater]:
        """Whoever speaks at about half of the machines numbers what is said."""
        random, heap = Random(f"{self.plan.seed}/clients"), self.world.heap
        at = [machine for machine in self._authors if random.random() < 1 / 2]
        return {m: Repeater(f"client of {m.name}", m, heap, random) for m in at}

    def run(self, tell: Callable[[str], object] = lambda _: None) -> SimFigures:
        """Play it, and report progress to `tell`. An error says how to play the seed again."""
        try:
            with self.world:
                return self._run(tell)
        except Exception as error:
            error.add_note(f"replay with {self.plan.command()}")
            raise

    def _run(self, tell: Callable[[str], object]) -> SimFigures:
        world = self.world
        self._gather()
        self._start()
        world.run(int(self.plan.warm_up * 1000))
        meter = Meter(world)
        end = world.now_ms + int(self.plan.seconds * 1000)
        while world.now_ms < end:
            world.run(min(1_000, end - world.now_ms))
            tell(f"{world.now_ms // 1000} s, {meter.messages} messages")
        self._is_on = False
        self._heal()
        self._wait_for_clients()
        tell("converging")
        took = world.run_until_quiet(CONVERGE_MS, members_too=False)
        figures = meter.read(took)
        world.calm()
        tell("agreeing on who is alive")
        world.settle(CONVERGE_MS)
        return figures._replace(trace=world.trace.hash())

    def _gather(self) -> None:
        """Let the nodes find each other, unless that is what is tested."""
        world, others = self.world, self.plan.nodes - 1
        while self.plan.faults != "all" and world.now_ms < GATHER_MS:
            nodes = [machine.node for machine in self._machines]
            if all(n and len(n.live_rows()) == others for n in nodes):
                return
            world.run(100)

    def _start(self) -> None:
        """Let people talk from now on, and let things go wrong."""
        self._is_on = True
        if self.plan.rate > 0:
            pause_ms = 1000 / self.plan.rate / (1 - REPLY_SHARE)
            if self.plan.faults != "none":
                pause_ms *= 1 + BURST_SHARE * (BURST_MAX - 1) / 2
            self._every(self._talk, pause_ms, self._somebody_speaks)
        faults = self._network.faults
        for mean_ms, action in (
            (faults.cut_interval_ms, self._cut),
            (faults.partition_interval_ms, self._split),
            (faults.crash_interval_ms, self._crash),
            (faults.pause_interval_ms, self._pause),
            (faults.snapshot_interval_ms, self._snapshot),
            # Machines also crash by themselves, at a commit. Somebody comes and starts them.
            (faults.restart_ms_max / 2, self._start_one),
        ):
            self._every(self._chaos, mean_ms, action)
        for machine, at in self._late.items():
            self.world.heap.at(at * MS_US, self._start_late, machine)

    def _heal(self) -> None:
        self.world.heal()
        self._network.faults = self._network.faults.of_datagrams()
        for machine in self._machines:
            if machine.node is not None and machine.node.facts().is_leaving:
                machine.crash("while it leaves")
            if machine.node is None:
                machine.start()

    def _wait_for_clients(self) -> None:
        """Everybody who repeats what has no answer gets one."""
        world, end = self.world, self.world.now_ms + ANSWERED_MS
        while waiting := [client.name for client in self._clients.values() if client.open]:
            if world.now_ms >= end:
                raise NotConverged(f"no answer within {ANSWERED_MS} ms: {', '.join(waiting)}")
            world.run(100)

    def _every(self, random: Random, mean_ms: float, action: Callable[[], object]) -> None:
        """Do something again and again, at random times, while the play is on."""

        def act() -> None:
            if self._is_on:
                action()
                self._every(random, mean_ms, action)

        if mean_ms > 0:
            self.world.heap.after(int(random.expovariate(1 / mean_ms) * MS_US), act)

    # --- People -----------------------------------------------------------------------------

    def _somebody_speaks(self) -> None:
        running = [machine for machine in self._authors if machine.node is not None]
        if running:
            self._speak(self._talk.choice(running), self._talk.choice(ROOMS))

    def _think_of_a_reply(self, number: int, messages: Sequence[Message]) -> None:
        for message in messages if self._is_on else ():
            authors = self._authors
            if number < len(authors) and self._talk.random() < REPLY_SHARE / len(authors):
                pause = int(self._talk.expovariate(1 / 20) * MS_US)
                self.world.heap.after(pause, self._speak, authors[number], message.room)

    def _speak(self, machine: Machine, room: str) -> None:
        if machine.node is None or not self._is_on:
            return
        is_burst = self.plan.faults != "none" and self._talk.random() < BURST_SHARE
        bodies = [self._body() for _ in range(self._talk.randint(1, BURST_MAX) if is_burst else 1)]
        if machine in self._clients:
            self._clients[machine].speak(room, bodies)
        else:
            wait, timeout_ms = draw_wait(self._talk) if self.plan.faults == "all" else (None, 0)
            machine.say(room, *bodies, wait=wait, timeout_ms=timeout_ms)

    def _body(self) -> str:
        """What nobody has said before."""
        size = int(self._talk.expovariate(1 / 80))
        if self.plan.faults != "none" and self._talk.random() < LARGE_SHARE:
            size = int(self._talk.uniform(1_000, 60_000))
        self._said += 1
        return f"{self._said} ".ljust(size, ".")

    # --- Misfortune -------------------------------------------------------------------------

    def _cut(self) -> None:
        random, network = self._chaos, self._network
        if self.plan.nodes < 2:  # noqa: PLR2004  # a way has two ends
            return
        one, other = random.sample(range(self.plan.nodes), 2)
        ways = [(one, other)] if random.random() < 1 / 2 else [(one, other), (other, one)]
        duration = random.randint(1, network.faults.cut_ms_max) * MS_US
        for way in ways:
            network.cut(*way)
            self.world.heap.after(duration, network.mend, *way)

    def _split(self) -> None:
        random, network = self._chaos, self._network
        network.split([[n for n in range(self.plan.nodes) if random.random() < 1 / 2]])
        duration = random.randint(1, network.faults.partition_ms_max) * MS_US
        self.world.heap.after(duration, network.split, ())

    def _crash(self) -> None:
        machine = self._chaos.choice(self._machines)
        if self._chaos.random() < self._network.faults.leave:
            machine.leave()
        else:
            machine.crash()

    def _pause(self) -> None:
        machine = self._chaos.choice(self._machines)
        if machine.node is not None:
            machine.pause(self._chaos.randint(1, self._network.faults.pause_ms_max) * MS_US)

    def _snapshot(self) -> None:
        self._chaos.choice(self._machines).disk.keep_snapshot()

    def _start_one(self) -> None:
        down = [m for m in self._machines if m.node is None and m not in self._late]
        if not down:
            return
        machine = self._chaos.choice(down)
        if machine.disk.snapshots and self._chaos.random() < self._network.faults.put_back:
            machine.put_back()
        machine.start()

    def _start_late(self, machine: Machine) -> None:
        if self._is_on:  # Else it was started with all others.
            del self._late[machine]
            machine.start()
