"""A WAL that has changed on the disk loses nothing unsaid, and no power cut raises an alarm."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import NamedTuple

import pytest

from flc_udp.model.block import Block
from flc_udp.model.dots import Dot
from flc_udp.model.errors import FlcError
from flc_udp.store.backup import back_up
from flc_udp.store.connections import snapshot
from flc_udp.store.files import INDEX_HEADER
from flc_udp.store.fsck.database import Fsck
from flc_udp.store.log import Log
from flc_udp.store.repair.fill import Filled
from flc_udp.store.wal import check_wal, find_cut, find_damage, wal_of
from tests.model.stories import ROOMS, Story
from tests.store.conftest import Authors
from tests.store.flips import Dump, check, dump, flip, mend

HEADER_BYTES, FRAME_BYTES, PAGE_AT, SECTOR_BYTES = 32, 4_120, 24, 512


class Crashed(NamedTuple):
    """What a killed node has left."""

    path: Path
    said: dict[Dot, Block]
    kept: Dump
    """All that was committed."""
    ends: list[int]
    """Where each commit ends in the WAL."""
    before: bytes
    """The WAL before the last commit."""

    def copy(self, to: Path) -> Path:
        """A copy, to be spoilt."""
        shutil.copytree(self.path.parent, to)
        return to / "flc.db"

    def cut_off(self, to: Path) -> Path:
        """A copy as a power cut leaves it: the index tells nothing of what was not synced."""
        path = self.copy(to)
        path.with_name("flc.db-shm").unlink()
        return path


def end_of_wal(path: Path) -> int:
    """Where the last commit ends, as SQLite has it."""
    _, frames, _ = INDEX_HEADER.unpack_from(path.with_name("flc.db-shm").read_bytes())
    return HEADER_BYTES + int(frames) * FRAME_BYTES


def crash(home: Path, *, commits: int, earlier: int) -> Crashed:
    """Commits in a WAL, with what is left of earlier ones behind them."""
    chance, story, ends, before = random.Random(commits), Story(), [HEADER_BYTES], b""
    path, left = home / "running" / "flc.db", home / "left"
    path.parent.mkdir()
    log = Log.open(path)
    log.save_self(b"a node!!", 7)
    for number in range(earlier + commits):
        if number == earlier:
            log.connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
        author, size = chance.choice(("ann", "bob", "cyd")), chance.choice((10, 300, 300, 6_000))
        story.hear(author, *story.said[-1:])
        story.say(author, ROOMS[number % 2], chance.randbytes(size // 2).hex(), wall=1_000 + number)
        before = wal_of(path).read_bytes()
        log.append([story.said[-1]], once=[(f"bot {number % 5}", number, story.said[-1].dot)])
        if number >= earlier:
            ends.append(end_of_wal(path))
    shutil.copytree(path.parent, left)
    log.close()
    said = {block.dot: block for block in story.said}
    return Crashed(left / "flc.db", said, dump(path), ends, before)


@pytest.fixture(scope="session")
def crashed(tmp_path_factory: pytest.TempPathFactory) -> Crashed:
    """A node that was killed, with some twenty commits in its WAL."""
    return crash(tmp_path_factory.mktemp("crashed"), commits=24, earlier=40)


def refused(path: Path) -> str:
    """Why a log is not opened."""
    with pytest.raises(FlcError) as caught:
        Log.open(path)
    assert str(path.parent) in caught.value.hint
    return str(caught.value)


def mended(crashed: Crashed, path: Path) -> Filled:
    """Repair it, and look whether all is as it has to be."""
    spoilt = wal_of(path).read_bytes()
    filled = mend(path)
    check(crashed.kept, crashed.said, path, filled)
    (copy,) = path.parent.glob("before-repair-*")
    assert wal_of(copy / "flc.db").read_bytes() == spoilt
    return filled


def blocks(path: Path) -> int:
    """How many blocks a log holds after a start."""
    Log.open(path).close()
    return len(dump(path)["block"])


# --- Damage ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(15))
def test_a_flipped_bit(crashed: Crashed, tmp_path: Path, seed: int) -> None:
    """In the header, in a frame's header or in a page: the start is refused, and all is mended."""
    chance, end = random.Random(seed), crashed.ends[-2]
    frame = HEADER_BYTES + chance.randrange((end - HEADER_BYTES) // FRAME_BYTES) * FRAME_BYTES
    places = (
        chance.randrange(HEADER_BYTES),
        frame + chance.randrange(PAGE_AT),
        frame + chance.randrange(PAGE_AT, FRAME_BYTES),
    )
    path = crashed.copy(tmp_path / "bad")
    flip(wal_of(path), places[seed % 3], chance.randrange(8))
    assert "has changed on the disk" in refused(path)
    filled = mended(crashed, path)
    assert filled.gone == []
    assert filled.waiting == [] or seed % 3 == 2  # a bit that others explain, too


@pytest.mark.parametrize("at", range(HEADER_BYTES))
def test_a_bit_of_the_header(tmp_path: Path, authors: Authors, at: int) -> None:
    """It hides even a single commit, which is found and kept."""
    (tmp_path / "running").mkdir()
    with closing(Log.open(tmp_path / "running" / "flc.db")) as log:
        log.append([authors.say("ann")])
        shutil.copytree(tmp_path / "running", tmp_path / "bad")
    path = tmp_path / "bad" / "flc.db"
    flip(wal_of(path), at, at % 8)
    assert "1 commit in it is not read" in refused(path)
    assert mend(path) == Filled([], [], [])
    assert blocks(path) == 1


@pytest.mark.parametrize("is_last", [False, True], ids=["first", "last"])
@pytest.mark.parametrize("at", [*range(1, PAGE_AT, 2), PAGE_AT, PAGE_AT + 2_000])
def test_a_bit_of_the_last_transaction_but_one(
    crashed: Crashed, tmp_path: Path, at: int, is_last: bool
) -> None:
    """The one after it is proof enough, and nothing waits: the sums tell which bit it was."""
    path = crashed.copy(tmp_path / "bad")
    frame = crashed.ends[-2] - FRAME_BYTES if is_last else crashed.ends[-3]
    flip(wal_of(path), frame + at, at % 8)
    assert "commits in it are not read" in refused(path)
    filled = mended(crashed, path)
    assert filled == Filled([], [], [])
    after = dump(path)
    assert {table: after[table] for table in after if table != "node"} == {
        table: crashed.kept[table] for table in after if table != "node"
    }


@pytest.mark.parametrize("seed", range(24))
def test_a_bit_of_the_last_transaction(crashed: Crashed, tmp_path: Path, seed: int) -> None:
    """No power cut leaves what a single bit explains, so it was committed, and is kept."""
    chance, (before, end) = random.Random(seed), crashed.ends[-2:]
    at = chance.randrange(before, end)
    if seed % 3:  # in a frame's header
        at -= (at - HEADER_BYTES) % FRAME_BYTES - seed
    path = crashed.copy(tmp_path / "bad")
    flip(wal_of(path), at, chance.randrange(8))
    assert "not read by SQLite" in refused(path)
    filled = mended(crashed, path)
    assert (filled.gone, filled.forgotten) == ([], [])
    assert filled.waiting == [] or seed % 3 == 0  # a bit that others explain, too


@pytest.mark.parametrize("seed", range(8))
def test_a_few_bytes_that_are_written_over(crashed: Crashed, tmp_path: Path, seed: int) -> None:
    """Also with a frame's header or the WAL's in it: what was in the pages is named, or waits."""
    chance = random.Random(seed)
    path = crashed.copy(tmp_path / "bad")
    size = chance.randrange(1, 2 * SECTOR_BYTES)
    with wal_of(path).open("r+b") as file:
        if seed % 4:
            file.seek(chance.randrange(crashed.ends[-4]))
        file.write(chance.randbytes(size) if seed % 2 else b"\xff" * size)
    assert "has changed on the disk" in refused(path)
    mended(crashed, path)


def test_all_who_read_it_say_so(crashed: Crashed, tmp_path: Path) -> None:
    """A check has one finding more, a backup is not made; and how many commits it is about."""
    path = crashed.copy(tmp_path / "bad")
    flip(wal_of(path), crashed.ends[-4] + PAGE_AT + 3_000, 2)
    assert "3 commits in it are not read" in refused(path)
    with snapshot(path, also_damaged=True) as connection:
        first, *_ = Fsck(connection).findings()
    assert (first.check, first.problem) == (
        "file",
        "flc.db-wal has changed on the disk: 3 commits in it are not read by SQLite",
    )
    with pytest.raises(FlcError, match="has changed on the disk"):
        back_up(path, tmp_path / "backup", replace=False)


# --- Power cuts -----------------------------------------------------------------------------------


def torn(chance: random.Random, old: bytes, new: bytes, since: int) -> bytes:
    """A file of which each sector behind `since` was written or was not, or has become junk."""
    kinds = chance.choice(
        ((old, new), (old, new, new, new), (old, new, chance.randbytes(len(new))))
    )
    left = bytearray(new[: len(new) if chance.random() < 0.5 else max(len(old), since)])
    for at in range(since - since % SECTOR_BYTES, len(left), SECTOR_BYTES):
        part = slice(max(at, since), at + SECTOR_BYTES)
        left[part] = chance.choice(kinds)[part].ljust(len(left[part]), b"\0")
    return bytes(left)


@pytest.mark.parametrize("seed", range(24))
def test_what_power_cuts_leave(crashed: Crashed, tmp_path: Path, seed: int) -> None:
    """Whatever is there of the last transaction: the start is as always, and all before it is held.

    So it is if that start is cut off, too, where its transaction stands over the remains.
    """
    path, chance = crashed.cut_off(tmp_path / "cut"), random.Random(seed)
    wal = wal_of(path)
    wal.write_bytes(torn(chance, crashed.before, wal.read_bytes(), crashed.ends[-2]))
    shutil.copytree(path.parent, tmp_path / "once")
    old, twice = wal.read_bytes(), tmp_path / "twice" / "flc.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("SELECT * FROM node").fetchall()
        end = end_of_wal(path)
        connection.execute(
            "INSERT INTO node (key, value) VALUES ('more', zeroblob(?))", (seed % 4 * 5_000,)
        )
        shutil.copytree(path.parent, twice.parent)
    twice.with_name("flc.db-shm").unlink()
    wal_of(twice).write_bytes(torn(chance, old, wal_of(twice).read_bytes(), end))
    held = len(crashed.kept["block"]) - (end < crashed.ends[-1])
    assert [blocks(tmp_path / "once" / "flc.db"), blocks(twice)] == [held, held]


@pytest.mark.parametrize("seed", range(10))
def test_a_wal_that_was_cut_short(crashed: Crashed, tmp_path: Path, seed: int) -> None:
    """After a kill the index tells how much was there, also to whoever asks again; all are told."""
    path = crashed.copy(tmp_path / "cut")
    cut(path, random.Random(seed).randrange(crashed.ends[-1]) if seed else None)
    for _ in range(2):
        assert "was cut short, deleted or overwritten" in refused(path)
        found = find_cut(path)
        with snapshot(path, also_damaged=True) as connection:
            first, *_ = Fsck(connection, found).findings()
        assert (first.check, first.problem.split(":")[0]) == (
            "file",
            "flc.db-wal was cut short, deleted or overwritten",
        )
    with pytest.raises(FlcError, match="was cut short"):
        back_up(path, tmp_path / "backup", replace=False)
    filled = mend(path)
    assert "was cut short, deleted or overwritten" in filled.forgotten[-1]
    assert set(dump(path)["block"]) < set(crashed.kept["block"])
    assert not list(path.parent.glob("flc.db-[sw]*"))
    assert blocks(path) < len(crashed.kept["block"])


@pytest.mark.parametrize("size_bytes", [512, 4_096, 8_192, 16_384])
@pytest.mark.parametrize("has_index", [False, True])
def test_a_wal_whose_beginning_is_wiped(
    crashed: Crashed, tmp_path: Path, size_bytes: int, *, has_index: bool
) -> None:
    """What stands behind proves that more was there, whatever of it is left at the beginning."""
    path = (crashed.copy if has_index else crashed.cut_off)(tmp_path / "bad")
    with wal_of(path).open("r+b") as file:
        file.write(bytes(size_bytes))
    assert "has changed on the disk" in refused(path)
    assert blocks_left(path) > 0


@pytest.mark.parametrize("commits", [1, 5, 20, 24])
def test_a_wal_whose_end_is_wiped(crashed: Crashed, tmp_path: Path, commits: int) -> None:
    """It has its length, and the index proves what was there."""
    path, end = crashed.copy(tmp_path / "bad"), crashed.ends[-1 - commits]
    with wal_of(path).open("r+b") as file:
        file.seek(end)
        file.write(bytes(crashed.ends[-1] - end))
    assert "was cut short, deleted or overwritten" in refused(path)
    assert blocks_left(path) == len(crashed.kept["block"]) - commits


def test_an_earlier_wal_in_its_place(crashed: Crashed, tmp_path: Path) -> None:
    """Of another time or another node."""
    path = crashed.copy(tmp_path / "bad")
    other = crash(tmp_path, commits=5, earlier=2)
    shutil.copy(wal_of(other.path), wal_of(path))
    assert "was cut short, deleted or overwritten" in refused(path)


@pytest.mark.parametrize("name", ["flc.db-wal", "flc.db-shm"])
@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_something_else_in_its_place(
    crashed: Crashed, tmp_path: Path, name: str, make: Callable[[Path], None]
) -> None:
    """It is named, and nobody waits for it."""
    path = crashed.copy(tmp_path / "bad")
    path.with_name(name).unlink()
    make(path.with_name(name))
    with pytest.raises(FlcError, match=name):
        check_wal(path)


def blocks_left(path: Path) -> int:
    """How many a repair leaves."""
    mend(path)
    return blocks(path)


def cut(path: Path, size_bytes: int | None) -> None:
    """Leave so much of a WAL. None: delete it."""
    if size_bytes is None:
        wal_of(path).unlink()
    else:
        os.truncate(wal_of(path), size_bytes)


@pytest.mark.parametrize("size_bytes", [None, 0, 9_000])
def test_what_a_power_cut_left_of_an_index_proves_nothing(
    crashed: Crashed, tmp_path: Path, size_bytes: int | None
) -> None:
    """It is older than the machine's start, or of another WAL, torn, or not there at all."""
    path = crashed.copy(tmp_path / "cut")
    cut(path, size_bytes)
    index = path.with_name("flc.db-shm")
    content = bytearray(index.read_bytes())
    content[14] ^= 1
    index.write_bytes(content)  # Its two headers differ.
    assert find_cut(path) is None
    index.write_bytes(content[:90])
    assert find_cut(path) is None
    content[62] ^= 1
    if size_bytes:
        content[32] ^= 1
        content[80] ^= 1
    index.write_bytes(content)
    os.utime(index, (5, 5))
    assert find_cut(path) is None
    index.unlink()
    assert find_cut(path) is None
    Log.open(path).close()


def test_a_wal_that_is_folded_in_may_go(log: Log, authors: Authors, tmp_path: Path) -> None:
    """The index tells how many of the frames are in the database."""
    log.append([authors.say("ann")])
    left = shutil.copytree(tmp_path, tmp_path.with_name("before"))
    assert cut_away(left) is not None
    log.connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    assert cut_away(shutil.copytree(tmp_path, tmp_path.with_name("after"))) is None


def cut_away(place: Path) -> object:
    """What the index says when the WAL is gone."""
    wal_of(place / "flc.db").unlink()
    return find_cut(place / "flc.db")


@pytest.mark.parametrize("moment", [0, 1, 4, 20])
def test_what_is_written_meanwhile(
    log: Log, authors: Authors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    """A WAL that a running node begins anew while it is read is sound."""
    for _ in range(6):
        log.append([authors.say("ann")])
    log.connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
    read, reads = os.pread, count()

    def read_late(file: int, size: int, at: int) -> bytes:
        if next(reads) == moment:
            for _ in range(4):
                log.append([authors.say("ann")])
        return read(file, size, at)

    monkeypatch.setattr("os.pread", read_late)
    assert find_damage(tmp_path / "flc.db") is None
    assert next(reads) > moment + 4
