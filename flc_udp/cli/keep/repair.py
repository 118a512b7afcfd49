"""`flc fsck --repair`: mends the database of a node that is down, and says what is gone.

Rules. The directory is locked as a daemon locks it. A database in which nothing is wrong is not
touched. One line, or one JSON object, names each message that is gone, each block that waits for
its bytes, and what else is not known any more. Then the copy of what was there is named. The exit
code is 1 if the database could not be mended, or waits for other members.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

from flc_udp.cli import text
from flc_udp.client import Record
from flc_udp.config import BODIES_MAX
from flc_udp.model.dots import Dot
from flc_udp.model.errors import FlcError
from flc_udp.model.visible import visible
from flc_udp.store.directory import DATABASE, DataDirectory, default_directory
from flc_udp.store.files import DatabaseFiles
from flc_udp.store.repair.fill import Filled
from flc_udp.store.repair.rebuild import Lost
from flc_udp.store.repair.repair import needs_repair, repair


def mend(args: argparse.Namespace) -> None:
    """Repair what is damaged; raises FlcError if that cannot be, or if blocks are waited for."""
    path = Path(args.data or default_directory())
    DatabaseFiles(path / DATABASE).check_presence()
    if not (path / DATABASE).is_file():
        hint = "name a node's data directory with --data; to begin anew: flc run --join"
        raise FlcError(f"there is no log at {path / DATABASE}", hint)
    directory = DataDirectory(path)
    try:
        if not needs_repair(directory.database):
            summary: Record = {"clean": True, "copy": None, "gone": 0, "waiting": 0}
            words = f"{directory.database}: nothing is to be mended, and nothing was changed"
            print(text.json_line(summary).decode() if args.json else words)
            return
        repaired = repair(directory)
    finally:
        directory.release()
    for record in records(repaired.filled):
        print(text.json_line(record).decode() if args.json else _line(record))
    gone = sum(lost.last - lost.first + 1 for lost in repaired.filled.gone)
    waiting = len(repaired.filled.waiting)
    summary = {"clean": not waiting, "copy": str(repaired.copy), "gone": gone, "waiting": waiting}
    words = f"mended: {text.count_text(gone, 'message')} gone; as it was, it is in {repaired.copy}"
    print(text.json_line(summary).decode() if args.json else words)
    if waiting:
        raise waits(waiting, directory.database)


def waits(count: int, path: Path) -> FlcError:
    """Return the error that so many blocks have no bytes yet."""
    verb = "waits for its" if count == 1 else "wait for their"
    return FlcError(
        f"{text.count_text(count, 'block')} in {path} {verb} bytes",
        "start the node: it asks other members for them; all else is sound",
    )


def records(filled: Filled) -> Iterator[Record]:
    """What is not as it was, as records for JSON; a field that does not apply is null."""
    for lost in filled.gone:
        for first, last in _dots(lost):
            yield _record("gone", lost.why, lost, first, last)
    for lost in filled.waiting:
        yield _record("waits", lost.why, lost, lost.first, lost.last)
    for words in filled.forgotten:
        yield _record("forgotten", words)


def _record(
    fate: str, problem: str, lost: Lost | None = None, first: int = 0, last: int | None = None
) -> Record:
    dot = str(Dot(lost.log, first)) if lost else None
    room = lost.room if lost else None
    return {"fate": fate, "dot": dot, "last": last, "room": room, "problem": problem}


def _dots(lost: Lost) -> list[tuple[int, int]]:
    """Message by message. If only a log's row tells of so many, it is one line."""
    if lost.last - lost.first >= BODIES_MAX:
        return [(lost.first, lost.last)]
    return [(seq, seq) for seq in range(lost.first, lost.last + 1)]


def _line(record: Record) -> str:
    dot, last = record["dot"], record["last"]
    if dot is not None and not dot.endswith(f":{last}"):
        dot = f"{dot} to {last}"
    named = [word for word in (record["fate"], dot, record["room"], record["problem"]) if word]
    return visible("  ".join(named))
