"""What a quiet cluster costs: UDP payload and CPU of each node, with nobody talking.

    python bench/idle.py --nodes 5 --seconds 30

Real daemons on loopback, left alone until the news of the joining has died down. Then their own
counters and the kernel's account of their CPU time are read twice. The project's own bounds (500
bytes/s sent and 0.5 % CPU a node, with 5 nodes) are printed beside what was measured.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics

import harness

from flc_udp.cli.run.cluster import LocalCluster, LocalNode

OPTIONS = {
    "--nodes": (5, "nodes of the cluster"),
    "--seconds": (30, "seconds in which they are measured"),
    "--profile": ("lan", "their set of intervals: local, lan or wan"),
}

CALM_S = 10
"""The news of the joining is piggybacked for some rounds of probes."""

BYTES_BOUND = 500
CPU_BOUND = 0.5


async def _measure(args: argparse.Namespace, cluster: LocalCluster) -> harness.Result:
    nodes = await cluster.start(args.nodes, "--profile", args.profile)
    await _wait("calming down", CALM_S)
    before = await _counters(nodes)
    await _wait("measuring", args.seconds)
    after = await _counters(nodes)
    # Datagrams, bytes and CPU seconds, each a second and in the middle of all nodes.
    datagrams, size, cpu = (
        statistics.median((now - then) / args.seconds for now, then in zip(*pair, strict=True))
        for pair in zip(after, before, strict=True)
    )
    return {
        "nodes": args.nodes,
        "profile": args.profile,
        "datagrams_per_s": round(datagrams, 2),
        "bytes_per_s": round(size),
        "bytes_per_s_bound": BYTES_BOUND,
        "cpu_percent": round(100 * cpu, 2),
        "cpu_percent_bound": CPU_BOUND,
    }


async def _counters(nodes: list[LocalNode]) -> list[list[float]]:
    """Read three lists by node: datagrams sent, bytes sent, CPU seconds used."""
    counts = [(await node.control.status())["counts"] for node in nodes]
    return [
        [count["datagrams sent"] for count in counts],
        [count["bytes sent"] for count in counts],
        harness.cpu_s(nodes),
    ]


async def _wait(what: str, seconds: int) -> None:
    for second in range(seconds):
        harness.progress(what, second, seconds)
        await asyncio.sleep(1)
    harness.progress(what)


if __name__ == "__main__":
    harness.run_bench(__doc__, OPTIONS, harness.on_cluster(_measure))
