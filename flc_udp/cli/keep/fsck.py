"""`flc fsck`: checks a node's database, and says what is wrong and what to do.

Rules. The command reads the file directly, so it neither asks nor disturbs a daemon. People get a
table of the checks, and the first findings below it. `--json` prints each finding as soon as it is
found, and a summary at the end. The exit code is 1 if there is any finding.
"""

import argparse
from collections import Counter
from pathlib import Path

from flc_udp.cli import text
from flc_udp.cli.keep.repair import mend, waits
from flc_udp.client import Record
from flc_udp.config import STAMP_LIMIT
from flc_udp.model.clocks import wall_of
from flc_udp.model.errors import FlcError
from flc_udp.model.visible import visible
from flc_udp.store.connections import snapshot
from flc_udp.store.directory import DATABASE, default_directory
from flc_udp.store.fsck.database import CHECKS, Fsck
from flc_udp.store.fsck.findings import Finding
from flc_udp.store.wal import find_cut
from flc_udp.wire.message_json import rfc3339

FINDINGS_SHOWN = 5
"""People see at most this many findings of each check; the others are only counted. More findings
would hide the cause: a room's row with a wrong name is one finding, and each message of that room
is another."""


def add_fsck(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `flc fsck`."""
    parser.add_argument("--repair", action="store_true", help="mend it, after a copy; node is down")


def fsck(args: argparse.Namespace) -> None:
    """Walk the log and print the findings; raises FlcError if there are any."""
    if args.repair:
        mend(args)
        return
    path = Path(args.data or default_directory()) / DATABASE
    counts: Counter[str] = Counter()
    shown: list[Record] = []
    cut = find_cut(path)
    with snapshot(path, also_damaged=True) as connection:
        check = Fsck(connection, cut)
        for finding in check.findings():
            counts[finding.check] += 1
            record = finding_record(finding)
            if args.json:
                print(text.json_line(record).decode(), flush=True)
            elif counts[finding.check] <= FINDINGS_SHOWN:
                shown.append(record)
        if args.json:
            print(text.json_line(_summary(path, check, counts)).decode())
        else:
            print(_table(path, check, counts))
            print("".join(f"{_line(record)}\n" for record in shown), end="")
            if (more := counts.total() - len(shown)) > 0:
                print(f"and {more} more, which --json prints")
    if counts and counts.total() == check.walk.waiting:
        raise waits(counts.total(), path)
    if counts:
        way_out = (
            f"stop the node and run `flc fsck --repair --data {path.parent}`: it keeps a copy, "
            "mends what follows from sound messages, and names what is gone; members give it again"
        )
        raise FlcError(f"{text.count_text(counts.total(), 'finding')} in {path}", way_out)


def finding_record(finding: Finding) -> Record:
    """Return a finding as a record for JSON; a field that does not apply is null."""
    return {
        "check": finding.check,
        "dot": None if finding.dot is None else str(finding.dot),
        "log": None if finding.log is None else finding.log.hex(),
        "room": finding.room,
        "problem": finding.problem,
    }


def _summary(path: Path, check: Fsck, counts: Counter[str]) -> Record:
    return {
        "clean": not counts,
        "complete": check.is_complete,
        "findings": counts.total(),
        "checks": {name: counts[name] for name in CHECKS},
        "messages": check.walk.messages,
        "logs": check.rows["head"],
        "rooms": check.rows["room"],
        "floor": check.walk.base.floor,
        "pruned": check.walk.base.count,
        "path": str(path),
    }


def _table(path: Path, check: Fsck, counts: Counter[str]) -> str:
    count, messages, rows = text.count_text, check.walk.messages, check.rows
    held = (count(messages, "message"), count(rows["head"], "log"), count(rows["room"], "room"))
    lines = [f"{path}: {', '.join(held)}"]
    if floor := check.walk.base.floor:
        moment = text.time_text(rfc3339(wall_of(min(floor, STAMP_LIMIT))), local=True)
        lines.append(f"floor {floor}, {moment}: lower stamps were or will be pruned")
    if not check.is_complete:
        lines.append("not walked to the end: a check below that is not WRONG may still be wrong")
    for name, claim in _claims(check).items():
        verdict = "ok" if check.is_complete else "-"
        if counts[name]:
            verdict = f"{counts[name]} WRONG"
        lines.append(f"{name:<10}{verdict:<10}{claim}")
    return "\n".join(lines)


def _claims(check: Fsck) -> dict[str, str]:
    """Say for each check what is true if it finds nothing, with the number of things checked."""
    walk, rows, count = check.walk, check.rows, text.count_text
    gap, start, floor = "a gap", "1", "nothing was pruned"
    odd = f", but {count(walk.odd_causes, 'cause')} that a member named" if walk.odd_causes else ""
    if walk.base.floor:
        gap, start = "a gap except where messages were pruned", "where pruning ended"
        floor = f"{count(walk.base.count, 'message')} were pruned, and what is left fits"
    return {
        "file": "its pages, its indexes and its schema are sound",
        "message": f"{count(walk.messages, 'message')} can be read and are what their rows say",
        "position": f"they are in the order in which they were appended, without {gap}",
        "log": f"{count(rows['head'], 'log')} run from {start} to their head without a gap",
        "chain": "each message names the hash of the one before it in its log",
        "cause": f"{count(walk.causes, 'cause')} stand before the messages that name them",
        "stamp": f"stamps rise along every log and every cause{odd}",
        "floor": floor,
        "head": f"{count(rows['head'], 'row')} of logs follow from the messages",
        "room": f"{count(rows['room'], 'row')} of rooms follow from the messages",
        "clock": f"{count(rows['clock'], 'row')} of vector clocks and frontiers do, too",
        "once": f"{count(rows['once'], 'client')} numbered their messages",
        "node": f"{count(rows['node'], 'row')} of the node's own facts and of peers can be",
        "sum": "rows of what no message tells are as they were written",
    }


def _line(record: Record) -> str:
    places = (record["dot"] or record["log"], record["room"])
    named = [place for place in places if place is not None]
    return visible("  ".join((f"{record['check']:<8}", *named, record["problem"])))
