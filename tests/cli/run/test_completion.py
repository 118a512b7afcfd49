"""`flc completion`: what TAB offers, asked as the shells ask, and what real shells make of it.

In a real shell `flc` is a program of ours that prints its words, `<one><another>!`: what is typed,
then TAB, then Enter shows the line as the shell read it after the completion.
"""

from __future__ import annotations

import asyncio
import os
import pty
import re
import select
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

import flc_udp
from flc_udp.cli.commands import COMMANDS, command_parser
from flc_udp.cli.main import main
from flc_udp.cli.run import completion
from tests.cli.fake import DEADLINE_S, FakeDaemon
from tests.forks import forked

PACKAGE_PATH = str(Path(flc_udp.__file__).parents[1])

Offered = Callable[..., list[str]]


@pytest.fixture
def offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Offered:
    """Ask as bash does what is offered at the cursor, by default at the end of the line."""
    here = tmp_path / "here"
    here.mkdir()
    (here / "a file").touch()
    (here / "folder").mkdir()
    answer = tmp_path / "answer"
    monkeypatch.setenv("FLC_DATA", str(tmp_path))

    def ask(line: str, cursor: int | None = None) -> list[str]:
        answer.unlink(missing_ok=True)
        environ = {
            **os.environ,
            "PYTHONPATH": PACKAGE_PATH,
            "COMP_LINE": line,
            "COMP_POINT": str(len(line) if cursor is None else cursor),
            "_ARGCOMPLETE": "1",
            "_ARGCOMPLETE_COMP_WORDBREAKS": " \t\n\"'@><=;|&(:",
            "_ARGCOMPLETE_SHELL": "bash",
            "_ARGCOMPLETE_STDOUT_FILENAME": str(answer),
            "_ARGCOMPLETE_SUPPRESS_SPACE": "1",
        }
        ended = asyncio.run(forked(environ=environ, cwd=here, limit_s=DEADLINE_S))
        assert ended == (0, b"", b"")
        return [word for word in answer.read_text().split("\v") if word]

    return ask


# --- What is offered ------------------------------------------------------------------------------


def test_commands(offered: Offered) -> None:
    """Commands are offered that begin like the word before the cursor."""
    assert offered("flc ") == list(COMMANDS)
    assert offered("flc s") == [name for name in COMMANDS if name[0] == "s"]
    assert offered("flc --v") == ["--version"]
    assert offered("flc memzz", len("flc mem")) == ["members"]


@pytest.mark.parametrize("name", COMMANDS)
def test_options(name: str, offered: Offered) -> None:
    """The options of a command are offered anywhere in its line, also what is there already."""
    actions = command_parser(name)._actions  # noqa: SLF001  # argparse has no other list of them
    options = [option for action in actions for option in action.option_strings]

    assert sorted(offered(f"flc {name} --data /nowhere -")) == sorted(set(options))


def test_choices(offered: Offered) -> None:
    """The choices of an option are offered, after a space or `=`; those of a word only for it."""
    assert offered("flc run --profile ") == ["local", "lan", "wan"]
    assert offered("flc run --profile=l") == ["local", "lan"]
    assert offered("flc completion ") == ["bash", "zsh", "fish"]
    assert offered("flc keys u") == ["use"]
    assert offered("flc keys use ") == []


def test_paths(offered: Offered, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths are offered where a file is meant, only directories where a directory is."""
    monkeypatch.setenv("HOME", str(tmp_path))

    assert sorted(offered("flc run --config ")) == ["a\\ file", "folder/"]
    assert offered("flc run --config a") == ["a\\ file"]
    assert offered("flc say --data ") == ["folder/"]
    assert offered("flc say --data ~/here/f") == ["~/here/folder/"]
    assert offered("flc say --data /nowhere/") == []


def test_nothing_where_anything_may_be_typed(offered: Offered) -> None:
    """For a number, a new name or an unknown command nothing is offered, and nothing is said."""
    assert offered("flc nc -w ") == []
    assert offered("flc run --name ") == []
    assert offered("flc say ops ") == []
    assert offered("flc fly -") == []
    assert offered("flc say 'ops") == []


@pytest.mark.parametrize("line", ["flc nc ", "flc say ", "flc log ", "flc forget ", "flc sync "])
def test_nothing_where_there_is_no_node(line: str, offered: Offered) -> None:
    """Without a node no room and no member is offered, and nothing is said about it."""
    assert offered(line) == []


# --- What the node knows --------------------------------------------------------------------------


async def test_rooms(daemon: FakeDaemon, offered: Offered) -> None:
    """The rooms of the node, or of one that the line names, are offered as a shell reads them."""
    for room in ("lobby", "ops", "my room", "#dev", "$(id)", "a:b"):
        daemon.hear("ben", "hi", room)

    assert await asyncio.to_thread(offered, "flc nc ") == [
        *("lobby", "ops", "my\\ room", "\\#dev", "\\$\\(id\\)", "a:b")
    ]
    assert await asyncio.to_thread(offered, f"flc nc --data {daemon.data} o") == ["ops"]
    assert await asyncio.to_thread(offered, "flc log a:") == ["b"]
    assert await asyncio.to_thread(offered, "flc nc --data /nowhere ") == []


async def test_names_that_are_not_offered(daemon: FakeDaemon, offered: Offered) -> None:
    """A room must not become an option, or control the terminal, where somebody presses TAB."""
    for room in ("-d", "~root", "=ls", "\x1b[31m", "\u202eevil", "fine"):
        daemon.hear("eve", "hi", room)

    assert await asyncio.to_thread(offered, "flc nc ") == ["fine"]


@pytest.mark.parametrize("command", ["sync", "forget"])
@pytest.mark.usefixtures("daemon")
async def test_members(command: str, offered: Offered) -> None:
    """All members but the node itself are offered: neither command has a use for that one."""
    assert await asyncio.to_thread(offered, f"flc {command} ") == ["ben"]


@pytest.fixture
async def deaf(tmp_path: Path) -> AsyncIterator[None]:
    """Start a daemon that takes connections and answers nothing."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(1_000):
            pass
        writer.close()

    server = await asyncio.start_unix_server(serve, str(tmp_path / "control.sock"))
    yield
    server.close()


@pytest.mark.usefixtures("deaf")
async def test_a_node_that_hangs_does_not_hang_the_prompt(offered: Offered) -> None:
    """TAB waits only `WAIT_S` for a node, and then offers nothing."""
    began = time.monotonic()

    assert await asyncio.to_thread(offered, "flc nc ") == []
    assert completion.WAIT_S <= time.monotonic() - began < DEADLINE_S / 3


# --- In the shells --------------------------------------------------------------------------------


SHELLS = {
    "bash": ["bash", "--norc", "-i"],
    "zsh": ["zsh", "-i"],
    "fish": ["fish", "-i"],
}

each_shell = pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name, marks=pytest.mark.skipif(not shutil.which(name), reason=f"{name} is missing")
        )
        for name in SHELLS
    ],
)

FLC = f"""#!/bin/sh
if [ "$_ARGCOMPLETE" ] || [ "$1" = completion ]; then
  PYTHONPATH={shlex.quote(PACKAGE_PATH)} exec {shlex.quote(sys.executable)} -m flc_udp "$@"
fi
printf '<%s>' "$@"; echo '!'
"""

ZSHRC = """
fpath=(~/.zfunc $fpath); mkdir -p ~/.zfunc; flc completion zsh >~/.zfunc/_flc
autoload -U compinit; compinit -u
"""
"""As the help's example has it. Without such a file zsh asks its user questions."""


class Terminal:
    """A shell on a pseudo-terminal, with `flc` completed."""

    def __init__(self, name: str, home: Path) -> None:
        self._pid, self._fd = pty.fork()
        if self._pid == 0:
            os.chdir(home)
            os.environ.update(
                HOME=str(home),
                INPUTRC="/dev/null",
                PATH=f"{home}/bin:{os.environ['PATH']}",
                TERM="dumb",
                XDG_CONFIG_HOME=str(home),
                XDG_DATA_HOME=str(home),
                ZDOTDIR=str(home),
            )
            os.execvp(SHELLS[name][0], SHELLS[name])  # noqa: S606  # it has to be interactive
        if name != "zsh":
            source = "| source" if name == "fish" else "> script; source ./script"
            os.write(self._fd, f"flc completion {name} {source}\n".encode())
        self.after("echo re''ady\n", "ready")

    def after(self, keys: str, pattern: str) -> str:
        """Press these keys, and give what matches the pattern in all that is shown then."""
        os.write(self._fd, keys.encode())
        shown = ""
        deadline = time.monotonic() + DEADLINE_S
        while not (found := re.search(pattern, shown, re.DOTALL)):
            assert time.monotonic() < deadline, shown
            if select.select([self._fd], [], [], 0.1)[0]:
                shown += os.read(self._fd, 65_536).decode(errors="replace")
        return found[0]

    def words(self, before: str, after: str = "") -> list[str]:
        """Press TAB between two parts of a line; give the words of `flc` in the completed line."""
        back = "\x02" * len(after)
        shown = self.after(f"{before}{after}{back}\t\r", r"(<[^<>]*>)+!")
        return re.findall("<([^<>]*)>", shown)

    def close(self) -> None:
        """End the shell."""
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        os.close(self._fd)


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Callable[[str], Terminal]]:
    """Open terminals for one test, in a home with directories that are hard to type."""
    for folder in ("bin", "my dir", "a:bc", "k=v1"):
        (tmp_path / folder).mkdir()
    (tmp_path / "bin" / "flc").write_text(FLC)
    (tmp_path / "bin" / "flc").chmod(0o755)
    (tmp_path / ".zshrc").write_text(ZSHRC)
    opened: list[Terminal] = []

    def start(name: str) -> Terminal:
        opened.append(Terminal(name, tmp_path))
        return opened[-1]

    yield start
    for each in opened:
        each.close()


@each_shell
async def test_a_real_shell(
    name: str, terminal: Callable[[str], Terminal], daemon: FakeDaemon
) -> None:
    """A real shell completes all kinds of words; names of others arrive as they were given."""
    for room in ("ops", "$(touch pwned)", "it's", "two words", "#dev"):
        daemon.hear("eve", "hi", room)
    shell = await asyncio.to_thread(terminal, name)

    def words(line: str, after: str = "") -> list[str]:
        return shell.words(line, after)

    for line, wanted in {
        "flc mem": ["members"],
        "flc run --na": ["run", "--name"],
        "flc run --profile wa": ["run", "--profile", "wan"],
        "flc run --profile=wa": ["run", "--profile=wan"],
        "flc run --data my": ["run", "--data", "my dir/"],
        "flc run --data a:b": ["run", "--data", "a:bc/"],
        "flc run --data=k=v": ["run", "--data=k=v1/"],
        "true | flc nc --la": ["nc", "--last"],
        "flc nc o": ["nc", "ops"],
        "flc nc \\$": ["nc", "$(touch pwned)"],
        'flc nc "it': ["nc", "it's"],
        "flc nc tw": ["nc", "two words"],
        "flc nc \\#": ["nc", "#dev"],
        "flc forget b": ["forget", "ben"],
    }.items():
        assert await asyncio.to_thread(words, line) == wanted, line
    assert not (daemon.data / "pwned").exists()


def test_bash_completes_in_mid_word(terminal: Callable[[str], Terminal]) -> None:
    """Bash completes what stands before the cursor, and its own settings stay as they were."""
    bash = terminal("bash")
    breaks = bash.after("echo [$COMP_WORDBREAKS]\n", r"\[[^$].*?\]\r\n")

    assert bash.words("flc mem", "zz") == ["memberszz"]
    assert bash.words("flc run --na", "xyz") == ["run", "--namexyz"]
    assert bash.after("echo [$COMP_WORDBREAKS]\n", r"\[[^$].*?\]\r\n") == breaks


@each_shell
def test_the_script_is_printed(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The shell can read the script; there is none for other shells."""
    assert main(["completion", name]) == os.EX_OK
    script = capsys.readouterr().out
    ended = subprocess.run(
        [name, "-n", "/dev/stdin"], input=script, capture_output=True, text=True, check=False
    )

    assert (ended.returncode, ended.stderr) == (0, "")
    with pytest.raises(SystemExit):
        main(["completion", "tcsh"])


def test_zsh_gets_our_changes(capsys: pytest.CaptureFixture[str]) -> None:
    """The library's script still has the places that they are for."""
    main(["completion", "zsh"])
    script = capsys.readouterr().out

    for old, new in completion.ZSH_CHANGES.items():
        assert new in script
        assert old not in script or old in new
