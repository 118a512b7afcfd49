"""`flc import`: the messages of an export into the data directory of a node that is down.

Promise. A message is taken where the network would take it: its bytes decode, it follows its log's
head by seq and hash, all its causes are held. What is held already is skipped, so an import may be
repeated. At the first line that is wrong it ends, and what came before is kept: a causally closed
set, as always.

Rules. The node is down, and its directory locked: a running Replica decides by heads it keeps in
memory, and messages that came past it would be a second door to the log. It finds them at its next
start, and tells the others. What was pruned where the export was made can only be taken over by a
directory without messages, since from others a part of them would have to be given up.
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
from flc_udp.model.dots import Dot
from flc_udp.model.errors import FlcError, StoreFailed
from flc_udp.model.history import BaseLog
from flc_udp.model.message import Message
from flc_udp.model.units import Millis
from flc_udp.store.directory import DataDirectory, default_directory
from flc_udp.store.log import Log

BATCH_MESSAGES = 2_000
BATCH_BYTES = 4 << 20
"""A commit has so many messages, or bytes."""

MISSING_NAMED = 3

TAKE_AGAIN = "make space, or see what flc fsck finds, and import it again: what is held is skipped"


def add_import(parser: argparse.ArgumentParser) -> None:
    """`flc import FILE`."""
    parser.add_argument("file", metavar="FILE", help="what `flc export` printed; - is stdin")
    parser.add_argument("--json", action="store_true", help="one JSON object")


def import_(args: argparse.Namespace) -> int:
    """Take what is new and print how much that was; raises FlcError at the first wrong line."""
    with _opened(args.file) as file:
        directory = DataDirectory.open(args.data or default_directory(os.environ))
        try:
            with closing(Log.open(directory.database)) as log, closing(Import(log)) as taking:
                taking.take_all(Lines(file))
                record = taking.record()
        except StoreFailed as error:
            raise FlcError(
                f"{directory.database} cannot be read: {error}",
                f"flc fsck --data {directory.path} tells what is wrong, and what to do",
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
        file = Path(name).open("rb")  # noqa: SIM115  # only the opening is to be told so
    except OSError as error:
        raise FlcError(
            f"{name} cannot be read: {error.strerror}",
            "name what `flc export` printed, or - for stdin",
        ) from error
    with file:
        yield file


class Import:
    """One import into one log, which nobody else writes."""

    def __init__(self, log: Log) -> None:
        self.imported = 0
        """Messages that were not held before and are durable now."""
        self.held = 0
        self._log = log
        self._reader = log.reader()
        self._causal = Causal(log.load(), 0, 0)
        self._head: ExportHead | None = None
        self._base: list[BaseLog] = []
        self._base_left = 0
        self._messages_left = 0
        self._batch: dict[Dot, Message] = {}
        self._batch_bytes = 0

    def close(self) -> None:
        """Let go of the log, which is the caller's to close."""
        self._reader.close()

    def take_all(self, lines: Lines) -> None:
        """Take line by line; raises FlcError with the line's number and what is kept."""
        try:
            try:
                for line in lines:
                    self._take(line)
                self._end()
            finally:
                self._flush()
        except (FlcError, StoreFailed) as error:
            kept = f"messages imported before it, and kept: {self.imported}"
            hint = error.hint if isinstance(error, FlcError) else TAKE_AGAIN
            raise FlcError(f"line {lines.number} {error}; {kept}", hint) from error
        if not lines.number:
            raise FlcError("the input is empty", EXPORT_AGAIN)

    def record(self) -> dict[str, int | str]:
        """What was done, and where the log stands now: as `flc digest` will print it."""
        standing = Standing(self._causal.heads)
        return {
            "imported": self.imported,
            "held": self.held,
            "messages": standing.messages,
            "root": standing.root.value().hex(),
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
                f"begins an export of room {head.room!r} alone, which rebuilds no log",
                "its authors' other messages are not in it: import an export of all rooms",
            )
        self._head = head
        self._base_left, self._messages_left = head.base, head.messages

    def _end(self) -> None:
        """What was promised has come."""
        if left := self._base_left + self._messages_left:
            raise FlcError(f"is the last, and {left} more were to come", EXPORT_AGAIN)

    def _take_base(self, log: BaseLog) -> None:
        if not self._base_left or self._head is None:
            raise FlcError("has a base where none is to be", EXPORT_AGAIN)
        self._base.append(log)
        self._base_left -= 1
        if not self._base_left:
            base, self._base = self._base, []
            self._adopt(self._head.floor, base)

    def _adopt(self, floor: int, base: list[BaseLog]) -> None:
        if all(log.head.seq <= self._causal.head(log.log).seq for log in base):
            return  # All that was pruned there is held here, or was pruned here as well.
        if any(log.head.stamp >= floor for log in base):
            raise FlcError("has a base that does not lie below its floor", EXPORT_AGAIN)
        if self._causal.heads:
            raise FlcError(
                "has the end of what was pruned where this was exported, and not all is held here",
                "import it into an empty data directory, or start this node with --join",
            )
        self._causal = Causal(self._log.adopt(floor, base), 0, 0)

    def _take_message(self, message: Message) -> None:
        if not self._messages_left or self._base_left:
            raise FlcError("has a message where none is to be", EXPORT_AGAIN)
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
        # None: it was pruned here, and only its dot is known.
        if known not in (None, message.encoded):
            raise FlcError(
                f"has other bytes for {message.dot} than are held here",
                "one of the two is forged or broken: flc fsck, here and where it was exported",
            )

    def _refusal(self, message: Message) -> FlcError:
        missing = self._causal.missing(message)
        if not missing:
            return FlcError(
                f"has {message.dot}, which does not follow the message before it in its log:"
                " that is another one here, or has a later stamp",
                "one of the two is forged or broken: flc fsck, here and where it was exported",
            )
        named = ", ".join(map(str, missing[:MISSING_NAMED]))
        more = len(missing) - MISSING_NAMED
        return FlcError(
            f"has {message.dot}, and what it comes after is missing: {named}"
            + (f" and {more} more" if more > 0 else ""),
            "they stand before it in a whole export, which `flc export` prints",
        )

    def _flush(self) -> None:
        batch, self._batch, self._batch_bytes = list(self._batch.values()), {}, 0
        if batch:
            self._log.append(batch, wall=Millis(time.time_ns() // 1_000_000))
            self.imported += len(batch)
