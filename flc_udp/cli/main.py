"""`flc`: finds the command, parses its line, and turns every end into an exit code.

Rules. A module is imported only when it is needed, so `flc --version` is immediate and no client
command waits for the daemon's modules. A command NAME is one or two functions of its module:
`NAME(args)`, which returns the exit code, or None if all is well, and `add_NAME(parser)` if it has
arguments of its own. If NAME is a Python keyword, the first one is `NAME_(args)`. People get one
`error:` and one `hint:` line; a traceback is a bug of ours.
"""

import argparse
import errno
import io
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from keyword import iskeyword

from flc_udp import __version__
from flc_udp.cli.commands import COMMANDS, command_parser, module_of
from flc_udp.cli.conventions import DONE, FAILED, INTERRUPTED, Parser, complain, did_you_mean
from flc_udp.model.errors import FlcError

FULL_HINT = "make room on the disk that it is written to: see `df`"
STREAM_HINT = "a standard stream is closed, or opened the other way: look at its redirection"
SYSTEM_HINT = "the operating system refused it and gave no other reason"
HINTS = {
    errno.ENOSPC: FULL_HINT,
    errno.EDQUOT: FULL_HINT,
    errno.EBADF: STREAM_HINT,
    errno.EMFILE: "allow more descriptors: `ulimit -n 1024`",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run `flc` with these arguments (default: the process's) and return its exit code."""
    words = sys.argv[1:] if argv is None else list(argv)
    _open_missing_streams()
    if "_ARGCOMPLETE" in os.environ:
        import_module("flc_udp.cli.run.completion").complete()
    return _ended(words)


def _run(words: list[str]) -> int | None:
    name = _command_name(words)
    args = command_parser(name).read(words[1:])
    command = getattr(module_of(name), f"{name}_" if iskeyword(name) else name)
    code: int | None = command(args)
    return code


def _command_name(words: Sequence[str]) -> str:
    parser = _top_parser()
    name: str = parser.read(words[:1]).command
    if name not in COMMANDS:
        parser.error(f"there is no command {name!r}", did_you_mean(name, list(COMMANDS)))
    return name


def _ended(words: list[str]) -> int:
    try:
        try:
            code = _run(words) or DONE
        except SystemExit:  # --help and --version end so.
            sys.stdout.flush()
            raise
        sys.stdout.flush()
    except FlcError as error:
        return _fail(str(error), error.hint)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        _discard_output()
        return DONE
    except OSError as error:
        return _fail(str(error), HINTS.get(error.errno or 0, SYSTEM_HINT))
    return code


def _fail(problem: str, hint: str) -> int:
    complain(problem, hint)
    try:
        sys.stdout.flush()
    except (OSError, ValueError):  # The disk is full, nobody reads the pipe, or it is closed.
        _discard_output()
    return FAILED


def _discard_output() -> None:
    """Send the rest of the output to /dev/null; otherwise Python would fail again when it exits."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _open_missing_streams() -> None:
    """Open /dev/null for each closed standard stream; otherwise a socket would get its number.

    Standard output is opened so that whatever is printed fails: nobody would see it.
    """
    for fd, way in enumerate((os.O_RDONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, way)
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115  # a descriptor
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115  # a descriptor
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115  # a descriptor
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")


def _top_parser() -> Parser:
    width = max(map(len, COMMANDS))
    listing = "\n".join(f"  {name:{width}}  {c['summary']}" for name, c in COMMANDS.items())
    parser = Parser(
        prog="flc",
        usage="flc COMMAND [ARGUMENT]...",
        description="Chat rooms kept together by nodes that gossip, with no server in the middle.",
        epilog=f"commands:\n{listing}\n\nflc COMMAND --help tells more, with an example.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"flc {__version__}")
    parser.add_argument("command", metavar="COMMAND", help=argparse.SUPPRESS)
    return parser
