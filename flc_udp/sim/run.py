"""`flc sim`: plan a cluster, or play a seed again.

The same command prints the same trace hash on any machine with the same flc, Python and SQLite. A
play that breaks a promise ends with its last lines, and with the command that plays it again.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from traceback import format_exception

from flc_udp.sim.checks import Violation
from flc_udp.sim.figures import SimFigures
from flc_udp.sim.plan import FAULTS, Plan
from flc_udp.sim.play import Play
from flc_udp.sim.world import TAIL_LINES

DONE, FAILED = 0, 1

NODES_MAX = 1_000
SEED_LIMIT = 1 << 64

TOLD = {
    "nodes": "nodes",
    "messages": "messages said",
    "converged_after_ms": "last word to equal histories, ms",
    "latency_p50_ms": "said to shown everywhere, ms, half",
    "latency_p99_ms": "                          99 of 100",
    "copies_per_node": "copies of a message a node gets",
    "repaired_percent": "first copies that were asked for, %",
    "causes_bytes_p50": "bytes of causes in a message, half",
    "bytes_per_message_per_node": "bytes a node sends for a message",
    "packets": "datagrams sent",
    "pruned": "messages pruned, over all nodes",
    "bases_taken": "bases taken of others",
    "trace": "trace",
}
"""The figures in words. The bytes are those of all traffic during the talk, probes included."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Put the simulator's arguments on a command's parser."""
    plan = Plan()
    number = _number
    for flag, kind, what in (
        ("nodes", number(int, 1, NODES_MAX), "nodes of the cluster"),
        ("loss", number(float, 0, 90), "percent of datagrams lost"),
        ("duplicate", number(float, 0, 90), "percent of datagrams that arrive twice"),
        ("seconds", number(float, 0, 86_400), "virtual seconds that people talk"),
        ("seed", number(int, 0, SEED_LIMIT - 1), "everything by chance comes from it"),
        ("rate", number(float, 0, 100_000), "messages a second, over all nodes"),
        ("authors", number(int, 0, NODES_MAX), "nodes that speak, all of them if 0"),
        ("warm-up", number(float, 0, 86_400), "seconds of talk before anything is measured"),
        ("delay", number(float, 0.1, 10_000), "ms a datagram takes at most, at least a tenth"),
    ):
        default = getattr(plan, flag.replace("-", "_"))
        parser.add_argument(
            f"--{flag}", type=kind, default=default, metavar="N", help=f"{what} ({default})"
        )
    parser.add_argument(
        "--faults",
        choices=FAULTS,
        default=plan.faults,
        help="beyond loss and duplicates: network (damage, lateness, cuts, islands), all (also "
        f"crashes, failing and restored disks, pauses) ({plan.faults})",
    )
    parser.add_argument("--trace", action="store_true", help="print what happens, on stderr")
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON object")


def _number(kind: type[int | float], low: float, high: float) -> Callable[[str], int | float]:
    def parse(text: str) -> int | float:
        try:
            value = kind(text)
        except ValueError:
            value = high + 1
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number from {low:g} to {high:g}")
        return value

    return parse


def main(args: argparse.Namespace) -> int:
    """Play it and print what it measured. Return 1 if a promise was broken."""
    plan = Plan(
        nodes=args.nodes,
        loss=args.loss,
        duplicate=args.duplicate,
        seconds=args.seconds,
        seed=args.seed,
        rate=args.rate,
        authors=args.authors,
        warm_up=args.warm_up,
        delay=args.delay,
        faults=args.faults,
    )
    play = Play(plan)
    if args.trace:
        _print_error(play.world.trace.heading())
        play.world.trace.echo = _print_error
    try:
        figures = play.run(_progress(shown=sys.stderr.isatty() and not args.trace))
    except Exception as error:  # noqa: BLE001  # whatever the code under test raises is a finding
        _print_failure(play, error, tail=not args.trace)
        return FAILED
    _print_figures(figures, as_json=args.json)
    return DONE


def _progress(*, shown: bool) -> Callable[[str], object]:
    def tell(text: str) -> None:
        if shown:
            sys.stderr.write(f"\r\x1b[K{text}")
            sys.stderr.flush()

    return tell


def _print_error(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def _print_failure(play: Play, error: Exception, *, tail: bool) -> None:
    for line in play.world.trace.tail(TAIL_LINES) if tail else ():
        _print_error(line)
    if not isinstance(error, Violation):
        _print_error("".join(format_exception(error)).rstrip())
    what = str(error) if isinstance(error, Violation) else f"{type(error).__name__}: {error}"
    _print_error(f"error: {what} (trace {play.world.trace.hash()})")
    _print_error(f"hint: replay with {play.plan.command()}")


def _print_figures(figures: SimFigures, *, as_json: bool) -> None:
    if sys.stderr.isatty():
        sys.stderr.write("\r\x1b[K")
    record = figures._asdict()
    if as_json:
        lines = [json.dumps(record, separators=(",", ":"))]
    else:
        width = max(map(len, TOLD.values()))
        told = ((TOLD[name], value) for name, value in record.items())
        lines = [f"{what:{width}}  {'-' if value is None else value}" for what, value in told]
    sys.stdout.write("\n".join(lines) + "\n")
