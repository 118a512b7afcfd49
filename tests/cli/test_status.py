"""`flc status`, `flc digest` and `flc leave`."""

from __future__ import annotations

import json
import re

import pytest

from flc_udp.cli.status import status_text
from tests.cli.fake import STATUS, Ended, FakeDaemon, Flc, Spawn


@pytest.mark.usefixtures("daemon")
async def test_a_healthy_node(flc: Flc) -> None:
    """One screen of facts, and exit 0."""
    ended = await flc("status")

    assert (ended.code, ended.err) == (0, "")
    assert ended.out == (
        "ann (00000000000000aa) is healthy\n"
        "  cluster     flc, open, authenticates nobody\n"
        "  address     127.0.0.1:7352\n"
        "  running     version 0.1.0, up 1 h 1 min\n"
        "  members     1 alive, 1 suspect, 0 dead, 0 left\n"
        "  history     12 messages, 2 logs, 1 room, root 0123456789abcdef\n"
        "  dropped     not ours 3\n"
        "  disk        database 41.0 kB, 5.0 GB free\n"
    )


async def test_an_unhealthy_node(daemon: FakeDaemon, flc: Flc) -> None:
    """The reasons are named, and it is exit 1."""
    daemon.status |= {"healthy": False, "reasons": ["the log cannot be written: disk full"]}

    ended = await flc("status")

    assert ended.code == 1
    assert ended.out.splitlines()[:2] == (
        ["ann (00000000000000aa) is NOT HEALTHY", "  ! the log cannot be written: disk full"]
    )


@pytest.mark.usefixtures("daemon")
async def test_json_passes_everything_on(flc: Flc) -> None:
    """Keys this client has never heard of are in the JSON, in the daemon's order."""
    ended = await flc("status", "--json")

    assert ended.out == json.dumps(STATUS, separators=(",", ":")) + "\n"


def test_little_is_enough() -> None:
    """Facts that an older daemon does not give are left out."""
    assert status_text({"healthy": True}) == "node (?) is healthy"


def test_catching_up_is_shown() -> None:
    """A newcomer says how much is to go."""
    lines = status_text({"healthy": True, "catching_up": 7}).splitlines()

    assert lines[1:] == ["  catching up 7 messages to go"]


async def test_catching_up_is_watched(daemon: FakeDaemon, spawn: Spawn) -> None:
    """--watch says after two looks how fast it goes and how long it will take."""
    daemon.looks = [{"messages": 100 * look, "catching_up": 900 - 100 * look} for look in range(9)]
    process = await spawn("status", "--watch")
    await daemon.until(lambda: len(daemon.asked("status")) == 3)
    process.terminate()
    out, _ = await process.communicate()

    first, second = [line for line in out.decode().splitlines() if "catching up" in line][:2]
    assert first == "  catching up 900 messages to go, - messages/s, time left -"
    known = r"  catching up 800 messages to go, [1-9][0-9.]* messages/s, time left [1-9].*"
    assert re.fullmatch(known, second)


@pytest.mark.usefixtures("daemon")
async def test_digest(flc: Flc) -> None:
    """The two roots, and what they are made of."""
    assert await flc("digest", "--json") == Ended(
        0,
        '{"root":"0123456789abcdef","members_root":"fedcba9876543210","logs":2,"messages":12}\n',
        "",
    )
    assert (await flc("digest")).out.splitlines()[0] == "root          0123456789abcdef"


async def test_leave_waits_for_the_end(daemon: FakeDaemon, flc: Flc) -> None:
    """`flc leave` returns when the daemon has closed its socket."""
    assert await flc("leave") == Ended(0, "", "")
    assert len(daemon.asked("leave")) == 1
