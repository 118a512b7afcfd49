"""Today's node beside the version before (`versions/README.md`), as in the middle of an upgrade.

Old and new are real daemons, the old one run out of its wheel. The new ones have tags, which the
old one knows nothing of.
"""

from __future__ import annotations

import socket
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgpack
import pytest

from flc_udp.config import WIRE_VERSION
from flc_udp.model.address import parse_numeric
from flc_udp.wire.seal import SESSION_BYTES, Seal, keyring
from tests.daemon.cluster import Cluster, Node, say_all
from tests.daemon.process import Ended, assert_refused, run_flc, until

(WHEEL,) = (Path(__file__).parent / "versions").glob("*.whl")

OLD = {"PYTHONPATH": str(WHEEL), "PYTHONSAFEPATH": "1"}
"""Runs the wheel instead of the checkout, which the working directory would put first."""

TAG = ("--tag", "role=db")
TAGS = {"role": "db"}

LARGE_BYTES = 60_000
"""A body that travels in pieces."""


def old(cluster: Cluster, name: str = "") -> Node:
    """A node of the version before, not started."""
    return cluster.node(name=name, environ=OLD)


def new(cluster: Cluster, name: str = "") -> Node:
    """A node of today, with a tag."""
    return cluster.node(*TAG, name=name)


async def upgrade(node: Node, *seeds: str) -> None:
    """Go on with today's version, and a tag."""
    node.environ, node.options = {}, TAG
    await node.restart(*seeds)


async def downgrade(node: Node, *seeds: str) -> None:
    """Go back to the version before."""
    node.environ, node.options = OLD, ()
    await node.restart(*seeds)


async def tags(node: Node) -> dict[str, object]:
    """{name: tags} as a node tells it; None where it tells of none."""
    return {member["name"]: member.get("tags") for member in await members(node)}


async def members(node: Node) -> list[dict[str, object]]:
    """What the node tells of all members."""
    return await (await node.client()).members()


async def see(wanted: dict[str, object], *nodes: Node) -> None:
    """Wait until these nodes hold the members for these tags."""

    async def look() -> bool:
        return all([await tags(node) == wanted for node in nodes])

    await until(f"tags are {wanted}", look)


async def agree(*nodes: Node) -> None:
    """Wait until histories and members have equal roots."""

    async def equal() -> bool:
        digests = [await node.ask("digest") for node in nodes]
        return len({(d["root"], d["members_root"]) for d in digests}) == 1

    await until("roots are equal", equal)


async def told(node: Node, name: str, *states: str) -> None:
    """Wait until a node holds another for one of these."""

    async def look() -> bool:
        return (await node.states()).get(name) in states

    await until(f"{node.name} holds {name} for {states}", look)


async def test_the_other_one_is_another(cluster: Cluster) -> None:
    """The wheel runs, not the checkout: it knows no tags, and today's commands can talk to it."""
    ann = old(cluster)
    await ann.start()

    assert await tags(ann) == {"ann": None}
    assert "TAGS" in (await ann.flc("members")).out.decode()
    refused = await run_flc("run", *TAG, environ=OLD)
    assert (refused.code, "--tag" in refused.err) == (2, True)


async def test_each_says_and_each_hears(cluster: Cluster) -> None:
    """Small, many at once, and in pieces; what comes of it is one history, byte for byte."""
    ann, ben = new(cluster), old(cluster)
    await cluster.start_these(ann, ben)
    for node in (ann, ben):
        client = await node.client()
        await client.say("ops", f"hi from {node.name}")
        await client.say("ops", node.name[0] * LARGE_BYTES)
        await say_all(client, "ops", [f"{node.name} {number}" for number in range(100)])

    await cluster.converged(ann, ben, messages=204)
    await agree(ann, ben)
    waited = [await node.flc("say", "ops", "seen?", "--wait", "all") for node in (ann, ben)]
    assert [(ended.code, ended.err) for ended in waited] == [(0, ""), (0, "")]


@pytest.mark.parametrize("is_newcomer_new", [True, False])
async def test_one_catches_up_from_the_other(cluster: Cluster, is_newcomer_new: bool) -> None:
    """A thousand messages, and a large one, that were said before it came."""
    ann, ben = (old(cluster), new(cluster)) if is_newcomer_new else (new(cluster), old(cluster))
    await ann.start()
    client = await ann.client()
    await say_all(client, "ops", [f"number {number}" for number in range(1_000)])
    await client.say("lobby", "x" * LARGE_BYTES)

    await ben.start(ann.address)
    await cluster.converged(ann, ben, messages=1_001)
    await agree(ann, ben)


async def test_each_sees_whether_the_other_lives(cluster: Cluster) -> None:
    """Killed, it is dead to the other; back, it is alive; and its leave is heard."""
    ann, ben = new(cluster), old(cluster)
    await cluster.start_these(ann, ben)
    for gone, left in ((ann, ben), (ben, ann)):
        gone.kill9()
        await told(left, gone.name, "dead")
        await gone.start(left.address)
        await cluster.all_alive(ann, ben)
    for gone, left in ((ann, ben), (ben, ann)):
        await gone.flc("leave")
        assert await gone.ended() == 0
        await told(left, gone.name, "left")
        await gone.start(left.address)
        await cluster.all_alive(ann, ben)

    assert await tags(ann) == {"ann": TAGS, "ben": {}}
    await agree(ann, ben)


async def test_tags_pass_by_who_knows_none(cluster: Cluster) -> None:
    """Two new ones that know each other through an old one: it stays quiet, and tags arrive."""
    ben, ann, cho = old(cluster, "ben"), new(cluster, "ann"), new(cluster, "cho")
    await cluster.start_these(ben, ann, cho)

    await see({"ann": TAGS, "ben": {}, "cho": TAGS}, ann, cho)
    await agree(ann, ben, cho)
    for node in (ann, cho):
        assert node.logged("refuted") == []


async def test_one_after_the_other_is_upgraded(cluster: Cluster) -> None:
    """While people talk: nothing is lost, and in the end every tag is known everywhere."""
    nodes = [old(cluster) for _ in range(3)]
    ann, ben, cho = nodes
    await cluster.start_these(*nodes)
    for number, node in enumerate(nodes):
        for each in nodes:
            await (await each.client()).say("ops", f"{each.name}, before upgrade {number}")
        await upgrade(node, *(other.address for other in nodes if other is not node))
        await cluster.all_alive(*nodes)
    history = await cluster.converged(*nodes, messages=9)

    assert len(history.splitlines()) == 9
    await see(dict.fromkeys(("ann", "ben", "cho"), TAGS), ann, ben, cho)
    await agree(*nodes)


async def test_an_old_database_is_opened_and_goes_back_again(cluster: Cluster) -> None:
    """The same node with the same history, both ways, for as long as the schema is one."""
    ann = old(cluster)
    await ann.start()
    client = await ann.client()
    await client.request("say", room="ops", body="once", once=["bot", 1])
    await client.say("lobby", "x" * LARGE_BYTES)
    node_id, before = ann.id, await ann.history()

    for change in (upgrade, downgrade, upgrade):
        await change(ann)
        again = await ann.ask("say", room="ops", body="once", once=["bot", 1])

        assert (ann.id, await ann.history()) == (node_id, before)
        assert again["dot"].encode() in before
    ann.kill9()
    assert (await ann.flc("fsck")).code == 0


async def run_on(ann: Node, environ: dict[str, str]) -> Ended:
    """A start in that node's directory that is to be refused."""
    where = ("--data", str(ann.data), "--bind", "127.0.0.1:0")
    return await run_flc("run", *where, environ=environ)


@pytest.mark.parametrize("environ", [OLD, {}], ids=["old", "new"])
async def test_a_later_schema_is_refused(cluster: Cluster, environ: dict[str, str]) -> None:
    """In two lines, and not a byte of it is changed."""
    ann = new(cluster)
    await ann.start()
    await ann.flc("leave")
    await ann.ended()
    database = ann.data / "flc.db"
    with closing(sqlite3.connect(database)) as connection:
        (schema,) = connection.execute("PRAGMA user_version").fetchone()
        connection.execute(f"PRAGMA user_version = {schema + 1}")
    before = database.read_bytes()

    assert_refused(await run_on(ann, environ), "newer", str(schema + 1))
    assert database.read_bytes() == before


@pytest.mark.parametrize("make", [old, new])
async def test_what_a_later_version_sends_is_a_counted_drop(
    cluster: Cluster, make: Callable[[Cluster], Node]
) -> None:
    """By its reason; packets of unknown kinds and fields that are unknown harm no neighbour."""
    ann = make(cluster)
    await ann.start()
    address = parse_numeric(ann.address)
    assert address is not None
    seal = Seal(keyring((), "flc"), bytes(SESSION_BYTES - 1) + b"\x01")
    ping = [3, 7, bytes(8), bytes(8), False, bytes(8), 0, bytes(8), "later", {"x": 1}]
    payload = msgpack.packb([bytes(8), [99, "later"], ping, [100]])
    datagram = seal.close(payload)
    later = bytes((WIRE_VERSION + 1,)) + datagram[1:]
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sock:
        sock.settimeout(10)
        sock.sendto(later, (address.host, address.port))
        sock.sendto(datagram, (address.host, address.port))
        answer = seal.open(sock.recv(2_048)).payload

    assert msgpack.unpackb(answer)[1][:2] == [4, 7]
    drops = (await ann.ask("status"))["drops"]
    assert drops == {"packet kind unknown": 2, "wire version unknown": 1}
