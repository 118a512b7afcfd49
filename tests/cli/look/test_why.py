"""`flc why`, from the words down to the log: a real control socket over a real log, and no node."""

from __future__ import annotations

import asyncio
import json
import random
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import chain, pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

import flc_udp.daemon.control.why as whys
from flc_udp.client import Client
from flc_udp.daemon.control.operations import Operations
from flc_udp.daemon.control.says import SayRequests
from flc_udp.daemon.control.server import Control
from flc_udp.daemon.control.why import Placed, clock_of, order
from flc_udp.daemon.failures import Failures
from flc_udp.model.block import Block
from flc_udp.model.clocks import Order
from flc_udp.model.dots import Dot
from flc_udp.model.errors import FlcError
from flc_udp.model.message import Message
from flc_udp.model.past import Past
from flc_udp.store.directory import DataDirectory
from flc_udp.store.log import Log, Reader
from flc_udp.wire.message_json import message_record
from tests.cli.fake import Ended, Flc
from tests.model.stories import Story, counts, steps

UNKNOWN = "00000000000000ff:9"


def tell() -> Story:
    """Ann asks and ben replies; cyd hears nobody; ann and ben go on in another room."""
    story = Story()
    question = story.say("ann", body="lunch?\n")
    story.hear("bob", question)
    story.say("bob", body="yes")
    story.say("cyd", body="hello?")
    story.say("ann", "ops", body="deployed")
    story.hear("bob", story.said[-1])
    story.say("bob", "ops", body="thanks")
    story.say("cyd", "ops", body="anybody?")
    return story


def told() -> list[Message]:
    """All its messages."""
    return [message for block in tell().said for message in block.messages()]


@pytest.fixture
def dots() -> dict[str, str]:
    """The story's dots by their bodies."""
    return {str(message.body): str(message.dot) for message in told()}


def told_at_once() -> Story:
    """Ann says two things at once, and ben answers with three."""
    story = Story()
    story.hear("bob", story.say("ann", "ops", "lunch?", "where?"))
    story.say("bob", "ops", "yes", "here", "now")
    return story


@pytest.fixture
async def socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Path]:
    """A control socket over a log that holds the story."""
    monkeypatch.setenv("FLC_DATA", str(tmp_path))
    async with served(tmp_path, tell()) as path:
        yield path


@pytest.fixture
async def burst(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Path]:
    """The same, over what was told at once."""
    monkeypatch.setenv("FLC_DATA", str(tmp_path))
    async with served(tmp_path, told_at_once()) as path:
        yield path


@asynccontextmanager
async def served(home: Path, story: Story) -> AsyncIterator[Path]:
    """A control socket over a log that holds a story."""
    log = Log.open(home / "flc.db")
    log.append(story.said)
    reader = log.reader()
    nobody = cast("Any", None)  # what the op does not ask: status and keys
    last = reader.last_position()
    failures = Failures()
    ground = cast(
        "Any", SimpleNamespace(shown=last, failures=failures, turn_soon=None)
    )  # all asked
    operations = Operations(ground, reader, nobody, nobody, lambda: None)
    control = Control(operations, SayRequests(ground, reader, "ann"), 16)
    directory = DataDirectory(home)
    await control.listen(directory.bind_control())
    yield home / "control.sock"
    await control.close()
    directory.release()
    reader.close()
    log.close()
    assert not failures.counts


# --- One message ------------------------------------------------------------------------------


@pytest.mark.usefixtures("socket")
async def test_causes_and_clock_for_people(flc: Flc, dots: dict[str, str]) -> None:
    """The message, what it replies to, what its author said before, and how far it has seen."""
    ended = await flc("why", dots["thanks"])

    said_at = "1970-01-01T00:00:01.000Z"
    assert ended == Ended(
        0,
        f"{dots['thanks']}  {said_at}  ops  bob: thanks\n"
        f"  cause     {dots['deployed']}  {said_at}  ops  ann\n"
        f"  previous  {dots['yes']} in its log, in any room\n"
        f"  clock     {dots['deployed']} {dots['thanks']}\n",
        "",
    )


@pytest.mark.usefixtures("socket")
async def test_a_message_without_causes(flc: Flc, dots: dict[str, str]) -> None:
    """The first of a log that nothing of the room came before; controls in it are visible."""
    ended = await flc("why", dots["lunch?\n"].upper())

    first, cause, clock = ended.out.splitlines()
    assert first.endswith("ann: lunch?␊")
    assert cause.startswith("  cause     none")
    assert clock == f"  clock     {dots['lunch?' + chr(10)]}"


@pytest.mark.usefixtures("socket")
async def test_one_message_as_json(flc: Flc, dots: dict[str, str]) -> None:
    """The message is what `flc log` prints, the clock what `--clock` adds to it."""
    ended = await flc("why", dots["thanks"], "--json")
    record = json.loads(ended.out)

    message = next(m for m in told() if m.body == "thanks")
    assert record["message"] == message_record(message)
    assert list(record) == ["message", "previous", "causes", "clock"]
    assert record["previous"] == dots["yes"]
    said_at = "1970-01-01T00:00:01.000Z"
    cause = {"dot": dots["deployed"], "room": "ops", "author": "ann", "said_at": said_at}
    assert record["causes"] == [cause]
    logged = await flc("log", "ops", "-n", "0", "--json", "--clock")
    clocks = {line["dot"]: line["clock"] for line in map(json.loads, logged.out.splitlines())}
    assert clocks[dots["thanks"]] == record["clock"]


@pytest.mark.usefixtures("burst")
async def test_a_message_amid_its_block(flc: Flc) -> None:
    """It comes after the one before it, which is its only cause, and is never named as one."""
    story = told_at_once()
    (question, *_), answers = (list(block.messages()) for block in story.said)
    for before, message in pairwise(answers):
        record = json.loads((await flc("why", str(message.dot), "--json")).out)
        assert record["message"] == message_record(message)
        assert (record["previous"], record["causes"]) == (str(before.dot), [])
        assert record["clock"] == {question.log.hex(): 2, message.log.hex(): message.seq}
        assert f"  previous  {before.dot} in its log" in (await flc("why", str(message.dot))).out


@pytest.mark.usefixtures("burst")
async def test_messages_of_blocks_stand_in_their_order(flc: Flc) -> None:
    """Within a block each comes before the next one, and all of it before what follows it."""
    held = [message for block in told_at_once().said for message in block.messages()]
    for at, one in enumerate(held):
        for other_at, other in enumerate(held):
            record = json.loads((await flc("why", str(one.dot), str(other.dot), "--json")).out)
            expected = "equal" if at == other_at else "before" if at < other_at else "after"
            assert record["order"] == expected


# --- Two messages -----------------------------------------------------------------------------

RELATIONS = [
    ("lunch?\n", "yes", "before", True),
    ("yes", "lunch?\n", "after", True),
    ("yes", "yes", "equal", True),
    ("yes", "hello?", "concurrent", True),
    ("lunch?\n", "deployed", "before", False),
    ("lunch?\n", "thanks", "before", False),
    ("thanks", "lunch?\n", "after", False),
    ("yes", "deployed", "concurrent", False),
    ("anybody?", "hello?", "after", False),
]


@pytest.mark.usefixtures("socket")
@pytest.mark.parametrize(("one", "other", "expected", "same_room"), RELATIONS)
async def test_two_as_json(
    flc: Flc, dots: dict[str, str], one: str, other: str, expected: str, same_room: bool
) -> None:
    """By causes in a room, and by the order within logs between rooms."""
    record = json.loads((await flc("why", dots[one], dots[other], "--json")).out)

    assert list(record) == ["order", "same_room", "message", "other"]
    assert (record["order"], record["same_room"]) == (expected, same_room)
    assert (record["message"]["dot"], record["other"]["dot"]) == (dots[one], dots[other])
    assert list(record["other"]) == ["dot", "room", "author", "said_at"]


@pytest.mark.usefixtures("socket")
@pytest.mark.parametrize(
    ("one", "other", "words"),
    [
        ("lunch?\n", "yes", ["comes before", "second one held the first"]),
        ("yes", "lunch?\n", ["comes after", "first one held the second"]),
        ("yes", "yes", ["is one and the same message"]),
        ("yes", "hello?", ["is concurrent with", "neither node held"]),
        ("lunch?\n", "thanks", ["comes before", "in two rooms", "makes this certain"]),
        ("yes", "deployed", ["is concurrent with", "in two rooms", "is not known"]),
    ],
)
async def test_two_in_words(
    flc: Flc, dots: dict[str, str], one: str, other: str, words: list[str]
) -> None:
    """What the relation is, and what that means; across rooms, that less is known."""
    ended = await flc("why", dots[one], dots[other])

    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith(dots[one])
    assert all(part in ended.out for part in words)


async def test_the_clients_method(socket: Path, dots: dict[str, str]) -> None:
    """A bot asks by dots, too."""
    async with await Client.connect(socket) as client:
        assert (await client.why(dots["yes"]))["clock"] == {
            dot.partition(":")[0]: 1 for dot in (dots["lunch?\n"], dots["yes"])
        }
        assert (await client.why(dots["yes"], dots["hello?"]))["order"] == "concurrent"


# --- Refusals ---------------------------------------------------------------------------------


@pytest.mark.usefixtures("socket")
async def test_a_dot_that_is_not_held(flc: Flc, dots: dict[str, str]) -> None:
    """First or second, the error names it."""
    for words in ([UNKNOWN], [UNKNOWN, dots["yes"]], [dots["yes"], UNKNOWN]):
        ended = await flc("why", *words)
        error, hint = ended.err.splitlines()
        assert (ended.code, ended.out) == (1, "")
        assert error == f"error: this node holds no message {UNKNOWN}"
        assert hint.startswith("hint: ")


async def test_what_is_no_dot_on_the_socket(socket: Path) -> None:
    """Whatever stands there, the answer is an error, and the connection goes on."""
    async with await Client.connect(socket) as client:
        for junk in (None, 7, "7", "", {"a": 1}, "0" * 16 + ":0"):
            with pytest.raises(FlcError, match="is not a dot"):
                await client.request("why", dot=junk)
        assert await client.rooms()


@pytest.mark.parametrize("words", [[], ["17"], [UNKNOWN, "x:1"], [UNKNOWN, UNKNOWN, UNKNOWN]])
async def test_what_is_no_dot_on_the_line(flc: Flc, words: list[str]) -> None:
    """A line that cannot be parsed is exit 2, before any daemon is asked."""
    with pytest.raises(SystemExit) as ended:
        await flc("why", *words)

    assert ended.value.code == 2


# --- Against an oracle ------------------------------------------------------------------------


def reordered(story: Story, chance: random.Random) -> list[Block]:
    """Its blocks as another node may have appended them: each after all it comes after."""
    waiting, placed = list(story.said), list[Block]()
    while waiting:
        here = {message.dot for block in placed for message in block.messages()}
        placed.append(chance.choice([b for b in waiting if story.past[b.dot] <= here]))
        waiting.remove(placed[-1])
    return placed


def expected_order(story: Story, one: Dot, other: Dot) -> Order:
    """By the story's own sets."""
    if one == other:
        return Order.EQUAL
    if one in story.past[other]:
        return Order.BEFORE
    return Order.AFTER if other in story.past[one] else Order.CONCURRENT


async def pause() -> None:
    """Nobody else wants a turn."""


async def check_all(reader: Reader, story: Story, appended: list[Block]) -> None:
    """Every pair's order and every clock, against the story and the forward pass."""
    messages = chain.from_iterable(block.messages() for block in appended)
    held = [Placed(message, position) for position, message in enumerate(messages, 1)]
    past = Past()
    for one in held:
        assert await clock_of(reader, one, pause) == past.pass_over(one.message)
        for other in held:
            expected = expected_order(story, one.message.dot, other.message.dot)
            assert await order(reader, one, other, pause) == expected


@given(steps=steps, counts=counts, seed=st.integers(0, 99), page=st.sampled_from([1, 2, 3, 256]))
def test_it_agrees_with_what_authors_had_heard(
    steps: list[tuple[str, str, int | None]], counts: list[int], seed: int, page: int
) -> None:
    """Whatever was said and heard, one by one or at once, and appended in whatever order.

    However small the pages are, in which it is read.
    """
    story = Story(steps[:12], counts)
    appended = reordered(story, random.Random(seed))
    disk = sqlite3.connect(":memory:")
    log = Log.over(disk)
    log.append(appended)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(whys, "MESSAGES_A_TURN", page)
        asyncio.run(check_all(log.reader(), story, appended))
    disk.close()
