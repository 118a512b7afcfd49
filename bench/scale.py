"""How a cluster behaves as it grows: the same code, simulated at ten to a thousand nodes.

    python bench/scale.py --nodes 10 30 100 300 1000

Everything is virtual but the CPU seconds that the simulation took. All nodes know each other at the
beginning. Members talk at a moderate rate, one message each time, while half a percent of the
datagrams is lost; then all histories have to become equal; then one node crashes. The same seed
gives the same figures.
"""

from __future__ import annotations

import argparse
import time
from random import Random

import harness
from experiments import detect, grown

from flc_udp.model.units import MS_US
from flc_udp.sim.figures import Meter
from flc_udp.sim.network import Faults

OPTIONS = {
    "--nodes": ([10, 30, 100], "sizes of clusters"),
    "--rate": (20.0, "messages a second, over all nodes"),
    "--seconds": (10.0, "virtual seconds of talk"),
    "--loss": (0.5, "percent of datagrams lost"),
    "--seed": (1, "everything by chance comes from it"),
}
CONVERGE_MS = 120_000


def _at(nodes: int, args: argparse.Namespace) -> harness.Result:
    began_s = time.process_time()
    with grown(nodes, args.seed, faults=Faults(loss=args.loss / 100)) as world:
        chance, machines = Random(args.seed), list(world.machines.values())
        meter, heap = Meter(world), world.heap
        bytes_before = world.network.bytes
        for number in range(round(args.rate * args.seconds)):
            at = heap.now + round(number * 1000 / args.rate) * MS_US
            machine = chance.choice(machines)
            heap.at(at, machine.say, "lobby", f"{number} ".ljust(100, "."))
        world.run(round(args.seconds * 1000))
        sent = world.network.bytes - bytes_before
        figures = meter.read(world.run_until_quiet(CONVERGE_MS, members_too=False))
        first_ms, last_ms = detect(world, machines[-1].name)
    return {
        "nodes": nodes,
        "messages": figures.messages,
        "converged_after_ms": figures.converged_after_ms,
        "shown_everywhere_ms_p50": figures.latency_p50_ms,
        "shown_everywhere_ms_p99": figures.latency_p99_ms,
        "copies_per_node": figures.copies_per_node,
        "bytes_a_node_a_second": round(sent / nodes / args.seconds),
        "death_known_ms_first": first_ms,
        "death_known_ms_last": last_ms,
        "cpu_s": round(time.process_time() - began_s, 1),
    }


def _measure(args: argparse.Namespace) -> harness.Result:
    found = []
    for nodes in args.nodes:
        found.append(_at(nodes, args))
        harness.progress(f"{nodes} nodes")
    return {"sizes": found}


def tell(result: harness.Result) -> None:
    """Print a row for each size."""
    harness.rows(result["sizes"])


if __name__ == "__main__":
    harness.run_bench(__doc__, OPTIONS, _measure, show=tell)
