"""Experiments with liveness: crashes, stalls, losses and islands, each as one function.

Rules. A node is *wronged* when another one takes it for dead while it runs and has never stood
still. Times are virtual and in ms, and rates are those of one node. `bench/liveness.py` runs these
experiments at full size, the tests run them small.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from math import exp, log
from typing import NamedTuple

from flc_udp.config import Settings
from flc_udp.core.notices import MemberDied, MemberSuspected
from flc_udp.model.notices import Notice
from flc_udp.model.units import MS_US
from flc_udp.sim.machine import Machine
from flc_udp.sim.network import Faults
from flc_udp.sim.world import NotConverged, World
from flc_udp.wire.rows import State

LOOK_MS = 20
"""An experiment looks this often whether all nodes agree."""

WARM_UP_MS = 5_000
"""A cluster of acquaintances makes its first probes and measures first round trips for this time.
"""

Tell = Callable[[str], object]


@dataclass(slots=True)
class MemberWatch:
    """Listens to what nodes tell people of each other, from its creation on."""

    world: World
    deaths: list[tuple[int, int, str]] = field(default_factory=list)
    """(ms, number of the node that says it, id of the dead one in hex)."""
    suspicions: list[tuple[int, int, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.world.listeners.append(self._listen)

    def _listen(self, number: int, notice: Notice) -> None:
        match notice:
            case MemberDied():
                self.deaths.append((self.world.now_ms, number, notice.id.hex()))
            case MemberSuspected():
                self.suspicions.append((self.world.now_ms, number, notice.id.hex()))

    def died(self, ids: Iterable[str]) -> list[tuple[int, int, str]]:
        """The deaths of these members that were told."""
        wanted = set(ids)
        return [death for death in self.deaths if death[2] in wanted]


def grown(nodes: int, seed: int, **how: Faults | Settings) -> World:
    """A cluster of acquaintances after its first probes."""
    faults, settings = how.get("faults", Faults()), how.get("settings", Settings())
    assert isinstance(faults, Faults)
    assert isinstance(settings, Settings)
    world = World(nodes, seed, faults, settings, grown=True)
    world.run(WARM_UP_MS)
    return world


def id_of(machine: Machine) -> str:
    """The id, in hex, of the node that runs on a machine."""
    node = machine.node
    assert node is not None
    return node.me.id.hex()


# --- A crash ------------------------------------------------------------------------------------


def detect(world: World, name: str, limit_ms: int = 60_000) -> tuple[int, int]:
    """Crash a node. Return the ms until the first and until the last other tells its death."""
    watch, subject = MemberWatch(world), id_of(world.machines[name])
    began = world.now_ms
    world.crash(name)
    others = sum(machine.node is not None for machine in world.machines.values())
    while len(watch.died([subject])) < others:
        if world.now_ms - began > limit_ms:
            raise NotConverged(f"{name} is not dead to all after {limit_ms} ms")
        world.run(LOOK_MS)
    times = [at - began for at, _, _ in watch.died([subject])]
    return times[0], times[-1]


# --- A quiet cluster ----------------------------------------------------------------------------


class Rate(NamedTuple):
    """What one node sends in a second."""

    packets_per_s: float
    bytes_per_s: float


def rate(world: World, seconds: int) -> Rate:
    """Measure what each running node sends in the next seconds."""
    packets, size = world.network.datagrams, world.network.bytes
    world.run(seconds * 1_000)
    running = sum(machine.node is not None for machine in world.machines.values())
    share = running * seconds
    sent, sent_bytes = world.network.datagrams - packets, world.network.bytes - size
    return Rate(round(sent / share, 2), round(sent_bytes / share, 1))


# --- Agreement ----------------------------------------------------------------------------------


def agreed_after(world: World, limit_ms: int = 60_000) -> int:
    """Return the ms until each running node takes exactly the running ones for alive."""
    began = world.now_ms
    while not agree(world):
        if world.now_ms - began > limit_ms:
            raise NotConverged(f"not all see all after {limit_ms} ms")
        world.run(LOOK_MS)
    return world.now_ms - began


def agree(world: World) -> bool:
    """Whether all roots are equal, and as many are alive as run. Suspects do not count."""
    nodes = [m.node for m in world.machines.values() if m.node is not None]
    all_see_all = all(
        sum(row.state is State.ALIVE for row in (node.me, *node.live_rows())) == len(nodes)
        for node in nodes
    )
    return all_see_all and len({node.facts().members_root for node in nodes}) == 1


def restart_all(world: World) -> int:
    """Crash and start all nodes at one moment. Return the ms until all see all."""
    names = list(world.machines)
    world.crash(*names)
    world.start(*names)
    return agreed_after(world)


def islands(world: World, seconds: int) -> int:
    """Split the cluster for a time. Return the ms from healing until it is one cluster."""
    names = list(world.machines)
    world.partition(names[: len(names) // 2])
    world.run(seconds * 1_000)
    world.heal()
    return agreed_after(world, 120_000)


# --- Anomalies ----------------------------------------------------------------------------------


class Anomalies(NamedTuple):
    """The experiment of Lifeguard's section 5: some nodes stand still again and again.

    `stalled` says how many. Several numbers are tried one after another, for equal times. How long
    a node stands still, and how long it runs in between, is drawn log-uniformly, in ms.
    """

    stalled: tuple[int, ...]
    seconds: int
    stall_ms: tuple[int, int] = (500, 32_000)
    run_ms: tuple[int, int] = (1, 30)


class Wronged(NamedTuple):
    """The false deaths of members that never stood still."""

    told: int
    """How often any node told people of one."""
    told_by_healthy: int
    """How often nodes that never stood still told so."""
    members: int
    """How many members were concerned."""
    suspicions: int


def anomalies(world: World, plan: Anomalies, tell: Tell = lambda _: None) -> Wronged:
    """Let some nodes stand still again and again. Return who of the others was wronged."""
    machines = list(world.machines.values())
    slow, healthy = machines[: max(plan.stalled)], machines[max(plan.stalled) :]
    ids, watch = {id_of(machine) for machine in healthy}, MemberWatch(world)
    for stalled in plan.stalled:
        end = world.now_ms + plan.seconds * 1_000 // len(plan.stalled)
        for machine in slow[:stalled]:
            _stall_repeatedly(world, machine, plan, end)
        while world.now_ms < end:
            world.run(10_000)
            tell(f"{world.now_ms // 1000} s, {len(watch.died(ids))} false deaths")
    return _wronged(watch, ids, {machine.number for machine in slow})


def _stall_repeatedly(world: World, machine: Machine, plan: Anomalies, end: int) -> None:
    random = world.random(f"{machine.name}/anomalies")

    def drawn(span: tuple[int, int]) -> int:
        return int(exp(random.uniform(*map(log, span))) * MS_US)

    def stall() -> None:
        duration = drawn(plan.stall_ms)
        if world.now_ms < end:
            machine.pause(duration)
            world.heap.after(duration + drawn(plan.run_ms), stall)

    world.heap.after(drawn(plan.stall_ms), stall)


def lossy(world: World, seconds: int) -> Wronged:
    """Let only the network have faults. Return who was wronged."""
    ids, watch = {id_of(machine) for machine in world.machines.values()}, MemberWatch(world)
    world.run(seconds * 1_000)
    return _wronged(watch, ids, set())


def _wronged(watch: MemberWatch, ids: set[str], slow: set[int]) -> Wronged:
    deaths = watch.died(ids)
    return Wronged(
        told=len(deaths),
        told_by_healthy=sum(number not in slow for _, number, _ in deaths),
        members=len({subject for _, _, subject in deaths}),
        suspicions=sum(subject in ids for _, _, subject in watch.suspicions),
    )
