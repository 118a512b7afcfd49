"""Backing up a node that is under load, losing it, and starting from the copy."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

from tests.daemon.cluster import Cluster, Node, say_all

COUNT = 400


def restore(copy: Path, node: Node) -> None:
    """As it is documented: the file, in an empty directory of the node's own."""
    node.data.mkdir(mode=0o700)
    shutil.copy(copy, node.data / "flc.db")


def dots_of(history: bytes) -> list[str]:
    """The dots of a history, in its order."""
    return [json.loads(line)["dot"] for line in history.splitlines()]


async def test_a_copy_made_under_load_goes_on_beside_the_original(cluster: Cluster) -> None:
    """Original and copy are two nodes that say different things, and nothing acknowledged is lost.

    The copy is started while the original is down, speaks, and meets it again.
    """
    ann, ben = await cluster.start(2)
    copy = cluster.home / "copy"
    dots = await say_all(await ann.client(), "ops", ["before"])
    backing = asyncio.create_task(ann.flc("backup", str(copy), "--json"))
    while not backing.done():
        dots += await say_all(await ann.client(), "ops", [f"during {n}" for n in range(COUNT)])
    ended = await backing
    assert (ended.code, ended.err) == (0, "")
    assert 1 <= ended.records[0]["messages"] <= len(dots)
    # Killed in the middle of what is said after the backup.
    more = asyncio.create_task(
        say_all(await ann.client(), "ops", [f"after {n}" for n in range(COUNT)])
    )
    await (await ann.client()).say("ops", "in between")
    ann.kill9()
    dots += await more

    cho = cluster.node(name="cho")
    restore(copy, cho)
    await cho.start(ben.address)
    assert cho.id not in (ann.id, ben.id)
    dots += await say_all(await cho.client(), "ops", [f"copy {n}" for n in range(COUNT)])
    await ann.start(ben.address)
    dots += await say_all(await ann.client(), "ops", [f"again {n}" for n in range(COUNT)])
    await cluster.all_alive(ann, ben, cho)
    history = dots_of(await cluster.converged(ann, ben, cho))

    assert len(set(dots)) == len(dots)
    assert len(set(history)) == len(history)
    assert set(dots) <= set(history)
    assert not any(node.logged("log_forked", "clone_met") for node in (ann, ben, cho))
    for node in (ann, ben, cho):
        assert (await node.flc("fsck")).code == 0


async def test_a_lost_disk_is_replaced_by_an_older_copy(cluster: Cluster) -> None:
    """What the others hold comes back, and what is said then takes no name that was given."""
    ann, ben = await cluster.start(2)
    copy = cluster.home / "copy"
    dots = await say_all(await ann.client(), "ops", ["before"])
    assert (await ann.flc("backup", str(copy))).code == 0
    dots += await say_all(await ann.client(), "ops", [f"after {n}" for n in range(COUNT)])
    await cluster.converged(ann, ben, messages=len(dots))
    ann.kill9()
    shutil.rmtree(ann.data)
    restore(copy, ann)
    await ann.start(ben.address)
    # At once: it may not know yet of what it said before.
    dots += await say_all(await ann.client(), "ops", [f"again {n}" for n in range(COUNT)])
    history = dots_of(await cluster.converged(ann, ben, messages=len(dots)))

    assert sorted(dots) == sorted(history)
    assert not ann.logged("log_forked") + ben.logged("log_forked")


async def test_an_export_of_a_running_node_makes_another(cluster: Cluster) -> None:
    """Imported into nothing it is the same history: equal roots before anything was synced."""
    (ann,) = await cluster.start(1)
    await say_all(await ann.client(), "ops", [f"hi {n}" for n in range(COUNT)])
    export = await ann.flc("export")
    cho = cluster.node(name="cho")
    taken = await cho.flc("import", "-", "--json", stdin=export.out)
    assert (export.code, taken.code, taken.err) == (0, 0, "")
    printed = [{**record, "encoded": None} for record in export.records[1:]]
    logged = [{**json.loads(line), "encoded": None} for line in (await ann.history()).splitlines()]
    assert list(map(json.dumps, logged)) == list(map(json.dumps, printed))
    await cho.start()

    root, own = [(await node.ask("digest"))["root"] for node in (ann, cho)]
    assert root == own == taken.records[0]["root"] == export.records[0]["root"]
    refused = await cho.flc("import", "-", stdin=export.out)
    assert refused.code == 1
    assert "is in use by a running node" in refused.err
