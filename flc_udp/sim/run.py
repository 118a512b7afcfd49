"""`flc sim`: plan a cluster, or play a seed again.

The same command prints the same trace hash on any machine with the same flc, Python and SQLite. A
play that breaks a promise ends with its last lines, and with the command that plays it again.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from traceback import format_exception
from typing import get_type_hints

from flc_udp.model.errors import FlcError
from flc_udp.model.json_lines import compact
from flc_udp.sim.figures import SimFigures
from flc_udp.sim.plan import FAULTS, Plan
from flc_udp.sim.play import Play
from flc_udp.sim.violation import Violation
from flc_udp.sim.world import TAIL_LINES


def add_sim(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `flc sim`."""
    plan = Plan()
    for name, kind in get_type_hints(Plan, include_extras=True).items():
        for low, high, what in getattr(kind, "__metadata__", ()):  # Only numbers have limits.
            default = getattr(plan, name)
            parser.add_argument(
                f"--{name.replace('_', '-')}",
                type=_number(kind.__origin__, low, high),
                metavar="N",
                help=f"{what} ({default})",
            )
    parser.add_argument(
        "--faults",
        choices=FAULTS,
        help="beyond loss and duplicates: network (damage, lateness, cuts, islands), all (also "
        f"crashes, disks that fail, rot or are restored, pauses, repeats) ({plan.faults})",
    )
    drawn = "draw nodes, rate, loss and seconds from the seed, and play with all faults"
    parser.add_argument("--draw", action="store_true", help=drawn)
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


def sim(args: argparse.Namespace) -> None:
    """Play it and print what it measured; raises FlcError if a promise was broken."""
    values = {field.name: getattr(args, field.name) for field in fields(Plan)}
    given = {name: value for name, value in values.items() if value is not None}
    plan = replace(Plan.draw(given.get("seed", 0)) if args.draw else Plan(), **given)
    play = Play(plan)
    if args.trace:
        _print_error(play.world.trace.heading())
        play.world.trace.echo = _print_error
    try:
        is_watched = sys.stderr.isatty() and not args.trace
        figures = play.run(_show_progress) if is_watched else play.run()
    except Exception as error:  # whatever the code under test raises is a finding
        raise _failure(play, error, tail=not args.trace) from error
    _print_figures(figures, as_json=args.json)


def _show_progress(text: str) -> None:
    sys.stderr.write(f"\r\x1b[K{text}")
    sys.stderr.flush()


def _print_error(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def _failure(play: Play, error: Exception, *, tail: bool) -> FlcError:
    """Print what led to an error, and give what is told last."""
    for line in play.world.trace.tail(TAIL_LINES) if tail else ():
        _print_error(line)
    if not isinstance(error, Violation):
        _print_error("".join(format_exception(error)).rstrip())
    what = str(error) if isinstance(error, Violation) else f"{type(error).__name__}: {error}"
    problem = f"{what} (trace {play.world.trace.hash()})"
    return FlcError(problem, f"replay with {play.plan.command()}")


def _print_figures(figures: SimFigures, *, as_json: bool) -> None:
    if sys.stderr.isatty():
        sys.stderr.write("\r\x1b[K")
    if as_json:
        lines = [compact(figures._asdict()).decode()]
    else:
        hints = get_type_hints(SimFigures, include_extras=True).values()
        told = [what for hint in hints for what in hint.__metadata__]
        width = max(map(len, told))
        pairs = zip(told, figures, strict=True)
        lines = [f"{what:{width}}  {'-' if value is None else value}" for what, value in pairs]
    sys.stdout.write("\n".join(lines) + "\n")
