"""Rows of small tables that have changed on the disk are found, and set right as far as can be."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flc_udp.config import SEQ_LIMIT
from flc_udp.model.dots import BEGINNING
from flc_udp.model.errors import StoreFailed
from flc_udp.store import once
from flc_udp.store.fsck.database import Fsck
from flc_udp.store.log import Log
from flc_udp.store.once import KEEP_NUMBER, hash_of_client
from flc_udp.store.repair.repair import needs_repair
from flc_udp.store.sums import SUMMED, changed_rows, know_sums, set_right, sum_of
from tests.store.conftest import Authors
from tests.store.flips import dump, mend

MINUTE_MS = 60_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the database is."""
    return tmp_path / "flc.db"


@pytest.fixture
def log(path: Path, authors: Authors) -> Iterator[Log]:
    """The log of a running node, which has pruned and has rows in all tables."""
    with closing(Log.open(path)) as log:
        log.save_self(b"the node", 7)
        log.save_peers([(b"a friend", "ben & co", "127.0.0.1:7")])
        for n in range(9):
            block = authors.say(("ann", "bob")[n % 2], ("ops", "lobby")[n % 3 // 2])
            log.append([block], [(f"bot {n % 3}", n, block.dot)], n * 2 * MINUTE_MS)
        log.connection.execute(KEEP_NUMBER, (hash_of_client("bot 9"), 7))
        log.retain(arrived_before_ms=None, bytes_max=0, messages_max=4)
        log.load()
        yield log


def rot(path: Path, change: str) -> None:
    """Change a database as a disk does, which keeps no sums."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(change)


def kept(log: Log) -> dict[str, list[Any]]:
    """All rows of the tables that have sums."""
    return {t: log.connection.execute(f"SELECT * FROM {t}").fetchall() for t in SUMMED}  # noqa: S608


BIT_BY_BIT = (
    "UPDATE node SET value = value + 16 WHERE key = 'incarnation'",
    "UPDATE node SET value = x'74686520' || x'6e6f6465' WHERE key = 'id'",
    "UPDATE node SET value = CAST(x'74686520' || x'6e6f6464' AS BLOB) WHERE key = 'id'",
    "UPDATE node SET key = 'fdoor' WHERE key = 'floor'",
    "UPDATE node SET checksum = checksum ^ 64 WHERE key = 'floor'",
    "UPDATE log SET base_stamp = base_stamp + 1 - base_stamp % 2 * 2",
    "UPDATE log SET name = 'ajn' WHERE name = 'ann'",
    "UPDATE room SET name = 'mobby' WHERE name = 'lobby'",
    "UPDATE room SET name = CAST(x'ef7073' AS TEXT) WHERE name = 'ops'",
    "UPDATE clock SET base_seq = base_seq + 64 WHERE base_seq > 0",
    "UPDATE once SET client = 'bot 3' WHERE client = 'bot 1'",
    "UPDATE once SET said = CAST(x'40' || substr(said, 2) AS BLOB)",
    "UPDATE peer SET name = 'cen & co'",
    "UPDATE arrival SET wall_ms = wall_ms + 1 WHERE position = 7",
    "UPDATE arrival SET least_stamp = -(1 << 31) + least_stamp WHERE position = 7",
)


@pytest.mark.parametrize("change", BIT_BY_BIT)
@pytest.mark.parametrize("is_running", [True, False])
def test_a_bit_that_flipped_is_flipped_back(
    path: Path, log: Log, change: str, *, is_running: bool
) -> None:
    """While the node runs, or when it starts."""
    before = kept(log)
    rot(path, change.replace("^ 64", "+ 64 - checksum / 64 % 2 * 128"))
    if kept(log) == before:
        pytest.skip("it was so before")
    assert [f for f in Fsck(log.connection).findings() if f.check == "sum"]
    if is_running:
        log.heal([])
    else:
        log.recover()
        log.load()
        log.connection.execute("UPDATE node SET value = ? WHERE key = 'life'", [life(before)])
    assert kept(log) == before
    assert list(Fsck(log.connection).findings()) == []


def life(rows: dict[str, list[Any]]) -> str:
    """The number of this life of the database."""
    return next(str(value) for key, value, _ in rows["node"] if key == "life")


@pytest.mark.parametrize("change", [c for c in BIT_BY_BIT if "client =" not in c])
def test_the_repair_does_so_too(path: Path, log: Log, change: str) -> None:
    """And then nothing is forgotten or gone."""
    log.close()
    before = dump(path)
    rot(path, change.replace("^ 64", "+ 64 - checksum / 64 % 2 * 128"))
    if not needs_repair(path):
        pytest.skip("it was so before")
    filled = mend(path)
    assert (filled.gone, filled.waiting, filled.forgotten) == ([], [], [])
    after = dump(path)
    for table in ("once", "past_client", "peer", "arrival"):
        assert after[table] == before[table]


def test_what_is_a_mere_convenience_goes(path: Path, log: Log) -> None:
    """Peers, and times of arrival: what came then counts as come with the next row."""
    rot(path, "UPDATE peer SET name = 'somebody else'")
    rot(path, "UPDATE arrival SET wall_ms = 12345, least_stamp = 1 << 60 WHERE position = 6")
    log.heal([])
    assert log.peers() == []
    assert list(Fsck(log.connection).findings()) == []
    walls = dict(log.connection.execute("SELECT wall_ms, least_stamp FROM arrival"))
    assert 12345 not in walls
    held = log.connection.execute("SELECT position, stamp FROM block WHERE position >= 5")
    for position, stamp in held:
        arrived = (position - 1) * 2 * MINUTE_MS
        assert any(wall >= arrived and least <= stamp for wall, least in walls.items())


@pytest.mark.parametrize("rows", ["position = 9", "position >= 7", "1"])
def test_the_latest_time_of_arrival_that_is_lost_is_now(path: Path, log: Log, rows: str) -> None:
    """So what came then is pruned no sooner."""
    rot(path, f"UPDATE arrival SET wall_ms = 12345 WHERE {rows}")  # noqa: S608
    log.heal([])
    log.retain(arrived_before_ms=100 * MINUTE_MS, bytes_max=None)
    stamps = log.connection.execute("SELECT count(*) FROM block WHERE position >= 7").fetchone()
    assert stamps == (3,)


@pytest.mark.parametrize(
    ("table", "change"),
    [("node", "value = 9 WHERE key = 'floor'"), ("clock", "base_seq = 33 WHERE base_seq > 0")],
)
def test_what_cannot_be_set_right_is_told(path: Path, log: Log, table: str, change: str) -> None:
    """It is told to nobody, no start begins from it, and no write makes it look sound."""
    rot(path, f"UPDATE {table} SET {change}")  # noqa: S608
    with pytest.raises(StoreFailed, match=f"of the table {table}") as caught:
        log.heal([])
    assert "fsck --repair" in str(caught.value)
    with closing(log.reader()) as reader, pytest.raises(StoreFailed, match="has changed"):
        reader.floor() if table == "node" else reader.base(BEGINNING, 9)
    log.connection.execute(f"UPDATE {table} SET {change}")  # noqa: S608
    assert changed_rows(log.connection).keys() == {table}
    log.recover()
    with pytest.raises(StoreFailed, match="the table"):
        log.load()


def test_what_a_client_said_is_not_guessed(path: Path, log: Log) -> None:
    """Its requests fail, and those of others do not. The repair refuses all its numbers."""
    rot(path, "UPDATE once SET said = x'00' || zeroblob(23) WHERE client = 'bot 1'")
    rot(path, "UPDATE past_client SET n = 3")
    with closing(log.reader()) as reader:
        for client in ("bot 1", "bot 9"):
            with pytest.raises(StoreFailed, match="a client said"):
                reader.once(client, 50, 1)
        assert reader.once("bot 2", 50, 1) == ([None], 8)
    with suppress(StoreFailed):
        log.heal([])
    log.close()
    forgotten = mend(path).forgotten
    assert [words for words in forgotten if "'bot 1'" in words]
    with closing(Log.open(path)) as again, closing(again.reader()) as reader:
        assert reader.once("bot 1", 50, 1) == ([None], SEQ_LIMIT)
        assert reader.once("bot 2", 50, 1) == ([None], 8)


def test_a_long_row_of_a_client(path: Path, log: Log, authors: Authors) -> None:
    """Which bit it was is not looked for: that takes too long."""
    said = b"".join(once.PAIR.pack(n, authors.log("ann"), 1) for n in range(1_000))
    log.connection.execute("REPLACE INTO once (client, said) VALUES ('bot 1', ?)", (said,))
    rot(path, "UPDATE once SET client = 'bot 0' || 7 WHERE client = 'bot 1'")
    with pytest.raises(StoreFailed, match="1 of the table once"):
        log.heal([])


SUM_OF_PEER = f"SELECT {sum_of('peer', '???')}"


@given(node=st.binary(min_size=8, max_size=8), name=st.text(max_size=20), at=st.integers(0, 400))
def test_any_bit_of_a_row(node: bytes, name: str, at: int) -> None:
    """It is found, and flipped back."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        know_sums(connection)
        row = (node, name.replace("\0", ""), "[::1]:7352")
        changed = list(row)
        raw = node if (column := at % 3) == 0 else str(row[column]).encode()
        if not raw:
            return
        place, bit = at % len(raw), at % 8
        flipped = raw[:place] + bytes([raw[place] ^ 1 << bit]) + raw[place + 1 :]
        changed[column] = flipped if column == 0 else flipped.decode(errors="surrogateescape")
        (checksum,) = connection.execute(SUM_OF_PEER, row).fetchone()
        assert set_right(connection, "peer", changed, checksum) == row
        assert set_right(connection, "peer", row, checksum ^ 1 << bit) == row
        assert set_right(connection, "peer", (node, "", None), checksum ^ 3) is None
