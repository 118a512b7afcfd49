"""`flc rooms` and `flc members`."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import struct
import termios

import pytest

from tests.cli import fake
from tests.cli.fake import MEMBERS, Ended, FakeDaemon, Flc, Spawn


async def test_rooms_as_a_table(daemon: FakeDaemon, flc: Flc) -> None:
    """Each room with its messages and when the last was said."""
    daemon.hear("ben", "hi", room="ops")

    assert await flc("rooms") == Ended(
        0,
        "ROOM  MESSAGES  LOGS  LAST SAID\nops          1     1  2026-01-02T03:04:05.678Z\n",
        "",
    )


@pytest.mark.usefixtures("daemon")
@pytest.mark.parametrize("words", [(), ("--json",)])
async def test_no_rooms(flc: Flc, words: tuple[str, ...]) -> None:
    """Where nothing was said nothing is printed."""
    assert await flc("rooms", *words) == Ended(0, "", "")


async def test_rooms_as_json(daemon: FakeDaemon, flc: Flc) -> None:
    """One object a line, in the order the daemon gives."""
    daemon.hear("ben", "hi", room="ops")
    daemon.hear("ben", "hi", room="lobby")

    lines = (await flc("rooms", "--json")).out.splitlines()

    assert [json.loads(line)["room"] for line in lines] == ["ops", "lobby"]
    assert list(json.loads(lines[0])) == ["room", "messages", "logs", "last_said_at", "position"]


@pytest.mark.usefixtures("daemon")
async def test_members_as_a_table(flc: Flc) -> None:
    """Each member in a row, this node with a star, what is unknown as a dash."""
    head, ann, ben = (await flc("members")).out.splitlines()

    assert head.split() == (
        ["NAME", "ID", "STATE", "ADDRESS", "RTT", "HEALTH", "INCARNATION", "SINCE", "TAGS"]
    )
    assert (ann.split()[-1], ben.split()[-1]) == ("dc=eu,role=db", "-")
    assert ann.split()[:5] == ["ann*", "00000000000000aa", "alive", "127.0.0.1:7352", "-"]
    assert ben.split()[:6] == (
        ["ben", "00000000000000bb", "suspect", "127.0.0.1:7353", "0.2", "ms"]
    )


@pytest.mark.usefixtures("daemon")
async def test_members_as_json(flc: Flc) -> None:
    """One object a line, exactly as the daemon gives it."""
    ended = await flc("members", "--json")

    assert [json.loads(line) for line in ended.out.splitlines()] == MEMBERS


@pytest.mark.usefixtures("daemon")
@pytest.mark.parametrize(
    ("words", "names"),
    [
        (("--tag", "role=db"), ["ann"]),
        (("--tag", "role=db", "--tag", "dc=eu"), ["ann"]),
        (("--tag", "role=db", "--tag", "dc=us"), []),
        (("--tag", "role=web"), []),
        (("--tag", "state=alive"), []),
    ],
)
async def test_members_by_their_tags(flc: Flc, words: tuple[str, ...], names: list[str]) -> None:
    """All must match; the one whose daemon is of a version without tags has none."""
    found = await flc("members", "--json", *words)

    assert (found.code, found.err) == (0, "")
    assert [json.loads(line)["name"] for line in found.out.splitlines()] == names
    assert len((await flc("members", *words)).out.splitlines()) == 1 + len(names)


@pytest.mark.usefixtures("daemon")
async def test_what_is_no_tag_is_refused(flc: Flc) -> None:
    """In two lines."""
    assert await flc("members", "--tag", "role") == Ended(
        1, "", "error: tag 'role': it has no =\nhint: a tag is KEY=VALUE, as role=db\n"
    )


async def test_watch_asks_again(daemon: FakeDaemon, spawn: Spawn) -> None:
    """--watch goes on until it is interrupted."""
    await spawn("members", "--watch", "--json")

    await daemon.until(lambda: len(daemon.asked("members")) == 2)


async def on_terminal(daemon: FakeDaemon, spawn: Spawn, looks: int, *words: str) -> str:
    """What a terminal of 6 rows got, when the daemon was asked so often for the members."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 6, 200, 0, 0))
    # Readline sets LINES behind Python's back.
    environ = {name: value for name, value in os.environ.items() if name not in SIZES}
    process = await spawn("members", *words, stdin=theirs, stdout=theirs, env=environ)
    os.close(theirs)
    await daemon.until(lambda: len(daemon.asked("members")) >= looks)
    if looks == 1:
        await process.wait()
    shown = os.read(ours, 10_000).decode()
    os.close(ours)
    return shown


SIZES = ("COLUMNS", "LINES")


async def test_the_worst_members_are_seen_on_a_small_terminal(
    daemon: FakeDaemon, spawn: Spawn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With --watch they come first, and what has no room is left out: nothing scrolls away."""
    ann, ben = MEMBERS
    many = [ann, *[ben | {"name": f"n{number}"} for number in range(30)]]
    many[20] = ben | {"name": "gone", "state": "dead"}
    monkeypatch.setattr(fake, "MEMBERS", many)

    shown = await on_terminal(daemon, spawn, 2, "--watch")

    picture = shown.split("\x1b[H\x1b[J")[1].splitlines()
    assert [line.split()[0] for line in picture] == ["NAME", "gone", "n0", "n1", "..."]
    assert picture[-1] == "... 28 more lines"


async def test_nothing_hides_on_a_terminal_in_json_either(
    daemon: FakeDaemon, spawn: Spawn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is escaped there, as JSON allows; a program reads the same."""
    named = [MEMBERS[0] | {"name": "ann\u202e\u200b\x9b"}]
    monkeypatch.setattr(fake, "MEMBERS", named)

    shown = await on_terminal(daemon, spawn, 1, "--json")

    assert "ann\\u202e\\u200b\\u009b" in shown
    assert json.loads(shown) == named[0]
