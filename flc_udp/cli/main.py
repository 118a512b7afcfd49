"""`flc`: finds the command, parses its line, and turns every end into an exit code.

Rules. Nothing is imported before it is known to be needed, so `flc --version` is immediate and no
client command pays for the daemon. A command NAME is two functions of its module:
`add_NAME(parser)`, and `NAME(args)`, which returns the exit code; where Python keeps the NAME for
itself, `NAME_(args)`. People get one `error:` and one `hint:` line; a traceback is a bug of ours.
"""

from __future__ import annotations

import argparse
import errno
import io
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module
from keyword import iskeyword
from typing import NamedTuple

from flc_udp import __version__
from flc_udp.cli.arguments import Parser, did_you_mean
from flc_udp.cli.complaint import complain
from flc_udp.model.errors import FlcError

DONE, FAILED, INTERRUPTED = 0, 1, 130

FULL_HINT = "make room on the disk that it is written to: see `df`"
SYSTEM_HINT = "the operating system refused it; that is all it said"


class Command(NamedTuple):
    """A command of `flc`: the module of its two functions, what it is, and how it looks in use."""

    module: str
    summary: str
    example: str


COMMANDS = {
    "run": Command(
        "flc_udp.cli.run.run",
        "run a node in the foreground",
        "flc run --name ann --tag role=db\n"
        "  flc run --data /tmp/ben --bind 127.0.0.1:0 --join 127.0.0.1:7352",
    ),
    "nc": Command(
        "flc_udp.cli.talk.nc",
        "netcat for a room: lines of stdin are said, what others say is printed",
        "flc nc ops\n  journalctl -f | flc nc -N ops\n  flc nc -d --json ops | jq .body",
    ),
    "say": Command(
        "flc_udp.cli.talk.say",
        "say one message and print its dot once it is durable here",
        "flc say ops deploy is done\n  git log -1 | flc say ops - --wait all",
    ),
    "log": Command(
        "flc_udp.cli.look.log",
        "print the converged history of a room, or of all",
        "flc log ops -n 100\n  flc log --since 2h --json | jq -r .author | sort | uniq -c",
    ),
    "rooms": Command(
        "flc_udp.cli.look.lists", "list the rooms", "flc rooms\n  flc rooms --json | jq -r .room"
    ),
    "members": Command(
        "flc_udp.cli.look.lists",
        "list the members of the cluster as this node sees them",
        "flc members\n  flc members --watch\n  flc members --tag role=db --json | jq -r .address",
    ),
    "status": Command(
        "flc_udp.cli.look.status",
        "say how the node is; exit 1 if it is not healthy",
        "flc status\n  flc status --json | jq .reasons",
    ),
    "digest": Command(
        "flc_udp.cli.look.status",
        "print the roots: nodes with equal roots have equal histories and members",
        "flc digest\n  flc digest --json",
    ),
    "sync": Command(
        "flc_udp.cli.look.sync",
        "compare histories with other nodes now; with -w watch this one catch up",
        "flc sync\n  flc sync ben --watch\n  flc sync -w --json | jq .left_s",
    ),
    "leave": Command(
        "flc_udp.cli.look.status", "make the node leave the cluster and end its daemon", "flc leave"
    ),
    "forget": Command(
        "flc_udp.cli.look.status",
        "hold a member that is not coming back for one that left",
        "flc forget ben\n  flc forget 86be453a11f3d69b",
    ),
    "why": Command(
        "flc_udp.cli.look.why",
        "print a message's causes and vector clock; of two, which came before",
        "flc why 9f2c61d0a47be813:17\n  flc why 9f2c61d0a47be813:17 1b3d81307eb08ef7:1",
    ),
    "fsck": Command(
        "flc_udp.cli.keep.fsck",
        "check a node's database, whether the node is up or down; exit 1 if anything is wrong",
        "flc fsck\n  flc fsck --data /tmp/ann --json | jq -r '.problem // empty'",
    ),
    "backup": Command(
        "flc_udp.cli.keep.backup",
        "copy a node's log into one file, checked, whether the node is up or down",
        "flc backup /backup/ann.db\n  flc backup --force --json ann.db | jq -r .root",
    ),
    "export": Command(
        "flc_udp.cli.keep.export",
        "print the whole history as JSON lines that `flc import` can read",
        "flc export > history.jsonl\n  flc export ops | jq -r 'select(.dot) | .body'",
    ),
    "import": Command(
        "flc_udp.cli.keep.imports",
        "read an export into the data directory of a node that is down",
        "flc import history.jsonl --data /tmp/ann\n"
        "  ssh ann flc export | flc import - --data /tmp/ben",
    ),
    "ping": Command(
        "flc_udp.cli.wire.ping",
        "probe a node from outside, with round-trip statistics",
        "flc ping 127.0.0.1:7352 -c 5\n  flc ping --key-file cluster.key ben.example:7352",
    ),
    "udp": Command(
        "flc_udp.cli.wire.udp",
        "netcat for the wire: JSON lines are sent as packets, what comes is decoded to JSON lines",
        """echo '{"kind":"pull","nonce":7,"credit":4096,"graft":false,"after":0,"below":1,"""
        """"wants":[]}' | flc udp -v -w 1 127.0.0.1 7352
  flc udp -z 127.0.0.1 7352 && echo it answers
  flc udp -l 7399 | jq -c .packets
  sudo tcpdump -x -n -i any udp port 7352 | flc udp --decode --key-file cluster.key""",
    ),
    "doctor": Command(
        "flc_udp.cli.look.doctor",
        "look at what commonly goes wrong here, and on the way to a peer; exit 1 with any fail",
        "flc doctor\n  flc doctor ben.example:7352\n  flc doctor --json | jq 'select(.advice)'",
    ),
    "keygen": Command(
        "flc_udp.cli.keep.keygen",
        "print a new key for a cluster",
        "(umask 077; flc keygen > cluster.key); flc run --key-file cluster.key",
    ),
    "keys": Command(
        "flc_udp.cli.keep.keys",
        "show or change the keys of a running node: the first seals, any opens",
        "flc keys list\n"
        "  flc keygen | flc keys add\n"
        "  flc keys use 5b0c9a1e\n"
        "  flc keys remove open\n"
        "  flc keys list --json | jq -r 'select(.seals) | .id'",
    ),
    "config": Command(
        "flc_udp.cli.run.config",
        "print every setting as a file to begin with, or what is changed here",
        "flc config --example > flc.toml\n  flc config --config flc.toml",
    ),
    "completion": Command(
        "flc_udp.cli.run.completion",
        "print what makes a shell complete commands, options, rooms and members",
        "source <(flc completion bash)\n"
        "  mkdir -p ~/.zfunc && flc completion zsh > ~/.zfunc/_flc\n"
        "  flc completion fish | source",
    ),
    "demo": Command(
        "flc_udp.cli.run.demo",
        "a cluster on this machine in one terminal: chat, kill -9, catch up, equal histories",
        "flc demo\n  flc demo --nodes 5",
    ),
    "sim": Command(
        "flc_udp.cli.run.sim",
        "the same code under a virtual clock and a lossy network",
        "flc sim --nodes 50 --loss 5 --seed 7",
    ),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run `flc` with these arguments (default: the process's) and return its exit code."""
    words = sys.argv[1:] if argv is None else list(argv)
    _open_missing_streams()
    if "_ARGCOMPLETE" in os.environ:
        import_module("flc_udp.cli.run.completion").complete()
    name = _command_name(words)
    parser = command_parser(name)
    module = import_module(COMMANDS[name].module)
    call = getattr(module, f"{name}_" if iskeyword(name) else name)
    return _ended(call, parser.read(words[1:]))


def _command_name(words: Sequence[str]) -> str:
    parser = _top_parser()
    name: str = parser.read(words[:1]).command
    if name not in COMMANDS:
        parser.refuse(f"there is no command {name!r}", did_you_mean(name, list(COMMANDS)))
    return name


def _ended(call: Callable[[argparse.Namespace], int], args: argparse.Namespace) -> int:
    try:
        code = call(args)
        sys.stdout.flush()
    except FlcError as error:
        return _fail(str(error), error.hint)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        _discard_output()
        return DONE
    except OSError as error:
        is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        return _fail(str(error), FULL_HINT if is_full else SYSTEM_HINT)
    return code


def _fail(problem: str, hint: str) -> int:
    complain(problem, hint)
    with suppress(OSError, ValueError):
        _settle_output()
    return FAILED


def _settle_output() -> None:
    try:
        sys.stdout.flush()
    except OSError:  # It is the full disk, or the pipe that nobody reads.
        _discard_output()


def _discard_output() -> None:
    """Nobody reads any more: what is still buffered must not complain again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _open_missing_streams() -> None:
    """Put /dev/null where a standard stream is closed, or the next socket would take its number."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115  # a descriptor
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115  # a descriptor
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")


def _top_parser() -> Parser:
    width = max(map(len, COMMANDS))
    listing = "\n".join(f"  {name:{width}}  {c.summary}" for name, c in COMMANDS.items())
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


def command_parser(name: str) -> Parser:
    """What parses the words behind `flc NAME`: all that its help and its completion tell."""
    command = COMMANDS[name]
    parser = Parser(
        prog=f"flc {name}",
        description=f"{command.summary[0].upper()}{command.summary[1:]}.",
        epilog=f"example:\n  {command.example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        conflict_handler="resolve",  # a command may tell its own story about --data
    )
    add_arguments(parser, name)
    return parser


def add_arguments(parser: argparse.ArgumentParser, name: str) -> None:
    """Add what may be typed behind `flc NAME`."""
    parser.add_argument(
        "--data", metavar="DIR", help="the node's directory (default $FLC_DATA, then the user's)"
    )
    getattr(import_module(COMMANDS[name].module), f"add_{name}")(parser)
