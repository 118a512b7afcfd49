"""How many durable messages a second three real daemons take, and how soon a follower sees one.

    python bench/throughput.py --messages 200000 --rounds 5

Three `flc run` on loopback, and one publisher that says messages on the first through its control
socket, with a window of unanswered says. A message counts when it is committed on all three. The
same run measures how many rows a second plain SQLite inserts with bodies of that size,
synchronous=FULL and a thousand rows a transaction: a figure of one machine means little without it.
Then messages are said on the first node at a low rate; each is timed from its request to its line
at a follower on the third.
"""

from __future__ import annotations

import argparse
import asyncio
import sqlite3
import statistics
import time
from functools import partial
from pathlib import Path

import harness

from flc_udp.cli.run.cluster import LocalCluster, LocalNode, until
from flc_udp.client import Said

OPTIONS = {
    "--messages": (100_000, "messages a round"),
    "--window": (2_000, "says in flight at most"),
    "--body": (100, "bytes of a body"),
    "--rounds": (5, "rounds; the median is reported"),
    "--rate": (100.0, "says a second, for the latency"),
    "--samples": (1_000, "says timed for the latency"),
}
NODES = 3
CONVERGE_S = 120.0
FOLLOW_S = 15.0
BASELINE_ROWS = 200_000
BASELINE_BATCH = 1_000
PLAIN_TABLE = """
    CREATE TABLE plain (origin BLOB, seq INTEGER, room INTEGER, stamp INTEGER, body BLOB,
                        PRIMARY KEY (origin, seq)) WITHOUT ROWID
"""


async def _measure(args: argparse.Namespace, cluster: LocalCluster) -> harness.Result:
    baseline = _plain_inserts(cluster.home, args.body)
    harness.progress("plain SQLite")
    nodes = await cluster.start(NODES, *harness.LAN)
    before = harness.cpu_s(nodes)
    rates = [await _round(args, nodes, n) for n in range(args.rounds)]
    spent = [after - then for after, then in zip(harness.cpu_s(nodes), before, strict=True)]
    p50_ms, p99_ms = harness.quantiles_ms(await _latencies(args, nodes), 0.50, 0.99)
    median = statistics.median(rates)
    return {
        "messages_per_s": round(median),
        "rounds": [round(rate) for rate in rates],
        "plain_sqlite_rows_per_s": round(baseline),
        "ratio": round(median / baseline, 3),
        "node_cpu_us_per_message": [
            round(seconds * 1e6 / (args.messages * args.rounds), 1) for seconds in spent
        ],
        "latency_ms_p50": p50_ms,
        "latency_ms_p99": p99_ms,
        "nodes": NODES,
        "body_bytes": args.body,
        "window": args.window,
        "machine": harness.machine(),
    }


def _plain_inserts(home: Path, body_bytes: int) -> float:
    """Insert rows with synchronous=FULL, a thousand a transaction; give the rows a second.

    The table has a key by name and an index by time: so one would keep messages without all this.
    """
    connection = sqlite3.connect(home / "plain.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute(PLAIN_TABLE)
    connection.execute("CREATE INDEX plain_history ON plain (room, stamp)")
    origin, text = b"origin01", b"x" * body_bytes
    began_s = time.perf_counter()
    for first in range(0, BASELINE_ROWS, BASELINE_BATCH):
        rows = [(origin, seq, 1, seq << 16, text) for seq in range(first, first + BASELINE_BATCH)]
        connection.execute("BEGIN")
        connection.executemany("INSERT OR IGNORE INTO plain VALUES (?, ?, ?, ?, ?)", rows)
        connection.execute("COMMIT")
    took_s = time.perf_counter() - began_s
    connection.close()
    return BASELINE_ROWS / took_s


async def _round(args: argparse.Namespace, nodes: list[LocalNode], number: int) -> float:
    """Give the messages a second, from the first say to the last node's commit of the last one."""
    publisher = nodes[0].control
    target = (await publisher.digest())["messages"] + args.messages
    body = "x" * args.body
    began_s = time.perf_counter()
    refused: list[asyncio.Future[Said]] = []
    for sent in range(args.messages):
        publisher.say_nowait("bench", body).add_done_callback(partial(_note_refusal, refused))
        if sent % 256 == 0:
            await publisher.drain(args.window)
            harness.progress(f"round {number + 1} of {args.rounds}", sent, args.messages)
    await publisher.drain(0)
    if refused:
        raise SystemExit(f"error: {len(refused)} says refused: {refused[0].exception()}")

    async def all_hold() -> bool:
        return min(digest["messages"] for digest in await harness.digests(nodes)) >= target

    await until(f"{target} messages are on all nodes", all_hold, CONVERGE_S)
    rate = args.messages / (time.perf_counter() - began_s)
    harness.progress(f"round {number + 1}: {rate:,.0f} messages/s")
    return rate


def _note_refusal(refused: list[asyncio.Future[Said]], answer: asyncio.Future[Said]) -> None:
    if answer.exception() is not None:
        refused.append(answer)


async def _latencies(args: argparse.Namespace, nodes: list[LocalNode]) -> list[float]:
    """Time says, in s: from the request on the first node to the line at a follower on the last."""
    sent_s: dict[str, float] = {}
    took_s: list[float] = []

    async def follow() -> None:
        async for shown in nodes[-1].control.follow("latency"):
            took_s.append(time.perf_counter() - sent_s[shown.message["body"]])
            if len(took_s) == args.samples:
                return

    follower = asyncio.create_task(follow())
    await asyncio.sleep(0.2)
    for number in range(args.samples):
        body = f"{number:06d} ".ljust(args.body, "x")
        sent_s[body] = time.perf_counter()
        nodes[0].control.say_nowait("latency", body)
        await asyncio.sleep(1 / args.rate)
        harness.progress(f"latency at {args.rate:.0f}/s", number, args.samples)
    await asyncio.wait_for(follower, FOLLOW_S)
    harness.progress("latency")
    return took_s


if __name__ == "__main__":
    harness.run_bench(__doc__, OPTIONS, harness.on_cluster(_measure))
