"""The control socket, as a bot in any language meets it."""

import asyncio
import base64
import json
import shutil
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.daemon.blocks import SAY, many
from tests.daemon.cluster import Cluster, Node
from tests.daemon.process import have, until
from tests.daemon.wire import Wire

STATUS = {"op": "status", "id": "still here"}


async def assert_goes_on(wire: Wire) -> None:
    """The daemon still answers over this connection."""
    answer = await wire.ask(STATUS)
    assert (answer["ok"], answer["id"]) == (True, "still here")


def assert_refused(answer: dict[str, Any]) -> None:
    """An error, with a hint."""
    assert answer["ok"] is False
    assert answer["error"]
    assert answer["hint"]


async def test_answers_come_in_order_with_their_ids(wire: Wire) -> None:
    """Says that are sent at once are answered in their order, each with the id it came with."""
    ids: list[Any] = [*range(500), "text", 1.5, True, ["a", {"b": None}], {"n": 1}, "ü\n"]
    await wire.send(*({**SAY, "id": n} for n in ids))
    answers = [await wire.read() for _ in ids]

    assert [answer["id"] for answer in answers] == ids
    assert all(answer["ok"] for answer in answers)
    positions = [answer["position"] for answer in answers]
    assert positions == sorted(positions)
    log = answers[0]["dot"].partition(":")[0]
    assert [answer["dot"] for answer in answers] == [f"{log}:{n}" for n in range(1, len(ids) + 1)]


async def test_a_refused_say_keeps_its_place(wire: Wire) -> None:
    """A refusal between two says is answered between them."""
    await wire.send(
        {**SAY, "id": 1},
        {**SAY, "id": 2, "room": ""},
        {**SAY, "id": 3},
        {**SAY, "id": 4, "body": 5},
    )
    answers = [await wire.read() for _ in range(4)]

    assert [answer["id"] for answer in answers] == [1, 2, 3, 4]
    assert [answer["ok"] for answer in answers] == [True, False, True, False]


async def test_an_answer_without_id_has_none(wire: Wire) -> None:
    """Who gives no id gets none."""
    assert "id" not in await wire.ask(SAY)
    assert "id" not in await wire.ask({"op": "status"})


async def test_two_lists_at_once_do_not_mix(wire: Wire) -> None:
    """Lists are answered one after another, each to its end."""
    for _ in range(3):
        await wire.ask(SAY)
    await wire.send({"op": "log", "room": "ops", "id": 1}, {"op": "rooms", "id": 2})
    records = [await wire.read() for _ in range(6)]

    assert [record["id"] for record in records] == [1, 1, 1, 1, 2, 2]
    assert [record.get("end") for record in records] == [None, None, None, True, None, True]


async def test_lists_that_nobody_reads_cost_little(ann: Node, wire: Wire) -> None:
    """Their connection is not read any more, so they do not gather in the node."""
    await wire.ask(many(*["x" * 500] * 1_000))
    lines = b'{"op":"log","n":1000}\n' * 10_000
    before_bytes = ann.resident_bytes()
    with socket.socket(socket.AF_UNIX) as mute:
        mute.connect(str(ann.data / "control.sock"))
        mute.setblocking(False)

        async def stuck() -> bool:
            with suppress(BlockingIOError):
                mute.send(lines)
            clients = (await wire.ask({"op": "status"}))["clients"]
            return bool(clients["blocked"] and clients["paused"])

        await until("it is not read", stuck)
        assert ann.resident_bytes() - before_bytes < 48 << 20
    assert (await wire.ask(SAY))["ok"]


async def test_a_log_since_a_time_is_all_of_it(wire: Wire) -> None:
    """Without `n` too, where a log is its last 20 messages."""
    for _ in range(23):
        await wire.ask(SAY)
    await wire.send({"op": "log"}, {"op": "log", "since": "2026-01-01T00:00Z"})
    records = [await wire.read() for _ in range(20 + 1 + 23 + 1)]

    assert [number for number, record in enumerate(records) if "end" in record] == [20, 44]


DEEP = b"[" * 1_000 + b"]" * 1_000
"""A value that can be read, and that neither JSON nor Python writes again."""

LINES = {
    "empty": b"\n",
    "blanks": b" \t \n",
    "a byte order mark": b'\xef\xbb\xbf{"op":"status"}\n',
    "UTF-16": '{"op":"status"}\n'.encode("utf-16-be"),
    "a zero byte": b'{"op":"status"}\0\n',
    "two requests": b'{"op":"status"} {"op":"status"}\n',
    "half a surrogate as id": b'{"op":"status","id":"\\ud800"}\n',
    "half a surrogate in body": b'{"op":"say","room":"ops","body":"\\ud800"}\n',
    "half a surrogate in room": b'{"op":"log","room":"\\udfff"}\n',
    "half a surrogate in peer": b'{"op":"sync","peer":"\\ud800"}\n',
    "half a surrogate in bytes": b'{"op":"log","room":"\xed\xa0\x80"}\n',
    "half a surrogate as key": b'{"op":"status","\\ud800":1}\n',
    "no number": b'{"op":"say","room":"ops","body":"hi","wait":"all","timeout":NaN}\n',
    "infinite": b'{"op":"say","room":"ops","body":"hi","wait":"all","timeout":Infinity}\n',
    "beyond a float": b'{"op":"say","room":"ops","body":"hi","wait":"all","timeout":1e400}\n',
    "a deep id": b'{"op":"status","id":%b}\n' % DEEP,
    "an id one level too deep": b'{"op":"hello","id":%b}\n' % (b"[" * 254 + b"]" * 254),
    "a deep id of a list": b'{"op":"rooms","id":%b}\n' % DEEP,
    "a deep id of a follow": b'{"op":"follow","id":%b}\n' % DEEP,
    "a deep op": b'{"op":%b}\n' % DEEP,
    "a deep room": b'{"op":"log","room":%b}\n' % DEEP,
    "a deep dot": b'{"op":"why","dot":%b}\n' % DEEP,
    "a deep member": b'{"op":"forget","member":%b}\n' % DEEP,
    "no JSON": b"hello\n",
    "half": b'{"op":\n',
    "a number": b"7\n",
    "null": b"null\n",
    "a list": b'["status"]\n',
    "not UTF-8": b'{"op":"\xff"}\n',
    "carriage return": b"\r\n",
    "very deep": b"[" * 100_000 + b"\n",
    "a very long number": b'{"op":"status","id":' + b"9" * 10_000 + b"}\n",
    "unknown op": b'{"op":"dance"}\n',
    "no op": b"{}\n",
    "op is no text": b'{"op":{"op":"status"}}\n',
    "9 MiB": b'{"op":"say","body":"' + b"x" * (9 << 20) + b'"}\n',
    "9 MiB of nothing": b" " * (9 << 20) + b"\n",
}


@pytest.mark.parametrize("line", LINES.values(), ids=LINES.keys())
async def test_a_bad_line_is_refused_and_the_connection_goes_on(
    resident_wire: Wire, line: bytes
) -> None:
    """Whatever a line is, it gets an error with a hint, and the next line is read."""
    assert_refused(await resident_wire.ask(line))
    await assert_goes_on(resident_wire)


REQUESTS: dict[str, dict[str, Any]] = {
    "say without room": {"op": "say", "body": "hi"},
    "say without body": {"op": "say", "room": "ops"},
    "room is a number": {**SAY, "room": 7},
    "author is a list": {**SAY, "as": ["ann"]},
    "body is null": {**SAY, "body": None},
    "body is no base64": {**SAY, "body": {"base64": "!!!"}},
    "body is an odd object": {**SAY, "body": {"hex": "00"}},
    "no bodies": many(),
    "too many bodies": many(*["x"] * 16_385),
    "a body beside bodies": many("one", body="two"),
    "null beside bodies": many("one", body=None),
    "bodies are null": {**many(), "bodies": None},
    "bodies are a text": {**many(), "bodies": "text"},
    "bodies are an object": {**many(), "bodies": {"0": "text"}},
    "one of the bodies is a number": many("one", 2, "three"),
    "one of the bodies is null": many("one", "two", None),
    "one of the bodies is a list": many(["one"], "two"),
    "one of the bodies is no base64": many("one", {"base64": "!!!"}),
    "many bodies without room": {"op": "say", "bodies": ["one"]},
    "too many bodies once": many(*["x"] * 1_025, once=["me", 1]),
    "more bodies than numbers": many("one", "two", once=["me", (1 << 63) - 1]),
    "wait is a text": {**SAY, "wait": "some"},
    "wait is negative": {**SAY, "wait": -1},
    "wait is true": {**SAY, "wait": True},
    "wait is huge": {**SAY, "wait": 1 << 64},
    "timeout is a text": {**SAY, "wait": "all", "timeout": "soon"},
    "timeout is negative": {**SAY, "wait": "all", "timeout": -1},
    "timeout is huge": {**SAY, "wait": "all", "timeout": 10**300},
    "once is a text": {**SAY, "once": "me"},
    "once without number": {**SAY, "once": ["me"]},
    "once from zero": {**SAY, "once": ["me", 0]},
    "once is huge": {**SAY, "once": ["me", 1 << 70]},
    "once of nobody": {**SAY, "once": ["", 1]},
    "follow room is a number": {"op": "follow", "room": 7},
    "follow from a text": {"op": "follow", "room": "ops", "from": "0"},
    "follow from before": {"op": "follow", "from": -1},
    "follow from beyond": {"op": "follow", "from": 99},
    "follow from a huge number": {"op": "follow", "from": 1 << 64},
    "follow from and last": {"op": "follow", "from": 0, "last": 1},
    "follow last a float": {"op": "follow", "last": 1.5},
    "log n is a text": {"op": "log", "n": "all"},
    "log n is huge": {"op": "log", "n": 1 << 70},
    "log since a number": {"op": "log", "since": 7},
    "log since without zone": {"op": "log", "since": "2026-01-31T12:00:00"},
}


@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS.keys())
async def test_a_bad_request_is_refused_with_its_id(
    resident_wire: Wire, request_: dict[str, Any]
) -> None:
    """Missing and impossible arguments are refused, and nothing is said."""
    answer = await resident_wire.ask({**request_, "id": 5})
    assert_refused(answer)
    assert answer["id"] == 5
    await assert_goes_on(resident_wire)
    await resident_wire.send({"op": "log", "n": 0})
    assert await resident_wire.read_list() == []


@pytest.mark.parametrize("name", ["wait", "timeout", "once", "from", "n"])
async def test_a_number_that_64_bits_cannot_hold_is_named(resident_wire: Wire, name: str) -> None:
    """It is refused by the name of its argument, as any other that is too large."""
    number = 1 << 80
    op = {"from": {"op": "follow"}, "n": {"op": "log"}}.get(name, SAY)
    answer = await resident_wire.ask({**op, name: ["me", number] if name == "once" else number})

    assert_refused(answer)
    assert answer["error"].startswith(f"{name} is ")


@pytest.mark.parametrize(
    ("sent", "back"),
    [
        (b"18446744073709551615", (1 << 64) - 1),
        (b"-9223372036854775808", -(1 << 63)),
        (b"false", False),
        (b'""', ""),
        (b'"\\ud83e\\udd86 \\u0000 \xc2\x85"', "🦆 \0 \x85"),
        (b'{"n":1,"n":2}', {"n": 2}),
        (b'1,"id":2', 2),
        (b"[" * 253 + b"]" * 253, json.loads("[" * 253 + "]" * 253)),
    ],
    ids=["largest", "least", "false", "empty", "escaped", "a key twice", "an id twice", "deep"],
)
async def test_any_json_comes_back_as_id(resident_wire: Wire, sent: bytes, back: object) -> None:
    """With an answer, a list and a follow; of two equal keys the last counts."""
    for op in (b"hello", b"rooms", b"follow"):
        answer = await resident_wire.ask(b'{"op":"%b","id":%b}\n' % (op, sent))
        assert answer["id"] == back
        assert answer.get("ok", op == b"follow")


async def test_a_line_may_come_in_pieces(wire: Wire) -> None:
    """A request is whole when its line is, however it was cut."""
    line = json.dumps({**SAY, "body": "é" * 20_000}).encode() + b"\n"
    for at in range(0, len(line), 4_099):
        await wire.send(line[at : at + 4_099])
    assert (await wire.read())["ok"]


async def test_a_line_may_have_8_mib(wire: Wire) -> None:
    """A line of exactly the limit is read, and one byte more is refused."""
    line = json.dumps(STATUS).encode()
    padding = b" " * ((8 << 20) - len(line))
    answer = await wire.ask(line + padding + b"\n")
    assert (answer["ok"], answer["id"]) == (True, "still here")
    assert_refused(await wire.ask(line + padding + b" \n"))
    await assert_goes_on(wire)


async def test_who_goes_without_waiting_is_no_trouble(ann: Node, wires: list[Wire]) -> None:
    """What was written is said, though its writer closed the connection before any answer."""
    hasty = await Wire.to(ann, wires)
    await hasty.send(*(SAY for _ in range(200)), {"op": "log", "n": 0}, {"op": "follow", "from": 0})
    await hasty.close()

    async def all_there() -> bool:
        return bool((await ann.ask("digest"))["messages"] == 200)

    await until("all was said", all_there)


async def test_many_connections(ann: Node, wires: list[Wire]) -> None:
    """Beyond the limit a connection is told so; when others have gone there is room again."""
    crowd = []
    for _ in range(500):
        crowd.append(await Wire.to(ann, wires))
        await assert_goes_on(crowd[-1])  # so that it is accepted, and not only queued
    crowd += [await Wire.to(ann, wires) for _ in range(20)]
    assert_refused(await crowd[-1].read())
    assert await crowd[-1].at_end()
    await crowd[-1].send(STATUS)  # Who asks late is not told that the daemon has died.
    refused = await ann.flc("status")
    assert refused.code == 1
    assert "error: too many connections" in refused.err
    for wire in crowd:
        await wire.close()

    async def room_again() -> bool:
        return (await ann.flc("status")).code == 0

    await until("there is room again", room_again)


async def test_who_asks_and_half_closes_is_answered(ann: Node) -> None:
    """As `echo … | nc -NU` does: a say by its dot, a list to its end, and then the end."""
    requests = (
        b'{"op":"say","room":"ops","body":"hi"}\n{"op":"log","room":"ops","n":0}\n',
        b'{"op":"rooms"}\n{"op":"status"}\n',
    )
    for lines in requests:
        reader, writer = await asyncio.open_unix_connection(str(ann.data / "control.sock"))
        writer.write(lines)
        writer.write_eof()
        answers = [json.loads(line) for line in (await reader.read()).splitlines()]
        writer.close()

        assert sum("ok" in answer for answer in answers) == 2
        assert all(answer.get("ok", True) for answer in answers)


async def test_a_follow_ends_with_its_input(ann: Node) -> None:
    """Its client may be gone: nothing else would tell."""
    reader, writer = await asyncio.open_unix_connection(str(ann.data / "control.sock"))
    writer.write(b'{"op":"follow","room":"ops"}\n')
    await reader.readline()
    writer.write_eof()

    assert await reader.read() == b""
    writer.close()


async def test_a_data_directory_that_is_gone_is_told(ann: Node, wire: Wire) -> None:
    """`flc status` is asked just then: it answers, with what it still knows."""
    shutil.rmtree(ann.data)

    answer = await wire.ask(STATUS)

    assert answer["ok"] is True
    assert "the data directory cannot be looked at" in answer["reasons"][0]
    assert "mount it" in answer["advice"][0]
    assert answer["disk"] == {"writable": True}
    await assert_goes_on(wire)


async def test_a_path_that_is_no_unicode_is_told(cluster: Cluster, wires: list[Wire]) -> None:
    """A line that quotes it is JSON as any other, and the daemon goes on."""
    ann = cluster.node(name="ann")
    ann.data = ann.data.with_name("caf\udce9")
    await ann.start()
    wire = await Wire.to(ann, wires)
    shutil.rmtree(ann.data)

    answer = await wire.ask({"op": "keys", "add": base64.b64encode(bytes(range(32))).decode()})

    assert_refused(answer)
    assert r"caf\udce9/keys cannot be written" in answer["error"]
    await assert_goes_on(wire)


async def test_with_few_descriptors_some_are_kept_for_the_node(
    cluster: Cluster, wires: list[Wire], tmp_path: Path
) -> None:
    """A crowd of clients is told that there are too many, and hooks, says and peers go on."""
    out = tmp_path / "out"
    limited = ("bash", "-c", 'ulimit -n 48 && exec "$@"', "-")
    ann = cluster.node("--on-message", f'echo "$FLC_DOT" >> {out}', prefix=limited)
    await ann.start()
    wire = await Wire.to(ann, wires)
    assert (await wire.ask(STATUS))["ok"]
    crowd = [await Wire.to(ann, wires) for _ in range(60)]
    said = await wire.ask(SAY)
    assert await have(out, 1) == [said["dot"]]
    assert "too many connections" in (await crowd[-1].read())["error"]
    assert (await ann.ask("status"))["failures"] == {}
