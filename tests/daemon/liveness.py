"""Plays about who is alive, which the tests run briefly and scripts/soak at length.

Each returns its figures in words. What must not happen is looked for over a time that the play was
given, since there is nothing to wait for.
"""

from __future__ import annotations

import asyncio
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.daemon.cluster import NAMES, Cluster, Node
from tests.daemon.namespaces import Namespaces
from tests.daemon.onlooker import ALIVE, DIED, SUSPECTED, Told, Watch
from tests.daemon.process import DEADLINE_S, POLL_S, until
from tests.daemon.relay import Faults

LAN = ("--profile", "lan")

RECOVERY_LOOKS = 250

BUSY_LOOPS = 16

BUSY_LOOP = """
import os, sys, time
os.sched_setaffinity(0, {int(sys.argv[1])})
end = time.monotonic() + float(sys.argv[2])
while time.monotonic() < end:
    pass
"""

SEED_HOST = "127.0.0.21"
"""Nobody else listens there, so a port that was free a moment ago still is."""


# --- Stopped --------------------------------------------------------------------------------------


async def stop_again_and_again(
    cluster: Cluster, lengths_s: Sequence[float], rounds: int, quiet_s: float
) -> str:
    """Who is stopped comes back by itself, and nobody else is held for dead at any time."""
    nodes = await cluster.start(5, *LAN)
    watch = Watch(nodes)
    figures = [await stop_often(cluster, watch, length_s, rounds) for length_s in lengths_s]
    await asyncio.sleep(quiet_s)  # in which nobody may die of it late
    deaths = watch.news(DIED)
    assert deaths == [], deaths
    return "\n".join(figures)


async def stop_often(cluster: Cluster, watch: Watch, length_s: float, rounds: int) -> str:
    """The same node is stopped for so long, so many times."""
    *others, stopped = cluster.nodes
    times_dead = 0
    back_s = []
    for _ in range(rounds):
        await in_good_health(others)
        back_s.append(await stop_once(cluster, stopped, length_s))
        deaths = watch.news(DIED)
        assert {death.of for death in deaths} <= {stopped.name}, deaths
        times_dead += bool(deaths)
    return (
        f"stopped for {length_s:g} s: called dead in {times_dead} of {rounds}, alive everywhere "
        f"{statistics.median(back_s):.2f} s after, at most {max(back_s):.2f} s"
    )


async def in_good_health(nodes: Sequence[Node]) -> None:
    """Let them recover from the last round, or they would be slow to accuse anybody.

    On a machine so busy that they never do, the play goes on all the same.
    """
    for _ in range(RECOVERY_LOOKS):
        if not any([await node.health() for node in nodes]):
            return
        await asyncio.sleep(POLL_S)


async def stop_once(cluster: Cluster, node: Node, length_s: float) -> float:
    """Stop a node for so long; the seconds after which all see all alive again."""
    node.stop()
    await asyncio.sleep(length_s)  # what it suffers is this time itself
    node.cont()
    began = time.monotonic()
    await cluster.all_alive(*cluster.nodes)
    return time.monotonic() - began


# --- Starved --------------------------------------------------------------------------------------


async def starve_one(cluster: Cluster, seconds: float) -> str:
    """Who shares its core with busy loops is not called dead, and suspects nobody wrongly."""
    core, *rest = cores()
    nodes = await cluster.start(5, *LAN)
    starved, *others = nodes
    for node in others:
        pin(node, rest)
    pin(starved, [core])
    watch = Watch(nodes)
    with busy(core, seconds):
        await asyncio.sleep(seconds)  # in which nobody may be missed
    await cluster.all_alive(*nodes)

    deaths, suspicions = watch.news(DIED), watch.news(SUSPECTED)
    assert deaths == [], deaths
    assert {suspicion.of for suspicion in suspicions} <= {starved.name}, suspicions
    refuted = len(starved.logged("refuted"))
    return f"the starved one was suspected {len(suspicions)} times and refuted {refuted}"


def cores() -> list[int]:
    """Those this process may use; none where a system does not tell."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def pin(node: Node, to: Sequence[int]) -> None:
    """Let all its threads run on these cores alone."""
    for thread in Path(f"/proc/{node.pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), to)


@contextmanager
def busy(core: int, seconds: float) -> Iterator[None]:
    """Busy loops on that core; without us they end by themselves, somewhat later."""
    command = [sys.executable, "-c", BUSY_LOOP, str(core), str(seconds + DEADLINE_S)]
    loops = [subprocess.Popen(command, stdin=subprocess.DEVNULL) for _ in range(BUSY_LOOPS)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


# --- Started at once ------------------------------------------------------------------------------


async def start_at_once(cluster: Cluster, count: int, within_s: float = DEADLINE_S) -> str:
    """Nodes that start together with one seed, itself one of them, all find each other."""
    seed = free_address(SEED_HOST)
    nodes = [cluster.node("--bind", seed, *LAN, name="n1")]
    nodes += [cluster.node(*LAN, name=f"n{number}") for number in range(2, count + 1)]
    for node in nodes:
        node.launch(seed)

    async def complete() -> bool:
        return all(full_view_at(node, count) is not None for node in nodes)

    await until("each has logged all others alive", complete)
    for node in nodes:
        await node.ready()
    await cluster.all_alive(*nodes)
    return at_once_figures(nodes, within_s)


def free_address(host: str) -> str:
    """An address there that no socket is bound to."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((host, 0))
        return f"{host}:{sock.getsockname()[1]}"


def full_view_at(node: Node, count: int) -> datetime | None:
    """When it first saw so many alive, itself included, by its own log."""
    others: set[str] = set()
    for record in node.logged(ALIVE, SUSPECTED, DIED):
        (others.add if record["event"] == ALIVE else others.discard)(record["id"])
        if len(others) == count - 1:
            return moment(record)
    return None


def moment(record: dict[str, Any]) -> datetime:
    """When it was logged."""
    return datetime.fromisoformat(record["timestamp"])


def at_once_figures(nodes: Sequence[Node], within_s: float) -> str:
    """How long after the last one's bind the last view was full; no longer than that."""
    bound = [moment(node.logged("node_started")[0]) for node in nodes]
    full = [view for node in nodes if (view := full_view_at(node, len(nodes))) is not None]
    bound_s = (max(bound) - min(bound)).total_seconds()
    full_s = (max(full) - max(bound)).total_seconds()
    assert full_s <= within_s, f"all see all only {full_s:.2f} s after the last bind"
    suspicions = sum(len(node.logged(SUSPECTED)) for node in nodes)
    return (
        f"all see all {full_s:.2f} s after the last bind; the binds took {bound_s:.2f} s, "
        f"with {suspicions} suspicions"
    )


# --- Cut apart ------------------------------------------------------------------------------------


async def start_apart(cluster: Cluster, hosts: Namespaces) -> list[Node]:
    """Five nodes, each on a host of its own."""
    for name in NAMES:
        bind = ("--bind", f"{hosts.host(name)}:7352", "--insecure")
        cluster.node(*bind, *LAN, name=name, prefix=hosts.command(name))
    await cluster.start_these(*cluster.nodes)
    return cluster.nodes


async def part_and_heal(
    cluster: Cluster, hosts: Namespaces, cut_s: float = 0.0, within_s: float = DEADLINE_S
) -> str:
    """Islands that hold each other for dead and talk on are one cluster again after the heal.

    The cut lasts until all of that has happened, and at least for `cut_s`.
    """
    nodes = await start_apart(cluster, hosts)
    watch = Watch(nodes)
    began = time.monotonic()
    hosts.part(NAMES[:2], NAMES[2:])
    await until("each island misses the other", lambda: all_hold(nodes[:2], nodes[2:]))
    await until("so does the other", lambda: all_hold(nodes[2:], nodes[:2]))
    parted_s = time.monotonic() - began
    for node in nodes:
        said = await node.flc("say", "ops", f"{node.name} is still here")
        assert (said.code, said.err) == (0, "")
    await asyncio.sleep(max(0.0, began + cut_s - time.monotonic()))  # a long cut is a harder one
    deaths = deaths_at_home(watch)
    assert deaths == [], deaths

    hosts.heal()
    healed = time.monotonic()
    await cluster.all_alive(*nodes, seconds=within_s)
    merged_s = time.monotonic() - healed
    await cluster.converged(*nodes, messages=len(nodes))
    equal_s = time.monotonic() - healed
    deaths = deaths_at_home(watch)
    assert deaths == [], deaths
    return (
        f"parted after {parted_s:.1f} s; after the heal one cluster in {merged_s:.2f} s, equal "
        f"histories printed in {equal_s:.2f} s"
    )


async def all_hold(nodes: Sequence[Node], others: Sequence[Node]) -> bool:
    """Whether each of these holds the others for dead, and nobody else."""
    wanted = dict.fromkeys((node.name for node in nodes), "alive")
    wanted |= dict.fromkeys((node.name for node in others), "dead")
    return all([await node.states() == wanted for node in nodes])


def deaths_at_home(watch: Watch) -> list[Told]:
    """The new deaths of members that never lost touch with who told it."""
    return [
        death for death in watch.news(DIED) if (death.by in NAMES[:2]) == (death.of in NAMES[:2])
    ]


async def cut_one_way(cluster: Cluster, hosts: Namespaces, seconds: float) -> str:
    """Where one direction between two nodes is dead, others reach both and nobody is missed."""
    nodes = await start_apart(cluster, hosts)
    watch = Watch(nodes)
    hosts.cut("ann", "ben")
    await asyncio.sleep(seconds)  # in which nobody may be missed
    missed = [*watch.news(SUSPECTED), *watch.news(DIED)]
    assert missed == [], missed
    await cluster.all_alive(*nodes)

    lost = (await nodes[0].ask("status"))["drops"].get("not sent", 0)
    assert lost > 0, "nothing was sent where the cut is"
    return f"{lost} datagrams lost in the cut, nobody suspected"


# --- A bad network --------------------------------------------------------------------------------


async def bear_noise(cluster: Cluster, seconds: float, seed: int) -> str:
    """Loss, duplicates, overtaking and delay make nobody dead."""
    relay, nodes = await cluster.start_relayed(5, seed, *LAN)
    watch = Watch(nodes)
    relay.faults = Faults(loss=0.1, duplication=0.1, reordering=0.2, delay_s=0.05)
    await asyncio.sleep(seconds)  # in which nobody may die
    relay.heal()
    await cluster.all_alive(*nodes)

    deaths, suspicions = watch.news(DIED), watch.news(SUSPECTED)
    assert deaths == [], deaths
    assert relay.lost > 0, "there was no noise"
    return f"{relay.lost} of {relay.lost + relay.carried} lost, {len(suspicions)} suspicions"
