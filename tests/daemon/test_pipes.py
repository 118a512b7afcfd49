import asyncio
import re
from random import Random
from typing import Any

import pytest

from flc_udp.client import BodiesRefusedError, Said
from flc_udp.config import BODY_BYTES_MAX
from tests.daemon.cluster import Cluster, Node
from tests.daemon.process import until
from tests.daemon.scenarios import pipe_lines

BODY_BYTES = 65_536
"""Longer bodies are refused by default."""


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


async def test_a_big_file_is_said_once_whoever_is_killed(cluster: Cluster) -> None:
    """Its lines come out in order, once each, but for those too large: each of them is an error.

    Three times `kill -9` ends the daemon in the middle of it.
    """
    (ann,) = await cluster.start(1)
    lines = [b"%d" % n for n in range(1, 60_001)]
    refused = [1, 2, *range(500, 60_000, 7_001), 60_000]
    for n in range(100, 60_000, 997):
        lines[n - 1] *= 700  # It cannot share a block.
    for n in refused:
        lines[n - 1] = b"x" * 66_000
    writing = asyncio.create_task(ann.flc("nc", "-N", "ops", stdin=b"\n".join(lines)))
    for share in (0.2, 0.4, 0.6):

        async def has_more(count: float = share * len(lines)) -> bool:
            return bool((await ann.ask("digest"))["messages"] > count)

        await until("more was said", has_more)
        assert not writing.done()
        await ann.restart()

    ended = await writing
    assert ended.code == 1
    assert list(map(int, re.findall(r"error: line ([0-9]+) was refused: ", ended.err))) == refused
    kept = [line for n, line in enumerate(lines, 1) if n not in refused]
    shown = await ann.flc("nc", "-d", "--from", "0", "-c", str(len(kept)), "ops")
    assert shown.out.splitlines() == kept
    assert (await ann.ask("digest"))["messages"] == len(kept)


async def test_of_many_that_a_client_says_the_good_ones_are_kept(cluster: Cluster) -> None:
    """The error of a real node tells which were refused and why, and the dots of the others."""
    (ann,) = await cluster.start(1)
    with pytest.raises(BodiesRefusedError, match="2 of 4 messages") as refused:
        await ann.control.say_many("ops", ["a", "x" * 70_000, "b", "x" * 80_000], once=("bot", 1))
    again = await ann.control.say_many("ops", ["b"], once=("bot", 3))

    errors = {place: str(error) for place, error in refused.value.errors.items()}
    sizes = {1: 70_000, 3: 80_000}
    assert errors == {at: f"body has {size} bytes, allowed are 65536" for at, size in sizes.items()}
    assert (refused.value.said.position, len(refused.value.said.dots)) == (2, 2)
    assert again.dots == refused.value.said.dots[1:]


async def test_each_of_many_says_at_once_has_its_own_answer(cluster: Cluster) -> None:
    """Its dot and position, or its own error, whatever rooms, sizes and speakers there are."""
    ann, ben = await cluster.start(2)
    chance = Random(7)
    sizes = [chance.choice((0, 9, 100, 1_200, 9_000, BODY_BYTES + 1 + n)) for n in range(900)]
    says = [
        (ann.control if n % 7 else ben.control).say_nowait(f"room {n % 300 // 100}", "x" * size)
        for n, size in enumerate(sizes)
    ]
    outcomes = await asyncio.gather(*says, return_exceptions=True)

    async def all_here() -> dict[str, Any] | None:
        shown = [record async for record in ann.control.stream("log", n=0, positions=True)]
        held = {record["item"]["dot"]: record["item"] for record in shown}
        return held if len(held) == sum(size <= BODY_BYTES for size in sizes) else None

    held = await until("everything is on one node", all_here)
    for n, (size, outcome) in enumerate(zip(sizes, outcomes, strict=True)):
        if size > BODY_BYTES:
            assert str(outcome) == f"body has {size} bytes, allowed are {BODY_BYTES}"
            continue
        assert isinstance(outcome, Said)
        message = held[outcome.dot]
        assert (message["room"], len(message["body"])) == (f"room {n % 300 // 100}", size)
        assert not n % 7 or message["position"] == outcome.position
