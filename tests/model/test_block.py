"""Blocks: what is encoded, and what is refused."""

import tracemalloc
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flc_udp.config import (
    BLOCK_BYTES_MAX,
    BODIES_MAX,
    BODY_BYTES_MAX,
    CAUSES_MAX,
    LABEL_BYTES_MAX,
    SEQ_LIMIT,
    SHARED_BYTES_MAX,
    STAMP_LIMIT,
)
from flc_udp.model.block import (
    NO_PARENT,
    Block,
    Origin,
    decode,
    hash_of,
    pack_body,
    peek_dot,
    stamp_of,
    write,
)
from flc_udp.model.clocks import STAMP_WALL_SHIFT
from flc_udp.model.dots import Dot
from flc_udp.model.errors import Drop, FlcError, Malformed
from flc_udp.model.labels import label_problem

LOG, OTHER, THIRD = b"log-----", b"other---", b"third---"
PARENT = b"parent--"

ids = st.binary(min_size=8, max_size=8)
seqs = st.integers(1, SEQ_LIMIT - 1) | st.integers(1, 300)
labels = st.text(
    st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=LABEL_BYTES_MAX
).filter(lambda text: label_problem(text) is None)
letters = st.characters(exclude_categories=["Cs"])
bodies = st.text(letters, max_size=300) | st.binary(max_size=300)
short_bodies = st.text(letters, max_size=4) | st.binary(max_size=9)
bursts = st.lists(short_bodies, min_size=1, max_size=20)
"""These share a block, whatever else is in it."""


@st.composite
def fields(draw: st.DrawFn) -> dict[str, Any]:
    """What an author may write."""
    said = draw(bodies.map(lambda body: [body]) | bursts)
    log, first = draw(ids), draw(st.just(1) | seqs.map(lambda seq: min(seq, SEQ_LIMIT - len(said))))
    causes = draw(st.dictionaries(ids.filter(lambda other: other != log), seqs, max_size=5))
    stamp = draw(st.integers(0, STAMP_LIMIT - 1))
    return {
        "log": log,
        "first": first,
        "room": draw(labels),
        "author": draw(labels),
        "wall": draw(st.integers(0, stamp >> STAMP_WALL_SHIFT)),
        "stamp": stamp,
        "causes": tuple(draw(st.permutations([Dot(*item) for item in causes.items()]))),
        "parent": NO_PARENT if first == 1 else draw(ids.filter(any)),
        "bodies": tuple(said),
        "origin": Origin(draw(ids), draw(labels)) if first == 1 else None,
    }


def valid(**changes: object) -> dict[str, Any]:
    """A log's second block of one message, ready to write."""
    return {
        "log": LOG,
        "first": 2,
        "room": "lobby",
        "author": "ann",
        "wall": 1_000,
        "stamp": 1_000 << STAMP_WALL_SHIFT,
        "causes": (),
        "parent": PARENT,
        "bodies": ("hi",),
        "origin": None,
        **changes,
    }


def written(**values: Any) -> Block:  # noqa: ANN401  # each field has its type
    """What an author's node writes, who says these bodies."""
    return write(**{**values, "bodies": list(map(pack_body, values["bodies"]))})


FIELDS = ("log", "first", "room", "author", "wall", "lift", "causes", "parent", "bodies", "origin")


def encode(*trailing: object, **changes: object) -> bytes:
    """A valid encoding but for these fields, which may be anything."""
    values = {
        "log": LOG,
        "first": 2,
        "room": "lobby",
        "author": "ann",
        "wall": 1_000,
        "lift": 7,
        "causes": (),
        "parent": PARENT,
        "bodies": ("hi",),
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
    def test_what_is_written_is_what_is_read(self, values: dict[str, Any]) -> None:
        """Every field, whatever room, author, bodies and causes; causes in their order."""
        block = written(**values)

        assert block == decode(block.encoded)
        assert {**values, "causes": tuple(sorted(values["causes"]))} == {
            name: getattr(block, name) for name in values
        }
        assert hash_of(block.encoded) == block.hash
        assert block.stamp == stamp_of(block.encoded)
        assert Dot(values["log"], values["first"]) == block.dot == peek_dot(block.encoded)
        assert block.last == block.first + len(values["bodies"]) - 1

    @given(st.permutations([Dot(OTHER, 1), Dot(THIRD, 9), Dot(bytes(7) + b"1", 3)]))
    def test_the_order_of_causes_is_not_the_callers(self, causes: list[Dot]) -> None:
        """One set of causes is one encoding."""
        one, other = (
            written(**valid(causes=tuple(causes))),
            written(**valid(causes=tuple(causes[::-1]))),
        )

        assert one.encoded == other.encoded

    @given(fields(), st.lists(st.none() | st.integers(0, 9) | st.text(max_size=3), max_size=5))
    def test_trailing_fields_are_kept_and_ignored(
        self, values: dict[str, Any], trailing: list[Any]
    ) -> None:
        """A later version may add fields: the bytes stay, and with them the hash."""
        block = written(**values)
        longer = msgpack.packb((*msgpack.unpackb(block.encoded, use_list=False), *trailing))
        found = decode(longer)

        assert longer == found.encoded
        assert hash_of(longer) == found.hash
        assert block[:-2] == found[:-2]

    def test_trailing_fields_of_the_origin_are_ignored(self) -> None:
        """The first block may tell more of its node."""
        first = encode(first=1, parent=NO_PARENT, origin=(OTHER, "ann", "more"))

        assert Origin(OTHER, "ann") == decode(first).origin

    def test_a_body_of_either_kind_stays_that_kind(self) -> None:
        """Text is text and bytes are bytes, though they look alike."""
        said = ("hi", b"hi", "", b"")

        assert written(**valid(bodies=said)).bodies == said


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
NO_BODY = [None, 7, True, 1.5, (), ("hi",), {}, {"hi": "hi"}, msgpack.Timestamp(1, 2)]
LONG_BODIES = [
    "x" * (BODY_BYTES_MAX + 1),
    bytes(BODY_BYTES_MAX + 1),
    "é" * (BODY_BYTES_MAX // 2) + "x",
    "€" * (BODY_BYTES_MAX // 3 + 1),
]
FIRST = {"first": 1, "parent": NO_PARENT, "origin": (OTHER, "ann")}

BAD: list[tuple[str, list[Any]]] = [
    ("log", NO_ID),
    ("first", [0, SEQ_LIMIT, *NO_NUMBER]),
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
    ("bodies", [None, 7, True, 1.5, (), {}, "hi", b"hi", {0: "hi"}, ("",) * (BODIES_MAX + 1)]),
    ("bodies", [(body,) for body in (*NO_BODY, *LONG_BODIES)]),
    ("bodies", [said for body in NO_BODY for said in (("a", body), (body, "a"), ("", body, b""))]),
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
        """Acceptance is a function of the bytes: none of these is a block anywhere."""
        assert refusal(encode()) is None
        assert [value for value in values if refusal(encode(**{field: value})) is None] == []

    @pytest.mark.parametrize(("field", "values"), BAD_FIRST)
    def test_the_first_block_names_its_node(self, field: str, values: list[Any]) -> None:
        """Seq 1 has no parent and an origin; all others have a parent and none."""
        assert refusal(encode(**FIRST)) is None
        assert [v for v in values if refusal(encode(**{**FIRST, field: v})) is None] == []

    def test_every_field_is_in_the_table(self) -> None:
        """No field is taken unchecked."""
        assert set(FIELDS) == {field for field, _ in BAD}

    def test_limits_are_exact(self) -> None:
        """The greatest of everything is a block."""
        many = tuple(p for n in range(CAUSES_MAX) for p in (n.to_bytes(8, "big"), SEQ_LIMIT - 1))
        greatest = encode(
            first=SEQ_LIMIT - 1,
            room="é" * 64,
            author="x" * 128,
            wall=0,
            lift=STAMP_LIMIT - 1,
            causes=many,
            bodies=(bytes(BODY_BYTES_MAX),),
        )

        assert decode(greatest).stamp == STAMP_LIMIT - 1
        assert len(decode(greatest).causes) == CAUSES_MAX
        for longest in ("é" * (BODY_BYTES_MAX // 2), bytes(BODY_BYTES_MAX)):
            assert decode(encode(bodies=(longest,))).bodies == (longest,)
            assert written(**valid(bodies=(longest,))).bodies == (longest,)

    def test_a_block_is_bounded_in_all(self) -> None:
        """Trailing fields do not make it longer than BLOCK_BYTES_MAX."""
        room = BLOCK_BYTES_MAX - len(encode(b"")) - 3

        assert refusal(encode(bytes(room))) is None
        assert refusal(encode(bytes(room + 1))) == Drop.BLOCK_TOO_LARGE

    def test_a_block_of_several_is_bounded_in_all(self) -> None:
        """By SHARED_BYTES_MAX, with whatever follows; a block of one is not."""
        two = len(encode(bodies=("", bytes(900))))
        longest = ("", bytes(900 + SHARED_BYTES_MAX - two))

        assert len(encode(bodies=longest)) == SHARED_BYTES_MAX
        assert refusal(encode(bodies=longest)) is None
        assert refusal(encode(None, bodies=longest)) == Drop.BLOCK_SHARED_TOO_LARGE
        assert refusal(encode(None, bodies=longest[1:])) is None
        for longer in (("x", longest[1]), ("", longest[1] + b"x")):
            assert len(encode(bodies=longer)) == SHARED_BYTES_MAX + 1
            assert refusal(encode(bodies=longer)) == Drop.BLOCK_SHARED_TOO_LARGE

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"bodies": ()}, Drop.BLOCK_BODIES_OUT_OF_RANGE),
            ({"bodies": "hi"}, Drop.BLOCK_BODIES_OUT_OF_RANGE),
            ({"bodies": None}, Drop.BLOCK_BODIES_OUT_OF_RANGE),
            ({"bodies": {"hi": "hi"}}, Drop.BLOCK_BODIES_OUT_OF_RANGE),
            ({"bodies": ("",) * (BODIES_MAX + 1)}, Drop.BLOCK_BODIES_OUT_OF_RANGE),
            ({"bodies": ("",) * BODIES_MAX}, None),
            *(({"bodies": (body,)}, Drop.BLOCK_BODY_OF_OTHER_TYPE) for body in NO_BODY),
            *(({"bodies": ("", body)}, Drop.BLOCK_BODY_OF_OTHER_TYPE) for body in NO_BODY),
            *(({"bodies": (body, b"")}, Drop.BLOCK_BODY_OF_OTHER_TYPE) for body in NO_BODY),
            *(({"bodies": (body,)}, Drop.BLOCK_BODY_TOO_LARGE) for body in LONG_BODIES),
            *(({"bodies": ("", body)}, Drop.BLOCK_SHARED_TOO_LARGE) for body in LONG_BODIES),
            ({"bodies": (msgpack.ExtType(5, b"hi"),)}, Drop.BLOCK_NOT_MSGPACK),
            ({"bodies": ("", msgpack.ExtType(5, b"hi"))}, Drop.BLOCK_NOT_MSGPACK),
            ({"first": SEQ_LIMIT, "bodies": ("",)}, Drop.BLOCK_SEQ_OUT_OF_RANGE),
            ({"first": SEQ_LIMIT - 1, "bodies": ("",)}, None),
            ({"first": SEQ_LIMIT - 1, "bodies": ("", "")}, Drop.BLOCK_SEQ_OUT_OF_RANGE),
            ({"first": SEQ_LIMIT - 2, "bodies": ("", "")}, None),
            ({"first": SEQ_LIMIT - 1_023, "bodies": ("",) * 1_024}, Drop.BLOCK_SEQ_OUT_OF_RANGE),
            ({"first": SEQ_LIMIT - 1_024, "bodies": ("",) * 1_024}, None),
            ({"first": -1, "bodies": ("", "", "")}, Drop.BLOCK_SEQ_OUT_OF_RANGE),
        ],
        ids=lambda value: repr(value)[:60],
    )
    def test_what_is_wrong_with_bodies_is_told(
        self, changes: dict[str, Any], reason: Drop | None
    ) -> None:
        """By the reason under which it is counted; the last number is below the limit, too."""
        assert reason == refusal(encode(**changes))

    @pytest.mark.parametrize("count", range(10))
    def test_a_field_less_is_no_block(self, count: int) -> None:
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
        """Whatever the bytes, it is a block or malformed, and its dot can be peeked at."""
        peek_dot(junk)
        if refusal(junk) is None:
            assert 1 <= len(decode(junk).bodies) <= BODIES_MAX
            assert junk == decode(junk).encoded
            assert decode(junk).dot == peek_dot(junk)

    @given(st.binary(max_size=200))
    def test_random_bytes_raise_nothing_else(self, junk: bytes) -> None:
        """Malformed and nothing else."""
        self.check(junk)

    @given(fields(), st.data())
    def test_mutated_blocks_raise_nothing_else(
        self, values: dict[str, Any], data: st.DataObject
    ) -> None:
        """A valid block with some bytes changed, dropped or put in."""
        junk = bytearray(written(**values).encoded)
        for _ in range(data.draw(st.integers(1, 4))):
            at = data.draw(st.integers(0, len(junk) - 1))
            junk[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
            if not junk:
                break
        self.check(bytes(junk))

    @given(fields(), st.integers(1, 255))
    def test_each_byte_flipped_raises_nothing_else(self, values: dict[str, Any], by: int) -> None:
        """One after the other, in blocks of one message and of many."""
        block = written(**values)
        for at, byte in enumerate(block.encoded):
            junk = block.encoded[:at] + bytes([byte ^ by]) + block.encoded[at + 1 :]
            self.check(junk)
            assert refusal(junk) is not None or decode(junk).hash != block.hash

    def test_every_byte_of_a_block_to_every_value_raises_nothing_else(self) -> None:
        """And none of the changed ones is taken for the original."""
        several, many = ("hi", b"hi", "é" * 20, bytes(40), ""), ("",) * 16
        for encoded in (
            encode(causes=(OTHER, 300)),
            encode(**FIRST),
            encode(bodies=several),
            encode(**FIRST, bodies=many),
        ):
            original = decode(encoded)
            for at in range(len(encoded)):
                for value in range(256):
                    junk = encoded[:at] + bytes([value]) + encoded[at + 1 :]
                    self.check(junk)
                    if junk != encoded and refusal(junk) is None:
                        assert original.hash != decode(junk).hash

    @pytest.mark.parametrize("length", range(0, 60, 3))
    def test_truncated_blocks_raise_nothing_else(self, length: int) -> None:
        """At any byte."""
        self.check(encode(causes=(OTHER, 300))[:length])
        self.check(encode(bodies=("hi", b"hi", ""))[:length])

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
            encode(bodies=(msgpack.Timestamp(1, 2),)),
            encode(bodies=("a", ("b", ("c", ("d",))))),
            encode(float("nan"), {"a": [1]}, 2.5),
        ],
    )
    def test_nests_declared_lengths_and_odd_types_raise_nothing_else(self, junk: bytes) -> None:
        """Deep nesting, lengths beyond the end, extensions, map keys, NaN."""
        self.check(junk)

    def test_declared_lengths_take_no_memory(self) -> None:
        """A nest of arrays that each promise as much as the block has bytes."""
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
        assert Dot(LOG, seq) == peek_dot(written(**valid(first=seq)).encoded)

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
        """None where it does not begin like a block."""
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
            {"bodies": ("\ud800",)},
            {"bodies": ("hi", "\ud800")},
            {"bodies": ("x" * (BODY_BYTES_MAX + 1),)},
            {"bodies": ("hi", bytes(BODY_BYTES_MAX + 1))},
            {"bodies": (None,)},
            {"bodies": ("hi", 7)},
            {"bodies": ()},
            {"stamp": STAMP_LIMIT},
            {"stamp": 1 << 70},
            {"wall": 1_001},
            {"wall": -1},
            {"first": 0},
            {"first": SEQ_LIMIT},
            {"first": SEQ_LIMIT - 1, "bodies": ("", "")},
            {"first": 1 << 70},
            {"parent": NO_PARENT},
            {"parent": b"short"},
            {"origin": Origin(OTHER, "ann")},
            {"first": 1, "parent": NO_PARENT},
            {"first": 1, "parent": NO_PARENT, "origin": Origin(OTHER, "")},
            {"first": 1, "parent": NO_PARENT, "origin": Origin(OTHER, "\ud800")},
            {"first": 1, "parent": NO_PARENT, "origin": Origin(b"short", "ann")},
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
            written(**valid(**changes))

        assert str(refused.value)
        assert refused.value.hint

    def test_a_written_block_is_immutable(self) -> None:
        """A value."""
        block = written(**valid())
        with pytest.raises(AttributeError):
            block.first = 3  # type: ignore[misc]  # what is tried here


@cache
def body_of(size: int, *, is_text: bool) -> str | bytes:
    """A body that takes just so many bytes in a block: of one kind, or of the other."""
    texts, others = ([kind * (size - head) for head in (1, 2, 3)] for kind in ("x", b"x"))
    found = texts + others if is_text else others + texts
    return next(body for body in found if len(pack_body(body)) == size)


def bodies_of(size: int, count: int) -> tuple[str | bytes, ...]:
    """So many bodies that take just so many bytes in a block, all about as long."""
    sizes = [size * (at + 1) // count - size * at // count for at in range(count)]
    return tuple(body_of(size, is_text=bool(at % 2)) for at, size in enumerate(sizes))


LONG_NAMES = {"room": "é" * 64, "author": "x" * 128}
HEADS: list[dict[str, Any]] = [
    {**names, **first, "causes": tuple(Dot(bytes([65 + at]) * 8, 300) for at in range(causes))}
    for names in ({}, LONG_NAMES)
    for first in ({}, {"first": 1, "parent": NO_PARENT, "origin": Origin(OTHER, "ann")})
    for causes in range(4)
]


def length_of(said: Sequence[str | bytes], head: dict[str, Any]) -> int:
    """How long a block with all these bodies would be, whether or not there may be one."""
    flat = [part for dot in head["causes"] for part in dot]
    return len(encode(**{**head, "causes": flat, "lift": 0, "bodies": said}))


class TestSharing:
    @pytest.mark.parametrize("count", [2, 5, 14, 15, 16, 17, 200])
    @pytest.mark.parametrize("head", HEADS, ids=range(len(HEADS)))
    def test_a_block_takes_as_many_as_fit(self, head: dict[str, Any], count: int) -> None:
        """To the byte: all of them up to SHARED_BYTES_MAX, and beyond it all that have room."""
        rest = length_of(("",) * count, head) - count
        for total in range(1_000, 1_201):
            said = bodies_of(total - rest, count)
            block = written(**valid(**head, bodies=said))
            taken = len(block.bodies)

            assert total == length_of(said, head)
            assert said[:taken] == block.bodies
            assert (taken == count) is (total <= SHARED_BYTES_MAX)
            assert len(block.encoded) == length_of(block.bodies, head)
            assert len(block.encoded) <= SHARED_BYTES_MAX or taken == 1
            if taken < count:
                assert length_of(said[: taken + 1], head) > SHARED_BYTES_MAX

    @pytest.mark.parametrize(
        ("said", "taken"),
        [
            ((bytes(5_000), "a"), 1),
            (("a", bytes(5_000), "b"), 1),
            (("a", b"b", bytes(BODY_BYTES_MAX), "c"), 2),
            (("",) * BODIES_MAX, BODIES_MAX),
            (("",) * (BODIES_MAX + 1), BODIES_MAX),
            (("a",) * (BODIES_MAX + 1), 529),
        ],
        ids=["large first", "large second", "largest third", "most", "one more", "no room for all"],
    )
    def test_the_order_decides(self, said: tuple[str | bytes, ...], taken: int) -> None:
        """None is passed over for a shorter one behind it, and at least one is taken."""
        assert said[:taken] == written(**valid(bodies=said)).bodies

    @pytest.mark.parametrize("causes", [60, 300, CAUSES_MAX])
    def test_where_there_is_no_room_one_is_taken(self, causes: int) -> None:
        """Many causes leave no room to share."""
        many = tuple(Dot(number.to_bytes(8, "big"), 1 << 40) for number in range(causes))

        assert written(**valid(causes=many, bodies=("a", "b"))).bodies == ("a",)

    @given(fields(), st.lists(short_bodies | bodies, min_size=1, max_size=200))
    def test_whatever_is_said_becomes_blocks_in_its_order(
        self, values: dict[str, Any], said: list[str | bytes]
    ) -> None:
        """One after another, each with at least one; no body is lost, and no number skipped."""
        values["first"] = min(values["first"], SEQ_LIMIT - len(said))
        rest = list(said)
        blocks: list[Block] = []
        while rest:
            blocks.append(written(**{**values, "bodies": rest}))
            head = blocks[-1]
            del rest[: len(head.bodies)]
            after = {"first": head.last + 1, "parent": head.hash, "causes": (), "origin": None}
            values = {**values, **after}

        assert said == [body for block in blocks for body in block.bodies]
        assert all(block == decode(block.encoded) for block in blocks)
        assert all(before.last + 1 == block.first for before, block in pairwise(blocks))
        assert all(
            len(block.encoded) <= SHARED_BYTES_MAX for block in blocks if len(block.bodies) > 1
        )

    @given(st.lists(short_bodies, min_size=1, max_size=5), st.integers(1, BODIES_MAX))
    def test_up_to_the_most_bodies_come_back(self, some: list[str | bytes], count: int) -> None:
        """Text and bytes, with the numbers from the first to the last."""
        said = tuple((some * count)[:count])
        block = written(**valid(bodies=said))
        taken = len(block.bodies)

        assert said[:taken] == decode(block.encoded).bodies
        assert (2, 1 + taken) == (block.first, block.last)
        assert list(enumerate(said[:taken], 2)) == [(m.seq, m.body) for m in block.messages()]
