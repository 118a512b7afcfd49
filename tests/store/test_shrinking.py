"""The file of a log: it is bounded in bytes, and gives space back."""

import shutil
import sqlite3
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from flc_udp.model.block import Block
from flc_udp.model.errors import StoreFailed
from flc_udp.sim.disk import put
from flc_udp.store.fsck.database import Fsck
from flc_udp.store.log import Log
from flc_udp.store.retention import PAGES_KEPT, used_bytes
from tests.model.stories import Story
from tests.store.disks import files_no_larger_than

Authors = Any  # the class of the fixture: a conftest cannot be imported

MIB = 1 << 20


def prune(log: Log, bytes_max: int | None = None, before: int | None = None) -> int:
    """Call it again while there is more; how many messages went."""
    pruned = 0
    for _ in range(10_000):
        ended = log.retain(arrived_before_ms=before, bytes_max=bytes_max)
        pruned += ended.pruned
        if not ended.more:
            return pruned
    raise AssertionError("there was more for ever")


def fill(log: Log, authors: Authors, size: int) -> list[Block]:
    """Say so many bytes, in bodies of 500."""
    messages = [authors.say("ann", body="x" * 500) for _ in range(size // 500)]
    for at in range(0, len(messages), 100):
        log.append(messages[at : at + 100])
    return messages


def connection_of(log: Log) -> sqlite3.Connection:
    """Its disk."""
    return log.connection  # no door: what a test asks of the file


def auto_vacuum(connection: sqlite3.Connection) -> int:
    """2 for a file that can give pages back."""
    return int(connection.execute("PRAGMA auto_vacuum").fetchone()[0])


class TestByBytes:
    def test_it_is_held_below_the_limit_and_the_file_shrinks(
        self, log: Log, tmp_path: Path, authors: Authors
    ) -> None:
        """The oldest go until a sixteenth is free; pages go back, and the file is that small."""
        fill(log, authors, 6 * MIB)
        connection_of(log).execute("PRAGMA wal_checkpoint(TRUNCATE)")
        assert (tmp_path / "flc.db").stat().st_size > 6 * MIB
        assert prune(log, 2 * MIB) > 6_000
        assert used_bytes(connection_of(log)) in range(7 * MIB // 4, 15 * MIB // 8 + 1)
        connection_of(log).execute("PRAGMA wal_checkpoint(TRUNCATE)")
        pages = (tmp_path / "flc.db").stat().st_size // 4_096
        assert pages <= 15 * MIB // 8 // 4_096 + PAGES_KEPT + 1

    def test_it_does_not_prune_for_every_message(self, log: Log, authors: Authors) -> None:
        """Below the limit nothing goes, though it is above what is pruned to."""
        fill(log, authors, 3 * MIB)
        prune(log, 2 * MIB)
        fill(log, authors, MIB // 12)
        assert used_bytes(connection_of(log)) > 15 * MIB // 8
        assert prune(log, 2 * MIB) == 0
        fill(log, authors, MIB // 8)
        assert prune(log, 2 * MIB) > 0

    def test_a_limit_below_an_empty_log_prunes_all_and_ends(
        self, log: Log, authors: Authors
    ) -> None:
        """There is nothing more to do, though it is still above."""
        said = fill(log, authors, MIB)
        assert prune(log, 4_096) == len(said)
        assert used_bytes(connection_of(log)) > 4_096
        ended = log.retain(arrived_before_ms=None, bytes_max=4_096)
        assert ended == (said[-1].stamp + 1, 0, False, ())

    def test_no_limit_prunes_nothing(self, log: Log, authors: Authors) -> None:
        """None is no limit; what it ends with is the floor there is."""
        fill(log, authors, MIB)
        assert log.retain(arrived_before_ms=None, bytes_max=None) == (0, 0, False, ())

    def test_a_slice_ends_between_two_stamps(self, log: Log, authors: Authors) -> None:
        """Messages of one stamp go together, though it is more of them than were asked for."""
        for author in "abcdef":
            authors.say(author)
        later = authors.say("a")
        log.append(authors.said)
        ended = log.retain(arrived_before_ms=None, bytes_max=0, messages_max=2)
        assert ended == (later.stamp, 6, True, ())

    def test_a_slice_is_bounded_in_bytes(self, log: Log, authors: Authors) -> None:
        """Of large messages few go at a time."""
        log.append([authors.say("ann", body="x" * 400_000) for _ in range(9)])
        assert log.retain(arrived_before_ms=None, bytes_max=0).pruned == 3


def test_free_pages_are_given_back_a_few_at_a_time(log: Log, authors: Authors) -> None:
    """Each call gives back no more than it may, and the last leaves what is soon used again."""
    fill(log, authors, 6 * MIB)
    while log.retain(arrived_before_ms=None, bytes_max=0).pruned:
        pass
    free = []
    while True:
        (pages,) = connection_of(log).execute("PRAGMA freelist_count").fetchone()
        free.append(pages)
        if not log.retain(arrived_before_ms=None, bytes_max=None).more:
            break
    assert 5 < len(free) < 12
    assert all(before - after <= PAGES_KEPT for before, after in pairwise(free))
    (pages,) = connection_of(log).execute("PRAGMA freelist_count").fetchone()
    assert pages == PAGES_KEPT


def test_a_disk_that_fails_keeps_what_a_slice_would_have_pruned(
    log: Log, tmp_path: Path, authors: Authors
) -> None:
    """A slice whose pages cannot be written was not; after it, it is done."""
    said = fill(log, authors, MIB)
    before = log.load()
    size = (tmp_path / "flc.db-wal").stat().st_size
    with files_no_larger_than(size), pytest.raises(StoreFailed, match="retain: "):
        log.retain(arrived_before_ms=None, bytes_max=0)
    log.recover()
    assert log.load() == before
    assert log.reader().counts() == (len(said), 1)
    assert prune(log, 0) == len(said)


@pytest.mark.parametrize("column", ["encoded", "hash"])
@pytest.mark.parametrize("value", ["x'00'", "'text'", "5", "x''"])
@pytest.mark.parametrize("rotten", [1, 2, 3])
def test_a_block_that_has_changed_is_pruned_by_what_the_chain_tells(
    log: Log, authors: Authors, column: str, value: str, rotten: int
) -> None:
    """Whichever of the three it is, the base ends as that of a sound disk."""
    said = [authors.say("ann", body="x"), authors.say("bob", body="y"), authors.say("ann")]
    log.append(said)
    sql = f"UPDATE block SET {column} = {value} WHERE position = {rotten}"  # noqa: S608
    connection_of(log).execute(sql)
    retained = log.retain(arrived_before_ms=None, bytes_max=0)
    assert retained.pruned == 3
    assert retained.floor == said[-1].stamp + 1
    bases = log.load().bases
    assert {log: base.hash for log, base in bases.items()} == {b.log: b.hash for b in said}
    assert log.reader().counts()[0] == 0


def test_a_block_whose_stamp_has_changed_is_told(log: Log, authors: Authors) -> None:
    """Nobody knows when its turn is: what comes before it goes, and it stays."""
    log.append([authors.say("ann") for _ in range(3)])
    connection_of(log).execute("UPDATE block SET stamp = stamp + 1 WHERE seq = 2")
    assert log.retain(arrived_before_ms=None, bytes_max=0)[1:] == (1, True, ())
    assert log.retain(arrived_before_ms=None, bytes_max=0)[1:] == (0, False, [2])
    assert log.reader().counts() == (2, 1)


def test_a_file_that_cannot_shrink_is_pruned_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, authors: Authors
) -> None:
    """Whoever rewrote it so: pruning ends, and free pages are used again."""
    path = tmp_path / "flc.db"
    with closing(Log.open(path)) as log:
        said = fill(log, authors, MIB // 4)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA auto_vacuum = 0")
        connection.execute("VACUUM")
    monkeypatch.setattr("flc_udp.store.retention.PAGES_KEPT", 4)
    with closing(Log.open(path)) as log:
        assert auto_vacuum(connection_of(log)) == 0
        assert prune(log, 0) == len(said)
        (free,) = connection_of(log).execute("PRAGMA freelist_count").fetchone()
        assert free > 4


def test_a_disk_in_memory_does_the_same() -> None:
    """The simulator's disk: new, and put back from a snapshot."""
    disk = sqlite3.connect(":memory:")
    log = Log.over(disk)
    assert auto_vacuum(disk) == 2
    log.append(Story([("ann", "lobby", None)] * 9).said)
    log.retain(arrived_before_ms=None, bytes_max=0, messages_max=4)
    before, kept = log.load(), disk.serialize()
    prune(log, 0)
    put(disk, kept)
    log = Log.over(disk)
    assert (log.load(), auto_vacuum(disk)) == (before, 2)
    prune(log, 0)
    assert list(Fsck(disk).findings()) == []
    disk.close()


def test_a_file_can_shrink_from_its_creation(tmp_path: Path) -> None:
    """And a copy of it can shrink, too."""
    Log.open(tmp_path / "a.db").close()
    shutil.copy(tmp_path / "a.db", tmp_path / "b.db")
    with closing(sqlite3.connect(tmp_path / "b.db")) as connection:
        assert auto_vacuum(connection) == 2
