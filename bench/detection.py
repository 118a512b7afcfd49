"""How soon the others say that a killed node is dead: real daemons, and serf beside them.

    python bench/detection.py [--nodes 5] [--trials 10] [--profile lan] [--json]

Each trial kills one node with SIGKILL and asks every other until it says dead: the first observer's
time and the last one's. The killed node comes back before the next trial. Where `serf` is on PATH
the same is done to as many serf agents in the same run, since figures of two runs do not compare.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

from cluster import Cluster, progress, until

PATIENCE_S = 60.0
SERF_PORT = 17_946


def main() -> int:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(description="time from SIGKILL to `dead` at the others")
    parser.add_argument("--nodes", type=int, default=5)
    parser.add_argument("--trials", type=int, default=10)
    parser.add_argument("--serf-trials", type=int, default=3, help="0 leaves serf out")
    parser.add_argument("--profile", default="lan")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    result = asyncio.run(_measure(args))
    print(json.dumps(result) if args.json else _table(result))
    return 0


async def _measure(args: argparse.Namespace) -> dict[str, object]:
    result: dict[str, object] = {"nodes": args.nodes, "profile": args.profile}
    with tempfile.TemporaryDirectory(prefix="flc-bench-") as base:
        async with Cluster(Path(base), args.nodes, "--profile", args.profile) as cluster:
            trials = [await _trial(cluster, n, args) for n in range(args.trials)]
    result["flc"] = _summary(trials)
    if shutil.which("serf") and args.serf_trials:
        result["serf"] = _summary(_serf_trials(args.nodes, args.serf_trials))
    return result


async def _trial(cluster: Cluster, number: int, args: argparse.Namespace) -> tuple[float, float]:
    victim = number % args.nodes
    status = await cluster.clients[victim].status()
    others = [client for n, client in enumerate(cluster.clients) if n != victim]
    cluster.processes[victim].send_signal(signal.SIGKILL)
    killed = time.perf_counter()
    await cluster.processes[victim].wait()

    async def is_dead(at: int) -> bool:
        members = await others[at].members()
        return any(m["id"] == status["node"]["id"] and m["state"] == "dead" for m in members)

    times = await _observe(is_dead, len(others), killed)
    progress(f"trial {number + 1}: dead at all after {times[1]:.2f} s", number + 1, args.trials)
    seed = (await others[0].status())["node"]["address"]
    await cluster.start(victim, "--join", seed)
    await until(cluster.all_alive, "the killed node did not come back")
    return times


async def _observe(
    is_dead: Callable[[int], Awaitable[bool]], observers: int, since: float
) -> tuple[float, float]:
    """Seconds until the first and until the last observer says dead."""
    waiting = dict.fromkeys(range(observers))
    times: list[float] = []
    while waiting:
        for observer in list(waiting):
            if await is_dead(observer):
                times.append(time.perf_counter() - since)
                del waiting[observer]
        if time.perf_counter() - since > PATIENCE_S:
            raise SystemExit(f"error: not dead everywhere after {PATIENCE_S:.0f} s")
        await asyncio.sleep(0.02)
    return times[0], times[-1]


def _serf_trials(nodes: int, trials: int) -> list[tuple[float, float]]:
    """The same with serf agents at their LAN defaults."""
    times = []
    for trial in range(trials):
        agents = [_serf_agent(n) for n in range(nodes)]
        try:
            _serf_wait(range(nodes), nodes, "alive")
            agents[-1].kill()
            killed = time.perf_counter()
            seen = [at - killed for at in _serf_wait(range(nodes - 1), 1, "failed")]
            times.append((min(seen), max(seen)))
        finally:
            for agent in agents:
                agent.kill()
                agent.wait()
        progress(f"serf trial {trial + 1}: {max(seen):.2f} s", trial + 1, trials)
    return times


def _serf_agent(number: int) -> subprocess.Popen[bytes]:
    bind, rpc = SERF_PORT + 2 * number, SERF_PORT + 2 * number + 1
    command = ["serf", "agent", f"-node=s{number}", f"-bind=127.0.0.1:{bind}"]
    command += [f"-rpc-addr=127.0.0.1:{rpc}"]
    if number:
        command += [f"-retry-join=127.0.0.1:{SERF_PORT}", "-retry-interval=1s"]
    quiet = subprocess.DEVNULL
    return subprocess.Popen(command, stdout=quiet, stderr=quiet)


def _serf_wait(observers: Iterable[int], count: int, status: str) -> list[float]:
    """When each observer first counted so many members of that status, in the order they did."""
    waiting = dict.fromkeys(observers)
    times: list[float] = []
    deadline = time.perf_counter() + PATIENCE_S
    while waiting and time.perf_counter() < deadline:
        for observer in list(waiting):
            if _serf_count(observer, status) >= count:
                times.append(time.perf_counter())
                del waiting[observer]
        time.sleep(0.02)
    if waiting:
        raise SystemExit(f"error: serf did not see {count} {status} in {PATIENCE_S:.0f} s")
    return times


def _serf_count(observer: int, status: str) -> int:
    rpc = f"-rpc-addr=127.0.0.1:{SERF_PORT + 2 * observer + 1}"
    command = ["serf", "members", rpc, f"-status={status}", "-format=json"]
    answer = subprocess.run(command, capture_output=True, check=False)
    # An agent that is not up yet has no answer; one that knows of none says null.
    return len(json.loads(answer.stdout)["members"] or ()) if answer.returncode == 0 else 0


def _summary(trials: list[tuple[float, float]]) -> dict[str, object]:
    first, last = zip(*trials, strict=True)
    return {
        "first_s_median": round(statistics.median(first), 2),
        "last_s_median": round(statistics.median(last), 2),
        "last_s": [round(seconds, 2) for seconds in last],
    }


def _table(result: dict[str, object]) -> str:
    return "\n".join(f"{name:<10} {value}" for name, value in result.items())


if __name__ == "__main__":
    sys.exit(main())
