"""`flc completion`: prints what makes bash, zsh or fish complete the words of `flc`.

The printed script is argcomplete's. At each TAB it calls `flc` again with the line so far, and
`complete` answers from the parsers that would read that line. So the script never gets old, and
rooms and members can be completed too: they are asked of the node.

Rules. A TAB waits for a node at most `WAIT_S`; without an answer nothing is offered and nothing is
said. Rooms and members have names that other people chose: a name is offered only if it shows as it
is and no shell or parser would take it for anything but a name.
"""

import argparse
import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

from argcomplete.completers import SuppressCompleter
from argcomplete.finders import CompletionFinder
from argcomplete.lexers import split_line
from argcomplete.shell_integration import shellcode

from flc_udp.cli.commands import COMMANDS, add_arguments
from flc_udp.cli.connect import choose_socket
from flc_udp.client import Client
from flc_udp.model.errors import FlcError
from flc_udp.model.visible import visible

SHELLS = ("bash", "zsh", "fish")

WAIT_S = 0.3
"""A person hardly notices this time after a TAB."""

STARTS_NO_NAME = ("-", "~", "=", "^")
"""A word that begins with one of these may be an option, a home directory or a pattern."""

ZSH_CHANGES = {
    # Behind a pipe the whole line has other commands in it: take only the words of this one.
    'COMP_LINE="$BUFFER"': 'COMP_LINE="${(j: :)words[1,CURRENT-1]} $QIPREFIX$PREFIX"',
    'COMP_POINT="$CURSOR"': 'COMP_POINT="$#COMP_LINE"',
    # zsh would escape the ~ of a path that we offer, so it completes such paths itself.
    "local completions\n": "local completions\n[[ $PREFIX != \\~* ]] || { _files; return }\n",
}


def add_completion(parser: argparse.ArgumentParser) -> None:
    """`flc completion SHELL`."""
    parser.add_argument("shell", metavar="SHELL", choices=SHELLS, help="bash, zsh or fish")


def completion(args: argparse.Namespace) -> None:
    """Print the script for a shell."""
    script = shellcode(["flc"], shell=args.shell, complete_arguments=["-o nospace"])
    for old, new in ZSH_CHANGES.items() if args.shell == "zsh" else ():
        script = script.replace(old, new)
    print(script.strip())


def complete() -> None:
    """Answer the shell, which asks by environment variables; the process ends here."""
    words = split_line(os.environ["COMP_LINE"], int(os.environ["COMP_POINT"]))[3]
    is_command = len(words) == 1
    parser = argparse.ArgumentParser(prog="flc", add_help=is_command)
    if is_command:
        parser.add_argument("--version", action="store_true", help="print the version of flc")
    commands = parser.add_subparsers()
    for name, command in COMMANDS.items():
        below = commands.add_parser(name, help=command["summary"], conflict_handler="resolve")
        if words[1:2] == [name]:
            add_arguments(below, name)
            for action in below._actions:  # noqa: SLF001  # argparse has no other list of them
                if action.metavar in OFFERS:
                    setattr(action, "completer", OFFERS[action.metavar])  # noqa: B010  # argcomplete's
    _Finder()(parser, always_complete_options=False, default_completer=SuppressCompleter())


class _Finder(CompletionFinder):
    """argcomplete's search, but for two faults in how it writes what it found."""

    def quote_completions(
        self, completions: list[str], cword_prequote: str, last_wordbreak_pos: int | None
    ) -> list[str]:
        """Escape a `#` that would begin a comment; tell zsh no `None` where there is no help."""
        quoted = super().quote_completions(completions, cword_prequote, last_wordbreak_pos)
        if not cword_prequote and os.environ.get("_ARGCOMPLETE_SHELL") != "fish":
            quoted = [f"\\{word}" if word.startswith("#") else word for word in quoted]
        self._display_completions = dict.fromkeys(quoted, "") | self._display_completions
        return quoted


def _paths(prefix: str, *, only_directories: bool = False, **_asked: object) -> Iterator[str]:
    head = prefix[: prefix.rfind("/") + 1]
    with suppress(OSError), os.scandir(Path(head).expanduser()) as entries:
        for entry in entries:
            if entry.is_dir() or not only_directories:
                yield f"{head}{entry.name}{'/' if entry.is_dir() else ''}"


def _names(op: str, key: str, parsed_args: argparse.Namespace, **_asked: object) -> list[str]:
    async def ask() -> list[str]:
        path = choose_socket(parsed_args.data, os.environ)
        async with asyncio.timeout(WAIT_S), await Client.connect(path) as client:
            return [item[key] for item in await client.listed(op) if not item.get("self")]

    with suppress(FlcError, TimeoutError):
        names = asyncio.run(ask())
        return [n for n in names if visible(n) == n and not n.startswith(STARTS_NO_NAME)]
    return []


OFFERS: dict[object, Callable[..., object]] = {
    "ROOM": partial(_names, "rooms", "room"),
    "PEER": partial(_names, "members", "name"),
    "MEMBER": partial(_names, "members", "name"),
    "FILE": _paths,
    "FILE.toml": _paths,
    "DIR": partial(_paths, only_directories=True),
}
"""What completes a value, by what stands for the value in the help."""
