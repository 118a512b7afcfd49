"""How fast an empty node catches up, and what that costs those who hold everything.

    python bench/catchup.py [--messages 1000000] [--holders 2] [--rounds 3] [--json]

Real daemons on loopback: the holders begin with one and the same history of 100-byte messages by
many logs in many rooms, each message with the room's last one as its cause. Then an empty node
joins, and its time runs from the start of its process until all roots are equal. Meanwhile one
client says something at a low rate on the first holder, each say timed from its request to its
answer, and the newcomer is asked how much it has to go. Beside it, from the same round, stands the
rate at which plain SQLite inserts such messages with synchronous=FULL, a thousand a transaction.
Lists are by node, the newcomer last.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import shutil
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, NamedTuple

from cluster import READY_S, Cluster, progress
from store import BODY, PLAIN, messages, plain_seconds

from flc_udp.client import Client, Said
from flc_udp.model.errors import FlcError
from flc_udp.store.log import Log

ROOM = "room0"
"""One of the history's: what is said there meanwhile has causes the newcomer does not hold yet."""

FILL_BATCH = 10_000
PLAIN_ROWS = 200_000
PLAIN_BATCH = 1_000
CALM_S = 5.0
LOOK_S = 0.05
STATUS_S = 0.25
TO_GO_SHOWN = 12
FEW = 1_000

SUSPECTED, DIED = "member_suspected", "member_died"


class Told(NamedTuple):
    """One node said of another that it is suspect or dead."""

    event: str
    by: str
    of: str


class Memory(NamedTuple):
    """Of one process, in MB: the most it ever had, and what it has now (proc(5))."""

    peak: float
    now: float


class Watched(Cluster):
    """A cluster whose daemons' logs are kept and whose memory is looked at."""

    async def start(self, number: int, *flags: str) -> None:
        """Start node `number`, its log beside its directory, and connect to it."""
        data = self._base / f"node{number}"
        command = [sys.executable, "-m", "flc_udp", "run", "--data", str(data)]
        command += ["--bind", "127.0.0.1:0", "--name", f"node{number}", *self._flags, *flags]
        with data.with_suffix(".log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(*command, stderr=log)
        self.processes[number : number + 1] = [process]
        async with asyncio.timeout(READY_S):
            self.clients[number : number + 1] = [await self._connected(data)]

    async def _connected(self, data: Path) -> Client:
        while True:
            with suppress(FlcError):
                return await Client.connect(data / "control.sock")
            await asyncio.sleep(LOOK_S)

    def told(self) -> list[Told]:
        """All suspicions and deaths that anybody logged since it was first started."""
        return [
            Told(record["event"], record["node"], record["member"])
            for path in sorted(self._base.glob("node*.log"))
            for line in path.read_text(errors="replace").splitlines()
            if line.startswith("{") and (record := json.loads(line))["event"] in (SUSPECTED, DIED)
        ]

    def memory(self) -> list[Memory]:
        """Of each daemon."""
        return [_memory(process.pid) for process in self.processes]

    def forget_peaks(self) -> None:
        """From here on the peak is another one (proc(5), clear_refs)."""
        for process in self.processes:
            Path(f"/proc/{process.pid}/clear_refs").write_text("5")


def _memory(pid: int) -> Memory:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    words = dict(line.split(":", 1) for line in lines)
    kib = [int(words[name].split()[0]) for name in ("VmHWM", "VmRSS")]
    return Memory(*(round(size * 1024 / 1e6, 1) for size in kib))


def main() -> int:
    """Measure, and print a table or JSON."""
    args = _arguments()
    result = asyncio.run(_measure(args))
    print(json.dumps(result) if args.json else table(result))
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="an empty node joins those who hold everything")
    parser.add_argument("--messages", type=int, default=1_000_000, help="the holders begin with")
    parser.add_argument("--logs", type=int, default=20, help="logs they are spread over")
    parser.add_argument("--rooms", type=int, default=10, help="rooms they are spread over")
    parser.add_argument("--holders", type=int, default=2, help="nodes that hold all of them")
    parser.add_argument("--rate", type=float, default=50, help="says a second meanwhile")
    parser.add_argument("--rounds", type=int, default=3, help="rounds; medians are reported")
    parser.add_argument("--limit", type=float, default=900, help="seconds it may take to be equal")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser.parse_args()


async def _measure(args: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="flc-bench-") as base:
        filled = Path(base, "filled.db")
        fill(filled, args.messages, args.logs, args.rooms)
        rounds = [await _round(args, Path(base), filled, n) for n in range(args.rounds)]
    return {
        **{key: middle([found[key] for found in rounds]) for key in rounds[0]},
        "catch_up_s_all": [found["catch_up_s"] for found in rounds],
        "messages": args.messages,
        "logs": args.logs,
        "rooms": args.rooms,
        "said_per_s": args.rate,
        "rounds": args.rounds,
        "machine": machine(),
    }


def middle(values: Sequence[Any]) -> Any:  # noqa: ANN401  # numbers, or lists of them, or neither
    """The median of numbers, of lists place by place; of anything else the last."""
    if isinstance(values[0], bool) or not isinstance(values[0], (int, float, list)):
        return values[-1]
    if isinstance(values[0], list):
        same = len({len(value) for value in values}) == 1
        return [middle(place) for place in zip(*values, strict=True)] if same else values[-1]
    return round(statistics.median(values), 3)


def machine() -> str:
    """What it was measured on."""
    python, sqlite = platform.python_version(), sqlite3.sqlite_version
    return f"{os.cpu_count()} cores, {platform.machine()}, Python {python}, SQLite {sqlite}"


def fill(path: Path, count: int, logs: int, rooms: int) -> None:
    """Make a log of so many messages; it belongs to no node yet, so that each copy gets an id."""
    log = Log.open(path)
    source = messages(logs, rooms)
    for done in range(0, count, FILL_BATCH):
        log.append(list(islice(source, min(FILL_BATCH, count - done))))
        progress("filling", done, count)
    log.close()
    progress(f"filled with {count:,} messages", 1, 1)


async def _round(
    args: argparse.Namespace, base: Path, filled: Path, number: int
) -> dict[str, object]:
    plain = _plain_rate(base, args)
    with tempfile.TemporaryDirectory(dir=base) as name:
        _copy(filled, [Path(name, f"node{holder}") for holder in range(args.holders)])
        async with Watched(Path(name), args.holders) as cluster:
            found = await _catch_up(args, cluster, number)
    rate = args.messages / found["catch_up_s"]
    return {
        "messages_per_s": round(rate),
        "plain_sqlite_rows_per_s": round(plain),
        "ratio": round(rate / plain, 3),
        **found,
    }


def _copy(filled: Path, directories: Sequence[Path]) -> None:
    """Data directories with that log in each; its node takes an id of its own when it starts."""
    for data in directories:
        data.mkdir(mode=0o700)
        shutil.copyfile(filled, data / "flc.db")
    os.sync()  # or the disk would still be at it while we measure


def _plain_rate(base: Path, args: argparse.Namespace) -> float:
    """Rows a second into a table with a key and an index, as one would keep messages otherwise."""
    said = list(islice(messages(args.logs, args.rooms), PLAIN_ROWS))
    with tempfile.TemporaryDirectory(dir=base) as fresh:
        path = Path(fresh, "plain.db")
        return PLAIN_ROWS / plain_seconds(path, PLAIN["keyed"], said, PLAIN_BATCH)


async def _catch_up(args: argparse.Namespace, cluster: Watched, number: int) -> dict[str, Any]:
    """Let one join and wait for it, while somebody talks; then all have all that was said."""
    seed = (await cluster.clients[0].status())["node"]["address"]
    said_before: list[float] = []
    async with _talk(cluster, args.rate, said_before):
        await asyncio.sleep(CALM_S)
    cpu = cluster.cpu_s()
    said: list[float] = []
    async with _talk(cluster, args.rate, said):
        began = time.perf_counter()
        await cluster.start(args.holders, "--join", seed)
        first, to_go = await _until_equal(args, cluster, f"round {number + 1}")
        took = time.perf_counter() - began
        spent = [after - then for after, then in zip(cluster.cpu_s(), [*cpu, 0.0], strict=True)]
    await _until_equal(args, cluster, f"round {number + 1}, the last words")
    told = cluster.told()
    progress(f"round {number + 1}: {args.messages / took:,.0f} messages/s", 1, 1)
    return {
        "catch_up_s": round(took, 2),
        "first_message_s": round(first - began, 2),
        "say_ms_p50_p99_max_before": _milliseconds(said_before),
        "say_ms_p50_p99_max": _milliseconds(said),
        "cpu_percent": [round(100 * seconds / took) for seconds in spent],
        "memory_peak_mb": [memory.peak for memory in cluster.memory()],
        "memory_mb": [memory.now for memory in cluster.memory()],
        "suspicions": sum(one.event == SUSPECTED for one in told),
        "deaths": sum(one.event == DIED for one in told),
        "said_catching_up": bool(max(to_go, default=0)),
        "to_go": list(_some(to_go)),
        "to_go_rises": _rises(to_go),
        "drops": {k: n for k, n in (await cluster.clients[-1].status())["drops"].items() if n},
    }


@asynccontextmanager
async def _talk(cluster: Watched, rate: float, took: list[float]) -> AsyncIterator[None]:
    """Say something so often on the first node; seconds to each answer go into `took`."""
    async with await Client.connect(cluster.clients[0].path) as client:
        talking = asyncio.create_task(_say_often(client, rate, took))
        try:
            yield
        finally:
            talking.cancel()
            await client.drain(0)


async def _say_often(client: Client, rate: float, took: list[float]) -> None:
    """At its times, whatever the answers do: a slow answer does not make the next say wait."""

    def answered(since: float, answer: asyncio.Future[Said]) -> None:
        answer.result()
        took.append(time.perf_counter() - since)

    loop = asyncio.get_running_loop()
    due = loop.time()
    while True:
        said = client.say_nowait(ROOM, BODY)
        said.add_done_callback(partial(answered, time.perf_counter()))
        due += 1 / rate
        await asyncio.sleep(due - loop.time())


async def _until_equal(
    args: argparse.Namespace, cluster: Watched, what: str
) -> tuple[float, list[int]]:
    """Wait until all roots are equal.

    When the last node was first seen to hold anything, and what it said of how much it has to go.
    """
    first, next_status = 0.0, 0.0
    to_go: list[int] = []
    deadline = time.monotonic() + args.limit
    while time.monotonic() < deadline:
        digests = await asyncio.gather(*(client.digest() for client in cluster.clients))
        if digests[-1]["messages"]:
            first = first or time.perf_counter()
        if len({digest["root"] for digest in digests}) == 1:
            return first, to_go
        progress(what, min(digests[-1]["messages"], args.messages - 1), args.messages)
        if time.monotonic() >= next_status:
            to_go.append((await cluster.clients[-1].status())["catching_up"])
            next_status = time.monotonic() + STATUS_S
        await asyncio.sleep(LOOK_S)
    raise SystemExit(f"error: {what}: the roots were not equal in {args.limit:.0f} s")


def _milliseconds(seconds: Iterable[float]) -> list[float]:
    ordered = sorted(seconds)
    places = (len(ordered) // 2, len(ordered) * 99 // 100, len(ordered) - 1)
    return [round(ordered[place] * 1e3, 1) for place in places]


def _some(values: Sequence[int]) -> Iterator[int]:
    """A dozen of them, from the first to the last."""
    steps = min(len(values), TO_GO_SHOWN)
    return (values[step * (len(values) - 1) // max(steps - 1, 1)] for step in range(steps))


def _rises(to_go: Sequence[int]) -> int:
    """How often it rose after its highest, by more than what was said meanwhile may explain."""
    top = to_go.index(max(to_go)) if to_go else 0
    return sum(after > before + FEW for before, after in pairwise(to_go[top:]))


def table(result: dict[str, Any]) -> str:
    """For people."""
    return "\n".join(f"{name:<27} {value}" for name, value in result.items())


if __name__ == "__main__":
    raise SystemExit(main())
