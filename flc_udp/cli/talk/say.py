"""`flc say`: one message, and its dot once it is durable."""

from __future__ import annotations

import argparse
import getpass
import sys
from typing import Literal

from flc_udp.cli.arguments import seconds
from flc_udp.cli.complaint import complain
from flc_udp.cli.connect import with_daemon
from flc_udp.cli.text import visible
from flc_udp.client import Client
from flc_udp.config import BODY_BYTES_MAX
from flc_udp.model.errors import FlcError

NOT_IN_TIME = 3
"""Exit code: said and durable here, but not on as many nodes as asked for."""


def add_say(parser: argparse.ArgumentParser) -> None:
    """`flc say ROOM TEXT...`."""
    parser.add_argument("room", metavar="ROOM")
    parser.add_argument(
        "words", metavar="TEXT", nargs="+", help="joined by a space; - is stdin, whole"
    )
    add_author(parser)
    parser.add_argument(
        "--wait", metavar="N|all", type=_nodes, help="until N other nodes hold it durably, too"
    )
    parser.add_argument(
        "--timeout",
        metavar="SECS",
        type=seconds,
        default=10.0,
        help="the longest wait (default 10); exit 3 when it is over",
    )


def add_author(parser: argparse.ArgumentParser) -> None:
    """`--as NAME`, which defaults to the login name."""
    parser.add_argument(
        "--as", dest="author", metavar="NAME", default=_login(), help="who speaks (default: you)"
    )


def say(args: argparse.Namespace) -> int:
    """Say it; exit 3 when `--wait` was not reached in time."""

    async def use(client: Client) -> int:
        said = await client.say(
            args.room,
            _body(args.words),
            author=args.author,
            wait=args.wait,
            timeout=None if args.wait is None else args.timeout,
        )
        print(said.dot, flush=True)
        missing = ", ".join(said.missing)
        if said.timed_out:
            complain(
                f"not held by {missing} in {args.timeout:g} s",
                "it is durable here and goes on to them: see `flc members`, `flc status`",
            )
        elif missing:
            # Some may have died or left meanwhile: nobody waits for those, but they are named.
            print(f"not held by {visible(missing)}", file=sys.stderr)
        return NOT_IN_TIME if said.timed_out else 0

    return with_daemon(args, use)


def decoded(data: bytes) -> str | bytes:
    """Text where it is UTF-8, else the bytes as they are."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def _body(words: list[str]) -> str | bytes:
    if words != ["-"]:
        # What the shell passed that is no UTF-8 came as lone surrogates.
        return decoded(" ".join(words).encode(errors="surrogateescape"))
    data = sys.stdin.buffer.read(BODY_BYTES_MAX + 1)
    if len(data) > BODY_BYTES_MAX:
        raise FlcError(
            f"stdin has more than {BODY_BYTES_MAX} bytes, which no node accepts",
            "say it in pieces, or say where it is",
        )
    return decoded(data)


def _nodes(text: str) -> int | Literal["all"]:
    if text == "all":
        return "all"
    if text.isascii() and text.isdecimal():
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is neither a number of nodes nor all")


def _login() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # no name in the environment nor for the user id
        return "anonymous"
