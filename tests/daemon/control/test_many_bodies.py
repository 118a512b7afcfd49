"""A say of many messages, as a bot in any language meets it."""

import asyncio
import json
from typing import Any

import pytest

from flc_udp.daemon.control.requests import BODIES_A_SAY
from tests.daemon.blocks import SAY, dots_in, many
from tests.daemon.cluster import Cluster, Node
from tests.daemon.process import until
from tests.daemon.wire import Wire

TOO_LARGE = "x" * 65_537
STATUS = {"op": "status", "id": "status"}

PATIENT = {"FLC_SUSPECT_TIMEOUT_MS": "60000"}
"""A stopped node stays suspect for the whole test: what waits for it is not excused."""


async def log(wire: Wire) -> list[Any]:
    """The bodies in the room, in the order of their positions."""
    await wire.send({"op": "log", "room": "ops", "n": 0, "positions": True})
    items = sorted(await wire.read_list(), key=lambda item: int(item["position"]))
    assert [item["position"] for item in items] == list(range(1, len(items) + 1))
    return [item["body"] for item in items]


async def test_many_bodies_are_one_span(wire: Wire) -> None:
    """The answer has their span, the position of the last one and the id, and nothing else."""
    blob = {"base64": "/w=="}
    first = await wire.ask(SAY)
    own = first["dot"].partition(":")[0]
    three = await wire.ask(many("one", blob, "", id="three"))
    alone = await wire.ask(many("alone", id=["a"]))

    assert three == {"ok": True, "spans": [f"{own}:2-4"], "position": 4, "id": "three"}
    assert alone == {"ok": True, "spans": [f"{own}:5-5"], "position": 5, "id": ["a"]}
    assert (await wire.ask(SAY))["dot"] == f"{own}:6"
    assert await log(wire) == ["hi", "one", blob, "", "alone", "hi"]


@pytest.mark.parametrize("size", [0, 20, 1_050, 1_200])
async def test_more_bodies_than_a_block_holds_are_one_span(wire: Wire, size: int) -> None:
    """Nobody who says something has to know how it is cut into blocks."""
    bodies = [str(number).ljust(size) for number in range(1_100)]
    answer = await wire.ask(many(*bodies))

    (span,) = answer["spans"]
    assert (answer["ok"], answer["position"]) == (True, 1_100)
    assert span.endswith(":1-1100")
    assert await log(wire) == bodies


async def test_the_greatest_say_is_all_its_speakers_own(wire: Wire) -> None:
    """It takes several commits, and a follow over the same connection marks all of it as own."""
    await wire.send({"op": "follow", "room": "ops", "id": "follow"})
    assert (await wire.read())["caught_up"]
    bodies = [str(number) for number in range(BODIES_A_SAY)]
    await wire.send(many(*bodies, id="say"))
    lines = [await wire.read() for _ in range(len(bodies) + 1)]

    (answer,) = [line for line in lines if line["id"] == "say"]
    shown = [line for line in lines if line["id"] == "follow"]
    assert answer["position"] == BODIES_A_SAY
    assert [line["position"] for line in shown] == list(range(1, BODIES_A_SAY + 1))
    assert [line["message"]["body"] for line in shown] == bodies
    assert [line["position"] for line in shown if not line["own"]] == []


@pytest.mark.parametrize(
    ("bodies", "refused"),
    [
        ([TOO_LARGE, "one", "two"], [0]),
        (["one", TOO_LARGE, "two"], [1]),
        (["one", "two", TOO_LARGE], [2]),
        ([TOO_LARGE, "one", {"base64": "AAAA" * 22_000}, TOO_LARGE, "two"], [0, 2, 3]),
        ([TOO_LARGE], [0]),
        ([TOO_LARGE, TOO_LARGE], [0, 1]),
    ],
    ids=["first", "between", "last", "several", "alone", "all"],
)
async def test_a_body_that_is_too_large_is_refused_alone(
    wire: Wire, bodies: list[Any], refused: list[int]
) -> None:
    """It is listed by its place; all others are durable, with a span without a gap."""
    answer = await wire.ask(many(*bodies, id=7))
    good = [body for place, body in enumerate(bodies) if place not in refused]

    assert (answer["ok"], answer["id"], answer["refused"]) == (False, 7, refused)
    assert f"{len(refused)} of {len(bodies)} messages" in answer["error"]
    assert "allowed are 65536" in answer["error"]
    assert answer["hint"]
    assert answer["position"] == (len(good) or None)
    assert [dot.partition(":")[2] for dot in dots_in(answer)] == ["1", "2"][: len(good)]
    assert await log(wire) == good
    assert (await wire.ask(SAY))["position"] == len(good) + 1


async def test_each_of_them_is_told_its_own_reason(wire: Wire) -> None:
    """In the order of their places, each with its hint."""
    sizes = [65_537, 3, 70_000, 66_000]
    answer = await wire.ask(many(*["x" * size for size in sizes]))

    assert answer["refused"] == [0, 2, 3]
    told = [(reason["error"], bool(reason["hint"])) for reason in answer["reasons"]]
    assert told == [
        (f"body has {size} bytes, allowed are 65536", True) for size in sizes if size > 3
    ]


async def test_all_of_the_greatest_say_may_be_refused(cluster: Cluster, wires: list[Wire]) -> None:
    """As many as a say may have are refused, each by its place."""
    ann = cluster.node(environ={"FLC_BODY_BYTES_MAX": "1"})
    await ann.start()
    answer = await (await Wire.to(ann, wires)).ask(many(*["12"] * BODIES_A_SAY))

    assert answer["refused"] == list(range(BODIES_A_SAY))
    assert (answer["spans"], answer["position"]) == ([], None)


async def test_answers_keep_the_order_of_the_says(wire: Wire) -> None:
    """Says of one and of many, refused at once, later, or in part: answered as they were asked."""
    requests: list[dict[str, Any]] = []
    expected: list[bool] = []
    for _ in range(40):
        requests += [SAY, many(), many("a", "b"), many("c", TOO_LARGE), {**SAY, "body": 5}]
        expected += [True, False, True, False, False]
        requests += [many(*"de"), SAY, {**SAY, "body": TOO_LARGE}, {**SAY, "room": ""}]
        expected += [True, True, False, False]
    await wire.send(*({**request, "id": at} for at, request in enumerate(requests)))
    answers = [await wire.read() for _ in requests]

    assert [answer["id"] for answer in answers] == list(range(len(requests)))
    assert [answer["ok"] for answer in answers] == expected
    positions = [answer["position"] for answer in answers if "position" in answer]
    assert positions == [at + 7 * n for n in range(40) for at in (1, 3, 4, 6, 7)]
    dots = [dot for answer in answers if "position" in answer for dot in dots_in(answer)]
    assert [dot.partition(":")[2] for dot in dots] == [str(n) for n in range(1, 281)]


async def test_who_says_many_and_half_closes_is_answered(ann: Node) -> None:
    """As `echo … | nc -NU` does; and a refusal keeps its place there, too."""
    lines = [many("a", "b"), many(), many("c", TOO_LARGE), SAY]
    reader, writer = await asyncio.open_unix_connection(str(ann.data / "control.sock"))
    writer.write(b"".join(json.dumps(line).encode() + b"\n" for line in lines))
    writer.write_eof()
    answers = [json.loads(line) for line in (await reader.read()).splitlines()]
    writer.close()

    assert [answer["ok"] for answer in answers] == [True, False, False, True]
    assert [answer.get("position") for answer in answers] == [2, None, 3, 4]


async def until_paused(node: Node, count: int) -> None:
    """Until the node does not read from so many clients."""

    async def is_paused() -> bool:
        return bool((await node.ask("status"))["clients"]["paused"] == count)

    await until(f"{count} are paused", is_paused)


@pytest.mark.parametrize(
    "more",
    [
        [many(*"x" * 2_047, id="more")],
        [{**SAY, "id": "more"}] * 2_047,
        [many(id="more")] * 4_000,
    ],
    ids=["of many", "of one", "refused at once"],
)
async def test_who_has_too_many_says_waiting_is_not_read(
    cluster: Cluster, wires: list[Wire], more: list[dict[str, Any]]
) -> None:
    """Each message counts, and each refusal whose turn has not come: what waits is bounded."""
    ann, ben = (cluster.node(environ=PATIENT) for _ in range(2))
    await cluster.start_these(ann, ben)
    ben.stop()
    wire = await Wire.to(ann, wires)
    await wire.send(many("a", "b", wait=1, timeout=2, id="first"), *more)
    await until_paused(ann, 1)
    await wire.send(STATUS)
    first, *answers = [await wire.read() for _ in range(len(more) + 2)]

    assert (first["id"], first["timeout"]) == ("first", True)
    assert sorted(answer["id"] for answer in answers) == ["more"] * len(more) + ["status"]
    await until_paused(ann, 0)
