"""What all commands have in common: how a line is read, how they tell an error, their exit codes.

Rules. Every line of `flc` is read by a `Parser`. A name, an address or a number is text: words that
are no UTF-8 are refused here, once, so that no encoder meets them later. Paths and messages may
have any bytes. A mistake in a line is answered as every other error is, with exit code 2.

Error and hint are one line each, whatever they quote: a newline in a file's name must not look like
another error, and text from elsewhere must not drive the terminal. If standard error takes nothing
(a full disk, a closed pipe), only the exit code tells that something is wrong.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

DONE, FAILED, MISTYPED, SILENT, INTERRUPTED = 0, 1, 2, 3, 130
"""The exit codes. MISTYPED means that the command line cannot be parsed. SILENT means that nobody
answers. INTERRUPTED means that Ctrl-C was pressed; shells use the same number."""

ANY_BYTES = ("DIR", "FILE", "FILE.toml", "CMD", "TEXT")
"""These stand in the help for values that the system, the shell or a message takes as they are."""

SECONDS_MAX = 1e9
"""Nobody can ask to wait longer than these 30 years. Sockets and timers could wait ten times as
long."""

NUMBER_MAX = 10**15 - 1
"""Numbers are at most this large: with 15 digits they are exact in any JSON reader."""


def complain(problem: str, hint: str) -> None:
    """Print one `error:` and one `hint:` line."""
    from flc_udp.model.visible import visible

    with suppress(OSError):
        print(f"error: {visible(problem)}\nhint: {visible(hint)}", file=sys.stderr, flush=True)


class Parser(argparse.ArgumentParser):
    """An argument parser that answers a mistake as every other error is answered."""

    def read(self, words: Sequence[str]) -> argparse.Namespace:
        """Read the values of a line; if it cannot be parsed, the process ends."""
        args, strange = self.parse_known_args(words)
        if strange:
            self.error(f"unrecognized: {' '.join(map(shown, strange))}", self._near(strange[0]))
        for action in self._actions:
            value = getattr(args, action.dest, None)
            for word in value if isinstance(value, list) else [value]:
                if action.metavar in ANY_BYTES or not isinstance(word, str):
                    continue
                if shown(word) != word:
                    name = action.option_strings[0] if action.option_strings else action.metavar
                    self.error(f"argument {name}: {shown(word)} is not valid Unicode text")
        return args

    def error(self, message: str, advice: str = "") -> NoReturn:
        """Say what is wrong with the line, in argparse's words or in ours, and end the process."""
        complain(message, f"{advice}{'; ' if advice else ''}see {self.prog} --help")
        raise SystemExit(MISTYPED)

    def _print_message(self, message: str, file: "SupportsWrite[str] | None" = None) -> None:
        """Print help or version. Argparse's own way is silent where the output takes nothing."""
        (file or sys.stderr).write(message)

    def _near(self, word: str) -> str:
        names = [name for action in self._actions for name in action.option_strings]
        return did_you_mean(word.partition("=")[0], [n for n in names if n.startswith("--")])


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """Return a question with the most similar word, or "" if no word is similar."""
    from difflib import get_close_matches

    bare = {name.lstrip("-"): name for name in known}  # Dashes would make all words similar.
    near = get_close_matches(word.lstrip("-"), bare, 1)
    return f"did you mean {bare[near[0]]}?" if near else ""


def shown(word: str) -> str:
    r"""Write a word so that people can read it: a byte that is no text becomes \xff."""
    return word.encode(errors="surrogateescape").decode(errors="backslashreplace")


def seconds(words: str) -> float:
    """Read a time to wait, in seconds from 0."""
    with suppress(ValueError):
        if 0 <= (span_s := float(words)) <= SECONDS_MAX:
            return span_s
    raise argparse.ArgumentTypeError(f"{words!r} is not a number of seconds")


def number_from(low: int, high: int = NUMBER_MAX) -> Callable[[str], int]:
    """Make a reader of whole numbers from `low` to `high`."""

    def read(words: str) -> int:
        is_number = words.isascii() and words.isdecimal() and len(words) <= len(str(NUMBER_MAX))
        if is_number and low <= int(words) <= high:
            return int(words)
        limits = f"{low}" if high == NUMBER_MAX else f"{low} to {high}"
        raise argparse.ArgumentTypeError(f"{words!r} is not a number from {limits}")

    return read


whole = number_from(0)
positive = number_from(1)
