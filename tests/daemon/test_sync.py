"""A sync of real nodes: who can be asked, and that it ends where the histories are equal."""

from __future__ import annotations

import pytest

from tests.daemon.cluster import Cluster, Node, say_all
from tests.daemon.process import assert_refused, until
from tests.daemon.wire import Wire

MESSAGES = 3_000


def asked(node: Node) -> dict[str, str]:
    """How an answer names one that was asked."""
    return {"id": node.id, "name": node.name, "address": node.address}


async def is_asked(node: Node, peer: str) -> bool:
    """Whether a sync of that peer is taken; who is suspect for a moment is not."""
    return (await node.flc("sync", peer)).code == 0


async def test_whom_a_sync_asks(cluster: Cluster, wires: list[Wire]) -> None:
    """All others where they are few, or who is named by name or id; the status has the answers."""
    ann, ben, cho = await cluster.start(3)
    wire = await Wire.to(ann, wires)
    everybody = await wire.ask({"op": "sync", "id": 7})

    assert sorted(one["name"] for one in everybody.pop("asked")) == ["ben", "cho"]
    assert everybody == {"ok": True, "to_go": 0, "id": 7}
    for peer in (cho.name, cho.id):
        answer = await wire.ask({"op": "sync", "peer": peer})
        assert answer == {"ok": True, "asked": [asked(cho)], "to_go": 0}
    assert ben.id not in (await ann.ask("status"))["sync"]["agrees"]

    async def agrees() -> bool:
        return bool((await ann.ask("status"))["sync"] == {"agrees": {cho.id: True}, "idle": True})

    await until("cho agrees", agrees)


async def test_who_cannot_be_asked(cluster: Cluster) -> None:
    """Nobody, oneself, the unknown, the ambiguous and the dead: each an error that says so."""
    ann = cluster.node()
    await ann.start()
    assert_refused(await ann.flc("sync"), "no other member is alive")
    twins = [cluster.node("--name", "twin", name=name) for name in ("ben", "cho")]
    for twin in twins:
        await twin.start(ann.address)

    async def members() -> list[str]:
        found = await (await ann.client()).members()
        return [m["state"] for m in found if m["name"] == "twin"]

    async def both(state: str) -> bool:
        return await members() == [state, state]

    await until("both are alive", lambda: both("alive"))
    assert_refused(await ann.flc("sync", "ann"), "this node itself")
    assert_refused(await ann.flc("sync", ann.id, "--watch"), "this node itself")
    assert_refused(await ann.flc("sync", "nobody"), "no member 'nobody'", "flc members")
    assert_refused(await ann.flc("sync", "twin"), "2 members", twins[0].id, twins[1].id)
    for twin in twins:
        await until("one of two is asked by its id", lambda id_=twin.id: is_asked(ann, id_))
        twin.kill9()
    await until("both are dead", lambda: both("dead"))
    assert_refused(await ann.flc("sync", twins[0].id), "twin is not alive", "dead")
    assert_refused(await ann.flc("sync"), "no other member is alive")


@pytest.mark.parametrize("peer", [7, True, ["ben"], {"name": "ben"}, ""], ids=repr)
async def test_what_is_no_member(cluster: Cluster, wires: list[Wire], peer: object) -> None:
    """Whatever stands there, it is refused and the connection goes on."""
    (ann,) = await cluster.start(1)
    wire = await Wire.to(ann, wires)
    answer = await wire.ask({"op": "sync", "peer": peer, "id": 1})

    assert (answer["ok"], answer["id"]) == (False, 1)
    assert answer["error"]
    assert answer["hint"]
    assert (await wire.ask({"op": "status"}))["ok"]


async def test_it_is_watched_until_the_histories_are_equal(cluster: Cluster) -> None:
    """A newcomer's `flc sync --watch` ends with exit 0 when it holds all that the other does."""
    ann, ben = cluster.node(), cluster.node()
    await ann.start()
    await say_all(await ann.client(), "ops", [f"{number}" for number in range(MESSAGES)])
    await ben.start(ann.address)
    await cluster.all_alive(ann, ben)

    watched = await ben.flc("sync", "ann", "--watch", "--json")

    assert (watched.code, watched.err) == (0, "")
    *_, last = watched.records
    assert (last["to_go"], last["messages"], last["caught_up"]) == (0, MESSAGES, True)
    assert (await ben.ask("digest"))["root"] == (await ann.ask("digest"))["root"]
