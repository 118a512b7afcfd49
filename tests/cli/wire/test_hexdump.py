from ipaddress import ip_address
from itertools import chain, pairwise

import pytest

from flc_udp.cli.wire.hexdump import Captured, captured, datagram_in
from flc_udp.model.address import Address
from flc_udp.model.errors import FlcError

DATA = bytes(range(61))
ANN, BEN = Address("10.0.0.1", 7352), Address("10.0.0.2", 9000)
ANN6, BEN6 = Address("2001:db8::1", 7352), Address("::1", 9000)


def in_udp(data: bytes, source: Address, target: Address) -> bytes:
    """Put data into UDP (RFC 768), without a checksum."""
    head = (source.port, target.port, 8 + len(data), 0)
    return b"".join(number.to_bytes(2, "big") for number in head) + data


def in_v4(data: bytes = DATA, *, options: bytes = b"", fragment: int = 0) -> bytes:
    """Put data into UDP and IPv4 (RFC 791), from ann to ben."""
    body = in_udp(data, ANN, BEN)
    header = 20 + len(options)
    head = bytes((0x40 | header // 4, 0)) + (header + len(body)).to_bytes(2, "big") + bytes(2)
    head += fragment.to_bytes(2, "big") + bytes((64, 17, 0, 0))
    return head + ip_address(ANN.host).packed + ip_address(BEN.host).packed + options + body


def in_v6(data: bytes = DATA, *, options: int = 0) -> bytes:
    """Put data into UDP and IPv6 (RFC 8200), with that many options before UDP."""
    body = in_udp(data, ANN6, BEN6)
    kinds = [*[0, 60, 60][:options], 17]
    extensions = b"".join(bytes((after, 0)) + bytes(6) for _, after in pairwise(kinds))
    body = extensions + body
    head = b"\x60\0\0\0" + len(body).to_bytes(2, "big") + bytes((kinds[0], 64))
    return head + ip_address(ANN6.host).packed + ip_address(BEN6.host).packed + body


def dump(packet: bytes, *, text: bool = False) -> list[str]:
    """Print a packet like tcpdump -x, or like -X with `text`."""
    lines = ["12:00:00.000001 IP 10.0.0.1.7352 > 10.0.0.2.9000: UDP, length 61"]
    for at in range(0, len(packet), 16):
        row = packet[at : at + 16]
        groups = " ".join(row[n : n + 2].hex() for n in range(0, len(row), 2))
        shown = f"{groups:39}  {'abcd ef 0x12'}" if text else groups
        lines.append(f"\t0x{at:04x}:  {shown}")
    return lines


def read(*lines: str) -> list[Captured | FlcError]:
    """Give all that comes out of these lines."""
    return list(captured(lines))


def problems(*lines: str) -> list[str]:
    """Give the errors of these lines, which must have nothing else."""
    found = read(*lines)
    assert all(isinstance(each, FlcError) for each in found)
    return [str(each) for each in found]


def test_a_line_of_hex_is_a_datagram() -> None:
    """A line of hex is a datagram, with spaces or without; an empty line is nothing."""
    assert read("0102ff", "", "01 02 FF\r") == [Captured(b"\1\2\xff"), Captured(b"\1\2\xff")]


@pytest.mark.parametrize("text", [False, True])
def test_packets_are_joined_of_their_rows(text: bool) -> None:
    """The rows of an IPv4 or IPv6 packet give its datagram and the addresses of its header."""
    lines = [*dump(in_v4(), text=text), *dump(in_v6(), text=text)]

    assert read(*lines) == [Captured(DATA, ANN, BEN), Captured(DATA, ANN6, BEN6)]


def test_a_packet_comes_with_its_last_row() -> None:
    """A datagram comes with the last row of its packet, so a live capture is decoded at once."""
    waiting = iter(dump(in_v4()))
    found = captured(chain(waiting, ["00"]))

    assert next(found) == Captured(DATA, ANN, BEN)
    assert list(waiting) == []
    assert list(found) == [Captured(b"\0")]


@pytest.mark.parametrize(
    "packet",
    [in_v4(), in_v4(options=bytes(8)), in_v6(), in_v6(options=1), in_v6(options=2)],
    ids=["v4", "v4 with options", "v6", "v6 with an option", "v6 with options"],
)
@pytest.mark.parametrize("link", [b"", bytes(14), bytes(16), bytes(18), bytes(20), b"\2\0\0\0"])
def test_what_stands_before_it_is_passed_over(packet: bytes, link: bytes) -> None:
    """The header of any link, and the padding of a short frame, are no part of a datagram."""
    found = datagram_in(link + packet + bytes(3))

    assert found is not None
    assert found.datagram == DATA


@pytest.mark.parametrize(
    "packet",
    [
        in_v4()[:-1],
        in_v6()[:-1],
        in_v4(fragment=0x2000),
        in_v4(fragment=7),
        in_v4().replace(b"\x40\x11", b"\x40\x06"),
        in_v6()[:6] + b"\x06" + in_v6()[7:],
        b"",
        b"E",
        bytes(100),
    ],
    ids=["v4 cut", "v6 cut", "first", "fragment", "v4 TCP", "v6 TCP", "empty", "byte", "zeros"],
)
def test_what_is_no_whole_datagram(packet: bytes) -> None:
    """A cut packet, a fragment and another protocol give nothing: nothing is guessed."""
    assert datagram_in(packet) is None


def test_a_packet_without_a_datagram_names_its_line() -> None:
    """The error of a packet without a datagram names its line; the next packet is read."""
    (error, captured) = read(*dump(in_v4()[:-5]), *dump(in_v4()))

    assert str(error) == "the packet at line 2 has no whole UDP datagram in it"
    assert captured == Captured(DATA, ANN, BEN)


def test_a_missing_row_is_no_packet() -> None:
    """Bytes are never joined across a missing row."""
    lines = dump(in_v4())
    del lines[2]

    assert problems(*lines) == ["the packet at line 2 has no whole UDP datagram in it"]


def test_what_is_not_hex() -> None:
    """The error of a line that is not hex, or has an odd digit, names the line."""
    assert problems("hello", "012") == ["line 1 is not hex", "line 2 is not hex"]
