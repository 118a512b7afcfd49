"""`flc log`: prints the history, with the same lines in the same order on every converged node.

Rules. Each line is printed as it comes, so a million lines need no memory. With `--json` a line
depends on the message alone: its keys stand in the order of `JSON_KEYS`.
"""

import argparse
import sys
from collections.abc import Callable

from flc_udp.cli import pipes, text
from flc_udp.cli.connect import with_daemon
from flc_udp.cli.conventions import whole
from flc_udp.cli.pipes import STDOUT
from flc_udp.cli.times import FORMS, let_begin_with_minus, moment
from flc_udp.client import Client, Record, Stream
from flc_udp.model.errors import FlcError
from flc_udp.model.visible import visible

JSON_KEYS = ("dot", "log", "seq", "room", "author", "body", "said_at", "stamp", "causes")
"""A message as JSON has these keys, in this order."""

LAST = 20
"""So many messages are printed where nothing else is said."""


def add_log(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `flc log [ROOM]`."""
    flag = parser.add_argument
    flag("room", metavar="ROOM", nargs="?", help="print only this room (default: all rooms)")
    last = f"print the last N messages (default {LAST}, with --since all); 0 prints all"
    flag("-n", metavar="N", type=whole, help=last)
    flag("-f", "--follow", action="store_true", help="then print new messages as they come")
    flag("--since", metavar="TIME", type=moment, help=f"print what was said since then: {FORMS}")
    let_begin_with_minus(parser)
    flag("--clock", action="store_true", help="add the vector clock of each message")
    flag("--positions", action="store_true", help="add the position of each message on this node")


def log(args: argparse.Namespace) -> int | None:
    """Print the history, and with `-f` also the messages that come later."""
    if args.follow and args.clock:
        problem = "--clock works only for history, but -f also prints new messages"
        raise FlcError(problem, "leave out -f or --clock")

    async def use(client: Client) -> None:
        options = {"since": args.since, "clock": args.clock, "positions": args.positions}
        last = (0 if args.since else LAST) if args.n is None else args.n
        history = client.stream("log", room=args.room, n=last, **options)
        await _print_all(history, args)
        left_out = _left_out(history.end.get("left_out", 0))
        if left_out is not None and not args.follow:
            raise left_out
        if args.follow:
            if left_out is not None:
                print(f"-- {left_out} --", file=sys.stderr, flush=True)
            position = history.end["position"]
            follow = client.stream("follow", room=args.room, **{"from": position})
            async with pipes.first_of(_print_all(follow, args), pipes.reader_gone(STDOUT)):
                return  # The daemon ended the follow.

    return with_daemon(args, use)


async def _print_all(stream: Stream, args: argparse.Namespace) -> None:
    render = _renderer(args)
    while batch := await stream.batch():
        for record in batch:
            item = record.get("item", {})
            if "message" in record:  # This record comes from a follow.
                item = {**record["message"], "position": record["position"]}
            if "dot" in item:
                sys.stdout.buffer.write(render(item))
            elif "floor" in item:
                sys.stdout.buffer.flush()
                _mark_floor(item["floor"])
        sys.stdout.buffer.flush()


def _mark_floor(time: str) -> None:
    """Print where history begins. It goes to stderr, because stdout holds only messages."""
    when = text.time_text(time, local=sys.stderr.isatty())
    line = f"-- messages from before {when} are no longer kept, or not by all nodes --"
    print(line, file=sys.stderr, flush=True)


def _left_out(blocks: int) -> FlcError | None:
    """What is told where blocks of the history could not be printed."""
    if not blocks:
        return None
    return FlcError(
        f"left out, because they have changed on the disk: {text.count_text(blocks, 'block')}",
        "other nodes are asked for them: print it again when `flc status` names none; "
        "`flc fsck` tells which they are",
    )


def json_line(message: Record, **beside: object) -> bytes:
    """Return the message's own keys as a line of JSON; the keys of `beside` stand behind them."""
    own = {key: message[key] for key in JSON_KEYS if key in message}
    return text.json_line({**own, **beside}) + b"\n"


def _renderer(args: argparse.Namespace) -> Callable[[Record], bytes]:
    """Return the function that turns a message into one line, or into two with a clock."""
    local, colour = sys.stdout.isatty(), text.wants_colour()

    def line(message: Record) -> bytes:
        position = {"position": message["position"]} if args.positions else {}
        clock = {"clock": dict(sorted(message["clock"].items()))} if args.clock else {}
        if args.json:
            return json_line(message, **position, **clock)
        head = text.time_text(message["said_at"], local=local)
        if position:
            head = f"{message['position']:>8}  {head}"
        if args.room is None:
            head += f"  {visible(message['room'])}"
        author = text.author_text(message["author"], colour=colour)
        # A pipe gets one line, too: a body with a newline must not look like two messages.
        lines = f"{head}  {author}: {text.body_text(message)}\n"
        if clock:
            lines += f"    clock {text.clock_text(message['clock'])}\n"
        return lines.encode()

    return line
