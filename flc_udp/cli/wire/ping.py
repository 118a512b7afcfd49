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
from flc_udp.client import compact
from flc_udp.model.address import split_host_port
from flc_udp.model.errors import FlcError


def add_ping(parser: argparse.ArgumentParser) -> None:
    """`flc ping`."""
    flag = parser.add_argument
    flag("address", metavar="HOST:PORT", help="a node's UDP address")
    flag("-c", dest="count", metavar="N", type=positive, help="stop after N pings")
    every = "send a ping every SECS seconds (default 1)"
    flag("-i", dest="interval", metavar="SECS", type=seconds, default=1.0, help=every)
    add_key_flags(parser)
    flag("--json", action="store_true", help="one JSON object a line")


def ping(args: argparse.Namespace) -> int:
    """Ping until the count is reached or Ctrl-C; exit 3 if nothing was answered."""
    if not args.interval:
        raise FlcError("pings without a pause would be a flood", "give -i seconds above 0")
    if not split_host_port(args.address)[1]:
        raise FlcError(f"nothing listens on port 0 of {args.address}", "write a port from 1")
    visitor, sent, code = Visitor(args.address, given_ring(args)), 0, DONE
    trips_ms: list[float] = []
    try:
        while args.count is None or sent < args.count:
            sent += 1
            due_s = time.perf_counter() + args.interval
            is_last = sent == args.count
            answer = _ping(visitor, args.address, PATIENCE_S if is_last else args.interval)
            if answer is not None:
                trips_ms.append(answer.took_ms)
                print(_answer_text(answer, sent, as_json=args.json), flush=True)
            if not is_last:
                time.sleep(max(due_s - time.perf_counter(), 0))
    except KeyboardInterrupt:
        code = INTERRUPTED
    print(_summary(sent, trips_ms, as_json=args.json))
    if trips_ms or code:
        return code
    complain(f"{args.address} did not answer", "is it there, and are key and cluster name right?")
    return SILENT


def _ping(visitor: Visitor, address: str, patience_s: float) -> VisitorAnswer | None:
    try:
        return visitor.ping(patience_s)
    except OSError as error:
        problem = f"cannot send to {address}: {error.strerror}"
        raise FlcError(problem, "is there a route to it? see `ip route get`") from error


def _answer_text(answer: VisitorAnswer, seq: int, *, as_json: bool) -> str:
    ack, source, node = answer.ack, str(answer.source), answer.node.hex()
    if as_json:
        whence = {"seq": seq, "id": node, "address": source, "rtt_ms": round(answer.took_ms, 3)}
        return compact({**whence, "health": ack.health, "catching_up": ack.catching_up})
    state = ", catching up" if ack.catching_up else ""
    line = f"ack from {node} at {source}: seq={seq} time={answer.took_ms:.2f} ms"
    return visible(f"{line} health={ack.health}{state}")


def _summary(sent: int, trips_ms: list[float], *, as_json: bool) -> str:
    """Write what ping(8) prints at its end."""
    answered, figures = len(trips_ms), _figures(trips_ms)
    loss = 100 * (1 - answered / sent) if sent else 0.0
    if as_json:
        total = {"sent": sent, "answered": answered, "loss_percent": round(loss, 1)}
        return compact({**total, "rtt_ms": figures or None})
    line = f"{sent} sent, {answered} answered, {loss:.0f}% loss"
    trips = ", ".join(f"{name} {ms} ms" for name, ms in figures.items())
    return f"{line}\nround trip {trips}" if trips else line


def _figures(trips_ms: list[float]) -> dict[str, float]:
    if not trips_ms:
        return {}
    figures = {"min": min(trips_ms), "avg": statistics.fmean(trips_ms), "max": max(trips_ms)}
    figures["mdev"] = statistics.pstdev(trips_ms)
    return {name: round(ms, 3) for name, ms in figures.items()}
