import pytest
from hypothesis import given
from hypothesis import strategies as st

from flc_udp.model.address import Address, fold, parse_numeric, split_host_port
from flc_udp.model.errors import FlcError
from flc_udp.model.visible import brief

ports = st.integers(1, 65_535)


@given(st.ip_addresses(), ports)
def test_the_text_of_an_address_is_read_back(ip: object, port: int) -> None:
    """One spelling for each, IPv4 or IPv6."""
    address = fold(str(ip), port)

    assert address == parse_numeric(str(address))
    assert (address.host, port) == split_host_port(str(address))


@given(st.ip_addresses(v=4), ports)
def test_a_mapped_address_is_the_ipv4_one(ip: object, port: int) -> None:
    """`::ffff:10.0.0.1` and `10.0.0.1` are one peer; on the wire only the latter is allowed."""
    assert fold(str(ip), port) == fold(f"::ffff:{ip}", port)
    assert parse_numeric(f"[::ffff:{ip}]:{port}") is None


@given(st.text(max_size=30))
def test_no_text_raises_anything(text: str) -> None:
    """What is read from the wire is an address in its one spelling, or None."""
    found = parse_numeric(text)

    assert found is None or text == str(found)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("10.0.0.1:7352", "10.0.0.1", 7352),
        ("[::1]:7352", "::1", 7352),
        ("[fe80::1%eth0]:7352", "fe80::1%eth0", 7352),
        ("example.org:0", "example.org", 0),
        ("localhost:65535", "localhost", 65_535),
        ("h:007", "h", 7),
    ],
)
def test_people_may_write_names_and_brackets(text: str, host: str, port: int) -> None:
    """HOST:PORT, with brackets around IPv6."""
    assert (host, port) == split_host_port(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "host",
        "host:",
        ":7352",
        "[]:7352",
        "::1:7352",
        "::1",
        "host:65536",
        "host:-1",
        "host:+1",
        "host: 1",
        "host:1_0",
        "host:\u0667",
        "host:7x",
        "host:" + "9" * 5_000,
        "[::1:7352",
        "[::1]7352",
    ],
)
def test_anything_else_is_refused_with_a_hint(text: str) -> None:
    """The error names what was typed, and nothing but FlcError is raised."""
    with pytest.raises(FlcError) as refused:
        split_host_port(text)

    assert brief(text) in str(refused.value)
    assert "PORT" in refused.value.hint


@pytest.mark.parametrize(
    "text",
    [
        "10.0.0.1:0",
        "10.0.0.01:7",
        "10.0.0.1:07",
        "010.0.0.1:7",
        "[10.0.0.1]:7",
        "[::A]:7",
        "[0:0::1]:7",
        "[fe80::1%eth0]:7",
        "example.org:7",
        " 10.0.0.1:7",
        "10.0.0.1:7 ",
        "2130706433:7",
    ],
)
def test_only_the_canonical_spelling_travels(text: str) -> None:
    """So that rows of one member hash alike everywhere; scope ids mean nothing elsewhere."""
    assert parse_numeric(text) is None


@pytest.mark.parametrize(
    ("host", "loopback", "wildcard"),
    [
        ("127.0.0.1", True, False),
        ("127.9.9.9", True, False),
        ("::1", True, False),
        ("0.0.0.0", False, True),  # noqa: S104  # nothing is bound
        ("::", False, True),
        ("10.0.0.1", False, False),
        ("fe80::1%eth0", False, False),
    ],
)
def test_loopback_and_wildcard_are_known(host: str, loopback: bool, wildcard: bool) -> None:
    """What only this machine reaches, and what no peer can use."""
    address = Address(host, 1)

    assert (loopback, wildcard) == (address.is_loopback, address.is_wildcard)


def test_a_name_is_not_numeric() -> None:
    """It has to be resolved first."""
    with pytest.raises(ValueError, match=r"example\.org"):
        fold("example.org", 1)
