"""The longer plays, which the tests run briefly and scripts/soak at length."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from contextlib import suppress
from random import Random
from typing import Any

from flc_udp.model.errors import FlcError
from tests.daemon.cluster import Cluster, Node, say_all
from tests.daemon.process import DEADLINE_S
from tests.daemon.relay import Faults, Relay

ODD_LINES = (
    b"",
    b"x" * 10_000,
    "🦆 naïve 漢字 👩‍👩‍👧".encode(),
    b"a\ttab\tand  spaces ",
    b"\x1b[31mred\x1b[0m\x1b]0;title\x07",
    b"not UTF-8: \xff\xfe\x80",
    b"nul \x00 inside",
    b"carriage return\r",
    b"\r",
    b"y" * 60_000,
    b'{"op":"leave"}',
    "\ufeffbom".encode(),
    "\u2028 line separator \u0085".encode(),
)
"""Lines that quoting, decoding, splitting or printing might change."""


def lines_of(author: str, count: int, chance: Random) -> list[bytes]:
    """Numbered lines with the odd ones strewn in."""
    lines = [f"{author} {number}".encode() for number in range(count)]
    for odd in ODD_LINES:
        lines[chance.randrange(count)] = odd
    return lines


def body(message: dict[str, Any]) -> bytes:
    """The body of a message's record, as bytes."""
    said = message["body"]
    return said.encode() if isinstance(said, str) else base64.b64decode(said["base64"])


async def pipe_lines(cluster: Cluster, lines_each: int, seconds: float = DEADLINE_S) -> None:
    """Lines piped in on two nodes at once are the same on all three, and come out as they were."""
    nodes = await cluster.start(3)
    chance = Random(1)
    lines = {node.name: lines_of(node.name, lines_each, chance) for node in nodes[:2]}
    says = [
        node.flc("nc", "-N", "--as", node.name, "ops", stdin=b"\n".join(lines[node.name]))
        for node in nodes[:2]
    ]
    talkers = await asyncio.gather(*says)
    for said, heard in zip(talkers, reversed(lines.values()), strict=True):
        assert (said.code, said.err) == (0, "")
        # What came from the other meanwhile: whole lines, none left out between two of them.
        assert b"\n" + said.out in b"\n" + b"".join(line + b"\n" for line in heard)
    history = await cluster.converged(*nodes, messages=2 * lines_each, seconds=seconds)
    for name, expected in lines.items():
        messages = [json.loads(line) for line in history.splitlines()]
        assert [body(m) for m in messages if m["author"] == name] == expected
    await comes_out_raw(nodes[2], lines)


async def comes_out_raw(node: Node, lines: dict[str, list[bytes]]) -> None:
    """`flc nc -d` prints what was piped in elsewhere, byte for byte, each author's in order."""
    count = sum(map(len, lines.values()))
    replay = ("nc", "-d", "--from", "0", "-c", str(count))
    raw = await node.flc(*replay, "ops")
    exact = (await node.flc(*replay, "--json", "ops")).records

    assert (raw.code, raw.err) == (0, "")
    assert raw.out == b"".join(body(m) + b"\n" for m in exact)
    for name, expected in lines.items():
        assert [body(m) for m in exact if m["author"] == name] == expected


async def kill_under_load(cluster: Cluster, rounds: int, seed: int) -> None:
    """What a node acknowledged is on every node, whoever is killed while all of them talk."""
    nodes = await cluster.start(3)
    chance = Random(seed)
    dots: list[str] = []
    for number in range(rounds):
        victim = nodes[number % 3]
        others = [node for node in nodes if node is not victim]
        talks = [asyncio.create_task(talk(node, f"round {number}", 10, dots)) for node in others]
        await talk(victim, f"round {number}", chance.randrange(4), dots)
        await say_and_be_killed(victim, chance, dots)
        await victim.start(*(node.address for node in others))
        await asyncio.gather(*talks)
    await kept_everywhere(cluster, nodes, dots)


async def talk(node: Node, words: str, waves: int, dots: list[str]) -> None:
    """Say 40 messages at once, so many times; `dots` gets those that were acknowledged."""
    client = await node.client()
    for wave in range(waves):
        dots += await say_all(client, "ops", [f"{words}, {wave}.{n}" for n in range(40)])


async def say_and_be_killed(node: Node, chance: Random, dots: list[str]) -> None:
    """`kill -9` between two answers: some of what was said is acknowledged, most is not."""
    client = await node.client()
    bodies = [f"last words {number}" for number in range(400)]
    said = asyncio.create_task(say_all(client, "ops", bodies))
    first = [await client.say("ops", "one more") for _ in range(chance.randrange(3))]
    node.kill9()
    dots += [said.dot for said in first] + await said


async def kept_everywhere(cluster: Cluster, nodes: list[Node], acknowledged: list[str]) -> None:
    """All nodes converge to one history in which nothing acknowledged is missing."""
    history = await cluster.converged(*nodes)
    kept = {json.loads(line)["dot"] for line in history.splitlines()}
    assert len(set(acknowledged)) == len(acknowledged), "a dot was given twice"
    assert set(acknowledged) - kept == set()


def assert_causes_first(shown: list[dict[str, Any]]) -> None:
    """Each message comes after all its causes and after its author's former ones."""
    seen: set[str] = set()
    heads: dict[str, int] = {}
    for message in shown:
        assert set(message["causes"]) <= seen, f"{message['dot']} came before a cause of it"
        assert message["seq"] > heads.get(message["log"], 0), f"{message['dot']} is out of order"
        heads[message["log"]] = message["seq"]
        seen.add(message["dot"])


async def shown_by(node: Node, room: str) -> list[dict[str, Any]]:
    """All that a follower of this node is shown, in its order."""
    count = next(r["messages"] for r in (await node.flc("rooms", "--json")).records)
    follower = await node.flc("nc", "-d", "--json", "--from", "0", "-c", str(count), room)
    assert (follower.code, follower.err) == (0, "")
    return follower.records


async def random_faults(cluster: Cluster, seconds: float, seed: int) -> tuple[int, Relay]:
    """Whatever the network and the processes suffer, afterwards nothing is lost or out of order."""
    relay, nodes = await cluster.start_relayed(3, seed)
    chance = Random(seed)
    dots: list[str] = []
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        talks = [asyncio.create_task(chat(node, dots)) for node in nodes]
        await one_fault(relay, chance.choice(nodes), chance)
        await asyncio.gather(*talks)
    relay.heal()
    await cluster.all_alive(*nodes)
    await kept_everywhere(cluster, nodes, dots)
    for node in nodes:
        assert_causes_first(await shown_by(node, "ops"))
    return len(dots), relay


async def chat(node: Node, dots: list[str]) -> None:
    """Two waves, said to whatever daemon there is; none while it is being killed."""
    with suppress(FlcError):
        await talk(node, node.name, 2, dots)


async def one_fault(relay: Relay, node: Node, chance: Random) -> None:
    """Something goes wrong, or is mended."""
    fault = chance.choice(("noise", "noise", "cut", "isolate", "heal", "heal", "kill", "stop"))
    if fault == "noise":
        relay.faults = Faults(
            chance.uniform(0, 0.3), chance.uniform(0, 0.2), chance.uniform(0, 0.5)
        )
    elif fault == "cut":
        other = chance.choice([name for name in ("ann", "ben", "cho") if name != node.name])
        relay.cut(node.name, other)
    elif fault == "isolate":
        relay.isolate(node.name)
    elif fault == "heal":
        relay.heal()
    elif fault == "kill":
        await node.restart()
    else:
        node.stop()
        await asyncio.sleep(chance.uniform(0, 1.5))  # what it suffers is this time itself
        node.cont()
