"""`flc log`: the converged history, the same lines in the same order on every converged node.

Rules. A line is printed as it comes, so a million of them need no memory. With `--json` a line
depends on the message alone: its keys stand in the order of `JSON_KEYS`.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from flc_udp.cli import text
from flc_udp.cli.arguments import whole
from flc_udp.cli.complaint import DONE
from flc_udp.cli.connect import with_daemon
from flc_udp.client import Client, Record, Stream, compact
from flc_udp.model.errors import FlcError

JSON_KEYS = ("dot", "log", "seq", "room", "author", "body", "said_at", "stamp", "causes")
"""The keys of a message as JSON."""

AGO_UNITS_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def add_log(parser: argparse.ArgumentParser) -> None:
    """`flc log [ROOM]`."""
    flag = parser.add_argument
    flag("room", metavar="ROOM", nargs="?", help="default: all rooms")
    flag("-n", metavar="N", type=whole, default=20, help="the last N (default 20), 0 for all")
    flag("-f", "--follow", action="store_true", help="then print what is new")
    forms = "2026-01-31, 2026-01-31T12:00Z, or 2h for two hours ago"
    flag("--since", metavar="TIME", type=since, help=forms)
    flag("--json", action="store_true", help="one JSON object a line, exact")
    flag("--clock", action="store_true", help="each with its vector clock")
    flag("--positions", action="store_true", help="each with its position here")


def log(args: argparse.Namespace) -> int:
    """Print the history, and with `-f` what follows."""
    if args.follow and args.clock:
        raise FlcError("--clock is for history, not for what is new", "leave out -f or --clock")

    async def use(client: Client) -> int:
        options = {"since": args.since, "clock": args.clock, "positions": args.positions}
        history = client.stream("log", room=args.room, n=args.n, **options)
        await _print_all(history, args)
        if args.follow:
            position = history.end["position"]
            await _print_all(client.stream("follow", room=args.room, **{"from": position}), args)
        return DONE

    return with_daemon(args, use)


async def _print_all(stream: Stream, args: argparse.Namespace) -> None:
    render = _renderer(args)
    while batch := await stream.batch():
        for record in batch:
            item = record.get("item", {})
            if "message" in record:  # It is a record of a follow.
                item = {**record["message"], "position": record["position"]}
            if "dot" in item:
                sys.stdout.buffer.write(render(item))
            elif "floor" in item:
                sys.stdout.buffer.flush()
                _mark_floor(item["floor"])
        sys.stdout.buffer.flush()


def _mark_floor(time: str) -> None:
    """Say where history begins: on stderr, because the lines of stdout are messages alone."""
    when = text.time_text(time, local=sys.stderr.isatty())
    print(f"-- said before {when}: kept no more, or not by all --", file=sys.stderr, flush=True)


def exact(message: Record) -> Record:
    """Return the message alone, its keys in their order."""
    return {key: message[key] for key in JSON_KEYS if key in message}


def json_line(message: Record, **beside: object) -> bytes:
    """Return the message as a line of JSON, and behind its keys what else is known of it."""
    return compact({**exact(message), **beside}).encode() + b"\n"


def _renderer(args: argparse.Namespace) -> Callable[[Record], bytes]:
    """Choose how a message becomes one line, or two with a clock."""
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
            head += f"  {text.visible(message['room'])}"
        author = text.author_text(message["author"], colour=colour)
        # It is one line in a pipe, too: a body with a newline must not look like two messages.
        lines = f"{head}  {author}: {text.body_text(message)}\n"
        if clock:
            lines += f"    clock {text.clock_text(message['clock'])}\n"
        return lines.encode()

    return line


def since(words: str) -> str:
    """Return as RFC 3339 in UTC a date, a time (local without a zone), or a span ago as 2h."""
    if ago := re.fullmatch(r"(\d{1,9})([smhd])", words):
        now = datetime.now(UTC)
        ago_s = min(int(ago[1]) * AGO_UNITS_S[ago[2]], now.timestamp())
        return text.rfc3339(now - timedelta(seconds=ago_s))
    try:
        return text.rfc3339(datetime.fromisoformat(words))
    except (ValueError, OverflowError) as error:
        problem = f"{words!r} is no time; 2h, 2026-11-23 and 2026-11-23T03:22 are"
        raise argparse.ArgumentTypeError(problem) from error
