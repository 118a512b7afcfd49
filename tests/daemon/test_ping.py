import json
from pathlib import Path

from tests.daemon.cluster import Cluster
from tests.daemon.process import assert_refused, run_flc, until


async def test_a_node_answers_a_visitor(cluster: Cluster) -> None:
    """Each ping has its ack and round trip, and the visitor is nobody's member."""
    (ann,) = await cluster.start(1)
    pinged = await ann.flc("ping", ann.address, "-c", "3", "-i", "0.05", "--json")
    *acks, total = map(json.loads, pinged.out.splitlines())

    assert pinged.code == 0
    assert [ack["seq"] for ack in acks] == [1, 2, 3]
    assert {(ack["id"], ack["address"]) for ack in acks} == {(ann.id, ann.address)}
    assert (total["sent"], total["answered"]) == (3, 3)
    assert list(await ann.states()) == ["ann"]


async def test_another_cluster_is_silent(cluster: Cluster) -> None:
    """Nothing answers a ping under another name: exit 3, with what to look at."""
    (ann,) = await cluster.start(1)
    pinged = await ann.flc("ping", ann.address, "-c", "1", "-i", "0.1", "--cluster", "other")
    error, hint = pinged.err.splitlines()

    assert pinged.code == 3
    assert error == f"error: {ann.address} did not answer"
    assert "cluster" in hint


async def test_a_visitor_takes_the_keys_of_the_node_that_it_names(
    cluster: Cluster, tmp_path: Path
) -> None:
    """And the name of its cluster, while the node runs. Keys that are given go first."""
    key_file, other = tmp_path / "key", tmp_path / "other"
    for file in (key_file, other):
        file.write_bytes((await run_flc("keygen")).out)
    ann = cluster.node("--key-file", str(key_file), "--cluster", "red")
    await ann.start()
    few = (ann.address, "-c", "1", "-i", "0.1")

    assert (await ann.flc("ping", *few)).code == 0
    assert (await ann.flc("udp", "-z", ann.address)).code == 0
    assert (await ann.flc("ping", *few, "--key-file", str(other))).code == 3
    assert (await ann.flc("ping", *few, "--cluster", "flc")).code == 3
    assert (await run_flc("ping", *few, "--cluster", "red")).code == 3
    (ann.data / "keys").write_text("no key")
    assert_refused(await ann.flc("ping", *few), "keys")


async def test_a_dead_member_is_forgotten(cluster: Cluster) -> None:
    """It is left at every node, though it never said so; who lives is not forgotten."""
    ann, ben, cho = await cluster.start(3)
    assert_refused(await ann.flc("forget", "ben"), "alive")
    assert_refused(await ann.flc("forget", "nobody"), "nobody")
    cho.kill9()

    async def is_(state: str) -> bool:
        return all([(await node.states())["cho"] == state for node in (ann, ben)])

    await until("cho is dead", lambda: is_("dead"))
    assert (await ann.flc("forget", "cho")).code == 0
    await until("cho has left", lambda: is_("left"))
