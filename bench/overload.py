"""What three real daemons do when far more is said than they can keep, or when one of them stops.

    python bench/overload.py [--seconds 30] [--times 5] [--stopped 60] [--rounds 3] [--json]

First the best goodput: messages a second durable on all three, with writers on the control sockets
that wait for answers, over several windows of unanswered says, on one node and on all. Then writers
that wait for nothing offer five times that on all three, for half a minute; a socket that takes no
more slows them, and what they had still to say waits. Then they stop, and all nodes have to
converge. Before and after it the best load runs again on the same nodes, and the better of the two
is what the goodput is compared with. At last the best load again on two nodes, before and while the
third is stopped by SIGSTOP, and the time until that one has caught up after SIGCONT; and, since on
one machine a stopped process leaves its core to the others, the same load on a cluster of only
those two. Lists are by node, the one to be stopped last.

Writers send prepared lines and count the answers without reading them, so that they take little
of the cores that the daemons need.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import socket
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

from catchup import DIED, SUSPECTED, Watched, machine, middle, table
from cluster import progress

NODES = 3
PAIR = range(NODES - 1)
STOPPED = NODES - 1
"""Who of them is stopped while the pair goes on."""

WARM_S = 2.0
TICK_S = 0.01
LOOK_S = 0.05
CONVERGE_S = 300.0
WINDOWS = (100, 500, 2_000, 6_000)
"""Unanswered says of one node that are tried for the best goodput."""

CONNECTIONS = 8
"""Writers on each node; together they have the window."""

LINES_A_WRITE = 64
"""Of a writer that is behind: what one write hands to the socket at most."""

UNSENT_BYTES = 16_384
"""What waits between a writer and its daemon: little, so that who stops has stopped."""


class Best(NamedTuple):
    """The most messages a second durable on all nodes, and with how many says in flight where."""

    rate: float
    window: int
    nodes: int


class Writer(asyncio.Protocol):
    """One connection to a control socket that says one line again and again."""

    def __init__(self, line: bytes, window: int) -> None:
        self.sent = self.answered = self.refused = 0
        self.window = window
        """Says in flight that `data_received` keeps up; 0 while it is told what to send."""
        self.takes = True
        """Whether the socket takes more."""
        self._line = line
        self._partial = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(UNSENT_BYTES)
        sock = self._transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, UNSENT_BYTES)
        self.send(self.window)

    def data_received(self, data: bytes) -> None:
        """Count answers; say as much again."""
        lines, newline, self._partial = (self._partial + data).rpartition(b"\n")
        self.answered += lines.count(b"\n") + len(newline)
        self.refused += lines.count(b'{"ok":false')
        self.send(self.window - self.sent + self.answered)

    def send(self, count: int) -> None:
        """Hand over so many."""
        if count > 0 and not self._transport.is_closing():
            self._transport.write(self._line * count)
            self.sent += count

    def offer(self, due: int) -> None:
        """So many were to be sent by now: send what is left of them, if the socket takes it."""
        if self.takes:
            self.send(min(due - self.sent, LINES_A_WRITE))

    def pause_writing(self) -> None:
        """The daemon reads slower than we write."""
        self.takes = False

    def resume_writing(self) -> None:
        """It has caught up."""
        self.takes = True

    def close(self) -> None:
        """End it."""
        self._transport.close()


def main() -> int:
    """Measure, and print a table or JSON."""
    args = _arguments()
    result = asyncio.run(_measure(args))
    print(json.dumps(result) if args.json else table(result))
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="more is said than three daemons can keep")
    parser.add_argument("--seconds", type=float, default=30, help="of overload")
    parser.add_argument("--times", type=float, default=5, help="the best goodput is offered")
    parser.add_argument("--stopped", type=float, default=60, help="seconds; 0 leaves it out")
    parser.add_argument("--measure", type=float, default=10, help="seconds of each other figure")
    parser.add_argument("--rounds", type=int, default=3, help="rounds; medians are reported")
    parser.add_argument("--body", type=int, default=100, help="bytes of a body")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser.parse_args()


async def _measure(args: argparse.Namespace) -> dict[str, Any]:
    with _fresh() as base:
        async with Watched(base, NODES) as cluster:
            best = await _search(args, cluster)
    rounds = [await _round(args, best, number) for number in range(args.rounds)]
    return {
        "best_per_s": round(best.rate),
        **{key: middle([found[key] for found in rounds]) for key in rounds[0]},
        "goodput_ratios": [found["goodput_ratio"] for found in rounds],
        "window": best.window,
        "writing_nodes": best.nodes,
        "body_bytes": args.body,
        "rounds": args.rounds,
        "machine": machine(),
    }


@contextmanager
def _fresh() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="flc-bench-") as name:
        yield Path(name)


async def _search(args: argparse.Namespace, cluster: Watched) -> Best:
    """The window and the number of writing nodes with the best goodput."""
    found: list[Best] = []
    for nodes in (1, NODES):
        for window in WINDOWS:
            rate = await _closed(args, cluster, window, range(nodes))
            found.append(Best(rate, window, nodes))
            progress(f"window {window} on {nodes} of {NODES}: {rate:,.0f}/s", 1, 1)
    return max(found)


async def _round(args: argparse.Namespace, best: Best, number: int) -> dict[str, Any]:
    with _fresh() as base:
        async with Watched(base, NODES) as cluster:
            found = await _overload_between(args, cluster, best, number)
    return found | (await _stop_one(args, best.window) if args.stopped else {})


async def _overload_between(
    args: argparse.Namespace, cluster: Watched, best: Best, number: int
) -> dict[str, Any]:
    """The overload between two runs of the best load: machines are not as fast all the time."""

    async def again() -> float:
        rate = await _closed(args, cluster, best.window, range(best.nodes))
        progress(f"round {number + 1}: the best load again {rate:,.0f}/s", 1, 1)
        return rate

    before = await again()
    found = await _overload(args, cluster, best.rate)
    beside = max(before, await again())
    return {
        "best_beside_per_s": round(beside),
        **found,
        "goodput_ratio": round(found["goodput_per_s"] / beside, 3),
        "goodput_of_first_best": round(found["goodput_per_s"] / best.rate, 3),
    }


# --- Load -----------------------------------------------------------------------------------------


@asynccontextmanager
async def _writing(
    args: argparse.Namespace, cluster: Watched, on: Sequence[int], window: int
) -> AsyncIterator[list[Writer]]:
    """Writers on these nodes; at the end they say no more, and what they said is answered."""
    say = {"op": "say", "room": "bench", "body": "x" * args.body}
    line = json.dumps(say, separators=(",", ":")).encode() + b"\n"
    loop = asyncio.get_running_loop()
    make = partial(Writer, line, window // CONNECTIONS)
    paths = [cluster.clients[node].path for node in on for _ in range(CONNECTIONS)]
    writers = [(await loop.create_unix_connection(make, path))[1] for path in paths]
    try:
        yield writers
        for writer in writers:
            writer.window = 0
        await _until(lambda: all(w.answered >= w.sent for w in writers), "says stay unanswered")
    finally:
        for writer in writers:
            writer.close()
    if refused := sum(writer.refused for writer in writers):
        raise SystemExit(f"error: {refused} says were refused")


async def _until(condition: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + CONVERGE_S
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"error: {otherwise} for {CONVERGE_S:.0f} s")
        await asyncio.sleep(LOOK_S)


async def _closed(
    args: argparse.Namespace, cluster: Watched, window: int, on: Sequence[int]
) -> float:
    """Goodput with writers on these that wait for answers; afterwards all are equal again."""
    rate = await _loaded(args, cluster, window, on, range(len(cluster.clients)), args.measure)
    await _converge(cluster)
    return rate


async def _loaded(
    args: argparse.Namespace,
    cluster: Watched,
    window: int,
    on: Sequence[int],
    of: Sequence[int],
    seconds: float,
) -> float:
    """Goodput of some with writers on some that wait for answers."""
    async with _writing(args, cluster, on, window):
        await asyncio.sleep(WARM_S)
        return await _goodput(cluster, of, seconds)


async def _goodput(cluster: Watched, of: Sequence[int], seconds: float) -> float:
    """Messages a second that became durable on all of these nodes."""
    before = await asyncio.gather(*(_durable(cluster, node) for node in of))
    ends = time.monotonic() + seconds
    while (left := ends - time.monotonic()) > 0:
        progress("measuring", int(seconds - left), int(seconds) + 1)
        await asyncio.sleep(min(left, 1.0))
    after = await asyncio.gather(*(_durable(cluster, node) for node in of))
    return min(
        (held - held_then) / (at - then)
        for (then, held_then), (at, held) in zip(before, after, strict=True)
    )


async def _durable(cluster: Watched, node: int) -> tuple[float, int]:
    """When it was, and how many messages the node durably held."""
    digest = await cluster.clients[node].digest()
    return time.perf_counter(), digest["messages"]


async def _converge(cluster: Watched) -> float:
    """Seconds until all roots are equal."""
    began = time.perf_counter()
    while time.perf_counter() - began < CONVERGE_S:
        digests = await asyncio.gather(*(client.digest() for client in cluster.clients))
        if len({digest["root"] for digest in digests}) == 1:
            return time.perf_counter() - began
        await asyncio.sleep(LOOK_S)
    raise SystemExit(f"error: the nodes did not converge in {CONVERGE_S:.0f} s")


# --- Overload -------------------------------------------------------------------------------------


async def _overload(args: argparse.Namespace, cluster: Watched, best: float) -> dict[str, Any]:
    """Offer so many times the best on all nodes, then stop, and let them converge."""
    cluster.forget_peaks()
    drops, told = await _drops(cluster), len(cluster.told())
    began, own_cpu = time.perf_counter(), time.process_time()
    async with _writing(args, cluster, range(NODES), window=0) as writers:
        offering = asyncio.create_task(_offer(writers, args.times * best, args.seconds))
        goodput = await _goodput(cluster, range(NODES), args.seconds)
        offered = await offering
        stopped = time.perf_counter()
        own_cpu = time.process_time() - own_cpu
    await _converge(cluster)
    converged = time.perf_counter()
    progress(f"overload: {goodput:,.0f}/s, converged in {converged - stopped:.1f} s", 1, 1)
    taken = sum(writer.sent for writer in writers)
    return {
        "offered_per_s": round(offered / args.seconds),
        "taken_per_s": round(taken / args.seconds),
        "goodput_per_s": round(goodput),
        "goodput_until_converged_per_s": round(taken / (converged - began)),
        "converged_s": round(converged - stopped, 2),
        "writers_cpu_percent": round(100 * own_cpu / (stopped - began)),
        "memory_peak_mb": [memory.peak for memory in cluster.memory()],
        "drops": dict(await _drops(cluster) - drops),
        **_missed(cluster, told),
    }


async def _offer(writers: Sequence[Writer], rate: float, seconds: float) -> int:
    """Let them say so many a second together, whatever is answered; how many were to be said."""
    began = time.perf_counter()
    elapsed = 0.0
    while elapsed < seconds:
        for writer in writers:
            writer.offer(int(rate * elapsed / len(writers)))
        await asyncio.sleep(TICK_S)
        elapsed = time.perf_counter() - began
    return int(rate * elapsed)


async def _drops(cluster: Watched) -> Counter[str]:
    """By reason, over all nodes."""
    found: Counter[str] = Counter()
    for client in cluster.clients:
        found.update((await client.status())["drops"])
    return found


def _missed(cluster: Watched, known: int, but: str = "") -> dict[str, int]:
    """Suspicions and deaths that were logged since, except of one node."""
    events = [told.event for told in cluster.told()[known:] if told.of != but]
    return {"suspicions": events.count(SUSPECTED), "deaths": events.count(DIED)}


# --- One stopped ----------------------------------------------------------------------------------


async def _stop_one(args: argparse.Namespace, window: int) -> dict[str, Any]:
    """The best load on two of three, before and while the third is stopped; and on two alone."""
    with _fresh() as base:
        async with Watched(base, NODES) as cluster:
            before = await _loaded(args, cluster, window, PAIR, PAIR, args.measure)
            await _converge(cluster)
            found = await _stopped(args, cluster, window)
    with _fresh() as base:
        async with Watched(base, len(PAIR)) as cluster:
            alone = await _closed(args, cluster, window, PAIR)
    rate = found["pair_per_s_while_one_is_stopped"]
    return {
        "pair_per_s": round(before),
        "pair_alone_per_s": round(alone),
        **found,
        "pair_ratio": round(rate / before, 3),
        "pair_alone_ratio": round(rate / alone, 3),
    }


async def _stopped(args: argparse.Namespace, cluster: Watched, window: int) -> dict[str, Any]:
    """The load while one is stopped; then that one catches up."""
    cluster.forget_peaks()
    held = (await cluster.clients[STOPPED].digest())["messages"]
    process = cluster.processes[STOPPED]
    process.send_signal(signal.SIGSTOP)
    try:
        rate = await _loaded(args, cluster, window, PAIR, PAIR, args.stopped - WARM_S)
        memory = [memory.peak for memory in cluster.memory()]
        behind = (await cluster.clients[0].digest())["messages"] - held
    finally:
        process.send_signal(signal.SIGCONT)
    took = await _converge(cluster)
    progress(f"one stopped: {rate:,.0f}/s, it caught up in {took:.1f} s", 1, 1)
    missed = _missed(cluster, 0, but=f"node{STOPPED}")
    return {
        "pair_per_s_while_one_is_stopped": round(rate),
        "stopped_memory_peak_mb": memory,
        "stopped_was_behind": behind,
        "stopped_caught_up_s": round(took, 2),
        "stopped_caught_up_per_s": round(behind / took),
        "stopped_memory_peak_mb_after": [memory.peak for memory in cluster.memory()],
        **{f"{name}_of_others": count for name, count in missed.items()},
    }


if __name__ == "__main__":
    raise SystemExit(main())
