import tracemalloc
from contextlib import suppress
from typing import Any, get_args

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flc_udp.config import (
    BLOCK_BYTES_MAX,
    INCARNATION_LIMIT,
    PIECE_BYTES,
    RANGE_LEVELS,
    SEQ_LIMIT,
    STAMP_LIMIT,
)
from flc_udp.model.address import Address
from flc_udp.model.block import Origin
from flc_udp.model.dots import Dot
from flc_udp.model.errors import Malformed
from flc_udp.model.history import BaseLog, BaseRoom, Head
from flc_udp.model.tags import Tag
from flc_udp.wire.codec import FORMS, fields_of, read
from flc_udp.wire.packets import (
    KIND_OF,
    Ack,
    Base,
    BaseEnd,
    BasePull,
    Cookie,
    Digest,
    Have,
    Hello,
    Join,
    Leave,
    MemberDigest,
    MemberRanges,
    Members,
    Nack,
    Packet,
    Piece,
    Ping,
    PingReq,
    Prune,
    Pull,
    Ranges,
    Receipt,
    Relayed,
    Replay,
    ReplayEnd,
    Rumor,
    Taken,
    Update,
)
from flc_udp.wire.rows import NUMBER_LIMIT, PIECES_MAX, DigestRow, MemberRow, State, Want
from tests.wire.strategies import packets

SENDER = b"sender--"
ID, HASH = b"log-----", b"hash----"
ROW = MemberRow(ID, 5, State.ALIVE, Address("10.0.0.1", 7352), "ann", 9)
TAGGED = ROW._replace(tags=(Tag("dc", "eu"), Tag("role", "db")))

BASE = BaseLog(
    ID, Head(9, HASH, 5), Origin(ID, "ann"), (BaseRoom("a", 9, 5), BaseRoom("b", 3, None))
)
EXAMPLES: list[Packet] = [
    Ping(1, HASH, HASH, False, ID, 0),
    Ack(1, HASH, HASH, True, 0, 0, 1_700_000_000_000),
    Join(ROW),
    Members((ROW,)),
    Update((ROW, TAGGED)),
    Leave(1, TAGGED),
    Rumor(True, 1, (b"one", b"two")),
    Piece(ID, 1, HASH, 1_500, 1, bytes(476)),
    Have(False, (Dot(ID, 1),)),
    Digest(ID, ID, True, (DigestRow(ID, 1, HASH),)),
    Pull(1, 2, False, 3, 4, (Want(ID, 1, 2), Want(ID, 3, 3, (0, 4)))),
    Replay(1, (b"one",)),
    ReplayEnd(1, 2, 3, 4, (ID,)),
    Receipt(ID, 1),
    PingReq(1, ID),
    Nack(1),
    Relayed(1, ID),
    Prune(),
    Ranges(ID, 3, bytes(512)),
    MemberRanges(ID, 3, bytes(512)),
    MemberDigest(ID, ID, (ROW, TAGGED)),
    BasePull(1, ID),
    Base(1, (BASE, BASE._replace(origin=None, rooms=()))),
    BaseEnd(1, 2, 3, 4, ID),
    Taken(1, 2, 3),
    Hello(HASH, b"pad"),
    Cookie(7, HASH, b"pad"),
]


def payload(*bodies: object, sender: object = SENDER) -> bytes:
    """A payload of these packets as msgpack values."""
    encoded: bytes = msgpack.packb((sender, *bodies))
    return encoded


def refusal(*bodies: object, sender: object = SENDER) -> str | None:
    """Why a payload is refused, or None."""
    try:
        read(payload(*bodies, sender=sender))
    except Malformed as error:
        return error.reason
    return None


class TestRoundTrip:
    @given(st.lists(packets, max_size=5))
    def test_every_packet_comes_back_as_it_was(self, sent: list[Packet]) -> None:
        """What is written is what is read, and the sender with it."""
        assert (SENDER, sent, 0) == read(payload(*map(fields_of, sent)))

    def test_every_kind_is_among_the_examples(self) -> None:
        """The table below leaves none out, and each has a number and a reader."""
        kinds = {type(packet) for packet in EXAMPLES}

        assert set(get_args(Packet)) == kinds == set(KIND_OF)
        assert set(KIND_OF.values()) == set(FORMS)
        assert len(KIND_OF) == len(set(KIND_OF.values()))

    @pytest.mark.parametrize("packet", EXAMPLES, ids=lambda p: type(p).__name__)
    def test_classes_come_back_too(self, packet: Packet) -> None:
        """A row is a row again and a state a state, not merely equal tuples."""
        _, [found], _ = read(payload(fields_of(packet)))

        assert repr(packet) == repr(found)


class TestForwardCompatibility:
    @pytest.mark.parametrize("packet", EXAMPLES, ids=lambda p: type(p).__name__)
    def test_trailing_fields_are_ignored(self, packet: Packet) -> None:
        """A later version may add fields to any packet."""
        body = (*fields_of(packet), "new", {"x": 1}, 2.5, None)

        assert (SENDER, [packet], 0) == read(payload(body))

    def test_trailing_fields_of_rows_are_ignored(self) -> None:
        """To rows of members, digests and dots as well."""
        row = (ID, 5, 0, "10.0.0.1:7352", "ann", 9, bytes(8), TAGGED.tags, "new", {"x": 1})
        body = [
            (KIND_OF[Members], (row,)),
            (KIND_OF[Join], row),
            (KIND_OF[Have], False, ((ID, 1, "new"),)),
            (KIND_OF[Digest], ID, ID, False, ((ID, 1, HASH, "new"),)),
            (KIND_OF[Pull], 1, 2, False, 3, 4, ((ID, 1, 2, (), "new"),)),
            (KIND_OF[Base], 1, ((ID, (9, HASH, 5, "new"), None, (("a", 9, 5, "new"),), "new"),)),
        ]

        assert [
            Members((TAGGED,)),
            Join(TAGGED),
            Have(False, (Dot(ID, 1),)),
            Digest(ID, ID, False, (DigestRow(ID, 1, HASH),)),
            Pull(1, 2, False, 3, 4, (Want(ID, 1, 2),)),
            Base(1, (BaseLog(ID, Head(9, HASH, 5), None, (BaseRoom("a", 9, 5),)),)),
        ] == read(payload(*body))[1]

    @pytest.mark.parametrize("kind", [0, 28, 29, 255, 1 << 63, -1, True, "ping", None])
    def test_unknown_kinds_are_ignored_and_counted(self, kind: object) -> None:
        """What is not known changes nothing, and its neighbours are read."""
        known = fields_of(EXAMPLES[0])

        assert (SENDER, [EXAMPLES[0]], 2) == read(payload((kind,), known, (kind, 1, 2)))

    def test_a_payload_without_packets_is_one(self) -> None:
        """It says nothing, and is not junk."""
        assert read(payload()) == (SENDER, [], 0)


def changed(packet: Packet, at: int, value: object) -> tuple[Any, ...]:
    """A packet's fields, one of them another."""
    fields = list(fields_of(packet))
    fields[at] = value
    return tuple(fields)


NO_NUMBER = [-1, NUMBER_LIMIT - 0.5, True, "1", b"1", None, (1,)]
NO_ID = [b"", b"seven--", b"nine-----", "8 chars-", 8, None, (ID,)]
NO_FLAG = [0, 1, None, "true", b""]
NO_ARRAY = [0, None, "", b"", {}, True]
NO_SEQ = [0, SEQ_LIMIT, *NO_NUMBER]
NO_TAGS: list[Any] = [
    *NO_ARRAY,
    ("role",),
    (("role",),),
    (("role", "db", "more"),),
    (("role", b"db"),),
    ((1, "db"),),
    (("", "db"),),
    (("role", ""),),
    (("ro=le", "db"),),
    (("role", "d\nb"),),
    (("role", "x" * 129),),
    (("role", "db"), ("role", "web")),
    (("role", "db"), ("dc", "eu")),
    tuple((f"{n:02}", "x") for n in range(17)),
    tuple((f"{n}", "x" * 102) for n in range(5)),
    (("role", {}),),
]
NO_ROW = [
    (),
    None,
    (ID, 5, 0, "10.0.0.1:1", "ann", 9),
    (ID, 5, 0, "10.0.0.1:1", "ann", 9, ID),
    *(
        tuple({**dict(enumerate((ID, 5, 0, "10.0.0.1:1", "ann", 9, ID, ()))), at: value}.values())
        for at, values in {
            0: [*NO_ID, bytes(8)],
            1: [*NO_NUMBER, INCARNATION_LIMIT],
            2: [-1, 4, True, "0", None],
            3: [
                "10.0.0.1",
                "10.0.0.1:0",
                "10.0.0.1:65536",
                "10.0.0.1:07",
                "010.0.0.1:7",
                "ann:7",
                "[::ffff:10.0.0.1]:7",
                "[0::1]:7",
                "[::A]:7",
                "[fe80::1%eth0]:7",
                "::1:7",
                "[10.0.0.1]:7",
                b"10.0.0.1:1",
                "",
                7,
                None,
            ],
            4: ["", "a\nb", "\x85", "x" * 129, b"ann", 7, None],
            5: NO_NUMBER,
            6: NO_ID,
            7: NO_TAGS,
        }.items()
        for value in values
    ),
]
NO_BASE: list[Any] = [
    *NO_ARRAY,
    (ID, (9, HASH, 5), None),
    (b"", (9, HASH, 5), None, ()),
    (ID, (0, HASH, 5), None, ()),
    (ID, (9, b"", 5), None, ()),
    (ID, (9, HASH, STAMP_LIMIT), None, ()),
    (ID, (9, HASH), None, ()),
    *((ID, value, None, ()) for value in NO_ARRAY),
    (ID, (9, HASH, 5), ID, ()),
    (ID, (9, HASH, 5), (ID,), ()),
    (ID, (9, HASH, 5), (b"", "ann"), ()),
    (ID, (9, HASH, 5), (ID, ""), ()),
    *((ID, (9, HASH, 5), None, value) for value in NO_ARRAY),
    (ID, (9, HASH, 5), None, ("room",)),
    (ID, (9, HASH, 5), None, (("a", 9),)),
    (ID, (9, HASH, 5), None, (("", 9, None),)),
    (ID, (9, HASH, 5), None, (("a", 0, None),)),
    (ID, (9, HASH, 5), None, (("a", 10, None),)),
    (ID, (9, HASH, 5), None, (("a", 9, -1),)),
    (ID, (9, HASH, 5), None, (("a", 9, STAMP_LIMIT),)),
]
BAD: list[tuple[Packet, int, list[Any]]] = [
    (EXAMPLES[0], 1, NO_NUMBER),
    (EXAMPLES[0], 2, NO_ID),
    (EXAMPLES[0], 3, NO_ID),
    (EXAMPLES[0], 4, NO_FLAG),
    (EXAMPLES[0], 5, NO_ID),
    (EXAMPLES[0], 6, NO_NUMBER),
    (EXAMPLES[1], 1, NO_NUMBER),
    (EXAMPLES[1], 2, NO_ID),
    (EXAMPLES[1], 3, NO_ID),
    (EXAMPLES[1], 4, NO_FLAG),
    (EXAMPLES[1], 5, [SEQ_LIMIT, *NO_NUMBER]),
    (EXAMPLES[1], 6, NO_NUMBER),
    (EXAMPLES[1], 7, NO_NUMBER),
    (EXAMPLES[2], 1, NO_ROW),
    (EXAMPLES[3], 1, [*NO_ARRAY, *((row,) for row in NO_ROW)]),
    (EXAMPLES[4], 1, [*NO_ARRAY, *((row,) for row in NO_ROW)]),
    (EXAMPLES[5], 1, NO_NUMBER),
    (EXAMPLES[5], 2, NO_ROW),
    (EXAMPLES[6], 1, NO_FLAG),
    (EXAMPLES[6], 2, NO_NUMBER),
    (EXAMPLES[6], 3, [*NO_ARRAY, ("text",), (1,), (None,), ((b"",),)]),
    (EXAMPLES[7], 1, NO_ID),
    (EXAMPLES[7], 2, NO_SEQ),
    (EXAMPLES[7], 3, NO_ID),
    (EXAMPLES[7], 4, [0, 1_023, 1_024, 1_499, 1_501, 3_000, BLOCK_BYTES_MAX + 1, *NO_NUMBER]),
    (EXAMPLES[7], 5, [0, 2, PIECES_MAX, *NO_NUMBER]),
    (EXAMPLES[7], 6, [b"", bytes(475), bytes(477), bytes(PIECE_BYTES), "x" * 476, None]),
    (EXAMPLES[8], 1, NO_FLAG),
    (EXAMPLES[8], 2, [*NO_ARRAY, ((ID,),), ((ID, 0),), ((ID, True),), ((b"", 1),), (ID, 1)]),
    (EXAMPLES[9], 1, [*NO_ID, b"\xff" * 8]),
    (EXAMPLES[9], 2, [*NO_ID, bytes(8)]),
    (EXAMPLES[9], 3, NO_FLAG),
    (
        EXAMPLES[9],
        4,
        [
            *NO_ARRAY,
            ((ID, 1),),
            ((ID, 0, HASH),),
            ((ID, 1, b""),),
            ((bytes(8), 1, HASH),),
            ((b"\xff" * 8, 1, HASH),),
        ],
    ),
    (EXAMPLES[10], 1, NO_NUMBER),
    (EXAMPLES[10], 2, NO_NUMBER),
    (EXAMPLES[10], 3, NO_FLAG),
    (EXAMPLES[10], 4, [STAMP_LIMIT + 1, *NO_NUMBER]),
    (EXAMPLES[10], 5, [STAMP_LIMIT + 1, *NO_NUMBER]),
    (
        EXAMPLES[10],
        6,
        [
            *NO_ARRAY,
            ((ID, 1, 1),),
            ((ID, 0, 1, ()),),
            ((ID, 2, 1, ()),),
            ((ID, 1, SEQ_LIMIT, ()),),
            ((ID, 1, True, ()),),
            ((b"", 1, 1, ()),),
            *(((ID, 1, 1, value),) for value in NO_ARRAY),
            ((ID, 1, 1, (0,)),),
            ((ID, 1, 2, (0, 1)),),
            ((ID, 1, 1, (1, 0)),),
            ((ID, 1, 1, (0, PIECES_MAX)),),
            ((ID, 1, 1, (0, "1")),),
            ((ID, 1, 1, (-1, 1)),),
        ],
    ),
    (EXAMPLES[11], 1, NO_NUMBER),
    (EXAMPLES[11], 2, [*NO_ARRAY, ("text",), (1,)]),
    (EXAMPLES[12], 1, NO_NUMBER),
    (EXAMPLES[12], 2, NO_NUMBER),
    (EXAMPLES[12], 3, [STAMP_LIMIT + 1, *NO_NUMBER]),
    (EXAMPLES[12], 4, [STAMP_LIMIT, *NO_NUMBER]),
    (EXAMPLES[12], 5, [*NO_ARRAY, *((log,) for log in NO_ID)]),
    (EXAMPLES[13], 1, NO_ID),
    (EXAMPLES[13], 2, NO_SEQ),
    (EXAMPLES[14], 1, NO_NUMBER),
    (EXAMPLES[14], 2, NO_ID),
    (EXAMPLES[15], 1, NO_NUMBER),
    (EXAMPLES[16], 1, NO_NUMBER),
    (EXAMPLES[16], 2, NO_ID),
    (EXAMPLES[18], 1, NO_ID),
    (EXAMPLES[18], 2, [RANGE_LEVELS, *NO_NUMBER]),
    (EXAMPLES[18], 3, [b"", bytes(511), bytes(513), "x" * 512, None]),
    (EXAMPLES[19], 1, NO_ID),
    (EXAMPLES[19], 2, [RANGE_LEVELS, *NO_NUMBER]),
    (EXAMPLES[19], 3, [b"", bytes(511), bytes(513), "x" * 512, None]),
    (EXAMPLES[20], 1, [*NO_ID, b"\xff" * 8]),
    (EXAMPLES[20], 2, [*NO_ID, bytes(8)]),
    (EXAMPLES[20], 3, [*NO_ARRAY, *((row,) for row in NO_ROW)]),
    (EXAMPLES[21], 1, NO_NUMBER),
    (EXAMPLES[21], 2, [value for value in NO_ID if value != b""]),
    (EXAMPLES[22], 1, NO_NUMBER),
    (EXAMPLES[22], 2, [*NO_ARRAY, *((row,) for row in NO_BASE)]),
    (EXAMPLES[23], 1, NO_NUMBER),
    (EXAMPLES[23], 2, [STAMP_LIMIT, *NO_NUMBER]),
    (EXAMPLES[23], 3, NO_NUMBER),
    (EXAMPLES[23], 4, NO_NUMBER),
    (EXAMPLES[23], 5, [value for value in NO_ID if value != b""]),
    (EXAMPLES[24], 1, NO_NUMBER),
    (EXAMPLES[24], 2, NO_NUMBER),
    (EXAMPLES[24], 3, NO_NUMBER),
    (EXAMPLES[25], 1, NO_ID),
    (EXAMPLES[25], 2, ["", "text", 1, None, ()]),
    (EXAMPLES[26], 1, NO_NUMBER),
    (EXAMPLES[26], 2, NO_ID),
    (EXAMPLES[26], 3, ["", "text", 1, None, ()]),
]


class TestLimits:
    @pytest.mark.parametrize(
        ("packet", "at", "values"),
        BAD,
        ids=lambda v: type(v).__name__ if isinstance(v, tuple) else None,
    )
    def test_each_field_wrong_in_each_way_is_refused(
        self, packet: Packet, at: int, values: list[Any]
    ) -> None:
        """Every limit is checked on the way in: none of these is read as anything."""
        assert [v for v in values if refusal(changed(packet, at, v)) is None] == []

    def test_every_field_of_every_packet_is_in_the_table(self) -> None:
        """No field is taken unchecked."""
        fields = {(type(p), at) for p in EXAMPLES for at in range(1, len(p) + 1)}

        assert fields == {(type(packet), at) for packet, at, _ in BAD}

    @pytest.mark.parametrize("packet", EXAMPLES, ids=lambda p: type(p).__name__)
    def test_a_packet_that_is_too_short_is_refused(self, packet: Packet) -> None:
        """Each field is needed."""
        fields = fields_of(packet)

        assert {"packet is too short"} >= {refusal(fields[:n]) for n in range(1, len(fields))}
        assert refusal(fields) is None

    @pytest.mark.parametrize("sender", NO_ID)
    def test_a_sender_is_an_id(self, sender: object) -> None:
        """Every payload begins with who sent it."""
        assert refusal(sender=sender) is not None

    @pytest.mark.parametrize("junk", [(), 7, None, "x", {"a": 1}])
    def test_a_payload_is_an_array_of_arrays(self, junk: object) -> None:
        """Anything else is refused, alone and as a packet."""
        assert refusal(junk) is not None
        with pytest.raises(Malformed):
            read(msgpack.packb(junk))

    def test_long_names_and_addresses_are_not_remembered(self) -> None:
        """Junk rows of a datagram's size leave no memory behind."""
        tracemalloc.start()
        try:
            for number in range(200):
                junk = f"{number}" + "x" * 60_000
                refusal((KIND_OF[Join], (ID, 5, 0, "10.0.0.1:1", junk, 9, ID, ())))
                refusal((KIND_OF[Join], (ID, 5, 0, junk, "ann", 9, ID, ())))
            held, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

        assert held < 2_000_000

    def test_one_bad_packet_refuses_them_all(self) -> None:
        """Its sender is broken: nothing it says beside that is believed."""
        assert refusal(fields_of(EXAMPLES[0]), (KIND_OF[Receipt], ID, 0)) is not None

    def test_the_greatest_values_are_taken(self) -> None:
        """Limits are exact: one less than each is allowed."""
        row = ROW._replace(incarnation=INCARNATION_LIMIT - 1, boot=NUMBER_LIMIT - 1, name="x" * 128)
        number = (BLOCK_BYTES_MAX - 1) // PIECE_BYTES
        data = bytes(BLOCK_BYTES_MAX - number * PIECE_BYTES)
        sent = [
            Leave(NUMBER_LIMIT - 1, row),
            Receipt(ID, SEQ_LIMIT - 1),
            Piece(ID, 1, HASH, BLOCK_BYTES_MAX, number, data),
        ]

        assert (SENDER, sent, 0) == read(payload(*map(fields_of, sent)))


class TestJunk:
    def check(self, junk: bytes) -> None:
        """Whatever the bytes, it is read or it is malformed."""
        with suppress(Malformed):
            sender, found, unknown = read(junk)
            assert len(sender) == 8
            assert unknown >= 0
            # What was taken can be told on.
            assert found == read(payload(*map(fields_of, found)))[1]

    @given(st.binary(max_size=200))
    def test_random_bytes_raise_nothing_else(self, junk: bytes) -> None:
        """Malformed and nothing else."""
        self.check(junk)

    @given(st.lists(packets, min_size=1, max_size=3), st.data())
    def test_mutated_payloads_raise_nothing_else(
        self, sent: list[Packet], data: st.DataObject
    ) -> None:
        """A valid payload with some bytes changed."""
        junk = bytearray(payload(*map(fields_of, sent)))
        for _ in range(data.draw(st.integers(1, 4))):
            junk[data.draw(st.integers(0, len(junk) - 1))] = data.draw(st.integers(0, 255))
        self.check(bytes(junk))

    @pytest.mark.parametrize("packet", EXAMPLES, ids=lambda p: type(p).__name__)
    def test_a_truncated_payload_is_refused_at_every_byte(self, packet: Packet) -> None:
        """No prefix of a payload is one, nor is a payload with something after it."""
        whole = payload(fields_of(packet))
        for length in range(len(whole)):
            with pytest.raises(Malformed):
                read(whole[:length])
        with pytest.raises(Malformed):
            read(whole + b"\xc0")

    @pytest.mark.parametrize("packet", EXAMPLES, ids=lambda p: type(p).__name__)
    def test_every_byte_changed_to_every_type_raises_nothing_else(self, packet: Packet) -> None:
        """Each byte of each packet replaced by the first byte of each msgpack type."""
        whole = payload(fields_of(packet))
        for at in range(len(whole)):
            for first in (0x00, 0x80, 0x90, 0x9F, 0xA0, *range(0xC0, 0xE1)):
                self.check(whole[:at] + bytes([first]) + whole[at + 1 :])

    @given(
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers(-(1 << 63), (1 << 64) - 1)
            | st.floats()
            | st.binary(max_size=9)
            | st.text(st.characters(exclude_categories=["Cs"]), max_size=9),
            lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=2), inner),
            max_leaves=20,
        ),
        st.sampled_from(list(FORMS)),
    )
    def test_any_value_as_a_packet_raises_nothing_else(self, value: object, kind: int) -> None:
        """Valid msgpack of any shape behind a known kind."""
        body = (kind, *value) if isinstance(value, list) else (kind, value)
        try:
            junk = payload(body)
        except (UnicodeEncodeError, ValueError):
            return
        self.check(junk)

    @pytest.mark.parametrize(
        "junk",
        [
            b"\x91" * 60_000,
            b"\x81" * 60_000,
            b"\xdd\xff\xff\xff\xff",
            b"\xdf\xff\xff\xff\xff",
            b"\xc6\xff\xff\xff\xff",
            b"\xdb\xff\xff\xff\xff",
            (b"\xdd\x00\x00\xff\xff" * 5_000),
            b"\x92\xc4\x08sender--\x91\xc7\x04\xffabcd",
            b"\x92\xc4\x08sender--\x92\x03\xd6\x05abcd",
            b"\x92\xc4\x08sender--\x91\x81\x90\x01",
            b"\x92\xc4\x08sender--\x91\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00",
            b"\xc1",
            b"",
        ],
    )
    def test_nests_declared_lengths_and_odd_types_raise_nothing_else(self, junk: bytes) -> None:
        """Deep nesting, lengths beyond the end, extensions, map keys, NaN."""
        self.check(junk)
