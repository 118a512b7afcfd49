"""`flc nc` in a real terminal: what tmux has on its screen is what a person sees."""

from __future__ import annotations

import asyncio
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon.cluster import Cluster
from tests.daemon.process import clean_environment, until

HOSTILE = b"\x1b[2J\x1b[31mgone\x1b]0;owned\x07 \x9b5m \r\x08over \xe2\x80\xaeslanted\n"
"""Clears the screen, colours it, sets the title, goes back over what is there, turns it round."""


class Tmux:
    """A server of its own, at a socket of its own, with one window."""

    def __init__(self, home: Path) -> None:
        self._command = [shutil.which("tmux") or "", "-S", str(home / "tmux.sock"), "-f/dev/null"]

    def run(self, *words: str) -> str:
        """A command of tmux, and what it prints."""
        environment = {**clean_environment(), "TERM": "xterm-256color", "LC_ALL": "C.UTF-8"}
        environment.pop("TMUX", None)
        ended = subprocess.run(
            [*self._command, *words],
            env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    def screen(self) -> str:
        """What is seen."""
        return self.run("capture-pane", "-p", "-t", "chat")


@pytest.fixture
def tmux(tmp_path: Path) -> Iterator[Tmux]:
    """Ended with the test, with what runs in it."""
    if shutil.which("tmux") is None:
        pytest.skip("tmux is not installed")
    server = Tmux(tmp_path)
    try:
        yield server
    finally:
        subprocess.run([*server._command, "kill-server"], capture_output=True, check=False)  # noqa: SLF001


async def test_a_session_reads_well(cluster: Cluster, tmux: Tmux) -> None:
    """Lines carry time and author; escape sequences of others are text, and drive nothing."""
    (ann,) = await cluster.start(1)
    nc = [sys.executable, "-m", "flc_udp", "nc", "-v", "ops", "--as", "ann"]
    line = shlex.join([*nc, "--data", str(ann.data)])
    tmux.run("new-session", "-d", "-s", "chat", "-x", "100", "-y", "24", line)
    title = tmux.run("display-message", "-p", "-t", "chat", "#{pane_title}")

    await seen(tmux, "listening at 0")
    assert (await ann.flc("say", "ops", "hello ann", "--as", "ben")).code == 0
    await seen(tmux, " ben: hello ann")
    assert (await ann.flc("nc", "-N", "ops", "--as", "mallory", stdin=HOSTILE)).code == 0
    await seen(tmux, "slanted")
    tmux.run("send-keys", "-t", "chat", "hello ben", "Enter")
    await seen(tmux, "hello ben")

    async def is_kept() -> bool:
        return b"hello ben" in await ann.history()

    await until("what was typed is said", is_kept)
    screen = tmux.screen()
    (attack,) = [text for text in screen.splitlines() if "mallory: " in text]
    assert "listening at 0" in screen
    assert " ben: hello ann" in screen
    for visible in ("␛[2J␛[31mgone␛]0;owned␇", r"\x9b5m", "␍␈over", r"\u202eslanted"):
        assert visible in attack
    assert tmux.run("display-message", "-p", "-t", "chat", "#{pane_title}") == title


async def seen(tmux: Tmux, words: str) -> None:
    """Wait until that is on the screen."""

    async def look() -> bool:
        return words in await asyncio.to_thread(tmux.screen)

    await until(f"{words!r} is seen", look)
