"""How many durable messages a second three real daemons take, and how soon a follower sees one.

    python bench/throughput.py [--messages 200000] [--window 2000] [--rounds 5] [--json]

Three `flc run` on loopback, one publisher with a window of unanswered says through the control
socket of the first. A message counts when it is committed on all three. Beside it, from the same
run, stands the rate at which plain SQLite inserts bodies of that size with synchronous=FULL, a
thousand a transaction: a machine's figure means little without it. Then a low rate of says on the
first node, each timed from its request to its line at a follower on the third.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from cluster import Cluster, progress

from flc_udp.client import Client, Said

NODES = 3
READY_S = 15.0
CONVERGE_S = 120.0
BASELINE_ROWS = 200_000
BASELINE_BATCH = 1_000
PLAIN_TABLE = """
    CREATE TABLE plain (origin BLOB, seq INTEGER, room INTEGER, stamp INTEGER, body BLOB,
                        PRIMARY KEY (origin, seq)) WITHOUT ROWID
"""


def main() -> int:
    """Measure, and print a table or JSON."""
    args = _arguments()
    result = asyncio.run(_measure(args))
    print(json.dumps(result) if args.json else _table(result))
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="throughput and latency of three real daemons")
    parser.add_argument("--messages", type=int, default=100_000, help="messages a round")
    parser.add_argument("--window", type=int, default=2_000, help="says in flight at most")
    parser.add_argument("--body", type=int, default=100, help="bytes of a body")
    parser.add_argument("--rounds", type=int, default=5, help="rounds; the median is reported")
    parser.add_argument("--rate", type=float, default=100, help="says a second, for the latency")
    parser.add_argument("--samples", type=int, default=1_000, help="says timed for the latency")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser.parse_args()


async def _measure(args: argparse.Namespace) -> dict[str, object]:
    with tempfile.TemporaryDirectory(prefix="flc-bench-") as base:
        baseline = _plain_inserts(Path(base), args.body)
        progress("plain SQLite", 1, 1)
        async with Cluster(Path(base), NODES) as cluster:
            before = cluster.cpu_s()
            rates = [await _round(args, cluster.clients, n) for n in range(args.rounds)]
            spent = [after - then for after, then in zip(cluster.cpu_s(), before, strict=True)]
            latencies = await _latencies(args, cluster.clients)
    median = statistics.median(rates)
    return {
        "messages_per_s": round(median),
        "rounds": [round(rate) for rate in rates],
        "plain_sqlite_rows_per_s": round(baseline),
        "ratio": round(median / baseline, 3),
        "node_cpu_us_per_message": [
            round(seconds * 1e6 / (args.messages * args.rounds), 1) for seconds in spent
        ],
        "latency_ms_p50": round(_quantile(latencies, 0.50) * 1e3, 2),
        "latency_ms_p99": round(_quantile(latencies, 0.99) * 1e3, 2),
        "nodes": NODES,
        "body_bytes": args.body,
        "window": args.window,
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Python "
        f"{platform.python_version()}, SQLite {sqlite3.sqlite_version}",
    }


def _plain_inserts(base: Path, body: int) -> float:
    """Rows a second with synchronous=FULL, a thousand a transaction.

    Into a table keyed by name with an index by time, as one would keep messages without all this.
    """
    connection = sqlite3.connect(base / "plain.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute(PLAIN_TABLE)
    connection.execute("CREATE INDEX plain_history ON plain (room, stamp)")
    origin, text = b"origin01", b"x" * body
    began = time.perf_counter()
    for first in range(0, BASELINE_ROWS, BASELINE_BATCH):
        rows = [(origin, seq, 1, seq << 16, text) for seq in range(first, first + BASELINE_BATCH)]
        connection.execute("BEGIN")
        connection.executemany("INSERT OR IGNORE INTO plain VALUES (?, ?, ?, ?, ?)", rows)
        connection.execute("COMMIT")
    took = time.perf_counter() - began
    connection.close()
    return BASELINE_ROWS / took


async def _round(args: argparse.Namespace, clients: list[Client], number: int) -> float:
    """Messages a second from the first say to the last node's commit of the last message."""
    publisher = clients[0]
    target = (await publisher.digest())["messages"] + args.messages
    body = "x" * args.body
    began = time.perf_counter()
    refused: list[asyncio.Future[Said]] = []
    for sent in range(args.messages):
        publisher.say_nowait("bench", body).add_done_callback(partial(_note_refusal, refused))
        if sent % 256 == 0:
            await publisher.drain(args.window)
            progress(f"round {number + 1} of {args.rounds}", sent, args.messages)
    await publisher.drain(0)
    if refused:
        raise SystemExit(f"error: {len(refused)} says refused: {refused[0].exception()}")
    await _all_hold(clients, target)
    rate = args.messages / (time.perf_counter() - began)
    progress(f"round {number + 1}: {rate:,.0f} messages/s", 1, 1)
    return rate


def _note_refusal(refused: list[asyncio.Future[Said]], answer: asyncio.Future[Said]) -> None:
    if answer.exception() is not None:
        refused.append(answer)


async def _all_hold(clients: list[Client], target: int) -> None:
    deadline = time.monotonic() + CONVERGE_S
    behind = list(clients)
    while behind:
        held = [(await client.digest())["messages"] for client in behind]
        behind = [client for client, n in zip(behind, held, strict=True) if n < target]
        if time.monotonic() > deadline:
            raise SystemExit(f"error: {target} messages were not on all nodes in {CONVERGE_S} s")
        await asyncio.sleep(0.01)


async def _latencies(args: argparse.Namespace, clients: list[Client]) -> list[float]:
    """Seconds from a say's request on the first node to its line at a follower on the last."""
    sent: dict[str, float] = {}
    took: list[float] = []
    done = asyncio.Event()

    async def follow() -> None:
        async for shown in clients[-1].follow("latency"):
            took.append(time.perf_counter() - sent[shown.message["body"]])
            if len(took) == args.samples:
                done.set()
                return

    follower = asyncio.create_task(follow())
    await asyncio.sleep(0.2)
    for number in range(args.samples):
        body = f"{number:06d} ".ljust(args.body, "x")
        sent[body] = time.perf_counter()
        clients[0].say_nowait("latency", body)
        await asyncio.sleep(1 / args.rate)
        progress(f"latency at {args.rate:.0f}/s", number, args.samples)
    await asyncio.wait_for(done.wait(), READY_S)
    await follower
    progress("latency", 1, 1)
    return took


def _quantile(values: Iterable[float], q: float) -> float:
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * q), len(ordered) - 1)]


def _table(result: dict[str, object]) -> str:
    return "\n".join(f"{name:<26} {value}" for name, value in result.items())


if __name__ == "__main__":
    raise SystemExit(main())
