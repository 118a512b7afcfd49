"""`flc export`: prints the whole history as lines from which `flc import` rebuilds it.

Rules. The command reads the file directly, whether the node runs or not. It prints one moment, so
retention deletes nothing of it meanwhile. Until it ends, the WAL of a running node cannot be folded
into the database and grows with each message. If the receiver is slow, write a file and send that.
Each line is printed as it is read, so a million lines need no memory. An export of one room is only
for reading: its messages follow what their authors said in other rooms, so no log can be rebuilt
from it, and `flc import` refuses it.
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from flc_udp.cli.keep.export_file import ExportHead, base_lines, head_line, message_line
from flc_udp.core.standing import Standing
from flc_udp.model.dots import BEGINNING
from flc_udp.model.errors import FlcError, Malformed, StoreFailed
from flc_udp.model.message import check_label, decode
from flc_udp.store.directory import DATABASE, default_directory
from flc_udp.store.log import Reader
from flc_udp.store.snapshot import snapshot
from flc_udp.store.writer_memory import WriterMemory

BASE_ROOMS_A_PAGE = 1_024
"""A page of the base is read with about this many rooms."""


def add_export(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `flc export [ROOM]`."""
    parser.add_argument(
        "room", metavar="ROOM", nargs="?", help="one room, to read (default: all, to import)"
    )


def export(args: argparse.Namespace) -> int:
    """Print the export; raises FlcError if the log cannot be read to its end."""
    if args.room is not None:
        check_label("room", args.room)
    directory = Path(args.data or default_directory(os.environ))
    with snapshot(directory / DATABASE) as connection:
        try:
            for line in lines(connection, args.room):
                sys.stdout.buffer.write(line.encode() + b"\n")
        except (StoreFailed, Malformed, UnicodeError, sqlite3.DatabaseError) as error:
            raise FlcError(
                f"{directory / DATABASE} cannot be read to its end: {error}",
                f"flc fsck --data {directory} tells what is wrong; the output is incomplete",
            ) from error
        sys.stdout.buffer.flush()
    return 0


def lines(connection: sqlite3.Connection, room: str | None) -> Iterator[str]:
    """Write the export of a database; the connection to it is in a read transaction."""
    reader = Reader(connection, lent=True)
    standing = Standing(WriterMemory(connection).history().heads)
    held = {row.room: row.messages for row in reader.rooms()}
    if room is not None and room not in held:
        raise FlcError(f"there is no room {room!r} here", "flc rooms lists them")
    # The base is held in memory, because the head of the export tells how many lines it has.
    base = [] if room else list(_base(reader))
    yield head_line(
        ExportHead(
            room=room,
            messages=sum(held.values()) if room is None else held[room],
            base=len(base),
            floor=reader.floor(),
            logs=standing.logs,
            root=standing.root.hex(),
        )
    )
    messages = (decode(encoded) for _, encoded in reader.history(room))
    yield from chain(base, map(message_line, messages))


def _base(reader: Reader) -> Iterator[str]:
    after = BEGINNING
    while page := reader.base(after, BASE_ROOMS_A_PAGE):
        for log in page:
            yield from base_lines(log)
        after = page[-1].log
