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
from collections import Counter
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path
from typing import BinaryIO

from flc_udp.cli import text
from flc_udp.cli.keep.export import EXPORT_AGAIN, LINE_BYTES_MAX, ExportHead, read_line
from flc_udp.client import compact
from flc_udp.core.causal import Causal
from flc_udp.core.standing import Standing
from flc_udp.model.dots import Dot, LogId
from flc_udp.model.errors import FlcError, StoreFailed
from flc_udp.model.history import BaseLog
from flc_udp.model.message import Message
from flc_udp.model.units import Millis
from flc_udp.store.directory import DataDirectory, default_directory
from flc_udp.store.log import Log

BATCH_MESSAGES = 2_000
BATCH_BYTES = 4 << 20
"""A commit is due at this many messages, or at this many bytes."""

MISSING_NAMED = 3
"""An error names at most this many missing causes."""

FORGED = "one of the two is forged or broken: run flc fsck here and where it was exported"
TAKE_AGAIN = "make space or run flc fsck, then import it again: messages already held are skipped"


def add_import(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `flc import FILE`."""
    parser.add_argument("file", metavar="FILE", help="the output of `flc export`; - reads stdin")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def import_(args: argparse.Namespace) -> None:
    """Import new messages and print how many; raises FlcError at the first wrong line."""
    with _opened(args.file) as file:
        directory = DataDirectory(args.data or default_directory())
        try:
            with closing(Log.open(directory.database)) as log, closing(Import(log)) as taking:
                taking.take_all(file)
                record = taking.record()
        except StoreFailed as error:
            hint = f"flc fsck --data {directory.path} tells what is wrong and what to do"
            raise FlcError(f"{directory.database} cannot be read: {error}", hint) from error
        finally:
            directory.release()
    line = "{imported} imported, {held} held already; now {messages} messages, root {root}"
    print(compact(record) if args.json else line.format_map(record))


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

    def __init__(self, log: Log) -> None:
        self.imported = 0
        """Messages that were not held before and are durable now."""
        self.held = 0
        """Messages of the export that were held already."""
        self._log = log
        self._reader = log.reader()
        self._causal = Causal(log.load(), 0, 0, Counter())
        self._floor = 0
        """The floor that the last head announced."""
        self._base: list[BaseLog] = []
        self._based: set[tuple[LogId, str]] = set()
        self._base_left = 0
        self._messages_left = 0
        self._batch: dict[Dot, Message] = {}
        self._batch_bytes = 0

    def close(self) -> None:
        """Close the reader; the caller closes the log."""
        self._reader.close()

    def take_all(self, file: BinaryIO) -> None:
        """Import line by line; raises FlcError with the line's number and what is kept."""
        number = 0
        try:
            try:
                while line := file.readline(LINE_BYTES_MAX + 1):
                    number += 1
                    self._take(read_line(line))
                self._end()
            finally:
                self._flush()
        except (FlcError, StoreFailed) as error:
            kept = f"messages that were imported before it, and are kept: {self.imported}"
            hint = error.hint if isinstance(error, FlcError) else TAKE_AGAIN
            raise FlcError(f"line {number} {error}; {kept}", hint) from error
        if not number:
            raise FlcError("the input is empty", EXPORT_AGAIN)

    def record(self) -> dict[str, int | str]:
        """Return what was done, and the log's size and root, which `flc digest` will print."""
        standing = Standing(self._causal.heads)
        return {
            "imported": self.imported,
            "held": self.held,
            "messages": standing.messages,
            "root": standing.root.hex(),
        }

    # --- Inside -------------------------------------------------------------------------------

    def _take(self, line: ExportHead | BaseLog | Message) -> None:
        match line:
            case ExportHead():
                self._begin(line)
            case BaseLog():
                self._take_base(line)
            case Message():
                self._take_message(line)

    def _begin(self, head: ExportHead) -> None:
        self._end()
        if head.room is not None:
            room = f"begins an export of room {head.room!r} alone, from which no log can be rebuilt"
            hint = "import an export of all rooms: this one lacks its authors' other messages"
            raise FlcError(room, hint)
        self._floor, self._base_left, self._messages_left = head.floor, head.base, head.messages

    def _end(self) -> None:
        """Check that everything that the head announced has come."""
        if left := self._base_left + self._messages_left:
            raise FlcError(f"is the last, but {left} more should follow", EXPORT_AGAIN)

    def _take_base(self, log: BaseLog) -> None:
        if not self._base_left:
            raise FlcError("has a base in a wrong place", EXPORT_AGAIN)
        here = {(log.log, room.room) for room in log.rooms}
        if self._based & here:
            raise FlcError("repeats a line of the base", EXPORT_AGAIN)
        self._based |= here
        self._base.append(log)
        self._base_left -= 1
        if not self._base_left:
            base, self._base, self._based = self._base, [], set()
            self._adopt(base)

    def _adopt(self, base: list[BaseLog]) -> None:
        if all(log.head.seq <= self._causal.head(log.log).seq for log in base):
            return  # This log holds, or has pruned, all that was pruned there.
        if any(log.head.stamp >= self._floor for log in base):
            raise FlcError("has a base that does not lie below its floor", EXPORT_AGAIN)
        if self._causal.heads:
            raise FlcError(
                "has a base, and this directory lacks some of the messages that were pruned there",
                "import it into an empty data directory, or start this node with --join",
            )
        self._causal = Causal(self._log.adopt(self._floor, base), 0, 0, Counter())

    def _take_message(self, message: Message) -> None:
        if not self._messages_left or self._base_left:
            raise FlcError("has a message in a wrong place", EXPORT_AGAIN)
        self._messages_left -= 1
        if self._causal.extend(message):
            self._batch[message.dot] = message
            self._batch_bytes += len(message.encoded)
            if len(self._batch) >= BATCH_MESSAGES or self._batch_bytes >= BATCH_BYTES:
                self._flush()
        elif self._causal.knows(message.dot):
            self._check_same(message)
            self.held += 1
        else:
            raise self._refusal(message)

    def _check_same(self, message: Message) -> None:
        waiting = self._batch.get(message.dot)
        known = waiting.encoded if waiting else self._reader.message(message.dot)
        # It is None if the message was pruned here, so that only its dot is known.
        if known not in (None, message.encoded):
            raise FlcError(f"has other bytes for {message.dot} than this directory holds", FORGED)

    def _refusal(self, message: Message) -> FlcError:
        missing = self._causal.missing(message)
        if not missing:
            problem = f"has {message.dot}, which does not follow the message before it in its log"
            why = "that message is another one here, or it has a later stamp"
            return FlcError(f"{problem}: {why}", FORGED)
        named = text.some_of(list(map(str, missing)), MISSING_NAMED)
        hint = "a whole export, which `flc export` prints, has them before it"
        problem = f"has {message.dot}, but messages that it comes after are missing: {named}"
        return FlcError(problem, hint)

    def _flush(self) -> None:
        batch, self._batch, self._batch_bytes = list(self._batch.values()), {}, 0
        if batch:
            self._log.append(batch, wall=Millis(time.time_ns() // 1_000_000))
            self.imported += len(batch)
