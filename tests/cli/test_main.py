"""`flc` itself: help, exit codes, and what it imports."""

from __future__ import annotations

import base64
import subprocess
import sys
from pathlib import Path

import pytest

from flc_udp import __version__
from flc_udp.cli.connect import choose_socket
from flc_udp.cli.main import COMMANDS, main
from flc_udp.model.errors import FlcError
from tests.cli.fake import Flc


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The help of each command has an example."""
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])

    out = capsys.readouterr().out
    assert ended.value.code == 0
    assert "example" in out.lower()
    assert f"flc {name}" in out
    assert "--data" in out


def test_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    """`flc --help` names each command."""
    with pytest.raises(SystemExit):
        main(["--help"])

    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line[:2] == "  "]
    assert [name for name in listed if name in COMMANDS] == list(COMMANDS)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """`flc --version` is one line."""
    with pytest.raises(SystemExit) as ended:
        main(["--version"])

    assert (ended.value.code, capsys.readouterr().out) == (0, f"flc {__version__}\n")


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["fly"],
        ["say"],
        ["say", "ops"],
        ["say", "ops", "hi", "--wait", "many"],
        ["nc", "a", "b"],
        ["nc", "--from", "x"],
        ["nc", "--from", "1", "--last", "1"],
        ["nc", "-c", "0"],
        ["nc", "-w", "-1"],
        ["log", "--since", "last year"],
        ["log", "--pos"],
        ["run", "--profile", "moon"],
        ["demo", "--nodes", "2"],
        ["backup"],
        ["export", "a", "b"],
        ["import"],
        ["sync", "ben", "cho"],
        ["sync", "--timeout", "soon"],
        ["sync", "--timeout", "-1"],
    ],
)
def test_a_line_that_cannot_be_parsed(words: list[str]) -> None:
    """A line that cannot be parsed is exit 2; an option cannot be abbreviated."""
    with pytest.raises(SystemExit) as ended:
        main(words)

    assert ended.value.code == 2


async def test_no_daemon(flc: Flc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a socket the error names the paths, and the hint says what to do."""
    monkeypatch.delenv("FLC_DATA", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    ended = await flc("rooms")

    assert (ended.code, ended.out) == (1, "")
    error, hint = ended.err.splitlines()
    assert f"{tmp_path}/flc/control.sock" in error
    assert "/run/flc/control.sock" in error
    assert (error[:7], hint) == ("error: ", "hint: start one: flc run")


async def test_no_daemon_where_one_was_named(flc: Flc, tmp_path: Path) -> None:
    """If a directory is named, only its socket is looked for."""
    ended = await flc("rooms", "--data", str(tmp_path))

    assert ended.err == (
        f"error: no daemon here: there is no {tmp_path}/control.sock\n"
        f"hint: start one: flc run --data {tmp_path}\n"
    )


async def test_a_daemon_that_left_its_socket(flc: Flc, tmp_path: Path) -> None:
    """A socket on which nobody listens is an error, too."""
    import socket  # noqa: PLC0415

    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(tmp_path / "control.sock"))
    ended = await flc("rooms", "--data", str(tmp_path))

    assert ended.code == 1
    assert ended.err.startswith(f"error: no daemon answers at {tmp_path}/control.sock: ")


def test_which_sockets_are_looked_for() -> None:
    """--data is used alone, else FLC_DATA; else the user's directory, then the system's."""
    state = {"XDG_STATE_HOME": "/state"}

    def places(data: str | None, environ: dict[str, str]) -> list[str]:
        with pytest.raises(FlcError) as caught:
            choose_socket(data, environ)
        return str(caught.value).partition(": there is no ")[2].split(" and no ")

    assert places("/d", {"FLC_DATA": "/e"}) == ["/d/control.sock"]
    assert places(None, {"FLC_DATA": "/e", **state}) == ["/e/control.sock"]
    assert places(None, state) == ["/state/flc/control.sock", "/run/flc/control.sock"]
    assert places(None, {})[0] == str(Path.home() / ".local/state/flc/control.sock")


@pytest.mark.parametrize("word", ["keygen", "--version", "--help"])
def test_a_full_disk_is_an_error_without_a_traceback(word: str) -> None:
    """What the operating system refuses is one error line."""
    with Path("/dev/full").open("wb") as full:
        process = subprocess.run(
            [sys.executable, "-m", "flc_udp", word],
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )

    assert process.returncode == 1
    assert process.stderr.startswith(b"error: [Errno 28]")
    assert len(process.stderr.splitlines()) == 2


async def test_keygen(flc: Flc) -> None:
    """Each key is 32 new bytes in one line of base64."""
    keys = [(await flc("keygen")).out for _ in range(2)]

    assert keys[0] != keys[1]
    assert [len(base64.b64decode(key, validate=False)) for key in keys] == [32, 32]
    assert [key.count("\n") for key in keys] == [1, 1]


LIGHT = [
    *("main", "talk.nc", "talk.say", "keep.keys"),
    *("look.log", "look.overview", "look.sync", "look.why"),
]


@pytest.mark.parametrize("module", LIGHT)
def test_client_commands_are_light(module: str) -> None:
    """Client commands import nothing of the daemon's; --version does not even import asyncio."""
    heavy = ["cryptography", "sqlite3", "uvloop", "structlog", "msgpack", "flc_udp.core"]
    heavy += ["asyncio", "argcomplete"] if module == "main" else []
    script = f"import sys, flc_udp.cli.{module}; print([m for m in {heavy} if m in sys.modules])"
    process = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )

    assert process.stdout == "[]\n"
