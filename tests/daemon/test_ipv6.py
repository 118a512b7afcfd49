import socket
from contextlib import suppress
from ipaddress import IPv6Address
from pathlib import Path

import pytest

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
