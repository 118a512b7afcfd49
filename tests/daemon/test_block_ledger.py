"""What becomes of says of many messages when nodes are killed: an exact ledger."""

from __future__ import annotations

import asyncio
import base64
from collections import Counter
from random import Random
from typing import Any

from flc_udp.client import DaemonGoneError
from flc_udp.model.block import Block, decode
from tests.daemon.blocks import with_bodies
from tests.daemon.cluster import Cluster, Node

SAYS = 60
BODIES = 100

SMALL_COMMITS = {"FLC_COMMIT_BLOCKS_MAX": "10"}
"""So that a kill comes between two commits of what was said at once."""


def bodies_of(name: str, chance: Random) -> list[list[str]]:
    """What is said at once: each body is another, and they are of different sizes."""
    return [
        [f"{name} {say}.{n} ".ljust(chance.randrange(60), ".") for n in range(BODIES)]
        for say in range(SAYS)
    ]


async def say_and_kill(
    speaker: Node, victim: Node, says: list[list[str]], chance: Random
) -> dict[str, str]:
    """Say all at once and kill a node after one of the first answers.

    Give {dot: body} of what was acknowledged.
    """
    client = await speaker.client()
    asked = [
        asyncio.create_task(client.request("say", room="ops", bodies=bodies)) for bodies in says
    ]
    await asked[chance.randrange(SAYS // 3)]
    victim.kill9()
    acknowledged = {}
    for bodies, outcome in zip(
        says, await asyncio.gather(*asked, return_exceptions=True), strict=True
    ):
        if isinstance(outcome, BaseException):
            assert isinstance(outcome, DaemonGoneError), outcome
            assert speaker is victim
        else:
            acknowledged |= with_bodies(outcome, bodies)
    return acknowledged


async def blocks_of(node: Node) -> list[Block]:
    """The blocks that it holds."""
    head, *lines = (await node.flc("export")).records
    assert head["messages"] == len(lines)
    return [decode(base64.b64decode(line["encoded"])) for line in lines if "encoded" in line]


def held_by(blocks: list[Block]) -> dict[str, Any]:
    """{dot: body} of blocks, no two of which may hold the same dot."""
    messages = [message for block in blocks for message in block.messages()]
    held = {str(message.dot): message.body for message in messages}
    assert len(held) == len(messages)
    return held


async def test_of_a_block_all_is_on_all_nodes_or_nothing(cluster: Cluster) -> None:
    """Whoever is killed while 100 bodies a say are said, the speaker or a listener.

    What was acknowledged is on all nodes under its dots. Of any other say there is a beginning,
    nothing is there twice, and nothing else is there.
    """
    nodes = [cluster.node(environ=SMALL_COMMITS) for _ in range(3)]
    await cluster.start_these(*nodes)
    chance = Random(11)
    acknowledged: dict[str, str] = {}
    said: list[list[str]] = []
    for number in range(6):
        speaker = nodes[number % 3]
        victim = speaker if number % 2 else nodes[(number + 1) % 3]
        says = bodies_of(f"{number}", chance)
        said += says
        acknowledged |= await say_and_kill(speaker, victim, says, chance)
        await victim.start(*(node.address for node in nodes if node is not victim))
    await cluster.converged(*nodes)

    first, *others = [await blocks_of(node) for node in nodes]
    for other in others:
        assert other == first
    assert any(len(block.bodies) > 1 for block in first)
    held = held_by(first)
    assert acknowledged.items() <= held.items()
    assert len(acknowledged) < len(said) * BODIES, "no say was cut off"
    counts = Counter(held.values())
    for bodies in said:
        there = [body for body in bodies if counts[body]]
        assert there == bodies[: len(there)]
    assert counts == Counter(body for bodies in said for body in bodies if counts[body])
