import socket
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import IPv6Address
from pathlib import Path
from unittest.mock import Mock

import pytest

from flc_udp.daemon import udp
from flc_udp.daemon.udp import SCOPES_MAX, Datagrams, resolve
from flc_udp.model.address import Address
from tests.daemon.cluster import Cluster


def has_ipv6() -> bool:
    """Whether this machine has an IPv6 loopback."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


pytestmark = pytest.mark.skipif(not has_ipv6(), reason="there is no ::1 here")


async def test_nodes_talk_over_ipv6(cluster: Cluster) -> None:
    """Two nodes on [::1] find each other and converge."""
    ann, ben = await cluster.start(2, "--bind", "[::1]:0")
    assert ann.address.startswith("[::1]:")
    for node in (ann, ben):
        assert (await node.flc("say", "ops", f"I am {node.name}", "--wait", "all")).code == 0
    await cluster.converged(ann, ben, messages=2)


async def test_one_socket_serves_both_families(cluster: Cluster) -> None:
    """A node bound to [::] talks with a peer that has only IPv4, in one spelling of addresses."""
    ann, both = cluster.node(), cluster.node("--bind", "[::]:0", "--insecure")
    await ann.start()
    await both.start(ann.address)
    await cluster.all_alive(ann, both)
    assert (await both.flc("say", "ops", "hi", "--wait", "all", "--timeout", "30")).code == 0
    assert (await ann.flc("say", "ops", "hello", "--wait", "all", "--timeout", "30")).code == 0

    await cluster.converged(ann, both, messages=2)
    members = await (await ann.client()).members()
    addresses = {member["name"]: member["address"] for member in members}
    assert addresses[both.name].startswith("127.0.0.1:")


def link_local() -> str:
    """A link-local address of this machine with its interface, or nothing."""
    with suppress(OSError):
        for line in Path("/proc/net/if_inet6").read_text().splitlines():
            host, _, _, _, _, interface = line.split()
            address = IPv6Address(bytes.fromhex(host))
            if address.is_link_local:
                return f"{address}%{interface}"
    return ""


@pytest.fixture
def scopes() -> Iterator[None]:
    """No interface that a test made up is known afterwards."""
    yield
    udp.heard_scopes.clear()
    udp.named_scopes.clear()


def interface_to(datagrams: Datagrams, host: str) -> list[int]:
    """By which interface a datagram to a host goes; nothing if that is left to the system."""
    transport = Mock(is_closing=lambda: False)
    datagrams.connection_made(transport)
    datagrams.send(b"hi", Address(host, 7352))
    (_, (_, _, *more)), _ = transport.sendto.call_args
    return more[1:]


@pytest.mark.usefixtures("scopes")
def test_made_up_hosts_keep_nobody_out() -> None:
    """Anybody can send from as many as he likes: whoever is heard after them has its interface."""
    datagrams = Datagrams(Mock())
    for number in range(SCOPES_MAX):
        datagrams.datagram_received(b"junk", (f"fe80::{number:x}%lo", 7352, 0, 1))
    datagrams.datagram_received(b"real", ("fe80::aaaa:1%lo", 7352, 0, 2))

    assert interface_to(datagrams, "fe80::aaaa:1") == [2]
    assert interface_to(datagrams, "fe80::0") == []
    assert len(udp.heard_scopes) == SCOPES_MAX


@pytest.mark.usefixtures("scopes")
async def test_a_datagram_replaces_no_interface_that_was_named() -> None:
    """It may come from somebody else over another one. Of hosts not named, the last counts."""
    datagrams = Datagrams(Mock())
    await resolve("[fe80::5%1]:7352")
    for host in ("fe80::5", "fe80::6"):
        datagrams.datagram_received(b"real", (host, 7352, 0, 2))
        datagrams.datagram_received(b"junk", (host, 7352, 0, 3))

    assert interface_to(datagrams, "fe80::5") == [1]
    assert interface_to(datagrams, "fe80::6") == [3]


@pytest.mark.skipif(not link_local(), reason="no interface has a link-local address")
@pytest.mark.parametrize("bind", ["[::]:0", f"[{link_local()}]:0"])
async def test_a_link_local_address_is_reached_by_its_interface(
    cluster: Cluster, bind: str
) -> None:
    """As a seed, as an address to bind, and by the commands that speak to one node."""
    ann, ben = (cluster.node("--bind", bind, "--insecure") for _ in range(2))
    await ann.start()
    seed = f"[{link_local()}]:{ann.address.rpartition(':')[2]}"
    await ben.start(seed)
    await cluster.all_alive(ann, ben)
    assert (await ann.flc("say", "ops", "hi", "--wait", "all", "--timeout", "30")).code == 0
    assert (await ben.flc("say", "ops", "hello", "--wait", "all", "--timeout", "30")).code == 0
    assert (await ben.flc("ping", seed, "-c", "1")).code == 0
    assert (await ben.flc("udp", "-z", seed)).code == 0
    members = await (await ann.client()).members()
    assert not any("%" in member["address"] for member in members)
