"""Rows and indexes that have changed on the disk each by itself, as a flipped bit changes them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from flc_udp.model.block import Block
from flc_udp.model.dots import BEGINNING
from flc_udp.model.history import BaseLog, BaseRoom, Head, PlacedBlock
from flc_udp.store.fsck.database import Fsck
from flc_udp.store.log import Log
from flc_udp.store.reader import Reader
from flc_udp.store.schema import BLOCK_INDEXES
from tests.store.conftest import Authors

CHANGES = (
    "stamp = stamp + 4",
    "count = count + 4",
    "seq = seq + 1024",
    "room_no = room_no + 1",
    "room_no = room_no + 64",
    "log_no = log_no + 1",
    "log_no = log_no + 64",
)


def change_rows_alone(path: Path, change: str) -> None:
    """Change a row and not the indexes, by hiding those from SQLite meanwhile."""
    names = ", ".join(f"'{name}'" for name in BLOCK_INDEXES)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA writable_schema = ON")
        rows = connection.execute(
            f"SELECT * FROM sqlite_schema WHERE name IN ({names})"  # noqa: S608
        ).fetchall()
        connection.execute(f"DELETE FROM sqlite_schema WHERE name IN ({names})")  # noqa: S608
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"UPDATE block SET {change}")  # noqa: S608
        connection.execute("PRAGMA writable_schema = ON")
        connection.executemany("INSERT INTO sqlite_schema VALUES (?, ?, ?, ?, ?)", rows)


@pytest.fixture
def said(tmp_path: Path, authors: Authors) -> list[Block]:
    """What a stopped node holds, in two rooms and of two logs."""
    blocks = [authors.say(("ann", "bob")[n % 2], room=("ops", "lobby")[n // 50]) for n in range(99)]
    with closing(Log.open(tmp_path / "flc.db")) as log:
        log.append(blocks)
    return blocks


def looked_through(reader: Reader) -> list[PlacedBlock]:
    """What a whole pass finds, which is no rotten block."""
    position = reader.look_through(0)
    while position:
        position = reader.look_through(position)
    rotten, crooked = reader.take_rotten()
    assert rotten == []
    return crooked


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("of", ["row", "indexes"])
def test_a_change_of_one_side_is_found_and_mended(
    tmp_path: Path, said: list[Block], change: str, of: str
) -> None:
    """Whether the row or what the indexes have of it: the block tells what is right."""
    if of == "indexes" and "count" in change:
        pytest.skip("no index has it")
    path = tmp_path / "flc.db"
    place = "WHERE position = 60"
    if of == "row":
        change_rows_alone(path, f"{change} {place}")
    else:
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(f"UPDATE block SET {change} {place}")  # noqa: S608
        change_rows_alone(path, f"{change.replace('+', '-')} {place}")
    with closing(Log.open(path)) as log, closing(log.reader()) as reader:
        assert list(Fsck(log.connection).findings()) != []
        assert looked_through(reader) == [(60, said[59])]
        log.heal([PlacedBlock(60, said[59])])
        assert list(Fsck(log.connection).findings()) == []
        assert looked_through(reader) == []
        assert reader.block(said[59].dot) == said[59].encoded


@pytest.mark.parametrize("change", ["stamp = stamp + 4", "stamp = stamp - 4", "room_no = 1"])
def test_a_list_that_an_index_misleads_has_it_made_anew(
    tmp_path: Path, said: list[Block], change: str
) -> None:
    """Whoever reads the history finds it at once, and it waits for no scrub."""
    path = tmp_path / "flc.db"
    back = {"stamp = stamp + 4": "stamp = stamp - 4", "room_no = 1": "room_no = 2"}
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"UPDATE block SET {change} WHERE position = 60")  # noqa: S608
    change_rows_alone(path, f"{back.get(change, 'stamp = stamp + 4')} WHERE position = 60")
    with closing(Log.open(path)) as log, closing(log.reader()) as reader:
        list(reader.history(None))
        _, crooked = reader.take_rotten()
        assert crooked == [(60, said[59])]
        log.heal(crooked)
        assert list(Fsck(log.connection).findings()) == []


def test_an_index_that_leads_to_another_row(tmp_path: Path, said: list[Block]) -> None:
    """One block is listed twice and one not at all, and the row that is met is sound."""
    path = tmp_path / "flc.db"
    content = bytearray(path.read_bytes())
    entry = said[59].stamp.to_bytes(4) + b"\2" + bytes([60])
    assert content.count(entry) == 1
    content[content.index(entry) + len(entry) - 1] ^= 4
    path.write_bytes(content)
    with closing(Log.open(path)) as log, closing(log.reader()) as reader:
        listed = [position for position, _ in reader.history(None)]
        assert (listed.count(60), listed.count(56)) == (0, 2)
        log.heal(reader.take_rotten()[1])
        assert list(Fsck(log.connection).findings()) == []
        assert sorted(position for position, _ in reader.history(None)) == list(range(1, 100))


def test_a_sound_log_is_looked_through_to_its_end(tmp_path: Path, said: list[Block]) -> None:
    """Nothing is found, and a pass takes a few looks."""
    with closing(Log.open(tmp_path / "flc.db")) as log, closing(log.reader()) as reader:
        looks = 1
        position = reader.look_through(0)
        while position:
            looks += 1
            position = reader.look_through(position)
        assert looks == len(said) // 32 + 2
        assert reader.take_rotten() == ([], [])


def test_what_was_deleted_meanwhile_is_not_healed(log: Log, authors: Authors) -> None:
    """A base was taken while the block was fetched. The others of the transaction are healed."""
    gone, kept = authors.say("ann"), authors.say("bob")
    log.append([gone, kept])
    end = Head(2, bytes(8), kept.stamp + 1)
    base = BaseLog(gone.log, end, None, (BaseRoom("lobby", 2, end.stamp),))
    log.connection.execute("UPDATE block SET encoded = x'00'")
    log.adopt(end.stamp + 1, [base])
    assert log.heal([PlacedBlock(1, gone), PlacedBlock(2, kept)]) == [kept]
    reader = log.reader()
    assert (reader.block(gone.dot), reader.block(kept.dot)) == (None, kept.encoded)
    assert list(Fsck(log.connection).findings()) == []


def test_a_base_that_ends_at_a_rotten_block_tells_what_is_proven(
    log: Log, authors: Authors
) -> None:
    """The next block proves its hash. It is remembered as rotten."""
    blocks = [authors.say("ann") for _ in range(5)]
    log.append(blocks)
    end = blocks[2]
    edge = BaseRoom("lobby", 3, end.stamp)
    base = BaseLog(end.log, Head(3, end.hash, end.stamp), blocks[0].origin, (edge,))
    log.adopt(end.stamp + 1, [base])
    reader = log.reader()
    assert reader.base(BEGINNING, 10) == [base]
    change = "UPDATE block SET encoded = x'00', hash = x'00' WHERE seq = ?"
    log.connection.execute(change, (3,))
    assert reader.base(BEGINNING, 10) == [base]
    ((rotten,), _) = reader.take_rotten()
    assert (rotten.dot, rotten.proof) == (end.dot, end.hash)


def test_what_was_pruned_meanwhile_is_not_healed(tmp_path: Path, said: list[Block]) -> None:
    """It has no place any more, and that is no failure. What is left in the same call is healed."""
    with closing(Log.open(tmp_path / "flc.db")) as log:
        log.connection.execute("UPDATE block SET encoded = x'' WHERE position IN (1, 99)")
        log.retain(arrived_before_ms=None, bytes_max=0, messages_max=10)
        log.heal([PlacedBlock(1, said[0]), PlacedBlock(99, said[98])])
        held = [encoded for _, encoded in log.reader().after(0, None, 999)]
        assert said[98].encoded in held
        assert said[0].encoded not in held
        assert list(Fsck(log.connection).findings()) == []
