"""`flc why`: what a message comes after, and which of two came before the other.

Rules. The daemon decides, by causality alone; here are the words. Across rooms they say less than
within one, because less is known: `concurrent` there only means that nothing orders the two.
"""

from __future__ import annotations

import argparse
import sys

from flc_udp.cli import text
from flc_udp.cli.connect import with_daemon
from flc_udp.cli.look.log import exact
from flc_udp.client import Client, Record, compact
from flc_udp.model.dots import parse_dot
from flc_udp.model.errors import FlcError

BRIEF_KEYS = ("dot", "room", "author", "said_at")
"""A message as JSON where only its place matters."""

RELATIONS = {
    "before": "{one}\n  comes before {other}",
    "after": "{one}\n  comes after {other}",
    "equal": "{one}\n  is one and the same message",
    "concurrent": "{one}\n  is concurrent with {other}",
}
REASONS = {
    ("before", True): "the node that said the second one held the first",
    ("after", True): "the node that said the first one held the second",
    ("before", False): "in two rooms, and by the order within logs certain all the same",
    ("after", False): "in two rooms, and by the order within logs certain all the same",
    ("concurrent", True): "neither node held the other's message when it said its own",
    ("concurrent", False): (
        "in two rooms, between which only the order within each log is kept:"
        " nothing orders these two, and who had read what is not known"
    ),
}
"""{(order, whether in one room): what that means}."""


def add_why(parser: argparse.ArgumentParser) -> None:
    """`flc why DOT [DOT]`."""
    parser.add_argument("dot", metavar="DOT", type=_dot, help="a message, as `flc say` prints it")
    parser.add_argument(
        "other", metavar="DOT", type=_dot, nargs="?", help="how does the first stand to this one?"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")


def why(args: argparse.Namespace) -> int:
    """Print one message's causes and clock, or how two stand to each other."""

    async def use(client: Client) -> int:
        answer = await client.why(args.dot, args.other)
        record = _alone(answer) if args.other is None else _together(answer)
        if args.json:
            print(compact(record))
        else:
            print(_alone_text(record) if args.other is None else _together_text(record))
        return 0

    return with_daemon(args, use)


def _alone(answer: Record) -> Record:
    return {
        "message": exact(answer["message"]),
        "previous": answer["previous"],
        "causes": [_brief(cause) for cause in answer["causes"]],
        "clock": dict(sorted(answer["clock"].items())),
    }


def _together(answer: Record) -> Record:
    return {
        "order": answer["order"],
        "same_room": answer["same_room"],
        "message": _brief(answer["message"]),
        "other": _brief(answer["other"]),
    }


def _brief(message: Record) -> Record:
    return {key: message[key] for key in BRIEF_KEYS}


def _alone_text(record: Record) -> str:
    message = record["message"]
    lines = [f"{_named(message)}: {text.body_text(message)}"]
    lines += [f"  cause     {_named(cause)}" for cause in record["causes"]]
    if not record["causes"]:
        lines.append("  cause     none: its author had nothing of the room but its own log")
    if record["previous"]:
        lines.append(f"  previous  {record['previous']} in its log, of whatever room")
    clock = " ".join(f"{log}:{seq}" for log, seq in record["clock"].items())
    return "\n".join((*lines, f"  clock     {clock}"))


def _together_text(record: Record) -> str:
    order, same_room = record["order"], record["same_room"]
    names = {"one": _named(record["message"]), "other": _named(record["other"])}
    reason = REASONS.get((order, same_room))
    return RELATIONS[order].format(**names) + (f"\n  {reason}" if reason else "")


def _named(message: Record) -> str:
    said_at = text.time_text(message["said_at"], local=sys.stdout.isatty())
    place = f"{text.visible(message['room'])}  {text.visible(message['author'])}"
    return f"{message['dot']}  {said_at}  {place}"


def _dot(words: str) -> str:
    try:
        return str(parse_dot(words))
    except FlcError as error:
        raise argparse.ArgumentTypeError(f"{error}: {error.hint}") from error
