"""The plays of scenarios.py at length; scripts/soak runs this."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Coroutine
from pathlib import Path

from tests.daemon.cluster import Cluster
from tests.daemon.scenarios import kill_under_load, pipe_lines, random_faults

LONG_S = 600.0
"""For what a test does in seconds."""

LOG_CHARS = 4_000

Play = Callable[[Cluster], Coroutine[object, object, object]]


def arguments() -> argparse.Namespace:
    """How long each play is."""
    parser = argparse.ArgumentParser(prog="scripts/soak", description=__doc__)
    parser.add_argument("--kills", type=int, default=20, help="kill -9 under load (default 20)")
    parser.add_argument("--lines", type=int, default=100_000, help="piped in (default 100,000)")
    parser.add_argument("--faults", type=int, default=60, help="seconds of them (default 60)")
    parser.add_argument("--seed", type=int, default=1, help="of kills and faults (default 1)")
    return parser.parse_args()


def plays(args: argparse.Namespace) -> dict[str, Play]:
    """What was asked for, by the line it has in the report."""
    chosen: dict[str, Play] = {}
    if args.kills:
        chosen[f"{args.kills} times kill -9 under load, seed {args.seed}"] = lambda cluster: (
            kill_under_load(cluster, args.kills, args.seed)
        )
    if args.lines:
        chosen[f"{args.lines} lines piped in on two nodes"] = lambda cluster: pipe_lines(
            cluster, args.lines // 2, LONG_S
        )
    if args.faults:
        chosen[f"{args.faults} s of random faults, seed {args.seed}"] = lambda cluster: (
            random_faults(cluster, args.faults, args.seed)
        )
    return chosen


async def performed(play: Play) -> str:
    """Play it on a cluster of its own; what went wrong, or nothing."""
    with tempfile.TemporaryDirectory(prefix="flc-soak-") as home:
        cluster = Cluster(Path(home))
        try:
            await play(cluster)
        except Exception:  # noqa: BLE001  # all of them are the report's
            problem = traceback.format_exc()
        else:
            problem = ""
        finally:
            await cluster.clear()
        problem += "".join(cluster.tracebacks())
        return problem and problem + last_words(cluster)


def last_words(cluster: Cluster) -> str:
    """The end of what each daemon logged."""
    logs = {node.name: node.log.read_text(errors="replace") for node in cluster.nodes}
    return "".join(f"--- stderr of {name}\n{log[-LOG_CHARS:]}" for name, log in logs.items())


def main() -> int:
    """Play everything; 1 if anything failed."""
    failed = 0
    for title, play in plays(arguments()).items():
        began = time.monotonic()
        problem = asyncio.run(performed(play))
        seconds = time.monotonic() - began
        failed += bool(problem)
        sys.stdout.write(f"{'FAILED' if problem else 'ok':<7}{title:<52}{seconds:7.1f} s\n")
        sys.stdout.flush()
        sys.stderr.write(problem)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
