"""What the README prints runs as printed, in bash, with a home of its own.

Replaced is only what must not meet others on one machine: /tmp/ann, /tmp/ben, /backup and DIR are
directories of the test, ports 7352 and 7353 are free ones (the first node, which names none, is
told by FLC_BIND), and 192.0.2.1 and 192.0.2.2 are 127.0.0.1 and 127.0.0.2. `journalctl` prints what
the test writes, and where there is no netcat-openbsd a few lines of Python stand in for `nc -NU`.
"""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.daemon.cluster import Cluster
from tests.daemon.process import clean_environment, until

README = Path(__file__).parents[2] / "README.md"

BLOCKS = re.findall(r"```sh\n(.*?)```", README.read_text("utf-8"), re.DOTALL)

BASH = shutil.which("bash") or "bash"

RUN_ELSEWHERE = {
    "flc run --on-member": "needs somebody to die: hooks are test_hooks.py",
    "scripts/flc demo": "makes its own environment; the demo is tests/cli/run/test_demo.py, and "
    "who runs this has run scripts/check",
}

NC = """#!{python}
import socket, sys
assert sys.argv[1] == "-NU"
with socket.socket(socket.AF_UNIX) as s:
    s.connect(sys.argv[2])
    s.sendall(sys.stdin.buffer.read())
    s.shutdown(socket.SHUT_WR)
    while data := s.recv(65536):
        sys.stdout.buffer.write(data)
"""


def block(beginning: str) -> list[str]:
    """The lines of the one block that begins so, as printed, without empty ones."""
    (found,) = [text for text in BLOCKS if text.startswith(beginning)]
    return [line for line in found.splitlines() if line]


class Terminal:
    """One line in a bash of its own, on a terminal of its own."""

    def __init__(self, line: str, environment: dict[str, str], home: Path) -> None:
        self._master, slave = pty.openpty()
        os.set_blocking(self._master, False)
        self._process = subprocess.Popen(
            [BASH, "-c", line],
            env=environment,
            cwd=home,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)
        self._text = b""

    def type(self, text: str) -> None:
        """As on a keyboard."""
        os.write(self._master, text.encode())

    @property
    def text(self) -> str:
        """All that it has shown."""
        try:
            while data := os.read(self._master, 65_536):
                self._text += data
        except OSError:  # Nothing more for now, or for ever.
            pass
        return self._text.decode(errors="replace")

    async def shows(self, text: str) -> None:
        """Wait for it."""

        async def look() -> bool:
            return text in self.text

        await until(f"a terminal shows {text!r}", look)

    async def interrupt(self) -> int:
        """Ctrl-C; its exit code."""
        os.killpg(self._process.pid, signal.SIGINT)
        return await asyncio.to_thread(self._process.wait)

    def close(self) -> None:
        """End what it runs."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._master)


class Reader:
    """Somebody who does what the README says."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._terminals: list[Terminal] = []
        self._ports = free_ports(2)
        programs = home / "bin"
        programs.mkdir()
        program(programs / "flc", f'#!/bin/sh\nexec {sys.executable} -m flc_udp "$@"\n')
        os.mkfifo(home / "journal")
        program(programs / "journalctl", f'#!/bin/sh\nexec cat "{home}/journal"\n')
        if not has_netcat_openbsd():
            program(programs / "nc", NC.format(python=sys.executable))
        self._environment = clean_environment() | {
            "HOME": str(home),
            "PATH": f"{programs}:{os.environ['PATH']}",
            "NO_COLOR": "1",
            "FLC_BIND": f"127.0.0.1:{self._ports[0]}",
        }

    def own(self, line: str) -> str:
        """The line with what must not meet others replaced."""
        for printed, own in {
            "/tmp/": f"{self.home}/",  # noqa: S108  # as printed
            "/backup/": f"{self.home}/backup/",
            "--data DIR": f"--data {self.home}/copy",
            "192.0.2.1": "127.0.0.1",
            "192.0.2.2": "127.0.0.2",
            "7352": str(self._ports[0]),
            "7353": str(self._ports[1]),
        }.items():
            line = line.replace(printed, own)
        return line

    def terminal(self, line: str) -> Terminal:
        """Type this line into a new terminal."""
        terminal = Terminal(self.own(line), self._environment, self.home)
        self._terminals.append(terminal)
        return terminal

    async def shell(self, *lines: str, data: str = "") -> str:
        """Run these lines in one bash to their end; what they print."""
        environment = self._environment | ({"FLC_DATA": str(self.home / data)} if data else {})
        process = await asyncio.create_subprocess_exec(
            *(BASH, "-euo", "pipefail", "-c", "\n".join(map(self.own, lines))),
            env=environment, cwd=self.home, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        )  # fmt: skip
        out, _ = await process.communicate()
        assert process.returncode == 0, lines
        return out.decode()

    async def two_nodes(self) -> None:
        """Terminals 1 and 2."""
        first, second = block("flc run --data /tmp/ann")
        ann = self.terminal(first)
        await ann.shows("node_started")
        self.terminal(second)
        await ann.shows("member_alive")

    def close(self) -> None:
        """Close all terminals."""
        for terminal in self._terminals:
            terminal.close()


def program(path: Path, text: str) -> None:
    """Something on the PATH."""
    path.write_text(text)
    path.chmod(0o755)


def has_netcat_openbsd() -> bool:
    """Whether `nc` knows -N and -U."""
    nc = shutil.which("nc")
    if nc is None:
        return False
    usage = subprocess.run([nc, "-h"], capture_output=True, check=False).stderr
    return b"OpenBSD" in usage


def free_ports(count: int) -> list[int]:
    """UDP ports that nobody has now."""
    sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(count)]
    for sock in sockets:
        sock.bind(("127.0.0.1", 0))
    ports = [int(sock.getsockname()[1]) for sock in sockets]
    for sock in sockets:
        sock.close()
    return ports


@pytest.fixture
async def reader(tmp_path: Path) -> AsyncIterator[Reader]:
    """Somebody with an empty home."""
    reader = Reader(tmp_path)
    try:
        yield reader
    finally:
        reader.close()


def test_every_block_is_run() -> None:
    """Here, or elsewhere for a reason: a block that is new is to be tried, too."""
    run_here = (
        "flc run --data /tmp/ann",
        "flc nc ops --data /tmp/ann",
        "journalctl -f |",
        "flc keygen >",
        "echo '{",
        "flc backup ",
    )

    assert [t for t in BLOCKS if not t.startswith((*run_here, *RUN_ELSEWHERE))] == []


async def test_three_terminals(reader: Reader) -> None:
    """Two nodes, a chat that Ctrl-C ends, a say that waits for all, and one history."""
    await reader.two_nodes()
    chat, say, log = block("flc nc ops --data /tmp/ann")
    talking = reader.terminal(chat)
    talking.type("hi from ann's node\n")

    async def said() -> bool:
        return "hi from ann's node" in await reader.shell(log.replace("/ann", "/ben"))

    await until("ben holds what ann said", said)
    dot = await reader.shell(say)
    await talking.shows("ben: hi ann")
    history = await reader.shell(log)

    assert re.fullmatch(r"[0-9a-f]{16}:1\n", dot)
    spoken = [line.split("  ", 1)[1] for line in history.splitlines()]
    assert spoken == ["ann: hi from ann's node", "ben: hi ann"]
    assert await reader.shell(log.replace("/ann", "/ben")) == history
    assert await talking.interrupt() == 130


async def test_a_pipe_from_one_node_to_another(reader: Reader) -> None:
    """Lines of a journal come out raw on the other node, and grep finds the one."""
    await reader.two_nodes()
    journal, found = block("journalctl -f |")
    errors = reader.terminal(found)
    speaking = reader.terminal(journal)
    with await asyncio.to_thread((reader.home / "journal").open, "w") as lines:

        async def seen() -> bool:
            print("all is well\nan error, here", file=lines, flush=True)  # until it listens
            return "\nan error, here" in "\n" + errors.text.replace("\r", "")

        await until("grep shows the error", seen)

    assert "all is well" not in errors.text
    assert "error:" not in speaking.text


async def test_a_key_and_two_addresses(reader: Reader) -> None:
    """A key file for its owner alone makes two nodes hear each other, sealed."""
    keygen, run = block("flc keygen > cluster.key")
    await reader.shell(keygen)
    assert (reader.home / "cluster.key").stat().st_mode & 0o777 == 0o600
    here = reader.terminal(f"FLC_DATA=$HOME/ann {run}")
    swapped = run.replace("2.1:", "2.x:").replace("2.2:", "2.1:").replace("2.x:", "2.2:")
    reader.terminal(f"FLC_DATA=$HOME/ben {swapped}")

    await here.shows("member_alive")
    assert "sealed=True" in here.text


async def test_the_control_socket_by_netcat(reader: Reader) -> None:
    """One line in, one out, and the message is there."""
    first, _ = block("flc run --data /tmp/ann")
    await reader.terminal(first).shows("node_started")

    answers = (await reader.shell(*block("echo '{"))).splitlines()

    async def log() -> str:
        return await reader.shell("flc log ops --json --data /tmp/ann")

    message = json.loads(await until("what was said is in the log", log))
    assert (message["author"], message["body"]) == ("cron", "hi")
    assert [json.loads(answer)["dot"] for answer in answers] == [message["dot"]]


async def test_copies(reader: Reader) -> None:
    """A backup, an export, and a directory that it was imported into and that is sound."""
    first, _ = block("flc run --data /tmp/ann")
    await reader.terminal(first).shows("node_started")
    await reader.shell("flc say ops one", "flc say ops two", data="ann")
    (reader.home / "backup").mkdir()

    out = await reader.shell(*block("flc backup "), "flc fsck --data DIR", data="ann")

    assert out
    assert (reader.home / "backup" / "ann.db").stat().st_size > 0
    exported = (reader.home / "history.jsonl").read_text()
    assert await reader.shell("flc export --data DIR") == exported


async def test_the_bot_answers(cluster: Cluster, tmp_path: Path) -> None:
    """Ten lines of Python: whoever says ping is told pong."""
    (ann,) = await cluster.start(1)
    (bot,) = re.findall(r"```python\n(.*?)```", README.read_text("utf-8"), re.DOTALL)
    path = tmp_path / "bot.py"
    path.write_text(bot.replace("/tmp/ann/", f"{ann.data}/"))  # noqa: S108  # as printed
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(path), env=clean_environment()
    )

    async def answered() -> bool:
        await ann.flc("say", "ops", "ping")  # Again, until the bot listens.
        return b"bot: pong" in (await ann.flc("log", "ops")).out

    try:
        await until("the bot said pong", answered)
    finally:
        process.kill()
        await process.wait()
