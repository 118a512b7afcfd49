"""`flc sync`: whom it asks, and how it is watched until the node has caught up."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
from collections.abc import AsyncIterator
from typing import Any

import pytest

import flc_udp.cli.look.sync as syncs
from tests.cli.fake import DEADLINE_S, SYNC, Ended, FakeDaemon, Flc, Spawn

BEN, CHO = "00000000000000bb", "00000000000000cc"


def look(to_go: int = 0, *, idle: bool = True, messages: int = 12, **agrees: object) -> Any:  # noqa: ANN401  # a part of a status
    """A part of a status: `ben` and `cho` agree, differ (False) or are silent (None)."""
    ids = {"ben": BEN, "cho": CHO}
    answers = {ids[name]: answer for name, answer in agrees.items()}
    sync = {"agrees": answers, "idle": idle}
    return {"catching_up": to_go, "messages": messages, "sync": sync}


@pytest.fixture(autouse=True)
async def deadline(daemon: FakeDaemon) -> AsyncIterator[None]:
    """What would be watched for ever ends as an error, for its daemon goes away."""
    end = asyncio.get_running_loop().call_later(DEADLINE_S, daemon.drop_all)
    yield
    end.cancel()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks and rounds follow at once."""
    monkeypatch.setattr(syncs, "LOOK_S", 0.001)
    monkeypatch.setattr(syncs, "ROUND_S", 0.01)
    monkeypatch.setattr(syncs, "LINE_S", 0.0)


# --- One round --------------------------------------------------------------------------------


async def test_whom_it_asks(daemon: FakeDaemon, flc: Flc) -> None:
    """Each member asked is named, and what is known to be missing is counted; nothing waits."""
    daemon.sync["to_go"] = 7

    assert await flc("sync") == Ended(
        0,
        "asked ben (00000000000000bb) at 127.0.0.1:7353\n7 messages known to be missing so far\n",
        "",
    )
    assert [request["peer"] for request in daemon.asked("sync")] == [None]
    assert daemon.asked("status") == []


async def test_a_peer_is_passed_on(daemon: FakeDaemon, flc: Flc) -> None:
    """PEER is the daemon's to look up."""
    await flc("sync", "ben")

    assert [request["peer"] for request in daemon.asked("sync")] == ["ben"]


async def test_one_round_as_json(flc: Flc) -> None:
    """The daemon's answer, as one object."""
    ended = await flc("sync", "--json")

    assert ended.out == json.dumps(SYNC, separators=(",", ":")) + "\n"


@pytest.mark.parametrize("words", [(), ("--watch",)])
async def test_a_refusal(daemon: FakeDaemon, flc: Flc, words: tuple[str, ...]) -> None:
    """Where the daemon has nobody to ask, its words are the error."""
    daemon.sync = {"ok": False, "error": "no other member is alive", "hint": "see `flc members`"}

    assert await flc("sync", *words) == Ended(
        1, "", "error: no other member is alive\nhint: see `flc members`\n"
    )


async def test_names_cannot_drive_the_terminal(daemon: FakeDaemon, flc: Flc) -> None:
    """What a member calls itself is shown visibly."""
    daemon.sync["asked"] = [{**SYNC["asked"][0], "name": "b\x1b[31men\n"}]

    assert (await flc("sync")).out.splitlines()[0].startswith("asked b␛[31men␊ (")


# --- Until it has caught up -------------------------------------------------------------------


@pytest.mark.usefixtures("quick")
async def test_it_ends_when_the_node_agrees(daemon: FakeDaemon, flc: Flc) -> None:
    """What is to go goes down, others are asked again when it is nothing, and then they agree."""
    daemon.looks = [
        look(7, idle=False, messages=5, ben=False),
        look(1, idle=False, messages=11, ben=False),
        *[look(ben=False)] * 100,
    ]
    running = asyncio.create_task(flc("sync", "-w"))
    await daemon.until(lambda: len(daemon.asked("sync")) >= 2)
    daemon.looks = [look(ben=True)]
    ended = await running
    first, second, *_, last = ended.out.splitlines()

    assert (ended.code, ended.err) == (0, "")
    assert first == "7 messages to go, - messages/s, time left -"
    assert second.startswith("1 message to go, ")
    assert last == "caught up: 12 messages"


@pytest.mark.usefixtures("quick")
async def test_as_json(daemon: FakeDaemon, flc: Flc) -> None:
    """One object a look, and in the last one it has caught up."""
    daemon.looks = [look(7, idle=False, messages=5, ben=False), look(ben=True)]

    ended = await flc("sync", "-w", "--json")

    assert [json.loads(line) for line in ended.out.splitlines()] == [
        {"to_go": 7, "messages": 5, "rate": None, "left_s": None},
        {"to_go": 0, "messages": 12, "rate": None, "left_s": 0.0, "caught_up": True},
    ]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    "unfinished",
    [look(idle=False, ben=True), look(ben=None), look(), look(ben=True, cho=False)],
    ids=["not idle", "no answer", "asked by somebody else meanwhile", "one of two differs"],
)
async def test_it_goes_on(daemon: FakeDaemon, flc: Flc, unfinished: dict[str, Any]) -> None:
    """Nothing to go is not enough: somebody must have answered, all agree, and nothing wait."""
    daemon.sync["asked"] = [*SYNC["asked"], {"id": CHO, "name": "cho", "address": "127.0.0.1:1"}]
    daemon.looks = [unfinished, unfinished, look(ben=True, cho=None)]

    ended = await flc("sync", "-w")

    assert (ended.code, ended.out.splitlines()[-1]) == (0, "caught up: 12 messages")
    assert len(daemon.asked("status")) == 3


@pytest.mark.usefixtures("quick")
async def test_who_never_agrees_is_asked_three_times(daemon: FakeDaemon, flc: Flc) -> None:
    """Others that differ and bring nothing, as under load, keep nobody waiting for ever."""
    daemon.status |= look(ben=False)

    ended = await flc("sync", "-w", "ben")

    assert (ended.code, ended.out.splitlines()[-1]) == (0, "caught up: 12 messages")
    assert [request["peer"] for request in daemon.asked("sync")] == ["ben"] * 3


@pytest.mark.usefixtures("quick")
async def test_silence_is_no_round(daemon: FakeDaemon, flc: Flc) -> None:
    """However often nobody answered, who then answers and differs is asked again as before."""
    daemon.status |= look(ben=None)
    running = asyncio.create_task(flc("sync", "-w"))
    await daemon.until(lambda: len(daemon.asked("sync")) >= 5)
    daemon.status |= look(ben=False)
    before = len(daemon.asked("sync"))

    assert (await running).code == 0
    assert len(daemon.asked("sync")) >= before + 2


async def test_a_line_a_second(
    daemon: FakeDaemon, flc: Flc, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often it looks, a pipe gets a line as it begins and then one each LINE_S."""
    monkeypatch.setattr(syncs, "LOOK_S", 0.001)
    monkeypatch.setattr(syncs, "LINE_S", 3_600)
    daemon.looks = [look(n, idle=False, ben=False) for n in range(20, 0, -1)] + [look(ben=True)]

    ended = await flc("sync", "-w")

    assert ended.out == ("20 messages to go, - messages/s, time left -\ncaught up: 12 messages\n")


# --- Other ends -------------------------------------------------------------------------------


@pytest.mark.usefixtures("quick")
async def test_nobody_answers(daemon: FakeDaemon, flc: Flc) -> None:
    """In time for the timeout it is exit 3, after they were asked again and again."""
    daemon.status |= look(ben=None)

    ended = await flc("sync", "-w", "--timeout", "0.2")
    error, hint = ended.err.splitlines()

    assert ended.code == 3
    assert error == "error: no answer from ben in 0.2 s"
    assert hint.startswith("hint: ")
    assert "caught up" not in ended.out
    assert len(daemon.asked("sync")) > 1


@pytest.mark.usefixtures("quick")
async def test_the_timeout_is_for_the_first_answer_only(daemon: FakeDaemon, flc: Flc) -> None:
    """Who was answered once may take as long as it takes."""
    daemon.looks = [look(9, idle=False, ben=False)]
    running = asyncio.create_task(flc("sync", "-w", "--timeout", "0.05"))
    await daemon.until(lambda: len(daemon.asked("status")) >= 1)
    daemon.status |= look(9, idle=False, ben=None)
    await daemon.until(lambda: len(daemon.asked("sync")) >= 12)  # 0.11 s at the least
    daemon.status |= look(ben=True)

    assert (await running).code == 0


async def test_a_daemon_that_goes_away(daemon: FakeDaemon, spawn: Spawn) -> None:
    """It is an error with a hint, and exit 1."""
    daemon.status |= look(7, idle=False, ben=False)
    process = await spawn("sync", "--watch")
    await daemon.until(lambda: len(daemon.asked("status")) >= 2)

    daemon.drop_all()
    _, err = await process.communicate()

    assert process.returncode == 1
    assert err.startswith(b"error: the daemon at ")
    assert err.splitlines()[1].startswith(b"hint: ")
    assert b"Traceback" not in err


async def test_interrupted(daemon: FakeDaemon, spawn: Spawn) -> None:
    """Ctrl-C is exit 130, without a word."""
    daemon.status |= look(7, idle=False, ben=False)
    process = await spawn("sync", "--watch", "--json")
    await daemon.until(lambda: len(daemon.asked("status")) >= 2)

    process.send_signal(signal.SIGINT)
    out, err = await process.communicate()

    assert (process.returncode, err) == (130, b"")
    assert b"caught_up" not in out


# --- On a terminal ----------------------------------------------------------------------------


async def shown_on_terminal(daemon: FakeDaemon, spawn: Spawn, looks: int) -> tuple[int, str]:
    """Exit code and all that a terminal got; after so many looks Ctrl-C, if it still runs."""
    ours, theirs = pty.openpty()
    process = await spawn("sync", "--watch", stdout=theirs)
    os.close(theirs)
    await daemon.until(lambda: len(daemon.asked("status")) >= looks)
    if daemon.status["catching_up"]:
        process.send_signal(signal.SIGINT)
    code = await process.wait()
    shown = os.read(ours, 10_000).decode()
    os.close(ours)
    return code, shown


async def test_on_a_terminal_one_line_is_drawn_over(daemon: FakeDaemon, spawn: Spawn) -> None:
    """Figures replace each other, and the last line replaces them."""
    daemon.looks = [
        look(7, idle=False, ben=False),
        look(1, idle=False, ben=False),
        look(ben=True),
    ]
    code, shown = await shown_on_terminal(daemon, spawn, 3)

    assert code == 0
    assert shown == (
        "\r\x1b[K7 messages to go, - messages/s, time left -"
        "\r\x1b[K1 message to go, - messages/s, time left -"
        "\r\x1b[Kcaught up: 12 messages\r\n"
    )


async def test_ctrl_c_leaves_the_terminal_on_a_new_line(daemon: FakeDaemon, spawn: Spawn) -> None:
    """What was drawn last stays, and the shell's prompt does not stand behind it."""
    daemon.status |= look(7, idle=False, ben=False)
    code, shown = await shown_on_terminal(daemon, spawn, 2)

    assert code == 130
    assert shown.endswith("7 messages to go, - messages/s, time left -\r\n")
    assert shown.count("\n") == 1
