import signal
import sqlite3
from contextlib import closing

from tests.daemon.cluster import Cluster, Node
from tests.daemon.process import until


async def sees(node: Node, name: str, *states: str) -> None:
    """Wait until a node holds another for one of these."""

    async def look() -> bool:
        return (await node.states()).get(name) in states

    await until(f"{node.name} holds {name} for {' or '.join(states)}", look)


async def remembers(node: Node, count: int) -> bool:
    """Whether a node's disk holds so many peers."""
    with closing(sqlite3.connect(f"file:{node.data}/flc.db?mode=ro", uri=True)) as connection:
        (found,) = connection.execute("SELECT count(*) FROM peer").fetchone()
    return bool(found == count)


async def test_peers_are_remembered(cluster: Cluster) -> None:
    """A node restarted without seeds finds those it knew and gets what it missed."""
    ann, ben, cho = await cluster.start(3)
    await until("cho has both on its disk", lambda: remembers(cho, 2))
    cho.kill9()
    await ann.flc("say", "ops", "while you were away")
    await cho.start()

    await cluster.all_alive(ann, ben, cho)
    await cluster.converged(ann, ben, cho, messages=1)


async def test_sigterm_leaves_in_order(cluster: Cluster) -> None:
    """After SIGTERM the others hold the node for left, not dead, and its exit code is 0."""
    ann, ben, cho = await cluster.start(3)
    cho.process.send_signal(signal.SIGTERM)

    assert await cho.ended() == 0
    for node in (ann, ben):
        await sees(node, "cho", "left")
    assert not (cho.data / "control.sock").exists()


async def test_flc_leave_ends_the_daemon(cluster: Cluster) -> None:
    """`flc leave` comes back when its daemon has left; who returns is alive again."""
    ann, ben = await cluster.start(2)
    left = await ben.flc("leave")
    assert (left.code, left.out, left.err) == (0, b"", "")
    assert await ben.ended() == 0
    await sees(ann, "ben", "left")

    await ben.start(ann.address)
    await cluster.all_alive(ann, ben)


async def test_a_leaving_node_takes_nothing_with_it(cluster: Cluster) -> None:
    """What was acknowledged before SIGTERM is with the others when the node comes back."""
    ann, ben = await cluster.start(2)
    lines = b"\n".join(b"%d" % number for number in range(300))
    assert (await ben.flc("nc", "-N", "ops", stdin=lines)).code == 0
    ben.process.send_signal(signal.SIGTERM)
    assert await ben.ended() == 0

    await ben.start(ann.address)
    await cluster.converged(ann, ben, messages=300)


async def test_a_killed_node_is_missed_and_comes_back(cluster: Cluster) -> None:
    """Who is killed becomes suspect, then dead, and alive with its return."""
    ann, ben, cho = await cluster.start(3)
    cho.kill9()
    for node in (ann, ben):
        await sees(node, "cho", "suspect", "dead")
    for node in (ann, ben):
        await sees(node, "cho", "dead")

    await cho.start(ann.address)
    await cluster.all_alive(ann, ben, cho)


async def test_a_paused_node_goes_on_by_itself(cluster: Cluster) -> None:
    """Stopped until it counts as dead, a node refutes that, and has what was said meanwhile."""
    ann, ben, cho = await cluster.start(3)
    cho.stop()
    for node in (ann, ben):
        await sees(node, "cho", "dead")
        await node.flc("say", "ops", "are you there?")
    cho.cont()
    await cho.flc("say", "ops", "I am")
    assert "stood still for " in (await cho.flc("status")).out.decode()
    assert (await (await cho.client()).status())["stood_still"]["ms"] >= 1_000

    await cluster.all_alive(ann, ben, cho)
    await cluster.converged(ann, ben, cho, messages=3)


async def test_a_node_that_nobody_answers_is_not_healthy(cluster: Cluster) -> None:
    """With a seed that does not answer `flc status` ends with 1 and names the seed."""
    ann = cluster.node()
    await ann.start("127.0.0.1:1")
    status = await ann.flc("status")

    assert status.code == 1
    assert "NOT HEALTHY" in status.out.decode()
    assert "no seed has answered: 127.0.0.1:1" in status.out.decode()
