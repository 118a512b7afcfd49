import json

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flc_udp.model.dots import Dot
from flc_udp.model.errors import FlcError
from flc_udp.model.message import Message, Origin, decode, write
from flc_udp.wire.message_json import encoded_record, message_record, read_encoded
from tests.wire.strategies import dots, hashes, ids, labels

LOG, PARENT = b"log-----", b"parent--"
WALL = 1_700_000_000_123


def message(seq: int = 2, *, body: str | bytes = "hi", wall: int = WALL) -> Message:
    """A message of ann's; the first of a log tells whose it is."""
    return write(
        log=LOG, seq=seq, room="ops", author="ann", wall=wall, stamp=(wall << 16) + 3,
        causes=(Dot(b"other---", 4),), parent=PARENT if seq > 1 else bytes(8), body=body,
        origin=None if seq > 1 else Origin(b"node----", "ann"),
    )  # fmt: skip


@st.composite
def written(draw: st.DrawFn) -> bytes:
    """Any message a node would write."""
    log, seq = draw(dots)
    causes = draw(st.dictionaries(ids.filter(lambda i: i != log and any(i)), st.integers(1, 99)))
    wall, lift = draw(st.integers(0, (1 << 46) - 1)), draw(st.integers(0, (1 << 16) - 1))
    return write(
        log=log, seq=seq, room=draw(labels), author=draw(labels),
        wall=wall, stamp=(wall << 16) + lift, causes=tuple(map(Dot._make, causes.items())),
        parent=bytes(8) if seq == 1 else draw(hashes.filter(any)),
        body=draw(st.text(st.characters(exclude_categories=["Cs"])) | st.binary()),
        origin=Origin(draw(ids), draw(labels)) if seq == 1 else None,
    ).encoded  # fmt: skip


@given(written())
def test_a_message_is_typed_as_it_is_printed(encoded: bytes) -> None:
    """Its record, through JSON, is the same bytes again, without spelling them out."""
    record = encoded_record(encoded)

    assert isinstance(record, dict)
    assert "encoded" not in record
    assert encoded == read_encoded(json.loads(json.dumps(record)))


def test_a_record_begins_as_history_prints_it() -> None:
    """What history shows, then what only the wire needs."""
    found = message(1)
    record = encoded_record(found.encoded)

    assert isinstance(record, dict)
    assert message_record(found).items() <= record.items()
    assert ("0" * 16, {"node": b"node----".hex(), "name": "ann"}) == (
        record["parent"],
        record["origin"],
    )


def test_bytes_that_we_would_write_otherwise_are_spelled_out() -> None:
    """A later version's fields, and longer forms of numbers, come back as they were."""
    fields = msgpack.unpackb(message().encoded, use_list=False)
    longer = msgpack.packb((*fields, "from the future"))
    record = encoded_record(longer)

    assert isinstance(record, dict)
    assert longer.hex() == record["encoded"]
    assert longer == read_encoded(record)


def test_what_is_no_message_is_hex() -> None:
    """Opaque bytes travel, too."""
    assert encoded_record(b"one") == "6f6e65"
    assert read_encoded("6f6e65") == b"one"


def test_what_can_be_left_out() -> None:
    """A first message needs its dot, room, author, body, time and origin."""
    record = encoded_record(message(1).encoded)
    assert isinstance(record, dict)
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
        ("body", {"base64": "?"}),
        ("body", None),
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
    record = encoded_record(message().encoded)
    assert isinstance(record, dict)
    with pytest.raises(FlcError) as refused:
        read_encoded({**record, key: value})

    assert key in f"{refused.value}"
    assert refused.value.hint


@pytest.mark.parametrize("key", ["dot", "room", "author", "body", "said_at", "parent"])
def test_a_key_that_is_not_there_is_named(key: str) -> None:
    """So that it can be typed."""
    record = encoded_record(message().encoded)
    assert isinstance(record, dict)
    del record[key]
    with pytest.raises(FlcError, match=f"no '{key}'"):
        read_encoded(record)


@pytest.mark.parametrize("value", [7, None, [], "xyz", {"room": "a"}, {"origin": 1}])
def test_what_is_no_record(value: object) -> None:
    """Is refused, whatever JSON had."""
    with pytest.raises(FlcError):
        read_encoded(value)


def test_what_no_node_accepts_is_refused() -> None:
    """A typed message goes through the receivers' decoder."""
    record = encoded_record(message().encoded)
    assert isinstance(record, dict)
    with pytest.raises(FlcError, match="parent"):
        read_encoded({**record, "parent": "0102"})
