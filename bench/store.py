"""What the log costs against plain SQLite on the same disk, in the same minute.

    python bench/store.py              rates, restart and reads
    python bench/store.py --layouts    other tables and indexes that were weighed

Everything is WAL with synchronous=FULL, messages have bodies of 100 bytes, and each figure is the
median of its runs. Plain SQLite is measured twice. `bare`, a table of bytes without any index, is
the most that SQLite can do; `keyed`, with a key by (log, seq) and an index by (room, stamp), is the
least that a chat log in SQLite has to do.
"""

from __future__ import annotations

import argparse
import random
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import harness

from flc_udp.model.block import Block, Origin, pack_body, write
from flc_udp.model.clocks import next_stamp
from flc_udp.model.dots import Dot
from flc_udp.model.history import NO_HEAD, Head
from flc_udp.store.log import Log, Reader

OPTIONS = {
    "--layouts": (False, "weigh other layouts, too, and leave the reads out"),
    "--messages": (1_000_000, "messages of the large log"),
    "--bodies": (1, "messages a block of the log; the plain tables have a row a message"),
    "--runs": (3, "runs of each rate; the median counts"),
    "--dir": ("", "directory for the databases; without it the system's for temporary files"),
}
BODY = "x" * 100
WALL_MS = 1_700_000_000_000
BATCHES = (10, 100, 1_000)
FILL_BATCH = 10_000


class Layout(NamedTuple):
    """A way to keep messages: its tables, and a row's fields."""

    tables: str
    row: Callable[[int, Block], tuple[Any, ...]]


NUMBERED = """CREATE TABLE message (position INTEGER PRIMARY KEY, log_no INTEGER, seq INTEGER,
    stamp INTEGER, room_no INTEGER, encoded BLOB);"""
DOT = "CREATE UNIQUE INDEX dot ON message (log_no, seq);"


def numbered(position: int, m: Block) -> tuple[Any, ...]:
    """A row with logs and rooms as small numbers."""
    return position, m.log[0], m.last, m.stamp, int(m.room[4:]), m.encoded


PLAIN = {
    "bare": Layout(
        "CREATE TABLE message (position INTEGER PRIMARY KEY, encoded BLOB)",
        lambda position, m: (position, m.encoded),
    ),
    "keyed": Layout(
        """CREATE TABLE message (log BLOB, seq INTEGER, room TEXT, stamp INTEGER, encoded BLOB,
           PRIMARY KEY (log, seq)) WITHOUT ROWID; CREATE INDEX h ON message (room, stamp)""",
        lambda _, m: (m.log, m.last, m.room, m.stamp, m.encoded),
    ),
}
WEIGHED = {
    "dot": Layout(NUMBERED + DOT, numbered),
    "dot + (stamp, room), chosen": Layout(
        NUMBERED + DOT + "CREATE INDEX h ON message (stamp, room_no)", numbered
    ),
    "dot + (room, stamp)": Layout(
        NUMBERED + DOT + "CREATE INDEX h ON message (room_no, stamp)", numbered
    ),
    "dot + (stamp) + (room, stamp)": Layout(
        NUMBERED
        + DOT
        + "CREATE INDEX h ON message (stamp); CREATE INDEX r ON message (room_no, stamp)",
        numbered,
    ),
    "key (log, seq) without rowid": Layout(
        """CREATE TABLE message (position INTEGER UNIQUE, log_no INTEGER, seq INTEGER,
           stamp INTEGER, room_no INTEGER, encoded BLOB, PRIMARY KEY (log_no, seq)) WITHOUT ROWID;
           CREATE INDEX h ON message (room_no, stamp)""",
        numbered,
    ),
}


def blocks(logs: int, rooms: int, bodies: int = 1) -> Iterator[Block]:
    """Causally valid blocks without end: each has its room's last message as its cause."""
    chance = random.Random(1)
    ids = [bytes([n % 256]) + chance.randbytes(7) for n in range(logs)]
    heads: dict[bytes, Head] = {}
    last: dict[str, Block] = {}
    packed = [pack_body(BODY)] * bodies
    wall = WALL_MS
    while True:
        wall += 1
        log, room = chance.choice(ids), f"room{chance.randrange(rooms)}"
        head, cause = heads.get(log, NO_HEAD), last.get(room)
        block = write(
            log=log,
            first=head.seq + 1,
            room=room,
            author="ann",
            wall=wall,
            stamp=next_stamp(wall, head.stamp, cause.stamp if cause else 0),
            causes=(Dot(cause.log, cause.last),) if cause and cause.log != log else (),
            parent=head.hash,
            bodies=packed,
            origin=None if head.seq else Origin(bytes(8), "bench"),
        )
        heads[log] = Head(block.last, block.hash, block.stamp)
        last[room] = block
        yield block


def timed(work: Callable[[], object]) -> float:
    """Seconds that `work` took."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def batches(said: Sequence[Block], size: int) -> Iterator[Sequence[Block]]:
    """Cut into batches of one transaction each."""
    return (said[at : at + size] for at in range(0, len(said), size))


def plain_seconds(path: Path, layout: Layout, said: Sequence[Block], size: int) -> float:
    """Append to plain tables."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.executescript(
        f"PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; {layout.tables}"
    )
    rows = [layout.row(*numbered) for numbered in enumerate(said, 1)]
    insert = f"INSERT INTO message VALUES ({', '.join('?' * len(rows[0]))})"  # noqa: S608  # marks

    def work() -> None:
        for at in range(0, len(rows), size):
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(insert, rows[at : at + size])
            connection.execute("COMMIT")

    seconds = timed(work)
    connection.close()
    return seconds


def log_seconds(path: Path, said: Sequence[Block], size: int) -> float:
    """Append to the log, with all that it keeps beside the messages."""
    log = Log.open(path)
    seconds = timed(lambda: [log.append(batch) for batch in batches(said, size)])
    log.close()
    return seconds


def rates(
    directory: Path, layouts: dict[str, Layout], runs: int, bodies: int
) -> dict[str, dict[int, int]]:
    """Messages a second at each batch size; the variants take turns, so all see the same disk."""
    said = list(islice(blocks(logs=10, rooms=5), 200_000))
    grouped = list(islice(blocks(logs=10, rooms=5, bodies=bodies), 200_000 // bodies))
    found: dict[str, dict[int, int]] = {name: {} for name in ("log", *layouts)}
    for size in BATCHES:
        part = said[: size * 1_000]
        seconds: dict[str, list[float]] = {name: [] for name in found}
        for run in range(runs):
            for name in found:
                with tempfile.TemporaryDirectory(dir=directory) as fresh:
                    path = Path(fresh) / "bench.db"
                    took = (
                        plain_seconds(path, layouts[name], part, size)
                        if name in layouts
                        else log_seconds(
                            path, grouped[: len(part) // bodies], max(size // bodies, 1)
                        )
                    )
                seconds[name].append(took)
                harness.progress(f"batch {size}, run {run + 1}: {name} {len(part) / took:,.0f}/s")
        for name, times in seconds.items():
            found[name][size] = round(len(part) / statistics.median(times))
    return found


def fill(path: Path, count: int, logs: int, rooms: int, bodies: int = 1) -> None:
    """Write a large log, which belongs to no node yet."""
    log = Log.open(path)
    source = blocks(logs, rooms, bodies)
    for done in range(0, count, FILL_BATCH):
        log.append(list(islice(source, min(FILL_BATCH, count - done) // bodies)))
        harness.progress("filling", done, count)
    log.close()
    harness.progress(f"filled with {count:,} messages")


def median_us(reads: Sequence[Callable[[], object]]) -> float:
    """The median of their times, in microseconds."""
    return round(statistics.median(map(timed, reads)) * 1e6, 1)


def reads(reader: Reader, logs: Sequence[tuple[bytes, int]]) -> dict[str, float]:
    """p50 of each read on a large log, in microseconds."""
    chance = random.Random(2)
    some = [chance.choice(logs) for _ in range(500)]
    end = reader.last_position()
    places = [chance.randrange(end) for _ in range(300)]
    widths = [(log, max(1, seq - 10), seq) for log, seq in some]

    def each(times: int, read: Callable[[], object]) -> float:
        return median_us([read] * times)

    return {
        "block": median_us([lambda d=d: reader.block(Dot(*d)) for d in some]),
        "replay 1 log, 11 messages": median_us(
            [lambda s=s: reader.replay([s], 1 << 17) for s in widths]
        ),
        "replay 200 logs, 128 KiB": each(20, lambda: reader.replay(widths[:200], 1 << 17)),
        "after 100": median_us([lambda p=p: reader.after(p, None, 100) for p in places]),
        "after 100 of a room": median_us(
            [lambda p=p: reader.after(p, "room7", 100) for p in places]
        ),
        "before_last 10": each(300, lambda: reader.before_last(None, 10)),
        "before_last 10 of a room": each(300, lambda: reader.before_last("room7", 10)),
        "history last 20": each(100, lambda: list(reader.history(None, last=20))),
        "history last 20 of a room": each(100, lambda: list(reader.history("room7", last=20))),
        "dot_at": median_us([lambda p=p: reader.dot_at(p) for p in places]),
        "last_position": each(300, reader.last_position),
        "rooms": each(20, reader.rooms),
        "clock": each(20, lambda: reader.clock("room7")),
        "counts": each(100, reader.counts),
    }


def restart(directory: Path, count: int, bodies: int) -> dict[str, Any]:
    """Open and load a large log, then read from it."""
    path = directory / "large.db"
    fill(path, count, logs=2_000, rooms=50, bodies=bodies)
    log = Log.open(path)
    load_s = timed(log.load)
    logs = [(i, head.seq) for i, head in log.load().heads.items()]
    log.close()

    open_s = timed(lambda: Log.open(path).load())
    harness.progress("reading")
    log = Log.open(path)
    reader = log.reader()
    walk_s = timed(lambda: sum(1 for _ in reader.history(None)))
    found = {
        "messages": count,
        "logs": len(logs),
        "bytes_per_message": round(path.stat().st_size / count),
        "open_and_load_ms": round(open_s * 1e3, 1),
        "load_ms": round(load_s * 1e3, 1),
        "history_messages_per_s": round(count / walk_s),
        "reads_p50_us": reads(reader, logs),
    }
    reader.close()
    log.close()
    return found


def tell(result: harness.Result) -> None:
    """Print the figures for people."""
    print(f"{'messages/s, FULL':34}" + "".join(f"{f'batch {n}':>22}" for n in BATCHES))
    for name, row in result["rates"].items():
        cells = (f"{rate:,} ({rate / result['rates']['keyed'][n]:.2f})" for n, rate in row.items())
        print(f"{name:34}" + "".join(f"{cell:>22}" for cell in cells))
    print("in brackets: against `keyed` of this run")
    for key, value in result.get("restart", {}).items():
        for name, number in value.items() if isinstance(value, dict) else [(key, value)]:
            print(f"{name:34}{number:>14,}")


def _measure(args: argparse.Namespace) -> harness.Result:
    with tempfile.TemporaryDirectory(dir=args.dir or None) as name:
        layouts = PLAIN | (WEIGHED if args.layouts else {})
        result: harness.Result = {"rates": rates(Path(name), layouts, args.runs, args.bodies)}
        for plain in PLAIN:
            result[f"ratio_to_{plain}"] = {
                n: round(rate / result["rates"][plain][n], 3)
                for n, rate in result["rates"]["log"].items()
            }
        if not args.layouts:
            result["restart"] = restart(Path(name), args.messages, args.bodies)
    return result


if __name__ == "__main__":
    harness.run_bench(__doc__, OPTIONS, _measure, show=tell)
