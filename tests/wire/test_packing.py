from dataclasses import fields
from functools import cache
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flc_udp.config import (
    INCARNATION_LIMIT,
    LABEL_BYTES_MAX,
    PIECE_BYTES,
    SEAL_BYTES,
    SHARED_BYTES_MAX,
    TAGS_BYTES_MAX,
    TAGS_MAX,
    Settings,
)
from flc_udp.model.address import Address
from flc_udp.model.block import Block
from flc_udp.model.dots import Dot
from flc_udp.model.tags import Tag
from flc_udp.wire.codec import read
from flc_udp.wire.dissect import payload_of
from flc_udp.wire.packets import (
    Base,
    Digest,
    Have,
    Join,
    Leave,
    MemberDigest,
    Members,
    Packet,
    Piece,
    Ping,
    Pull,
    Replay,
    ReplayEnd,
    Rumor,
    Update,
)
from flc_udp.wire.packing import pack, packed_row, pieces_of
from flc_udp.wire.rows import MemberRow, State, Want
from tests.model.stories import Story
from tests.wire.strategies import blocks, packets

SENDER = b"sender--"
LEAST = next(f for f in fields(Settings) if f.name == "packet_bytes_max").metadata["allowed"][0]
BUDGETS = [LEAST - SEAL_BYTES, 1_355, 8_192 - SEAL_BYTES]

Item = tuple[object, ...]


def items_of(found: list[Packet]) -> list[Item]:
    """Packets taken apart into what must come through: each item with its packet's other fields."""
    items: list[Item] = []
    for packet in found:
        match packet:
            case Rumor() | Replay() | Members() | Update() | Pull() | Have() | Base():
                items += [(type(packet), packet[:-1], item) for item in packet[-1]]
            case _:
                items.append((type(packet), packet))
    return items


def unpack(payloads: list[bytes], budget: int) -> list[Packet]:
    """All packets of all payloads, each of which is within the budget and stands alone."""
    found: list[Packet] = []
    for payload in payloads:
        assert len(payload) <= budget
        sender, some, unknown = read(payload)
        assert (sender, unknown) == (SENDER, 0)
        assert some
        found += some
    return found


@given(st.lists(packets, max_size=30), st.sampled_from(BUDGETS))
def test_nothing_is_lost_doubled_or_out_of_order(sent: list[Packet], budget: int) -> None:
    """However packets are spread, what comes out is what went in, within the budget."""
    found = unpack(pack(SENDER, sent, budget), budget)

    assert items_of(sent) == items_of(found)


@given(st.lists(blocks, max_size=200), st.booleans(), st.sampled_from(BUDGETS))
def test_many_blocks_fill_their_datagrams(sent: list[bytes], receipt: bool, budget: int) -> None:
    """Spread over as few as it takes in order: two neighbours never fit into one."""
    payloads = pack(SENDER, [Rumor(receipt, 7, tuple(sent))], budget)
    sizes = [len(payload) for payload in payloads]

    assert sent == [b for p in unpack(payloads, budget) for b in getattr(p, "blocks", ())]
    assert all(a + b > budget - 300 for a, b in pairwise(sizes))


def blocks_in(found: list[Packet], head: tuple[object, ...]) -> list[bytes]:
    """The blocks that packets carry, whole or in pieces, in the order in which they come."""
    whole: list[bytes] = []
    for packet in found:
        match packet:
            case Rumor() | Replay():
                assert packet[:-1] == head
                whole += packet.blocks
            case Piece():
                if packet.number == 0:
                    whole.append(b"")
                assert len(whole[-1]) == packet.number * PIECE_BYTES
                whole[-1] += packet.data
            case _:
                raise AssertionError(packet)
    return whole


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("size", [1, 300, 1_000, 1_290, 1_400, 8_000, 65_536])
def test_a_block_of_any_size_goes_through(size: int, budget: int) -> None:
    """Whole where it fits, in pieces where it does not; small ones around it keep their order."""
    story = Story()
    said = [story.say("ann", "lobby", b"x" * n).encoded for n in (1, size, 2, size, 3)]
    found = unpack(pack(SENDER, [Replay(7, tuple(said))], budget), budget)

    assert said == blocks_in(found, (7,))


@cache
def block_of(size: int, count: int = 1) -> Block:
    """A block of just this size, with so many messages."""
    story = Story()
    story.say("ann")
    small = ["x"] * (count - 1)
    rest = size - len(story.say("bob", "lobby", bytes(300), *small).encoded) + 300
    return story.say("cyd", "lobby", bytes(rest), *small)


CARRIERS: list[Rumor | Replay] = [
    Rumor(False, 0, ()),
    Rumor(True, (1 << 64) - 1, ()),
    Replay((1 << 64) - 1, ()),
]


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("carrier", CARRIERS, ids=repr)
def test_blocks_of_every_size_around_a_datagram_arrive(
    carrier: Rumor | Replay, budget: int
) -> None:
    """Byte for byte: alone, and between others that leave any room in a payload."""
    small = block_of(400).encoded
    for size in range(900, 1_451):
        encoded = block_of(size).encoded
        for sent in ((encoded,), (small, encoded, encoded, small)):
            found = unpack(pack(SENDER, [carrier._replace(blocks=sent)], budget), budget)

            assert len(encoded) == size
            assert list(sent) == blocks_in(found, carrier[:-1])
        alone = len(payload_of(SENDER, [carrier._replace(blocks=(encoded,))]))
        is_cut = any(isinstance(packet, Piece) for packet in found)
        # A few bytes are kept free for the longer headers of arrays of many.
        assert (alone > budget - 4) is is_cut


@pytest.mark.parametrize("carrier", CARRIERS, ids=repr)
@pytest.mark.parametrize("count", [2, 15, 16, 300])
def test_a_shared_block_is_never_cut(carrier: Rumor | Replay, count: int) -> None:
    """Those who send the shortest datagrams send the longest one as a whole."""
    shared = block_of(SHARED_BYTES_MAX, count)
    payloads = pack(SENDER, [carrier._replace(blocks=(shared.encoded,))], min(BUDGETS))

    assert (SHARED_BYTES_MAX, count) == (len(shared.encoded), len(shared.bodies))
    assert [carrier._replace(blocks=(shared.encoded,))] == unpack(payloads, min(BUDGETS))
    assert len(payloads) == 1


@given(
    st.lists(st.integers(400, 1_450) | st.integers(400, 3_000), max_size=40),
    st.sampled_from(CARRIERS),
    st.sampled_from(BUDGETS),
)
def test_the_blocks_of_one_packet_are_spread(
    sizes: list[int], carrier: Rumor | Replay, budget: int
) -> None:
    """Over as many payloads as it takes: none is lost, doubled or out of order."""
    sent = tuple(block_of(size).encoded for size in sizes)
    found = unpack(pack(SENDER, [carrier._replace(blocks=sent)], budget), budget)

    assert list(sent) == blocks_in(found, carrier[:-1])


@pytest.mark.parametrize("budget", BUDGETS)
def test_thousands_of_rows_are_spread(budget: int) -> None:
    """A table of any size is so many datagrams, each standing alone."""
    rows = tuple(
        MemberRow(
            number.to_bytes(8, "big"),
            1 << 40,
            State.ALIVE,
            Address("2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", 65_535),
            "n" * (number % 128 + 1),
            (1 << 64) - 1,
        )
        for number in range(1, 5_000)
    )
    sent: list[Packet] = [
        Members(rows),
        Have(False, tuple(Dot(row.id, 1 << 52) for row in rows)),
        Pull(1, 2, False, 3, 4, tuple(Want(row.id, 1, 1 << 52) for row in rows)),
        Update(rows),
    ]

    assert items_of(sent) == items_of(unpack(pack(SENDER, sent, budget), budget))


def test_small_packets_share_a_payload() -> None:
    """An ack and its news are one datagram; a hundred probes are a few."""
    ping = Ping(1, bytes(8), bytes(8), False, bytes(8))

    assert len(pack(SENDER, [ping, ping, ReplayEnd(1, 2, 3, 4, ())], 1_355)) == 1
    assert len(pack(SENDER, [ping] * 100, 1_355)) == 3


def test_an_end_mark_follows_what_it_ends() -> None:
    """Order is kept across payloads: the end of a replay is its last packet."""
    story = Story()
    said = tuple(story.say("ann", "lobby", "x" * 700).encoded for _ in range(20))
    found = unpack(pack(SENDER, [Replay(1, said), ReplayEnd(1, 2, 3, 4, ())], 1_355), 1_355)

    assert ReplayEnd(1, 2, 3, 4, ()) == found[-1]
    assert said == tuple(blocks_in(found[:-1], (1,)))


def test_no_packets_are_no_payloads() -> None:
    """Nothing to say is nothing to send, and so is a packet of no items."""
    empty: list[Packet] = [Replay(1, ()), Update(()), Pull(1, 1, False, 0, 0, ())]

    assert pack(SENDER, [], 1_355) == []
    assert pack(SENDER, empty, 1_355) == []


@pytest.mark.parametrize(
    ("sizes", "kinds"),
    [
        ((), [Rumor]),  # It asks how far the peer has read.
        ((300, 300), [Rumor]),
        ((3_000,), [Rumor, Piece, Piece, Piece]),
        ((300, 3_000, 300), [Rumor, Rumor, Piece, Piece, Piece, Rumor]),
    ],
)
def test_before_pieces_a_rumor_says_how_far_the_pusher_is(
    sizes: tuple[int, ...], kinds: list[type[Packet]]
) -> None:
    """A piece has no `at`. Without it, blocks that need pieces would never be acknowledged."""
    said = tuple(block_of(size).encoded for size in sizes)
    found = unpack(pack(SENDER, [Rumor(True, 7, said)], 1_355), 1_355)

    assert list(map(type, found)) == kinds
    assert all(each[:-1] == (True, 7) for each in found if isinstance(each, Rumor))
    assert blocks_in(found, (True, 7)) == list(said)


def test_a_digest_without_rows_is_said() -> None:
    """It says that nothing of its range is held."""
    digest = Digest(bytes(8), b"\xff" * 8, True, ())

    assert [digest] == unpack(pack(SENDER, [digest], 1_355), 1_355)


@given(st.integers(1, 5 * PIECE_BYTES))
def test_pieces_are_the_block(size: int) -> None:
    """At fixed offsets, all but the last of one size, numbered from 0."""
    block = Story().say("ann", "lobby", bytes(size))
    found = list(pieces_of(block.encoded))

    assert block.encoded == b"".join(piece.data for piece in found)
    assert list(range(len(found))) == [piece.number for piece in found]
    assert {PIECE_BYTES} >= {len(piece.data) for piece in found[:-1]}
    assert {(block.log, 1, block.hash, len(block.encoded))} == {p[:4] for p in found}


class TestLongestRow:
    ROW = MemberRow(
        b"\xff" * 8,
        INCARNATION_LIMIT - 1,
        State.SUSPECT,
        Address("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 65_535),
        "n" * LABEL_BYTES_MAX,
        (1 << 64) - 1,
        b"\xff" * 8,
        tuple(Tag(f"{n:02}", "x" * (TAGS_BYTES_MAX // TAGS_MAX - 2)) for n in range(TAGS_MAX)),
    )

    def test_it_has_the_bytes_that_are_promised(self) -> None:
        """All its fields at their longest."""
        assert len(packed_row(self.ROW)) <= 850

    @pytest.mark.parametrize("budget", BUDGETS)
    def test_it_fits_wherever_rows_travel(self, budget: int) -> None:
        """Beside a probe, and many of them in as many datagrams as it takes."""
        rows = (self.ROW, self.ROW._replace(id=b"other---"))
        ping = Ping(1, bytes(8), bytes(8), False, bytes(8), 0)
        digests = [MemberDigest(row.id, row.id, (row,)) for row in rows]
        sent = [ping, Join(self.ROW), Leave(1, self.ROW), Members(rows), Update(rows), *digests]

        assert items_of(sent) == items_of(unpack(pack(SENDER, sent, budget), budget))
        assert len(pack(SENDER, [ping, Update((self.ROW,))], budget)) == 1
