"""How soon the others say that a killed node is dead: real daemons, and serf beside them.

    python bench/detection.py --nodes 5 --trials 10

Each trial kills one node with SIGKILL and asks every other until it says dead; it gives the time of
the first observer and of the last one. The killed node comes back before the next trial. Where
`serf` is on PATH, the same is done to as many serf agents in the same run, since the figures of two
runs do not compare.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import statistics
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager

import harness

from flc_udp.cli.run.cluster import LocalCluster, until

OPTIONS = {
    "--nodes": (5, "nodes of the cluster"),
    "--trials": (10, "nodes killed one after another"),
    "--serf-trials": (3, "the same for serf; 0 leaves serf out"),
    "--profile": ("lan", "the nodes' set of intervals: local, lan or wan"),
}
LOOK_S = 0.02
LIMIT_S = 60.0
SERF_PORT = 17_946

Times = tuple[float, float]
"""The seconds until the first and until the last observer says dead."""


async def _measure(args: argparse.Namespace, cluster: LocalCluster) -> harness.Result:
    await cluster.start(args.nodes, "--profile", args.profile)
    trials = [await _trial(cluster, number, args.trials) for number in range(args.trials)]
    result = {"nodes": args.nodes, "profile": args.profile, "flc": _summary(trials)}
    if shutil.which("serf") and args.serf_trials:
        serf = [await _serf_trial(args.nodes, number) for number in range(args.serf_trials)]
        result["serf"] = _summary(serf)
    return result


async def _trial(cluster: LocalCluster, number: int, trials: int) -> Times:
    victim = cluster.nodes[number % len(cluster.nodes)]
    others = [node for node in cluster.nodes if node is not victim]
    victim.process.kill()
    killed_s = time.perf_counter()
    victim.process.wait()

    async def is_dead(at: int) -> bool:
        return (await others[at].states())[victim.name] == "dead"

    times = await _observed(is_dead, range(len(others)), killed_s)
    harness.progress(f"trial {number + 1}: dead at all after {times[1]:.2f} s", number + 1, trials)
    await victim.start(others[0].address)
    await cluster.all_alive(*cluster.nodes)
    return times


async def _observed(
    is_dead: Callable[[int], Awaitable[bool]], observers: Iterable[int], since_s: float
) -> Times:
    waiting = list(observers)
    times: list[float] = []
    while waiting:
        for observer in list(waiting):
            if await is_dead(observer):
                times.append(time.perf_counter() - since_s)
                waiting.remove(observer)
        if time.perf_counter() - since_s > LIMIT_S:
            raise SystemExit(f"error: not dead everywhere after {LIMIT_S:.0f} s")
        await asyncio.sleep(LOOK_S)
    return times[0], times[-1]


def _summary(trials: list[Times]) -> harness.Result:
    first, last = zip(*trials, strict=True)
    return {
        "first_s_median": round(statistics.median(first), 2),
        "last_s_median": round(statistics.median(last), 2),
        "last_s": [round(seconds, 2) for seconds in last],
    }


# --- Serf, at its LAN defaults --------------------------------------------------------------------


async def _serf_trial(nodes: int, number: int) -> Times:
    async with _serf_agents(nodes) as agents:
        await until("all serf agents see all alive", lambda: _see_all(nodes), LIMIT_S)
        agents[-1].kill()
        killed_s = time.perf_counter()

        async def is_dead(at: int) -> bool:
            return await _serf_count(at, "failed") > 0

        times = await _observed(is_dead, range(nodes - 1), killed_s)
    harness.progress(f"serf trial {number + 1}: {times[1]:.2f} s")
    return times


@asynccontextmanager
async def _serf_agents(nodes: int) -> AsyncIterator[list[subprocess.Popen[bytes]]]:
    agents = [_serf_agent(number) for number in range(nodes)]
    try:
        yield agents
    finally:
        for agent in agents:
            agent.kill()
            agent.wait()


def _serf_agent(number: int) -> subprocess.Popen[bytes]:
    bind, rpc = SERF_PORT + 2 * number, SERF_PORT + 2 * number + 1
    command = ["serf", "agent", f"-node=s{number}", f"-bind=127.0.0.1:{bind}"]
    command += [f"-rpc-addr=127.0.0.1:{rpc}"]
    if number:
        command += [f"-retry-join=127.0.0.1:{SERF_PORT}", "-retry-interval=1s"]
    quiet = subprocess.DEVNULL
    return subprocess.Popen(command, stdout=quiet, stderr=quiet)


async def _see_all(nodes: int) -> bool:
    return all([await _serf_count(at, "alive") >= nodes for at in range(nodes)])


async def _serf_count(observer: int, status: str) -> int:
    """Count the members of that status as an agent sees them."""
    rpc = f"-rpc-addr=127.0.0.1:{SERF_PORT + 2 * observer + 1}"
    command = ("serf", "members", rpc, f"-status={status}", "-format=json")
    pipe, quiet = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=quiet)
    answer, _ = await process.communicate()
    # An agent that is not up yet has no answer; one that knows of none says null.
    return len(json.loads(answer)["members"] or ()) if process.returncode == 0 else 0


if __name__ == "__main__":
    harness.run_bench(__doc__, OPTIONS, harness.on_cluster(_measure))
