"""`flc nc` in pipes, as a real process against a fake daemon."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
import subprocess
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest


async def listening(process: asyncio.subprocess.Process) -> bytes:
    """The first line of stderr, which -v prints when nc is ready."""
    assert process.stderr is not None
    return await process.stderr.readline()


async def test_each_line_is_said(daemon: Any, nc: Any) -> None:
    """Lines are said in order; empty ones and a last one without newline too; \\r stays."""
    ended = await nc("-N", "ops", "--as", "ann", stdin=b"one\n\n two \r\nlast")

    assert (0, "", "") == ended
    assert ["one", "", " two \r", "last"] == daemon.bodies
    assert {("ops", "ann")} == {(m["room"], m["author"]) for m in daemon.messages}


async def test_the_default_room_is_lobby(daemon: Any, nc: Any) -> None:
    """Without ROOM nc stands in the lobby."""
    await nc("-N", stdin=b"hi\n")

    assert ["lobby"] == [m["room"] for m in daemon.messages]


async def test_what_is_no_text_goes_as_bytes(daemon: Any, nc: Any) -> None:
    """A line that is not UTF-8 is said as bytes."""
    await nc("-N", stdin=b"\xff\xfe\ntext\n")

    assert [{"base64": b64encode(b"\xff\xfe").decode()}, "text"] == daemon.bodies


async def test_only_what_others_say_is_printed(daemon: Any, spawn: Any) -> None:
    """Own lines do not come back; others' bodies come out alone and raw, each with a newline."""
    process = await spawn("nc", "-c", "4")
    process.stdin.write(b"mine\n")
    await daemon.until(lambda: len(daemon.messages) == 1)

    for body in ("plain", "two\nlines \x1b[31m", {"base64": b64encode(b"\xff\x00").decode()}, ""):
        daemon.hear("ben", body)
    out, err = await process.communicate()

    assert b"plain\ntwo\nlines \x1b[31m\n\xff\x00\n\n" == out
    assert (0, b"") == (process.returncode, err)


async def test_other_rooms_are_not_printed(daemon: Any, spawn: Any) -> None:
    """nc shows one room."""
    process = await spawn("nc", "-d", "-v", "-c", "1", "ops")
    await listening(process)

    daemon.hear("ben", "elsewhere", room="lobby")
    daemon.hear("ben", "here", room="ops")

    assert b"here\n" == (await process.communicate())[0]


async def test_a_burst_is_all_said(daemon: Any, nc: Any) -> None:
    """More lines than the window holds are said, once each and in order."""
    lines = [f"line {i}" for i in range(5000)]

    ended = await nc("-N", stdin="\n".join(lines).encode())

    assert 0 == ended.code
    assert lines == daemon.bodies


async def test_the_count_is_exact(daemon: Any, nc: Any) -> None:
    """-c prints COUNT messages of those that are there, not one more."""
    for i in range(10):
        daemon.hear("ben", str(i))

    ended = await nc("-d", "--from", "0", "-c", "3")

    assert (0, "0\n1\n2\n", "") == ended


async def test_silence_ends_it(daemon: Any, nc: Any) -> None:
    """-w quits after that long without a message, with 0."""
    daemon.hear("ben", "before")

    assert (0, "before\n", "") == await nc("-d", "-w", "0.1", "--last", "5")


async def test_silence_before_the_count_is_another_exit(daemon: Any, nc: Any) -> None:
    """-w with -c exits 3 when the messages did not come."""
    daemon.hear("ben", "only one")

    assert (3, "only one\n", "") == await nc("-d", "-w", "0.1", "-c", "2", "--last", "5")


async def test_deaf_reads_nothing(daemon: Any, nc: Any) -> None:
    """-d leaves stdin alone."""
    ended = await nc("-d", "-w", "0.1", stdin=b"never said\n")

    assert (0, [], []) == (ended.code, daemon.bodies, daemon.asked("say"))


async def test_without_n_it_stays_after_end_of_input(daemon: Any, spawn: Any) -> None:
    """End of input alone is no reason to quit: what others say later is printed."""
    process = await spawn("nc", "-c", "1")
    process.stdin.write(b"mine\n")
    process.stdin.close()
    await daemon.until(lambda: len(daemon.messages) == 1)

    daemon.hear("ben", "later")

    assert b"later\n" == (await process.communicate())[0]


async def test_verbose_tells_when_it_listens(daemon: Any, spawn: Any) -> None:
    """-v prints `listening at POSITION` on stderr once it would miss nothing."""
    daemon.hear("ben", "old")
    process = await spawn("nc", "-d", "-v")

    assert b"listening at 1\n" == await listening(process)


async def test_json_is_exact(daemon: Any, nc: Any) -> None:
    """--json prints the message with its keys in order, unescaped, and its position."""
    message = daemon.hear("bén", 'a\nb "\x1b\u2028')

    ended = await nc("-d", "--json", "-c", "1", "--last", "1")

    expected = json.dumps(
        {**message, "position": 1}, ensure_ascii=False, separators=(",", ":")
    )
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
async def test_where_it_begins(daemon: Any, nc: Any, words: list[str], expected: Any) -> None:
    """--from and --last say to the daemon where the follow begins; without them only now."""
    daemon.hear("ben", "one")
    daemon.hear("ben", "two")

    await nc("-d", "-w", "0.05", *words)

    request = daemon.asked("follow")[0]
    assert expected == {k: v for k, v in request.items() if k in ("from", "dot", "last")}


async def test_a_refused_follow_is_an_error(daemon: Any, nc: Any) -> None:
    """Where another dot stands at the position, nc says so and nothing is said."""
    ended = await nc("-N", "--from", "1@9f2c61d0a47be813:9", stdin=b"hi\n")

    assert (1, "") == ended[:2]
    assert "error: position 1 is another\nhint: follow from --last\n" == ended.err
    assert [] == daemon.bodies


async def test_refused_lines_do_not_stop_the_others(daemon: Any, nc: Any) -> None:
    """A line the daemon refuses, or no node would take, is an error each; the rest is said."""
    ended = await nc("-N", stdin=b"a\n" + b"x" * 70_000 + b"\nb\n" + b"y" * 2_000_000 + b"\nc\n")

    assert 1 == ended.code
    assert ["a", "b", "c"] == daemon.bodies
    assert [
        "error: line 2 was refused: body has more than 65536 bytes",
        "hint: say it in pieces",
        "error: line 4 has more than 1048576 bytes",
        "hint: no node accepts it",
    ] == sorted(ended.err.splitlines(), key=lambda line: ("4" in line, "no node" in line)) or (
        4 == len(ended.err.splitlines())
    )


async def test_a_lost_daemon_names_what_is_open(daemon: Any, spawn: Any) -> None:
    """When the daemon goes away, nc exits 1 and tells how many lines were not acknowledged."""
    daemon.answers_says = False
    process = await spawn("nc")
    process.stdin.write(b"one\ntwo\n")
    await daemon.until(lambda: len(daemon.asked("say")) == 2)

    daemon.drop_all()
    out, err = await process.communicate()

    assert (1, b"") == (process.returncode, out)
    assert err.startswith(b"error: the daemon at ")
    assert b"2 lines were not acknowledged\nhint: " in err


async def test_interrupted(daemon: Any, spawn: Any) -> None:
    """Ctrl-C is exit 130, without a word."""
    process = await spawn("nc", "-v")
    await listening(process)

    process.send_signal(signal.SIGINT)
    _, err = await process.communicate()

    assert (130, b"") == (process.returncode, err)


async def test_interrupted_while_stdout_is_blocked(daemon: Any, spawn: Any) -> None:
    """Ctrl-C ends it even while nobody reads what it prints."""
    process = await spawn("nc", "-d", "-v", "--last", "2000")
    for _ in range(2000):
        daemon.hear("ben", "x" * 1000)
    await listening(process) if False else None
    await daemon.until(lambda: bool(daemon.asked("follow")))
    await process.stdout.read(1)

    process.send_signal(signal.SIGINT)
    assert 130 == await process.wait()


async def test_a_closed_pipe_ends_it_quietly(daemon: Any, spawn: Any) -> None:
    """When its reader goes, nc exits 0 at once, not at the next message."""
    reading, writing = os.pipe()
    process = await spawn("nc", "-d", "-v", stdout=writing)
    os.close(writing)
    await listening(process)

    os.close(reading)

    assert (0, b"") == (await process.wait(), await process.stderr.read())


async def test_stdin_may_be_a_file(daemon: Any, spawn: Any, tmp_path: Path) -> None:
    """A regular file is read to its end."""
    (tmp_path / "lines").write_bytes(b"from a file\n")
    with (tmp_path / "lines").open("rb") as lines:
        process = await spawn("nc", "-N", stdin=lines)
        await process.communicate()

    assert (0, ["from a file"]) == (process.returncode, daemon.bodies)


async def test_stdin_may_be_empty_or_closed(daemon: Any, spawn: Any) -> None:
    """/dev/null and a closed stdin are both the end of input."""
    process = await spawn("nc", "-N", stdin=subprocess.DEVNULL)
    assert 0 == await process.wait()

    process = await asyncio.create_subprocess_shell(
        'exec "$PYTHON" -m flc_udp nc -N <&-', env={**os.environ, "PYTHON": _python()}
    )
    assert 0 == await process.wait()
    assert [] == daemon.bodies


def _python() -> str:
    import sys

    return sys.executable


async def test_a_slow_reader_loses_nothing(daemon: Any, spawn: Any) -> None:
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


async def test_remote_text_cannot_drive_the_terminal(daemon: Any, spawn: Any) -> None:
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
    assert ":" == shown[2]


async def test_no_color(daemon: Any, spawn: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """NO_COLOR leaves the author plain."""
    monkeypatch.setenv("NO_COLOR", "1")
    daemon.hear("ben", "hi")
    ours, theirs = pty.openpty()
    process = await spawn("nc", "-d", "--last", "1", "-c", "1", stdout=theirs)
    os.close(theirs)
    await process.wait()

    shown = os.read(ours, 10_000).decode()
    os.close(ours)
    assert " ben: hi\r\n" == shown[8:]
