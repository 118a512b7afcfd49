"""The client of the control socket, against a fake daemon and against scripted ones."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import uvloop

from flc_udp.client import BodiesRefusedError, Client, DaemonGoneError, Said, SaidMany
from flc_udp.client.connection import UNREAD_BYTES_MAX
from flc_udp.model.errors import FlcError
from tests.cli.fake import LOG, FakeDaemon

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Play = Callable[[Script], Awaitable[Client]]


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[FakeDaemon]:
    """A fake daemon."""
    fake = FakeDaemon(tmp_path)
    await fake.start()
    yield fake
    fake.drop_all()


@pytest.fixture
async def client(daemon: FakeDaemon) -> AsyncIterator[Client]:
    """A client of the fake daemon."""
    async with await Client.connect(daemon.data / "control.sock") as client:
        yield client


@pytest.fixture
async def play(tmp_path: Path) -> AsyncIterator[Play]:
    """A client of a daemon that does what a script says."""
    servers, clients = [], []

    async def start(script: Script) -> Client:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await script(reader, writer)
            await reader.read()  # until the client has seen enough
            writer.close()

        servers.append(await asyncio.start_unix_server(serve, str(tmp_path / "scripted")))
        clients.append(await Client.connect(tmp_path / "scripted"))
        return clients[-1]

    yield start
    for client in clients:
        await client.close()
    for server in servers:
        server.close()


async def test_a_socket_is_reached_by_a_path_that_is_too_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever bound it may have known a shorter one."""
    home = tmp_path / ("x" * 100)
    home.mkdir()
    monkeypatch.chdir(home)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        server.listen()

        client = await Client.connect(home / "socket")

        await client.close()


async def test_say_is_answered_with_the_dot(daemon: FakeDaemon, client: Client) -> None:
    """A say returns its dot and position, and nothing is asked that was not given."""
    assert await client.say("ops", "hi") == Said(f"{LOG}:1", 1)
    assert set(daemon.requests[0]) == {"op", "room", "bodies", "id"}


async def test_says_are_pipelined(daemon: FakeDaemon, client: Client) -> None:
    """Many says are in flight at once, and each gets its own answer."""
    says = [client.say_nowait("ops", str(i)) for i in range(1000)]
    await client.drain(0)

    assert [say.result().position for say in says] == list(range(1, 1001))
    assert daemon.bodies == [str(i) for i in range(1000)]


async def test_one_refusal_is_one_says(daemon: FakeDaemon, client: Client) -> None:
    """A refused say raises the daemon's words; those around it are durable."""
    says = [client.say_nowait("ops", body) for body in ("a", "x" * 70_000, "b")]
    await client.drain(0)

    with pytest.raises(FlcError, match="more than 65536") as refused:
        await says[1]
    assert refused.value.hint == "say it in pieces"
    assert daemon.bodies == ["a", "b"]


async def test_says_of_one_turn_share_a_request(daemon: FakeDaemon, client: Client) -> None:
    """Neighbours of one room and the same options; everything arrives in the order it was said."""
    groups = [("ops", "ann", "ab"), ("dev", "ann", "c"), ("ops", "bot", "de"), ("ops", "ann", "f")]
    says = [client.say_nowait(at, body, author=by) for at, by, said in groups for body in said]
    client.stream("rooms")
    says.append(client.say_nowait("ops", "g", author="ann"))
    await client.drain(0)
    says.append(client.say_nowait("ops", "h"))
    await client.drain(0)

    asked = [(r["op"], r.get("room"), "".join(r.get("bodies", ()))) for r in daemon.requests]
    assert asked[:4] == [("say", at, said) for at, _, said in groups]
    assert asked[4:] == [("rooms", None, ""), ("say", "ops", "g"), ("say", "ops", "h")]
    assert [say.result() for say in says] == [Said(f"{LOG}:{n}", n) for n in range(1, 9)]


async def test_no_request_is_without_limit(daemon: FakeDaemon, client: Client) -> None:
    """However much is said in one turn: some hundred messages share one, and some 64 kB."""
    bodies = [*("x" * 600), *(["y" * 30_000] * 5)]
    for body in bodies:
        client.say_nowait("ops", body)
    await client.drain(0)

    assert daemon.bodies == bodies
    assert [len(request["bodies"]) for request in daemon.requests] == [256, 256, 90, 2, 1]


async def test_a_body_beyond_any_request_harms_no_neighbour(
    daemon: FakeDaemon, client: Client
) -> None:
    """It is refused where it is said, as is text that is no Unicode."""
    before = client.say_nowait("ops", "before")
    with pytest.raises(FlcError, match="allowed are"):
        client.say_nowait("ops", "x" * (8 << 20))
    with pytest.raises(FlcError, match="no Unicode"):
        client.say_nowait("ops", "\ud800")
    after = client.say_nowait("ops", "after")

    assert [(await said).position for said in (before, after)] == [1, 2]
    assert daemon.bodies == ["before", "after"]


async def test_whoever_is_cancelled_takes_no_neighbour_along(
    daemon: FakeDaemon, client: Client
) -> None:
    """The others of its request have their own answers, said or refused."""
    daemon.refuses = "X".__eq__
    says = [client.say_nowait("ops", body) for body in "aXbX"]
    says[0].cancel()
    says[1].cancel()
    await client.drain(0)

    assert (await says[2]).position == 2
    with pytest.raises(FlcError, match="more than"):
        await says[3]


async def test_each_answer_is_of_its_own_number(daemon: FakeDaemon, client: Client) -> None:
    """A say with a number shares no request: what was said before may stand anywhere."""
    first = [client.say_nowait("ops", "a", once=("bot", 1)), client.say_nowait("ops", "b")]
    await client.drain(0)
    again = client.say_nowait("ops", "a", once=("bot", 1))

    assert (await again).dot == first[0].result().dot
    assert [set(request) & {"body", "bodies"} for request in daemon.requests] == [
        {"body"},
        {"bodies"},
        {"body"},
    ]


async def test_many_are_said_in_one_request(daemon: FakeDaemon, client: Client) -> None:
    """Each is a message, in order, and nothing is asked that was not given."""
    said = await client.say_many("ops", ["a", b"\xff", ""])

    assert daemon.bodies == ["a", {"base64": "/w=="}, ""]
    assert said.position == 3
    assert said.dots == [f"{LOG}:{seq}" for seq in (1, 2, 3)]
    assert [set(request) for request in daemon.requests] == [{"op", "room", "bodies", "id"}]


async def test_options_of_many_are_those_of_one(daemon: FakeDaemon, client: Client) -> None:
    """The author, whom to wait for, how long, and the number of the first."""
    daemon.held_by = {"held_by": ["ben"], "missing": ["cho (cc)"], "timeout": True}

    said = await client.say_many(
        "ops", ["a", "b"], author="bot", wait="all", timeout=0.5, once=("bot", 7)
    )

    asked = {"as": "bot", "wait": "all", "timeout": 0.5, "once": ["bot", 7]}
    assert {name: daemon.requests[0][name] for name in asked} == asked
    assert said[1:] == (2, ("ben",), ("cho (cc)",), True)


@pytest.mark.parametrize("bodies", ["aXbX", "X", "XX", "Xab"])
async def test_of_many_some_are_refused(daemon: FakeDaemon, client: Client, bodies: str) -> None:
    """The error names their places and the reason, and has what was said: all others."""
    daemon.refuses = "X".__eq__
    says = [client.say_many_nowait("ops", list(bodies)), client.say_many_nowait("ops", ["last"])]
    await client.drain(0)

    with pytest.raises(BodiesRefusedError, match=f" of {len(bodies)} messages: ") as refused:
        await says[0]
    good = bodies.replace("X", "")
    errors = refused.value.errors
    assert list(errors) == [at for at, body in enumerate(bodies) if body == "X"]
    assert {str(error) for error in errors.values()} == {"body has more than 65536 bytes"}
    assert refused.value.hint == "say it in pieces"
    assert refused.value.said.dots == [f"{LOG}:{seq + 1}" for seq in range(len(good))]
    assert refused.value.said.position == (len(good) or None)
    assert daemon.bodies == [*good, "last"]
    assert (await says[1]).position == len(good) + 1


async def test_a_request_that_is_refused_says_nothing(play: Play) -> None:
    """Then no places are told, because none of it was looked at; too long a line is not sent."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b'{"ok":false,"error":"many bodies","hint":"say less","id":1}\n')

    client = await play(script)

    with pytest.raises(FlcError, match="many bodies") as refused:
        await client.say_many("ops", ["a", "b"])
    assert not isinstance(refused.value, BodiesRefusedError)
    with pytest.raises(FlcError, match="allowed are"):
        client.say_many_nowait("ops", ["x" * (1 << 20)] * 9)


def test_dots_may_lie_in_two_logs() -> None:
    """A node that was killed in between goes on in another log, and both numbers are included."""
    said = SaidMany(("aa:9-10", "bb:1-1"), 3)

    assert said.dots == ["aa:9", "aa:10", "bb:1"]


async def test_bytes_are_said_as_bytes(daemon: FakeDaemon, client: Client) -> None:
    """A body of bytes arrives as such."""
    await client.say("ops", b"\xff")

    assert daemon.bodies == [{"base64": "/w=="}]


async def test_a_say_that_is_not_held_in_time(daemon: FakeDaemon, client: Client) -> None:
    """Who holds it and who is missing is told."""
    daemon.held_by = {"held_by": ["ben"], "missing": ["cho (cc)"], "timeout": True}

    said = await client.say("ops", "hi", wait=2, timeout=0.5)

    assert said == Said(f"{LOG}:1", 1, ("ben",), ("cho (cc)",), timed_out=True)


async def test_follow_shows_old_and_new(daemon: FakeDaemon, client: Client) -> None:
    """A follow replays what was asked for and goes on; own messages are marked."""
    daemon.hear("ben", "old", room="ops")
    follow = client.follow("ops", last=1)
    await client.say("ops", "mine")
    daemon.hear("ben", "new", room="ops")

    shown = [await anext(follow) for _ in range(3)]

    assert [(s.message["body"], s.position, s.own) for s in shown] == [
        ("old", 1, False),
        ("mine", 2, True),
        ("new", 3, False),
    ]


async def test_two_follows_of_one_connection(daemon: FakeDaemon, client: Client) -> None:
    """Each follow gets its own room's messages."""
    ops, lobby = client.follow("ops"), client.follow("lobby")
    await client.request("digest")
    daemon.hear("ben", "1", room="ops")
    daemon.hear("ben", "2", room="lobby")

    assert (await anext(lobby)).message["body"] == "2"
    assert (await anext(ops)).message["body"] == "1"


async def test_lists_and_records(daemon: FakeDaemon, client: Client) -> None:
    """Lists are their items, records are without `ok` and `id`."""
    daemon.hear("ben", "hi")

    assert [room["room"] for room in await client.rooms()] == ["lobby"]
    assert [member["name"] for member in await client.members()] == ["ann", "ben"]
    assert "ok" not in await client.status()
    assert set(await client.digest()) == {"root", "members_root", "logs", "messages"}
    assert [r["item"]["body"] async for r in client.log("lobby")] == ["hi"]


async def test_a_slow_follower_stops_the_reading(daemon: FakeDaemon, client: Client) -> None:
    """What nobody takes is not read without limit, and none of it is lost when it is taken."""
    bodies = [f"{i} " + "x" * 10_000 for i in range(1000)]
    for body in bodies:
        daemon.hear("ben", body)
    stream = client.stream("follow", room=None, **{"from": 0})
    while client._transport.is_reading():  # noqa: ASYNC110, SLF001  # nothing tells that it has stopped
        await asyncio.sleep(0)

    assert stream.unread_bytes < 2 * UNREAD_BYTES_MAX
    shown = [record["message"]["body"] async for record in _some(stream.__aiter__(), 1000)]
    assert shown == bodies


async def _some(records: AsyncIterator[dict], count: int) -> AsyncIterator[dict]:  # type: ignore[type-arg]
    for _ in range(count):
        yield await anext(records)


async def test_an_answer_comes_past_a_full_follow(daemon: FakeDaemon, client: Client) -> None:
    """Who says something between two messages of a long replay gets the answer."""
    for _ in range(1000):
        daemon.hear("ben", "x" * 10_000)
    follow = client.follow(None, position=0)
    await anext(follow)

    assert (await client.say("ops", "hi")).position == 1001


async def test_a_daemon_that_goes_away(daemon: FakeDaemon, client: Client) -> None:
    """Whatever is open fails with a hint, and so does what is asked later."""
    daemon.answers_says = False
    follow = client.follow("ops")
    say = client.say_nowait("ops", "hi")
    await daemon.until(lambda: bool(daemon.asked("say")))
    daemon.drop_all()

    with pytest.raises(DaemonGoneError, match="gone away"):
        await say
    with pytest.raises(DaemonGoneError):
        await anext(follow)
    with pytest.raises(DaemonGoneError):
        await client.drain()
    with pytest.raises(DaemonGoneError):
        await client.status()


async def test_nothing_joins_says_that_were_refused(client: Client) -> None:
    """What is said in the turn in which the daemon goes away is refused, as all before it."""
    first = client.say_nowait("ops", "one")
    client.connection_lost(None)

    with pytest.raises(DaemonGoneError):
        client.say_nowait("ops", "two")
    with pytest.raises(DaemonGoneError):
        await first


async def test_leave_returns_when_the_daemon_has_ended(client: Client) -> None:
    """After leave the connection is over."""
    await client.leave()

    with pytest.raises(DaemonGoneError):
        await client.status()


@pytest.mark.parametrize("count", [1, 3])
async def test_an_answer_of_another_count_is_no_answer(play: Play, count: int) -> None:
    """A daemon that tells of more or fewer messages than were said is not believed."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        spans = f'["{LOG}:1-{count}"]'
        writer.write(f'{{"ok":true,"spans":{spans},"position":{count},"id":1}}\n'.encode())

    client = await play(script)
    says = [client.say_nowait("ops", body) for body in "ab"]

    for say in says:
        with pytest.raises(DaemonGoneError, match="no answer"):
            await say


async def test_an_error_without_id_fails_all(play: Play) -> None:
    """Where the daemon cannot tell whose line it was, nobody waits for ever."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b'{"ok":false,"error":"too many connections","hint":"close some"}\n')

    client = await play(script)

    with pytest.raises(FlcError, match="too many connections"):
        await client.status()


@pytest.mark.parametrize(
    "line",
    [b"hello\n", b"[1]\n", b"\xff\n", b'{"ok":true,"id":1}\n', b'{"refused":[0],"id":1}\n'],
)
async def test_a_daemon_that_speaks_something_else(play: Play, line: bytes) -> None:
    """What is no answer ends the connection with an error, not with a traceback."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(line)

    client = await play(script)

    with pytest.raises(DaemonGoneError, match="no answer"):
        await client.say("ops", "hi")


async def test_a_line_may_be_long_and_come_in_pieces(play: Play) -> None:
    """A line of several MiB, cut anywhere, is one record; several in one piece are several."""
    body = "é" * (3 << 20)

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        records = [{"item": body}, {"item": "b"}, {"ok": True, "end": True}]
        lines = [json.dumps({**r, "id": 1}, ensure_ascii=False) + "\n" for r in records]
        data = "".join(lines).encode()
        for at in range(0, len(data), 1_000_001):
            writer.write(data[at : at + 1_000_001])
            await writer.drain()

    client = await play(script)

    assert await client.listed("words") == [body, "b"]


async def test_text_that_is_no_unicode_is_refused(daemon: FakeDaemon, client: Client) -> None:
    """A lone surrogate raises before anything is sent."""
    with pytest.raises(FlcError, match="Unicode"):
        client.say_nowait("ops", "\ud800")
    with pytest.raises(FlcError, match="allowed are"):
        client.say_nowait("ops", "x" * (9 << 20))

    assert await client.say("ops", "hi") == Said(f"{LOG}:1", 1)
    assert len(daemon.requests) == 1


async def test_a_path_too_long_for_a_socket(daemon: FakeDaemon, tmp_path: Path) -> None:
    """However deep the directory, its socket can be reached."""
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    (deep / "control.sock").symlink_to(daemon.data / "control.sock")

    async with await Client.connect(deep / "control.sock") as client:
        assert (await client.digest())["logs"] == 2


async def test_nobody_there(tmp_path: Path) -> None:
    """Where there is no socket the error says so, and how to start a daemon."""
    with pytest.raises(FlcError, match=r"no daemon answers at .*: No such file") as nobody:
        await Client.connect(tmp_path / "control.sock")
    assert "flc run" in nobody.value.hint


def test_under_uvloop(tmp_path: Path) -> None:
    """It works on the loop that benchmarks use."""

    async def session() -> list[Said]:
        daemon = FakeDaemon(tmp_path)
        await daemon.start()
        async with await Client.connect(tmp_path / "control.sock") as client:
            said = [await client.say("ops", "hi") for _ in range(2)]
        daemon.drop_all()
        return said

    assert uvloop.run(session()) == [Said(f"{LOG}:1", 1), Said(f"{LOG}:2", 2)]
