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
from flc_udp.sim.chaos import Chaos
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

HEALED_MS = 120_000
"""What has changed on the disks is healed within this time."""

RETENTION_SLACK_S = 3
"""What is too old is gone within this time."""

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
        self._machines = list(self.world.machines.values())
        self._authors = self._machines[: plan.authors or None]
        self._chaos = Chaos(plan, self.world, late)
        self.world.watchers.append(self._think_of_a_reply)
        self._talk = Random(f"{plan.seed}/talk")
        self._clients = self._draw_clients() if plan.faults == "all" else {}
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
        self._chaos.heal()
        self._wait_for_clients()
        tell("converging")
        took = world.run_until_quiet(CONVERGE_MS, members_too=False)
        figures = meter.read(took)
        world.calm()
        tell("healing disks")
        self._heal_disks()
        tell("agreeing on who is alive")
        world.settle(CONVERGE_MS)
        self._outlast_retention()
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
        self._chaos.start()
        if self.plan.rate > 0:
            pause_ms = 1000 / self.plan.rate / (1 - REPLY_SHARE)
            if self.plan.faults != "none":
                pause_ms *= 1 + BURST_SHARE * (BURST_MAX - 1) / 2
            self._chaos.every(self._talk, pause_ms, self._somebody_speaks)

    def _wait_for_clients(self) -> None:
        """Everybody who repeats what has no answer gets one."""
        world, end = self.world, self.world.now_ms + ANSWERED_MS
        while waiting := [client.name for client in self._clients.values() if client.open]:
            if world.now_ms >= end:
                raise NotConverged(f"no answer within {ANSWERED_MS} ms: {', '.join(waiting)}")
            world.run(100)

    def _heal_disks(self) -> None:
        """Somebody reads everything everywhere: what has changed is found, and healed."""
        world, end = self.world, self.world.now_ms + HEALED_MS
        while rotten := self._chaos.rotten():
            if world.now_ms >= end:
                raise NotConverged(f"not healed within {HEALED_MS} ms: {', '.join(rotten)}")
            self._chaos.start_all()
            for machine in self.world.machines.values():
                machine.read_all()
            world.run(1_000)

    def _outlast_retention(self) -> None:
        """Wait until everything is gone that is kept for a limited time."""
        machines = self.world.machines.values()
        ages_s = {machine: machine.settings.retention_age_s for machine in machines}
        if any(ages_s.values()):
            self.world.run((max(ages_s.values()) + RETENTION_SLACK_S) * 1_000)
        for machine, age_s in ages_s.items():
            machine.outlast(age_s)

    # --- People -----------------------------------------------------------------------------

    def _somebody_speaks(self) -> None:
        running = [machine for machine in self._authors if machine.node is not None]
        if running:
            self._speak(self._talk.choice(running), self._talk.choice(ROOMS))

    def _think_of_a_reply(self, number: int, messages: Sequence[Message]) -> None:
        for message in messages if self._chaos.is_on else ():
            authors = self._authors
            if number < len(authors) and self._talk.random() < REPLY_SHARE / len(authors):
                pause = int(self._talk.expovariate(1 / 20) * MS_US)
                self.world.heap.after(pause, self._speak, authors[number], message.room)

    def _speak(self, machine: Machine, room: str) -> None:
        if machine.node is None or not self._chaos.is_on:
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
