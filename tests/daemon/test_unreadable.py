"""A disk that does not give back what it was given: what cannot be read is a reason in status."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from flc_udp.model.errors import FlcError
from tests.daemon.cluster import Cluster, say_all
from tests.daemon.process import DEADLINE_S, until


async def test_a_log_that_cannot_be_read_is_a_reason(cluster: Cluster) -> None:
    """As soon as anybody meets the damage; the node takes says all the same."""
    (ann,) = await cluster.start(1)
    await say_all(ann.control, "ops", [f"{n} {'x' * 2_000}" for n in range(400)])
    ann.process.send_signal(signal.SIGTERM)
    assert await ann.ended() == 0
    database = ann.data / "flc.db"
    content = bytearray(database.read_bytes())
    begin, end = len(content) // 4096 // 3, len(content) // 4096 // 2
    content[begin * 4096 : end * 4096] = b"\xff" * 4096 * (end - begin)
    database.write_bytes(content)
    await ann.start()

    assert (await ann.ask("status"))["healthy"]
    with pytest.raises(FlcError, match="cannot be read"):
        async for _ in ann.control.log("ops"):
            pass

    async def is_told() -> bool:
        return "the log cannot be read" in "".join((await ann.ask("status"))["reasons"])

    await until("status says so", is_told)
    assert (await ann.flc("status")).code == 1
    assert (await ann.control.say("dev", "still here")).position == 401


async def test_a_page_of_peers_that_cannot_be_read(cluster: Cluster) -> None:
    """They are a memory only: the node says so once, and goes on with its seeds."""
    ann, ben = await cluster.start(2)
    await ann.control.say("ops", "hi")
    ben.process.send_signal(signal.SIGTERM)
    assert await ben.ended() == 0
    damage(ben.data / "flc.db", "peer")
    await ben.start(ann.address)
    await cluster.all_alive(ann, ben)
    await ben.control.say("ops", "still here")

    assert len(ben.logged("peers_unreadable")) == 1
    await cluster.converged(ann, ben, messages=2)


@pytest.mark.parametrize("table", ["node", "log", "room", "clock", "arrival"])
async def test_a_page_that_a_start_needs(cluster: Cluster, table: str) -> None:
    """Without it the node is refused before anybody sees it, and told what mends it."""
    (ann,) = await cluster.start(1)
    await ann.control.say("ops", "hi")
    ann.process.send_signal(signal.SIGTERM)
    assert await ann.ended() == 0
    damage(ann.data / "flc.db", table)
    ann.launch()
    assert await ann.ended() == 1

    assert ann.logged("node_started")[1:] == []
    error, hint = ann.log.read_text().splitlines()[-2:]
    assert error.startswith("error: ")
    assert "`flc fsck " in hint
    assert len(ann.logged("node_stopped")) == 1
    assert (await ann.flc("fsck", "--repair")).code == 0
    await ann.start()
    await cluster.converged(ann, messages=1)


def damage(database: Path, table: str) -> None:
    """The root page of a table cannot be read any more."""
    with closing(sqlite3.connect(database)) as connection:
        (page,) = connection.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)
        ).fetchone()
    content = bytearray(database.read_bytes())
    content[(page - 1) * 4_096 : page * 4_096] = b"\xff" * 4_096
    database.write_bytes(content)


async def test_a_reader_that_stands_still_is_a_reason(cluster: Cluster) -> None:
    """As long as it keeps the WAL from being folded in; afterwards the file shrinks again."""
    (ann,) = await cluster.start(1)
    bodies = ["x" * 60_000] * 900
    with closing(sqlite3.connect(ann.data / "flc.db")) as other:
        other.execute("BEGIN")
        other.execute("SELECT count(*) FROM block").fetchall()
        await say_all(ann.control, "ops", bodies)
        (reason,) = (await ann.ask("status"))["reasons"]
        assert "the WAL grows" in reason
        assert "fuser" in "".join((await ann.ask("status"))["advice"])
    await say_all(ann.control, "ops", bodies[:200])
    assert (await ann.ask("status"))["healthy"]
    assert (ann.data / "flc.db-wal").stat().st_size < 40 << 20


async def test_a_log_with_blocks_that_changed_says_so(cluster: Cluster) -> None:
    """What is left is printed, and then how much is not: nobody takes it for the whole."""
    (ann,) = await cluster.start(1)
    await say_all(ann.control, "ops", [f"{n} {'x' * 2_000}" for n in range(20)])
    with closing(sqlite3.connect(ann.data / "flc.db")) as other:
        other.execute("UPDATE block SET encoded = zeroblob(99) WHERE position IN (3, 4, 9)")
        other.commit()
    whole = await ann.flc("log", "ops", "-n", "11")
    part = await ann.flc("log", "ops", "-n", "0")

    assert (whole.code, len(whole.out.splitlines()), whole.err) == (0, 11, "")
    assert (part.code, len(part.out.splitlines())) == (1, 17)
    error, hint = part.err.splitlines()
    assert error.endswith("have changed on the disk: 3 blocks")
    assert "flc status" in hint
    assert (await ann.flc("status")).code == 1


@pytest.mark.parametrize(
    "change", ["messages = 'many'", "stamp = x'00'", "name = x'ff'", "stamp = 1 << 62"]
)
async def test_rooms_with_a_row_that_changed_say_so(cluster: Cluster, change: str) -> None:
    """It is the disk's fault and not this program's, and status tells it, too."""
    (ann,) = await cluster.start(1)
    await ann.control.say("ops", "hi")
    with closing(sqlite3.connect(ann.data / "flc.db")) as other:
        other.execute(f"UPDATE room SET {change}")  # noqa: S608  # ours
        other.commit()
    ended = await ann.flc("rooms")

    assert (ended.code, ended.out) == (1, b"")
    error, hint = ended.err.splitlines()
    assert error.startswith("error: the log cannot be read: read: the row of room ")
    assert "flc fsck" in hint
    assert "the log cannot be read" in "".join((await ann.ask("status"))["reasons"])
    assert not ann.logged("request_failed")


def cut_wal(data: Path) -> None:
    """Cut the WAL to nothing."""
    os.truncate(data / "flc.db-wal", 0)


def cut_database(data: Path) -> None:
    """Cut the database to nothing."""
    os.truncate(data / "flc.db", 0)


def zero_first_page(data: Path) -> None:
    """Zero the page that tells what kind of file it is."""
    with (data / "flc.db").open("r+b") as file:
        file.write(bytes(4_096))


@pytest.mark.parametrize("damage", [cut_wal, cut_database, zero_first_page])
async def test_status_is_told_of_a_log_that_cannot_be_read_at_all(
    cluster: Cluster, damage: Callable[[Path], None]
) -> None:
    """With null for what only the log knows, and why, at the first look; so are the pages."""
    ann = cluster.node("--metrics", "127.0.0.1:0")
    await ann.start()
    await ann.control.say("ops", "hi")
    damage(ann.data)

    status = await ann.ask("status")
    assert "the log cannot be read" in status["reasons"][0]
    assert (status["messages"], status["messages_kept"]) == (1, None)
    screen = await ann.flc("status")
    assert (screen.code, screen.err) == (1, "")
    assert b"NOT HEALTHY: the log cannot be read" in screen.out
    page = f"http://{status['node']['metrics']}/"
    assert "flc_data_readable 0.0" in await asyncio.to_thread(read_page, page + "metrics")
    assert "the log cannot be read" in await asyncio.to_thread(read_page, page + "readyz")


def read_page(url: str) -> str:
    """A page, whatever its status is."""
    try:
        with urllib.request.urlopen(url, timeout=DEADLINE_S) as page:  # noqa: S310  # on loopback
            return str(page.read().decode())
    except urllib.error.HTTPError as page:
        return page.read().decode()
