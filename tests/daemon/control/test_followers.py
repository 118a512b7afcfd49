"""Followers: live, lagging, many, and not reading at all."""

import asyncio
import signal
from typing import Any

from flc_udp.cli.run.cluster import FLC
from tests.daemon.cluster import Cluster, Node, say_all
from tests.daemon.process import clean_environment, until
from tests.daemon.wire import Wire

FLOOD = 20_000
BODY = "x" * 2_000
"""The flood is some 45 MB of lines: what a daemon that buffers them would grow by."""

GROWTH_BYTES_MAX = 24 << 20


async def read_messages(wire: Wire, count: int) -> list[dict[str, Any]]:
    """So many messages of a follow, whatever else its lines say."""
    records: list[dict[str, Any]] = []
    while len(records) < count:
        record = await wire.read()
        if "message" in record:
            records.append(record)
    return records


async def flood(node: Node, count: int) -> None:
    """Say so many messages, some hundreds at a time."""
    client = await node.client()
    for at in range(0, count, 500):
        await say_all(client, "ops", [f"{number} {BODY}" for number in range(at, at + 500)])


async def test_who_does_not_read_costs_no_memory(cluster: Cluster, wires: list[Wire]) -> None:
    """The daemon hardly grows while a follower reads none of 20,000; then it gets all in order."""
    (ann,) = await cluster.start(1)
    await flood(ann, 4_000)
    follower = await Wire.to(ann, wires)
    await follower.send({"op": "follow", "room": "ops", "from": 4_000})
    follower.pause()
    before = ann.resident_bytes()
    await flood(ann, FLOOD)
    assert ann.resident_bytes() - before < GROWTH_BYTES_MAX

    follower.go_on()
    shown = await read_messages(follower, FLOOD)
    assert [record["position"] for record in shown] == list(range(4_001, 4_001 + FLOOD))
    assert ann.resident_bytes() - before < GROWTH_BYTES_MAX


async def netcat(node: Node) -> asyncio.subprocess.Process:
    """`flc nc -d` of a room, from what is new on."""
    words = (*FLC, "nc", "-d", "ops", "--data", str(node.data))
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(*words, stdout=pipe, env=clean_environment())


async def test_a_stopped_process_is_seen_to_lag_and_resumes_exactly(cluster: Cluster) -> None:
    """SIGSTOP holds up neither the others nor the daemon; it then prints just what it missed."""
    (ann,) = await cluster.start(1)
    followers = [await netcat(ann) for _ in range(3)]
    stopped, *others = followers

    async def clients() -> dict[str, int]:
        return dict((await ann.ask("status"))["clients"])

    async def all_follow() -> bool:
        return (await clients())["follows"] == len(followers)

    async def is_seen() -> bool:
        seen = await clients()
        return seen["blocked"] == seen["lagging"] == 1 and seen["lag_max"] > 0

    async def printed(process: asyncio.subprocess.Process) -> bytes:
        assert process.stdout is not None
        return await process.stdout.readexactly(len(expected))

    await until("all follow", all_follow)
    bodies = [f"{number} {BODY}" for number in range(4_000)]
    expected = "".join(f"{body}\n" for body in bodies).encode()
    stopped.send_signal(signal.SIGSTOP)
    try:
        reading = [asyncio.create_task(printed(process)) for process in others]
        client = await ann.client()
        for at in range(0, len(bodies), 500):
            await say_all(client, "ops", bodies[at : at + 500])
        assert await asyncio.gather(*reading) == [expected] * len(others)
        await until("the stopped one is seen", is_seen)
        stopped.send_signal(signal.SIGCONT)
        assert await printed(stopped) == expected
        await ann.flc("say", "ops", "the next")
        assert stopped.stdout is not None
        assert await stopped.stdout.readline() == b"the next\n"
    finally:
        for process in followers:
            process.kill()
            await process.wait()


async def test_a_follow_says_when_it_has_caught_up(cluster: Cluster, wires: list[Wire]) -> None:
    """What was there comes first, then one `caught_up`, then what is new."""
    (ann,) = await cluster.start(1)
    await ann.flc("nc", "-N", "ops", stdin=b"one\ntwo")
    wire = await Wire.to(ann, wires)
    await wire.send({"op": "follow", "room": "ops", "from": 0, "id": "f"})
    lines = [await wire.read() for _ in range(3)]
    await ann.flc("say", "ops", "three")
    lines.append(await wire.read())

    bodies = [line.get("message", {}).get("body") for line in lines]
    assert bodies == ["one", "two", None, "three"]
    assert lines[2] == {"caught_up": True, "position": 2, "id": "f"}
    assert {line["id"] for line in lines} == {"f"}


async def test_two_follows_on_one_connection(cluster: Cluster, wires: list[Wire]) -> None:
    """Each gets its room, all of it, under its own id; what is said there is marked as own."""
    (ann,) = await cluster.start(1)
    await ann.flc("say", "ops", "before")
    wire = await Wire.to(ann, wires)
    await wire.send(
        {"op": "follow", "room": "ops", "from": 0, "id": "ops"},
        {"op": "follow", "id": "all"},
        {"op": "say", "room": "dev", "body": "mine", "id": "say"},
    )
    await ann.flc("say", "ops", "after")
    shown = await read_messages(wire, 4)

    seen = [(record["id"], record["message"]["body"], record["own"]) for record in shown]
    assert [line for line in seen if line[0] == "ops"] == [
        ("ops", "before", False),
        ("ops", "after", False),
    ]
    assert [line for line in seen if line[0] == "all"] == [
        ("all", "mine", True),
        ("all", "after", False),
    ]


async def test_a_position_is_resumed_by_its_dot(cluster: Cluster, wires: list[Wire]) -> None:
    """A follower goes on where it was, after kill -9 too, or is told if that has gone."""
    (ann,) = await cluster.start(1)
    await ann.flc("nc", "-N", "ops", stdin=b"one\ntwo\nthree")
    first = (await ann.flc("log", "ops", "--json")).records[0]["dot"]
    await ann.restart()
    wire = await Wire.to(ann, wires)
    await wire.send({"op": "follow", "room": "ops", "from": 1, "dot": first})
    assert [r["position"] for r in await read_messages(wire, 2)] == [2, 3]

    wire = await Wire.to(ann, wires)
    refused = await wire.ask({"op": "follow", "room": "ops", "from": 2, "dot": first})
    assert refused["ok"] is False
    assert first in refused["error"]
    assert "restored" in refused["hint"]


async def test_many_followers_get_the_same(cluster: Cluster, wires: list[Wire]) -> None:
    """Fifty followers, live and from the past, all see all messages in one order."""
    (ann,) = await cluster.start(1)
    followers = [await Wire.to(ann, wires) for _ in range(50)]
    for follower in followers[:25]:
        await follower.send({"op": "follow", "from": 0})
    await say_all(await ann.client(), "ops", [str(number) for number in range(200)])
    for follower in followers[25:]:
        await follower.send({"op": "follow", "from": 0})
    for follower in followers:
        shown = await read_messages(follower, 200)
        assert [record["position"] for record in shown] == list(range(1, 201))
