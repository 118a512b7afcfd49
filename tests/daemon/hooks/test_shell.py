"""One command of the shell: what it is given, how its end is told, what a kill leaves."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from flc_udp.daemon import stderr
from flc_udp.daemon.hooks import shell as shell_module
from flc_udp.daemon.hooks.shell import LINE_BYTES, OUTPUT_BYTES, Ended, How, Shell
from tests.daemon.process import have, lines, runs, until

LONG = b"x" * (1 << 20)
"""More than a pipe holds."""


@pytest.mark.parametrize(
    ("command", "ended"),
    [
        ("true", Ended(How.WELL)),
        ("exec <&-; exec sleep 0", Ended(How.WELL)),
        ("exit 7", Ended(How.FAILED, "exit code 7")),
        ("kill -15 $$", Ended(How.FAILED, "killed by signal 15")),
    ],
)
async def test_how_it_ended(command: str, ended: Ended) -> None:
    """Nothing where it was well, also if it did not read what it was told."""
    assert await Shell().run(command, {}, LONG, 60) == ended


async def test_it_is_told_all(tmp_path: Path) -> None:
    """Standard input to its end, and the environment as UTF-8 and nothing besides.

    A path that is no UTF-8 is passed on byte for byte.
    """
    out = tmp_path / "caf\udce9"
    environ = {"OUT": str(out), "WHO": "né ☃"}
    command = 'wc -c >> "$OUT"; printf "%s\\n" "$WHO" "$HOME" >> "$OUT"'

    assert await Shell().run(command, environ, LONG, 60) == Ended(How.WELL)
    count, *rest = lines(out)
    assert (int(count), rest) == (len(LONG), ["né ☃", ""])


@pytest.mark.parametrize(("command", "environ"), [("a\0b", {}), ("true", {"WHO": "a\0b"})])
async def test_what_cannot_be_started_is_told(command: str, environ: dict[str, str]) -> None:
    """As any other failure."""
    ended = await Shell().run(command, environ, b"", 60)

    assert ended.how is How.NOT_STARTED
    assert ended.reason.startswith("cannot be started: ")


async def test_a_background_of_a_command_that_ended_is_let_be(tmp_path: Path) -> None:
    """Who starts something and ends well wants it to go on; its end is not waited for."""
    out, go = tmp_path / "out", tmp_path / "go"
    command = f"(until [ -e {go} ]; do sleep 0.02; done; echo done >> {out}) &"
    shell = Shell()

    assert await shell.run(command, {"PATH": "/usr/bin:/bin"}, b"", 60) == Ended(How.WELL)
    shell.kill()
    go.touch()
    assert await have(out, 1) == ["done"]


async def test_a_kill_meets_the_running_and_the_starting(tmp_path: Path) -> None:
    """With all that they started."""
    out, shell = tmp_path / "out", Shell()
    command = f"sleep 1000 & echo $! >> {out}; wait"
    running = asyncio.create_task(shell.run(command, {"PATH": "/usr/bin:/bin"}, b"", 600))
    pid = int((await have(out, 1))[0])
    starting = asyncio.create_task(
        shell.run("exec sleep 1000", {"PATH": "/usr/bin:/bin"}, b"", 600)
    )
    await asyncio.sleep(0)  # So that it is on its way.
    shell.kill()

    assert [await running, await starting] == [Ended(How.FAILED, "killed by signal 9")] * 2

    async def is_gone() -> bool:
        return not runs(pid)

    await until("the sleep is gone", is_gone)


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> bytearray:
    """What goes to the node's standard error."""
    found = bytearray()

    def write(data: bytes) -> int:
        found.extend(data)
        return len(data)

    monkeypatch.setattr(stderr, "write", write)
    return found


PATH = {"PATH": "/usr/bin:/bin"}


async def test_what_it_writes_is_passed_on(written: bytearray) -> None:
    """Its output and its errors, also of what it left behind."""
    shell = Shell()
    assert (await shell.run("echo out; echo err >&2; (sleep 0.2; echo later) &", PATH, b"", 60)).how
    await until("all came", lambda: _is(written, b"out\nerr\nlater\n"))
    shell.close()


@pytest.mark.parametrize("lines", [512, 513, 500_000])
async def test_of_much_the_beginning_is_passed_on(written: bytearray, lines: int) -> None:
    """The rest is counted, and the command is not held up for long."""
    shell = Shell()
    line = "x" * 127 + "\n"
    ended = await shell.run(f"yes {line.strip()} | head -n {lines}; exit 3", PATH, b"", 60)
    assert ended == Ended(How.FAILED, "exit code 3")
    dropped_bytes = (lines - 512) * 128
    more = f"... {dropped_bytes} bytes more of a command's output\n" if dropped_bytes else ""
    await until("all came", lambda: _is(written, (line * 512 + more).encode()))
    assert shell.dropped_bytes == dropped_bytes


async def test_a_line_is_passed_on_in_pieces(written: bytearray) -> None:
    """No line is kept whole that may be without end, and none is lost that has no end."""
    shell = Shell()
    await shell.run("head -c 5000 /dev/zero | tr '\\0' x", PATH, b"", 60)
    pieces = [b"x" * LINE_BYTES, b"x" * LINE_BYTES, b"x" * (5_000 - 2 * LINE_BYTES)]
    await until("all came", lambda: _is(written, b"\n".join(pieces) + b"\n"))


async def test_what_drives_a_terminal_is_shown(written: bytearray) -> None:
    """A command may print what others said."""
    await Shell().run(r"printf '\033[2J\351\n'", PATH, b"", 60)
    await until("all came", lambda: _is(written, "\u241b[2J\\xe9\n".encode()))


async def test_of_many_commands_little_is_passed_on(
    written: bytearray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of them may write as much as one; in a minute all together may write less."""
    monkeypatch.setattr(shell_module, "OUTPUT_BYTES_A_MINUTE", 1_000 * 128)
    shell = Shell()
    for _ in range(3):
        await shell.run("yes | head -n 400", PATH, b"", 60)
    await until("all came", lambda: _is_at_end(written, b" 400 bytes more of a command's output\n"))
    assert written.count(b"y\n") == 1_000
    assert shell.dropped_bytes == 400


async def test_of_endless_output_little_is_passed_on(written: bytearray) -> None:
    """The command is killed when its time is over."""
    assert (await Shell().run("exec yes", PATH, b"", 0.5)).how is How.TIMED_OUT
    await until("its end is told", lambda: _is_at_end(written, b"of a command's output\n"))
    assert written.count(b"y\n") == OUTPUT_BYTES // 128


async def test_a_shell_that_closes_drops_nothing_that_came(written: bytearray) -> None:
    """Of a command whose child still has its output open."""
    shell = Shell()
    await shell.run("echo here; sleep 30 &", PATH, b"", 60)
    shell.close()
    assert written == b"here\n"


async def _is(written: bytearray, wanted: bytes) -> bool:
    return written == wanted


async def _is_at_end(written: bytearray, wanted: bytes) -> bool:
    return written.endswith(wanted)
