"""The plays of scenarios, liveness, halves, bodies and fuzz at length; scripts/soak runs this."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from functools import partial

from tests.daemon.bodies import say_large_bodies
from tests.daemon.churn import churn
from tests.daemon.cluster import NAMES, Cluster
from tests.daemon.fuzz import fuzz
from tests.daemon.halves import talk_in_halves
from tests.daemon.liveness import (
    cores,
    cut_one_way,
    part_and_heal,
    start_at_once,
    starve_one,
    stop_again_and_again,
)
from tests.daemon.namespaces import Namespaces, unavailable
from tests.daemon.plays import Play, SkippedError, performed
from tests.daemon.scenarios import kill_under_load, pipe_lines, random_faults

LONG_S = 600.0
"""For what a test does in seconds."""

QUIET_S = 8.0
"""Longer than any suspicion of five nodes lasts."""

COMPLETE_S_MAX = 5.0
MERGED_S_MAX = 10.0
HALVES_CUT_S = 60.0
HALVES_S_MAX = 15.0

ApartPlay = Callable[[Cluster, Namespaces], Coroutine[object, object, object]]


def arguments() -> argparse.Namespace:
    """How long each play is."""
    parser = argparse.ArgumentParser(prog="scripts/soak", description=__doc__)
    parser.add_argument("--kills", type=int, default=20, help="kill -9 under load (default 20)")
    parser.add_argument("--churn", type=int, default=40, help="kills amid all else (default 40)")
    parser.add_argument("--lines", type=int, default=100_000, help="piped in (default 100,000)")
    parser.add_argument("--faults", type=int, default=60, help="seconds of them (default 60)")
    parser.add_argument("--stops", type=int, default=20, help="for 2 s and for 5 s (default 20)")
    parser.add_argument("--starve", type=int, default=20, help="seconds, one node (default 20)")
    parser.add_argument("--at-once", type=int, default=20, help="nodes started (default 20)")
    parser.add_argument("--cut", type=int, default=60, help="seconds, 2 from 3 nodes (default 60)")
    parser.add_argument("--one-way", type=int, default=60, help="seconds, so cut (default 60)")
    parser.add_argument("--halves", type=int, default=50_000, help="lines each (default 50,000)")
    parser.add_argument("--bodies", type=int, default=100, help="of 1 MiB (default 100)")
    parser.add_argument("--datagrams", type=int, default=20_000, help="odd ones (default 20,000)")
    parser.add_argument("--odd-lines", type=int, default=5_000, help="of control (default 5,000)")
    parser.add_argument("--seed", type=int, default=1, help="of what is random (default 1)")
    return parser.parse_args()


def plays(args: argparse.Namespace) -> Iterator[tuple[str, Play]]:
    """What was asked for, each with its line in the report."""
    if args.kills:
        title = f"{args.kills} times kill -9 under load, seed {args.seed}"
        yield title, partial(kill_under_load, rounds=args.kills, seed=args.seed)
    if args.churn:
        title = f"{args.churn} kills amid loss, backups and deletions, seed {args.seed}"
        yield title, partial(churn, kills=args.churn, seed=args.seed)
    if args.lines:
        title = f"{args.lines} lines piped in on two nodes"
        yield title, partial(pipe_lines, lines_each=args.lines // 2, seconds=LONG_S)
    if args.faults:
        title = f"{args.faults} s of random faults, seed {args.seed}"
        yield title, partial(random_faults, seconds=args.faults, seed=args.seed)
    yield from liveness_plays(args)
    if args.halves:
        title = f"{args.halves} lines in each half of a cut"
        play = partial(
            talk_in_halves, lines_each=args.halves, cut_s=HALVES_CUT_S, within_s=HALVES_S_MAX
        )
        yield title, apart(play)
    if args.bodies:
        title = f"{args.bodies} bodies of 1 MiB, a quarter of it lost"
        yield title, partial(say_large_bodies, count=args.bodies, seed=args.seed, seconds=LONG_S)
    if args.datagrams or args.odd_lines:
        title = f"{args.datagrams} odd datagrams, {args.odd_lines} odd lines, seed {args.seed}"
        play = partial(fuzz, datagrams=args.datagrams, lines=args.odd_lines, seed=args.seed)
        yield title, play


def liveness_plays(args: argparse.Namespace) -> Iterator[tuple[str, Play]]:
    """Those about who is alive, with real daemons at the profile lan."""
    if args.stops:
        title = f"{args.stops} times stopped for 2 s, and for 5 s"
        yield (
            title,
            partial(stop_again_and_again, lengths_s=(2, 5), rounds=args.stops, quiet_s=QUIET_S),
        )
    if args.starve:
        title = f"{args.starve} s on one core with busy loops"
        yield title, starving(args.starve)
    if args.at_once:
        title = f"{args.at_once} nodes started at once"
        yield title, partial(start_at_once, count=args.at_once, within_s=COMPLETE_S_MAX)
    if args.cut:
        play = partial(part_and_heal, cut_s=args.cut, within_s=MERGED_S_MAX)
        yield f"{args.cut} s cut 2 from 3, and healed", apart(play)
    if args.one_way:
        yield f"{args.one_way} s cut one way", apart(partial(cut_one_way, seconds=args.one_way))


def starving(seconds: float) -> Play:
    """Starve a node, where the others have a core left."""

    async def play(cluster: Cluster) -> str:
        if len(cores()) < 2:
            raise SkippedError("the others need a core, too")
        return await starve_one(cluster, seconds)

    return play


def apart(play: ApartPlay) -> Play:
    """Play it in network namespaces, where this machine lets us make them."""

    async def play_apart(cluster: Cluster) -> object:
        if reason := unavailable():
            raise SkippedError(reason)
        with Namespaces(NAMES) as hosts:
            return await play(cluster, hosts)

    return play_apart


def main() -> int:
    """Play everything; 1 if anything failed."""
    failed = 0
    for title, play in plays(arguments()):
        began = time.monotonic()
        outcome = asyncio.run(performed(play))
        seconds = time.monotonic() - began
        failed += outcome.mark == "FAILED"
        sys.stdout.write(f"{outcome.mark:<8}{title:<52}{seconds:7.1f} s\n")
        sys.stdout.writelines(f"{'':<8}{line}\n" for line in outcome.figures.splitlines())
        sys.stdout.flush()
        sys.stderr.write(outcome.problem)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
