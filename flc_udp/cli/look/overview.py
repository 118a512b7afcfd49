"""`flc rooms`, `members`, `status`, `digest`: what a node knows. `leave`, `forget`: who leaves it.

A picture of the node is printed once, or with `--watch` again every second, until Ctrl-C. The
module `screen` writes a status for people; `--json` prints everything that the daemon tells.
"""

import argparse
import asyncio
import shutil
import sys
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from flc_udp.cli import text
from flc_udp.cli.connect import with_daemon
from flc_udp.cli.conventions import DONE, FAILED
from flc_udp.cli.look.screen import Rates, status_text
from flc_udp.cli.progress import Progress
from flc_udp.client import Client, Record
from flc_udp.model.errors import FlcError
from flc_udp.model.tags import parse_tag
from flc_udp.model.visible import visible

WATCH_S = 1.0
"""The pause between two pictures. It is as long as a probe interval: nothing changes sooner."""

LEAVE_S = 15.0
"""An orderly departure, with its own deadline and a last commit, takes less time than this."""

MEMBER_HEADS = ("NAME", "ID", "STATE", "ADDRESS", "RTT", "HEALTH", "INCARNATION", "SINCE", "TAGS")

LOOK_FIRST = {"dead": 0, "suspect": 1, "alive": 2, "left": 3}
"""The states of a member, the one to look at first with the lowest number."""

Answer = TypeVar("Answer", Record, list[Record])


def show(
    args: argparse.Namespace,
    ask: Callable[[Client], Awaitable[Answer]],
    words: Callable[[Answer], str],
    code: Callable[[Answer], int] = lambda _: DONE,
) -> int | None:
    """Print what the node answers: in `words` for people, with `--json` as lines for scripts.

    With `--watch` it is asked again and again; on a terminal a new picture replaces the last one.
    An empty picture prints nothing. `code` makes the exit code of an answer.
    """
    watch = "watch" in args and args.watch
    is_screen = watch and not args.json and sys.stdout.isatty()

    async def use(client: Client) -> int:
        while True:
            answer = await ask(client)
            shown = json_lines(answer) if args.json else words(answer)
            if is_screen:
                _draw(shown)
            elif shown:
                print("\n" if watch and not args.json else "", shown, sep="", flush=True)
            if not watch:
                return code(answer)
            await asyncio.sleep(WATCH_S)

    return with_daemon(args, use)


def _draw(shown: str) -> None:
    """Replace the picture on the terminal. The first lines say most: they must not scroll away."""
    columns, rows = shutil.get_terminal_size()
    # The cursor ends in a row of its own, if there are several.
    picture = text.fitted(shown, columns, max(rows - 1, 1))
    print(f"\x1b[H\x1b[J{picture}", end="\n" if rows > 1 else "", flush=True)


def json_lines(answer: Record | list[Record]) -> str:
    """Write each record as a line of JSON."""
    records = answer if isinstance(answer, list) else [answer]
    return b"\n".join(map(text.json_line, records)).decode()


def rooms(args: argparse.Namespace) -> int | None:
    """Print the rooms, with the number of messages in each and the time of the last one."""
    return show(args, Client.rooms, _rooms_table)


def _rooms_table(items: list[Record]) -> str:
    rows = [(r["room"], r["messages"], r["logs"], _time(r["last_said_at"])) for r in items]
    return text.table(("ROOM", "MESSAGES", "LOGS", "LAST SAID"), rows) if rows else ""


def add_members(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `flc members`."""
    about = "print only members with this tag; if it is repeated, with all of the tags"
    parser.add_argument("--tag", metavar="KEY=VALUE", action="append", default=[], help=about)
    add_status(parser)  # It has --watch, too.


def members(args: argparse.Namespace) -> int | None:
    """Print the members once, or again and again until Ctrl-C."""
    tags = set(map(parse_tag, args.tag))

    async def ask(client: Client) -> list[Record]:
        return [item for item in await client.members() if tags <= set(item["tags"].items())]

    def table(items: list[Record]) -> str:
        if args.watch:  # Not all may have room on the terminal.
            items = sorted(items, key=_wellness)
        return text.table(MEMBER_HEADS, list(map(_member_row, items)))

    return show(args, ask, table)


def _wellness(item: Record) -> tuple[int, int]:
    """Order members by how well they are, the worst first."""
    return LOOK_FIRST.get(item["state"], 0), -item["health"]


def _member_row(item: Record) -> tuple[object, ...]:
    return (
        item["name"] + ("*" if item["self"] else ""),
        *(item["id"], item["state"], item["address"]),
        None if item["rtt_ms"] is None else f"{item['rtt_ms']:.1f} ms",
        *(item["health"], item["incarnation"], _time(item["since"])),
        ",".join(f"{key}={value}" for key, value in item["tags"].items()) or None,
    )


def _time(rfc3339: str) -> str:
    return text.time_text(rfc3339, local=sys.stdout.isatty())


def add_status(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `flc status`."""
    parser.add_argument("-w", "--watch", action="store_true", help="show it again every second")


def status(args: argparse.Namespace) -> int | None:
    """Print how the node is; return 1 if it is not healthy."""
    progress, rates = Progress(), Rates()

    def screen(record: Record) -> str:
        now_s = time.monotonic()
        # What goes into a pipe is not folded.
        columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        figures, moved = progress.look(record, now_s), rates.look(record, now_s)
        return status_text(record, figures if args.watch else None, moved, columns)

    return show(args, Client.status, screen, lambda record: DONE if record["healthy"] else FAILED)


def digest(args: argparse.Namespace) -> int | None:
    """Print the two roots, and the numbers of logs and messages that they stand for."""
    return show(args, Client.digest, _digest_text)


def _digest_text(record: Record) -> str:
    return "\n".join(f"{name.replace('_', ' '):<14}{value}" for name, value in record.items())


def leave(args: argparse.Namespace) -> int | None:
    """Ask the node to leave, and wait until its daemon has ended the connection."""

    async def use(client: Client) -> None:
        try:
            async with asyncio.timeout(LEAVE_S):
                await client.leave()
        except TimeoutError as error:
            problem = "the node was asked to leave, but its daemon has not ended"
            raise FlcError(problem, "the log of that node says what it waits for") from error

    return with_daemon(args, use)


def add_forget(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `flc forget MEMBER`."""
    parser.add_argument("member", metavar="MEMBER", help="its name, or its id if names repeat")


def forget(args: argparse.Namespace) -> int | None:
    """Print which member the cluster now treats like one that left."""

    async def use(client: Client) -> None:
        answer = await client.request("forget", member=args.member)
        print(visible(f"{answer['name']} ({answer['member']}) counts as left now"))

    return with_daemon(args, use)
