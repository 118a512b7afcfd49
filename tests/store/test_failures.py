import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import flc_udp
from flc_udp.model.dots import parse_dot
from flc_udp.model.errors import FlcError, StoreFailed
from flc_udp.store.log import Log
from flc_udp.store.schema import APPLICATION_ID, MIGRATIONS
from tests.store.disks import files_no_larger_than

Authors = Any  # the class of the fixture: a conftest cannot be imported

ROOT = Path(flc_udp.__file__).parents[1]

APPENDS_FOR_EVER = """
import sys
from flc_udp.model.block import NO_PARENT, Origin, pack_body, write
from flc_udp.store.log import Log

log, parent, seq = Log.open(sys.argv[1]), NO_PARENT, 0
while True:
    batch = []
    for seq in range(seq + 1, seq + 4):
        batch.append(write(
            log=b"8 bytes!", first=seq, room="lobby", author="ann", wall=seq, stamp=seq << 16,
            causes=(), parent=parent, bodies=[pack_body("hi")],
            origin=Origin(b"a node!!", "a") if seq == 1 else None,
        ))
        parent = batch[-1].hash
    log.append(batch)
    for message in batch:
        print(message.dot, flush=True)
"""


def test_a_full_disk_keeps_nothing_and_loses_nothing(log: Log, authors: Authors) -> None:
    """Append fails whole when there is no space, and works again once there is."""
    log.append([authors.say("ann")])
    batch = [authors.say("ann", body="x" * 3_000) for _ in range(50)]
    connection = log.connection  # the fault is in its disk
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages + 5}")
    with pytest.raises(StoreFailed, match="append: database or disk is full"):
        log.append(batch)
    assert log.load().heads[authors.log("ann")].seq == 1
    log.recover()
    assert log.append(batch) == 2
    assert log.load().heads[authors.log("ann")].seq == 51


def test_an_io_error_keeps_nothing_and_loses_nothing(
    tmp_path: Path, log: Log, authors: Authors
) -> None:
    """Append fails whole when the disk refuses a write, and works again once it does not."""
    log.append([authors.say("ann")])
    batch = [authors.say("ann", body="x" * 3_000) for _ in range(50)]
    size = (tmp_path / "flc.db-wal").stat().st_size
    with files_no_larger_than(size), pytest.raises(StoreFailed, match="append: disk I/O error"):
        log.append(batch)
    log.recover()
    assert log.load().heads[authors.log("ann")].seq == 1
    assert log.append(batch) == 2


def test_a_lost_file_is_no_empty_log(tmp_path: Path, log: Log, authors: Authors) -> None:
    """Recovering without the file fails, again and again, rather than beginning a new log."""
    log.append([authors.say("ann")])
    for name in ("flc.db", "flc.db-wal", "flc.db-shm"):
        (tmp_path / name).rename(tmp_path / f"lost-{name}")
    for _ in range(2):
        with pytest.raises(StoreFailed, match="recover: "):
            log.recover()
        with pytest.raises(StoreFailed, match="append: "):
            log.append([])
    assert not (tmp_path / "flc.db").exists()
    for name in ("flc.db", "flc.db-wal", "flc.db-shm"):
        if (tmp_path / f"lost-{name}").exists():
            (tmp_path / f"lost-{name}").rename(tmp_path / name)
    log.recover()
    assert log.load().heads[authors.log("ann")].seq == 1


@pytest.mark.parametrize("cut", [1, 100, 4_000, 5_000, 9_000, 20_000])
def test_a_commit_torn_by_power_loss_never_was(
    tmp_path: Path, log: Log, authors: Authors, cut: int
) -> None:
    """Where the end of the WAL is missing, whole commits are missing, and no parts of them."""
    ends = {0}
    for n in range(1, 6):
        log.append([authors.say("ann", body="x" * 900) for _ in range(n)])
        ends.add(len(authors.said))
    copy = tmp_path / "copy.db"
    shutil.copy(tmp_path / "flc.db", copy)
    wal = (tmp_path / "flc.db-wal").read_bytes()
    Path(f"{copy}-wal").write_bytes(wal[:-cut])
    torn = Log.open(copy)
    reader = torn.reader()
    held = [encoded for _, encoded in reader.after(0, None, 99)]
    assert len(held) in ends
    assert len(held) < 15
    assert held == [m.encoded for m in authors.said[: len(held)]]
    assert torn.append(authors.said[len(held) :]) == len(held) + 1
    reader.close()
    torn.close()


def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    """Each dot a process printed after its append is there after the process was killed."""
    path = tmp_path / "flc.db"
    with subprocess.Popen(
        [sys.executable, "-c", APPENDS_FOR_EVER, str(path)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as process:
        assert process.stdout is not None
        dots = [process.stdout.readline() for _ in range(100)]
        process.kill()
        # The last line may have been cut off in the middle.
        dots += [line for line in process.stdout if line.endswith("\n")]
    log = Log.open(path)
    reader = log.reader()
    assert [d for d in dots if reader.block(parse_dot(d.strip())) is None] == []
    assert log.load().heads[b"8 bytes!"].seq % 3 == 0
    reader.close()
    log.close()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"not a database at all, but long enough to be read as one" * 40, "no usable SQLite"),
        (b"\0" * 8_192, "no usable SQLite"),
        (b"SQLite format 3\0" + b"\xff" * 4_080, "no usable SQLite"),
        (b"x", "no usable SQLite"),
    ],
)
def test_a_file_that_is_no_database_is_refused_untouched(
    tmp_path: Path, content: bytes, problem: str
) -> None:
    """The error names the file and has a hint, and the file is as it was."""
    path = tmp_path / "flc.db"
    path.write_bytes(content)
    with pytest.raises(FlcError, match=problem) as caught:
        Log.open(path)
    assert str(path) in str(caught.value)
    assert caught.value.hint
    assert path.read_bytes() == content


@pytest.mark.parametrize("journal", ["delete", "wal"])
@pytest.mark.parametrize("application", [0, 77])
def test_another_programs_database_is_refused_untouched(
    tmp_path: Path, journal: str, application: int
) -> None:
    """A database with another's tables or id is not written to; not even its WAL is folded in."""
    path = tmp_path / "flc.db"
    theirs = sqlite3.connect(path, isolation_level=None)
    theirs.execute(f"PRAGMA journal_mode = {journal}")
    theirs.execute(f"PRAGMA application_id = {application}")
    theirs.execute("CREATE TABLE song (title TEXT)")
    # Copied while open, as a crash would leave it: what was committed may be in the WAL alone.
    crashed = tmp_path / "crashed"
    crashed.mkdir()
    for file in tmp_path.glob("flc.db*"):
        shutil.copy(file, crashed)
    theirs.close()
    before = (crashed / "flc.db").read_bytes()
    with pytest.raises(FlcError, match="is the database of another program"):
        Log.open(crashed / "flc.db")
    assert (crashed / "flc.db").read_bytes() == before


def test_a_newer_schema_is_refused_untouched(tmp_path: Path) -> None:
    """A database that a later version migrated is neither opened nor changed."""
    path = tmp_path / "flc.db"
    Log.open(path).close()
    newer = sqlite3.connect(path)
    newer.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    newer.close()
    before = path.read_bytes()
    with pytest.raises(FlcError, match=f"has schema {len(MIGRATIONS) + 1}") as caught:
        Log.open(path)
    assert "newer flc" in caught.value.hint
    assert path.read_bytes() == before


def test_a_library_that_is_too_old_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before a file is made, and not at the first message; its version and the least are named."""
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 32, 9))
    with pytest.raises(FlcError, match=r"needs 3\.33 or newer") as caught:
        Log.open(tmp_path / "flc.db")
    assert "newer SQLite" in caught.value.hint
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("done", range(len(MIGRATIONS[0])))
def test_a_migration_that_was_cut_short_is_done_again(tmp_path: Path, done: int) -> None:
    """A database whose making was interrupted at any statement is empty, and is made anew."""
    path = tmp_path / "flc.db"
    half = sqlite3.connect(path, isolation_level=None)
    half.execute("PRAGMA journal_mode = WAL")
    half.execute("BEGIN IMMEDIATE")
    for statement in MIGRATIONS[0][:done]:
        half.execute(statement)
    half.close()
    log = Log.open(path)
    assert log.load().heads == {}
    (application,) = log.connection.execute("PRAGMA application_id").fetchone()
    assert application == APPLICATION_ID
    log.close()


def test_a_place_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    """A directory where the file should be, or no directory to hold it, is an FlcError."""
    (tmp_path / "flc.db").mkdir()
    for path in (tmp_path / "flc.db", tmp_path / "nowhere" / "flc.db"):
        with pytest.raises(FlcError, match=str(path)) as caught:
            Log.open(path)
        assert caught.value.hint


@pytest.mark.parametrize("value", ["5", "'text'", "x''", "1.5"])
def test_a_block_of_another_type_is_passed_over(log: Log, authors: Authors, value: str) -> None:
    """By every way of reading; the others are read, and it is remembered as rotten."""
    said = [authors.say("ann") for _ in range(3)]
    log.append(said)
    log.connection.execute(f"UPDATE block SET encoded = {value} WHERE seq = 2")  # noqa: S608
    reader = log.reader()
    whole = [said[0].encoded, said[2].encoded]
    assert [message.seq for _, message in reader.history(None)] == [1, 3]
    assert [encoded for _, encoded in reader.blocks(None)] == whole
    assert reader.block(said[1].dot) is None
    assert reader.replay([(said[0].log, 1, 3)], 1 << 20)[0] == whole
    (rotten,), _ = reader.take_rotten()
    assert (rotten.dot, rotten.proof) == (said[1].dot, said[1].hash)
