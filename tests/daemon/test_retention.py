"""Retention on real nodes: what goes, what is said of it, and who comes after."""

from __future__ import annotations

from tests.daemon.cluster import Cluster, Node, say_all
from tests.daemon.process import assert_refused, until

KEPT_BYTES = 1_500_000
LINES = 12_000
"""Twice what is kept, and more."""


async def lets_go(node: Node) -> bool:
    """Whether it has a floor, and the log takes no more than it is to."""
    status = await node.ask("status")
    return bool(status["floor"]) and status["disk"]["used_bytes"] <= KEPT_BYTES


async def lines(node: Node) -> list[bytes]:
    """All of its history, exactly."""
    return (await node.flc("log", "-n", "0", "--json")).out.splitlines()


async def test_a_node_lets_go_and_a_newcomer_learns_of_it(cluster: Cluster) -> None:
    """The one without retention keeps all; the other marks its floor and agrees above it."""
    ann = cluster.node()
    await ann.start()
    ben = cluster.node(environ={"FLC_RETENTION_BYTES": str(KEPT_BYTES)})
    await ben.start(ann.address)
    await say_all(
        await ann.client(), "ops", [f"line {number} {'x' * 100}" for number in range(LINES)]
    )
    await until("they agree", lambda: agree(ann, ben))
    await until("ben lets go", lambda: lets_go(ben))

    everything, kept = await lines(ann), await lines(ben)

    assert len(everything) == LINES
    assert 0 < len(kept) < LINES
    assert everything[-len(kept) :] == kept
    listing = await ben.flc("log", "-n", "0")
    assert listing.err.startswith("-- messages from before ")
    assert (await ben.flc("log", "-n", "5")).err == ""
    assert b"of these kept, from" in (await ben.flc("status")).out
    assert (await ben.flc("fsck")).code == 0

    first = (await ann.flc("log", "-n", "0", "--json", "--positions")).out.splitlines()[0]
    dot = first.split(b'"dot":"')[1].split(b'"')[0].decode()
    refused = await ben.flc("nc", "-d", "-w", "1", "--from", f"1@{dot}", "ops")
    assert_refused(refused, "below the floor")

    ann.kill9()
    cyd = cluster.node()
    await cyd.start(ben.address)
    await until("cyd agrees", lambda: agree(ben, cyd))

    assert await lines(cyd) == await lines(ben)
    assert (await cyd.ask("status"))["floor"] is not None
    assert b"history_truncated" in cyd.log.read_bytes()
    assert (await cyd.flc("fsck")).code == 0


async def agree(one: Node, other: Node) -> bool:
    """Whether their roots are equal."""
    return bool((await one.ask("digest"))["root"] == (await other.ask("digest"))["root"])
