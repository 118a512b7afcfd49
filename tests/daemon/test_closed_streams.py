"""Standard streams that are closed, or that nobody reads any more."""

from __future__ import annotations

import asyncio
import shlex
import subprocess

import pytest

from flc_udp.cli.run.cluster import FLC
from tests.daemon.cluster import Cluster, Node
from tests.daemon.process import DEADLINE_S, clean_environment


async def shell(command: str, node: Node) -> tuple[int, str]:
    """Run a line of the shell, in which FLC is the command; its exit code and its errors."""
    environ = {**clean_environment(), "FLC_DATA": str(node.data)}
    process = await asyncio.create_subprocess_shell(
        command.replace("FLC", shlex.join(FLC)), env=environ, stderr=subprocess.PIPE
    )
    _, err = await asyncio.wait_for(process.communicate(), DEADLINE_S)
    assert process.returncode is not None
    return process.returncode, err.decode()


async def test_following_ends_with_its_reader(cluster: Cluster) -> None:
    """In a quiet room, too, where nothing is printed that would meet the broken pipe."""
    (ann,) = await cluster.start(1)
    assert await shell("FLC log -f ops | true", ann) == (0, "")


@pytest.mark.parametrize(
    "command", ["say ops -", "keys add", "import - --data nowhere", "nc -N ops"]
)
async def test_a_closed_standard_input_is_an_empty_one(cluster: Cluster, command: str) -> None:
    """Whatever comes of it, there is no traceback."""
    (ann,) = await cluster.start(1)
    code, err = await shell(f"cd {ann.data.parent} && FLC {command} <&- >&2", ann)
    assert code in (0, 1)
    assert "Traceback" not in err
    assert code == 0 or err.startswith("error: ")


@pytest.mark.parametrize(
    "command",
    ["nc -d --last 1 -c 1 ops", "log ops", "status", "rooms", "say ops hi", "keygen", "--version"],
)
async def test_what_cannot_be_printed_is_an_error(cluster: Cluster, command: str) -> None:
    """A closed standard output takes nothing: whoever asked was shown nothing."""
    (ann,) = await cluster.start(1)
    await ann.control.say("ops", "hi")
    code, err = await shell(f"FLC {command} >&-", ann)
    assert code == 1
    assert err.startswith("error: ")
    assert "standard stream" in err
    assert len(err.splitlines()) == 2


@pytest.mark.parametrize("command", ["say ops -", "keys add", "import - --data nowhere", "nc ops"])
async def test_a_standard_input_that_cannot_be_read_is_an_error(
    cluster: Cluster, command: str
) -> None:
    """It is open for writing alone."""
    (ann,) = await cluster.start(1)
    code, err = await shell(f"cd {ann.data.parent} && FLC {command} 0>sink", ann)
    assert code == 1
    assert err.startswith("error: ")
    assert len(err.splitlines()) == 2
