import asyncio

from flc_udp.config import BODY_BYTES_MAX
from tests.daemon.cluster import Cluster, Node
from tests.daemon.process import until
from tests.daemon.scenarios import pipe_lines


async def test_what_is_piped_in_on_two_nodes_comes_out_on_a_third(cluster: Cluster) -> None:
    """4,000 lines, odd ones among them, are one history everywhere and leave as they came."""
    await pipe_lines(cluster, lines_each=2_000)


async def test_a_live_reader_gets_each_line_as_it_was_piped_in(cluster: Cluster) -> None:
    """`flc nc -d | …` on one node is what is piped into `flc nc -N` on the other."""
    ann, ben = await cluster.start(2)
    lines = [b"line %d" % n for n in range(500)]
    await ann.flc("say", "ops", "first")
    reading = asyncio.create_task(ben.flc("nc", "-d", "--from", "0", "-c", "501", "ops"))
    said = await ann.flc("nc", "-N", "ops", stdin=b"\n".join(lines))

    assert (said.code, said.err) == (0, "")
    assert (await reading).out.splitlines() == [b"first", *lines]


async def test_the_largest_bodies_go_everywhere(cluster: Cluster) -> None:
    """What one node may submit, all accept, whatever their own limits: 1 MiB, in pieces."""
    ann = cluster.node(environ={"FLC_BODY_BYTES_MAX": str(BODY_BYTES_MAX)})
    ben = cluster.node()
    await ann.start()
    await ben.start(ann.address)
    await cluster.all_alive(ann, ben)
    bodies = [fill * BODY_BYTES_MAX for fill in (b"x", b"\x01", b"\xff")]
    for body in bodies:
        said = await ann.flc("say", "ops", "-", "--wait", "all", "--timeout", "40", stdin=body)
        assert (said.code, said.err) == (0, ""), said.err

    shown = await ben.flc("nc", "-d", "--from", "0", "-c", "3", "ops")
    assert shown.out == b"".join(body + b"\n" for body in bodies)


async def test_daemons_that_are_killed_change_nothing_in_what_comes_out(cluster: Cluster) -> None:
    """`seq | flc nc -N` on one node is what `flc nc -d` prints on the other, whoever restarts."""
    ann, ben = await cluster.start(2)
    lines = [b"%d" % n for n in range(1, 20_001)]
    reading = asyncio.create_task(ben.flc("nc", "-d", "--from", "0", "-c", str(len(lines)), "ops"))
    writing = asyncio.create_task(ann.flc("nc", "-N", "ops", stdin=b"\n".join(lines)))
    for node, other in ((ann, ben), (ben, ann)):
        held = (await node.ask("digest"))["messages"]

        async def has_more(node: Node = node, held: int = held) -> bool:
            return bool((await node.ask("digest"))["messages"] > held)

        await until("more was said", has_more)
        await node.restart(other.address)

    assert (await writing)[::2] == (0, "")
    assert (await reading).out.splitlines() == lines
