import tracemalloc
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flc_udp.config import (
    BODY_BYTES_MAX,
    CAUSES_MAX,
    LABEL_BYTES_MAX,
    MESSAGE_BYTES_MAX,
    SEQ_LIMIT,
    STAMP_LIMIT,
)
from flc_udp.model.clocks import STAMP_WALL_SHIFT
from flc_udp.model.dots import Dot
from flc_udp.model.errors import FlcError, Malformed
from flc_udp.model.message import (
    NO_PARENT,
    Message,
    Origin,
    check_label,
    decode,
    hash_of,
    history_key,
    label_problem,
    peek_dot,
    write,
)

LOG, OTHER, THIRD = b"log-----", b"other---", b"third---"
PARENT = b"parent--"

ids = st.binary(min_size=8, max_size=8)
seqs = st.integers(1, SEQ_LIMIT - 1) | st.integers(1, 300)
labels = st.text(
    st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=LABEL_BYTES_MAX
).filter(lambda text: label_problem(text) is None)
bodies = st.text(st.characters(exclude_categories=["Cs"]), max_size=300) | st.binary(max_size=300)


@st.composite
def fields(draw: st.DrawFn) -> dict[str, Any]:
    """What an author may write."""
    log, seq = draw(ids), draw(st.just(1) | seqs)
    causes = draw(st.dictionaries(ids.filter(lambda other: other != log), seqs, max_size=5))
    stamp = draw(st.integers(0, STAMP_LIMIT - 1))
    return {
        "log": log,
        "seq": seq,
        "room": draw(labels),
        "author": draw(labels),
        "wall": draw(st.integers(0, stamp >> STAMP_WALL_SHIFT)),
        "stamp": stamp,
        "causes": tuple(draw(st.permutations([Dot(*item) for item in causes.items()]))),
        "parent": NO_PARENT if seq == 1 else draw(ids.filter(any)),
        "body": draw(bodies),
        "origin": Origin(draw(ids), draw(labels)) if seq == 1 else None,
    }


def valid(**changes: object) -> dict[str, Any]:
    """A second message of a log, ready to write."""
    return {
        "log": LOG,
        "seq": 2,
        "room": "lobby",
        "author": "ann",
        "wall": 1_000,
        "stamp": 1_000 << STAMP_WALL_SHIFT,
        "causes": (),
        "parent": PARENT,
        "body": "hi",
        "origin": None,
        **changes,
    }


FIELDS = ("log", "seq", "room", "author", "wall", "lift", "causes", "parent", "body", "origin")


def encode(*trailing: object, **changes: object) -> bytes:
    """A valid encoding but for these fields, which may be anything."""
    values = {
        "log": LOG,
        "seq": 2,
        "room": "lobby",
        "author": "ann",
        "wall": 1_000,
        "lift": 7,
        "causes": (),
        "parent": PARENT,
        "body": "hi",
        "origin": None,
        **changes,
    }
    packed: bytes = msgpack.packb((*(values[name] for name in FIELDS), *trailing))
    return packed


def refusal(encoded: bytes) -> str | None:
    """Why it is refused, or None."""
    try:
        decode(encoded)
    except Malformed as error:
        return error.reason
    return None


class TestRoundTrip:
    @given(fields())
    def test_what_is_written_is_what_is_read(self, written: dict[str, Any]) -> None:
        """Every field, whatever room, author, body and causes; causes in their order."""
        message = write(**written)

        assert message == decode(message.encoded)
        assert {**written, "causes": tuple(sorted(written["causes"]))} == {
            name: getattr(message, name) for name in written
        }
        assert hash_of(message.encoded) == message.hash
        assert Dot(written["log"], written["seq"]) == message.dot == peek_dot(message.encoded)

    @given(st.permutations([Dot(OTHER, 1), Dot(THIRD, 9), Dot(bytes(7) + b"1", 3)]))
    def test_the_order_of_causes_is_not_the_callers(self, causes: list[Dot]) -> None:
        """One set of causes is one encoding."""
        one, other = (
            write(**valid(causes=tuple(causes))),
            write(**valid(causes=tuple(causes[::-1]))),
        )

        assert one.encoded == other.encoded

    @given(fields(), st.lists(st.none() | st.integers(0, 9) | st.text(max_size=3), max_size=5))
    def test_trailing_fields_are_kept_and_ignored(
        self, written: dict[str, Any], trailing: list[Any]
    ) -> None:
        """A later version may add fields: the bytes stay, and with them the hash."""
        message = write(**written)
        longer = msgpack.packb((*msgpack.unpackb(message.encoded, use_list=False), *trailing))
        found = decode(longer)

        assert longer == found.encoded
        assert hash_of(longer) == found.hash
        assert message[:-2] == found[:-2]

    def test_trailing_fields_of_the_origin_are_ignored(self) -> None:
        """The first message may tell more of its node."""
        first = encode(seq=1, parent=NO_PARENT, origin=(OTHER, "ann", "more"))

        assert Origin(OTHER, "ann") == decode(first).origin

    def test_a_body_of_either_kind_stays_that_kind(self) -> None:
        """Text is text and bytes are bytes, though they look alike."""
        assert [write(**valid(body=body)).body for body in ("hi", b"hi")] == ["hi", b"hi"]

    def test_history_sorts_by_stamp_then_log_then_seq(self) -> None:
        """The converged order."""
        message = write(**valid())

        assert (message.stamp, LOG, 2) == history_key(message)


NO_ID = [b"", b"seven--", b"nine-----", "8 chars-", 8, None]
NO_NUMBER = [-1, True, False, 1.0, "1", None, 1 << 63]
NO_LABEL = [
    "",
    "a\x00",
    "\n",
    "\x1f",
    "\x7f",
    "\x80",
    "\x9f",
    "x" * 129,
    "é" * 65,
    b"lobby",
    7,
    None,
]
FIRST = {"seq": 1, "parent": NO_PARENT, "origin": (OTHER, "ann")}

BAD: list[tuple[str, list[Any]]] = [
    ("log", NO_ID),
    ("seq", [0, SEQ_LIMIT, *NO_NUMBER]),
    ("room", NO_LABEL),
    ("author", NO_LABEL),
    ("wall", [STAMP_LIMIT >> STAMP_WALL_SHIFT, *NO_NUMBER]),
    ("lift", [STAMP_LIMIT, STAMP_LIMIT - (1_000 << STAMP_WALL_SHIFT), *NO_NUMBER]),
    (
        "causes",
        [
            None,
            0,
            "",
            b"",
            {},
            (OTHER,),
            (OTHER, 1, THIRD),
            (OTHER, 0),
            (OTHER, -1),
            (OTHER, SEQ_LIMIT),
            (OTHER, True),
            (OTHER, 1.0),
            (b"short", 1),
            ("text8888", 1),
            (1, OTHER),
            ((OTHER, 1),),
            (THIRD, 1, OTHER, 1),
            (OTHER, 1, OTHER, 2),
            (OTHER, 2, OTHER, 2),
            (LOG, 1),
            (LOG, 1, OTHER, 1),
            tuple(p for n in range(CAUSES_MAX + 1) for p in (n.to_bytes(8, "big"), 1)),
        ],
    ),
    ("parent", [NO_PARENT, *NO_ID]),
    ("body", [None, 7, True, 1.5, (), {}, "x" * (BODY_BYTES_MAX + 1), bytes(BODY_BYTES_MAX + 1)]),
    ("body", ["é" * (BODY_BYTES_MAX // 2) + "x", "€" * (BODY_BYTES_MAX // 3 + 1)]),
    ("origin", [(OTHER, "ann"), (), 0, False, ""]),
]

BAD_FIRST: list[tuple[str, list[Any]]] = [
    ("parent", [PARENT]),
    (
        "origin",
        [
            None,
            (),
            (OTHER,),
            OTHER,
            {"node": OTHER},
            *((node, "ann") for node in NO_ID),
            *((OTHER, name) for name in NO_LABEL),
        ],
    ),
]


class TestLimits:
    @pytest.mark.parametrize(("field", "values"), BAD, ids=lambda v: v if v is str else None)
    def test_each_field_wrong_in_each_way_is_refused(self, field: str, values: list[Any]) -> None:
        """Acceptance is a function of the bytes: none of these is a message anywhere."""
        assert refusal(encode()) is None
        assert [value for value in values if refusal(encode(**{field: value})) is None] == []

    @pytest.mark.parametrize(("field", "values"), BAD_FIRST)
    def test_the_first_message_names_its_node(self, field: str, values: list[Any]) -> None:
        """Seq 1 has no parent and an origin; all others have a parent and none."""
        assert refusal(encode(**FIRST)) is None
        assert [v for v in values if refusal(encode(**{**FIRST, field: v})) is None] == []

    def test_every_field_is_in_the_table(self) -> None:
        """No field is taken unchecked."""
        assert set(FIELDS) == {field for field, _ in BAD}

    def test_limits_are_exact(self) -> None:
        """The greatest of everything is a message."""
        many = tuple(p for n in range(CAUSES_MAX) for p in (n.to_bytes(8, "big"), SEQ_LIMIT - 1))
        greatest = encode(
            seq=SEQ_LIMIT - 1,
            room="é" * 64,
            author="x" * 128,
            wall=0,
            lift=STAMP_LIMIT - 1,
            causes=many,
            body=bytes(BODY_BYTES_MAX),
        )

        assert decode(greatest).stamp == STAMP_LIMIT - 1
        assert len(decode(greatest).causes) == CAUSES_MAX
        assert decode(encode(body="é" * (BODY_BYTES_MAX // 2))).body == "é" * (BODY_BYTES_MAX // 2)

    def test_a_message_is_bounded_in_all(self) -> None:
        """Trailing fields do not make it longer than MESSAGE_BYTES_MAX."""
        room = MESSAGE_BYTES_MAX - len(encode(b"")) - 3

        assert refusal(encode(bytes(room))) is None
        assert refusal(encode(bytes(room + 1))) == "message too large"

    @pytest.mark.parametrize("count", range(10))
    def test_a_field_less_is_no_message(self, count: int) -> None:
        """All ten are needed."""
        values = msgpack.unpackb(encode(), use_list=False)

        assert refusal(msgpack.packb(values[:count])) is not None

    @pytest.mark.parametrize(
        "junk", [b"", b"\xc0", b"\x80", b"\xa5hello", b"\xc1", encode() + b"\xc0", encode()[:-1]]
    )
    def test_what_is_no_array_is_refused(self, junk: bytes) -> None:
        """Nor one with something after it."""
        assert refusal(junk) is not None

    def test_rooms_are_taken_as_they_are_spelled(self) -> None:
        """No normalization, and case matters: four names, four rooms."""
        names = ["Café", "café", "Cafe\u0301", "cafe\u0301"]

        assert names == [decode(encode(room=name)).room for name in names]

    def test_a_long_label_is_not_remembered(self) -> None:
        """Junk names of a megabyte leave no memory behind."""
        tracemalloc.start()
        try:
            for number in range(20):
                refusal(encode(room=f"{number}" + "x" * 1_000_000))
            held, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

        assert held < 2_000_000


class TestJunk:
    def check(self, junk: bytes) -> None:
        """Whatever the bytes, it is a message or malformed, and its dot can be peeked at."""
        peek_dot(junk)
        if refusal(junk) is None:
            assert junk == decode(junk).encoded
            assert decode(junk).dot == peek_dot(junk)

    @given(st.binary(max_size=200))
    def test_random_bytes_raise_nothing_else(self, junk: bytes) -> None:
        """Malformed and nothing else."""
        self.check(junk)

    @given(fields(), st.data())
    def test_mutated_messages_raise_nothing_else(
        self, written: dict[str, Any], data: st.DataObject
    ) -> None:
        """A valid message with some bytes changed, dropped or put in."""
        junk = bytearray(write(**written).encoded)
        for _ in range(data.draw(st.integers(1, 4))):
            at = data.draw(st.integers(0, len(junk) - 1))
            junk[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
            if not junk:
                break
        self.check(bytes(junk))

    def test_every_byte_of_a_message_to_every_value_raises_nothing_else(self) -> None:
        """And none of the changed ones is taken for the original."""
        for encoded in (encode(causes=(OTHER, 300)), encode(**FIRST)):
            original = decode(encoded)
            for at in range(len(encoded)):
                for value in range(256):
                    junk = encoded[:at] + bytes([value]) + encoded[at + 1 :]
                    self.check(junk)
                    if junk != encoded and refusal(junk) is None:
                        assert original.hash != decode(junk).hash

    @pytest.mark.parametrize("length", range(0, 60, 3))
    def test_truncated_messages_raise_nothing_else(self, length: int) -> None:
        """At any byte."""
        self.check(encode(causes=(OTHER, 300))[:length])

    @pytest.mark.parametrize(
        "junk",
        [
            b"\x91" * 100_000,
            b"\x81" * 100_000,
            b"\x91" * 500 + b"\xc0",
            b"\xdd\xff\xff\xff\xff",
            b"\xdc\xff\xff",
            b"\xdf\xff\xff\xff\xff",
            b"\xc6\xff\xff\xff\xff",
            b"\xdb\xff\xff\xff\xff",
            b"\xdd\x00\x0f\xff\xff" * 10_000,
            b"\x91\xc7\x04\xffabcd",
            b"\x91\xd6\xffabcd",
            b"\x91\xd6\x05abcd",
            b"\x91\x81\x90\x01",
            b"\x91\x81\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00\x01",
            b"\x9a" + b"\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00" * 10,
            b"\x9a" + b"\xcb\x7f\xf0\x00\x00\x00\x00\x00\x00" * 10,
            encode(msgpack.ExtType(5, b"x")),
            encode(body=msgpack.Timestamp(1, 2)),
            encode(float("nan"), {"a": [1]}, 2.5),
        ],
    )
    def test_nests_declared_lengths_and_odd_types_raise_nothing_else(self, junk: bytes) -> None:
        """Deep nesting, lengths beyond the end, extensions, map keys, NaN."""
        self.check(junk)

    def test_declared_lengths_take_no_memory(self) -> None:
        """A nest of arrays that each promise as much as the message has bytes."""
        junk = (b"\xdd" + (60_000).to_bytes(4, "big")) * 1_000
        junk += b"\xc0" * (60_000 - len(junk))
        tracemalloc.start()
        try:
            self.check(junk)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

        assert peak < 200_000_000


class TestPeeking:
    @pytest.mark.parametrize(
        "seq", [2, 127, 128, 255, 256, 65_535, 65_536, (1 << 32) - 1, 1 << 32, SEQ_LIMIT - 1]
    )
    def test_it_reads_every_width_of_number(self, seq: int) -> None:
        """Msgpack has five."""
        assert Dot(LOG, seq) == peek_dot(write(**valid(seq=seq)).encoded)

    @pytest.mark.parametrize(
        "head",
        [
            b"\xdc\x00\x0a\xc4\x08" + LOG + b"\x02",
            b"\xdd\x00\x00\x00\x0a\xc4\x08" + LOG + b"\x02",
            b"\x9a\xc5\x00\x08" + LOG + b"\x02",
            b"\x9a\xc4\x08" + LOG + b"\xcf\x00\x00\x00\x00\x00\x00\x00\x02",
            b"\x9a\xc4\x08" + LOG + b"\xd0\x02",
        ],
        ids=["array16", "array32", "bin16", "wide seq", "signed seq"],
    )
    def test_a_head_of_another_spelling_is_peeked_rightly_or_refused(self, head: bytes) -> None:
        """What decodes can be named by its first bytes, as pieces and duplicates need it."""
        rest = encode()[1 + 10 + 1 :]
        encoded = head + rest

        assert encode() == b"\x9a\xc4\x08" + LOG + b"\x02" + rest
        assert refusal(encoded) is not None or decode(encoded).dot == peek_dot(encoded)

    def test_a_length_that_looks_like_an_id_is_no_head(self) -> None:
        """An array of 0xc408 fields begins like a small one with a log in it."""
        values = msgpack.unpackb(encode(), use_list=False)
        encoded = msgpack.packb((*values, *[None] * (0xC408 - len(values))))

        assert encoded[1:3] == b"\xc4\x08"
        assert refusal(encoded) is not None or decode(encoded).dot == peek_dot(encoded)

    @given(st.binary(max_size=40))
    def test_it_raises_nothing(self, junk: bytes) -> None:
        """None where it does not begin like a message."""
        assert peek_dot(junk) is None or junk[1:3] == b"\xc4\x08"


class TestAuthors:
    @pytest.mark.parametrize(
        "changes",
        [
            {"room": ""},
            {"room": "a\nb"},
            {"room": "x" * 129},
            {"room": "\ud800"},
            {"author": ""},
            {"author": "\x85"},
            {"author": "\ud800"},
            {"body": "\ud800"},
            {"body": "x" * (BODY_BYTES_MAX + 1)},
            {"body": bytes(BODY_BYTES_MAX + 1)},
            {"body": None},
            {"stamp": STAMP_LIMIT},
            {"stamp": 1 << 70},
            {"wall": 1_001},
            {"wall": -1},
            {"seq": 0},
            {"seq": SEQ_LIMIT},
            {"seq": 1 << 70},
            {"parent": NO_PARENT},
            {"parent": b"short"},
            {"origin": Origin(OTHER, "ann")},
            {"seq": 1, "parent": NO_PARENT},
            {"seq": 1, "parent": NO_PARENT, "origin": Origin(OTHER, "")},
            {"seq": 1, "parent": NO_PARENT, "origin": Origin(OTHER, "\ud800")},
            {"seq": 1, "parent": NO_PARENT, "origin": Origin(b"short", "ann")},
            {"causes": (Dot(LOG, 1),)},
            {"causes": (Dot(OTHER, 0),)},
            {"causes": (Dot(OTHER, 1), Dot(OTHER, 2))},
            {"causes": tuple(Dot(n.to_bytes(8, "big"), 1) for n in range(CAUSES_MAX + 1))},
            {"log": b"short"},
        ],
        ids=str,
    )
    def test_what_receivers_refuse_is_refused_with_a_hint(self, changes: dict[str, Any]) -> None:
        """An author runs the receivers' decoder on its own bytes: a FlcError and nothing else."""
        with pytest.raises(FlcError) as refused:
            write(**valid(**changes))

        assert str(refused.value)
        assert refused.value.hint

    def test_the_error_of_a_label_says_which_and_why(self) -> None:
        """And shows the beginning of it."""
        with pytest.raises(FlcError, match=r"room 'a\\nb' has control characters"):
            check_label("room", "a\nb")
        with pytest.raises(FlcError, match=r"author 'x+' has 129 bytes .* 1 to 128"):
            check_label("author", "x" * 129)

    def test_a_written_message_is_immutable(self) -> None:
        """A value."""
        message: Message = write(**valid())
        with pytest.raises(AttributeError):
            message.seq = 3  # type: ignore[misc]  # what is tried here
