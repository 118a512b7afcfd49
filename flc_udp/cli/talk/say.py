"""`flc say`: says one message, and prints its dot once it is durable."""

import argparse
import getpass
import sys
from typing import Literal

from flc_udp.cli.connect import with_daemon
from flc_udp.cli.conventions import DONE, SILENT, complain, seconds, whole
from flc_udp.client import Client
from flc_udp.config import BODY_BYTES_MAX
from flc_udp.model.errors import FlcError
from flc_udp.model.visible import visible


def add_say(parser: argparse.ArgumentParser) -> None:
    """`flc say ROOM TEXT...`."""
    flag = parser.add_argument
    flag("room", metavar="ROOM")
    flag("words", metavar="TEXT", nargs="+", help="joined by a space; - is all of stdin")
    add_author(parser)
    waited_for = "wait until N other nodes hold it durably, too"
    flag("--wait", metavar="N|all", type=_nodes, help=waited_for)
    longest = "the longest wait (default 10); exit 3 when it is over"
    flag("--timeout", metavar="SECS", type=seconds, default=10.0, help=longest)


def add_author(parser: argparse.ArgumentParser) -> None:
    """`--as NAME`, which defaults to the login name."""
    who = "who speaks (default: you)"
    parser.add_argument("--as", dest="author", metavar="NAME", default=_login(), help=who)


def say(args: argparse.Namespace) -> int | None:
    """Say it; exit 3 when `--wait` was not reached in time."""

    async def use(client: Client) -> int:
        body, timeout_s = _body(args.words), None if args.wait is None else args.timeout
        said = await client.say(
            args.room, body, author=args.author, wait=args.wait, timeout=timeout_s
        )
        print(said.dot, flush=True)
        missing = ", ".join(said.missing)
        if said.timed_out:
            hint = "it is durable here and goes on to them: see `flc members`, `flc status`"
            complain(f"not held by {missing} in {args.timeout:g} s", hint)
            return SILENT
        if missing:
            # These died or left meanwhile: nobody waits for them, but they are named.
            print(f"not held by {visible(missing)}", file=sys.stderr)
        return DONE

    return with_daemon(args, use)


def decoded(data: bytes) -> str | bytes:
    """Return text where the data is UTF-8, else the bytes as they are."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def _body(words: list[str]) -> str | bytes:
    if words != ["-"]:
        # Bytes that the shell passed and that are no UTF-8 stand in the words as lone surrogates.
        return decoded(" ".join(words).encode(errors="surrogateescape"))
    data = sys.stdin.buffer.read(BODY_BYTES_MAX + 1)
    if len(data) > BODY_BYTES_MAX:
        problem = f"stdin has more than {BODY_BYTES_MAX} bytes, which no node accepts"
        raise FlcError(problem, "say it in pieces, or say where it is")
    return decoded(data)


def _nodes(words: str) -> int | Literal["all"]:
    try:
        return "all" if words == "all" else whole(words)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{error}, nor is it all") from error


def _login() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # Neither the environment nor the system has a name.
        return "anonymous"
