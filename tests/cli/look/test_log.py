"""`flc log`."""

from __future__ import annotations

import json

import pytest

from tests.cli.fake import LOG, Ended, FakeDaemon, Flc, Spawn


async def test_lines_for_people(daemon: FakeDaemon, flc: Flc) -> None:
    """In a pipe a line is the time in UTC, the room when all are asked for, author and body.

    One line a message: what would break it, or drive a terminal, is made visible.
    """
    daemon.hear("ben", "hi \x1b\nthere", room="ops")

    assert await flc("log") == Ended(0, "2026-01-02T03:04:05.678Z  ops  ben: hi ␛␊there\n", "")
    assert await flc("log", "ops") == Ended(0, "2026-01-02T03:04:05.678Z  ben: hi ␛␊there\n", "")


async def test_json_is_exact(daemon: FakeDaemon, flc: Flc) -> None:
    """--json prints the message alone, compact, unescaped, keys in their order."""
    message = daemon.hear("bén", 'a\nb "\x1b\u2028')

    ended = await flc("log", "--json")

    assert ended.out == json.dumps(message, ensure_ascii=False, separators=(",", ":")) + "\n"
    assert list(json.loads(ended.out)) == (
        ["dot", "log", "seq", "room", "author", "body", "said_at", "stamp", "causes"]
    )


async def test_positions_and_clocks_are_asked_for(daemon: FakeDaemon, flc: Flc) -> None:
    """What is local or derived is printed only when asked for."""
    daemon.hear("ben", "hi")

    ended = await flc("log", "--json", "--positions", "--clock")
    assert json.loads(ended.out) == {**daemon.messages[0], "position": 1, "clock": {LOG: 1}}

    ended = await flc("log", "lobby", "--positions", "--clock")
    first, second = ended.out.splitlines()
    assert first == "       1  2026-01-02T03:04:05.678Z  ben: hi"
    assert second == f"    clock {LOG}:1"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], {"room": None, "n": 20, "since": None, "clock": False, "positions": False}),
        (["-n", "0"], {"room": None, "n": 0, "since": None, "clock": False, "positions": False}),
        (
            ["ops", "--since", "2026-01-02T03:04:05Z"],
            {
                "room": "ops",
                "n": 0,
                "since": "2026-01-02T03:04:05.000Z",
                "clock": False,
                "positions": False,
            },
        ),
        (["--since", "@0.5", "-n", "3"], {"n": 3, "since": "1970-01-01T00:00:00.500Z"}),
        (["--since", "-99999d23h"], {"n": 0, "since": "1970-01-01T00:00:00.000Z"}),
    ],
)
async def test_what_is_asked(
    daemon: FakeDaemon, flc: Flc, words: list[str], expected: dict[str, object]
) -> None:
    """The daemon is asked for 20 messages of all rooms unless the line says otherwise.

    With --since it is asked for all since then, because the first of them matter as the last do.
    """
    assert (await flc("log", *words)).code == 0

    request = daemon.asked("log")[0]
    assert {name: request[name] for name in expected} == expected


async def test_follow_goes_on_where_the_history_ended(daemon: FakeDaemon, spawn: Spawn) -> None:
    """-f prints the history and then what is new, each once."""
    daemon.hear("ben", "old", room="ops")
    process = await spawn("log", "-f", "ops")
    await daemon.until(lambda: bool(daemon.asked("follow")))
    daemon.hear("ben", "new", room="ops")

    assert process.stdout is not None
    lines = [await process.stdout.readline() for _ in range(2)]

    assert [line.split(b": ")[1] for line in lines] == [b"old\n", b"new\n"]
    assert daemon.asked("follow")[0]["from"] == 1


@pytest.mark.usefixtures("daemon")
async def test_follow_and_clock_exclude_each_other(flc: Flc) -> None:
    """What is new has no clock yet, so the two together are refused."""
    assert (await flc("log", "-f", "--clock")).code == 1


async def test_a_closed_pipe_is_no_error(daemon: FakeDaemon, spawn: Spawn) -> None:
    """`flc log | head -1` ends quietly."""
    for i in range(5000):
        daemon.hear("ben", f"{i} " + "x" * 100)
    process = await spawn("log", "-n", "0")
    assert process.stdout is not None
    assert process.stderr is not None
    await process.stdout.readline()
    process.stdout._transport.close()  # type: ignore[attr-defined]  # noqa: SLF001  # no other way

    assert (await process.wait(), await process.stderr.read()) == (0, b"")
