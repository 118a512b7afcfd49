"""A damaged database is mended from what is sound in it, and what is gone is named."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from zlib import crc32

import pytest

from flc_udp.model.errors import FlcError
from flc_udp.store.directory import DataDirectory
from flc_udp.store.log import Log
from flc_udp.store.repair.fill import Filled
from flc_udp.store.repair.repair import WORK, needs_repair
from tests.store.flips import Database, Dump, check, dump, findings, flip, make, mend, try_one

PAGE = 4_096


@pytest.fixture(scope="session", params=[0, 30], ids=["whole", "pruned"])
def good(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Database:
    """A good database, from which nothing or the beginning was pruned."""
    return make(tmp_path_factory.mktemp("good"), seed=2, pruned=request.param)


@pytest.fixture
def path(good: Database, tmp_path: Path) -> Path:
    """A copy of it, to be spoilt."""
    return Path(shutil.copy(good.path, tmp_path / "flc.db"))


def run(path: Path, *statements: str) -> None:
    """Change a database."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def pages_of(path: Path, table: str) -> list[int]:
    """The offsets of a table's or an index's pages."""
    with closing(sqlite3.connect(f"file:{path}?immutable=1", uri=True)) as connection:
        root = "SELECT rootpage FROM sqlite_schema WHERE name = ?"
        (page,) = connection.execute(root, (table,)).fetchone()
    return [(page - 1) * PAGE]


def placed(dumped: Dump) -> list[tuple[int, bytes]]:
    """(position, encoded) of the blocks."""
    return [(position, encoded) for position, *_, encoded in dumped["block"]]


def overwrite(path: Path, at: int, content: bytes) -> None:
    """Write over what stands there."""
    with path.open("r+b") as file:
        file.seek(at)
        file.write(content)


def mended(good: Database, path: Path) -> Filled:
    """Repair it, and look whether all is as it has to be."""
    before = dump(good.path)
    copied = path.read_bytes()
    filled = mend(path)
    check(before, good.said, path, filled)
    (copy,) = path.parent.glob("before-repair-*")
    assert (copy / "flc.db").read_bytes() == copied
    assert not (path.parent / WORK).exists()
    return filled


@pytest.mark.parametrize("at", [18, 19])
@pytest.mark.parametrize("bit", range(8))
def test_a_header_that_forbids_to_write(good: Database, path: Path, at: int, bit: int) -> None:
    """SQLite reads such a file, and no node could start on it."""
    flip(path, at, bit)
    assert needs_repair(path)
    with suppress(FlcError):
        assert findings(path) != []
    assert mended(good, path).forgotten == []


@pytest.mark.parametrize("seed", range(30))
def test_a_flipped_bit(good: Database, tmp_path: Path, seed: int) -> None:
    """It is found and mended, or nothing that is kept has changed: see `flips`."""
    chance = random.Random(seed)
    at = chance.randrange(good.path.stat().st_size)
    assert try_one(good, at, chance.randrange(8), tmp_path) in {"free", "mended", "waits"}


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE log SET seq = 99 WHERE no = 2",
        "UPDATE log SET hash = x'3132333435363738', stamp = 1",
        "UPDATE log SET node = x'3132333435363738', name = 'nobody'",
        "UPDATE log SET id = x'3132333435363738' WHERE no = 2",
        "UPDATE log SET base_seq = base_seq + 3",
        "UPDATE log SET base_hash = x'31'",
        "UPDATE log SET base_stamp = 1 << 61",
        "UPDATE room SET name = 'other' WHERE no = 1",
        "UPDATE room SET messages = 1, stamp = 1",
        "UPDATE room SET position = position + 9 WHERE no = 2",
        "UPDATE clock SET seq = 1, edge_stamp = 7",
        "UPDATE clock SET base_seq = base_seq + 1, base_edge_stamp = 'x'",
        "UPDATE clock SET base_seq = 0",
        "DELETE FROM clock WHERE log_no = 2",
        "INSERT INTO clock (room_no, log_no, seq) VALUES (77, 88, 1)",
        "INSERT INTO room VALUES (77, 'void', 0, 0, 0, 0, 0)",
        "INSERT INTO log (no, id, seq, hash, stamp) VALUES (77, x'3132333435363738', 0, x'', 0)",
        "UPDATE block SET stamp = 5, count = 9, room_no = 1, hash = x'31' WHERE position % 3 = 0",
        "UPDATE block SET log_no = 99 WHERE position = (SELECT max(position) FROM block)",
        "UPDATE block SET position = position + 5000 WHERE position % 7 = 0",
        "UPDATE arrival SET wall_ms = 'x' WHERE position > 40",
        "UPDATE node SET value = 'x' WHERE key IN ('floor', 'pruned')",
        "DROP INDEX block_history",
        "DROP INDEX block_dot",
        "ALTER TABLE once ADD COLUMN more",
        "CREATE TABLE other (x)",
        "PRAGMA application_id = 77",
        "PRAGMA user_version = 99",
    ],
)
def test_rows_that_follow_from_blocks(good: Database, path: Path, change: str) -> None:
    """Each is made anew from the blocks, which are all kept."""
    run(path, change)
    if dump(path) == dump(good.path) and not needs_repair(path):
        pytest.skip("nothing of this kind was pruned here")
    filled = mended(good, path)
    assert (filled.gone, filled.waiting) == ([], [])
    assert findings(path) == []
    before, after = dump(good.path), dump(path)
    assert after["block"] != []
    if "block SET position" not in change:
        assert placed(after) == placed(before)


@pytest.mark.parametrize(
    "table",
    ["node", "log", "room", "block", "block_dot", "block_history", "clock", "once", "peer"],
)
@pytest.mark.parametrize("content", [bytes(PAGE), b"\xa5" * PAGE], ids=["zeros", "junk"])
def test_a_torn_root(good: Database, path: Path, table: str, content: bytes) -> None:
    """Nothing that lies in other pages is lost, whatever led to them."""
    for at in pages_of(path, table):
        overwrite(path, at, content)
    filled = mended(good, path)
    if table != "log" or not dump(good.path)["node"]:
        assert filled.gone == []


@pytest.mark.parametrize(
    ("at", "content"),
    [(0, bytes(16)), (0, b"\xa5" * PAGE), (16, b"\1\1"), (52, bytes(16)), (1_000, b"\xff" * 500)],
)
def test_a_torn_header(good: Database, path: Path, at: int, content: bytes) -> None:
    """The first page is the same in all our databases, so nothing is lost with it."""
    overwrite(path, at, content)
    filled = mended(good, path)
    assert filled == Filled([], [], [])


def test_what_nothing_tells_of_is_said(path: Path) -> None:
    """A file of junk is copied and stays; the error names the copy."""
    path.write_bytes(b"\xa5" * 50_000)
    with pytest.raises(FlcError, match="nothing of it can be read") as caught:
        mend(path)
    (copy,) = path.parent.glob("before-repair-*")
    assert str(copy) in caught.value.hint
    assert "--join" in caught.value.hint


def test_a_gap_ends_its_log(good: Database, path: Path) -> None:
    """A block that is gone takes with it what comes after it; each is named."""
    row = "(SELECT min(position) + 40 FROM block)"
    run(path, f"DELETE FROM block WHERE position BETWEEN {row} AND {row} + 3")  # noqa: S608
    filled = mended(good, path)
    assert filled.gone
    assert findings(path) == []


def test_what_a_client_said_is_never_said_again(good: Database, path: Path) -> None:
    """If its last message is gone, its numbers are refused from now on."""
    run(path, "DELETE FROM block WHERE position > (SELECT max(position) - 9 FROM block)")
    filled = mended(good, path)
    assert filled.gone
    with closing(Log.open(path)) as log:
        reader = log.reader()
        numbers = [reader.once(f"bot {n}", 0, 1)[1] for n in range(5)]
        reader.close()
    assert sorted(numbers) == list(range(len(good.said) - 5, len(good.said)))


def test_a_node_without_its_incarnation_is_another(good: Database, path: Path) -> None:
    """It would begin with one that is too low, so its id goes, too."""
    run(path, "UPDATE node SET value = 'x' WHERE key IN ('incarnation', 'floor')")
    run(path, "UPDATE room SET messages = 0")
    filled = mended(good, path)
    assert [words for words in filled.forgotten if "incarnation" in words]
    assert b"id" not in {key for key, *_ in dump(path)["node"]}


def test_ages_are_not_greater_than_before(good: Database, path: Path) -> None:
    """A row of arrivals that is lost lets no message seem older."""
    run(path, "UPDATE arrival SET wall_ms = 'x' WHERE position BETWEEN 40 AND 60")
    before = {stamp: wall for _, wall, stamp, _ in dump(good.path)["arrival"]}
    mended(good, path)
    after = sorted((stamp, wall) for _, wall, stamp, _ in dump(path)["arrival"])
    for stamp, wall in before.items():
        assert any(low <= stamp and late >= wall for low, late in after)


def test_another_programs_database_stays(path: Path) -> None:
    """What is no log of ours is refused, and nothing is made beside it."""
    path.unlink()
    run(path, "CREATE TABLE theirs (x)", "PRAGMA application_id = 77")
    content = path.read_bytes()
    with pytest.raises(FlcError, match="another program"):
        mend(path)
    assert path.read_bytes() == content
    assert list(path.parent.glob("before-repair-*")) == []


def test_a_copy_that_does_not_fit(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without room for it nothing is changed."""
    run(path, "UPDATE room SET messages = 1")
    content = path.read_bytes()
    monkeypatch.setattr(DataDirectory, "free_bytes", lambda _: path.stat().st_size)
    with pytest.raises(FlcError, match="has no room") as caught:
        mend(path)
    assert caught.value.hint
    assert path.read_bytes() == content
    assert not list(path.parent.glob("before-repair-*"))


def test_what_a_killed_node_left_in_its_wal(good: Database, tmp_path: Path) -> None:
    """It is folded in and kept, also where the header is torn; the copy has the WAL, too."""
    path = Path(shutil.copy(good.path, tmp_path / "flc.db"))
    log = Log.open(path)
    log.save_self(b"a node!!", 70)
    killed = tmp_path / "killed"
    killed.mkdir()
    for name in tmp_path.glob("flc.db*"):
        shutil.copy(name, killed)
    log.close()
    overwrite(killed / "flc.db", 0, bytes(100))
    mended(good, killed / "flc.db")
    assert {key: value for key, value, _ in dump(killed / "flc.db")["node"]}[b"incarnation"] == 70
    (copy,) = killed.glob("before-repair-*")
    assert (copy / "flc.db-wal").stat().st_size > 0


def test_beside_a_wal_of_another_database(path: Path) -> None:
    """It is refused as at a start: the two would make one broken history."""
    path.with_name("flc.db-life").write_text(f"another {crc32(b'another'):08x}\n")
    path.with_name("flc.db-wal").write_bytes(b"of another")
    with pytest.raises(FlcError, match="was replaced"):
        mend(path)


# --- Killed -------------------------------------------------------------------------------------

EVENTS = {
    *("open", "os.mkdir", "os.rename", "os.truncate", "os.chmod", "os.chown", "os.remove"),
    *("shutil.copyfile", "shutil.rmtree", "sqlite3.connect"),
}


def dies(path: Path, moment: int) -> bool:
    """Whether a repair in a process of its own dies at its n-th step; else it has ended."""
    process = os.fork()
    if process:
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) != 0
    left = iter(range(moment))

    def step(event: str, _: object) -> None:
        if event in EVENTS and next(left, None) is None:
            os._exit(9)

    sys.addaudithook(step)
    with suppress(BaseException):
        mend(path)
        os._exit(0)
    os._exit(1)


def moments(path: Path, spoilt: bytes) -> Iterator[int]:
    """Each step at which a repair of a spoilt file can die, dead there."""
    for moment in range(200):
        for old in path.parent.iterdir():
            shutil.rmtree(old) if old.is_dir() else old.unlink()
        path.write_bytes(spoilt)
        if not dies(path, moment):
            return
        yield moment
    raise AssertionError("it does not end")


def test_killed_at_each_step(good: Database, path: Path) -> None:
    """What is left is repaired again, or is the mended one; a finished copy is whole."""
    overwrite(path, pages_of(path, "room")[0], bytes(PAGE))
    overwrite(path, 0, bytes(16))
    spoilt, before = path.read_bytes(), dump(good.path)
    for moment in moments(path, spoilt):  # noqa: B007  # how many there were
        for copy in path.parent.glob("before-repair-*"):
            assert (copy / "flc.db").read_bytes() == spoilt
        if needs_repair(path):
            filled = mend(path)
            check(before, good.said, path, filled)
            assert filled.gone == []
        assert placed(dump(path)) == placed(before)
        Log.open(path).close()
    assert moment > 15
