"""`flc keygen` and `flc keys`: make a key; show or change the keys of a running node.

Of a node's keys the first one seals, and any of them opens. `flc keys` changes only the node whose
control socket it talks to. To change the key of a cluster, do each step on all nodes before the
next step: `add` the new key, then `use` it, then `remove` the old one. So every node can always
open what another one sealed.

A secret comes from a file or from stdin, never from the command line, which `ps` shows to all.
"""

import argparse
import getpass
import sys
from pathlib import Path

from flc_udp.cli import text
from flc_udp.cli.connect import with_daemon
from flc_udp.client import Client, Record
from flc_udp.model.errors import FlcError
from flc_udp.model.visible import some_of

STDIN = "-"

KEY_HINT = "one base64 key of 32 bytes, as `flc keygen` prints it, is allowed"


def keygen(_args: argparse.Namespace) -> None:
    """Print a new key, in base64."""
    from flc_udp.wire.seal import make_key  # This imports ciphers, which takes a while.

    print(make_key())


def add_keys(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `flc keys list|add|use|remove`."""
    flag = parser.add_argument
    what = "list: show the keys; add: a key opens; use: a key seals; remove: a key is deleted"
    flag("action", metavar="ACTION", choices=("list", "add", "use", "remove"), help=what)
    which = "for add, a file with the key (default: stdin); for use and remove, its id or open"
    flag("key", metavar="KEY", nargs="?", help=which)
    what = "remove a key although members may still seal under it: they are cut off"
    flag("--force", action="store_true", help=what)
    parser.set_defaults(misused=parser.error)


def keys(args: argparse.Namespace) -> int | None:
    """Do the action; then print the keys if asked for, or the id of the added key."""
    if args.action in ("use", "remove") and args.key is None:
        args.misused(f"{args.action} takes the id of a key: see `flc keys list`")
    if args.action == "list" and args.key is not None:
        args.misused("list takes no key")
    if args.force and args.action != "remove":
        args.misused("--force is for remove")
    key = read_line(args.key or STDIN) if args.action == "add" else args.key
    change = {} if args.action == "list" else {args.action: key}
    if args.force:
        change["force"] = True

    async def use(client: Client) -> None:
        stream = client.stream("keys", **change)
        ring = [record["item"] async for record in stream]
        if args.json:
            print(b"\n".join(map(text.json_line, ring)).decode())
        elif args.action == "list":
            print(ring_table(ring))
        elif args.action == "add":
            print(stream.end["key"])

    return with_daemon(args, use)


def read_line(file: str) -> str:
    """Read the one key of a file or of stdin, which the node will check; raises FlcError."""
    where = "stdin" if file == STDIN else f"key file {file}"
    try:
        if file == STDIN and sys.stdin.isatty():
            found = getpass.getpass("key: ", sys.stderr)  # It does not show what is typed.
        else:
            found = sys.stdin.read() if file == STDIN else Path(file).read_text("ascii")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not ASCII text"
        raise FlcError(f"cannot read {where}: {reason}", KEY_HINT) from error
    lines = [line.partition("#")[0].strip() for line in found.splitlines()]
    held = [line for line in lines if line]
    if len(held) != 1:
        raise FlcError(f"{where} holds {len(held) or 'no'} key{'s' * (len(held) > 1)}", KEY_HINT)
    return held[0]


def ring_table(ring: list[Record]) -> str:
    """Write a line for each key: whether it seals, and which members were last heard under it."""
    rows = []
    for item in ring:
        names = item["heard"]
        heard = f"{len(names)}: {some_of(names)}" if names else "0"
        rows.append((item["id"], "yes" if item["seals"] else "-", heard))
    return text.table(("ID", "SEALS", "HEARD UNDER IT"), rows)
