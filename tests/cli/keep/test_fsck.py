"""`flc fsck`: what it prints of what was found. What is found, is tested with the store."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from flc_udp.cli.keep.fsck import FINDINGS_SHOWN
from flc_udp.model.dots import Dot
from flc_udp.store.fsck.database import CHECKS
from flc_udp.store.log import Log
from flc_udp.store.sums import keep_sums
from tests.cli.fake import Flc
from tests.model.stories import Story, variant

STEPS = [(author, "lobby", n or None) for n in range(30) for author in ("ann", "bob")]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The data directory of a node that is down."""
    log = Log.open(tmp_path / "flc.db")
    log.append(Story(STEPS).said)
    log.close()
    return tmp_path


def spoil(data: Path, sql: str) -> None:
    """Change the database."""
    with closing(sqlite3.connect(data / "flc.db", isolation_level=None)) as connection:
        keep_sums(connection)
        connection.execute(sql)


async def test_a_clean_database(flc: Flc, data: Path) -> None:
    """What was walked, then a line a check, and exit 0."""
    ended = await flc("fsck", "--data", str(data))

    first, *lines = ended.out.splitlines()
    assert (ended.code, ended.err) == (0, "")
    assert first == f"{data / 'flc.db'}: 60 messages, 2 logs, 1 room"
    assert [line.split()[:2] for line in lines] == [[name, "ok"] for name in CHECKS]


async def test_a_cause_against_the_rules_is_told_and_no_finding(flc: Flc, data: Path) -> None:
    """Its author named it, and no node can mend that: exit 0."""
    story = Story()
    with closing(Log.open(data / "flc.db")) as log:
        heads = log.load().heads
        last = max(heads, key=lambda found: heads[found].stamp)
        log.append([variant(story.say("eve"), causes=(Dot(last, heads[last].seq),))])
    ended = await flc("fsck", "--data", str(data))

    assert (ended.code, ended.err) == (0, "")
    assert "every cause, but 1 cause that a member named" in ended.out


async def test_a_clean_database_as_json(
    flc: Flc, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The summary alone; the directory is the daemon's, where none is named."""
    monkeypatch.setenv("FLC_DATA", str(data))
    ended = await flc("fsck", "--json")

    assert (ended.code, ended.err) == (0, "")
    assert json.loads(ended.out) == {
        "clean": True,
        "complete": True,
        "findings": 0,
        "checks": dict.fromkeys(CHECKS, 0),
        "messages": 60,
        "logs": 2,
        "rooms": 1,
        "floor": 0,
        "pruned": 0,
        "path": str(data / "flc.db"),
    }


async def test_a_pruned_database(flc: Flc, data: Path) -> None:
    """The floor is told, with its time, and the claims are of what is left."""
    with closing(Log.open(data / "flc.db")) as log:
        floor = log.retain(arrived_before_ms=None, bytes_max=0, messages_max=21).floor
    ended = await flc("fsck", "--data", str(data))

    first, second, *lines = ended.out.splitlines()
    assert (ended.code, ended.err) == (0, "")
    assert first == f"{data / 'flc.db'}: 38 messages, 2 logs, 1 room"
    assert second.startswith(f"floor {floor}, 1970-01-0")
    assert [line.split()[:2] for line in lines] == [[name, "ok"] for name in CHECKS]
    assert "floor     ok        22 messages were pruned, and what is left fits" in lines

    ended = await flc("fsck", "--data", str(data), "--json")
    summary = json.loads(ended.out)
    assert (summary["floor"], summary["pruned"], summary["messages"]) == (floor, 22, 38)


async def test_beside_a_running_node(flc: Flc, data: Path) -> None:
    """The node's writer has the file open, and neither is disturbed."""
    node = Log.open(data / "flc.db")
    node.save_self(b"a node!!", 7)
    assert (await flc("fsck", "--data", str(data))).code == 0
    node.save_self(b"a node!!", 8)
    node.close()


async def test_findings_for_people(flc: Flc, data: Path) -> None:
    """A line each with what it is about, and in the end what to do."""
    spoil(data, "INSERT INTO room VALUES (9, 'l' || char(27), 0, 0, 0, 0, NULL)")
    spoil(data, "UPDATE log SET stamp = 5 WHERE no = 1")
    log = Story(STEPS).said[0].log.hex()
    ended = await flc("fsck", "--data", str(data))

    assert ended.code == 1
    assert f"head      {log}  its row has stamp 5, by the messages " in ended.out
    assert "room      l␛  row of a room without messages\n" in ended.out
    assert "\nhead      1 WRONG   2 rows of logs" in ended.out
    error, hint = ended.err.splitlines()
    assert error == f"error: 2 findings in {data / 'flc.db'}"
    assert hint.startswith(f"hint: stop the node and run `flc fsck --repair --data {data}`")


async def test_many_findings(flc: Flc, data: Path) -> None:
    """Those above the number shown of a check are counted, and each printed for scripts."""
    spoil(data, "UPDATE block SET stamp = stamp + 1")
    ended = await flc("fsck", "--data", str(data))

    assert sum(line.startswith("message ") for line in ended.out.splitlines()) == FINDINGS_SHOWN + 1
    assert ended.out.endswith(f"\nand {60 - FINDINGS_SHOWN} more, which --json prints\n")
    assert "\nmessage   60 WRONG  60 messages" in ended.out

    ended = await flc("fsck", "--data", str(data), "--json")
    *findings, summary = map(json.loads, ended.out.splitlines())
    assert ended.code == 1
    assert [finding["dot"] for finding in findings] == [str(m.dot) for m in Story(STEPS).said]
    assert list(findings[0]) == ["check", "dot", "log", "room", "problem"]
    assert (summary["clean"], summary["complete"], summary["findings"]) == (False, True, 60)
    assert summary["checks"]["message"] == 60


async def test_a_walk_that_ended_early(flc: Flc, data: Path) -> None:
    """What was not looked at is not called right."""
    spoil(data, "DROP TABLE block")
    ended = await flc("fsck", "--data", str(data))

    assert ended.code == 1
    assert "not walked to the end" in ended.out
    assert " ok " not in ended.out
    assert ended.err.startswith("error: 3 findings in ")
    summary = (await flc("fsck", "--data", str(data), "--json")).out.splitlines()[-1]
    assert json.loads(summary)["complete"] is False


async def test_where_there_is_no_log(flc: Flc, tmp_path: Path) -> None:
    """The error names the file that was looked for, the hint how to name another."""
    ended = await flc("fsck", "--data", str(tmp_path))

    assert (ended.code, ended.out) == (1, "")
    error, hint = ended.err.splitlines()
    assert error == f"error: there is no log at {tmp_path}/flc.db: No such file or directory"
    assert "--data" in hint
