"""`flc ping`: probes a node from outside, over the same path as the cluster's own traffic.

The datagrams are sealed pings of a visitor. So an answer proves four things: the way there, the way
back, the key with the cluster's name, and a daemon that is not stuck.
"""

from __future__ import annotations

import argparse
import statistics
import time

from flc_udp.cli.arguments import positive, seconds
from flc_udp.cli.complaint import DONE, INTERRUPTED, SILENT, complain
from flc_udp.cli.text import visible
from flc_udp.cli.wire.probe import PATIENCE_S, Visitor, VisitorAnswer, add_key_flags, given_ring
from flc_udp.client import Record, compact
from flc_udp.model.address import split_host_port
from flc_udp.model.errors import FlcError


def add_ping(parser: argparse.ArgumentParser) -> None:
    """`flc ping`."""
    flag = parser.add_argument
    flag("address", metavar="HOST:PORT", help="a node's UDP address")
    flag("-c", dest="count", metavar="N", type=positive, help="stop after N pings")
    flag(
        "-i", dest="interval", metavar="SECS", type=seconds, default=1.0,
        help="send a ping every SECS seconds (default 1)",
    )  # fmt: skip
    add_key_flags(parser)
    flag("--json", action="store_true", help="one JSON object a line")


def ping(args: argparse.Namespace) -> int:
    """Ping until the count is reached or Ctrl-C; exit 3 if nothing was answered."""
    if not args.interval:
        raise FlcError("pings without a pause would be a flood", "give -i seconds above 0")
    if not split_host_port(args.address)[1]:
        raise FlcError(f"nothing listens on port 0 of {args.address}", "write a port from 1")
    pinger = Pinger(args)
    code = DONE
    try:
        while args.count is None or pinger.sent < args.count:
            pinger.once(is_last=pinger.sent + 1 == args.count)
    except KeyboardInterrupt:
        code = INTERRUPTED
    pinger.summarize()
    if pinger.round_trips_ms or code:
        return code
    complain(f"{args.address} did not answer", "is it there, and are key and cluster name right?")
    return SILENT


class Pinger:
    """Pings one address and keeps the round trips."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.sent = 0
        self.round_trips_ms: list[float] = []
        self._args = args
        self._visitor = Visitor(args.address, given_ring(args))

    def once(self, *, is_last: bool) -> None:
        """Send one ping and wait for its answer, until the next ping is due."""
        self.sent += 1
        began_s = time.perf_counter()
        try:
            nonce = self._visitor.ping()
        except OSError as error:
            problem = f"cannot send to {self._args.address}: {error.strerror}"
            raise FlcError(problem, "is there a route to it? see `ip route get`") from error
        due_s = began_s + (PATIENCE_S if is_last else self._args.interval)
        answer = self._visitor.answer(nonce, due_s - time.perf_counter())
        if answer is not None:
            self._tell(answer, (time.perf_counter() - began_s) * 1e3)
        if not is_last:
            time.sleep(max(due_s - time.perf_counter(), 0))

    def summarize(self) -> None:
        """Print what ping(8) prints at its end."""
        answered = len(self.round_trips_ms)
        loss = 100 * (1 - answered / self.sent) if self.sent else 0.0
        figures = _figures(self.round_trips_ms)
        if self._args.json:
            total = {"sent": self.sent, "answered": answered, "loss_percent": round(loss, 1)}
            print(compact({**total, "rtt_ms": figures or None}))
            return
        print(f"{self.sent} sent, {answered} answered, {loss:.0f}% loss")
        if figures:
            print("round trip " + ", ".join(f"{name} {ms} ms" for name, ms in figures.items()))

    def _tell(self, answer: VisitorAnswer, rtt_ms: float) -> None:
        self.round_trips_ms.append(rtt_ms)
        ack, source, node = answer.ack, str(answer.source), answer.node.hex()
        record: Record = {
            "seq": self.sent,
            "id": node,
            "address": source,
            "rtt_ms": round(rtt_ms, 3),
            "health": ack.health,
            "catching_up": ack.catching_up,
        }
        state = ", catching up" if ack.catching_up else ""
        line = f"ack from {node} at {source}: seq={self.sent} time={rtt_ms:.2f} ms"
        shown = visible(f"{line} health={ack.health}{state}")
        print(compact(record) if self._args.json else shown, flush=True)


def _figures(trips_ms: list[float]) -> dict[str, float]:
    if not trips_ms:
        return {}
    figures = {"min": min(trips_ms), "avg": statistics.fmean(trips_ms), "max": max(trips_ms)}
    figures["mdev"] = statistics.pstdev(trips_ms)
    return {name: round(ms, 3) for name, ms in figures.items()}
