"""`flc completion`: the scripts know what the parsers know, and shells can read them."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from flc_udp.cli.main import COMMANDS, main
from flc_udp.cli.run import completion
from flc_udp.cli.shapes import Option, Value, shape, shapes

SHAPES = {shape.name: shape for shape in shapes()}

BASH = shutil.which("bash") or "bash"

ASK = """
source "$1"
shift
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_flc
printf '%s\\n' "${COMPREPLY[@]}"
"""
"""Bash is asked as readline asks it: the words so far, the last of which is being typed."""

Complete = Callable[..., list[str]]


def script(shell: str) -> str:
    """What `flc completion SHELL` prints."""
    return "\n".join(completion.SCRIPTS[shell](list(SHAPES.values())))


@pytest.fixture
def complete(tmp_path: Path) -> Complete:
    """What bash offers after these words."""
    (tmp_path / "flc.bash").write_text(script("bash"))
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "a file").touch()
    (tmp_path / "here" / "folder").mkdir()

    def ask(*words: str) -> list[str]:
        process = subprocess.run(
            [BASH, "--norc", "-c", ASK, "bash", str(tmp_path / "flc.bash"), "flc", *words],
            cwd=tmp_path / "here",
            capture_output=True,
            text=True,
            check=True,
        )
        assert process.stderr == ""
        return [line for line in process.stdout.split("\n") if line]

    return ask


# --- What can be typed ----------------------------------------------------------------------------


def test_a_shape_is_what_the_parser_takes() -> None:
    """Names, values and choices; help that has a default in it is filled in."""
    parser = argparse.ArgumentParser(prog="flc x", add_help=False)
    parser.add_argument("-v", "--verbose", action="store_true", help="100%% of it")
    parser.add_argument("--join", metavar="HOST:PORT", action="append", default=[])
    parser.add_argument("--hidden", help=argparse.SUPPRESS)
    parser.add_argument("--size", default=3, help="of it (default %(default)s)")
    parser.add_argument("kind", choices=["a", "b"], nargs="?")
    parser.add_argument("file", metavar="FILE", nargs="+")
    found = shape("x", "do it", parser)

    assert found.options == (
        Option(("-v", "--verbose"), "100% of it", None, repeats=False),
        Option(("--join",), "", Value("HOST:PORT"), repeats=True),
        Option(("--size",), "of it (default 3)", Value("SIZE"), repeats=False),
    )
    kind, file = found.arguments
    assert (kind.value, kind.is_needed, kind.repeats) == (Value("KIND", ("a", "b")), False, False)
    assert (file.value.is_file, file.is_needed, file.repeats) == (True, True, True)


def test_every_command_has_a_shape() -> None:
    """In the order of the help, each with --help and one --data."""
    assert list(SHAPES) == list(COMMANDS)
    for found in SHAPES.values():
        names = [name for option in found.options for name in option.names]
        assert len(names) == len(set(names))
        assert {"--help", "--data"} <= set(names)


# --- bash -----------------------------------------------------------------------------------------


def test_bash_completes_commands(complete: Complete) -> None:
    """All of them, or those that begin so."""
    assert complete("") == [*COMMANDS, "--help", "--version"]
    assert complete("s") == [name for name in COMMANDS if name[0] == "s"]
    assert complete("--v") == ["--version"]


@pytest.mark.parametrize("name", COMMANDS)
def test_bash_completes_options(name: str, complete: Complete) -> None:
    """Those of the command, wherever in its line."""
    options = [option for found in SHAPES[name].options for option in found.names]

    assert complete(name, "-") == options
    assert complete(name, "word", "--d") == [option for option in options if option[:3] == "--d"]


def test_bash_completes_nc(complete: Complete) -> None:
    """As it is typed most: the options of netcat, and nothing that could not be a room."""
    assert set(complete("nc", "-")) >= {"-d", "-N", "-w", "-c", "-v", "--json", "--last"}
    assert complete("nc", "") == []
    assert complete("nc", "-w", "") == []


def test_bash_completes_choices(complete: Complete) -> None:
    """Of an option, with a space or an equals sign, which readline takes for a word; of a word."""
    assert complete("run", "--profile", "") == ["local", "lan", "wan"]
    assert complete("run", "--profile", "=", "l") == ["local", "lan"]
    assert complete("run", "--profile", "=") == ["local", "lan", "wan"]
    assert complete("completion", "") == ["bash", "zsh", "fish"]


def test_bash_completes_paths(complete: Complete) -> None:
    """A file where a file is meant, only directories where a directory is."""
    assert sorted(complete("run", "--config", "")) == ["a file", "folder"]
    assert complete("run", "--config", "a") == ["a file"]
    assert complete("say", "--data", "") == ["folder"]


def test_bash_completes_after_a_broken_line(complete: Complete) -> None:
    """An unknown command has nothing to offer, and no error either."""
    assert complete("fly", "-") == []


def test_bash_asks_the_function() -> None:
    """Sourced, it is what bash calls for flc."""
    process = subprocess.run(
        [BASH, "--norc", "-c", f"{script('bash')}\ncomplete -p flc"],
        capture_output=True,
        text=True,
        check=True,
    )

    assert process.stdout == "complete -F _flc flc\n"


# --- zsh, fish ------------------------------------------------------------------------------------


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shell_can_read_it(shell: str, tmp_path: Path) -> None:
    """Where it is installed."""
    path = shutil.which(shell)
    if path is None:
        pytest.skip(f"{shell} is not installed")
    (tmp_path / "script").write_text(script(shell))
    process = subprocess.run(
        [path, "-n", str(tmp_path / "script")], capture_output=True, check=False
    )

    assert (process.returncode, process.stderr) == (0, b"")


def test_zsh_specifies_every_option() -> None:
    """Each command is one call of _arguments, a specification an option and argument."""
    lines = [line.strip() for line in script("zsh").splitlines() if " _arguments " in line]
    assert [line.partition(")")[0] for line in lines] == list(COMMANDS)
    for line, found in zip(lines, SHAPES.values(), strict=True):
        _, _, _, *specs, end = shlex.split(line)
        names = [name for option in found.options for name in option.names]
        options, arguments = specs[: len(names)], specs[len(names) :]
        assert end == ";;"
        assert len(arguments) == len(found.arguments)
        for name, spec in zip(names, options, strict=True):
            assert f"{name}[" in spec
            assert spec.startswith(("(", "*"))
    run = shlex.split(lines[0])
    assert "(--profile)--profile[set of probe intervals]:PROFILE:(local lan wan)" in run
    assert any(spec.startswith("*--join[") and spec.endswith(":HOST\\:PORT:") for spec in run)
    assert any(spec.startswith("(--config)") and spec.endswith(":_files") for spec in run)
    assert any(spec.startswith("(--data)") and spec.endswith(":_files -/") for spec in run)


def test_zsh_lists_the_commands() -> None:
    """With what each does."""
    _, _, rest = script("zsh").partition("commands=(")
    listed = shlex.split(rest.partition("\n    )")[0])

    assert listed == [f"{name}:{command.summary}" for name, command in COMMANDS.items()]


def test_fish_has_a_line_an_option() -> None:
    """Under its command, by all its names, with what may follow."""
    lines = [shlex.split(line) for line in script("fish").splitlines() if line[:9] == "complete "]
    for name, found in SHAPES.items():
        inside = [line for line in lines if f"__flc_in {name}" in line]
        assert [name, "-d", found.about] in [line[-3:] for line in lines]
        for option, line in zip(found.options, inside, strict=False):
            assert line[-2:] == ["-d", option.about]
            assert ("-r" in line) == (option.value is not None)
            assert all(spelled.lstrip("-") in line for spelled in option.names)
    profile = next(line for line in lines if "profile" in line)
    assert profile[profile.index("-a") + 1] == "local lan wan"


def test_it_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """For each shell, and for no other."""
    for shell in completion.SCRIPTS:
        assert main(["completion", shell]) == os.EX_OK
        assert capsys.readouterr().out == f"{script(shell)}\n"
    with pytest.raises(SystemExit):
        main(["completion", "tcsh"])
