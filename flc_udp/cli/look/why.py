"""`flc why`: prints what a message comes after, or which of two messages comes first.

Rules. The daemon decides the order, by causality alone; this module puts it into words. Less is
known between two rooms than within one: there `concurrent` means only that nothing orders the two.
"""

import argparse
import sys

from flc_udp.cli import text
from flc_udp.cli.look.overview import show
from flc_udp.client import Client, Record
from flc_udp.model.dots import parse_dot
from flc_udp.model.errors import FlcError
from flc_udp.model.visible import visible

RELATIONS = {
    "before": "comes before {other}",
    "after": "comes after {other}",
    "equal": "is one and the same message",
    "concurrent": "is concurrent with {other}",
}

CERTAIN = "in two rooms, but the order within logs makes this certain"
MEANINGS = {
    ("before", True): "the node that said the second one held the first",
    ("after", True): "the node that said the first one held the second",
    ("before", False): CERTAIN,
    ("after", False): CERTAIN,
    ("concurrent", True): "neither node held the other's message when it said its own",
    ("concurrent", False): (
        "in two rooms, between which only the order within each log is known:"
        " nothing orders these two, and it is not known who had read what"
    ),
}
"""What each order means; the key also tells whether both messages are in one room."""


def add_why(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `flc why DOT [DOT]`."""
    flag = parser.add_argument
    flag("dot", metavar="DOT", type=_dot, help="a message, as `flc say` prints it")
    flag("other", metavar="DOT", type=_dot, nargs="?", help="the message to compare it with")


def why(args: argparse.Namespace) -> int | None:
    """Print the causes and clock of one message, or the order of two messages."""

    async def ask(client: Client) -> Record:
        answer = await client.why(args.dot, args.other)
        del answer["end"]  # It only marks the end of the answer.
        return answer

    return show(args, ask, _alone_text if args.other is None else _together_text)


def _alone_text(answer: Record) -> str:
    message = answer["message"]
    lines = [f"{_named(message)}: {text.body_text(message)}"]
    lines += [f"  cause     {_named(cause)}" for cause in answer["causes"]]
    if not answer["causes"]:
        lines.append("  cause     none: its node held nothing of the room from other logs")
    if answer["previous"]:
        lines.append(f"  previous  {answer['previous']} in its log, in any room")
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
    place = f"{visible(message['room'])}  {visible(message['author'])}"
    return f"{message['dot']}  {said_at}  {place}"


def _dot(words: str) -> str:
    try:
        return str(parse_dot(words))
    except FlcError as error:
        raise argparse.ArgumentTypeError(f"{error}: {error.hint}") from error
