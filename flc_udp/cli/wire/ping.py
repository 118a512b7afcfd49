"""`flc ping`: probes a node from outside, over the same path as the cluster's own traffic.

The datagrams are sealed pings of a visitor: the node answers and takes nobody for a member. So an
answer proves the way there and back, the key and the cluster's name, and a process that turns.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

from flc_udp.cli.arguments import positive, seconds
from flc_udp.cli.complaint import complain
from flc_udp.cli.text import visible
from flc_udp.cli.wire.probe import Answer, Probe
from flc_udp.client import Record, compact
from flc_udp.config import SEAL_BYTES
from flc_udp.model.address import split_host_port
from flc_udp.model.errors import FlcError
from flc_udp.wire.seal import keyring, read_keys

INTERRUPTED, SILENT = 130, 3
PATIENCE_S = 1.5
"""The last ping is waited for so long; the others until the next is due."""

PAYLOAD_BYTES_MAX = 1_400 - SEAL_BYTES


def add_ping(parser: argparse.ArgumentParser) -> None:
    """`flc ping`."""
    parser.add_argument("address", metavar="HOST:PORT", help="a node's UDP address")
    parser.add_argument("-c", dest="count", metavar="N", type=positive, help="stop after N pings")
    parser.add_argument(
        "-i", dest="interval", metavar="SECS", type=seconds, default=1.0, help="between two pings"
    )
    parser.add_argument("--key-file", metavar="FILE", help="the cluster's keys")
    parser.add_argument("--cluster", metavar="NAME", default="flc", help="the cluster's name")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")


def ping(args: argparse.Namespace) -> int:
    """Ping until the count is reached or Ctrl-C; exit 3 if nothing was answered."""
    if not args.interval:
        raise FlcError("pings without a pause would be a flood", "give -i seconds above 0")
    if not split_host_port(args.address)[1]:
        raise FlcError(f"nothing listens on port 0 of {args.address}", "write a port from 1")
    pinger = Pinger(args)
    code = 0
    try:
        while args.count is None or pinger.sent < args.count:
            pinger.once(is_last=pinger.sent + 1 == args.count)
    except KeyboardInterrupt:
        code = INTERRUPTED
    pinger.summarize()
    if pinger.round_trips or code:
        return code
    complain(f"{args.address} did not answer", "is it there, and are key and cluster name right?")
    return SILENT


class Pinger:
    """One socket, one session, and the round trips so far."""

    def __init__(self, args: argparse.Namespace) -> None:
        keys = read_keys(Path(args.key_file)) if args.key_file else ()
        self.sent = 0
        self.round_trips: list[float] = []
        self._args = args
        self._probe = Probe(args.address, keyring(keys, args.cluster))

    def once(self, *, is_last: bool) -> None:
        """Send one ping and wait for its ack, until the next one is due."""
        self.sent += 1
        began = time.perf_counter()
        try:
            nonce = self._probe.ping(PAYLOAD_BYTES_MAX)
        except OSError as error:
            raise FlcError(
                f"cannot send to {self._args.address}: {error.strerror}", _WAY
            ) from error
        due = began + (PATIENCE_S if is_last else self._args.interval)
        answer = self._probe.answer(nonce, due - time.perf_counter())
        if answer is not None:
            self._note(answer, (time.perf_counter() - began) * 1e3)
        if not is_last:
            time.sleep(max(due - time.perf_counter(), 0))

    def summarize(self) -> None:
        """Print what ping(8) prints at its end."""
        trips = self.round_trips
        loss = 100 * (1 - len(trips) / self.sent) if self.sent else 0.0
        figures = _figures(trips)
        if self._args.json:
            total = {"sent": self.sent, "answered": len(trips), "loss_percent": round(loss, 1)}
            print(compact({**total, "rtt_ms": figures or None}))
            return
        print(f"{self.sent} sent, {len(trips)} answered, {loss:.0f}% loss")
        if figures:
            print("round trip " + ", ".join(f"{name} {ms} ms" for name, ms in figures.items()))

    def _note(self, answer: Answer, ms: float) -> None:
        ack, node, source = answer
        self.round_trips.append(ms)
        record: Record = {
            "seq": self.sent,
            "id": node.hex(),
            "address": str(source),
            "rtt_ms": round(ms, 3),
            "health": ack.health,
            "catching_up": ack.catching_up,
        }
        if self._args.json:
            print(compact(record), flush=True)
            return
        state = ", catching up" if ack.catching_up else ""
        line = f"ack from {node.hex()} at {source}: seq={self.sent} time={ms:.2f} ms"
        print(visible(f"{line} health={ack.health}{state}"), flush=True)


_WAY = "is there a route to it? see `ip route get`"


def _figures(trips: list[float]) -> dict[str, float]:
    if not trips:
        return {}
    spread = statistics.pstdev(trips)
    figures = {"min": min(trips), "avg": statistics.fmean(trips), "max": max(trips)}
    return {name: round(ms, 3) for name, ms in {**figures, "mdev": spread}.items()}
