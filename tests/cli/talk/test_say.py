"""`flc say`."""

from __future__ import annotations

import asyncio
import sys

import pytest

from tests.cli.fake import LOG, Ended, FakeDaemon, Flc, Spawn


async def test_words_are_joined_and_the_dot_is_printed(daemon: FakeDaemon, flc: Flc) -> None:
    """The words become one message; what is printed is its dot."""
    assert await flc("say", "ops", "it", "is  up", "--as", "ann") == Ended(0, f"{LOG}:1\n", "")
    assert [(m["room"], m["author"], m["body"]) for m in daemon.messages] == [
        ("ops", "ann", "it is  up")
    ]


async def test_the_author_is_the_login_name(
    daemon: FakeDaemon, flc: Flc, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without --as, who is logged in speaks."""
    monkeypatch.setenv("LOGNAME", "zoe")
    await flc("say", "ops", "hi")

    assert daemon.messages[0]["author"] == "zoe"


@pytest.mark.parametrize(
    ("stdin", "body"),
    [
        (b"two\nlines\n", "two\nlines\n"),
        (b"", ""),
        (b"\xff\n", {"base64": "/wo="}),
    ],
)
async def test_a_dash_is_stdin_whole(
    daemon: FakeDaemon, spawn: Spawn, stdin: bytes, body: object
) -> None:
    """With - all of stdin is one message, newlines and all, as bytes where it is no text."""
    process = await spawn("say", "ops", "-")
    await process.communicate(stdin)

    assert process.returncode == 0
    assert daemon.bodies == [body]


@pytest.mark.usefixtures("daemon")
async def test_too_much_stdin_is_refused(spawn: Spawn) -> None:
    """More than any node accepts is an error before it is sent."""
    process = await spawn("say", "ops", "-")
    _, err = await process.communicate(b"x" * (1 << 20) + b"y")

    assert process.returncode == 1
    assert err.startswith(b"error: stdin has more than 1048576 bytes")


async def test_wait_that_is_reached(daemon: FakeDaemon, flc: Flc) -> None:
    """--wait says how many nodes, and --timeout how long; reached, it is exit 0."""
    daemon.held_by = {"held_by": ["ben"]}

    assert await flc("say", "ops", "hi", "--wait", "1") == Ended(0, f"{LOG}:1\n", "")
    await flc("say", "ops", "hi", "--wait", "all", "--timeout", "2.5")

    assert [(r["wait"], r["timeout"]) for r in daemon.asked("say")] == [(1, 10.0), ("all", 2.5)]


async def test_wait_that_is_not_reached(daemon: FakeDaemon, flc: Flc) -> None:
    """When time is out, the dot is printed, the missing are named, and it is exit 3."""
    daemon.held_by = {"held_by": [], "missing": ["ben (00000000000000bb)"], "timeout": True}

    ended = await flc("say", "ops", "hi", "--wait", "all")

    assert ended == Ended(
        3,
        f"{LOG}:1\n",
        "error: not held by ben (00000000000000bb) in 10 s\n"
        "hint: it is durable here and goes on to them: see `flc members`, `flc status`\n",
    )


@pytest.mark.usefixtures("daemon")
async def test_a_refusal_is_an_error_and_a_hint(flc: Flc) -> None:
    """What the daemon refuses is told in its words, and nothing is printed."""
    ended = await flc("say", "ops", "x" * 70_000)

    expected = "error: body has more than 65536 bytes\nhint: say it in pieces\n"
    assert ended == Ended(1, "", expected)


async def test_words_that_are_no_text(daemon: FakeDaemon) -> None:
    """An argument that is not UTF-8 goes as the bytes it is."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "flc_udp", b"say", b"ops", b"\xff", stdout=asyncio.subprocess.DEVNULL
    )

    assert await process.wait() == 0
    assert daemon.bodies == [{"base64": "/w=="}]
