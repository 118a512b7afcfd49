"""`flc status`, `digest`, `leave` and `forget`: how one node is, and who leaves in order.

What people see of a status is `screen`; `--json` passes everything on.
"""

from __future__ import annotations

import argparse
import asyncio

from flc_udp.cli import text
from flc_udp.cli.connect import with_daemon
from flc_udp.cli.look.screen import Rates, status_text
from flc_udp.cli.progress import Progress
from flc_udp.client import Client, Record, compact
from flc_udp.model.errors import FlcError

WATCH_SECONDS = 1.0
"""Between two pictures of `--watch`."""

LEAVE_SECONDS = 15.0
"""The longest an orderly departure takes: its own deadline and a last commit."""

DIGEST_KEYS = ("root", "members_root", "logs", "messages")


def add_status(parser: argparse.ArgumentParser) -> None:
    """`flc status`."""
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("-w", "--watch", action="store_true", help="again every second")


def status(args: argparse.Namespace) -> int:
    """Print how the node is; exit 1 if it is not healthy."""

    async def use(client: Client) -> int:
        progress, rates = Progress(), Rates()
        while True:
            record, now = await client.status(), asyncio.get_running_loop().time()
            figures, moved = progress.look(record, now), rates.look(record, now)
            width, rows = text.screen_size()
            shown = status_text(record, figures if args.watch else None, moved, width)
            if args.watch and not args.json:
                print(text.clear_screen(), end="")
                # The first lines say most: they do not scroll away.
                shown = "\n".join(shown.splitlines()[: rows and rows - 1])
            print(compact(record) if args.json else shown, flush=True)
            if not args.watch:
                return 0 if record["healthy"] else 1
            await asyncio.sleep(WATCH_SECONDS)

    return with_daemon(args, use)


def add_digest(parser: argparse.ArgumentParser) -> None:
    """`flc digest`."""
    parser.add_argument("--json", action="store_true", help="one JSON object")


def digest(args: argparse.Namespace) -> int:
    """Print the two roots and what they are made of."""

    async def use(client: Client) -> int:
        answer = await client.digest()
        known = {key: answer[key] for key in DIGEST_KEYS}
        print(compact(known) if args.json else _digest_text(known))
        return 0

    return with_daemon(args, use)


def _digest_text(digest: Record) -> str:
    return "\n".join(f"{name.replace('_', ' '):<14}{value}" for name, value in digest.items())


def add_leave(parser: argparse.ArgumentParser) -> None:
    """It has no arguments of its own."""


def leave(args: argparse.Namespace) -> int:
    """Ask the node to leave, and wait until its daemon has closed the connection."""

    async def use(client: Client) -> int:
        try:
            async with asyncio.timeout(LEAVE_SECONDS):
                await client.leave()
        except TimeoutError as error:
            raise FlcError(
                "the node was asked to leave and its daemon has not ended",
                "its own log says what it waits for",
            ) from error
        return 0

    return with_daemon(args, use)


def add_forget(parser: argparse.ArgumentParser) -> None:
    """`flc forget`."""
    parser.add_argument("member", metavar="MEMBER", help="its name, or its id where names repeat")


def forget(args: argparse.Namespace) -> int:
    """Print whom the cluster now holds for left."""

    async def use(client: Client) -> int:
        answer = await client.request("forget", member=args.member)
        print(text.visible(f"{answer['name']} ({answer['member']}) has left, it is said"))
        return 0

    return with_daemon(args, use)
