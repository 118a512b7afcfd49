"""Single bits that flip in a database: `python -m tests.store.flips 200 SEED` tries so many.

Each is found by fsck and mended by the repair, or nothing that is kept has changed.
"""

from __future__ import annotations

import random
import shutil
import sqlite3
import sys
import tempfile
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from flc_udp.model.block import Block
from flc_udp.model.dots import Dot, LogId
from flc_udp.store.connections import snapshot
from flc_udp.store.directory import DataDirectory
from flc_udp.store.fsck.database import Fsck
from flc_udp.store.fsck.findings import Finding
from flc_udp.store.log import Log
from flc_udp.store.once import PAIR
from flc_udp.store.repair.fill import UNTOLD as UNNAMED
from flc_udp.store.repair.fill import Filled
from flc_udp.store.repair.repair import needs_repair, repair
from tests.model.stories import ROOMS, Story

TABLES = ("node", "log", "room", "block", "clock", "once", "past_client", "peer", "arrival")
SIZES = ((10, 20, 300), (10, 900, 5_000, 60_000))
"""Of bodies: of many small ones, and of some that need pages of their own."""

Dump = dict[str, list[tuple[Any, ...]]]


class Database(NamedTuple):
    """A database of a node that has ended, and what was said."""

    path: Path
    said: dict[Dot, Block]


def make(directory: Path, *, seed: int, pruned: int) -> Database:
    """Several logs in two rooms, large bodies, clients that number what they say."""
    chance, story = random.Random(seed), Story()
    sizes = SIZES[seed % 2]
    for number in range(360 // len(sizes)):
        author = chance.choice(("ann", "bob", "cyd", "dan"))
        if chance.random() < 0.7:
            story.hear(author, *story.said[-1:])
        size = chance.choice(sizes)
        bodies = [chance.randbytes(size // 2).hex()] * chance.choice((1, 1, 3))
        story.say(author, ROOMS[number % 2], *bodies, wall=1_000 + number)
    path = directory / "flc.db"
    log = Log.open(path)
    log.save_self(b"a node!!", 7)
    log.save_peers([(b"another!", "ben", "127.0.0.1:7353")])
    for number, block in enumerate(story.said):
        once = [(f"bot {number % 5}", number, block.dot)]
        log.append([block], once=once, wall=60_000 * number)
    if pruned:
        log.retain(arrived_before_ms=None, bytes_max=0, messages_max=pruned)
    log.close()
    return Database(path, {block.dot: block for block in story.said})


def dump(path: Path) -> Dump:
    """All that is kept in a database."""
    uri = f"file:{path}?immutable=1"
    with closing(sqlite3.connect(uri, uri=True)) as connection:
        connection.text_factory = bytes
        return {t: connection.execute(f"SELECT * FROM {t}").fetchall() for t in TABLES}  # noqa: S608


def flip(path: Path, at: int, bit: int) -> None:
    """Flip a bit of a file."""
    with path.open("r+b") as file:
        file.seek(at)
        (byte,) = file.read(1)
        file.seek(at)
        file.write(bytes([byte ^ 1 << bit]))


def findings(path: Path) -> list[Finding]:
    """What fsck finds."""
    with snapshot(path) as connection:
        return list(Fsck(connection).findings())


def mend(path: Path) -> Filled:
    """Repair as the command does."""
    directory = DataDirectory(path.parent)
    try:
        return repair(directory).filled
    finally:
        directory.release()


def check(before: Dump, said: dict[Dot, Block], path: Path, filled: Filled) -> None:
    """What has to be true after a repair; `before` is the database before it was damaged."""
    waiting = {Dot(lost.log, lost.first) for lost in filled.waiting}
    assert {(f.check, f.dot) for f in findings(path)} == {("message", dot) for dot in waiting}
    with closing(Log.open(path)) as log:
        log.load()
    after = dump(path)
    dots = {no: said_id for no, said_id, *_ in after["log"]}
    held: set[Dot] = set()
    for _, log_no, seq, count, _, _, _, encoded in after["block"]:
        dot = Dot(LogId(dots[log_no]), seq - count + 1)
        held |= {Dot(dot.log, n) for n in range(dot.seq, seq + 1)}
        assert dot in waiting or said[dot].encoded == encoded
    gone = {Dot(g.log, n) for g in filled.gone for n in range(g.first, min(g.last, 999) + 1)}
    assert messages(before) <= held | gone or UNNAMED in filled.forgotten
    check_once(before, after, filled)


def messages(dumped: Dump) -> set[Dot]:
    """The dots of what is held."""
    logs = {no: log for no, log, *_ in dumped["log"]}
    return {
        Dot(logs[log_no], n)
        for _, log_no, seq, count, *_ in dumped["block"]
        for n in range(seq - count + 1, seq + 1)
    }


def check_once(before: Dump, after: Dump, filled: Filled) -> None:
    """Whatever a client said is remembered, refused from now on, or named."""
    known = {client: said for client, said, _ in after["once"]}
    for client, said, _ in before["once"]:
        (*_, newest) = (number for number, _, _ in PAIR.iter_unpack(said))
        if client in known:
            assert max(number for number, _, _ in PAIR.iter_unpack(known[client])) == newest
        else:
            name = repr(client.decode())
            assert any(name in words or "some clients" in words for words in filled.forgotten)


def try_one(database: Database, at: int, bit: int, directory: Path) -> str:
    """Flip a bit in a copy; return what became of it."""
    path = Path(shutil.copy(database.path, directory / "flc.db"))
    before = dump(path)
    flip(path, at, bit)
    if not needs_repair(path):
        assert dump(path) == before
        return "free"
    filled = mend(path)
    check(before, database.said, path, filled)
    if filled.gone:
        return "gone"
    return "waits" if filled.waiting else "mended"


def main(count: int, seed: int) -> None:
    """Try so many."""
    chance, outcomes = random.Random(seed), Counter[str]()
    for number in range(count):
        with tempfile.TemporaryDirectory() as name:
            home = Path(name)
            (home / "good").mkdir()
            database = make(home / "good", seed=seed + number // 20, pruned=number % 3 * 30)
            (home / "bad").mkdir()
            at = chance.randrange(database.path.stat().st_size)
            try:
                outcomes[try_one(database, at, chance.randrange(8), home / "bad")] += 1
            except Exception as error:
                error.add_note(f"seed {seed}, number {number}: byte {at}")
                raise
    print(dict(outcomes))  # noqa: T201  # a script


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
