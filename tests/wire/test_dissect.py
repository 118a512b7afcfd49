import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flc_udp.model.errors import Malformed
from flc_udp.wire import codec
from flc_udp.wire.dissect import fault_of, payload_of
from flc_udp.wire.packets import Nack, Packet
from tests.wire.strategies import ids, packets

SENDER = b"sender--"
ROW = [b"member--", 5, 0, "10.0.0.1:7352", "ann", 9, bytes(8), []]


def payload(*parts: object) -> bytes:
    """What a sender with a bug might send."""
    packed: bytes = msgpack.packb(parts)
    return packed


@given(ids, st.lists(packets, max_size=3))
def test_a_payload_has_just_these_packets(sender: bytes, found: list[Packet]) -> None:
    """In one payload whatever their size; and nothing is wrong with it."""
    made = payload_of(sender, found)

    assert (sender, found, 0) == codec.read(made)
    assert fault_of(made) is None


@given(st.binary(max_size=200) | st.lists(packets, min_size=1).map(lambda p: payload_of(SENDER, p)))
def test_a_fault_is_found_where_the_decoder_refuses(data: bytes) -> None:
    """And only there, whatever the bytes, with a byte that is one of them or the end."""
    for cut in {0, len(data) // 2, len(data)}:
        try:
            codec.read(data[:cut])
        except Malformed:
            fault = fault_of(data[:cut])

            assert fault is not None
            assert 0 <= fault.at <= cut
        else:
            assert fault_of(data[:cut]) is None


@pytest.mark.parametrize(
    ("data", "at", "said"),
    [
        (b"", 0, "payload is not msgpack"),
        (b"\xc1", 0, "payload is not msgpack"),
        (b"\x07", 0, "array expected"),
        (payload(), 0, "array expected"),
        (payload(b"short"), 1, "sender: id is not 8 bytes"),
        (payload(SENDER, 7), 11, "packet 1: array expected"),
        (payload(SENDER, [6]), 11, "packet 1, nack: packet is too short"),
        (payload(SENDER, [6, 1], [6, -1]), 16, "packet 2, nack.nonce: number out of range"),
        (payload(SENDER, [6, 1], [6, 2])[:-1], 14, "after packet 1: payload is not msgpack"),
        (payload(SENDER, [6, 1]) + b"x", 14, "after packet 1: payload is not msgpack"),
    ],
)
def test_a_fault_says_where(data: bytes, at: int, said: str) -> None:
    """The byte from the payload's first, the packet by number and kind, and the field."""
    fault = fault_of(data)

    assert fault is not None
    assert (at, said) == (fault.at, str(fault))


def test_the_byte_is_that_of_the_smallest_part_at_fault() -> None:
    """Of a member's row among others it is just the state."""
    bad = [*ROW[:2], 0xAB, *ROW[3:]]
    data = payload(SENDER, [6, 1], [8, [ROW, bad, ROW]])
    fault = fault_of(data)

    assert fault is not None
    assert str(fault) == "packet 2, members.rows[1].state: member state unknown"
    assert data[fault.at : fault.at + 2] == b"\xcc\xab"


@pytest.mark.parametrize(
    ("packet", "at", "said"),
    [
        ([19, b"", 0], 13, "receipt.log: id is not 8 bytes"),
        ([23, b"b" * 8, b"a" * 8, []], 11, "member-digest: digest range is empty"),
        ([16, 1, 2, False, 3, 4, [[b"a" * 8, 2, 1, []]]], 19, "pull.wants[0]: want is not a span"),
        ([8, [[*ROW[:7]]]], 14, "members.rows[0]: array expected"),
        ([8, [[*ROW[:7], [["k", "v"], ["j", "v"]]]]], 56, "members.rows[0].tags: member tags out"),
        ([25, 1, [[b"a" * 8, [1, b"", 1], None, []]]], 28, "base.rows[0].head.hash: hash is not"),
        ([25, 1, [[b"a" * 8, [1, b"h" * 8, 1], ["", ""], []]]], 40, "base.rows[0].origin.node: id"),
        ([13, True, [[b"a" * 8, 1], [b"a" * 8, 0]]], 27, "have.dots[1]: number out of range"),
    ],
)
def test_the_first_part_at_fault_is_named(packet: list[object], at: int, said: str) -> None:
    """If each part of a whole is well, and it is not, then the whole is named."""
    fault = fault_of(payload(SENDER, packet))

    assert fault is not None
    assert str(fault).removeprefix("packet 1, ").startswith(said)
    assert fault.at == at


def test_a_hostile_payload_is_looked_at_for_a_bounded_time() -> None:
    """Thousands of parts, and arrays deeper than any packet has, are no trap."""
    deep: list[object] = []
    for _ in range(400):
        deep = [deep]

    wide = fault_of(payload(SENDER, [8, [7] * 20_000]))
    assert wide is not None
    assert "array expected" in wide.reason
    assert fault_of(payload(SENDER, [8, deep])) is not None
    assert fault_of(payload(SENDER, [6, -1, deep])) is not None
    assert payload_of(SENDER, [Nack(1)]) == payload(SENDER, [6, 1])
