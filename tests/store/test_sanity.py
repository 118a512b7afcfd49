"""Rows of small tables that cannot be: a node does not start on them, and the repair mends them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from flc_udp.model.errors import StoreFailed
from flc_udp.store.fsck.database import Fsck
from flc_udp.store.log import Log
from flc_udp.store.sanity import is_peer
from tests.store.conftest import Authors

CHANGES = (
    "UPDATE log SET seq = seq + 32 WHERE no = 2",
    "UPDATE log SET seq = seq - 1 WHERE no = 2",
    "UPDATE log SET seq = -seq WHERE no = 2",
    "UPDATE log SET seq = 'many' WHERE no = 2",
    "UPDATE log SET hash = x'0011223344556677' WHERE no = 2",
    "UPDATE log SET id = x'0011223344556677' WHERE no = 2",
    "UPDATE log SET id = 'abcdefgh' WHERE no = 2",
    "UPDATE log SET id = x'00' WHERE no = 2",
    "UPDATE log SET stamp = 1 << 62 WHERE no = 2",
    "UPDATE clock SET seq = seq + 32 WHERE log_no = 2",
    "UPDATE clock SET seq = 'all' WHERE log_no = 2",
    "UPDATE room SET name = x'00' WHERE no = 1",
    "UPDATE room SET position = 1 << 62 WHERE no = 1",
    "UPDATE node SET value = 'high' WHERE key = 'incarnation'",
    "UPDATE node SET value = 9223372036854775807 WHERE key = 'incarnation'",
    "UPDATE node SET value = x'00' WHERE key = 'id'",
    "UPDATE node SET key = 'IN' WHERE key = 'id'",
    "INSERT INTO node (key, value) VALUES ('floor', 1 << 62)",
)


@pytest.fixture
def path(tmp_path: Path, authors: Authors) -> Path:
    """The database of a node that has stopped."""
    path = tmp_path / "flc.db"
    with closing(Log.open(path)) as log:
        log.save_self(b"the node", 7)
        log.save_peers([(b"a friend", "ben \u200b& co", "127.0.0.1:7")])
        log.append([authors.say(("ann", "bob")[n % 2], ("ops", "lobby")[n % 2]) for n in range(9)])
    return path


@pytest.mark.parametrize("change", CHANGES)
def test_what_cannot_be_is_not_started_on(path: Path, change: str) -> None:
    """It is found by fsck, too, and nothing is written."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(change)
    with closing(Log.open(path)) as log:
        with pytest.raises(StoreFailed, match="flc fsck"):
            log.load()
        assert list(Fsck(log.connection).findings()) != []


def test_what_can_be_is_started_on(path: Path) -> None:
    """And nothing is found."""
    with closing(Log.open(path)) as log:
        assert len(log.load().heads) == 2
        assert list(Fsck(log.connection).findings()) == []
        assert len(log.peers()) == 1


@pytest.mark.parametrize("column", ["hash = x'0011223344556677'", "encoded = x'00'"])
def test_a_last_block_that_changed_keeps_no_node_from_starting(path: Path, column: str) -> None:
    """The running node mends its row, or fetches it from others."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"UPDATE block SET {column} WHERE position = 9")  # noqa: S608
    with closing(Log.open(path)) as log:
        assert len(log.load().heads) == 2


@pytest.mark.parametrize(
    "change",
    ["name = CAST(x'ff41' AS TEXT)", "id = 'text'", "id = x'00'", "name = ''", "name = 'zoe'"],
)
def test_a_peer_that_cannot_be_is_left_out(path: Path, change: str) -> None:
    """What is remembered of others keeps no node from starting."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"UPDATE peer SET {change}")  # noqa: S608
    with closing(Log.open(path)) as log:
        assert {finding.check for finding in Fsck(log.connection).findings()} >= {"sum"}
        log.load()
        assert log.peers() == []
        assert list(Fsck(log.connection).findings()) == []


def test_names_of_peers_are_labels() -> None:
    """Whatever a label may be is one; half of a character is none."""
    assert is_peer(b"a friend", "Kaffee & K\u00fcche \u200b", "[::1]:7")
    assert not is_peer(b"a friend", "\udcff", "127.0.0.1:7")
