"""`flc fsck`: checks a node's database, and says what is wrong and what to do.

Rules. The command reads the file directly, so it neither asks nor disturbs a daemon. People get a
table of the checks, and the first findings below it. `--json` prints each finding as soon as it is
found, and a summary at the end. The exit code is 1 if there is any finding.
"""

from __future__ import annotations

import argparse
import os
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from flc_udp.cli import text
from flc_udp.client import Record, compact
from flc_udp.config import STAMP_LIMIT
from flc_udp.model.clocks import wall_of
from flc_udp.model.errors import FlcError
from flc_udp.store.directory import DATABASE, default_directory
from flc_udp.store.fsck.database import CHECKS, Fsck
from flc_udp.store.fsck.findings import Finding
from flc_udp.store.snapshot import snapshot

FINDINGS_SHOWN = 5
"""People see at most this many findings of each check; the others are only counted. More findings
would hide the cause: a room's row with a wrong name is one finding, and each message of that room
is another."""


def add_fsck(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `flc fsck`."""
    parser.add_argument(
        "--json", action="store_true", help="print a JSON object for each finding, then a summary"
    )


def fsck(args: argparse.Namespace) -> int:
    """Walk the log and print the findings; raises FlcError if there are any."""
    directory = Path(args.data or default_directory(os.environ))
    path = directory / DATABASE
    counts: Counter[str] = Counter()
    with snapshot(path) as connection:
        check = Fsck(connection)
        findings = _counted(check.findings(), counts)
        if args.json:
            for finding in findings:
                print(compact(finding_record(finding)), flush=True)
            print(compact(_summary(path, check, counts)))
        else:
            shown = [f for f in findings if counts[f.check] <= FINDINGS_SHOWN]
            print(_table(path, check, counts))
            print("".join(f"{_line(finding)}\n" for finding in shown), end="")
            if (more := counts.total() - len(shown)) > 0:
                print(f"and {more} more, which --json prints")
    if counts:
        raise FlcError(f"{_count(counts.total(), 'finding')} in {path}", _way_out(directory))
    return 0


def finding_record(finding: Finding) -> Record:
    """Return a finding as a record for JSON; a field that does not apply is null."""
    return {
        "check": finding.check,
        "dot": None if finding.dot is None else str(finding.dot),
        "log": None if finding.log is None else finding.log.hex(),
        "room": finding.room,
        "problem": finding.problem,
    }


def _counted(findings: Iterator[Finding], counts: Counter[str]) -> Iterator[Finding]:
    for finding in findings:
        counts[finding.check] += 1
        yield finding


def _way_out(directory: Path) -> str:
    return (
        f"stop the node, move {directory} aside and start a new node with the keys and --join:"
        " it catches up; what only this node held is then only in the moved directory"
    )


def _summary(path: Path, check: Fsck, counts: Counter[str]) -> Record:
    return {
        "clean": not counts,
        "complete": check.is_complete,
        "findings": counts.total(),
        "checks": {name: counts[name] for name in CHECKS},
        "messages": check.walk.messages if check.walk else 0,
        "logs": check.rows["head"],
        "rooms": check.rows["room"],
        "floor": check.walk.base.floor if check.walk else 0,
        "pruned": check.walk.base.count if check.walk else 0,
        "path": str(path),
    }


def _table(path: Path, check: Fsck, counts: Counter[str]) -> str:
    messages = check.walk.messages if check.walk else 0
    logs, rooms = check.rows["head"], check.rows["room"]
    heads = (_count(messages, "message"), _count(logs, "log"), _count(rooms, "room"))
    lines = [f"{path}: {', '.join(heads)}"]
    if check.walk and (floor := check.walk.base.floor):
        lines.append(f"floor {floor}, {_wall(floor)}: lower stamps were or will be pruned")
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
    messages = check.walk.messages if check.walk else 0
    causes = check.walk.causes if check.walk else 0
    rows = check.rows
    gap, start, floor = "a gap", "1", "nothing was pruned"
    if check.walk and check.walk.base.floor:
        gap, start = "a gap except where messages were pruned", "where pruning ended"
        floor = f"{_count(check.walk.base.count, 'message')} were pruned, and what is left fits"
    return {
        "file": "its pages, its indexes and its schema are sound",
        "message": f"{_count(messages, 'message')} can be read and are what their rows say",
        "position": f"they are in the order in which they were appended, without {gap}",
        "log": f"{_count(rows['head'], 'log')} run from {start} to their head without a gap",
        "chain": "each message names the hash of the one before it in its log",
        "cause": f"{_count(causes, 'cause')} stand before the messages that name them",
        "stamp": "stamps rise along every log and every cause",
        "floor": floor,
        "head": f"{_count(rows['head'], 'row')} of logs follow from the messages",
        "room": f"{_count(rows['room'], 'row')} of rooms follow from the messages",
        "clock": f"{_count(rows['clock'], 'row')} of vector clocks and frontiers do, too",
        "once": f"{_count(rows['once'], 'client')} numbered their messages",
    }


def _line(finding: Finding) -> str:
    places = [str(finding.dot)] if finding.dot else [finding.log.hex()] if finding.log else []
    places += [finding.room] if finding.room is not None else []
    return text.visible("  ".join((f"{finding.check:<8}", *places, finding.problem)))


def _wall(stamp: int) -> str:
    wall_ms = wall_of(min(stamp, STAMP_LIMIT))
    return f"{datetime.fromtimestamp(wall_ms / 1_000, UTC).astimezone():%Y-%m-%d %H:%M:%S}"


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"
