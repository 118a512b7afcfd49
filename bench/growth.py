"""What a message costs, and a quiet second, as history, logs, rooms and followers grow.

    python bench/growth.py --messages 1000000

Three real daemons on loopback, of each case anew: with an empty log, with a long history, with many
logs and rooms, and with many followers of another room. Three figures of each: CPU a message at the
author and at the others while messages are said as fast as they are taken; CPU of a lone message,
twenty a second; CPU of a node while nobody speaks. What rises from one case to the next is the cost
of what that case has more of.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil

import harness
from store import BODY, fill

from flc_udp.cli.run.cluster import LocalCluster, LocalNode, until
from flc_udp.client import Client

OPTIONS = {
    "--messages": (1_000_000, "messages of the long history"),
    "--many": (1_000, "logs and rooms of the case with many"),
    "--followers": (200, "followers of the case with many"),
    "--said": (60_000, "messages said as fast as they are taken"),
    "--quiet": (10, "seconds in which nobody speaks"),
}
NODES = 3
LONE, LONE_PAUSE_S = 200, 0.05
FULL_BODIES = 9
CALM_S = 8.0


async def _measure(args: argparse.Namespace, cluster: LocalCluster) -> harness.Result:
    few = (20, 10)
    cases = {
        "empty": (0, *few, 0),
        f"history of {args.messages:,}": (args.messages, *few, 0),
        f"{args.many:,} logs and rooms": (args.many * 100, args.many, args.many, 0),
        f"{args.followers} followers of another room": (0, *few, args.followers),
    }
    rows = []
    for name, case in cases.items():
        rows.append({"case": name, **await _case(args, cluster, *case)})
        harness.progress(name)
    return {"cases": rows, "machine": harness.machine()}


async def _case(
    args: argparse.Namespace,
    cluster: LocalCluster,
    messages: int,
    logs: int,
    rooms: int,
    followers: int,
) -> harness.Result:
    filled = cluster.home / "filled.db"
    if messages:
        fill(filled, messages, logs, rooms, FULL_BODIES)
    async with harness.cleared_after(cluster):
        nodes = [cluster.node(*harness.LAN) for _ in range(NODES)]
        for node in nodes if messages else ():
            node.data.mkdir(mode=0o700)
            shutil.copyfile(filled, node.data / "flc.db")
        await cluster.start_these(*nodes)
        for _ in range(followers):
            await (await nodes[0].client()).request("digest")
            nodes[0].control.follow("elsewhere")
        first = await Client.connect(nodes[0].control.path)
        nodes[0].clients.append(first)
        await asyncio.sleep(CALM_S)
        before = harness.cpu_s(nodes)
        await asyncio.sleep(args.quiet)
        quiet = [now - then for now, then in zip(harness.cpu_s(nodes), before, strict=True)]
        lone = await _said(first, nodes, LONE, LONE_PAUSE_S)
        full = await _said(first, nodes, args.said, 0)
    filled.unlink(missing_ok=True)
    return {
        "author_us": full[0],
        "others_us": full[1],
        "lone_author_us": lone[0],
        "lone_others_us": lone[1],
        "quiet_cpu_percent": round(100 * sum(quiet) / NODES / args.quiet, 2),
    }


async def _said(
    client: Client, nodes: list[LocalNode], count: int, pause_s: float
) -> tuple[float, float]:
    """Say so many messages. Give the CPU of each, in µs, at the author and at another node."""
    target = (await client.digest())["messages"] + count
    before = harness.cpu_s(nodes)
    for number in range(count):
        client.say_nowait("bench", BODY)
        if pause_s:
            await asyncio.sleep(pause_s)
        elif number % 256 == 0:
            await client.drain(1_000)
    await client.drain(0)

    async def all_hold() -> bool:
        return min(digest["messages"] for digest in await harness.digests(nodes)) >= target

    await until(f"{target} messages are on all nodes", all_hold, 120)
    spent = [now - then for now, then in zip(harness.cpu_s(nodes), before, strict=True)]
    author, *others = (round(seconds * 1e6 / count, 1) for seconds in spent)
    return author, round(sum(others) / len(others), 1)


def tell(result: harness.Result) -> None:
    """Print a row for each case, and the machine."""
    harness.rows(result["cases"])
    print(result["machine"])


if __name__ == "__main__":
    harness.run_bench(__doc__, OPTIONS, harness.on_cluster(_measure), show=tell)
