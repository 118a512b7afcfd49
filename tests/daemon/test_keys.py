import socket
from pathlib import Path
from random import Random

from flc_udp.wire.ring import read_ring
from flc_udp.wire.seal import make_key, read_keys
from tests.daemon.cluster import Cluster, Node
from tests.daemon.process import until

JUNK_DATAGRAMS = 20_000


def key_file(path: Path) -> str:
    """A new key in a file."""
    path.write_text(make_key() + "\n")
    path.chmod(0o600)
    return str(path)


async def drops(node: Node) -> dict[str, int]:
    """{reason: datagrams or packets dropped}."""
    counted: dict[str, int] = (await node.ask("status"))["drops"]
    return counted


async def start_with_key(cluster: Cluster, tmp_path: Path) -> tuple[Node, Node, str]:
    """Two nodes that share a key, and the key's file."""
    key = key_file(tmp_path / "key")
    ann, ben = await cluster.start(2, "--key-file", key)
    return ann, ben, key


async def stays_alone(stranger: Node, host: Node) -> None:
    """A node that joins `host` is not heard by it: it asks, and its datagrams are counted."""
    await stranger.start(host.address)
    await stranger.flc("say", "ops", "let me in")

    async def counted() -> bool:
        return (await drops(host)).get("key or cluster unknown", 0) >= 2

    await until("its datagrams are dropped and counted", counted)
    assert list(await stranger.states()) == [stranger.name]
    assert stranger.name not in await host.states()


async def test_one_key_is_one_cluster(cluster: Cluster, tmp_path: Path) -> None:
    """Nodes with the same key file talk; each keeps the key with its data, for itself alone."""
    ann, ben, _ = await start_with_key(cluster, tmp_path)
    keys = read_keys(tmp_path / "key")
    assert (await ann.ask("status"))["node"]["sealed"] is True
    assert (await ann.flc("say", "ops", "hi", "--wait", "all")).code == 0
    for node in (ann, ben):
        assert read_ring(node.data / "keys").sources == keys
        assert (node.data / "keys").stat().st_mode & 0o777 == 0o600

    ben.options = ()  # the ring of its directory is enough
    await ben.restart(ann.address)
    await cluster.converged(ann, ben, messages=1)


async def test_another_key_is_another_cluster(cluster: Cluster, tmp_path: Path) -> None:
    """A node with another key, or with none, hears nothing and is heard by nobody."""
    ann, ben, _ = await start_with_key(cluster, tmp_path)
    await ann.flc("say", "ops", "secret", "--wait", "all")
    with_other_key = cluster.node("--key-file", key_file(tmp_path / "other"))
    without_key = cluster.node()
    for stranger in (with_other_key, without_key):
        await stays_alone(stranger, ann)
        assert b"secret" not in await stranger.history()
    assert b"let me in" not in await cluster.converged(ann, ben, messages=1)


async def test_another_name_is_another_cluster(cluster: Cluster, tmp_path: Path) -> None:
    """With the same key, clusters of different names do not hear each other."""
    ann, ben, key = await start_with_key(cluster, tmp_path)
    await stays_alone(cluster.node("--key-file", key, "--cluster", "other"), ann)
    assert await cluster.converged(ann, ben) == b""


def junk(header: bytes, chance: Random) -> bytes:
    """Noise; or something that begins like a datagram of ours and goes on as noise."""
    size = chance.choice((0, 1, 20, 44, 45, 46, 100, 1_400))
    noise = chance.randbytes(size)
    return noise if chance.random() < 0.3 else header[: chance.randrange(len(header) + 1)] + noise


def overhear() -> tuple[socket.socket, str]:
    """A socket that a node will send its joins to, and its address."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    return sock, f"127.0.0.1:{sock.getsockname()[1]}"


async def test_junk_changes_nothing(cluster: Cluster) -> None:
    """20,000 junk datagrams, some with a true header, are counted; the node talks on meanwhile."""
    sock, address = overhear()
    with sock:
        ann, ben = await cluster.start(2, "--join", address)
        sock.settimeout(10)
        true, _ = sock.recvfrom(2_000)
        before = await ann.ask("digest")
        where = ("127.0.0.1", int(ann.address.rpartition(":")[2]))
        chance = Random(9)
        for number in range(JUNK_DATAGRAMS):
            sock.sendto(junk(true[:29], chance), where)
            if number % 5_000 == 0:
                said = await ann.flc("say", "ops", f"through the noise {number}")
                assert (said.code, said.err) == (0, "")

    assert sum((await drops(ann)).values()) > 1_000
    assert (await ann.ask("digest"))["members_root"] == before["members_root"]
    await cluster.all_alive(ann, ben)
    await cluster.converged(ann, ben, messages=4)


async def test_a_replayed_datagram_changes_no_member(cluster: Cluster) -> None:
    """A node's own datagram, sent again by somebody else a thousand times, changes nothing."""
    sock, address = overhear()
    with sock:
        ann, ben = await cluster.start(2, "--join", address)
        sock.settimeout(10)
        true, _ = sock.recvfrom(2_000)
        for node in (ann, ben):
            for _ in range(1_000):
                sock.sendto(true, ("127.0.0.1", int(node.address.rpartition(":")[2])))
    assert (await ann.flc("say", "ops", "hi", "--wait", "all", "--timeout", "30")).code == 0
    await cluster.all_alive(ann, ben)
