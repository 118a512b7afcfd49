"""`flc log`: the converged history, the same lines in the same order on every converged node.

Rules. A line is printed as it comes, so a million of them need no memory. With `--json` a line
depends on nothing but the message: the keys are put in the order of `JSON_KEYS` here.
"""

from __future__ import annotations

import argparse
import re
import sys
from datetime import UTC, datetime, timedelta

from flc_udp.cli import text
from flc_udp.cli.arguments import whole
from flc_udp.cli.connect import with_daemon
from flc_udp.client import Client, Record, Stream, compact
from flc_udp.model.errors import FlcError

JSON_KEYS = ("dot", "log", "seq", "room", "author", "body", "said_at", "stamp", "causes")
"""A message as JSON."""

AGO_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def add_log(parser: argparse.ArgumentParser) -> None:
    """`flc log [ROOM]`."""
    parser.add_argument("room", metavar="ROOM", nargs="?", help="default: all rooms")
    parser.add_argument(
        "-n", metavar="N", type=whole, default=20, help="the last N (default 20), 0 for all"
    )
    parser.add_argument("-f", "--follow", action="store_true", help="then print what is new")
    parser.add_argument(
        "--since", metavar="TIME", type=since, help="2026-01-31, 2026-01-31T12:00Z, or 2h ago as 2h"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line, exact")
    parser.add_argument("--clock", action="store_true", help="each with its vector clock")
    parser.add_argument("--positions", action="store_true", help="each with its position here")


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
        return 0

    return with_daemon(args, use)


async def _print_all(stream: Stream, args: argparse.Namespace) -> None:
    render = Renderer(args)
    while batch := await stream.batch():
        lines: list[bytes] = []
        for record in batch:
            if "floor" in record.get("item", {}):
                _write(lines)
                _mark_floor(record["item"]["floor"])
            elif message := message_of(record):
                lines.append(render.line(message))
        _write(lines)


def _write(lines: list[bytes]) -> None:
    sys.stdout.buffer.write(b"".join(lines))
    sys.stdout.buffer.flush()
    lines.clear()


def _mark_floor(time: str) -> None:
    """Where history begins, beside the lines and not among them: these are messages, and only."""
    when = text.time_text(time, local=sys.stderr.isatty())
    print(f"-- said before {when}: kept no more, or not by all --", file=sys.stderr, flush=True)


def message_of(record: Record) -> Record | None:
    """The message of a line of history or of a follow, with its position where it has one."""
    if "item" in record:
        item: Record = record["item"]
        return item
    if "message" in record:
        return {**record["message"], "position": record["position"]}
    return None


def exact(message: Record) -> Record:
    """The message alone, its keys in their order."""
    return {key: message[key] for key in JSON_KEYS if key in message}


class Renderer:
    """Turns messages into lines, as the options and the place they go to ask for."""

    def __init__(self, args: argparse.Namespace) -> None:
        self._options = args
        self._terminal = sys.stdout.isatty()
        self._colour = text.wants_colour()

    def line(self, message: Record) -> bytes:
        """One line, or two with a clock, newline included."""
        return self._json(message) if self._options.json else self._human(message)

    def _json(self, message: Record) -> bytes:
        fields = exact(message)
        if self._options.positions:
            fields["position"] = message["position"]
        if self._options.clock:
            fields["clock"] = dict(sorted(message["clock"].items()))
        return compact(fields).encode() + b"\n"

    def _human(self, message: Record) -> bytes:
        head = text.time_text(message["said_at"], local=self._terminal)
        if self._options.positions:
            head = f"{message['position']:>8}  {head}"
        if self._options.room is None:
            head += f"  {text.visible(message['room'])}"
        head += f"  {text.author_text(message['author'], colour=self._colour)}: "
        # One line a message, in a pipe too: a body with a newline must not pass for two.
        body = text.body_text(message).encode()
        return head.encode() + body + b"\n" + self._clock(message)

    def _clock(self, message: Record) -> bytes:
        if not self._options.clock:
            return b""
        clock = " ".join(f"{log}:{seq}" for log, seq in sorted(message["clock"].items()))
        return f"    clock {clock}\n".encode()


def since(words: str) -> str:
    """RFC 3339 in UTC of a date, a time (local if it names no zone) or a span ago such as 2h."""
    if ago := re.fullmatch(r"(\d{1,9})([smhd])", words):
        now = datetime.now(UTC)
        since_then = now - datetime.fromtimestamp(0, UTC)
        return text.rfc3339(now - min(timedelta(**{AGO_UNITS[ago[2]]: int(ago[1])}), since_then))
    try:
        return text.rfc3339(datetime.fromisoformat(words))
    except (ValueError, OverflowError) as error:
        raise argparse.ArgumentTypeError(
            f"{words!r} is no time; 2h, 2026-11-23 and 2026-11-23T03:22 are"
        ) from error
