from tests.daemon.blocks import many
from tests.daemon.cluster import Cluster, Node
from tests.daemon.wire import Wire

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


async def test_many_messages_are_waited_for(cluster: Cluster, wires: list[Wire]) -> None:
    """A say of many is answered when every other node holds all of it, in however many blocks."""
    ann, ben, cho = await cluster.start(3)
    wire, count = await Wire.to(ann, wires), 0
    for size in (1, 3, 100, 3_000):
        answer = await wire.ask(many(*["x" * 30] * size, wait="all", timeout=30))
        count += size
        for node in (ben, cho):
            assert (await node.ask("digest"))["messages"] == count
        assert (answer["ok"], answer["position"], len(answer["spans"])) == (True, count, 1)
        assert sorted(answer["held_by"]) == sorted(f"{n.name} ({n.id})" for n in (ben, cho))
        assert answer["missing"] == []


async def test_who_does_not_hold_many_messages_is_named(
    cluster: Cluster, wires: list[Wire]
) -> None:
    """When the time is out, with the span of what is durable here all the same."""
    ann, ben = (cluster.node(environ=PATIENT) for _ in range(2))
    await cluster.start_these(ann, ben)
    ben.stop()
    wire = await Wire.to(ann, wires)
    await wire.send(
        many("a", "b", wait="all", timeout=0.5, id=1), many("c", wait=1, timeout=0.4, id=2)
    )
    first, second = await wire.read(), await wire.read()

    for answer in (first, second):
        assert (answer["ok"], answer["timeout"], answer["held_by"]) == (True, True, [])
        assert answer["missing"] == [f"ben ({ben.id})"]
    assert [answer["position"] for answer in (first, second)] == [2, 3]


async def test_what_is_not_refused_is_waited_for(cluster: Cluster, wires: list[Wire]) -> None:
    """Beside a body that is too large, too; where all are refused, nobody waits."""
    ann, ben = await cluster.start(2)
    wire = await Wire.to(ann, wires)
    large = "x" * 65_537
    answer = await wire.ask(many("a", large, "b", wait="all", timeout=30))

    assert (answer["ok"], answer["refused"], answer["position"]) == (False, [1], 2)
    assert answer["held_by"] == [f"ben ({ben.id})"]
    assert (await ben.ask("digest"))["messages"] == 2
    assert "held_by" not in await wire.ask(many(large, wait="all", timeout=30))


async def test_nobody_is_said_to_hold_what_a_former_run_said(cluster: Cluster) -> None:
    """A say that is repeated after a restart finds its message, and does not claim more of it."""
    ann, ben = await cluster.start(2)
    once = ("client", 1)
    first = await (await ann.client()).say("ops", "hi", once=once)
    ann.kill9()
    await ann.start(ben.address)
    await cluster.all_alive(ann, ben)
    again = await (await ann.client()).say("ops", "hi", once=once, wait=1, timeout=5)

    assert again.dot == first.dot
    assert (again.held_by, again.timed_out) == ((), True)
    assert again.missing == (f"{ben.name} ({ben.id})",)
