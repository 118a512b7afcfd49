"""A play of two halves of a cluster that both talk on while they are cut apart."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable

from tests.daemon.cluster import NAMES, Cluster, Node
from tests.daemon.liveness import LAN, all_hold, deaths_at_home
from tests.daemon.namespaces import Namespaces
from tests.daemon.onlooker import Watch
from tests.daemon.process import DEADLINE_S, until

HALVES = (NAMES[:2], NAMES[2:4])

LINES_A_PIPE = 10_000
"""What one `flc nc` is given: it has to end before the tests' deadline on a busy machine too."""

GIVE_UP_S = 300.0
"""A cluster that is late still tells how late."""

Lines = dict[str, list[str]]
"""What is said on each node, in its order."""


async def talk_in_halves(
    cluster: Cluster,
    hosts: Namespaces,
    lines_each: int,
    cut_s: float = 0.0,
    within_s: float = DEADLINE_S,
) -> str:
    """Two halves that each said so much during a cut have all of it, in one order, after the heal.

    The lines are piped in, half of them on each node of a half. The cut lasts until they are said
    and the halves hold each other for dead, and at least for `cut_s`.
    """
    nodes = await start_halves(cluster, hosts)
    watch = Watch(nodes)
    began = time.monotonic()
    hosts.part(*HALVES)
    said = {node.name: [f"{node.name} {n}" for n in range(lines_each // 2)] for node in nodes}
    await asyncio.gather(*(pipe_in(node, said[node.name]) for node in nodes))
    said_s = time.monotonic() - began
    await until("each half misses the other", lambda: all_hold(nodes[:2], nodes[2:]))
    await until("so does the other", lambda: all_hold(nodes[2:], nodes[:2]))
    await asyncio.sleep(max(0.0, began + cut_s - time.monotonic()))  # a long cut is a harder one

    hosts.heal()
    count = sum(map(len, said.values()))
    merged_s, equal_s = await asyncio.gather(
        seconds_of(cluster.all_alive(*nodes, seconds=GIVE_UP_S)),
        seconds_of(until("all have everything", lambda: hold_all(nodes, count), GIVE_UP_S)),
    )
    assert equal_s <= within_s, f"all lines are on all nodes only {equal_s:.1f} s after the heal"
    assert_said(await cluster.converged(*nodes, messages=count), said)
    deaths = deaths_at_home(watch)
    assert deaths == [], deaths
    return (
        f"{count} lines said in {said_s:.1f} s; after the heal one cluster in {merged_s:.1f} s, "
        f"all lines on all nodes in {equal_s:.1f} s, and their histories are byte-identical"
    )


async def start_halves(cluster: Cluster, hosts: Namespaces) -> list[Node]:
    """Four nodes, each on a host of its own."""
    for name in sum(HALVES, ()):
        bind = ("--bind", f"{hosts.host(name)}:7352", "--insecure")
        cluster.node(*bind, *LAN, name=name, prefix=hosts.command(name))
    await cluster.start_these(*cluster.nodes)
    return cluster.nodes


async def pipe_in(node: Node, lines: list[str]) -> None:
    """Say them by `flc nc -N`, which ends when all are durable."""
    for first in range(0, len(lines), LINES_A_PIPE):
        part = "\n".join(lines[first : first + LINES_A_PIPE])
        said = await node.flc("nc", "-N", "--as", node.name, "ops", stdin=part.encode())
        assert (said.code, said.err) == (0, "")


async def seconds_of(awaited: Awaitable[object]) -> float:
    """Wait for it; how long that took."""
    began = time.monotonic()
    await awaited
    return time.monotonic() - began


async def hold_all(nodes: list[Node], count: int) -> bool:
    """Whether each of these holds so many messages, and they are the same."""
    digests = [await node.ask("digest") for node in nodes]
    same = len({digest["root"] for digest in digests}) == 1
    return same and all(digest["messages"] == count for digest in digests)


def assert_said(history: bytes, said: Lines) -> None:
    """It has what was said on each node, in its order, and nothing else."""
    found: Lines = {name: [] for name in said}
    for line in history.splitlines():
        message = json.loads(line)
        found[message["author"]].append(message["body"])
    assert found == said
