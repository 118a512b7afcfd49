"""`flc export`: prints the whole history as lines from which `flc import` rebuilds it.

First comes a head, then the base, then every message in the history's order. The first message of a
block has the bytes of the whole block with it:

    {"flc_export":1,"room":null,"messages":2,"base":0,"floor":0,"logs":1,"root":"…",…}
    {"base":"<base64>","hash":"…"}                            only of a node that has pruned
    {"dot":"…:1", … as `flc log --json` …, "encoded":"<base64>"}

Promise. The readable fields of a line agree with the `encoded` bytes of its block. These bytes are
the ones that the author wrote. A block is never encoded again, because another library, or a field
that is unknown here, would give it another hash. The other fields are for people and `jq`. A line
whose fields were edited is refused, so that nobody believes them.

Rules. The base is written as the packets that nodes send, so one decoder checks both. Head and base
have hashes of their own, because no block chains to all of them. There may be several heads, so
exports can be concatenated.

The command reads the file directly, whether the node runs or not. It prints one moment, so
retention deletes nothing of it meanwhile. Until it ends, the WAL of a running node cannot be folded
into the database and grows with each message. If the receiver is slow, write a file and send that.
Each line is printed as it is read, so a million lines need no memory. An export of one room is only
for reading: its messages follow what their authors said in other rooms, so no log can be rebuilt
from it, and `flc import` refuses it.
"""

import argparse
import base64
import binascii
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from flc_udp.cli.text import for_stdout
from flc_udp.client import Record
from flc_udp.config import STAMP_LIMIT
from flc_udp.core.standing import Standing
from flc_udp.model.block import Block, decode, hash_of
from flc_udp.model.dots import BEGINNING, VISITOR
from flc_udp.model.errors import FlcError, Malformed, StoreFailed
from flc_udp.model.history import BaseLog
from flc_udp.model.json_lines import compact, read_json
from flc_udp.model.labels import check_label
from flc_udp.model.message import Message
from flc_udp.store.connections import snapshot
from flc_udp.store.directory import DATABASE, default_directory
from flc_udp.store.log import Reader
from flc_udp.store.writer_memory import WriterMemory
from flc_udp.wire import codec, packing
from flc_udp.wire.message_json import message_record
from flc_udp.wire.packets import Base

FORMAT = 1

LINE_BYTES_MAX = 16 << 20
"""The largest block fits a line of this size: all bytes escaped, its causes, and base64."""

BASE_ROOMS_A_LINE = 32
"""A line of the base has at most this many rooms, all of one log."""

BASE_BYTES_MAX = 1 << 13
"""The packet of one line of the base has at most this size."""

EXPORT_AGAIN = "the input was cut off or changed on its way: export it again"


def add_export(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `flc export [ROOM]`."""
    about = "one room, to read (default: all, to import)"
    parser.add_argument("room", metavar="ROOM", nargs="?", help=about)


def export(args: argparse.Namespace) -> None:
    """Print the export; raises FlcError if the log cannot be read to its end."""
    if args.room is not None:
        check_label("room", args.room)
    path = Path(args.data or default_directory()) / DATABASE
    with snapshot(path) as connection:
        try:
            for line in lines(connection, args.room):
                sys.stdout.buffer.write(for_stdout(line) + b"\n")
        except (StoreFailed, Malformed, UnicodeError, sqlite3.DatabaseError) as error:
            hint = f"flc fsck --data {path.parent} tells what is wrong; the output is incomplete"
            raise FlcError(f"{path} cannot be read to its end: {error}", hint) from error
        sys.stdout.buffer.flush()


def lines(connection: sqlite3.Connection, room: str | None) -> Iterator[bytes]:
    """Write the export of a database; the connection to it is in a read transaction."""
    reader = Reader(connection, lent=True)
    standing = Standing(WriterMemory(connection).history().heads)
    held = {row.room: row.messages for row in reader.rooms()}
    if room is not None and room not in held:
        raise FlcError(f"there is no room {room!r} here", "flc rooms lists them")
    # The base is held in memory, because the head of the export tells how many lines it has.
    pruned = [] if room else reader.base(BEGINNING, sys.maxsize)
    base = [line for log in pruned for line in base_lines(log)]
    count = sum(held.values()) if room is None else held[room]
    logs, root = len(standing.table), standing.table.root.hex()
    yield head_line(ExportHead(room, count, len(base), reader.floor(), logs, root))
    yield from base
    for _, encoded in reader.blocks(room):
        yield from block_lines(decode(encoded))


# --- The lines ------------------------------------------------------------------------------------


class ExportHead(NamedTuple):
    """The first line of an export. `room` is None if the export has all rooms."""

    room: str | None
    messages: int
    base: int
    floor: int
    logs: int
    root: str


Line = ExportHead | BaseLog | Block | Record
"""What a line of an export is. A record shows a message of a block that came before."""


def head_line(head: ExportHead) -> bytes:
    """Write the first line."""
    fields = {"flc_export": FORMAT, **head._asdict()}
    return compact({**fields, "hash": _digest(fields)})


def _digest(fields: Record) -> str:
    return hash_of(compact(fields)).hex()


def base_lines(log: BaseLog) -> Iterator[bytes]:
    """Write one log of the base, with some of its rooms in each line."""
    for first in range(0, len(log.rooms), BASE_ROOMS_A_LINE):
        part = log._replace(rooms=log.rooms[first : first + BASE_ROOMS_A_LINE])
        (packed,) = packing.pack(VISITOR, [Base(0, (part,))], BASE_BYTES_MAX)
        encoded = base64.b64encode(packed).decode()
        yield compact({"base": encoded, "hash": hash_of(packed).hex()})


def block_lines(block: Block) -> Iterator[bytes]:
    """Write a block so that people can read its messages and `flc import` can rebuild it."""
    encoded = {"encoded": base64.b64encode(block.encoded).decode()}
    for message in block.messages():
        yield compact({**message_record(message), **encoded})
        encoded = {}


def read_line(line: bytes) -> Line:
    """Read a line as what it is; raises FlcError if it is no line of an export."""
    if len(line) > LINE_BYTES_MAX:
        raise FlcError(f"is longer than {LINE_BYTES_MAX} bytes", EXPORT_AGAIN)
    try:
        record: Record = read_json(line)
    except ValueError as error:
        raise FlcError("is no JSON, or only a part of it", EXPORT_AGAIN) from error
    match record:
        case {"flc_export": format_}:
            return _read_head(format_, record)
        case {"base": packed}:
            return _read_base(_bytes(packed), record.get("hash"))
        case {"encoded": encoded}:
            return _read_block(_bytes(encoded), record)
        case {"dot": str()}:
            return record
        case _:
            raise FlcError("is no line of an export", "give the output of `flc export`")


def _read_head(format_: object, record: Record) -> ExportHead:
    if format_ != FORMAT:
        problem = f"begins an export of format {format_!r}, but this flc reads format {FORMAT}"
        hint = "import it with the version of flc that wrote it, or with a newer one"
        raise FlcError(problem, hint)
    *fields, digest = record.items()
    if digest != ("hash", _digest(dict(fields))):
        raise FlcError("is a head whose hash is wrong", EXPORT_AGAIN)
    try:
        head = ExportHead(**{name: record[name] for name in ExportHead._fields})
    except KeyError as error:
        raise FlcError(f"is a head without {error}", EXPORT_AGAIN) from error
    numbers = (head.messages, head.base, head.floor, head.logs)
    if not all(type(n) is int and 0 <= n < STAMP_LIMIT for n in numbers):
        raise FlcError("is a head with a number out of range", EXPORT_AGAIN)
    return head


def _read_base(packed: bytes, digest: object) -> BaseLog:
    if hash_of(packed).hex() != digest:
        raise FlcError("has a base whose hash is wrong", EXPORT_AGAIN)
    try:
        _, packets, _ = codec.read(packed)
    except Malformed as error:
        raise FlcError(f"has a base that cannot be read: {error}", EXPORT_AGAIN) from error
    match packets:
        case [Base(_, (log,))]:
            return log
        case _:
            raise FlcError("has no base in it", EXPORT_AGAIN)


def _read_block(encoded: bytes, record: Record) -> Block:
    try:
        block = decode(encoded)
    except Malformed as error:
        raise FlcError(f"has bytes that are no block: {error}", EXPORT_AGAIN) from error
    check_shown(record, next(block.messages()))
    return block


def check_shown(record: Record, message: Message) -> None:
    """Raise FlcError if a line shows another message than the bytes of its block."""
    for name, value in message_record(message).items():
        if record.get(name) != value:
            hint = "the line was edited, but messages cannot be changed: export it again"
            raise FlcError(f"has another {name} than the bytes of {message.dot} say", hint)


def _bytes(value: Any) -> bytes:  # noqa: ANN401  # whatever stood in the line
    try:
        return base64.b64decode(value, validate=True)
    except (TypeError, ValueError, binascii.Error) as error:
        raise FlcError("has bytes that are no base64", EXPORT_AGAIN) from error
