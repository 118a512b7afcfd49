"""`flc nc`: netcat for a room. Lines of stdin are said, and what others say is printed.

Rules. In a pipe, what comes out is what was piped in elsewhere, byte for byte, even if the daemon
is restarted meanwhile. Lines that were read together are said together, but no line waits for
another. Only a limited number of lines is said and not answered, and stdin is not read while stdout
takes nothing, so memory does not grow. Nothing is cut off at the end: nc waits until what was said
is answered, and what is being printed is out.
"""

import argparse
import asyncio
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import groupby

from flc_udp.cli import pipes, text
from flc_udp.cli.connect import with_daemon
from flc_udp.cli.conventions import DONE, FAILED, SILENT, complain, positive, seconds
from flc_udp.cli.look.log import json_line
from flc_udp.cli.pipes import STDIN, STDOUT
from flc_udp.cli.progress import to_go_text
from flc_udp.cli.talk.reconnecting_client import OPEN_MAX, RETRY_S, ReconnectingClient
from flc_udp.cli.talk.say import add_author, decoded
from flc_udp.client import BodiesRefusedError, Client, DaemonGoneError, Record
from flc_udp.config import BODY_BYTES_MAX, CATCHING_UP_MESSAGES, SHARED_BYTES_MAX
from flc_udp.model.errors import FlcError

GROUP_LINES = OPEN_MAX // 4
"""At most this many lines are said together. So some groups are under way while others are read."""

LOOKS = 5
"""The node is asked this many times what it lacks, and again after each time that it lacks much: a
node that has just started learns in its first seconds what it lacks."""

LOOK_S = 1.0
"""The pause between two looks."""


OUTLASTING = f"""\
If its daemon ends, nc tries to reach it again, for {RETRY_S:.0f} s or, if that is less, for the
SECS of -w. Then it goes on where it was. If nothing answers in that time, it ends with 1."""


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
    flag = parser.add_mutually_exclusive_group().add_argument
    after = "begin after that position; DOT is the message that stood there"
    flag("--from", dest="start", metavar="POSITION[@DOT]", type=_start, default={}, help=after)
    flag("--last", metavar="N", type=positive, help="begin with the last N messages")
    parser.epilog = f"{parser.epilog}\n\n{OUTLASTING}"


def nc(args: argparse.Namespace) -> int | None:
    """Join stdin and stdout to a room until there is a reason to quit."""
    return with_daemon(args, lambda client: Conversation(client, args).run())


class Conversation:
    """One run of `flc nc`: what is said, what is shown, and the reasons to quit."""

    def __init__(self, client: Client, args: argparse.Namespace) -> None:
        self._args = args
        start = {"last": args.last} if args.last else args.start
        self._client = ReconnectingClient(client, args.room, args.author, start)
        self._client.on_loss = self._lost
        if args.silence is not None:
            self._client.retry_s = min(args.silence, self._client.retry_s)
        self._render = renderer(args)
        events = (asyncio.Event() for _ in range(4))
        self._accepted, self._caught_up, self._flowing, self._complete = events
        self._flowing.set()  # It is clear while stdout takes nothing.
        self._writing: asyncio.Task[None] | None = None
        self._refused = self._shown = 0
        self._looks_left = LOOKS
        self._code = DONE
        self._is_talkative = args.verbose or sys.stderr.isatty()
        self._silence = pipes.Silence(args.silence)

    async def run(self) -> int:
        """Go on until there is a reason to quit, and return the exit code."""
        work = (self._show(), self._speak(), self._tell_progress())
        reasons = (self._complete.wait(), self._be_silent(), pipes.reader_gone(STDOUT))
        try:
            async with pipes.first_of(*work, *reasons):
                await self._client.drain(0)
                if self._writing is not None:
                    await self._writing
        except DaemonGoneError as error:
            raise self._not_acknowledged(error) from error
        finally:
            if self._writing is not None:  # Its reader may be gone: of that we know already.
                self._writing.cancel()
                await asyncio.gather(self._writing, return_exceptions=True)
            await self._client.close()
        return FAILED if self._refused else self._code

    async def _show(self) -> None:
        """Print what others say; once COUNT messages are printed, nothing more."""
        async for batch in self._client.batches():
            self._accepted.set()
            await self._print([record for record in batch if "message" in record])
            for record in batch:
                if record.get("caught_up"):
                    self._caught_up.set()
                    self._silence.broken()
                    if self._args.verbose:
                        _tell(f"listening at {record['position']}")
            if self._shown == self._args.count:
                self._complete.set()

    async def _print(self, records: list[Record]) -> None:
        if self._args.count is not None:
            records = records[: self._args.count - self._shown]
        if not records:
            return
        lines = b"".join(map(self._render, records))
        self._flowing.clear()
        self._writing = asyncio.create_task(pipes.print_bytes(lines))
        await asyncio.shield(self._writing)
        self._flowing.set()
        self._shown += len(records)
        self._silence.broken()

    async def _tell_progress(self) -> None:
        """Tell that the node is catching up, because what is said elsewhere comes late then."""
        was_behind = False
        while True:
            await self._flowing.wait()  # The answer is read after everything that came before it.
            with suppress(FlcError, OSError):  # The follow finds out what is wrong.
                if self._looks_left:
                    to_go = await self._client.to_go()
                    is_behind = to_go >= (1 if was_behind else CATCHING_UP_MESSAGES)
                    if is_behind != was_behind or (is_behind and self._is_talkative):
                        _tell(f"catching up, {to_go_text(to_go)}" if is_behind else "caught up")
                    self._looks_left = LOOKS if is_behind else self._looks_left - 1
                    was_behind = is_behind
            await asyncio.sleep(LOOK_S)

    async def _speak(self) -> None:
        """Say the lines of stdin; with -N the end of input is a reason to quit."""
        await self._accepted.wait()
        if not self._args.deaf:
            async for number, lines in pipes.numbered_batches(STDIN, BODY_BYTES_MAX):
                for place, group in groups(lines):
                    await self._client.drain(OPEN_MAX - len(group))
                    await self._flowing.wait()
                    self._say(number + place, group)
            if self._args.quits:
                await self._caught_up.wait()
                return
        await asyncio.Event().wait()

    def _say(self, number: int, lines: list[bytes]) -> None:
        if len(lines[0]) > BODY_BYTES_MAX:
            self._refuse(number, f"has more than {BODY_BYTES_MAX} bytes", "no node accepts it")
            return
        numbers = range(number, number + len(lines))
        bodies = list(map(decoded, lines))
        self._client.say(bodies, lambda error: self._heard(numbers, error))

    def _heard(self, numbers: range, error: FlcError | None) -> None:
        self._silence.broken()
        if isinstance(error, BodiesRefusedError):
            for place, reason in error.errors.items():
                self._refuse(numbers[place], f"was refused: {reason}", reason.hint)
        elif error is not None:
            for number in numbers:
                self._refuse(number, f"was refused: {error}", error.hint)

    def _refuse(self, number: int, problem: str, hint: str) -> None:
        self._refused += 1
        complain(f"line {number} {problem}", hint)

    async def _be_silent(self) -> None:
        """Wait for -w. While an answer is missing or something is being printed, it is no silence.

        A silence before COUNT messages were printed has another exit code.
        """
        await self._silence.over(self._is_busy)
        self._code = SILENT if self._args.count else DONE

    def _is_busy(self) -> bool:
        is_printing = not self._flowing.is_set()
        return bool(self._client.unanswered) or is_printing or not self._caught_up.is_set()

    def _lost(self, error: DaemonGoneError) -> None:
        self._caught_up.clear()
        self._looks_left = LOOKS
        if self._is_talkative:
            _tell(f"{error}; trying again for {self._client.retry_s:g} s")

    def _not_acknowledged(self, error: DaemonGoneError) -> FlcError:
        count = self._client.unanswered
        if not count:
            return error
        lines = "1 line was" if count == 1 else f"{count} lines were"
        hint = f"{error.hint}; then `flc log {self._args.room}` shows which were kept"
        return FlcError(f"{error}, and {lines} not acknowledged", hint)


def groups(lines: list[bytes]) -> Iterator[tuple[int, list[bytes]]]:
    """Cut lines into groups that are said together, each with the place of its first line.

    A line that cannot share a block is said alone, so that it is refused with its own reason.
    """
    place = 0
    for is_long, run in groupby(lines, lambda line: len(line) > SHARED_BYTES_MAX):
        rest = list(run)
        most = 1 if is_long else GROUP_LINES
        for at in range(0, len(rest), most):
            yield place + at, rest[at : at + most]
        place += len(rest)


def _tell(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


def renderer(args: argparse.Namespace) -> Callable[[Record], bytes]:
    """Choose how a record is printed: as exact JSON, as a line for people, or as the raw body."""
    if args.json:
        return lambda record: json_line(record["message"], position=record["position"])
    if sys.stdout.isatty():
        colour = text.wants_colour()
        return lambda record: _chat_line(record["message"], colour=colour)
    return lambda record: text.body_bytes(record["message"]) + b"\n"


def _chat_line(message: Record, *, colour: bool) -> bytes:
    author = text.author_text(message["author"], colour=colour)
    line = f"{text.clock_time(message['said_at'])} {author}: {text.body_text(message)}\n"
    return line.encode()


def _start(words: str) -> Record:
    match = re.fullmatch(r"([0-9]+)(?:@([0-9a-f]{16}:[0-9]+))?", words)
    if match is None:
        raise argparse.ArgumentTypeError(f"{words!r} is not POSITION or POSITION@DOT")
    return {"from": int(match[1]), **({"dot": match[2]} if match[2] else {})}
