"""Who is alive, at size, under the simulator's clock: detection, load, stalls, losses, islands.

    python bench/liveness.py detection lifeguard --nodes 100 1000 --stalled 8 16 32

Every figure follows from its seed: the same command prints the same numbers on any machine. The
Lifeguard experiment stalls some of 128 nodes again and again (section 5 of the paper) and counts
the deaths of members that never stood still, with Lifeguard and, as plain SWIM, without.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

import experiments
import harness
from experiments import Anomalies, grown

from flc_udp.config import Settings
from flc_udp.sim.network import Faults
from flc_udp.sim.world import World

Row = dict[str, object]


def _measure(args: argparse.Namespace) -> dict[str, list[Row]]:
    result: dict[str, list[Row]] = {}
    for name in args.experiments:
        began_s = time.perf_counter()
        result[name] = EXPERIMENTS[name](args)
        if not args.json:  # Each may take long, so its table does not wait for the others.
            print(f"\n{name} ({time.perf_counter() - began_s:.0f} s)")
            print(_table(result[name]), flush=True)
    return result


def _detection(args: argparse.Namespace) -> list[Row]:
    rows = []
    for nodes in args.nodes:
        times = []
        for trial in range(args.trials):
            world = grown(nodes, trial)
            times.append(experiments.detect(world, list(world.machines)[-1]))
            harness.progress(
                f"{nodes} nodes: dead at all after {times[-1][1]} ms", trial + 1, args.trials
            )
        first, last = zip(*times, strict=True)
        rows.append(
            {
                "nodes": nodes,
                "first_ms_median": statistics.median(first),
                "last_ms_median": statistics.median(last),
                "last_ms_max": max(last),
            }
        )
    return rows


def _load(args: argparse.Namespace) -> list[Row]:
    sizes = sorted({10, *args.nodes})
    return [{"nodes": nodes, **experiments.rate(grown(nodes, 1), 20)._asdict()} for nodes in sizes]


def _lifeguard(args: argparse.Namespace) -> list[Row]:
    """Play the same stalls of each seed with Lifeguard and without; a process for each core."""
    runs = [(seed, lifeguard, args) for seed in range(args.seeds) for lifeguard in (True, False)]
    rows = []
    with ProcessPoolExecutor() as pool:
        for done, row in enumerate(pool.map(_stalls, *zip(*runs, strict=True)), 1):
            rows.append(row)
            harness.progress(f"{row}", done, len(runs))
    told = {on: sum(row["told"] for row in rows if row["lifeguard"] is on) for on in (True, False)}
    ratio = told[False] / max(told[True], 1)
    sums = {"told": f"{told[True]} : {told[False]}", "told_by_healthy": "", "members": ""}
    return [
        *rows,
        {"seed": "all", "lifeguard": "on : off", **sums, "suspicions": f"1 : {ratio:.0f}"},
    ]


def _stalls(seed: int, lifeguard: bool, args: argparse.Namespace) -> Row:
    gc.freeze()
    gc.disable()  # Cycles are few and short-lived here; looking for them costs a tenth of the time.
    settings = Settings(lifeguard=lifeguard)
    faults = Faults(pause_datagrams_max=args.buffer)
    plan = Anomalies(
        tuple(args.stalled),
        int(args.minutes * 60),
        (args.stall_ms[0], args.stall_ms[1]),
        (args.run_ms[0], args.run_ms[1]),
    )
    world = grown(args.members, seed, settings=settings, faults=faults)
    found = experiments.anomalies(world, plan)
    return {"seed": seed, "lifeguard": lifeguard, **found._asdict()}


def _loss(args: argparse.Namespace) -> list[Row]:
    rows = []
    for loss in (0.1, 0.25):
        found = []
        for seed in range(args.seeds):
            world = grown(args.members, seed, faults=Faults(loss=loss))
            found.append(experiments.lossy(world, int(args.minutes * 60)))
            harness.progress(
                f"loss {loss:.0%}: {found[-1].told} false deaths", seed + 1, args.seeds
            )
        row = {"false_deaths_told": sum(one.told for one in found)}
        row["false_deaths_members"] = sum(one.members for one in found)
        rows.append({"loss": loss, **row, "suspicions": sum(one.suspicions for one in found)})
    return rows


def _restart(_args: argparse.Namespace) -> list[Row]:
    return [_settled(f"{nodes} restarted", nodes, experiments.restart_all) for nodes in (20, 200)]


def _islands(_args: argparse.Namespace) -> list[Row]:
    def cut(seconds: int) -> Callable[[World], int]:
        return lambda world: experiments.islands(world, seconds)

    rows = [_settled("60 s apart", nodes, cut(60)) for nodes in (10, 100)]
    reaped = Settings(reap_after_s=30)
    return [*rows, *(_settled("reaped", nodes, cut(120), reaped) for nodes in (10, 100))]


def _settled(
    what: str, nodes: int, play: Callable[[World], int], settings: Settings | None = None
) -> Row:
    """Play it; give the ms until all agree, and what a node sends before it and 10 s after."""
    world = grown(nodes, 1, settings=settings or Settings())
    world.run(10_000)
    before = experiments.rate(world, 5)
    took = play(world)
    world.run(10_000)
    after = experiments.rate(world, 5)
    harness.progress(f"{what}, {nodes} nodes: {took} ms", 1, 1)
    return {
        "what": what,
        "nodes": nodes,
        "agreed_after_ms": took,
        "packets_per_s_before": before.packets_per_s,
        "packets_per_s_10_s_after": after.packets_per_s,
    }


def _cuts(args: argparse.Namespace) -> list[Row]:
    rows = []
    for nodes in (3, 5, 10):
        world = grown(nodes, 1)
        first, second, *_ = world.machines
        world.cut(first, second, one_way=True)
        found = experiments.lossy(world, int(args.minutes * 60))
        rows.append({"nodes": nodes, "suspicions": found.suspicions, "false_deaths": found.told})
    return rows


EXPERIMENTS: dict[str, Callable[[argparse.Namespace], list[Row]]] = {
    "detection": _detection,
    "load": _load,
    "lifeguard": _lifeguard,
    "loss": _loss,
    "restart": _restart,
    "islands": _islands,
    "cuts": _cuts,
}


OPTIONS = {
    "experiments": (list(EXPERIMENTS), "what to play"),
    "--nodes": ([100, 1000], "sizes of the clusters for detection and load"),
    "--trials": (10, "crashes for each size"),
    "--seeds": (5, "runs of an experiment with chance in it, each with a seed of its own"),
    "--minutes": (10.0, "virtual minutes of a run; the paper's is an hour"),
    "--stalled": ([8, 16, 32], "members that are stalled, in turn"),
    "--members": (128, "members in the experiments with faults"),
    "--run-ms": ((1, 30), "least and most ms between two stalls"),
    "--stall-ms": ((500, 32_000), "least and most ms of a stall"),
    "--buffer": (0, "datagrams that are kept in a stall"),
}


def _table(rows: list[Row]) -> str:
    heads = list(rows[0])
    lines = [heads, *([str(row[head]) for head in heads] for row in rows)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(heads))]
    padded = (zip(line, widths, strict=True) for line in lines)
    return "\n".join("  ".join(f"{text:>{width}}" for text, width in line) for line in padded)


if __name__ == "__main__":
    harness.run_bench(__doc__, OPTIONS, _measure, show=lambda _: None)
