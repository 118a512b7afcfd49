"""What all benches do: read options, measure, print; and what several of them measure of nodes.

A bench gives its docstring, its options and the function that measures to `run_bench`. A bench of
real daemons wraps that function in `on_cluster`, which ends the daemons whatever happens.
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
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from flc_udp.cli.run.cluster import LocalCluster, LocalNode, temporary_cluster
from flc_udp.model.errors import FlcError

Result = dict[str, Any]

LAN = ("--profile", "lan")
"""Options of a node with the intervals of the settings' own defaults."""

LOOK_S = 0.05
"""The time between two looks at nodes that take long."""

SUSPECTED, DIED = "member_suspected", "member_died"


# --- The frame of a bench -------------------------------------------------------------------------


class _Help(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Shows the default of each option, and the docstring as it is."""


def run_bench(
    doc: str,
    options: Mapping[str, tuple[Any, str]],
    measure: Callable[[argparse.Namespace], Any],
    show: Callable[[Any], None] | None = None,
) -> None:
    """Read the options, measure, and print a table, or one JSON object with `--json`.

    An option is its default and its help. A default that is a list takes one value or more, a tuple
    as many values as it has, False takes none. A name without dashes takes any of its default's.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=_Help)
    for name, (default, about) in options.items():
        parser.add_argument(name, **_arguments(name, default), default=default, help=about)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    try:
        result = measure(args)
    except FlcError as error:
        raise SystemExit(f"error: {error}") from error
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    if args.json:
        print(json.dumps(result))
    else:
        (show or table)(result)


def _arguments(name: str, default: object) -> dict[str, Any]:
    if default is False:
        return {"action": "store_true"}
    if not name.startswith("-"):
        return {"nargs": "*", "choices": [*default, default], "metavar": name.upper()}
    several = isinstance(default, list | tuple)
    kind = type(default[0] if several else default)
    metavar = "N" if kind in (int, float) else "TEXT"
    nargs = {"nargs": len(default) if isinstance(default, tuple) else "+"} if several else {}
    return {"type": kind, "metavar": metavar, **nargs}


def on_cluster(
    measure: Callable[[argparse.Namespace, LocalCluster], Awaitable[Result]],
) -> Callable[[argparse.Namespace], Result]:
    """Make a function that measures with a cluster of its own, in an event loop."""

    def measured(args: argparse.Namespace) -> Result:
        async def run() -> Result:
            return await measure(args, cluster)

        with temporary_cluster() as cluster:
            return asyncio.run(run())

    return measured


@asynccontextmanager
async def cleared_after(cluster: LocalCluster) -> AsyncIterator[None]:
    """At the end of the block the nodes and their directories are gone; others can be started."""
    try:
        yield
    finally:
        for node in cluster.nodes:
            for client in node.clients:
                await client.close()
        cluster.end()
        for node in cluster.nodes:
            shutil.rmtree(node.data)
            node.log.unlink()
        cluster.nodes.clear()


def rows(results: Sequence[Result]) -> None:
    """Print a Markdown table with a row for each result, below the names of the first one."""
    names = list(results[0])
    print("| " + " | ".join(name.replace("_", " ") for name in names) + " |")
    print("|" + "---|" * len(names))
    for result in results:
        print("| " + " | ".join(str(result[name]) for name in names) + " |")


def table(result: Mapping[str, Any]) -> None:
    """Print a figure a line."""
    width = max(map(len, result)) + 1
    for name, value in result.items():
        print(f"{name:<{width}} {value}")


def progress(what: str, done: int = 1, total: int = 1) -> None:
    """Show a bar on a terminal, elsewhere a line for each finished step; on stderr."""
    if sys.stderr.isatty():
        share = done / total
        bar = "#" * int(share * 30)
        end = "\n" if done == total else ""
        print(f"\r{what:<44} [{bar:<30}] {share:4.0%}", end=end, file=sys.stderr, flush=True)
    elif done == total:
        print(what, file=sys.stderr, flush=True)


# --- Figures --------------------------------------------------------------------------------------


def machine() -> str:
    """Say what it was measured on."""
    python, sqlite = platform.python_version(), sqlite3.sqlite_version
    return f"{os.cpu_count()} cores, {platform.machine()}, Python {python}, SQLite {sqlite}"


def medians(rounds: Sequence[Result]) -> Result:
    """Take the median of each figure."""
    return {name: _median([found[name] for found in rounds]) for name in rounds[0]}


def _median(values: Sequence[Any]) -> Any:  # noqa: ANN401  # numbers, or lists of them, or neither
    """Take the median of numbers, of lists place by place; of anything else the last value."""
    if isinstance(values[0], bool) or not isinstance(values[0], (int, float, list)):
        return values[-1]
    if isinstance(values[0], list):
        same = len({len(value) for value in values}) == 1
        return [_median(place) for place in zip(*values, strict=True)] if same else values[-1]
    return round(statistics.median(values), 3)


def quantiles_ms(seconds: Iterable[float], *shares: float, digits: int = 2) -> list[float]:
    """Give the times, in ms, that these shares of all times are not above."""
    ordered = sorted(seconds)
    places = (min(int(len(ordered) * share), len(ordered) - 1) for share in shares)
    return [round(ordered[place] * 1e3, digits) for place in places]


# --- What nodes do and cost -----------------------------------------------------------------------


class Memory(NamedTuple):
    """The memory of one process, in MB: the most since it was last asked to forget, and now."""

    peak_mb: float
    now_mb: float


def memory(node: LocalNode) -> Memory:
    """Look at the memory of a daemon (proc(5))."""
    lines = Path(f"/proc/{node.process.pid}/status").read_text().splitlines()
    words = dict(line.split(":", 1) for line in lines)
    kib = [int(words[name].split()[0]) for name in ("VmHWM", "VmRSS")]
    return Memory(*(round(size * 1024 / 1e6, 1) for size in kib))


def forget_peaks(nodes: Iterable[LocalNode]) -> None:
    """Let the peaks of these daemons begin anew (proc(5), clear_refs)."""
    for node in nodes:
        Path(f"/proc/{node.process.pid}/clear_refs").write_text("5")


def cpu_s(nodes: Iterable[LocalNode]) -> list[float]:
    """Give the CPU seconds that each daemon has used, user and system (proc(5))."""
    ticks = os.sysconf("SC_CLK_TCK")
    stats = [Path(f"/proc/{node.process.pid}/stat").read_text() for node in nodes]
    fields = [stat.rpartition(")")[2].split() for stat in stats]
    return [(int(field[11]) + int(field[12])) / ticks for field in fields]


def missed(nodes: Iterable[LocalNode], but: str = "") -> dict[str, int]:
    """Count the suspicions and deaths that these nodes logged, except those of one member."""
    lines = (line for node in nodes for line in node.log.read_bytes().splitlines())
    records = [orjson.loads(line) for line in lines if line.startswith(b"{")]
    told = [record for record in records if record["event"] in (SUSPECTED, DIED)]
    events = [record["event"] for record in told if record["member"] != but]
    return {"suspicions": events.count(SUSPECTED), "deaths": events.count(DIED)}


async def digests(nodes: Iterable[LocalNode]) -> list[Result]:
    """Ask all nodes at once for their digests."""
    return await asyncio.gather(*(node.control.digest() for node in nodes))


async def converged(nodes: Sequence[LocalNode], limit_s: float) -> float:
    """Wait until all roots are equal; give the seconds that it took."""
    began_s = time.perf_counter()
    while len({digest["root"] for digest in await digests(nodes)}) > 1:
        if time.perf_counter() - began_s > limit_s:
            raise SystemExit(f"error: the nodes did not converge in {limit_s:.0f} s")
        await asyncio.sleep(LOOK_S)
    return time.perf_counter() - began_s
