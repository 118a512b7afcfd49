"""The lines of an export: a head, then the base, then every message in the history's order.

    {"flc_export":1,"room":null,"messages":2,"base":0,"floor":0,"logs":1,"root":"…",…}
    {"base":"<base64>","hash":"…"}                            only of a node that has pruned
    {"dot":"…:1", … as `flc log --json` …, "encoded":"<base64>"}

Promise. The readable fields of a line agree with its `encoded` bytes. These bytes are the ones that
the author wrote. A message is never encoded again, because another library, or a field that is
unknown here, would give it another hash. The other fields are for people and `jq`. A line whose
fields were edited is refused, so that nobody believes them.

Rules. The base is written as the packets that nodes send, so one decoder checks both. Head and base
have hashes of their own, because no message chains to all of them. There may be several heads, so
exports can be concatenated.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from flc_udp.client import Record, compact
from flc_udp.config import STAMP_LIMIT
from flc_udp.model.dots import VISITOR
from flc_udp.model.errors import FlcError, Malformed
from flc_udp.model.history import BaseLog
from flc_udp.model.message import Message, decode, hash_of
from flc_udp.wire.codec import read
from flc_udp.wire.message_json import message_record
from flc_udp.wire.packets import Base
from flc_udp.wire.packing import pack

FORMAT = 1

LINE_BYTES_MAX = 16 << 20
"""The largest message fits a line of this size: all bytes escaped, its causes, and base64."""

BASE_ROOMS_A_LINE = 32
"""A line of the base has at most this many rooms, all of one log."""

BASE_BYTES_MAX = 1 << 13
"""The packet of one line of the base has at most this size."""

EXPORT_AGAIN = "the input was cut off or changed on its way: export it again"


class ExportHead(NamedTuple):
    """The first line of an export. `room` is None if the export has all rooms."""

    room: str | None
    messages: int
    base: int
    floor: int
    logs: int
    root: str


def head_line(head: ExportHead) -> str:
    """Write the first line."""
    fields = {"flc_export": FORMAT, **head._asdict()}
    return compact({**fields, "hash": _digest(fields)})


def _digest(fields: Record) -> str:
    return hash_of(compact(fields).encode()).hex()


def base_lines(log: BaseLog) -> Iterator[str]:
    """Write one log of the base, with some of its rooms in each line."""
    for first in range(0, len(log.rooms), BASE_ROOMS_A_LINE):
        part = log._replace(rooms=log.rooms[first : first + BASE_ROOMS_A_LINE])
        (packed,) = pack(VISITOR, [Base(0, (part,))], BASE_BYTES_MAX)
        encoded = base64.b64encode(packed).decode()
        yield compact({"base": encoded, "hash": hash_of(packed).hex()})


def message_line(message: Message) -> str:
    """Write a message so that people can read it and `flc import` can rebuild it."""
    encoded = base64.b64encode(message.encoded).decode()
    return compact({**message_record(message), "encoded": encoded})


def read_line(line: bytes) -> ExportHead | BaseLog | Message:
    """Read a line as what it is; raises FlcError if it is no line of an export."""
    if len(line) > LINE_BYTES_MAX:
        raise FlcError(f"is longer than {LINE_BYTES_MAX} bytes", EXPORT_AGAIN)
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise FlcError("is no JSON, or only a part of it", EXPORT_AGAIN) from error
    match record:
        case {"flc_export": format_}:
            return _read_head(format_, record)
        case {"base": packed}:
            return _read_base(_bytes(packed), record.get("hash"))
        case {"encoded": encoded}:
            return _read_message(_bytes(encoded), record)
        case {"dot": str(dot)}:
            hint = "`flc log --json` prints lines to read; `flc export` prints lines to import"
            raise FlcError(f"has message {dot} without the bytes that its author wrote", hint)
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
        _, packets, _ = read(packed)
    except Malformed as error:
        raise FlcError(f"has a base that cannot be read: {error}", EXPORT_AGAIN) from error
    match packets:
        case [Base(_, (log,))]:
            return log
        case _:
            raise FlcError("has no base in it", EXPORT_AGAIN)


def _read_message(encoded: bytes, record: Record) -> Message:
    try:
        message = decode(encoded)
    except Malformed as error:
        raise FlcError(f"has bytes that are no message: {error}", EXPORT_AGAIN) from error
    for name, value in message_record(message).items():
        if record.get(name) != value:
            hint = "the line was edited, but messages cannot be changed: export it again"
            raise FlcError(f"has another {name} than the bytes of {message.dot} say", hint)
    return message


def _bytes(value: Any) -> bytes:  # noqa: ANN401  # whatever stood in the line
    try:
        return base64.b64decode(value, validate=True)
    except (TypeError, ValueError, binascii.Error) as error:
        raise FlcError("has bytes that are no base64", EXPORT_AGAIN) from error
