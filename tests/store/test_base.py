"""Each test spoils one thing in what a database says of pruned messages, and fsck finds it."""

import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from flc_udp.model.block import Block, Origin, pack_body, write
from flc_udp.model.dots import Dot
from flc_udp.store.connections import snapshot
from flc_udp.store.fsck.database import Fsck
from flc_udp.store.fsck.findings import Finding
from flc_udp.store.log import Log
from flc_udp.store.sums import keep_sums
from tests.model.stories import ROOMS, Story, log_of
from tests.store.nodes import EVERYTHING

ANN, BOB, CYD = (log_of(name) for name in ("ann", "bob", "cyd"))

ANNS_NUMBER = f"(SELECT no FROM log WHERE id = x'{ANN.hex()}')"  # noqa: S608  # ours
FLOOR = "(SELECT value FROM node WHERE key = 'floor')"

UNSEEN = {("node", "key"), ("node", "value")}
UNSEEN |= {("arrival", name) for name in ("position", "wall_ms", "least_stamp")}
UNSEEN |= {("log", "base_stamp"), ("log", "node"), ("log", "name")}
UNSEEN |= {("block", "position"), ("room", "position")}
UNSEEN |= {("clock", "base_seq"), ("clock", "base_edge_stamp")}
"""Columns that tell of what is gone, and of which only what is impossible is found."""

TABLES = ("log", "room", "block", "clock", "node", "arrival")


def tell() -> Story:
    """Ann and Bob talk in two rooms, each having heard the other; Cyd speaks once, early."""
    story = Story()
    story.say("cyd", "ops")
    for number in range(6):
        for author in ("ann", "bob"):
            story.hear(author, *story.said[-1:])
            story.say(author, ROOMS[number % 2], wall=1_000 + number)
    return story


@pytest.fixture(scope="session")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good database, with seven of thirteen messages pruned."""
    path = tmp_path_factory.mktemp("good") / "flc.db"
    log = Log.open(path)
    log.append(tell().said)
    log.retain(arrived_before_ms=None, bytes_max=0, messages_max=7)
    log.close()
    return path


@pytest.fixture
def copy(good: Path, tmp_path: Path) -> Path:
    """A copy of it, to be spoilt."""
    return Path(shutil.copy(good, tmp_path / "flc.db"))


def run(path: Path, *statements: str) -> None:
    """Change a database."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        keep_sums(connection)
        for statement in statements:
            connection.execute(statement)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def fsck(path: Path) -> list[Finding]:
    """All that is found in a file."""
    with snapshot(path) as connection:
        return list(Fsck(connection).findings())


def checks(findings: Sequence[Finding]) -> set[str]:
    """Which checks found anything."""
    return {finding.check for finding in findings}


def test_a_pruned_database_has_no_finding(good: Path) -> None:
    """Nothing is found, and what was pruned is known."""
    with snapshot(good) as connection:
        check = Fsck(connection)
        assert list(check.findings()) == []
    assert check.walk.messages == 6
    assert check.walk.base.count == 7
    assert check.walk.base.floor == tell().said[6].stamp + 1
    assert {log: head.seq for log, head in check.walk.base.heads.items()} == {
        ANN: 3,
        BOB: 3,
        CYD: 1,
    }


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ("UPDATE node SET value = 5 WHERE key = 'floor'", {"floor"}),
        ("UPDATE node SET value = 'high' WHERE key = 'floor'", {"floor", "node"}),
        ("DELETE FROM node WHERE key = 'floor'", {"floor"}),
        ("UPDATE node SET value = value + 1 WHERE key = 'pruned'", {"position"}),
        ("UPDATE node SET value = value - 1 WHERE key = 'pruned'", {"position"}),
        ("UPDATE log SET base_seq = base_seq - 1 WHERE base_seq = 3", {"log", "floor"}),
        ("UPDATE log SET base_seq = base_seq + 1 WHERE base_seq = 3", {"log", "floor", "chain"}),
        ("UPDATE log SET base_hash = x'3132333435363738' WHERE base_seq = 3", {"chain"}),
        ("UPDATE log SET base_hash = x'31' WHERE base_seq = 3", {"floor", "log"}),
        ("UPDATE log SET base_hash = x'3132333435363738' WHERE base_seq = 1", {"head"}),
        ("UPDATE log SET base_stamp = base_stamp << 9 WHERE base_seq = 3", {"floor", "stamp"}),
        ("UPDATE log SET base_stamp = -1 WHERE base_seq = 3", {"floor", "log"}),
        ("UPDATE log SET base_seq = 0 WHERE base_seq = 1", {"floor", "head"}),
        ("UPDATE clock SET base_seq = 0 WHERE log_no = 1", {"floor", "clock", "room"}),
        ("UPDATE clock SET base_seq = 99 WHERE log_no = 1", {"floor", "clock"}),
        ("UPDATE clock SET base_seq = 'x' WHERE log_no = 1", {"floor", "clock"}),
        ("UPDATE clock SET base_edge_stamp = 1 << 60 WHERE log_no = 1", {"floor", "room"}),
        ("UPDATE clock SET base_edge_stamp = 7 WHERE log_no = 1", {"floor"}),
        ("UPDATE clock SET base_edge_stamp = 'x' WHERE log_no = 1", {"floor", "clock"}),
        ("UPDATE clock SET base_edge_stamp = NULL", {"floor"}),
        ("UPDATE room SET position = position + 1", {"position"}),
        ("UPDATE room SET messages = messages + 7 WHERE no = 1", {"room"}),
        ("DELETE FROM block WHERE position = 10", {"position", "log", "room"}),
        ("UPDATE arrival SET wall_ms = 'x'", {"floor"}),
        ("INSERT INTO arrival VALUES (9, 0, 0, NULL)", {"floor"}),
        ("UPDATE log SET base_stamp = {floor} WHERE no = {ann}", {"floor"}),
        ("UPDATE clock SET base_seq = 2 WHERE base_seq = 3 AND log_no = {ann}", {"floor"}),
        ("UPDATE clock SET base_seq = 5 WHERE base_seq = 3 AND log_no = {ann}", {"floor"}),
    ],
)
def test_what_does_not_fit_is_found(copy: Path, change: str, found: set[str]) -> None:
    """The floor, the base's heads, clocks and edges, and how many were pruned, fit together."""
    run(copy, change.format(floor=FLOOR, ann=ANNS_NUMBER))
    findings = fsck(copy)
    assert checks(findings) & found, findings
    assert checks(findings) <= found | {"cause", "clock", "room"}, findings


def test_a_cause_that_was_pruned_and_is_of_another_room_is_its_author_s(copy: Path) -> None:
    """Of what lies below the floor is known in which rooms its log spoke, and how late."""
    with closing(Log.open(copy)) as log:
        stamp = max(head.stamp for head in log.load().heads.values())
        messages = [
            write(
                log=log_id,
                first=1,
                room=room,
                author="eve",
                wall=0,
                stamp=stamp + 1,
                causes=(Dot(CYD, 1),),
                parent=bytes(8),
                bodies=[pack_body("hi")],
                origin=Origin(b"strange!", "eve"),
            )
            for log_id, room in ((b"stranger", "ops"), (b"strange2", "lobby"))
        ]
        log.append(messages)
    with snapshot(copy) as connection:
        check = Fsck(connection)
        assert list(check.findings()) == []
    assert check.walk.odd_causes == 1


def test_what_another_covered_has_to_be_held(copy: Path, tmp_path: Path) -> None:
    """A base that reaches further than what was pruned ends at a message below the floor."""
    path = tmp_path / "ahead.db"
    ahead, behind = Log.open(path), Log.open(copy)
    ahead.append(tell().said)
    reader = behind.reader()
    ahead.adopt(reader.floor(), reader.base(b"", EVERYTHING))
    for closable in (reader, ahead, behind):
        closable.close()
    assert fsck(path) == []
    for change, found in (
        ("DELETE FROM block WHERE seq = 3", {"log", "room", "position", "floor"}),
        ("UPDATE clock SET base_seq = 2 WHERE base_seq = 3", {"floor", "clock"}),
        ("UPDATE clock SET base_seq = 5 WHERE base_seq = 3", {"floor", "clock"}),
        ("UPDATE clock SET base_edge_stamp = 9 WHERE base_edge_stamp > 0", {"floor"}),
    ):
        spoilt = Path(shutil.copy(path, tmp_path / "spoilt.db"))
        run(spoilt, change)
        assert checks(fsck(spoilt)) & found, change


def test_any_changed_value_is_found_or_could_have_been(good: Path) -> None:
    """Whichever column holds another value, something is found; but for those of UNSEEN.

    Of what lies below the floor they are the only ones that tell. None stops the walk.
    """
    chance = Random(1)
    with closing(sqlite3.connect(f"file:{good}?immutable=1", uri=True)) as source:
        for _ in range(600):
            disk = sqlite3.connect(":memory:", isolation_level=None)
            source.backup(disk)
            change(disk, chance)
            disk.close()


def change(disk: sqlite3.Connection, chance: Random) -> None:
    """One value of one row is another, and that is found."""
    table = chance.choice(TABLES)
    rows = disk.execute(f"SELECT * FROM {table}")  # noqa: S608  # ours
    columns = [column[0] for column in rows.description]
    row, at = chance.choice(rows.fetchall()), chance.randrange(len(columns))
    value = chance.choice([0, 1, 9, -1, 1 << 60, "x", b"12345678", None, 1.5, chance.random()])
    where = " AND ".join(f"{column} IS ?" for column in columns)
    try:
        sql = f"UPDATE OR ABORT {table} SET {columns[at]} = ? WHERE {where}"  # noqa: S608  # ours
        disk.execute(sql, (value, *row))
    except sqlite3.IntegrityError:
        return
    if row in disk.execute(f"SELECT * FROM {table}").fetchall():  # noqa: S608  # ours
        return  # SQLite took it for the same value.
    found = list(Fsck(disk).findings())
    assert found or (table, columns[at]) in UNSEEN, (table, columns[at], row, value)


# --- The base as it is read -------------------------------------------------------------------


def many(count: int) -> list[Block]:
    """As many authors, each in one room or two."""
    story = Story()
    for number in range(count):
        author = f"a{number:03}"
        story.say(author, ROOMS[number % 2])
        if number % 3 == 0:
            story.say(author, ROOMS[(number + 1) % 2])
    return story.said


class TestBase:
    def test_pages_join_to_the_whole(self, log: Log) -> None:
        """Each page has about as many rooms as asked for, whole logs, and at least one."""
        log.append(many(50))
        log.retain(arrived_before_ms=None, bytes_max=0)
        reader = log.reader()
        whole = reader.base(b"", EVERYTHING)
        assert [base.log for base in whole] == sorted(log.load().heads)
        for rooms_max in (0, 1, 2, 7, 100):
            pages, after = [], b""
            while page := reader.base(after, rooms_max):
                assert sum(len(base.rooms) for base in page[:-1]) < max(rooms_max, 1)
                pages += page
                after = page[-1].log
            assert pages == whole
        reader.close()

    def test_there_is_none_where_nothing_was_pruned(self, log: Log) -> None:
        """No floor, no base."""
        log.append(many(5))
        reader = log.reader()
        assert (reader.floor(), reader.base(b"", 9), reader.base_version()) == (0, [], 0)
        assert reader.base_heads(list(log.load().heads)) == {}
        assert reader.base_heads([]) == {}
        reader.close()

    def test_its_version_tells_whether_it_moved(self, log: Log) -> None:
        """By pruning and by adopting, and not by appending."""
        said = many(5)
        log.append(said[:4])
        reader = log.reader()
        versions = [reader.base_version()]
        for act in (
            lambda: log.retain(arrived_before_ms=None, bytes_max=0),
            lambda: log.append(said[4:]),
            lambda: log.retain(arrived_before_ms=None, bytes_max=None),
            lambda: log.adopt(reader.floor(), reader.base(b"", 9)),
        ):
            act()
            versions.append(reader.base_version())
        assert versions == [0, 1, 1, 2, 3]
        reader.close()

    def test_it_is_true_where_a_block_that_it_ends_at_has_changed(
        self, copy: Path, tmp_path: Path
    ) -> None:
        """A log ahead of a base that it took tells that on, whatever became of the block."""
        ahead, behind = Log.open(tmp_path / "ahead.db"), Log.open(copy)
        ahead.append(tell().said)
        of_behind, of_ahead = behind.reader(), ahead.reader()
        base = of_behind.base(b"", EVERYTHING)
        ahead.adopt(of_behind.floor(), base)
        ahead.connection.execute("UPDATE block SET encoded = x'00'")
        assert of_ahead.base(b"", EVERYTHING) == base
        for closable in (of_behind, of_ahead, ahead, behind):
            closable.close()

    def test_a_newcomer_begins_from_it(self, log: Log, tmp_path: Path) -> None:
        """An empty log that adopts has the heads and frontiers, and what follows is appended."""
        said = tell().said
        log.append(said[:9])
        while log.retain(arrived_before_ms=None, bytes_max=0).more:
            pass
        reader, newcomer = log.reader(), Log.open(tmp_path / "new.db")
        history = newcomer.adopt(reader.floor(), reader.base(b"", EVERYTHING))
        pruned = log.load()
        assert pruned.pruned_below == pruned.floor
        assert history == replace(pruned, pruned_below=0)
        assert {base.origin for base in reader.base(b"", 99)} == set(history.origins.values())
        assert newcomer.append(said[9:]) == 1
        assert newcomer.load().heads[ANN].seq == 6
        reader.close()
        newcomer.close()
