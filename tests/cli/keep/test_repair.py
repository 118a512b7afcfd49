"""`flc fsck --repair`: what it prints, and when it changes nothing."""

from __future__ import annotations

import json
import sqlite3
import sys
from argparse import Namespace
from contextlib import closing
from pathlib import Path

import pytest

from flc_udp.cli.keep.repair import mend
from flc_udp.model.errors import FlcError
from flc_udp.store.directory import DataDirectory
from flc_udp.store.log import Log
from tests.cli.fake import Flc
from tests.cli.keep.test_fsck import STEPS, spoil
from tests.model.stories import Story


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The data directory of a node that is down."""
    log = Log.open(tmp_path / "flc.db")
    log.append(Story(STEPS).said)
    log.close()
    return tmp_path


def content(data: Path) -> dict[str, bytes]:
    """All files but the lock."""
    return {p.name: p.read_bytes() for p in data.iterdir() if p.is_file() and p.name != "lock"}


def copies(data: Path) -> list[Path]:
    """What repairs have copied."""
    return list(data.glob("before-repair-*"))


async def test_a_clean_database_is_not_touched(flc: Flc, data: Path) -> None:
    """It is said that nothing is to be mended, and no copy is made."""
    before = content(data)
    ended = await flc("fsck", "--repair", "--data", str(data))
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == f"{data}/flc.db: nothing is to be mended, and nothing was changed\n"
    assert content(data) == before
    ended = await flc("fsck", "--repair", "--json", "--data", str(data))
    assert json.loads(ended.out) == {"clean": True, "copy": None, "gone": 0, "waiting": 0}


async def test_rows_that_follow_from_messages(flc: Flc, data: Path) -> None:
    """They are mended, nothing is gone, and the copy is what was there."""
    spoil(data, "UPDATE log SET stamp = 5")
    before = content(data)
    ended = await flc("fsck", "--repair", "--data", str(data))
    (copy,) = copies(data)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == f"mended: 0 messages gone; as it was, it is in {copy}\n"
    assert content(copy) == before
    assert (await flc("fsck", "--data", str(data))).code == 0


def test_a_room_cannot_drive_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is not seen in its name is escaped in JSON, too, which says the same."""
    story = Story()
    story.say("ann", "lob\u202eby\u200b")
    log = Log.open(tmp_path / "flc.db")
    log.append(story.said)
    log.close()
    spoil(tmp_path, "UPDATE block SET encoded = x'00'")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    with pytest.raises(FlcError):
        mend(Namespace(data=str(tmp_path), json=True))
    out = capsys.readouterr().out
    assert json.loads(out.splitlines()[0])["room"] == "lob\u202eby\u200b"
    assert not {"\u202e", "\u200b"} & set(out)


async def test_a_block_that_others_have(flc: Flc, data: Path) -> None:
    """It is named and waits; another repair leaves it; fsck says what to do."""
    block = Story(STEPS).said[7]
    with closing(sqlite3.connect(data / "flc.db", isolation_level=None)) as connection:
        sql = "UPDATE block SET encoded = x'00' WHERE encoded = ?"
        connection.execute(sql, (block.encoded,))
    ended = await flc("fsck", "--repair", "--data", str(data), "--json")
    waits, summary = map(json.loads, ended.out.splitlines())
    assert ended.code == 1
    assert (waits["fate"], waits["dot"], waits["room"]) == ("waits", str(block.dot), "lobby")
    assert (summary["clean"], summary["gone"], summary["waiting"]) == (False, 0, 1)
    assert "hint: start the node" in ended.err
    ended = await flc("fsck", "--data", str(data))
    assert ended.code == 1
    assert f"error: 1 block in {data / 'flc.db'} waits for its bytes\n" in ended.err
    again = await flc("fsck", "--repair", "--data", str(data))
    assert again.code == 0
    assert len(copies(data)) == 1


async def test_messages_that_are_gone(flc: Flc, data: Path) -> None:
    """Each has a line, with the reason."""
    spoil(data, "DELETE FROM block WHERE position > 56")
    gone = Story(STEPS).said[56:]
    ended = await flc("fsck", "--repair", "--data", str(data))
    *lines, _ = ended.out.splitlines()
    assert ended.code == 0
    assert sorted(line.split()[1] for line in lines) == sorted(str(block.dot) for block in gone)
    assert all(line.startswith("gone  ") for line in lines)
    assert (await flc("fsck", "--data", str(data))).code == 0


async def test_a_running_node_is_left_alone(flc: Flc, data: Path) -> None:
    """Its directory is locked."""
    spoil(data, "UPDATE log SET stamp = 5")
    running = DataDirectory(data)
    before = content(data)
    ended = await flc("fsck", "--repair", "--data", str(data))
    running.release()
    assert ended.code == 1
    assert "is in use by a running node" in ended.err
    assert "\nhint: stop that one first" in ended.err
    assert content(data) == before


async def test_where_there_is_no_log(flc: Flc, tmp_path: Path) -> None:
    """Nothing is made there."""
    ended = await flc("fsck", "--repair", "--data", str(tmp_path / "none"))
    assert ended.code == 1
    assert "there is no log at" in ended.err
    assert content(tmp_path) == {}
