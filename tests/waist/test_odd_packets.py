"""Every kind of packet with every field at its limits, to a node in every state: none ends it.

The packets are sealed with the cluster's key, so a broken or hostile member may send them. A table
of values is tried in each place, and those that the codec takes there are sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import cycle
from typing import Any

import msgpack
import pytest

from flc_udp.config import INCARNATION_LIMIT, SEQ_LIMIT, STAMP_LIMIT
from flc_udp.model.address import Address
from flc_udp.model.errors import Malformed
from flc_udp.wire import codec
from flc_udp.wire.codec import FORMS
from flc_udp.wire.forms import Array, Form, Struct
from flc_udp.wire.packets import KIND_OF, Have
from tests.model.stories import Story
from tests.waist.stage import ANN, BOB, Stage, stage

STRANGER, VISITOR = b"stranger", bytes(8)

SENDERS = [
    (BOB.id, BOB.address),
    (BOB.id, Address("10.0.0.9", 9)),
    (STRANGER, Address("10.0.0.3", 7352)),
    (VISITOR, Address("10.0.0.4", 7352)),
    (ANN.id, ANN.address),
]
"""A member, someone else under its id, a node that nobody knows, a visitor, and the node itself."""

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


def values() -> list[Any]:
    """What is tried in each place."""
    ids = [BOB.id, ANN.id, STRANGER, VISITOR, b"\xff" * 8, b""]
    row = tuple(msgpack.unpackb(msgpack.packb(codec.row_fields(BOB)), use_list=False))
    rows = [
        (*row[:at], odd, *row[at + 1 :])
        for at in range(len(row))
        for odd in (*NUMBERS, *ids, "x" * 128, "9.9.9.9:1", "[::1]:65535", (), (("k", "v"),))
    ]
    dots = [(log, seq) for log in ids for seq in NUMBERS]
    wants = [(log, 1, seq, ()) for log in ids for seq in NUMBERS]
    wants += [(BOB.id, 1, 1, (0, number)) for number in NUMBERS]
    hashes = [bytes(512), b"\xff" * 512]
    texts = ["", "a", "x" * 128, "10.0.0.7:7352"]
    items = [*NUMBERS, *ids, *hashes, *texts, *blocks(), True, False, *rows, *dots, *wants]
    items += [(*dot, b"h" * 8) for dot in dots]
    base = [
        (log, (seq, b"h" * 8, stamp), origin, rooms)
        for log in ids
        for seq, stamp in ((1, 1), (SEQ_LIMIT - 1, STAMP_LIMIT - 1))
        for origin in (None, (BOB.id, "bob"))
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
    lists = [(), *((item,) for item in items), tuple(short)]
    lists += [(short[0],) * most, tuple(short * most)[:most]]
    return accepted(form, lists)


def odd_payloads(struct: Struct[Any], kind: int, pool: list[Any]) -> Iterator[list[Any]]:
    """Packets of one kind: each field at each of its values, the others at their first and last."""
    fields = [fitting(form, pool) for form in struct.fields.values()]
    assert all(fields), f"nothing fits a field of {struct.made.__name__}"
    for others in (0, -1):
        usual = [found[others] for found in fields]
        yield [kind, *usual]
        for at, found in enumerate(fields):
            for value in found:
                yield [kind, *usual[:at], value, *usual[at + 1 :]]


PACKETS = {
    struct.made.__name__: list(odd_payloads(struct, kind, values()))
    for kind, struct in FORMS.items()
}

# --- The states of a node -----------------------------------------------------------------------


def alone() -> Stage:
    """It knows nobody."""
    return Stage()


def catching_up() -> Stage:
    """It was told of very much that it has not."""
    made = stage()
    far = [KIND_OF[Have], True, [(b"far away", 1 << 40)]]
    made.node.datagram_received(sealed(made, BOB.id, [far]), BOB.address)
    made.turn(1_000_000)
    return made


def adopting() -> Stage:
    """It waits until another node's base is written."""
    made = stage()
    made.node._replica.pause()  # noqa: SLF001  # what leads there takes a whole cluster
    return made


def leaving() -> Stage:
    """It was told to leave."""
    made = stage()
    made.node.leave()
    made.turn()
    return made


def failing() -> Stage:
    """Its disk failed, and the log has not been read again."""
    made = stage()
    made.say("lost")
    made.turn(1_000_000)
    made.commits.clear()
    made.node.commit_failed("disk full")
    return made


def recovered() -> Stage:
    """Its disk failed a moment ago."""
    made = failing()
    made.recover_now()
    return made


def speaking() -> Stage:
    """It has said something, and a commit is under way."""
    made = stage()
    for body in "abc":
        made.say(body, receipt=True)
        made.turn(1_000_000)
    return made


def stopped() -> Stage:
    """It did not run for a minute."""
    made = stage()
    made.time += 60_000_000
    return made


def sealed(made: Stage, sender: bytes, packets: list[list[Any]]) -> bytes:
    """A datagram of these packets, as they are."""
    return made.seal.close(msgpack.packb([sender, *packets]))


@pytest.mark.parametrize(
    "state",
    [alone, stage, catching_up, adopting, leaving, failing, recovered, speaking, stopped],
)
@pytest.mark.parametrize("kind", PACKETS)
def test_none_of_them_ends_a_node(kind: str, state: Callable[[], Stage]) -> None:
    """It goes on, answers within its budgets, and its tables keep their bounds."""
    made = state()
    senders = cycle(SENDERS)
    for packet in PACKETS[kind]:
        sender, source = next(senders)
        made.node.datagram_received(sealed(made, sender, [packet]), source)
        made.turn(2_000)
        made.packets.clear()
        made.trace.clear()
        if len(made.commits) == 1 and made.node.failing is None:
            made.finish()
    for _ in range(20):
        made.turn(500_000)
    assert made.node.facts().members
