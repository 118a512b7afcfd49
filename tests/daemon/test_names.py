"""Names with several addresses: what a node binds, and what it tells others."""

from __future__ import annotations

import socket

import pytest

from flc_udp.config import Settings
from flc_udp.daemon.run import _advertised
from flc_udp.daemon.udp import bind
from flc_udp.model.address import Address
from flc_udp.model.errors import FlcError


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """{name: its addresses}, for a resolver."""
    known: dict[str, list[str]] = {}

    def resolver(name: str, port: int, **_: object) -> list[tuple[object, ...]]:
        return [(0, 0, 0, "", (host, port)) for host in known.get(name, [name])]

    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    return known


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
async def test_the_first_address_that_is_here_is_bound(
    names: dict[str, list[str]], kind: socket.SocketKind
) -> None:
    """Addresses of other machines are passed over; one that is taken is told."""
    names["node"] = ["192.0.2.1", "2001:db8::1", "127.0.0.1"]
    bound = await bind("node:0", kind)
    with bound.sock:
        assert bound.address.host == "127.0.0.1"
        names["node"] = ["192.0.2.1", "127.0.0.1", "127.0.0.2"]
        with pytest.raises(FlcError, match=r"on 192\.0\.2\.1:\d+: Cannot assign"):
            await bind(f"node:{bound.address.port}", kind)
        names["node"] = ["127.0.0.1", "127.0.0.2"]
        with pytest.raises(FlcError, match=r"on 127\.0\.0\.1:\d+: Address already in use"):
            await bind(f"node:{bound.address.port}", kind)


@pytest.mark.parametrize(
    ("bound", "found", "told"),
    [
        ("0.0.0.0", ["127.0.1.1", "192.0.2.1"], "192.0.2.1"),  # noqa: S104  # not bound here
        ("0.0.0.0", ["2001:db8::1", "192.0.2.1"], "192.0.2.1"),  # noqa: S104
        ("::", ["::1", "192.0.2.1", "2001:db8::1"], "192.0.2.1"),
        ("2001:db8::1", ["192.0.2.1", "2001:db8::1"], "2001:db8::1"),
        ("127.0.0.1", ["::1", "127.0.0.1"], "127.0.0.1"),
        ("192.0.2.1", ["2001:db8::9"], "2001:db8::9"),
    ],
)
async def test_the_address_is_told_that_others_can_use(
    names: dict[str, list[str]], bound: str, found: list[str], told: str
) -> None:
    """A name of this machine is often 127.0.1.1 here, and has a family that was not bound."""
    names["node"] = found
    settings = Settings(advertise="node:7")
    assert await _advertised(settings, Address(bound, 9)) == Address(told, 7)
