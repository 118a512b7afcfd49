"""What three real daemons do when far more is said than they can keep, or when one of them stops.

    python bench/overload.py --seconds 30 --times 5 --stopped 60 --rounds 3

First the best goodput: the messages a second that become durable on all three, with writers on the
control sockets that wait for answers, over several windows of unanswered says, on one node and on
all. Then writers that wait for nothing offer five times that on all three, for half a minute; a
socket that takes no more slows them, and what they had still to say waits. Then they stop, and all
nodes have to converge. Before and after the overload the best load runs again on the same nodes;
the goodput is compared with the better of the two. At last the best load runs again on two nodes,
before and while the third is stopped by SIGSTOP; that one is given SIGCONT and timed until it has
caught up. Since a stopped process leaves its core to the others on one machine, the same load runs
also on a cluster of only those two. Lists are by node, the one to be stopped last.

Writers send prepared lines and count the answers without reading them, so that they take little of
the cores that the daemons need.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import NamedTuple, cast

import harness

from flc_udp.cli.run.cluster import LocalCluster, LocalNode, until

OPTIONS = {
    "--seconds": (30.0, "seconds of overload"),
    "--times": (5.0, "times the best goodput that is offered"),
    "--stopped": (60.0, "seconds that one node is stopped; 0 leaves this part out"),
    "--measure": (10.0, "seconds of each other figure"),
    "--rounds": (3, "rounds; harness.medians are reported"),
    "--body": (100, "bytes of a body"),
}
NODES = 3
WARM_S = 2.0
TICK_S = 0.01
CONVERGE_S = 300.0
WINDOWS = (100, 500, 2_000, 6_000)
"""These numbers of unanswered says of one node are tried for the best goodput."""

CONNECTIONS = 8
"""Each node has this many writers; they share the window."""

LINES_A_WRITE = 64
"""A writer that is behind hands at most this many lines to the socket in one write."""

UNSENT_BYTES = 16_384
"""At most this much waits between a writer and its daemon, so that who stops has stopped."""

Nodes = Sequence[LocalNode]


class Best(NamedTuple):
    """The best goodput, in messages a second, the says in flight, and on how many nodes."""

    rate: float
    window: int
    nodes: int


class Writer(asyncio.Protocol):
    """One connection to a control socket that says one line again and again."""

    def __init__(self, line: bytes, window: int) -> None:
        self.sent = self.answered = self.refused = 0
        self.window = window
        """`data_received` keeps this many says in flight; 0: it sends nothing by itself."""
        self.takes = True
        """Whether the socket takes more."""
        self.transport: asyncio.Transport
        self._line = line
        self._partial = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(UNSENT_BYTES)
        sock = self.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, UNSENT_BYTES)
        self.send(self.window)

    def data_received(self, data: bytes) -> None:
        """Count answers; say as much again."""
        lines, newline, self._partial = (self._partial + data).rpartition(b"\n")
        self.answered += lines.count(b"\n") + len(newline)
        self.refused += lines.count(b'{"ok":false')
        self.send(self.window - self.sent + self.answered)

    def send(self, count: int) -> None:
        """Say the line that many times."""
        if count > 0 and not self.transport.is_closing():
            self.transport.write(self._line * count)
            self.sent += count

    def offer(self, due: int) -> None:
        """Say what is missing of the says due by now, if the socket takes it."""
        if self.takes:
            self.send(min(due - self.sent, LINES_A_WRITE))

    def pause_writing(self) -> None:
        """Wait: the daemon reads slower than we write."""
        self.takes = False

    def resume_writing(self) -> None:
        """Go on: it has caught up."""
        self.takes = True


async def _measure(args: argparse.Namespace, cluster: LocalCluster) -> harness.Result:
    async with harness.cleared_after(cluster):
        best = await _search(args, await cluster.start(NODES, *harness.LAN))
    rounds = [await _round(args, cluster, best, number) for number in range(args.rounds)]
    return {
        "best_per_s": round(best.rate),
        **harness.medians(rounds),
        "goodput_ratios": [found["goodput_ratio"] for found in rounds],
        "window": best.window,
        "writing_nodes": best.nodes,
        "body_bytes": args.body,
        "rounds": args.rounds,
        "machine": harness.machine(),
    }


async def _search(args: argparse.Namespace, nodes: Nodes) -> Best:
    """Find the window and the number of writing nodes with the best goodput."""
    found: list[Best] = []
    for writing in (1, NODES):
        for window in WINDOWS:
            rate = await _closed(args, window, nodes[:writing], nodes)
            found.append(Best(rate, window, writing))
            harness.progress(f"window {window} on {writing} of {NODES}: {rate:,.0f}/s")
    return max(found)


async def _round(
    args: argparse.Namespace, cluster: LocalCluster, best: Best, number: int
) -> harness.Result:
    """Overload between two runs of the best load, as a machine is not always equally fast."""
    async with harness.cleared_after(cluster):
        nodes = await cluster.start(NODES, *harness.LAN)

        async def again() -> float:
            rate = await _closed(args, best.window, nodes[: best.nodes], nodes)
            harness.progress(f"round {number + 1}: the best load again {rate:,.0f}/s")
            return rate

        before = await again()
        found = await _overload(args, nodes, best.rate)
        beside = max(before, await again())
    return {
        "best_beside_per_s": round(beside),
        **found,
        "goodput_ratio": round(found["goodput_per_s"] / beside, 3),
        "goodput_of_first_best": round(found["goodput_per_s"] / best.rate, 3),
        **(await _stop_one(args, cluster, best.window) if args.stopped else {}),
    }


# --- Load -----------------------------------------------------------------------------------------


@asynccontextmanager
async def _writing(args: argparse.Namespace, on: Nodes, window: int) -> AsyncIterator[list[Writer]]:
    """Let writers say on these nodes; at the end they say no more, and all is answered."""
    say = {"op": "say", "room": "bench", "body": "x" * args.body}
    line = json.dumps(say, separators=(",", ":")).encode() + b"\n"
    loop = asyncio.get_running_loop()
    make = partial(Writer, line, window // CONNECTIONS)
    paths = [node.control.path for node in on for _ in range(CONNECTIONS)]
    writers = [(await loop.create_unix_connection(make, path))[1] for path in paths]

    async def all_answered() -> bool:
        return all(writer.answered >= writer.sent for writer in writers)

    try:
        yield writers
        for writer in writers:
            writer.window = 0
        await until("all says are answered", all_answered, CONVERGE_S)
    finally:
        for writer in writers:
            writer.transport.close()
    if refused := sum(writer.refused for writer in writers):
        raise SystemExit(f"error: {refused} says were refused")


async def _closed(args: argparse.Namespace, window: int, on: Nodes, nodes: Nodes) -> float:
    """Measure the goodput of all with writers on some; afterwards all are equal again."""
    rate = await _loaded(args, window, on, nodes, args.measure)
    await harness.converged(nodes, CONVERGE_S)
    return rate


async def _loaded(
    args: argparse.Namespace, window: int, on: Nodes, of: Nodes, seconds: float
) -> float:
    """Measure the goodput of some nodes with writers on some that wait for answers."""
    async with _writing(args, on, window):
        await asyncio.sleep(WARM_S)
        return await _goodput(of, seconds)


async def _goodput(nodes: Nodes, seconds: float) -> float:
    """Count the messages a second that become durable on all of these nodes."""
    began_s, before = time.perf_counter(), await harness.digests(nodes)
    while (left_s := began_s + seconds - time.perf_counter()) > 0:
        harness.progress("measuring", int(seconds - left_s), int(seconds) + 1)
        await asyncio.sleep(min(left_s, 1.0))
    took_s, after = time.perf_counter() - began_s, await harness.digests(nodes)
    held = zip(before, after, strict=True)
    return min(now["messages"] - then["messages"] for then, now in held) / took_s


# --- Overload -------------------------------------------------------------------------------------


async def _overload(args: argparse.Namespace, nodes: Nodes, best: float) -> harness.Result:
    """Offer several times the best on all nodes, then stop, and let them converge."""
    harness.forget_peaks(nodes)
    drops, known = await _drops(nodes), Counter(harness.missed(nodes))
    began_s, own_cpu_s = time.perf_counter(), time.process_time()
    async with _writing(args, nodes, window=0) as writers:
        offering = asyncio.create_task(_offer(writers, args.times * best, args.seconds))
        goodput = await _goodput(nodes, args.seconds)
        offered = await offering
        stopped_s = time.perf_counter()
        own_cpu_s = time.process_time() - own_cpu_s
    await harness.converged(nodes, CONVERGE_S)
    converged_s = time.perf_counter()
    harness.progress(
        f"overload: {goodput:,.0f}/s, harness.converged in {converged_s - stopped_s:.1f} s"
    )
    taken = sum(writer.sent for writer in writers)
    return {
        "offered_per_s": round(offered / args.seconds),
        "taken_per_s": round(taken / args.seconds),
        "goodput_per_s": round(goodput),
        "goodput_until_converged_per_s": round(taken / (converged_s - began_s)),
        "converged_s": round(converged_s - stopped_s, 2),
        "writers_cpu_percent": round(100 * own_cpu_s / (stopped_s - began_s)),
        "memory_peak_mb": [harness.memory(node).peak_mb for node in nodes],
        "drops": dict(await _drops(nodes) - drops),
        **{name: count - known[name] for name, count in harness.missed(nodes).items()},
    }


async def _offer(writers: Sequence[Writer], rate: float, seconds: float) -> int:
    """Let them say that many a second together, whatever is answered; give what was due."""
    began_s = time.perf_counter()
    elapsed_s = 0.0
    while elapsed_s < seconds:
        for writer in writers:
            writer.offer(int(rate * elapsed_s / len(writers)))
        await asyncio.sleep(TICK_S)
        elapsed_s = time.perf_counter() - began_s
    return int(rate * elapsed_s)


async def _drops(nodes: Nodes) -> Counter[str]:
    """Count the drops of all nodes by reason."""
    found: Counter[str] = Counter()
    for node in nodes:
        found.update((await node.control.status())["drops"])
    return found


# --- One stopped ----------------------------------------------------------------------------------


async def _stop_one(args: argparse.Namespace, cluster: LocalCluster, window: int) -> harness.Result:
    """Load two of three, before and while the third is stopped; then two alone."""
    async with harness.cleared_after(cluster):
        *pair, last = nodes = await cluster.start(NODES, *harness.LAN)
        before = await _loaded(args, window, pair, pair, args.measure)
        await harness.converged(nodes, CONVERGE_S)
        found = await _stopped(args, pair, last, window)
    async with harness.cleared_after(cluster):
        pair = await cluster.start(NODES - 1, *harness.LAN)
        alone = await _closed(args, window, pair, pair)
    rate = found["pair_per_s_while_one_is_stopped"]
    return {
        "pair_per_s": round(before),
        "pair_alone_per_s": round(alone),
        **found,
        "pair_ratio": round(rate / before, 3),
        "pair_alone_ratio": round(rate / alone, 3),
    }


async def _stopped(
    args: argparse.Namespace, pair: Nodes, stopped: LocalNode, window: int
) -> harness.Result:
    """Load the pair while the third is stopped; then that one catches up."""
    nodes = [*pair, stopped]
    harness.forget_peaks(nodes)
    held = (await stopped.control.digest())["messages"]
    stopped.process.send_signal(signal.SIGSTOP)
    try:
        rate = await _loaded(args, window, pair, pair, args.stopped - WARM_S)
        peaks_mb = [harness.memory(node).peak_mb for node in nodes]
        behind = (await harness.digests(pair))[0]["messages"] - held
    finally:
        stopped.process.send_signal(signal.SIGCONT)
    took_s = await harness.converged(nodes, CONVERGE_S)
    harness.progress(f"one stopped: {rate:,.0f}/s, it caught up in {took_s:.1f} s")
    others = harness.missed(nodes, stopped.name)
    return {
        "pair_per_s_while_one_is_stopped": round(rate),
        "stopped_memory_peak_mb": peaks_mb,
        "stopped_was_behind": behind,
        "stopped_caught_up_s": round(took_s, 2),
        "stopped_caught_up_per_s": round(behind / took_s),
        "stopped_memory_peak_mb_after": [harness.memory(node).peak_mb for node in nodes],
        **{f"{name}_of_others": count for name, count in others.items()},
    }


if __name__ == "__main__":
    harness.run_bench(__doc__, OPTIONS, harness.on_cluster(_measure))
