"""`flc demo` runs real daemons and leaves nothing of them."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from flc_udp.cli.run.cluster import broken, clean_environment, until
from flc_udp.model.errors import FlcError
from tests.cli.fake import Spawn


def left_behind(directory: Path) -> list[str]:
    """List the processes whose command line names the directory, and the files in it."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(path.read_bytes().decode(errors="replace"))
        except OSError:
            continue  # it has just ended
    processes = [line for line in lines if str(directory) in line]
    return processes + [path.name for path in directory.iterdir()]


@pytest.mark.parametrize("nodes", [3, 4])
async def test_every_promise_holds(
    spawn: Spawn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nodes: int
) -> None:
    """The demo ends with 0, prints one equal hash a node in 80 columns, and leaves nothing."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("FLC_JOIN", "192.0.2.1:1")  # of another cluster, which must stay alone
    process = await spawn("demo", "--nodes", str(nodes))
    out, err = await process.communicate()

    assert (process.returncode, err) == (0, b"")
    lines = out.decode().splitlines()
    hashes = [line.split()[1] for line in lines if len(line.split()) == 2 and len(line) == 74]
    assert (len(hashes), len(set(hashes))) == (nodes, 1)
    assert max(map(len, lines)) <= 80
    assert left_behind(tmp_path) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_nothing_is_left_when_it_is_stopped(
    spawn: Spawn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    """Whatever signal stops the demo, its nodes end and its directories are deleted."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    process = await spawn("demo")
    assert process.stdout is not None
    while b"ok every node sees" not in await process.stdout.readline():
        assert process.returncode is None

    process.send_signal(number)
    _, err = await process.communicate()

    assert (process.returncode, err) == (130, b"")
    assert left_behind(tmp_path) == []


async def test_a_promise_that_does_not_hold_is_named() -> None:
    """A condition that does not come true in time is an error with its promise."""

    async def never() -> bool:
        return False

    with pytest.raises(FlcError, match="promise broken: pigs fly"):
        await until("pigs fly", never, limit_s=0)
    assert broken("a", "b").hint


def test_nodes_do_not_inherit_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings of the user's own node do not reach the demo's."""
    monkeypatch.setenv("FLC_BIND", "0.0.0.0:7352")
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/flc")

    assert "FLC_BIND" not in clean_environment()
    assert "STATE_DIRECTORY" not in clean_environment()
    assert clean_environment()["PATH"] == os.environ["PATH"]
