"""Blocks as they are typed and printed by `flc udp`."""

import base64
import json
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flc_udp.config import BODIES_MAX, SHARED_BYTES_MAX
from flc_udp.model.block import Block, Origin, decode, pack_body, write
from flc_udp.model.dots import Dot
from flc_udp.model.errors import FlcError
from flc_udp.wire.block_json import encoded_record, read_encoded
from flc_udp.wire.message_json import message_record
from tests.wire.strategies import dots, hashes, ids, labels

LOG, PARENT = b"log-----", b"parent--"
WALL = 1_700_000_000_123


def block(first: int = 2, *bodies: str | bytes, wall: int = WALL) -> Block:
    """A block of ann's; the first of a log tells whose it is."""
    return write(
        log=LOG, first=first, room="ops", author="ann", wall=wall, stamp=(wall << 16) + 3,
        causes=(Dot(b"other---", 4),), parent=PARENT if first > 1 else bytes(8),
        bodies=list(map(pack_body, bodies or ("hi",))),
        origin=None if first > 1 else Origin(b"node----", "ann"),
    )  # fmt: skip


def record_of(found: Block) -> dict[str, Any]:
    """The object of a block, through JSON."""
    record = encoded_record(found.encoded)
    assert isinstance(record, dict)
    read: dict[str, Any] = json.loads(json.dumps(record))
    return read


bodies = st.text(st.characters(exclude_categories=["Cs"])) | st.binary()


@st.composite
def written(draw: st.DrawFn) -> bytes:
    """Any block a node would write."""
    log, first = draw(dots.filter(lambda dot: dot.seq < 1 << 40))
    causes = draw(st.dictionaries(ids.filter(lambda i: i != log and any(i)), st.integers(1, 99)))
    wall, lift = draw(st.integers(0, (1 << 46) - 1)), draw(st.integers(0, (1 << 16) - 1))
    said = draw(st.lists(bodies, min_size=1, max_size=30))
    return write(
        log=log, first=first, room=draw(labels), author=draw(labels),
        wall=wall, stamp=(wall << 16) + lift, causes=tuple(map(Dot._make, causes.items())),
        parent=bytes(8) if first == 1 else draw(hashes.filter(any)),
        bodies=list(map(pack_body, said)),
        origin=Origin(draw(ids), draw(labels)) if first == 1 else None,
    ).encoded  # fmt: skip


@given(written())
def test_a_block_is_typed_as_it_is_printed(encoded: bytes) -> None:
    """Its record, through JSON, is the same bytes again, without spelling them out."""
    record = record_of(decode(encoded))

    assert "encoded" not in record
    assert encoded == read_encoded(record)


@given(st.lists(bodies, min_size=2, max_size=40))
def test_the_bodies_are_a_list(said: list[str | bytes]) -> None:
    """One or many, text as it is and bytes as base64, in their order."""
    found = block(2, *said)

    assert list(found.bodies) == [
        body if isinstance(body, str) else base64.b64decode(body["base64"])
        for body in record_of(found)["bodies"]
    ]


@given(written(), st.data())
def test_whatever_is_a_block_comes_back_as_it_was(encoded: bytes, data: st.DataObject) -> None:
    """Changed and extended bytes, too: those that we would write otherwise are spelled out."""
    junk = bytearray(encoded)
    for _ in range(data.draw(st.integers(0, 3))):
        junk[data.draw(st.integers(0, len(junk) - 1))] = data.draw(st.integers(0, 255))
    longer = msgpack.packb((*msgpack.unpackb(encoded, use_list=False), "from the future"))
    for found in (bytes(junk), longer):
        assert found == read_encoded(json.loads(json.dumps(encoded_record(found))))


@pytest.mark.parametrize("count", [2, 15, 16, 300])
def test_a_fullest_block_is_one_that_can_be_typed(count: int) -> None:
    """It has SHARED_BYTES_MAX to the byte, so its record must not be taken for too long."""
    rest = SHARED_BYTES_MAX - len(block(2, *[""] * count).encoded) + 1
    head = 2 if rest < 258 else 3
    found = block(2, bytes(rest - head), *[""] * (count - 1))

    assert (SHARED_BYTES_MAX, count) == (len(found.encoded), len(found.bodies))
    assert found.encoded == read_encoded(record_of(found))


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ([""] * (BODIES_MAX + 1), f"{BODIES_MAX + 1} bodies do not fit into one block"),
        (["x" * 600, "y" * 600], "2 bodies do not fit into one block"),
        (["x" * 5_000, ""], "2 bodies do not fit into one block"),
        (["", "x" * 5_000], "2 bodies do not fit into one block"),
        (["x" * (1 << 20), "y"], "2 bodies do not fit into one block"),
        ([], "1 to 1,024 bodies"),
    ],
    ids=["too many", "too long", "long first", "long last", "largest first", "none"],
)
def test_bodies_that_do_not_fit_are_refused(said: list[str], problem: str) -> None:
    """A part of them would be another block than the one that was typed."""
    with pytest.raises(FlcError, match=problem) as refused:
        read_encoded({**record_of(block()), "bodies": said})

    assert refused.value.hint


def test_a_longest_body_fits_alone() -> None:
    """A block of one may be longer than one that is shared."""
    record = {**record_of(block()), "bodies": ["x" * (1 << 20)]}

    assert decode(read_encoded(record)).bodies == ("x" * (1 << 20),)


def test_a_record_begins_as_history_prints_it() -> None:
    """What history shows of its first message, then what only the wire needs."""
    found = block(1, "hi", b"hi")
    record = record_of(found)
    shown = message_record(next(found.messages()))
    del shown["body"]

    assert record["bodies"] == ["hi", {"base64": "aGk="}]
    assert shown.items() <= record.items()
    assert ("0" * 16, {"node": b"node----".hex(), "name": "ann"}) == (
        record["parent"],
        record["origin"],
    )


def test_bytes_that_we_would_write_otherwise_are_spelled_out() -> None:
    """A later version's fields, and longer forms of numbers, come back as they were."""
    fields = msgpack.unpackb(block().encoded, use_list=False)
    longer = msgpack.packb((*fields, "from the future"))
    record = encoded_record(longer)

    assert isinstance(record, dict)
    assert longer.hex() == record["encoded"]
    assert longer == read_encoded(record)


def test_what_is_no_block_is_hex() -> None:
    """Opaque bytes travel, too."""
    assert encoded_record(b"one") == "6f6e65"
    assert read_encoded("6f6e65") == b"one"


def test_what_can_be_left_out() -> None:
    """A log's first block needs its dot, room, author, bodies, time and origin."""
    record = record_of(block(1))
    for key in ("log", "seq", "stamp", "causes", "parent"):
        record.pop(key)
    found = decode(read_encoded(record))

    assert (WALL << 16, (), bytes(8)) == (found.stamp, found.causes, found.parent)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("dot", "9f:1"),
        ("dot", True),
        ("seq", 3),
        ("room", 7),
        ("bodies", [{"base64": "?"}]),
        ("bodies", ["hi", {"base64": 7}]),
        ("bodies", ["hi", {"base32": "ME======"}]),
        ("bodies", ["hi", 7]),
        ("bodies", [None]),
        ("bodies", [["hi"]]),
        ("bodies", ["hi", "\ud800"]),
        ("bodies", ["x" * ((1 << 20) + 1)]),
        ("bodies", "hi"),
        ("bodies", {"0": "hi"}),
        ("bodies", None),
        ("bodies", []),
        ("body", "hi"),
        ("origin", {"node": "9f", "name": "ann"}),
        ("origin", {"node": "9f" * 8}),
        ("origin", "ann"),
        ("said_at", "yesterday"),
        ("said_at", "2026-01-31T12:00:00"),
        ("stamp", True),
        ("causes", ["x"]),
        ("causes", "x"),
        ("parent", "short"),
        ("parent", None),
        ("encoded", 1),
        ("colour", "red"),
    ],
)
def test_a_bad_key_is_named(key: str, value: object) -> None:
    """With what is allowed there."""
    record = record_of(block())
    with pytest.raises(FlcError) as refused:
        read_encoded({**record, key: value})

    assert key in f"{refused.value}"
    assert refused.value.hint


@pytest.mark.parametrize("key", ["dot", "room", "author", "bodies", "said_at", "parent"])
def test_a_key_that_is_not_there_is_named(key: str) -> None:
    """So that it can be typed."""
    record = record_of(block())
    del record[key]
    with pytest.raises(FlcError, match=f"no '{key}'"):
        read_encoded(record)


@pytest.mark.parametrize("value", [7, None, [], "xyz", {"room": "a"}, {"origin": 1}])
def test_what_is_no_record(value: object) -> None:
    """Is refused, whatever JSON had."""
    with pytest.raises(FlcError):
        read_encoded(value)


def test_what_no_node_accepts_is_refused() -> None:
    """A typed block goes through the receivers' decoder."""
    record = record_of(block())
    with pytest.raises(FlcError, match="parent"):
        read_encoded({**record, "parent": "0102"})
