"""`flc why`: what a message comes after, and which of two messages came before the other.

Rules. The daemon decides, by causality alone; the words are made here. Between two rooms less is
known than within one: there `concurrent` only means that nothing orders the two messages.
"""

from __future__ import annotations

import argparse
import sys

from flc_udp.cli import text
from flc_udp.cli.look.pictures import show
from flc_udp.client import Client, Record, compact
from flc_udp.model.dots import parse_dot
from flc_udp.model.errors import FlcError

RELATIONS = {
    "before": "comes before {other}",
    "after": "comes after {other}",
    "equal": "is one and the same message",
    "concurrent": "is concurrent with {other}",
}

CERTAIN = "in two rooms, and by the order within logs certain all the same"
MEANINGS = {
    ("before", True): "the node that said the second one held the first",
    ("after", True): "the node that said the first one held the second",
    ("before", False): CERTAIN,
    ("after", False): CERTAIN,
    ("concurrent", True): "neither node held the other's message when it said its own",
    ("concurrent", False): (
        "in two rooms, between which only the order within each log is kept:"
        " nothing orders these two, and who had read what is not known"
    ),
}
"""What an order means, by whether the two messages are of one room."""


def add_why(parser: argparse.ArgumentParser) -> None:
    """`flc why DOT [DOT]`."""
    flag = parser.add_argument
    flag("dot", metavar="DOT", type=_dot, help="a message, as `flc say` prints it")
    flag("other", metavar="DOT", type=_dot, nargs="?", help="the message to compare it with")
    flag("--json", action="store_true", help="one JSON object")


def why(args: argparse.Namespace) -> int:
    """Print one message's causes and clock, or how two messages stand to each other."""

    async def picture(client: Client) -> str:
        answer = await client.why(args.dot, args.other)
        del answer["end"]  # It says that this was one answer, and nothing of the message.
        if args.json:
            return compact(answer)
        return _alone_text(answer) if args.other is None else _together_text(answer)

    return show(args, picture)


def _alone_text(answer: Record) -> str:
    message = answer["message"]
    lines = [f"{_named(message)}: {text.body_text(message)}"]
    lines += [f"  cause     {_named(cause)}" for cause in answer["causes"]]
    if not answer["causes"]:
        lines.append("  cause     none: its author had nothing of the room but its own log")
    if answer["previous"]:
        lines.append(f"  previous  {answer['previous']} in its log, of whatever room")
    return "\n".join((*lines, f"  clock     {text.clock_text(answer['clock'])}"))


def _together_text(answer: Record) -> str:
    order = answer["order"]
    relation = RELATIONS[order].format(other=_named(answer["other"]))
    lines = [_named(answer["message"]), relation]
    if order != "equal":
        lines.append(MEANINGS[order, answer["same_room"]])
    return "\n  ".join(lines)


def _named(message: Record) -> str:
    said_at = text.time_text(message["said_at"], local=sys.stdout.isatty())
    place = f"{text.visible(message['room'])}  {text.visible(message['author'])}"
    return f"{message['dot']}  {said_at}  {place}"


def _dot(words: str) -> str:
    try:
        return str(parse_dot(words))
    except FlcError as error:
        raise argparse.ArgumentTypeError(f"{error}: {error.hint}") from error
