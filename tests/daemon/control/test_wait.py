from tests.daemon.cluster import Cluster, Node

PATIENT = {"FLC_SUSPECT_TIMEOUT_MS": "60000"}
"""A stopped node stays suspect for the whole test: what waits for it is not excused."""


def missing(err: str, node: Node) -> str:
    """Check that a say that is out of time names this node alone."""
    error, hint = err.splitlines()
    assert error.startswith(f"error: not held by {node.name} ({node.id}) in ")
    assert hint.startswith("hint: ")
    return err


async def test_wait_all_is_a_receipt_from_every_node(cluster: Cluster) -> None:
    """`say --wait all` prints the dot and ends with 0, and then every other node holds it."""
    ann, ben, cho = await cluster.start(3)
    said = await ann.flc("say", "ops", "hi", "--wait", "all", "--timeout", "30")
    assert (said.code, said.err) == (0, "")
    for node in (ben, cho):
        assert said.out.decode().strip() in (await node.history()).decode()

    receipts = await (await ann.client()).say("ops", "hi again", wait="all", timeout=30)
    assert sorted(receipts.held_by) == sorted(f"{n.name} ({n.id})" for n in (ben, cho))
    assert (receipts.missing, receipts.timed_out) == ((), False)


async def test_a_silent_node_is_named(cluster: Cluster) -> None:
    """With one of three nodes stopped, waiting for both others ends with 3 and its name."""
    ann, ben, cho = (cluster.node(environ=PATIENT) for _ in range(3))
    await cluster.start_these(ann, ben, cho)
    cho.stop()
    for wait in ("all", "2"):
        said = await ann.flc("say", "ops", "hi", "--wait", wait, "--timeout", "0.5")
        assert (said.code, missing(said.err, cho)) == (3, said.err)
        assert b":" in said.out  # it is said all the same
    enough = await ann.flc("say", "ops", "hi", "--wait", "1", "--timeout", "30")
    assert (enough.code, enough.err) == (0, "")


async def test_more_nodes_than_there_are_is_refused(cluster: Cluster) -> None:
    """Waiting for more nodes than are known says nothing and says so."""
    ann, ben = await cluster.start(2)
    said = await ann.flc("say", "ops", "hi", "--wait", "2")

    assert (said.code, said.out) == (1, b"")
    error, hint = said.err.splitlines()
    assert error == "error: cannot wait for 2 other nodes: known to be alive: 1"
    assert hint.startswith("hint: ")
    assert await ann.history() == await ben.history() == b""


async def test_flc_say_names_who_died_meanwhile(cluster: Cluster) -> None:
    """`say --wait all` ends with 0 without a node that died, and says on stderr that it did."""
    ann, _ben, cho = await cluster.start(3)
    cho.kill9()
    said = await ann.flc("say", "ops", "hi", "--wait", "all", "--timeout", "30")

    assert said.code == 0
    assert cho.name in said.err


async def test_a_node_that_dies_meanwhile_is_not_waited_for(cluster: Cluster) -> None:
    """`--wait all` ends when who is missing is held for dead, and names it."""
    ann, ben, cho = await cluster.start(3)
    client = await ann.client()
    cho.kill9()
    said = await client.say("ops", "hi", wait="all", timeout=30)

    assert said.held_by == (f"{ben.name} ({ben.id})",)
    assert said.missing == (f"{cho.name} ({cho.id})",)
    assert not said.timed_out
