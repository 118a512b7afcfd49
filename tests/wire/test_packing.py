from dataclasses import fields
from itertools import chain, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flc_udp.config import (
    INCARNATION_LIMIT,
    LABEL_BYTES_MAX,
    PIECE_BYTES,
    SEAL_BYTES,
    TAGS_BYTES_MAX,
    TAGS_MAX,
    Settings,
)
from flc_udp.model.address import Address
from flc_udp.model.dots import Dot
from flc_udp.model.tags import Tag
from flc_udp.wire.codec import read
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
from tests.wire.strategies import messages, packets

SENDER = b"sender--"
LEAST = next(f for f in fields(Settings) if f.name == "packet_bytes_max").metadata["within"][0]
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


@given(st.lists(messages, max_size=200), st.booleans(), st.sampled_from(BUDGETS))
def test_many_messages_fill_their_datagrams(sent: list[bytes], receipt: bool, budget: int) -> None:
    """Spread over as few as it takes in order: two neighbours never fit into one."""
    payloads = pack(SENDER, [Rumor(receipt, 7, tuple(sent))], budget)
    sizes = [len(payload) for payload in payloads]

    assert sent == [m for p in unpack(payloads, budget) for m in getattr(p, "messages", ())]
    assert all(a + b > budget - 300 for a, b in pairwise(sizes))


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("size", [1, 300, 1_000, 1_290, 1_400, 8_000, 65_536])
def test_a_message_of_any_size_goes_through(size: int, budget: int) -> None:
    """Whole where it fits, in pieces where it does not; small ones around it keep their order."""
    story = Story()
    said = [story.say("ann", body=b"x" * n) for n in (1, size, 2, size, 3)]
    found = unpack(pack(SENDER, [Replay(7, tuple(m.encoded for m in said))], budget), budget)
    whole: list[bytes] = []
    for packet in found:
        match packet:
            case Replay(nonce, inside):
                assert nonce == 7
                whole += inside
            case Piece():
                if packet.number == 0:
                    whole.append(b"")
                whole[-1] += packet.data
            case _:
                raise AssertionError(packet)

    assert [m.encoded for m in said] == whole


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
    said = tuple(story.say("ann", body="x" * 700).encoded for _ in range(20))
    found = unpack(pack(SENDER, [Replay(1, said), ReplayEnd(1, 2, 3, 4, ())], 1_355), 1_355)

    assert ReplayEnd(1, 2, 3, 4, ()) == found[-1]
    assert len(list(chain(*(p.messages for p in found if isinstance(p, Replay))))) == 20


def test_no_packets_are_no_payloads() -> None:
    """Nothing to say is nothing to send, and so is a packet of no items."""
    empty: list[Packet] = [Rumor(False, 0, ()), Update(()), Pull(1, 1, False, 0, 0, ())]

    assert pack(SENDER, [], 1_355) == []
    assert pack(SENDER, empty, 1_355) == []


def test_a_digest_without_rows_is_said() -> None:
    """It says that nothing of its range is held."""
    digest = Digest(bytes(8), b"\xff" * 8, True, ())

    assert [digest] == unpack(pack(SENDER, [digest], 1_355), 1_355)


@given(st.integers(1, 5 * PIECE_BYTES))
def test_pieces_are_the_message(size: int) -> None:
    """At fixed offsets, all but the last of one size, numbered from 0."""
    message = Story().say("ann", body=bytes(size))
    found = list(pieces_of(message.encoded))

    assert message.encoded == b"".join(piece.data for piece in found)
    assert list(range(len(found))) == [piece.number for piece in found]
    assert {PIECE_BYTES} >= {len(piece.data) for piece in found[:-1]}
    assert {(message.log, 1, message.hash, len(message.encoded))} == {p[:4] for p in found}


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
