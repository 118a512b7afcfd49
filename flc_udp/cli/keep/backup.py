"""`flc backup`: copies a node's log, to keep the copy or to start another node from it.

Rules. The command reads the file directly, so it neither asks nor disturbs a daemon. It checks the
copy as `flc fsck` does before it gives it its name. That takes about 10 s for a million messages,
and the node does not notice it.

To restore: put the copy as `flc.db` into an empty directory (mode 0700) and start a node there,
with the keys and --join. This is another node with an id of its own. It holds what the copied node
held, and gets later messages from others; the copied node may go on, too. A copy that was put over
the `flc.db` of a node that was killed is refused, because the WAL beside it belongs to another one.
"""

import argparse
from pathlib import Path

from flc_udp.cli import text
from flc_udp.core.standing import Standing
from flc_udp.model.errors import FlcError
from flc_udp.store.backup import back_up
from flc_udp.store.directory import DATABASE, default_directory

RESTORING = """\
to restore:
  install -d -m 700 /new/dir && install -m 600 FILE /new/dir/flc.db
  flc run --data /new/dir --key-file KEYS --join HOST:PORT
It starts as another node, which holds all that is in FILE. Beside the WAL of a node
that was killed, FILE is refused: put it into an empty directory."""


def add_backup(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `flc backup FILE`."""
    parser.add_argument("file", metavar="FILE", help="write this SQLite file, for its owner alone")
    parser.add_argument("--force", action="store_true", help="replace FILE if it exists")
    parser.epilog = f"{parser.epilog}\n\n{RESTORING}"


def backup(args: argparse.Namespace) -> None:
    """Copy the log and print what is in the copy, as `flc digest` would."""
    if args.file == "-":
        hint = "write a file first and send that: flc backup FILE && cat FILE; or use flc export"
        raise FlcError("a copy cannot go to stdout, because it is checked before it is kept", hint)
    source = Path(args.data or default_directory()) / DATABASE
    made = back_up(source, Path(args.file), replace=args.force)
    standing = Standing(made.history.heads)
    record = {
        "messages": standing.messages,
        "bytes": made.size_bytes,
        "root": standing.table.root.hex(),
        "path": args.file,
    }
    messages = text.count_text(standing.messages, "message")
    line = f"{messages}, {made.size_bytes} bytes, root {record['root']}"
    print(text.json_line(record).decode() if args.json else line)
