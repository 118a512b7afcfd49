"""Messages may stand on a branch of a log that was refused: what was appended so is no finding."""

import sqlite3
from contextlib import closing
from pathlib import Path

from flc_udp.model.dots import Dot
from flc_udp.store.connections import snapshot
from flc_udp.store.fsck.database import Fsck
from flc_udp.store.fsck.findings import Finding
from flc_udp.store.log import Log
from tests.model.stories import Story, variant


def found(path: Path) -> list[Finding]:
    """All that fsck finds."""
    with snapshot(path) as connection:
        return list(Fsck(connection).findings())


def test_a_cause_on_a_refused_branch_is_told_from_one_that_was_lost(tmp_path: Path) -> None:
    """The log noted the first kind when it was appended. Without that note it is the second."""
    story = Story()
    first, reply = story.say("ann"), story.say("bob")
    path = tmp_path / "flc.db"
    log = Log.open(path)
    log.append([first, variant(reply, causes=(Dot(first.log, 5),), bodies=["on the other branch"])])
    log.append([story.say("cyd")])
    log.close()
    assert found(path) == []

    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("DELETE FROM fork")
    assert [finding.check for finding in found(path)] == ["cause"]
