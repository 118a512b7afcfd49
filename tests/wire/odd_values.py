"""Values at the limits of the packets' fields, for the tests that send them to a node.

A table of values is tried in each place, and those that the codec takes there are kept.
"""

from collections.abc import Sequence
from typing import Any

import msgpack

from flc_udp.config import INCARNATION_LIMIT, SEQ_LIMIT, STAMP_LIMIT
from flc_udp.model.errors import Malformed
from flc_udp.wire import codec
from flc_udp.wire.forms import Array, Form
from flc_udp.wire.rows import MemberRow
from tests.model.stories import Story

LONG = 3_000
"""So many items have the long lists, where a datagram holds as many."""

SHORT_BYTES, PAYLOAD_BYTES = 200, 60_000

NUMBERS = sorted(
    number + more
    for number in (0, 64, 1 << 32, INCARNATION_LIMIT, SEQ_LIMIT, STAMP_LIMIT, (1 << 64) - 2)
    for more in (-1, 0, 1)
    if number + more >= 0
)


def blocks() -> list[bytes]:
    """Encoded blocks: a log's first and a later one, one that is large, and one that is none."""
    story = Story()
    said = [story.say("cho", body="x" * size) for size in (1, 2, 9_000, 50_000)]
    return [*(block.encoded for block in said), b"", b"\x9a\xc4\x08", b"x" * 60_000]


def values(ids: Sequence[bytes], row: MemberRow, logs: Sequence[bytes] = ()) -> list[Any]:
    """What is tried in each place; `row` is changed in each of its places.

    The ids stand for members and logs, and some of them are known where it is tried. Those in
    `logs` stand for no member.
    """
    fields = tuple(msgpack.unpackb(msgpack.packb(codec.row_fields(row)), use_list=False))
    rows = [
        (*fields[:at], odd, *fields[at + 1 :])
        for at in range(len(fields))
        for odd in (*NUMBERS, *ids, "x" * 128, "9.9.9.9:1", "[::1]:65535", (), (("k", "v"),))
    ]
    logs = [*ids, *logs]
    dots = [(log, seq) for log in logs for seq in NUMBERS]
    wants = [(log, 1, seq, ()) for log in logs for seq in NUMBERS]
    wants += [(row.id, 1, 1, (0, number)) for number in NUMBERS]
    hashes = [bytes(512), b"\xff" * 512]
    texts = ["", "a", "x" * 128, "10.0.0.7:7352"]
    items = [*NUMBERS, *logs, *hashes, *texts, *blocks(), True, False, *rows, *dots, *wants]
    items += [(*dot, b"h" * 8) for dot in dots]
    base = [
        (log, (seq, b"h" * 8, stamp), origin, rooms)
        for log in logs
        for seq, stamp in ((1, 1), (SEQ_LIMIT - 1, STAMP_LIMIT - 1))
        for origin in (None, (row.id, "bob"))
        for rooms in ((), (("ops", 1, None),), (("ops", seq, stamp),) * 2)
    ]
    return [*items, *base]


def accepted(form: Form, pool: list[Any]) -> list[Any]:
    """Those that may stand in a place of this form."""
    found = []
    for value in pool:
        try:
            form.read(value)
        except Malformed:
            continue
        found.append(value)
    return found


def fitting(form: Form, pool: list[Any]) -> list[Any]:
    """The values of a place: of a list, none, one of each, and very many."""
    if not isinstance(form, Array):
        return accepted(form, pool)
    items = accepted(form.item, pool)
    short = [item for item in items if len(msgpack.packb(item)) < SHORT_BYTES][:40] or items[:1]
    longest = max(len(msgpack.packb(item)) for item in short)
    most = min(LONG, PAYLOAD_BYTES // longest)
    lists = [(), *((item,) for item in items), tuple(short), tuple(short[::-1])]
    lists += [(short[0],) * most, tuple(short * most)[:most]]
    return accepted(form, lists)
