"""What may be typed, and what is said where something else was: two lines and exit code 2.

Rules. Every line of `flc` is read by a `Parser`, so no command says it in its own way. What is a
name, an address or a number is text: bytes that are no UTF-8 are told apart here, once, and meet
no encoder later. Paths and what is said may be any bytes.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from typing import NoReturn

from flc_udp.cli.complaint import complain

MISTYPED = 2
"""Exit code: the command line cannot be parsed."""

ANY_BYTES = ("DIR", "FILE", "FILE.toml", "CMD", "TEXT")
"""What stands in the help for values that the system, the shell or a message takes as they are."""

SECONDS_MAX = 1e9
"""Sockets and timers take ten times as many, and not more."""

DIGITS_MAX = 15
"""Of a number: any is exact in JSON, and fits the daemon's 64 bits."""


class Parser(argparse.ArgumentParser):
    """An argument parser that answers a mistake as every other error is answered."""

    def read(self, words: Sequence[str]) -> argparse.Namespace:
        """The values of a line; where it cannot be parsed the process ends."""
        args, strange = self.parse_known_args(words)
        if strange:
            self.refuse(f"unrecognized: {' '.join(map(shown, strange))}", self._near(strange[0]))
        for action in self._actions:
            for value in _texts(getattr(args, action.dest, None)):
                if action.metavar not in ANY_BYTES and not _is_unicode(value):
                    name = action.option_strings[0] if action.option_strings else action.metavar
                    self.refuse(f"argument {name}: {shown(value)} is not valid Unicode text")
        return args

    def error(self, message: str) -> NoReturn:
        """What argparse calls with its own words."""
        self.refuse(message)

    def refuse(self, problem: str, advice: str = "") -> NoReturn:
        """Say what is wrong with the line, and end."""
        complain(problem, f"{advice}{'; ' if advice else ''}see {self.prog} --help")
        raise SystemExit(MISTYPED)

    def _near(self, word: str) -> str:
        names = [name for action in self._actions for name in action.option_strings]
        return did_you_mean(word.partition("=")[0], [n for n in names if n.startswith("--")])


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """A question with the most similar word, if one is."""
    from difflib import get_close_matches

    bare = {name.lstrip("-"): name for name in known}  # Or two dashes would make all alike.
    near = get_close_matches(word.lstrip("-"), bare, 1)
    return f"did you mean {bare[near[0]]}?" if near else ""


def shown(word: str) -> str:
    r"""A word as people can read it, a byte that is no text as \xff."""
    return word.encode(errors="surrogateescape").decode(errors="backslashreplace")


def _texts(value: object) -> Iterator[str]:
    for one in value if isinstance(value, list) else [value]:
        if isinstance(one, str):
            yield one


def _is_unicode(word: str) -> bool:
    return shown(word) == word


def seconds(words: str) -> float:
    """A span of time in seconds, from 0; what is longer than a life is no time to wait."""
    try:
        span = float(words)
    except ValueError:
        span = -1.0
    if not 0 <= span <= SECONDS_MAX:
        raise argparse.ArgumentTypeError(f"{words!r} is no number of seconds")
    return span


def whole(words: str) -> int:
    """A number from 0."""
    return _number(words, 0)


def positive(words: str) -> int:
    """A number from 1."""
    return _number(words, 1)


def _number(words: str, low: int) -> int:
    is_number = words.isascii() and words.isdecimal() and len(words) <= DIGITS_MAX
    if is_number and int(words) >= low:
        return int(words)
    raise argparse.ArgumentTypeError(f"{words!r} is not a number from {low}")
