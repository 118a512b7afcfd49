"""`flc nc`: netcat for a room. Lines of stdin are said; what others say is printed.

Rules. In a pipe what comes out is what was piped in elsewhere, byte for byte, though the daemon is
restarted meanwhile (`lasting`). Says are pipelined in a bounded window, and stdin is read on only
while stdout accepts, so neither side makes memory grow. Nothing is torn: who quits waits until what
was said is answered and what is being printed is out.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
from collections.abc import Callable
from contextlib import suppress

from flc_udp.cli import pipes, text
from flc_udp.cli.arguments import positive, seconds
from flc_udp.cli.complaint import complain
from flc_udp.cli.connect import with_daemon
from flc_udp.cli.look.log import exact
from flc_udp.cli.progress import to_go_text
from flc_udp.cli.talk.reconnecting import RETRY_S, Lasting
from flc_udp.cli.talk.say import add_author, decoded
from flc_udp.client import Client, DaemonGoneError, Record, Said, compact
from flc_udp.config import BODY_BYTES_MAX, CATCHING_UP_MESSAGES
from flc_udp.model.errors import FlcError

STDIN, STDOUT = 0, 1

FAILED, SILENT = 1, 3

LOOKS = 5
"""So often the node is asked what it lacks, once it has told that it lacks nothing: one that has
just started learns that in its first seconds."""

LOOK_S = 1.0
"""Between two looks."""


def add_nc(parser: argparse.ArgumentParser) -> None:
    """`flc nc [ROOM]`."""
    parser.add_argument("room", metavar="ROOM", nargs="?", default="lobby", help="default lobby")
    add_author(parser)
    flag = parser.add_argument
    flag("-d", dest="deaf", action="store_true", help="read nothing from stdin")
    flag("-N", dest="quits", action="store_true", help="quit after end of input, once all is kept")
    flag("-w", dest="silence", metavar="SECS", type=seconds, help="quit after SECS of silence")
    flag("-c", dest="count", metavar="COUNT", type=positive, help="quit after COUNT messages")
    flag("-v", dest="verbose", action="store_true", help="say when it listens, and from where")
    flag("--json", action="store_true", help="messages as JSON, exact, with their positions")
    start = parser.add_mutually_exclusive_group()
    start.add_argument(
        "--from",
        dest="start",
        metavar="POSITION[@DOT]",
        type=_start,
        default={},
        help="begin after that position; DOT is what stood there",
    )
    start.add_argument("--last", metavar="N", type=positive, help="begin with the last N messages")


def nc(args: argparse.Namespace) -> int:
    """Join stdin and stdout to a room until there is a reason to quit."""

    async def use(client: Client) -> int:
        return await Conversation(client, args).run()

    return with_daemon(args, use)


class Conversation:
    """One run of `flc nc`: what is said, what is shown, and the reasons to quit."""

    def __init__(self, client: Client, args: argparse.Namespace) -> None:
        self._args = args
        start = {"last": args.last} if args.last else args.start
        retry_s = RETRY_S if args.silence is None else min(args.silence, RETRY_S)
        self._line = Lasting(client, args.room, args.author, start, retry_s)
        self._line.on_loss = self._lost
        self._render = renderer(args)
        self._accepted, self._caught_up = asyncio.Event(), asyncio.Event()
        self._flowing = asyncio.Event()  # clear while stdout does not accept
        self._flowing.set()
        self._writing: asyncio.Task[None] | None = None
        self._said = self._answered = self._refused = self._shown = 0
        self._looks_left = LOOKS
        self._code_in_silence = SILENT if args.count else 0
        self._code = 0
        self._touch()

    async def run(self) -> int:
        """Until one of the reasons to quit; the exit code."""
        reasons = [self._show(), self._speak(), self._silence(), pipes.reader_gone(STDOUT)]
        tasks = [asyncio.create_task(reason) for reason in reasons]
        telling = asyncio.create_task(self._tell_progress())
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            await self._finish()
        except DaemonGoneError as error:
            raise self._unanswered(error) from error
        finally:
            for task in (*tasks, telling):
                task.cancel()
            await asyncio.gather(*tasks, telling, return_exceptions=True)
            await self._line.close()
        return FAILED if self._refused else self._code

    async def _show(self) -> None:
        """Print what others say, until there were enough of them."""
        async for batch in self._line.batches():
            self._accepted.set()
            await self._print([record for record in batch if "message" in record])
            for record in batch:
                if record.get("caught_up"):
                    self._ready(record["position"])
            if self._shown == self._args.count:
                return

    async def _print(self, records: list[Record]) -> None:
        if self._args.count is not None:
            records = records[: self._args.count - self._shown]
        if not records:
            return
        lines = b"".join(map(self._render, records))
        self._flowing.clear()
        self._writing = asyncio.create_task(pipes.in_thread(lambda: pipes.write_all(STDOUT, lines)))
        await asyncio.shield(self._writing)
        self._flowing.set()
        self._shown += len(records)
        self._touch()

    def _ready(self, position: int) -> None:
        self._caught_up.set()
        self._touch()
        if self._args.verbose:
            print(f"listening at {position}", file=sys.stderr, flush=True)

    async def _tell_progress(self) -> None:
        """Say of a node that is catching up that it is: what is said elsewhere comes late."""
        told = False
        while True:
            await self._flowing.wait()  # An answer is read with all that comes before it.
            if self._looks_left:
                self._looks_left -= 1
                with suppress(FlcError):  # Whoever follows finds out.
                    told = self._tell(await self._line.to_go(), told=told)
            await asyncio.sleep(LOOK_S)

    def _tell(self, to_go: int, *, told: bool) -> bool:
        """Whether the last word on standard error is that it is catching up."""
        is_behind = to_go >= (1 if told else CATCHING_UP_MESSAGES)
        if is_behind:
            self._looks_left = LOOKS
        words = f"catching up, {to_go_text(to_go)}" if is_behind else "caught up"
        if is_behind != told or (is_behind and self._is_talkative):
            print(words, file=sys.stderr, flush=True)
        return is_behind

    @property
    def _is_talkative(self) -> bool:
        return self._args.verbose or sys.stderr.isatty()

    async def _speak(self) -> None:
        """Say what stdin has; with -N that is a reason to quit once all is durable."""
        await self._accepted.wait()
        if not self._args.deaf:
            async for lines in pipes.line_batches(STDIN, BODY_BYTES_MAX):
                for line in lines:
                    await self._flowing.wait()
                    await self._say(line)
                    await self._line.drain()
            if self._args.quits:
                await self._caught_up.wait()
                return
        await asyncio.Event().wait()

    async def _say(self, line: bytes) -> None:
        self._said += 1
        number = self._said
        if len(line) > BODY_BYTES_MAX:
            self._refuse(number, f"has more than {BODY_BYTES_MAX} bytes", "no node accepts it")
            return
        await self._line.say(decoded(line), lambda said: self._heard(number, said))

    def _heard(self, number: int, said: asyncio.Future[Said]) -> None:
        self._touch()
        error = said.exception()
        if isinstance(error, FlcError):
            self._refuse(number, f"was refused: {error}", error.hint)
        else:
            self._answered += 1

    def _refuse(self, number: int, problem: str, hint: str) -> None:
        self._answered += 1
        self._refused += 1
        complain(f"line {number} {problem}", hint)

    async def _silence(self) -> None:
        """Wait for -w; what is still asked for or being printed is no silence."""
        if self._args.silence is None:
            await asyncio.Event().wait()
        loop = asyncio.get_running_loop()
        while True:
            left = self._touched + self._args.silence - loop.time()
            busy = self._answered < self._said or not self._flowing.is_set()
            if left <= 0 and not busy and self._caught_up.is_set():
                self._code = self._code_in_silence
                return
            await asyncio.sleep(max(left, 0.01))

    def _touch(self) -> None:
        self._touched = asyncio.get_running_loop().time()

    async def _finish(self) -> None:
        await self._line.drain(0)
        await asyncio.sleep(0)  # the last answers are heard in the turn they came
        if self._writing is not None:
            await self._writing

    def _lost(self, error: DaemonGoneError) -> None:
        self._caught_up.clear()
        self._looks_left = LOOKS
        if self._is_talkative:
            print(
                f"{error}; trying again for {self._line.retry_s:g} s", file=sys.stderr, flush=True
            )

    def _unanswered(self, error: DaemonGoneError) -> FlcError:
        count = self._said - self._answered
        if not count:
            return error
        lines = "1 line was" if count == 1 else f"{count} lines were"
        hint = f"{error.hint}; then `flc log {self._args.room}` shows which were kept"
        return FlcError(f"{error}, and {lines} not acknowledged", hint)


def renderer(args: argparse.Namespace) -> Callable[[Record], bytes]:
    """How a follow's record becomes output: exact JSON, a line for people, or the raw body."""
    if args.json:
        return _json_line
    if sys.stdout.isatty():
        colour = text.wants_colour()
        return lambda record: chat_line(record["message"], colour=colour).encode()
    return lambda record: text.body_bytes(record["message"]) + b"\n"


def _json_line(record: Record) -> bytes:
    return compact({**exact(record["message"]), "position": record["position"]}).encode() + b"\n"


def chat_line(message: Record, *, colour: bool) -> str:
    """Time of day, author and body; one line whatever the body has in it."""
    author = text.author_text(message["author"], colour=colour)
    return f"{text.clock_time(message['said_at'])} {author}: {text.body_text(message)}\n"


def _start(words: str) -> Record:
    match = re.fullmatch(r"([0-9]+)(?:@([0-9a-f]{16}:[0-9]+))?", words)
    if match is None:
        raise argparse.ArgumentTypeError(f"{words!r} is not POSITION or POSITION@DOT")
    return {"from": int(match[1]), **({"dot": match[2]} if match[2] else {})}
