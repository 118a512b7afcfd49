"""`flc import`: puts the messages of an export into the data directory of a node that is down.

Promise. The import takes a message on the same conditions as the network does: its bytes decode, it
follows its log's head by seq and hash, and all its causes are held. It skips messages that are
already held, so it may be repeated. It ends at the first wrong line and keeps what came before that
line. This is always a causally closed set.

Rules. The node must be down, and its directory is locked, because a running Replica decides by the
heads in its memory and would not see the new messages. The node finds them at its next start and
tells the others. Only a directory without messages can take over the base of an export; any other
directory would have to give up some of its messages for that.
"""

import argparse
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from flc_udp.cli import text
from flc_udp.cli.keep import export
from flc_udp.core.causal import Arrival, Causal, Outcome
from flc_udp.core.standing import Standing
from flc_udp.model.block import Block
from flc_udp.model.dots import Dot, LogId
from flc_udp.model.errors import FlcError, StoreFailed
from flc_udp.model.history import BaseLog
from flc_udp.model.message import Message
from flc_udp.model.units import Millis
from flc_udp.model.visible import some_of
from flc_udp.store.directory import DataDirectory, default_directory
from flc_udp.store.log import Log, Reader

BATCH_MESSAGES = 2_000
BATCH_BYTES = 4 << 20
"""A commit is due at this many messages, or at this many bytes."""

FORGED = "one of the two is forged or broken: run flc fsck here and where it was exported"
TAKE_AGAIN = "make space or run flc fsck, then import it again: messages already held are skipped"


def add_import(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `flc import FILE`."""
    parser.add_argument("file", metavar="FILE", help="the output of `flc export`; - reads stdin")


def import_(args: argparse.Namespace) -> None:
    """Import new messages and print how many; raises FlcError at the first wrong line."""
    with _opened(args.file) as file:
        directory = DataDirectory(args.data or default_directory())
        try:
            with closing(Log.open(directory.database)) as log, closing(log.reader()) as reader:
                taking = Import(log, reader)
                taking.take_all(file)
                record = taking.record()
        except StoreFailed as error:
            hint = f"flc fsck --data {directory.path} tells what is wrong and what to do"
            raise FlcError(f"{directory.database} cannot be read: {error}", hint) from error
        finally:
            directory.release()
    line = "{imported} imported, {held} held already; now {messages} messages, root {root}"
    print(text.json_line(record).decode() if args.json else line.format_map(record))


def _opened(name: str) -> AbstractContextManager[BinaryIO]:
    if name == "-":
        return nullcontext(sys.stdin.buffer)
    try:
        return Path(name).open("rb")
    except OSError as error:
        hint = "name a file with the output of `flc export`, or - for stdin"
        raise FlcError(f"{name} cannot be read: {error.strerror}", hint) from error


class Import:
    """One import into one log. Nobody else may write that log meanwhile."""

    def __init__(self, log: Log, reader: Reader) -> None:
        self.imported = self.held = 0
        """Messages of the export that became durable here, and those that were held already."""
        self._log, self._reader = log, reader
        self._causal = Causal(log.load(), 0, 0, Counter())
        self._line = 0
        """The number of the line that was read last."""
        self._batch: dict[Dot, Block] = {}
        """Blocks that are to be committed, by each of their messages."""
        self._to_come: deque[Message] = deque()
        """The other messages of the block that was read last."""
        self._batch_bytes = 0

    def take_all(self, file: BinaryIO) -> None:
        """Import line by line; raises FlcError with the line's number and what is kept."""
        try:
            try:
                lines = self._lines(file)
                for line in lines:
                    self._take_export(line, lines)
            finally:
                self._flush()
        except (FlcError, StoreFailed) as error:
            kept = f"messages that were imported before it, and are kept: {self.imported}"
            hint = error.hint if isinstance(error, FlcError) else TAKE_AGAIN
            raise FlcError(f"line {self._line} {error}; {kept}", hint) from error
        if not self._line:
            raise FlcError("the input is empty", export.EXPORT_AGAIN)

    def record(self) -> dict[str, int | str]:
        """Return what was done, and the log's size and root, which `flc digest` will print."""
        standing = Standing(self._causal.heads)
        return {
            "imported": self.imported,
            "held": self.held,
            "messages": standing.messages,
            "root": standing.table.root.hex(),
        }

    # --- Inside -------------------------------------------------------------------------------

    def _lines(self, file: BinaryIO) -> Iterator[export.Line]:
        while line := file.readline(export.LINE_BYTES_MAX + 1):
            self._line += 1
            yield export.read_line(line)

    def _take_export(self, head: export.Line, lines: Iterator[export.Line]) -> None:
        """Take a head, which must come now, then the base and the messages that it announces."""
        if not isinstance(head, export.ExportHead):
            raise _out_of_place(head)
        if head.room is not None:
            room = f"begins an export of room {head.room!r} alone, from which no log can be rebuilt"
            hint = "import an export of all rooms: this one lacks its authors' other messages"
            raise FlcError(room, hint)
        base: list[BaseLog] = []
        rooms: set[tuple[LogId, str]] = set()
        for left in range(head.base + head.messages, 0, -1):
            match next(lines, None):
                case BaseLog() as log if left > head.messages:
                    here = {(log.log, room.room) for room in log.rooms}
                    if rooms & here:
                        raise FlcError("repeats a line of the base", export.EXPORT_AGAIN)
                    rooms |= here
                    base.append(log)
                    if left == head.messages + 1:
                        self._adopt(head.floor, base)
                case Block() as block if left <= head.messages and not self._to_come:
                    self._take_block(block)
                case dict() as shown if self._to_come:
                    export.check_shown(shown, self._to_come.popleft())
                case None | export.ExportHead():
                    raise FlcError(
                        f"is the last, but {left} more should follow", export.EXPORT_AGAIN
                    )
                case misplaced:
                    raise _out_of_place(misplaced)

    def _adopt(self, floor: int, base: list[BaseLog]) -> None:
        if all(log.head.seq <= self._causal.head(log.log).seq for log in base):
            return  # This log holds, or has pruned, all that was pruned there.
        if any(log.head.stamp >= floor for log in base):
            raise FlcError("has a base that does not lie below its floor", export.EXPORT_AGAIN)
        if self._causal.heads:
            raise FlcError(
                "has a base, and this directory lacks some of the messages that were pruned there",
                "import it into an empty data directory, or start this node with --join",
            )
        self._causal = Causal(self._log.adopt(floor, base), 0, 0, Counter())

    def _take_block(self, block: Block) -> None:
        self._to_come.extend(islice(block.messages(), 1, None))
        is_known = self._causal.knows(block.dot)
        outcome, _ = self._causal.offer(Arrival(block))
        if outcome is Outcome.DECIDED:
            self._batch.update((message.dot, block) for message in block.messages())
            self._batch_bytes += len(block.encoded)
            if len(self._batch) >= BATCH_MESSAGES or self._batch_bytes >= BATCH_BYTES:
                self._flush()
        elif is_known:
            self._check_same(block)
            self.held += len(block.bodies)
        else:
            raise self._refusal(block)

    def _check_same(self, block: Block) -> None:
        waiting = self._batch.get(block.dot)
        known = waiting.encoded if waiting else self._reader.block(block.dot)
        # It is None if the block was pruned here, so that only its dot is known.
        if known not in (None, block.encoded):
            raise FlcError(f"has other bytes for {block.dot} than this directory holds", FORGED)

    def _refusal(self, block: Block) -> FlcError:
        missing = self._causal.missing(block)
        if not missing:
            problem = f"has {block.dot}, which does not follow the message before it in its log"
            why = "that message is another one here, or it has a later stamp"
            return FlcError(f"{problem}: {why}", FORGED)
        named = some_of(list(map(str, missing)))
        hint = "a whole export, which `flc export` prints, has them before it"
        problem = f"has {block.dot}, but messages that it comes after are missing: {named}"
        return FlcError(problem, hint)

    def _flush(self) -> None:
        batch, self._batch, self._batch_bytes = self._batch, {}, 0
        if batch:
            blocks = [block for dot, block in batch.items() if dot == block.dot]
            self._log.append(blocks, wall=Millis(time.time_ns() // 1_000_000))
            self.imported += len(batch)


def _out_of_place(line: export.Line) -> FlcError:
    if isinstance(line, dict):
        hint = "`flc log --json` prints lines to read; `flc export` prints lines to import"
        return FlcError(f"has message {line['dot']} without the bytes that its author wrote", hint)
    what = "a base" if isinstance(line, BaseLog) else "a message"
    return FlcError(f"has {what} in a wrong place", export.EXPORT_AGAIN)
