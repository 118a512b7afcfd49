"""`flc sync`: compares histories with others now, and can watch this node catch up.

Rules of `--watch`. A node has caught up when no message is wanted, held back or on its way to the
disk, and all asked members that answered have the same root. If roots differ although nothing is
wanted, the node asks again, because an exchange was lost, the others lack something, or somebody is
saying something. After ROUNDS_MAX such rounds the watch ends, because nothing is known to be
missing.
"""

import argparse
import asyncio
import sys

from flc_udp.cli import text
from flc_udp.cli.connect import with_daemon
from flc_udp.cli.conventions import DONE, SILENT, complain, seconds
from flc_udp.cli.look.overview import show
from flc_udp.cli.progress import CatchUpFigures, Progress
from flc_udp.client import Client, Record
from flc_udp.model.visible import visible

LOOK_S = 0.25
"""The pause between two looks at the status."""

LINE_S = 1.0
"""The pause between two lines, where a new line does not replace the last one."""

ROUND_S = 1.0
"""The node asks again only after this time. An exchange needs a round trip, and then a gap waits a
little before it is pulled."""

ROUNDS_MAX = 3
"""After this many rounds that found nothing, differing roots no longer keep the watch going."""


def add_sync(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `flc sync [PEER]`."""
    flag = parser.add_argument
    peer = "a member's name or id (default: a few live ones)"
    flag("peer", metavar="PEER", nargs="?", help=peer)
    flag("-w", "--watch", action="store_true", help="show progress until this node has caught up")
    longest = "with --watch, exit 3 if no answer comes in this time (default 10)"
    flag("--timeout", metavar="SECS", type=seconds, default=10.0, help=longest)


def sync(args: argparse.Namespace) -> int | None:
    """Print who is asked; with `--watch` wait until nothing more will come."""
    if args.watch:
        return with_daemon(args, lambda client: Watch(client, args).run())
    return show(args, lambda client: client.request("sync", peer=args.peer), _asked_text)


def _asked_text(answer: Record) -> str:
    lines = [f"asked {m['name']} ({m['id']}) at {m['address']}" for m in answer["asked"]]
    lines.append(f"{text.count_text(answer['to_go'], 'message')} known to be missing so far")
    return "\n".join(map(visible, lines))


class Watch:
    """One run of `flc sync --watch`."""

    def __init__(self, client: Client, args: argparse.Namespace) -> None:
        self._client, self._args, self._progress = client, args, Progress()
        self._now_s = asyncio.get_running_loop().time
        self._is_terminal = not args.json and sys.stdout.isatty()
        self._next_line_at_s = 0.0

    async def run(self) -> int:
        """Watch until nothing more will come, and return the exit code."""
        await self._ask()
        try:
            is_answered = await self._watch()
        finally:
            if self._is_terminal:
                print(flush=True)
        if is_answered:
            return DONE
        names = ", ".join(member["name"] for member in self._asked)
        hint = "see `flc members`; the node itself goes on comparing histories"
        complain(f"no answer from {names} in {self._args.timeout:g} s", hint)
        return SILENT

    async def _watch(self) -> bool:
        """Show the progress to its end; return False if nobody answers in time."""
        began_s, was_answered, idle_rounds = self._asked_at_s, False, 0
        while True:
            await asyncio.sleep(LOOK_S)
            status, now_s = await self._client.status(), self._now_s()
            figures = self._progress.look(status, now_s)
            agrees = [status["sync"]["agrees"].get(member["id"]) for member in self._asked]
            # For each member that has answered this sync: whether it has this node's root.
            roots = [agreed for agreed in agrees if agreed is not None]
            was_answered = was_answered or bool(roots)
            if not was_answered and now_s - began_s >= self._args.timeout:
                return False
            is_idle, round_is_over = status["sync"]["idle"], now_s - self._asked_at_s >= ROUND_S
            idle_rounds += bool(roots and is_idle and round_is_over)
            if roots and is_idle and (all(roots) or idle_rounds >= ROUNDS_MAX):
                self._show(figures, caught_up=True)
                return True
            self._show(figures)
            if (is_idle or not roots) and round_is_over:
                await self._ask()

    async def _ask(self) -> None:
        answer = await self._client.request("sync", peer=self._args.peer)
        self._asked, self._asked_at_s = answer["asked"], self._now_s()

    def _show(self, figures: CatchUpFigures, *, caught_up: bool = False) -> None:
        """Draw over the last line of a terminal; elsewhere print a new line, if one is due."""
        words, now_s = figures.text(), self._now_s()
        if self._args.json:
            record = figures.record() | ({"caught_up": True} if caught_up else {})
            words = text.json_line(record).decode()
        elif caught_up:
            words = f"caught up: {text.count_text(figures.messages, 'message')}"
        if self._is_terminal:
            print(f"\r\x1b[K{words}", end="", flush=True)
        elif caught_up or now_s >= self._next_line_at_s:
            self._next_line_at_s = now_s + LINE_S
            print(words, flush=True)
