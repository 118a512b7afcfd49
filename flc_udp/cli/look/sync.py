"""`flc sync`: compare histories with others now, and watch this node catch up.

Rules of `--watch`. A node has caught up when nothing is wanted, held back or on its way to the disk
and the roots of those it asked are its own. Where they differ although nothing is wanted, others
are asked again: an exchange was lost, they lack something, or something is being said. After
ROUNDS_MAX such rounds that is taken for the last: nothing more is known to be missing.
"""

from __future__ import annotations

import argparse
import asyncio
import sys

from flc_udp.cli import text
from flc_udp.cli.arguments import seconds
from flc_udp.cli.complaint import complain
from flc_udp.cli.connect import with_daemon
from flc_udp.cli.progress import CatchUpFigures, Progress
from flc_udp.client import Client, Record, compact

LOOK_S = 0.25
"""Between two looks at the status."""

LINE_S = 1.0
"""Between two lines where they are not drawn over each other."""

ROUND_S = 1.0
"""An exchange has this long before others are asked again: a round trip, and what a gap is given
before it is pulled."""

ROUNDS_MAX = 3

SILENT = 3
"""Exit code: nobody has answered."""


def add_sync(parser: argparse.ArgumentParser) -> None:
    """`flc sync [PEER]`."""
    parser.add_argument(
        "peer", metavar="PEER", nargs="?", help="a member's name or id (default: a few that live)"
    )
    parser.add_argument(
        "-w", "--watch", action="store_true", help="until this node has caught up: what is to go"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument(
        "--timeout",
        metavar="SECS",
        type=seconds,
        default=10.0,
        help="with --watch, the longest wait for a first answer (default 10); exit 3 when over",
    )


def sync(args: argparse.Namespace) -> int:
    """Print who is asked; with `--watch` wait until there is nothing more to come."""

    async def use(client: Client) -> int:
        if args.watch:
            return await Watch(client, args).run()
        answer = await client.request("sync", peer=args.peer)
        print(compact(answer) if args.json else _asked_text(answer))
        return 0

    return with_daemon(args, use)


def _asked_text(answer: Record) -> str:
    lines = [f"asked {m['name']} ({m['id']}) at {m['address']}" for m in answer["asked"]]
    count = answer["to_go"]
    lines.append(f"{count} {'message' if count == 1 else 'messages'} known to be missing so far")
    return "\n".join(map(text.visible, lines))


class Watch:
    """One run of `flc sync --watch`."""

    def __init__(self, client: Client, args: argparse.Namespace) -> None:
        self._client, self._args = client, args
        self._progress, self._display = Progress(), _Display(as_json=args.json)
        self._now = asyncio.get_running_loop().time
        self._asked: list[Record] = []
        self._asked_at = 0.0
        self._idle_rounds = 0

    async def run(self) -> int:
        """Until there is nothing more to come; the exit code."""
        await self._ask()
        began, was_answered = self._now(), False
        try:
            while True:
                await asyncio.sleep(LOOK_S)
                status = await self._client.status()
                figures = self._progress.look(status, self._now())
                roots = self._answers(status)
                was_answered = was_answered or bool(roots)
                if not was_answered and self._now() - began >= self._args.timeout:
                    return self._silent()
                is_idle = status["sync"]["idle"]
                if roots and is_idle and (all(roots) or self._is_last_round()):
                    self._display.done(figures)
                    return 0
                self._display.show(figures, self._now())
                if (is_idle or not roots) and self._round_is_over:
                    self._idle_rounds += bool(roots)
                    await self._ask()
        finally:
            self._display.close()

    @property
    def _round_is_over(self) -> bool:
        return self._now() - self._asked_at >= ROUND_S

    def _is_last_round(self) -> bool:
        return self._round_is_over and self._idle_rounds + 1 >= ROUNDS_MAX

    async def _ask(self) -> None:
        answer = await self._client.request("sync", peer=self._args.peer)
        self._asked, self._asked_at = answer["asked"], self._now()

    def _answers(self, status: Record) -> list[bool]:
        """Of each that has answered this sync, whether its root is this node's."""
        agrees = [status["sync"]["agrees"].get(member["id"]) for member in self._asked]
        return [bool(one) for one in agrees if one is not None]

    def _silent(self) -> int:
        self._display.close()
        names = ", ".join(member["name"] for member in self._asked)
        complain(
            f"no answer from {names} in {self._args.timeout:g} s",
            "see `flc members`; the node itself goes on comparing",
        )
        return SILENT


class _Display:
    """Figures as they change: on a terminal one line drawn over, else a line every LINE_S."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._is_live = not as_json and sys.stdout.isatty()
        self._is_open = False
        self._next_at = float("-inf")

    def show(self, figures: CatchUpFigures, now: float) -> None:
        """Where the node stands at `now` seconds."""
        if self._is_live:
            self._is_open = True
            print(f"\r\x1b[K{figures.text()}", end="", flush=True)
        elif now >= self._next_at:
            self._next_at = now + LINE_S
            print(compact(figures.record()) if self._as_json else figures.text(), flush=True)

    def done(self, figures: CatchUpFigures) -> None:
        """The last line."""
        if self._as_json:
            print(compact({**figures.record(), "caught_up": True}))
            return
        print("\r\x1b[K" if self._is_open else "", end="")
        self._is_open = False
        noun = "message" if figures.messages == 1 else "messages"
        print(f"caught up: {figures.messages} {noun}")

    def close(self) -> None:
        """Leave the terminal on a line of its own, however it ends."""
        if self._is_open:
            self._is_open = False
            print(flush=True)
