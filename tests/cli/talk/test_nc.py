"""`flc nc` in pipes, as a real process against a fake daemon."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import pty
import shlex
import signal
import subprocess
import sys
from base64 import b64encode
from functools import partial
from pathlib import Path
from random import Random
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flc_udp.cli import pipes
from flc_udp.cli.commands import command_parser
from flc_udp.cli.talk.nc import GROUP_LINES, Conversation, groups
from flc_udp.cli.talk.reconnecting_client import ReconnectingClient
from flc_udp.client import BodiesRefusedError, Client
from flc_udp.config import BODY_BYTES_MAX, SHARED_BYTES_MAX
from flc_udp.model.errors import FlcError
from tests.cli.fake import FakeDaemon, Flc, Spawn


async def listening(process: asyncio.subprocess.Process) -> bytes:
    """The first line of stderr, which -v prints when nc is ready."""
    assert process.stderr is not None
    return await process.stderr.readline()


async def test_each_line_is_said(daemon: FakeDaemon, nc: Flc) -> None:
    """Lines are said in order; empty ones and a last one without newline too; a CR stays."""
    ended = await nc("-N", "ops", "--as", "ann", stdin=b"one\n\n two \r\nlast")

    assert ended == (0, "", "")
    assert daemon.bodies == ["one", "", " two \r", "last"]
    assert {("ops", "ann")} == {(m["room"], m["author"]) for m in daemon.messages}


async def test_the_default_room_is_lobby(daemon: FakeDaemon, nc: Flc) -> None:
    """Without ROOM nc stands in the lobby."""
    await nc("-N", stdin=b"hi\n")

    assert [m["room"] for m in daemon.messages] == ["lobby"]


async def test_what_is_no_text_goes_as_bytes(daemon: FakeDaemon, nc: Flc) -> None:
    """A line that is not UTF-8 is said as bytes."""
    await nc("-N", stdin=b"\xff\xfe\ntext\n")

    assert [{"base64": b64encode(b"\xff\xfe").decode()}, "text"] == daemon.bodies


async def test_only_what_others_say_is_printed(daemon: FakeDaemon, spawn: Spawn) -> None:
    """Own lines do not come back; others' bodies come out alone and raw, each with a newline."""
    process = await spawn("nc", "-c", "4")
    process.stdin.write(b"mine\n")
    await daemon.until(lambda: len(daemon.messages) == 1)

    for body in ("plain", "two\nlines \x1b[31m", {"base64": b64encode(b"\xff\x00").decode()}, ""):
        daemon.hear("ben", body)
    out, err = await process.communicate()

    assert out == b"plain\ntwo\nlines \x1b[31m\n\xff\x00\n\n"
    assert (process.returncode, err) == (0, b"")


@pytest.mark.parametrize("breaks_later", [False, True])
async def test_a_reader_that_goes_while_something_is_printed(
    daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch, *, breaks_later: bool
) -> None:
    """It may be seen before the print meets the broken pipe: nobody hears of that any more."""
    printing, gone = asyncio.Event(), asyncio.Event()

    async def print_bytes(_: bytes) -> None:
        printing.set()
        await gone.wait()
        raise BrokenPipeError

    async def reader_gone(_: int) -> None:
        await printing.wait()
        if not breaks_later:
            gone.set()
        raise BrokenPipeError

    monkeypatch.setattr(pipes, "print_bytes", print_bytes)
    monkeypatch.setattr(pipes, "reader_gone", reader_gone)
    problems: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, told: problems.append(told))
    daemon.hear("ben", "hi", room="ops")
    args = command_parser("nc").read(["-d", "--from", "0", "ops"])
    with pytest.raises(BrokenPipeError):
        await Conversation(await Client.connect(daemon.data / "control.sock"), args).run()
    gone.set()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    gc.collect()

    assert problems == []


async def test_other_rooms_are_not_printed(daemon: FakeDaemon, spawn: Spawn) -> None:
    """What is said elsewhere is not shown."""
    process = await spawn("nc", "-d", "-v", "-c", "1", "ops")
    await listening(process)

    daemon.hear("ben", "elsewhere", room="lobby")
    daemon.hear("ben", "here", room="ops")

    assert (await process.communicate())[0] == b"here\n"


async def test_a_burst_is_all_said(daemon: FakeDaemon, nc: Flc) -> None:
    """More lines than the window holds are said, once each and in order."""
    lines = [f"line {i}" for i in range(5000)]

    ended = await nc("-N", stdin="\n".join(lines).encode())

    assert ended.code == 0
    assert lines == daemon.bodies


async def test_lines_of_one_read_are_said_together(
    daemon: FakeDaemon, spawn: Spawn, tmp_path: Path
) -> None:
    """So many at most; a long one alone; and each has the number that it would have alone."""
    short = [f"line {i}" for i in range(2 * GROUP_LINES + 1)]
    lines = [*short, "x" * (SHARED_BYTES_MAX + 1), "y" * SHARED_BYTES_MAX, "last"]
    (tmp_path / "lines").write_text("".join(f"{line}\n" for line in lines))
    with (tmp_path / "lines").open("rb") as file:
        process = await spawn("nc", "-N", stdin=file.fileno())
        await process.communicate()

    sizes = [len(request["bodies"]) for request in daemon.asked("say")]
    assert sizes == [GROUP_LINES, GROUP_LINES, 1, 1, 2]
    assert [(n, body) for _, n, body in daemon.said] == list(enumerate(lines, 1))


async def test_a_lone_line_goes_at_once(daemon: FakeDaemon, spawn: Spawn) -> None:
    """It waits for no other, and not for the end of the input."""
    process = await spawn("nc")
    for count in range(1, 6):
        process.stdin.write(b"line %d\n" % count)
        await daemon.until(lambda count=count: len(daemon.bodies) == count)

    assert daemon.bodies == [f"line {count}" for count in range(1, 6)]


@given(st.lists(st.sampled_from([b"\n", b"a\nb", b"", b"X\r\n" * 300, b"x" * 700, b"\xff\n"])))
def test_any_reads_give_the_same_lines(chunks: list[bytes]) -> None:
    """However the input comes in reads, the groups in turn are its lines, each in its place."""
    whole = b"".join(chunks).split(b"\n")
    with patch.object(pipes, "_read", side_effect=[*filter(None, chunks), b""]):
        reads = list(pipes.line_batches(0, BODY_BYTES_MAX))
    found = [list(groups(lines)) for lines in reads]
    said = [group for numbered in found for _, group in numbered]

    assert [line for group in said for line in group] == (whole if whole[-1] else whole[:-1])
    for lines, numbered in zip(reads, found, strict=True):
        places = [at for place, group in numbered for at in range(place, place + len(group))]
        assert places == list(range(len(lines)))
    for group in said:
        is_short = max(map(len, group)) <= SHARED_BYTES_MAX
        assert 1 <= len(group) <= (GROUP_LINES if is_short else 1)


@pytest.mark.parametrize("seed", range(10))
async def test_daemons_that_go_away_lose_nothing_of_any_groups(
    daemon: FakeDaemon, seed: int
) -> None:
    """Whatever part of a group was kept: each line is said once, in order, or refused once."""
    chance = Random(seed)
    daemon.refuses = lambda body: "no" in str(body)
    lines = [f"{'no' if chance.random() < 0.1 else 'line'} {n}" for n in range(1, 400)]
    client = ReconnectingClient(await Client.connect(daemon.data / "control.sock"), "ops", None, {})
    client.on_loss = lambda _: None
    refused: list[str] = []

    def heard(group: list[str], error: FlcError | None) -> None:
        assert error is None or isinstance(error, BodiesRefusedError)
        refused.extend(group[place] for place in (error.errors if error else ()))

    async def restart() -> None:
        while True:
            await asyncio.sleep(chance.random() / 50)
            daemon.answers_says, daemon.hears_says = False, chance.randrange(30)
            await asyncio.sleep(chance.random() / 50)
            daemon.drop_all()
            daemon.answers_says = True
            await daemon.start()
            await asyncio.sleep(0.1)

    async def speak() -> None:
        rest = lines
        while rest:
            size = chance.randrange(1, 30)
            group, rest = rest[:size], rest[size:]
            await client.drain(60)
            client.say(group, partial(heard, group))
            await asyncio.sleep(chance.random() / 50)
        await client.drain(0)

    async def follow() -> None:
        async for batch in client.batches():
            assert [record for record in batch if "message" in record] == []

    async with pipes.first_of(speak(), follow(), restart()):
        await client.close()

    assert daemon.bodies == [line for line in lines if "no" not in line]
    assert refused == [line for line in lines if "no" in line]
    assert len(daemon.asked("follow")) > 1


async def test_the_count_is_exact(daemon: FakeDaemon, nc: Flc) -> None:
    """-c prints COUNT messages of those that are there, not one more."""
    for i in range(10):
        daemon.hear("ben", str(i))

    ended = await nc("-d", "--from", "0", "-c", "3")

    assert ended == (0, "0\n1\n2\n", "")


async def test_silence_ends_it(daemon: FakeDaemon, nc: Flc) -> None:
    """-w quits after that long without a message, with 0."""
    daemon.hear("ben", "before")

    assert await nc("-d", "-w", "0.1", "--last", "5") == (0, "before\n", "")


async def test_silence_before_the_count_is_another_exit(daemon: FakeDaemon, nc: Flc) -> None:
    """-w with -c exits 3 when the messages did not come."""
    daemon.hear("ben", "only one")

    assert await nc("-d", "-w", "0.1", "-c", "2", "--last", "5") == (3, "only one\n", "")


async def test_deaf_reads_nothing(daemon: FakeDaemon, nc: Flc) -> None:
    """-d leaves stdin alone."""
    ended = await nc("-d", "-w", "0.1", stdin=b"never said\n")

    assert (ended.code, daemon.bodies, daemon.asked("say")) == (0, [], [])


async def test_without_n_it_stays_after_end_of_input(daemon: FakeDaemon, spawn: Spawn) -> None:
    """End of input alone is no reason to quit: what others say later is printed."""
    process = await spawn("nc", "-c", "1")
    process.stdin.write(b"mine\n")
    process.stdin.close()
    await daemon.until(lambda: len(daemon.messages) == 1)

    daemon.hear("ben", "later")

    assert (await process.communicate())[0] == b"later\n"


async def test_verbose_tells_when_it_listens(daemon: FakeDaemon, spawn: Spawn) -> None:
    """-v prints `listening at POSITION` on stderr once it would miss nothing."""
    daemon.hear("ben", "old")
    process = await spawn("nc", "-d", "-v")

    assert await listening(process) == b"listening at 1\n"


async def test_it_goes_on_where_stderr_takes_nothing(daemon: FakeDaemon, spawn: Spawn) -> None:
    """That the node is catching up cannot be told then, and nothing is lost by that."""
    daemon.looks = [{"catching_up": 5_000}]
    full = os.open("/dev/full", os.O_WRONLY)
    process = await spawn("nc", "-c", "1", stderr=full)
    os.close(full)
    await daemon.until(lambda: not daemon.looks)

    daemon.hear("ben", "hello")
    out, _ = await process.communicate()

    assert (process.returncode, out) == (0, b"hello\n")


async def test_a_node_that_is_catching_up_is_told(daemon: FakeDaemon, spawn: Spawn) -> None:
    """Once it is known, which may be a while after it was started; and its end."""
    daemon.looks = [{"catching_up": n} for n in (0, 5_000, 7, 0)]
    process = await spawn("nc", "-d")

    assert await listening(process) == b"catching up, 5000 messages to go\n"
    assert await listening(process) == b"caught up\n"


async def test_verbose_tells_how_it_catches_up(daemon: FakeDaemon, spawn: Spawn) -> None:
    """A line for each look."""
    daemon.looks = [{"catching_up": n} for n in (5_000, 7, 0)]
    process = await spawn("nc", "-d", "-v")
    lines = {await listening(process) for _ in range(4)}

    assert lines == {
        b"listening at 0\n",
        b"catching up, 5000 messages to go\n",
        b"catching up, 7 messages to go\n",
        b"caught up\n",
    }


async def test_json_is_exact(daemon: FakeDaemon, nc: Flc) -> None:
    """--json prints the message with its keys in order, unescaped, and its position."""
    message = daemon.hear("bén", 'a\nb "\x1b\u2028')

    ended = await nc("-d", "--json", "-c", "1", "--last", "1")

    expected = json.dumps({**message, "position": 1}, ensure_ascii=False, separators=(",", ":"))
    assert (0, expected + "\n", "") == ended


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], {}),
        (["--last", "3"], {"last": 3}),
        (["--from", "2"], {"from": 2}),
        (["--from", "2@9f2c61d0a47be813:2"], {"from": 2, "dot": "9f2c61d0a47be813:2"}),
    ],
)
async def test_where_it_begins(
    daemon: FakeDaemon, nc: Flc, words: list[str], expected: dict[str, object]
) -> None:
    """--from and --last say to the daemon where the follow begins; without them only now."""
    daemon.hear("ben", "one")
    daemon.hear("ben", "two")

    await nc("-d", "-w", "0.05", *words)

    request = daemon.asked("follow")[0]
    assert expected == {k: v for k, v in request.items() if k in ("from", "dot", "last")}


async def test_a_refused_follow_is_an_error(daemon: FakeDaemon, nc: Flc) -> None:
    """Where another dot stands at the position, nc says so and nothing is said."""
    ended = await nc("-N", "--from", "1@9f2c61d0a47be813:9", stdin=b"hi\n")

    assert ended[:2] == (1, "")
    assert ended.err == "error: position 1 is another\nhint: follow from --last\n"
    assert daemon.bodies == []


async def test_refused_lines_do_not_stop_the_others(daemon: FakeDaemon, nc: Flc) -> None:
    """A line the daemon refuses, or no node would take, is an error each; the rest is said."""
    ended = await nc("-N", stdin=b"a\n" + b"x" * 70_000 + b"\nb\n" + b"y" * 2_000_000 + b"\nc\n")

    assert ended.code == 1
    assert daemon.bodies == ["a", "b", "c"]
    first = "error: line 2 was refused: body has more than 65536 bytes\nhint: say it in pieces\n"
    second = "error: line 4 has more than 1048576 bytes\nhint: no node accepts it\n"
    assert ended.err in (first + second, second + first)


@pytest.mark.parametrize("pieces", [1, 3])
async def test_refused_lines_of_a_group_are_named(
    daemon: FakeDaemon, spawn: Spawn, pieces: int
) -> None:
    """Each by its own number and with its reason, in order; its neighbours are said once each."""
    daemon.refuses = lambda body: "no" in str(body)
    refused, size = (1, 4, 5, 240), 240 // pieces
    lines = [b"no %d\n" % n if n in refused else b"%d\n" % n for n in range(1, 241)]
    process = await spawn("nc", "-N")
    for end in range(size, 241, size):
        process.stdin.write(b"".join(lines[end - size : end]))
        await daemon.until(lambda end=end: len(daemon.said) == end)
    process.stdin.close()
    _, err = await process.communicate()

    words = "was refused: body has more than 65536 bytes\nhint: say it in pieces\n"
    assert process.returncode == 1
    assert err.decode() == "".join(f"error: line {n} {words}" for n in refused)
    assert daemon.bodies == [str(n) for n in range(1, 241) if n not in refused]
    assert len(daemon.asked("say")) == pieces


async def test_a_lost_daemon_names_what_is_open(daemon: FakeDaemon, spawn: Spawn) -> None:
    """When it does not come back, nc exits 1 and tells how many lines were not acknowledged."""
    daemon.answers_says = False
    process = await spawn("nc", "-w", "0.3")
    process.stdin.write(b"one\ntwo\n")
    await daemon.until(lambda: len(daemon.said) == 2)

    daemon.drop_all()
    out, err = await process.communicate()

    assert (process.returncode, out) == (1, b"")
    assert err.startswith(b"error: the daemon at ")
    assert b"2 lines were not acknowledged\nhint: " in err


async def test_a_daemon_that_comes_back_and_does_not_answer_is_lost(
    daemon: FakeDaemon, spawn: Spawn
) -> None:
    """After -w, with the error alone: what is still asked then is no accident."""
    daemon.answers_says = False
    process = await spawn("nc", "-w", "0.5")
    process.stdin.write(b"one\n")
    await daemon.until(lambda: len(daemon.asked("say")) == 1)
    daemon.drop_all()
    await daemon.start()
    await daemon.until(lambda: len(daemon.asked("say")) == 2)
    _, err = await process.communicate()

    assert process.returncode == 1
    assert err.startswith(b"error: the daemon at ")
    assert b"1 line was not acknowledged" in err
    assert err.count(b"\n") == 2


@pytest.mark.parametrize("kept", [0, 1, 2])
async def test_a_daemon_that_restarts_changes_nothing(
    daemon: FakeDaemon, spawn: Spawn, kept: int
) -> None:
    """Lines whose answers were lost are said once; what others say is printed once, own lines not.

    Whether the daemon had kept them before it went, or one of two, or none.
    """
    daemon.hear("ben", "before")
    process = await spawn("nc", "-v", "--last", "1", "-c", "3")
    await listening(process)
    process.stdin.write(b"answered\n")
    await daemon.until(lambda: "answered" in daemon.bodies)
    daemon.answers_says, daemon.hears_says = False, kept
    process.stdin.write(b"one\ntwo\n")
    await daemon.until(lambda: len(daemon.said) == 3)

    daemon.drop_all()
    daemon.hear("ben", "meanwhile")
    daemon.answers_says = True
    await daemon.start()
    await daemon.until(lambda: len(daemon.asked("follow")) == 2)
    process.stdin.write(b"three\n")
    await daemon.until(lambda: "three" in daemon.bodies)
    daemon.hear("ben", "after")
    out, err = await process.communicate()

    assert out == b"before\nmeanwhile\nafter\n"
    assert process.returncode == 0
    assert [body for body in daemon.bodies if body not in ("before", "meanwhile", "after")] == [
        *("answered", "one", "two", "three")
    ]
    assert [n for _, n, _ in daemon.said] == [1, 2, 3, 2, 3, 4]
    assert len({name for name, _, _ in daemon.said}) == 1
    assert b"has gone away; trying again" in err


async def test_a_daemon_that_goes_before_it_was_heard_is_asked_the_same(
    daemon: FakeDaemon, spawn: Spawn
) -> None:
    """Where nothing came yet, the follow begins again as it was told to."""
    for body in ("one", "two"):
        daemon.hear("ben", body, room="elsewhere")
    process = await spawn("nc", "-d", "-v", "--last", "5", "-c", "1")
    await listening(process)
    daemon.drop_all()
    daemon.hear("ben", "here")
    await daemon.start()

    assert (await process.communicate())[0] == b"here\n"
    assert [request.get("from") for request in daemon.asked("follow")] == [None, 2]


@pytest.mark.usefixtures("daemon")
async def test_interrupted(spawn: Spawn) -> None:
    """Ctrl-C is exit 130, without a word."""
    process = await spawn("nc", "-v")
    await listening(process)

    process.send_signal(signal.SIGINT)
    _, err = await process.communicate()

    assert (process.returncode, err) == (130, b"")


async def test_interrupted_while_stdout_is_blocked(daemon: FakeDaemon, spawn: Spawn) -> None:
    """Ctrl-C ends it even while nobody reads what it prints."""
    for _ in range(2000):
        daemon.hear("ben", "x" * 1000)
    reading, writing = os.pipe()
    process = await spawn("nc", "-d", "--last", "2000", stdout=writing)
    os.close(writing)
    await asyncio.to_thread(os.read, reading, 1)

    process.send_signal(signal.SIGINT)

    assert await process.wait() == 130
    os.close(reading)


@pytest.mark.usefixtures("daemon")
async def test_a_closed_pipe_ends_it_quietly(spawn: Spawn) -> None:
    """When its reader goes, nc exits 0 at once, not at the next message."""
    reading, writing = os.pipe()
    process = await spawn("nc", "-d", "-v", stdout=writing)
    os.close(writing)
    await listening(process)

    os.close(reading)

    assert (await process.wait(), await process.stderr.read()) == (0, b"")


async def test_stdin_may_be_a_file(daemon: FakeDaemon, spawn: Spawn, tmp_path: Path) -> None:
    """A regular file is read to its end."""
    (tmp_path / "lines").write_bytes(b"from a file\n")
    with (tmp_path / "lines").open("rb") as lines:
        process = await spawn("nc", "-N", stdin=lines.fileno())
        await process.communicate()

    assert (process.returncode, daemon.bodies) == (0, ["from a file"])


async def test_stdin_may_be_empty_or_closed(daemon: FakeDaemon, spawn: Spawn) -> None:
    """/dev/null and a closed stdin are both the end of input."""
    process = await spawn("nc", "-N", stdin=subprocess.DEVNULL)
    assert await process.wait() == 0

    process = await asyncio.create_subprocess_shell(
        f"exec {shlex.quote(sys.executable)} -m flc_udp nc -N <&-"
    )
    assert await process.wait() == 0
    assert daemon.bodies == []


async def test_a_slow_reader_loses_nothing(daemon: FakeDaemon, spawn: Spawn) -> None:
    """What waits for a slow reader all comes out, in order."""
    bodies = [f"{i} " + "x" * 1000 for i in range(3000)]
    for body in bodies:
        daemon.hear("ben", body)
    process = await spawn("nc", "-d", "-c", "3000", "--from", "0")

    out = b""
    while chunk := await process.stdout.read(5000):
        out += chunk
        await asyncio.sleep(0)

    assert bodies == out.decode().splitlines()


async def test_remote_text_cannot_drive_the_terminal(daemon: FakeDaemon, spawn: Spawn) -> None:
    """On a terminal a line has time and author, and control characters are visible."""
    daemon.hear("b\u202een", "red \x1b[31m\ttab\nline\x9b\x7f")
    ours, theirs = pty.openpty()
    process = await spawn("nc", "-d", "--last", "1", "-c", "1", stdout=theirs)
    os.close(theirs)
    await process.wait()

    shown = os.read(ours, 10_000).decode()
    os.close(ours)
    assert shown.endswith("\x1b[0m: red ␛[31m\ttab␊line\\x9b␡\r\n")
    assert "b\\u202een\x1b[0m" in shown
    assert shown[2] == ":"


async def test_no_color(daemon: FakeDaemon, spawn: Spawn, monkeypatch: pytest.MonkeyPatch) -> None:
    """NO_COLOR leaves the author plain."""
    monkeypatch.setenv("NO_COLOR", "1")
    daemon.hear("ben", "hi")
    ours, theirs = pty.openpty()
    process = await spawn("nc", "-d", "--last", "1", "-c", "1", stdout=theirs)
    os.close(theirs)
    await process.wait()

    shown = os.read(ours, 10_000).decode()
    os.close(ours)
    assert shown[8:] == " ben: hi\r\n"
