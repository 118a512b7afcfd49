"""Prints a picture of a node: once, or with `--watch` again every second, until Ctrl-C."""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
from collections.abc import Awaitable, Callable

from flc_udp.cli.complaint import DONE
from flc_udp.cli.connect import with_daemon
from flc_udp.client import Client

WATCH_S = 1.0
"""The pause between two pictures. It is as long as a probe interval: nothing changes sooner."""


def add_watch(parser: argparse.ArgumentParser) -> None:
    """Add `--watch`."""
    parser.add_argument("-w", "--watch", action="store_true", help="show it again every second")


def show(
    args: argparse.Namespace, picture: Callable[[Client], Awaitable[str]], *, watch: bool = False
) -> int:
    """Print what `picture` makes of the node; the exit code tells whether there is a node.

    On a terminal a new picture replaces the last one. An empty picture prints nothing.
    """

    async def use(client: Client) -> int:
        while True:
            shown = await picture(client)
            if watch and not args.json:
                print("\x1b[H\x1b[J" if sys.stdout.isatty() else "\n", end="")
            if shown:
                print(shown, flush=True)
            if not watch:
                return DONE
            await asyncio.sleep(WATCH_S)

    return with_daemon(args, use)


def screen_size() -> tuple[int | None, int | None]:
    """Return the columns and rows of the terminal; a pipe has none, so nothing is folded or cut."""
    return shutil.get_terminal_size() if sys.stdout.isatty() else (None, None)
