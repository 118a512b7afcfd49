"""People read messages: whatever they ask for may begin and end within a block."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from flc_udp.daemon.control import why as whys
from flc_udp.daemon.control.why import Placed, clock_of
from flc_udp.model.block import Block, decode
from flc_udp.store import reader as store_reader
from flc_udp.store.log import Log
from tests.daemon.blocks import dots_in, many
from tests.daemon.cluster import Cluster, Node
from tests.daemon.process import have, until
from tests.daemon.wire import Wire
from tests.model.stories import Story

BLOCKS = (("ops", 7), ("dev", 4), ("ops", 1), ("ops", 6), ("dev", 5))
COUNT = sum(count for _, count in BLOCKS)
ROOMS = ("ops", "dev", None)

Record = dict[str, Any]


@pytest.fixture
async def ann(cluster: Cluster, wires: list[Wire]) -> Node:
    """One node with some blocks in two rooms, numbered by their positions."""
    (ann,) = await cluster.start(1)
    wire, at = await Wire.to(ann, wires), 0
    for room, count in BLOCKS:
        answer = await wire.ask(many(*(f"m{at + n}" for n in range(1, count + 1)), room=room))
        at += count
        assert answer["position"] == at
    return ann


@pytest.fixture
async def wire(ann: Node, wires: list[Wire]) -> Wire:
    """A connection that has said none of it."""
    return await Wire.to(ann, wires)


async def pause() -> None:
    """Nobody else wants a turn."""


async def log(wire: Wire, **request: object) -> list[Record]:
    """The messages that a log shows, with their positions; by default all."""
    await wire.send({"op": "log", "n": 0, "positions": True} | request)
    return await wire.read_list()


def of_room(messages: list[Record], room: str | None) -> list[Record]:
    """Those of one room, or all."""
    return [message for message in messages if room in (None, message["room"])]


async def follow(wire: Wire, **request: object) -> list[Record]:
    """What a follow shows until it has caught up; messages as `log` gives them."""
    await wire.send({"op": "follow", "id": str(request)} | request)
    shown = []
    while "caught_up" not in (record := await wire.read()):
        assert (record["id"], record["own"]) == (str(request), False)
        shown.append(record["message"] | {"position": record["position"]})
    assert (record["id"], record["position"]) == (str(request), COUNT)
    return shown


async def test_the_log_has_all_messages_in_order(wire: Wire) -> None:
    """One item for each message, as they were said."""
    whole = await log(wire)
    assert [item["body"] for item in whole] == [f"m{n}" for n in range(1, COUNT + 1)]
    assert [item["position"] for item in whole] == [item["seq"] for item in whole]
    assert [item["seq"] for item in whole] == list(range(1, COUNT + 1))


@pytest.mark.parametrize("room", ROOMS)
async def test_a_follow_begins_at_each_position(wire: Wire, room: str | None) -> None:
    """Whether the position is alone or with its dot, also one of another room."""
    whole = await log(wire)
    for position in range(COUNT + 1):
        rest = of_room(whole[position:], room)
        assert await follow(wire, room=room, **{"from": position}) == rest
        if position:
            dot = whole[position - 1]["dot"]
            assert await follow(wire, room=room, dot=dot, **{"from": position}) == rest


async def test_a_position_with_the_dot_of_a_neighbour_is_refused(wire: Wire) -> None:
    """Within a block, too, the error names the dot that stands there."""
    whole = await log(wire)
    dots = [item["dot"] for item in whole]
    for position, right in enumerate(dots, 1):
        for wrong in {dots[position - 2], dots[position % COUNT]}:
            answer = await wire.ask({"op": "follow", "from": position, "dot": wrong})
            assert (answer["ok"], "restored" in answer["hint"]) == (False, True)
            assert answer["error"] == f"position {position} holds {right}, not {wrong}"


@pytest.mark.parametrize("room", ROOMS)
async def test_the_last_of_a_follow_and_of_a_log(wire: Wire, room: str | None) -> None:
    """So many messages, not blocks, and not more than there are."""
    whole = of_room(await log(wire), room)
    for n in range(1, COUNT + 2):
        assert await follow(wire, room=room, last=n) == whole[-n:]
        assert await log(wire, room=room, n=n) == whole[-n:]
        assert await log(wire, room=room, n=n, since="2020-01-01T00:00:00Z") == whole[-n:]
    assert await follow(wire, room=room, last=0) == []
    assert await log(wire, room=room) == whole


async def test_flc_log_prints_the_last_messages(ann: Node, wire: Wire) -> None:
    """`flc log -n N`, for people and as JSON."""
    bodies = [item["body"] for item in of_room(await log(wire), "ops")]
    for n in (1, 3, 6, 7, 9, 14):
        records = (await ann.flc("log", "ops", "-n", str(n), "--json")).records
        assert [record["body"] for record in records] == bodies[-n:]
        lines = (await ann.flc("log", "ops", "-n", str(n))).out.decode().splitlines()
        assert [line.split()[-1] for line in lines] == bodies[-n:]


async def test_clocks_are_those_of_the_whole_log(wire: Wire) -> None:
    """A clock does not depend on where the log begins; each message has its own."""
    for room in ROOMS:
        whole = await log(wire, room=room, clock=True)
        assert [item["clock"] for item in whole] == [{i["log"]: i["seq"]} for i in whole]
        for n in range(1, len(whole) + 1):
            assert await log(wire, room=room, clock=True, n=n) == whole[-n:]


async def next_messages(wire: Wire, count: int) -> list[Record]:
    """So many records of messages of a follow."""
    records: list[Record] = []
    while len(records) < count:
        record = await wire.read()
        if "message" in record:
            records.append(record)
    return records


async def test_followers_at_different_places_while_blocks_come(
    ann: Node, wires: list[Wire]
) -> None:
    """Wherever and whenever they began, and whatever they read, each gets all that comes, once."""
    sizes = [n % 13 + 1 for n in range(300)]
    rooms = [("ops", "dev")[n % 2] for n in sizes]
    speaker, slow = await Wire.to(ann, wires), await Wire.to(ann, wires)
    await slow.send({"op": "follow", "from": 5})
    slow.pause()
    followers: list[tuple[Wire, int, str | None]] = []
    for at, (room, size) in enumerate(zip(rooms, sizes, strict=True)):
        if at % 50 == 0:
            begins, of_room = at // 50 + 2, ROOMS[at // 50 % 3]
            followers.append((await Wire.to(ann, wires), begins, of_room))
            await followers[-1][0].send({"op": "follow", "from": begins, "room": of_room})
        await speaker.send(many(*["x" * 900] * size, room=room))
    answers = [await speaker.read() for _ in sizes]
    slow.go_on()

    blocks = [*BLOCKS, *zip(rooms, sizes, strict=True)]
    room_at = [room for room, size in blocks for _ in range(size)]
    assert answers[-1]["position"] == len(room_at)
    for follower, begins, of_room in [*followers, (slow, 5, None)]:
        expected = [
            position
            for position, room in enumerate(room_at, 1)
            if position > begins and of_room in (None, room)
        ]
        shown = await next_messages(follower, len(expected))
        assert [record["position"] for record in shown] == expected


async def test_why_of_each_message_of_a_block(cluster: Cluster, wires: list[Wire]) -> None:
    """Causes are those of its first message; the others come after their former one alone."""
    ann, ben = await cluster.start(2)
    to_ann, to_ben = await Wire.to(ann, wires), await Wire.to(ben, wires)
    asked = dots_in(await to_ben.ask(many("why?", "and how?", "please")))

    async def is_heard() -> bool:
        return bool((await ann.ask("digest"))["messages"] == len(asked))

    await until("the question is heard", is_heard)
    replied = dots_in(await to_ann.ask(many("so", "and thus", "that is why", "bye")))
    dots = asked + replied
    log_of_ben, log_of_ann = (dot.partition(":")[0] for dot in (asked[0], replied[0]))
    items = {item["dot"]: item for item in await log(to_ann, room="ops", clock=True)}
    for at, dot in enumerate(dots):
        answer = await to_ann.ask({"op": "why", "dot": dot})
        item, seq = items[dot], items[dot]["seq"]
        assert answer["clock"] == item["clock"]
        assert answer["clock"] == (
            {log_of_ben: seq} if dot in asked else {log_of_ben: 3, log_of_ann: seq}
        )
        assert answer["message"].items() <= item.items()
        assert answer["previous"] == (None if dot in (asked[0], replied[0]) else dots[at - 1])
        causes = [cause["dot"] for cause in answer["causes"]]
        assert causes == item["causes"] == (asked[-1:] if dot == replied[0] else [])
        for other_at, other in enumerate(dots):
            order = (await to_ann.ask({"op": "why", "dot": dot, "other": other}))["order"]
            expected = "equal" if other == dot else "before" if at < other_at else "after"
            assert order == expected, (dot, other)


async def test_a_walk_reads_each_block_once_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a clock costs grows with the messages before it, however many each block holds."""
    story, page = Story(), 10
    blocks = [story.say("ann", "lobby", *"x" * 100) for _ in range(8)]
    decoded: list[bytes] = []

    def counted(encoded: bytes) -> Block:
        decoded.append(encoded)
        return decode(encoded)

    monkeypatch.setattr(store_reader, "decode", counted)
    monkeypatch.setattr(whys, "MESSAGES_A_TURN", page)
    with closing(sqlite3.connect(":memory:")) as disk:
        log = Log.over(disk)
        log.append(blocks)
        *_, last = blocks[-1].messages()
        assert await clock_of(log.reader(), Placed(last, last.seq), pause) == {last.log: last.seq}
    assert len(decoded) <= 2 * last.seq // page


async def test_the_order_of_blocks_that_are_concurrent(cluster: Cluster, wires: list[Wire]) -> None:
    """Said while cut apart, no message of one comes before one of the other, and then one does."""
    relay, (ann, ben) = await cluster.start_relayed(2, seed=1)
    relay.isolate("ben")
    wire = await Wire.to(ann, wires)
    one = dots_in(await wire.ask(many("a", "b", "c")))
    other = dots_in(await (await Wire.to(ben, wires)).ask(many("d", "e")))
    relay.heal()
    await cluster.converged(ann, ben, messages=5)
    joined = dots_in(await wire.ask(many("f", "g")))

    for dot in one:
        for second in other:
            pair = {"op": "why", "dot": dot, "other": second}
            assert (await wire.ask(pair))["order"] == "concurrent"
    for dot in one + other:
        for second in joined:
            assert (await wire.ask({"op": "why", "dot": dot, "other": second}))["order"] == "before"
    causes = [(await wire.ask({"op": "why", "dot": dot}))["causes"] for dot in joined]
    assert [[cause["dot"] for cause in found] for found in causes] == [other[-1:], []]


async def test_a_command_runs_once_for_each_message(
    cluster: Cluster, wires: list[Wire], tmp_path: Path
) -> None:
    """In their order where one runs at a time; on the node that said it, and on another."""
    outs = tmp_path / "of-ann", tmp_path / "of-ben"
    ann, ben = (cluster.node("--on-message", f"cat >> {out}") for out in outs)
    await cluster.start_these(ann, ben)
    wire = await Wire.to(ann, wires)
    await wire.send(many(*map(str, range(25))), many("alone"), many(*map(str, range(30, 40))))
    answers = [await wire.read() for _ in range(3)]
    dots = [dot for answer in answers for dot in dots_in(answer)]

    for out in outs:
        told = [json.loads(line) for line in await have(out, len(dots))]
        assert [message["dot"] for message in told] == dots
    assert outs[0].read_bytes() == await ann.history()

    async def hook(node: Node) -> Record:
        return dict((await node.ask("status"))["hooks"]["on_message"])

    async def all_ran() -> bool:
        hooks = [await hook(node) for node in (ann, ben)]
        return all(each["running"] == each["waiting"] == 0 for each in hooks)

    await until("all ran", all_ran)
    assert [(await hook(node))["ended"]["ended well"] for node in (ann, ben)] == [len(dots)] * 2
