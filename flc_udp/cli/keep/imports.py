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

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import BinaryIO

from flc_udp.cli.keep.export_file import EXPORT_AGAIN, ExportHead, Lines
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

TAKE_AGAIN = "make space or run flc fsck, then import it again: messages already held are skipped"


def add_import(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `flc import FILE`."""
    parser.add_argument("file", metavar="FILE", help="the output of `flc export`; - reads stdin")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def import_(args: argparse.Namespace) -> int:
    """Import new messages and print how many; raises FlcError at the first wrong line."""
    with _opened(args.file) as file:
        directory = DataDirectory.open(args.data or default_directory(os.environ))
        try:
            with closing(Log.open(directory.database)) as log, closing(Import(log)) as taking:
                taking.take_all(Lines(file))
                record = taking.record()
        except StoreFailed as error:
            raise FlcError(
                f"{directory.database} cannot be read: {error}",
                f"flc fsck --data {directory.path} tells what is wrong and what to do",
            ) from error
        finally:
            directory.release()
    if args.json:
        print(compact(record))
    else:
        line = "{imported} imported, {held} held already; now {messages} messages, root {root}"
        print(line.format_map(record))
    return 0


@contextmanager
def _opened(name: str) -> Iterator[BinaryIO]:
    if name == "-":
        yield sys.stdin.buffer
        return
    try:
        file = Path(name).open("rb")  # noqa: SIM115  # This hint is only for errors of open.
    except OSError as error:
        raise FlcError(
            f"{name} cannot be read: {error.strerror}",
            "name a file with the output of `flc export`, or - for stdin",
        ) from error
    with file:
        yield file


class Import:
    """One import into one log. Nobody else may write that log meanwhile."""

    def __init__(self, log: Log) -> None:
        self.imported = 0
        """Messages that were not held before and are durable now."""
        self.held = 0
        """Messages of the export that were held already."""
        self._log = log
        self._reader = log.reader()
        self._causal = Causal(log.load(), 0, 0)
        self._head: ExportHead | None = None
        self._base: list[BaseLog] = []
        self._based: set[tuple[LogId, str]] = set()
        self._base_left = 0
        self._messages_left = 0
        self._batch: dict[Dot, Message] = {}
        self._batch_bytes = 0

    def close(self) -> None:
        """Close the reader; the caller closes the log."""
        self._reader.close()

    def take_all(self, lines: Lines) -> None:
        """Import line by line; raises FlcError with the line's number and what is kept."""
        try:
            try:
                for line in lines:
                    self._take(line)
                self._end()
            finally:
                self._flush()
        except (FlcError, StoreFailed) as error:
            kept = f"messages that were imported before it, and are kept: {self.imported}"
            hint = error.hint if isinstance(error, FlcError) else TAKE_AGAIN
            raise FlcError(f"line {lines.number} {error}; {kept}", hint) from error
        if not lines.number:
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
                self._end()
                self._begin(line)
            case BaseLog():
                self._take_base(line)
            case Message():
                self._take_message(line)

    def _begin(self, head: ExportHead) -> None:
        if head.room is not None:
            raise FlcError(
                f"begins an export of room {head.room!r} alone, from which no log can be rebuilt",
                "import an export of all rooms: this one lacks its authors' other messages",
            )
        self._head = head
        self._base_left, self._messages_left = head.base, head.messages

    def _end(self) -> None:
        """Check that everything that the head announced has come."""
        if left := self._base_left + self._messages_left:
            raise FlcError(f"is the last, but {left} more should follow", EXPORT_AGAIN)

    def _take_base(self, log: BaseLog) -> None:
        if not self._base_left or self._head is None:
            raise FlcError("has a base in a wrong place", EXPORT_AGAIN)
        here = {(log.log, room.room) for room in log.rooms}
        if self._based & here:
            raise FlcError("repeats a line of the base", EXPORT_AGAIN)
        self._based |= here
        self._base.append(log)
        self._base_left -= 1
        if not self._base_left:
            base, self._base, self._based = self._base, [], set()
            self._adopt(self._head.floor, base)

    def _adopt(self, floor: int, base: list[BaseLog]) -> None:
        if all(log.head.seq <= self._causal.head(log.log).seq for log in base):
            return  # This log holds, or has pruned, all that was pruned there.
        if any(log.head.stamp >= floor for log in base):
            raise FlcError("has a base that does not lie below its floor", EXPORT_AGAIN)
        if self._causal.heads:
            raise FlcError(
                "has a base, and this directory lacks some of the messages that were pruned there",
                "import it into an empty data directory, or start this node with --join",
            )
        self._causal = Causal(self._log.adopt(floor, base), 0, 0)

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
            raise FlcError(
                f"has other bytes for {message.dot} than this directory holds",
                "one of the two is forged or broken: run flc fsck here and where it was exported",
            )

    def _refusal(self, message: Message) -> FlcError:
        missing = self._causal.missing(message)
        if not missing:
            return FlcError(
                f"has {message.dot}, which does not follow the message before it in its log:"
                " that message is another one here, or it has a later stamp",
                "one of the two is forged or broken: run flc fsck here and where it was exported",
            )
        named = ", ".join(map(str, missing[:MISSING_NAMED]))
        more = len(missing) - MISSING_NAMED
        return FlcError(
            f"has {message.dot}, but messages that it comes after are missing: {named}"
            + (f" and {more} more" if more > 0 else ""),
            "a whole export, which `flc export` prints, has them before it",
        )

    def _flush(self) -> None:
        batch, self._batch, self._batch_bytes = list(self._batch.values()), {}, 0
        if batch:
            self._log.append(batch, wall=Millis(time.time_ns() // 1_000_000))
            self.imported += len(batch)
