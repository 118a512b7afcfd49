"""A copy of one moment: what is in it, what is not, and what is left when it cannot be made."""

from __future__ import annotations

import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from flc_udp.model.errors import FlcError
from flc_udp.store import backup
from flc_udp.store.backup import back_up
from flc_udp.store.fsck.database import Fsck
from flc_udp.store.log import Log
from flc_udp.store.schema import MIGRATIONS
from tests.store.disks import files_no_larger_than

Authors = Any  # the class of the fixture: a conftest cannot be imported

ID = b"node id!"


@pytest.fixture
def home(tmp_path: Path, authors: Authors) -> Path:
    """A data directory of a node that has said a little and is down."""
    home = tmp_path / "home"
    home.mkdir()
    with closing(Log.open(home / "flc.db")) as log:
        log.save_self(ID, 1_234_567)
        log.save_peers([(b"another!", "ben", "127.0.0.1:7353")])
        log.append([authors.say("ann", body="x" * 1_000) for _ in range(100)])
    return home


@pytest.fixture
def node(home: Path) -> Iterator[Log]:
    """The same node, running."""
    with closing(Log.open(home / "flc.db")) as log:
        yield log


def names(directory: Path) -> list[str]:
    """What is in a directory."""
    return sorted(path.name for path in directory.iterdir())


def held(path: Path) -> list[tuple[int, bytes]]:
    """What the history of a database is, to a node that opens it."""
    with closing(Log.open(path)) as log, closing(log.reader()) as reader:
        return list(reader.blocks(None))


def test_a_copy_of_a_node_that_is_down(home: Path, tmp_path: Path, authors: Authors) -> None:
    """One plain file, for its owner alone, that holds every message; and no trace at the node."""
    before = names(home)
    made = back_up(home / "flc.db", tmp_path / "copy", replace=False)

    assert (names(home), names(tmp_path)) == (before, ["copy", "home"])
    found = (tmp_path / "copy").stat()
    assert (stat.S_IMODE(found.st_mode), found.st_size) == (0o600, made.size_bytes)
    assert made.history.heads[authors.log("ann")].seq == 100
    # Bytes 18 and 19 say which journal it has (its file format, section 1.3): 1 is none beside it.
    assert (tmp_path / "copy").read_bytes()[18:20] == b"\1\1"
    assert [m.encoded for m in authors.said] == [e for _, e in held(tmp_path / "copy")]


def test_a_copy_is_of_one_moment(
    home: Path, node: Log, tmp_path: Path, authors: Authors, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is committed between two steps is not in it, and the copying is not begun anew."""
    steps = 0

    def say_between(_file: int) -> None:
        nonlocal steps
        steps += 1
        assert steps < 1_000, "it begins anew with each commit"
        node.append([authors.say("ben", body="y" * 1_000)])

    monkeypatch.setattr(backup, "STEP_PAGES", 3)
    monkeypatch.setattr(backup.os, "fsync", say_between)
    back_up(home / "flc.db", tmp_path / "copy", replace=False)
    monkeypatch.undo()

    assert steps > 10
    assert [m.encoded for m in authors.said[:100]] == [e for _, e in held(tmp_path / "copy")]
    assert len(held(home / "flc.db")) == 100 + steps


def test_what_is_only_in_the_wal_is_in_the_copy(
    home: Path, node: Log, tmp_path: Path, authors: Authors
) -> None:
    """A message that was committed a moment ago, and is folded into no database yet."""
    last = authors.say("ben")
    node.append([last])
    back_up(home / "flc.db", tmp_path / "copy", replace=False)

    assert last.encoded in [e for _, e in held(tmp_path / "copy")]


def test_a_copy_is_another_node(home: Path, tmp_path: Path) -> None:
    """Id, incarnation and peers are not in it, and not in its free bytes: whoever starts is new."""
    back_up(home / "flc.db", tmp_path / "copy", replace=False)

    assert ID in (home / "flc.db").read_bytes()
    assert ID not in (tmp_path / "copy").read_bytes()
    assert b"127.0.0.1:7353" not in (tmp_path / "copy").read_bytes()
    with closing(Log.open(tmp_path / "copy")) as log:
        assert (log.identity(), log.incarnation(), log.peers()) == (None, 0, [])


def test_what_was_pruned_stays_pruned(home: Path, node: Log, tmp_path: Path) -> None:
    """Floor and base are the history's, and in the copy; it shrinks as the original does."""
    floor = node.retain(arrived_before_ms=None, bytes_max=0, messages_max=40).floor
    made = back_up(home / "flc.db", tmp_path / "copy", replace=False)

    assert floor == made.history.floor > 0
    with closing(sqlite3.connect(tmp_path / "copy")) as copy:
        assert list(Fsck(copy).findings()) == []
        assert copy.execute("PRAGMA auto_vacuum").fetchone() == (2,)


def test_a_file_that_is_there_is_kept(home: Path, tmp_path: Path) -> None:
    """It is replaced only by force."""
    target = tmp_path / "copy"
    target.write_text("dear")
    with pytest.raises(FlcError, match="is there already") as caught:
        back_up(home / "flc.db", target, replace=False)
    assert "--force" in caught.value.hint
    assert target.read_text() == "dear"

    back_up(home / "flc.db", target, replace=True)
    assert len(held(target)) == 100


def test_a_file_that_came_meanwhile_is_kept(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two backups under one name the first to end stays."""
    target = tmp_path / "copy"
    monkeypatch.setattr(backup.os, "fsync", lambda _file: target.write_text("dear"))
    with pytest.raises(FlcError, match="is there already"):
        back_up(home / "flc.db", target, replace=False)
    assert (names(tmp_path), target.read_text()) == (["copy", "home"], "dear")


@pytest.mark.parametrize("name", ["flc.db-wal", "flc.db-shm", "flc.db-journal"])
def test_what_would_be_taken_for_the_copys_is_not_overlooked(
    home: Path, tmp_path: Path, name: str
) -> None:
    """A journal of another database beside FILE would be played into it: refused, by force too."""
    (tmp_path / name).touch()
    with pytest.raises(FlcError, match="is a database in use"):
        back_up(home / "flc.db", tmp_path / "flc.db", replace=True)
    assert names(tmp_path) == sorted([name, "home"])


def test_no_force_replaces_what_is_no_copy(home: Path, tmp_path: Path) -> None:
    """Neither the node's own database, nor a directory, a link or a device."""
    (tmp_path / "link").symlink_to("nowhere")
    for target, problem in (
        (home / "flc.db", "belongs to the data directory"),
        (tmp_path / "link", "no plain file"),
        (tmp_path, "no plain file"),
        (Path("/dev/null"), "no plain file"),
    ):
        with pytest.raises(FlcError, match=problem):
            back_up(home / "flc.db", target, replace=True)


@pytest.mark.parametrize("name", ["keys", "keys.new", "flc.db-life", "flc.db-wal", "control.sock"])
def test_a_name_that_a_node_uses_is_refused(home: Path, tmp_path: Path, name: str) -> None:
    """Also where the node has no such file yet: it would take the copy for its own."""
    other = tmp_path / "other"
    other.mkdir()
    (other / "lock").touch()
    with pytest.raises(FlcError, match="belongs to the data directory"):
        back_up(home / "flc.db", other / name, replace=False)
    assert names(other) == ["lock"]
    back_up(home / "flc.db", other / "flc.db.bak", replace=False)


def test_no_force_replaces_a_file_of_a_node(home: Path, tmp_path: Path) -> None:
    """By whatever name: its own, or that of another directory, where a node once ran."""
    other = tmp_path / "other"
    other.mkdir()
    for place in (home, other):
        for name in ("lock", "keys", "flc.db-life"):
            (place / name).write_text(name)
    (tmp_path / "hard link").hardlink_to(home / "keys")
    mine = [home / name for name in ("flc.db", "flc.db-life", "lock", "keys")]
    others = [other / name for name in ("lock", "keys", "flc.db-life")]
    control = other / "control.sock"
    control.write_text("as good as a socket")
    for target in (*mine, *others, control, tmp_path / "hard link"):
        before = target.read_bytes()
        with pytest.raises(FlcError, match="belongs to the data directory") as refused:
            back_up(home / "flc.db", target, replace=True)
        assert refused.value.hint
        assert target.read_bytes() == before
    (tmp_path / "keys").write_text("of something else")
    back_up(home / "flc.db", tmp_path / "keys", replace=True)


def test_a_full_disk_leaves_nothing_behind(home: Path, tmp_path: Path) -> None:
    """The error says what could not be written, and what was there before is there still."""
    target = tmp_path / "copy"
    target.write_text("dear")
    with files_no_larger_than(50_000), pytest.raises(FlcError, match="cannot be written") as caught:
        back_up(home / "flc.db", target, replace=True)
    assert (str(target) in str(caught.value), "space" in caught.value.hint) == (True, True)
    assert (names(tmp_path), target.read_text()) == (["copy", "home"], "dear")


def test_a_directory_that_is_not_there(home: Path, tmp_path: Path) -> None:
    """It is not made: a disk that is not mounted is no place for a backup."""
    with pytest.raises(FlcError, match="cannot be made: No such file or directory"):
        back_up(home / "flc.db", tmp_path / "nowhere" / "copy", replace=False)
    assert names(tmp_path) == ["home"]


def test_what_is_damaged_is_not_kept(home: Path, tmp_path: Path) -> None:
    """A copy that does not pass the walk is none; the error says what was found, and of what."""
    with closing(sqlite3.connect(home / "flc.db", isolation_level=None)) as connection:
        connection.execute("UPDATE block SET stamp = stamp + 1 WHERE position = 7")
    with pytest.raises(FlcError, match=r"flc.db is damaged.*message of [0-9a-f]+:7") as caught:
        back_up(home / "flc.db", tmp_path / "copy", replace=False)
    assert "flc fsck" in caught.value.hint
    assert names(tmp_path) == ["home"]


def test_torn_pages_are_no_traceback(home: Path, tmp_path: Path) -> None:
    """What SQLite cannot read is an error like another."""
    path = home / "flc.db"
    path.write_bytes(path.read_bytes()[:20_000] + b"\xff" * 20_000 + path.read_bytes()[40_000:])
    with pytest.raises(FlcError, match="is damaged"):
        back_up(path, tmp_path / "copy", replace=False)
    assert names(tmp_path) == ["home"]


@pytest.mark.parametrize("version", [len(MIGRATIONS) - 1, len(MIGRATIONS) + 1])
def test_another_schema_is_refused(home: Path, tmp_path: Path, version: int) -> None:
    """An older one is brought up to date by its node, a newer one is not understood."""
    with closing(sqlite3.connect(home / "flc.db", isolation_level=None)) as connection:
        connection.execute(f"PRAGMA user_version = {version}")
    with pytest.raises(FlcError, match=f"has schema {version}"):
        back_up(home / "flc.db", tmp_path / "copy", replace=False)
    assert names(tmp_path) == ["home"]
