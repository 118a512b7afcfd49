"""What a quiet cluster costs: UDP payload and CPU of each node, with nobody talking.

    python bench/idle.py [--nodes 5] [--seconds 30] [--profile lan] [--json]

Real daemons on loopback, left alone until the joining has died down; then their own counters and
the kernel's account of their CPU time are read twice. Each bound of the project's own (500 bytes/s
sent and 0.5 % CPU a node, at 5 nodes) is printed beside what was measured.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
from pathlib import Path

from cluster import Cluster, progress

CALM_S = 10
"""News of the joining is piggybacked for some rounds of probes."""

BYTES_BOUND = 500
CPU_BOUND = 0.5


def main() -> int:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(description="bytes/s and CPU of quiet nodes")
    parser.add_argument("--nodes", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=30)
    parser.add_argument("--profile", default="lan")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    result = asyncio.run(_measure(args))
    print(json.dumps(result) if args.json else _table(result))
    return 0


async def _measure(args: argparse.Namespace) -> dict[str, object]:
    with tempfile.TemporaryDirectory(prefix="flc-bench-") as base:
        async with Cluster(Path(base), args.nodes, "--profile", args.profile) as cluster:
            await _wait("calming down", CALM_S)
            sent, cpu = await _sent(cluster), cluster.cpu_s()
            await _wait("measuring", args.seconds)
            sent_after, cpu_after = await _sent(cluster), cluster.cpu_s()
    packets, size = zip(*_rates(sent, sent_after, args.seconds), strict=True)
    shares = [
        100 * (after - before) / args.seconds for before, after in zip(cpu, cpu_after, strict=True)
    ]
    return {
        "nodes": args.nodes,
        "profile": args.profile,
        "datagrams_per_s": round(statistics.median(packets), 2),
        "bytes_per_s": round(statistics.median(size)),
        "bytes_per_s_bound": BYTES_BOUND,
        "cpu_percent": round(statistics.median(shares), 2),
        "cpu_percent_bound": CPU_BOUND,
    }


async def _sent(cluster: Cluster) -> list[tuple[int, int]]:
    """(datagrams, bytes) each node has sent."""
    statuses = [(await client.status())["counts"] for client in cluster.clients]
    return [(counts["datagrams sent"], counts["bytes sent"]) for counts in statuses]


def _rates(
    before: list[tuple[int, int]], after: list[tuple[int, int]], seconds: int
) -> list[tuple[float, float]]:
    return [
        ((packets_after - packets) / seconds, (size_after - size) / seconds)
        for (packets, size), (packets_after, size_after) in zip(before, after, strict=True)
    ]


async def _wait(what: str, seconds: int) -> None:
    for second in range(seconds):
        progress(what, second, seconds)
        await asyncio.sleep(1)
    progress(what, seconds, seconds)


def _table(result: dict[str, object]) -> str:
    return "\n".join(f"{name:<18} {value}" for name, value in result.items())


if __name__ == "__main__":
    raise SystemExit(main())
