"""One command of the shell: what it is given, how its end is told, what a kill leaves."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from flc_udp.daemon.hooks.shell import Ended, How, Shell
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
