"""How fast an empty node catches up, and what that costs those who hold everything.

    python bench/catchup.py --messages 1000000 --holders 2 --rounds 3

Real daemons on loopback. The holders begin with one and the same history of 100-byte messages by
many logs in many rooms; each message has the room's last one as its cause. Then an empty node
joins, and its time runs from the start of its process until all roots are equal. Meanwhile one
client says messages at a low rate on the first holder, each timed from its request to its answer,
and the newcomer is asked how much it has to go. The same round measures how many rows a second
plain SQLite inserts of such messages, with synchronous=FULL and a thousand rows a transaction.
Lists are by node, the newcomer last.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from itertools import islice, pairwise
from pathlib import Path

import harness
from store import BODY, PLAIN, blocks, fill, plain_seconds

from flc_udp.cli.run.cluster import LocalCluster, LocalNode
from flc_udp.client import Client, Said

OPTIONS = {
    "--messages": (1_000_000, "messages that the holders begin with"),
    "--logs": (20, "logs that these are spread over"),
    "--rooms": (10, "rooms that these are spread over"),
    "--bodies": (1, "messages a block: 1 if they were said one by one, 9 at full rate"),
    "--holders": (2, "nodes that hold all of them"),
    "--rate": (50.0, "says a second meanwhile"),
    "--rounds": (3, "rounds; harness.medians are reported"),
    "--limit": (900.0, "seconds that it may take to be equal"),
}

ROOM = "room0"
"""A room of the history: what is said there has causes that the newcomer does not hold yet."""

PLAIN_ROWS = 200_000
PLAIN_BATCH = 1_000
CALM_S = 5.0
STATUS_S = 0.25
TO_GO_SHOWN = 12
FEW = 1_000
"""Between two looks, at most this many messages are said anew."""


async def _measure(args: argparse.Namespace, cluster: LocalCluster) -> harness.Result:
    filled = cluster.home / "filled.db"
    fill(filled, args.messages, args.logs, args.rooms, args.bodies)
    rounds = [await _round(args, cluster, filled, number) for number in range(args.rounds)]
    return {
        **harness.medians(rounds),
        "catch_up_s_all": [found["catch_up_s"] for found in rounds],
        "messages": args.messages,
        "logs": args.logs,
        "rooms": args.rooms,
        "bodies": args.bodies,
        "said_per_s": args.rate,
        "rounds": args.rounds,
        "machine": harness.machine(),
    }


async def _round(
    args: argparse.Namespace, cluster: LocalCluster, filled: Path, number: int
) -> harness.Result:
    plain = _plain_rate(cluster.home, args)
    async with harness.cleared_after(cluster):
        holders = [cluster.node(*harness.LAN) for _ in range(args.holders)]
        for node in holders:
            # The log belongs to no node yet, so each holder gives it an id of its own.
            node.data.mkdir(mode=0o700)
            shutil.copyfile(filled, node.data / "flc.db")
        os.sync()  # Or the disk would still write while we measure.
        await cluster.start_these(*holders)
        found = await _catch_up(args, cluster, f"round {number + 1}")
    rate = args.messages / found["catch_up_s"]
    return {
        "messages_per_s": round(rate),
        "plain_sqlite_rows_per_s": round(plain),
        "ratio": round(rate / plain, 3),
        **found,
    }


def _plain_rate(home: Path, args: argparse.Namespace) -> float:
    """Insert rows into a table with a key and an index; give the rows a second."""
    said = list(islice(blocks(args.logs, args.rooms), PLAIN_ROWS))
    with tempfile.TemporaryDirectory(dir=home) as fresh:
        path = Path(fresh, "plain.db")
        return PLAIN_ROWS / plain_seconds(path, PLAIN["keyed"], said, PLAIN_BATCH)


async def _catch_up(args: argparse.Namespace, cluster: LocalCluster, what: str) -> harness.Result:
    """Let a node join and wait for it, while somebody talks; then until all have all of that."""
    first, newcomer = cluster.nodes[0], cluster.node(*harness.LAN)
    before_s: list[float] = []
    async with _talk(first, args.rate, before_s):
        await asyncio.sleep(CALM_S)
    cpu = [*harness.cpu_s(cluster.nodes[:-1]), 0.0]
    meanwhile_s: list[float] = []
    async with _talk(first, args.rate, meanwhile_s):
        began_s = time.perf_counter()
        await newcomer.start(first.address)
        first_s, to_go = await _until_equal(args, cluster.nodes, what)
        took_s = time.perf_counter() - began_s
        spent = [now - then for now, then in zip(harness.cpu_s(cluster.nodes), cpu, strict=True)]
    await _until_equal(args, cluster.nodes, f"{what}, the last words")
    harness.progress(f"{what}: {args.messages / took_s:,.0f} messages/s")
    drops = (await newcomer.control.status())["drops"]
    return {
        "catch_up_s": round(took_s, 2),
        "first_message_s": round(first_s - began_s, 2),
        "say_ms_p50_p99_max_before": harness.quantiles_ms(before_s, 0.5, 0.99, 1, digits=1),
        "say_ms_p50_p99_max": harness.quantiles_ms(meanwhile_s, 0.5, 0.99, 1, digits=1),
        "cpu_percent": [round(100 * seconds / took_s) for seconds in spent],
        "memory_peak_mb": [harness.memory(node).peak_mb for node in cluster.nodes],
        "memory_mb": [harness.memory(node).now_mb for node in cluster.nodes],
        **harness.missed(cluster.nodes),
        "said_catching_up": bool(max(to_go, default=0)),
        "to_go": list(_some(to_go)),
        "to_go_rises": _rises(to_go),
        "drops": {reason: count for reason, count in drops.items() if count},
    }


@asynccontextmanager
async def _talk(node: LocalNode, rate: float, took_s: list[float]) -> AsyncIterator[None]:
    """Say something at that rate on a node; the seconds to each answer go into the list."""
    async with await Client.connect(node.control.path) as client:
        talking = asyncio.create_task(_say_often(client, rate, took_s))
        try:
            yield
        finally:
            talking.cancel()
            await client.drain(0)


async def _say_often(client: Client, rate: float, took_s: list[float]) -> None:
    """Say something at its time, even if the answer before it is late."""

    def answered(since_s: float, answer: asyncio.Future[Said]) -> None:
        answer.result()
        took_s.append(time.perf_counter() - since_s)

    loop = asyncio.get_running_loop()
    due_s = loop.time()
    while True:
        said = client.say_nowait(ROOM, BODY)
        said.add_done_callback(partial(answered, time.perf_counter()))
        due_s += 1 / rate
        await asyncio.sleep(due_s - loop.time())


async def _until_equal(
    args: argparse.Namespace, nodes: Sequence[LocalNode], what: str
) -> tuple[float, list[int]]:
    """Wait until all roots are equal.

    Gives the time when the last node was first seen to hold anything, and what it said at several
    looks of how much it has to go.
    """
    first_s, next_status_s = 0.0, 0.0
    to_go: list[int] = []
    deadline_s = time.monotonic() + args.limit
    while time.monotonic() < deadline_s:
        found = await harness.digests(nodes)
        if found[-1]["messages"]:
            first_s = first_s or time.perf_counter()
        if len({digest["root"] for digest in found}) == 1:
            return first_s, to_go
        harness.progress(what, min(found[-1]["messages"], args.messages - 1), args.messages)
        if time.monotonic() >= next_status_s:
            to_go.append((await nodes[-1].control.status())["catching_up"])
            next_status_s = time.monotonic() + STATUS_S
        await asyncio.sleep(harness.LOOK_S)
    raise SystemExit(f"error: {what}: the roots were not equal in {args.limit:.0f} s")


def _some(values: Sequence[int]) -> Iterator[int]:
    """Take a dozen of them, from the first to the last."""
    steps = min(len(values), TO_GO_SHOWN)
    return (values[step * (len(values) - 1) // max(steps - 1, 1)] for step in range(steps))


def _rises(to_go: Sequence[int]) -> int:
    """Count how often it rose after its highest by more than new messages may explain."""
    top = to_go.index(max(to_go)) if to_go else 0
    return sum(after > before + FEW for before, after in pairwise(to_go[top:]))


if __name__ == "__main__":
    harness.run_bench(__doc__, OPTIONS, harness.on_cluster(_measure))
