"""`flc backup`: a copy of a node's log to keep, or to start another node from.

Rules. The file is read directly, so no daemon is asked and none is disturbed. The copy is walked as
`flc fsck` walks before it gets its name: about 10 s a million messages, of which the node sees
nothing.

To restore: put the file as `flc.db` into an empty directory (mode 0700) and start a node on it,
with the keys and --join. It is another node, with an id of its own, that holds what the copied one
held; what was said since comes from others, and the copied node may go on as well. Never over an
old `flc.db`: what is left of that one's WAL would be played into the copy.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from flc_udp.client import compact
from flc_udp.core.standing import Standing
from flc_udp.model.errors import FlcError
from flc_udp.store.backup import back_up
from flc_udp.store.directory import DATABASE, default_directory

RESTORING = """\
to restore:
  install -d -m 700 /new/dir && install -m 600 FILE /new/dir/flc.db
  flc run --data /new/dir --key-file KEYS --join HOST:PORT
It starts as another node, which holds all that is in FILE. Never put FILE over an
old flc.db: what is left of that one's WAL would be played into it."""


def add_backup(parser: argparse.ArgumentParser) -> None:
    """`flc backup FILE`."""
    parser.add_argument("file", metavar="FILE", help="one SQLite file, for its owner alone")
    parser.add_argument("--force", action="store_true", help="replace FILE where there is one")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.epilog = f"{parser.epilog}\n\n{RESTORING}"


def backup(args: argparse.Namespace) -> int:
    """Copy it and print what is in the copy, as `flc digest` would."""
    if args.file == "-":
        raise FlcError(
            "a copy is checked before it is kept, which stdout cannot be",
            "name a file and send that: flc backup FILE && cat FILE; or: flc export",
        )
    source = Path(args.data or default_directory(os.environ)) / DATABASE
    made = back_up(source, Path(args.file), replace=args.force)
    standing = Standing(made.history.heads)
    record = {
        "messages": standing.messages,
        "bytes": made.size_bytes,
        "root": standing.root.value().hex(),
        "path": args.file,
    }
    if args.json:
        print(compact(record))
    else:
        print("{messages} messages, {bytes} bytes, root {root}".format_map(record))
    return 0
