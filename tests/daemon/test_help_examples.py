"""The examples of `flc COMMAND --help` run as printed, in bash, against real nodes.

Replaced is what can only be made up in a help: dots, ids and addresses are those of the nodes here,
/tmp and /backup are directories of the test. `journalctl`, `git` and `ssh` are stand-ins, and so is
`jq` where it is not installed.
"""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from flc_udp.cli.main import COMMANDS
from tests.daemon.cluster import Cluster, Node
from tests.daemon.process import DEADLINE_S, clean_environment, until

NOT_ALONE = {
    "flc run": "stays in the foreground: test_readme.py",
    "flc nc ops": "stays until it is interrupted: test_readme.py",
    "flc nc -d": "stays until it is interrupted: test_readme.py",
    "flc members --watch": "stays until it is interrupted: test_overview.py",
    "flc fsck --repair": "needs a node that is down: tests/cli/keep/test_repair.py",
    "flc ping --key-file": "needs a node with a key: test_ping.py",
    "(umask 077; flc keygen": "ends in `flc run`: test_readme.py",
    "echo '{": "needs a node at that port: tests/daemon/test_udp.py",
    "flc udp -z": "needs a node at that port: tests/daemon/test_udp.py",
    "flc udp -l": "stays until it is interrupted: tests/cli/wire/test_udp.py",
    "sudo tcpdump": "needs root and tcpdump: tests/cli/wire/test_hexdump.py",
    "flc doctor ben": "needs a host of that name: test_doctor.py",
    "flc completion fish": "is for fish: tests/cli/run/test_completion.py",
    "flc keys use": "needs all nodes to have that key: test_key_change.py",
    "flc keys remove": "needs another key to be in use: test_key_change.py",
    "flc demo": "makes nodes of its own, for many seconds: tests/cli/run/test_demo.py",
    "flc sim": "is no client, and takes many seconds: tests/sim",
}
"""How an example begins that is not run here, and why; with where its command is run."""

LAST = ("forget", "leave")
"""After these there is less to ask."""

EXAMPLES = [
    (name, line.strip())
    for name in sorted(COMMANDS, key=lambda name: LAST.index(name) if name in LAST else -1)
    for line in COMMANDS[name]["example"].splitlines()
]

STAND_INS = {
    "flc": f'exec {sys.executable} -m flc_udp "$@"',
    "journalctl": "echo one; echo two",
    "git": "echo a commit",
    "ssh": 'shift; exec "$@"',
}


def is_left_out(line: str) -> bool:
    """Whether an example cannot run here."""
    return line.startswith(tuple(NOT_ALONE))


def stand_ins(home: Path) -> Path:
    """A directory for the PATH."""
    programs = home / "bin"
    programs.mkdir()
    jq = {} if shutil.which("jq") else {"jq": "exec cat"}
    for name, script in {**STAND_INS, **jq}.items():
        (programs / name).write_text(f"#!/bin/sh\n{script}\n")
        (programs / name).chmod(0o755)
    return programs


def own(name: str, line: str, nodes: list[Node], dots: list[str], home: Path) -> str:
    """The line for these nodes."""
    ann, _, cho = nodes
    here = {
        "/tmp/ann": str(ann.data if name == "fsck" else home / "down"),  # noqa: S108  # as printed
        "/tmp/ben": str(home / "down too"),  # noqa: S108  # as printed
        "/backup": str(home),
        "9f2c61d0a47be813:17": dots[0],
        "1b3d81307eb08ef7:1": dots[1],
        "86be453a11f3d69b": cho.id,
        "127.0.0.1:7352": ann.address,
    }
    return re.sub("|".join(here), lambda found: shlex.quote(here[found[0]]), line)


def test_what_is_left_out_is_there() -> None:
    """No exception outlives its example."""
    for beginning in NOT_ALONE:
        assert any(line.startswith(beginning) for _, line in EXAMPLES), beginning


def test_each_command_is_run_or_left_out_for_a_reason() -> None:
    """And its own example is what names it."""
    for name in COMMANDS:
        lines = [line for of, line in EXAMPLES if of == name]
        assert lines
        assert all(f"flc {name}" in line for line in lines), name


@pytest.mark.parametrize("line", [line for _, line in EXAMPLES if is_left_out(line)])
def test_an_example_that_cannot_run_alone(line: str) -> None:
    """Named in the report, so that it is seen what is not tried."""
    pytest.skip(next(why for words, why in NOT_ALONE.items() if line.startswith(words)))


async def test_every_other_example_works(cluster: Cluster) -> None:
    """Each ends with status 0 and no error; in the order of the help, what ends nodes last."""
    ann, ben, cho = nodes = await cluster.start(3)
    home = cluster.home
    environment = clean_environment() | {
        "FLC_DATA": str(ann.data),
        "HOME": str(home),
        "PATH": f"{stand_ins(home)}:{os.environ['PATH']}",
    }
    dots = [(await node.flc("say", "ops", "hi")).out.decode().strip() for node in (ann, ben)]
    await cluster.converged(*nodes, messages=2)

    for name, line in EXAMPLES:
        if is_left_out(line):
            continue
        if name == "forget" and ben.process.poll() is None:
            await go(ann, ben, cho)
        process = await asyncio.create_subprocess_exec(
            *(shutil.which("bash") or "bash", "-o", "pipefail", "-c"),
            own(name, line, nodes, dots, home),
            env=environment, cwd=home, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        try:
            out, err = await asyncio.wait_for(process.communicate(), DEADLINE_S)
        finally:
            if process.returncode is None:
                process.kill()

        assert (process.returncode, err) == (0, b""), (line, out)
    assert await ann.ended() == 0


async def go(ann: Node, *others: Node) -> None:
    """The others are killed, and `ann` knows it."""
    for node in others:
        node.kill9()

    async def dead() -> bool:
        states = await ann.states()
        return all(states[node.name] == "dead" for node in others)

    await until("they are held for dead", dead)
