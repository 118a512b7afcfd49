"""`flc completion`: what makes bash, zsh or fish complete flc's commands, options and choices.

The scripts need nothing but their shell, and call nothing: a daemon that hangs must not hang the
prompt. What they complete is written into them, so a newer flc is a reason to print them anew.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from shlex import quote

from flc_udp.cli.shapes import Argument, Option, Shape, Value, shapes

TOP_OPTIONS = ("--help", "--version")


def add_completion(parser: argparse.ArgumentParser) -> None:
    """`flc completion SHELL`."""
    parser.add_argument("shell", metavar="SHELL", choices=list(SCRIPTS), help="bash, zsh or fish")


def completion(args: argparse.Namespace) -> int:
    """Print the script."""
    print("\n".join(SCRIPTS[args.shell](list(shapes()))))
    return 0


# --- bash -----------------------------------------------------------------------------------------

BASH_HEAD = """\
# Completion of flc for bash: source <(flc completion bash)
_flc() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} words= paths=
    # Readline takes --option=value for three words.
    if [[ $cur == = ]]; then
        cur=
    elif [[ $prev == = ]]; then
        prev=${COMP_WORDS[COMP_CWORD-2]}
    fi"""
BASH_TAIL = """\
    COMPREPLY=()
    if [[ $paths ]]; then
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -A "$paths" -- "$cur")
    elif [[ $words ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
    fi
}
complete -F _flc flc"""


def bash(commands: list[Shape]) -> Iterator[str]:
    """One function: the value of the option before the cursor, else options or arguments."""
    yield BASH_HEAD
    names = " ".join([*(command.name for command in commands), *TOP_OPTIONS])
    yield "    if ((COMP_CWORD == 1)); then"
    yield f"        words={quote(names)}"
    yield "    else case ${COMP_WORDS[1]} in"
    for command in commands:
        yield f"    {command.name})"
        yield from _bash_command(command)
        yield "        ;;"
    yield "    esac; fi"
    yield BASH_TAIL


def _bash_command(command: Shape) -> Iterator[str]:
    patterns: dict[str, list[str]] = {}
    for option in command.options:
        if option.value is not None:
            patterns.setdefault(_bash_value(option.value), []).extend(option.names)
    yield "        case $prev in"
    yield from (f"        {'|'.join(names)}) {value} ;;" for value, names in patterns.items())
    names = " ".join(name for option in command.options for name in option.names)
    yield f"        *) if [[ $cur == -* ]]; then words={quote(names)}"
    # Of several arguments only the first is completed: which one is typed is not told.
    for argument in command.arguments[:1]:
        yield f"           else {_bash_value(argument.value)}"
    yield "           fi ;;"
    yield "        esac"


def _bash_value(value: Value) -> str:
    if value.is_directory or value.is_file:
        return f"paths={'directory' if value.is_directory else 'file'}"
    return f"words={quote(' '.join(value.words))}"


# --- zsh ------------------------------------------------------------------------------------------

ZSH_TAIL = """\
    esac
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _flc "$@"
else
    compdef _flc flc
fi"""


def zsh(commands: list[Shape]) -> Iterator[str]:
    """One function, which hands each command's specification to _arguments."""
    yield "#compdef flc"
    yield "_flc() {"
    yield "    local -a commands=("
    yield from (f"        {quote(f'{command.name}:{command.about}')}" for command in commands)
    yield "    )"
    yield "    if (( CURRENT == 2 )); then"
    yield f"        _describe command commands; compadd -- {' '.join(TOP_OPTIONS)}; return"
    yield "    fi"
    yield "    shift words; (( CURRENT-- ))"
    yield "    case $words[1] in"
    for command in commands:
        specifications = [spec for option in command.options for spec in _zsh_option(option)]
        specifications += map(_zsh_argument, command.arguments)
        yield f"    {command.name}) _arguments -s {' '.join(map(quote, specifications))} ;;"
    yield ZSH_TAIL


def _zsh_option(option: Option) -> Iterator[str]:
    about = "".join(f"\\{char}" if char in "[]\\" else char for char in option.about)
    others = "*" if option.repeats else f"({' '.join(option.names)})"
    value = "" if option.value is None else f":{_zsh_value(option.value)}"
    yield from (f"{others}{name}[{about}]{value}" for name in option.names)


def _zsh_argument(argument: Argument) -> str:
    place = "*:" if argument.repeats else ":" if argument.is_needed else "::"
    return f"{place}{_zsh_value(argument.value)}"


def _zsh_value(value: Value) -> str:
    action = f"({' '.join(value.words)})" if value.words else ""
    action = "_files" if value.is_file else "_files -/" if value.is_directory else action
    message = value.name.replace(":", "\\:")
    return f"{message}:{action}"


# --- fish -----------------------------------------------------------------------------------------

FISH_HEAD = """\
# Completion of flc for fish: flc completion fish > ~/.config/fish/completions/flc.fish
function __flc_in
    set -l words (commandline -opc)
    test (count $words) -ge 2; and test $words[2] = $argv[1]
end
function __flc_alone
    test (count (commandline -opc)) -eq 1
end
complete -c flc -f"""


def fish(commands: list[Shape]) -> Iterator[str]:
    """A line an option; which command is typed is asked of the words before the cursor."""
    yield FISH_HEAD
    for name in TOP_OPTIONS:
        yield f"complete -c flc -n __flc_alone -l {name.lstrip('-')}"
    for command in commands:
        about = _fish_text(command.about)
        yield f"complete -c flc -n __flc_alone -a {command.name} -d {about}"
        inside = f"complete -c flc -n '__flc_in {command.name}'"
        for option in command.options:
            value = "" if option.value is None else f" -r{_fish_value(option.value)}"
            names = " ".join(map(_fish_name, option.names))
            yield f"{inside} {names}{value} -d {_fish_text(option.about)}"
        for argument in command.arguments:
            if words := _fish_value(argument.value):
                yield f"{inside}{words}"


def _fish_name(name: str) -> str:
    return f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}"


def _fish_value(value: Value) -> str:
    if value.is_directory:
        return " -a '(__fish_complete_directories)'"
    return " -F" if value.is_file else f" -a {quote(' '.join(value.words))}" if value.words else ""


def _fish_text(text: str) -> str:
    """Within single quotes fish takes a backslash for more than itself, which sh does not."""
    return quote(text.replace("\\", "\\\\"))


SCRIPTS = {"bash": bash, "zsh": zsh, "fish": fish}
