"""What can be typed behind `flc`, as values: read from the parsers, so that it is never older."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import NamedTuple

from flc_udp.cli.main import COMMANDS, command_parser

DIRECTORIES = ("DIR",)
FILES = ("FILE", "FILE.toml")


class Value(NamedTuple):
    """What stands for a value in the help, and the words that are allowed if not any are."""

    name: str
    words: tuple[str, ...] = ()

    @property
    def is_file(self) -> bool:
        """Whether a path of a file is meant."""
        return self.name in FILES

    @property
    def is_directory(self) -> bool:
        """Whether a path of a directory is meant."""
        return self.name in DIRECTORIES


class Option(NamedTuple):
    """A flag by all its names; without a `value` it takes none."""

    names: tuple[str, ...]
    about: str
    value: Value | None
    repeats: bool


class Argument(NamedTuple):
    """A word that is no flag."""

    value: Value
    is_needed: bool
    repeats: bool


class Shape(NamedTuple):
    """A command, with all that can be typed behind it."""

    name: str
    about: str
    options: tuple[Option, ...]
    arguments: tuple[Argument, ...]


def shapes() -> Iterator[Shape]:
    """All commands, in the order of their listing."""
    for name, command in COMMANDS.items():
        yield shape(name, command.summary, command_parser(name))


def shape(name: str, about: str, parser: argparse.ArgumentParser) -> Shape:
    """What one parser takes, but for what its help keeps silent about."""
    actions = parser._actions  # noqa: SLF001  # argparse has no other list of them
    shown = [action for action in actions if action.help != argparse.SUPPRESS]
    options = [_option(action) for action in shown if action.option_strings]
    arguments = [_argument(action) for action in shown if not action.option_strings]
    return Shape(name, about, tuple(options), tuple(arguments))


def _option(action: argparse.Action) -> Option:
    about = (action.help or "") % {"default": action.default}
    value = None if action.nargs == 0 else _value(action)
    repeats = isinstance(action, argparse._AppendAction)  # noqa: SLF001  # it has no other name
    return Option(tuple(action.option_strings), about, value, repeats)


def _argument(action: argparse.Action) -> Argument:
    is_needed = action.nargs not in ("?", "*")
    return Argument(_value(action), is_needed, repeats=action.nargs in ("*", "+"))


def _value(action: argparse.Action) -> Value:
    name = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
    return Value(name, tuple(map(str, action.choices or ())))
