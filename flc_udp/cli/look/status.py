"""`flc status`, `digest`, `leave` and `forget`: tell how a node is, and make members leave.

The module `screen` writes a status for people; `--json` prints everything that the daemon tells.
"""

from __future__ import annotations

import argparse
import asyncio

from flc_udp.cli import text
from flc_udp.cli.complaint import DONE, FAILED
from flc_udp.cli.connect import with_daemon
from flc_udp.cli.look.pictures import add_watch, screen_size, show
from flc_udp.cli.look.screen import Rates, status_text
from flc_udp.cli.progress import Progress
from flc_udp.client import Client, compact
from flc_udp.model.errors import FlcError

LEAVE_S = 15.0
"""An orderly departure, with its own deadline and a last commit, takes less time than this."""


def add_status(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `flc status`."""
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_watch(parser)


def status(args: argparse.Namespace) -> int:
    """Print how the node is; return 1 if it is not healthy."""
    progress, rates, is_healthy = Progress(), Rates(), False

    async def picture(client: Client) -> str:
        nonlocal is_healthy
        record, now_s = await client.status(), asyncio.get_running_loop().time()
        is_healthy = record["healthy"]
        if args.json:
            return compact(record)
        columns, rows = screen_size()
        figures, moved = progress.look(record, now_s), rates.look(record, now_s)
        shown = status_text(record, figures if args.watch else None, moved, columns)
        # The first lines are the most important, so they must not scroll off a terminal.
        return "\n".join(shown.splitlines()[: rows - 1]) if args.watch and rows else shown

    code = show(args, picture, watch=args.watch)
    return code if is_healthy else code or FAILED


def add_digest(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `flc digest`."""
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def digest(args: argparse.Namespace) -> int:
    """Print the two roots, and the numbers of logs and messages that they stand for."""

    async def picture(client: Client) -> str:
        record = await client.digest()
        lines = [f"{name.replace('_', ' '):<14}{value}" for name, value in record.items()]
        return compact(record) if args.json else "\n".join(lines)

    return show(args, picture)


def add_leave(parser: argparse.ArgumentParser) -> None:
    """Add nothing: `flc leave` has no arguments of its own."""


def leave(args: argparse.Namespace) -> int:
    """Ask the node to leave, and wait until its daemon has ended the connection."""

    async def use(client: Client) -> int:
        try:
            async with asyncio.timeout(LEAVE_S):
                await client.leave()
        except TimeoutError as error:
            problem = "the node was asked to leave, but its daemon has not ended"
            raise FlcError(problem, "the log of that node says what it waits for") from error
        return DONE

    return with_daemon(args, use)


def add_forget(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `flc forget MEMBER`."""
    parser.add_argument("member", metavar="MEMBER", help="its name, or its id if names repeat")


def forget(args: argparse.Namespace) -> int:
    """Print which member the cluster now treats like one that left."""

    async def picture(client: Client) -> str:
        answer = await client.request("forget", member=args.member)
        return text.visible(f"{answer['name']} ({answer['member']}) counts as left now")

    return show(args, picture)
