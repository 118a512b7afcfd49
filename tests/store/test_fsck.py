"""Each test spoils one thing in a copy of a good database, and fsck finds that and nothing else."""

import random
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from flc_udp.model.block import Block, Origin, hash_of, pack_body, write
from flc_udp.model.dots import Dot
from flc_udp.model.errors import FlcError
from flc_udp.model.history import Head
from flc_udp.store import connections
from flc_udp.store.backup import back_up
from flc_udp.store.connections import snapshot
from flc_udp.store.fsck.database import CHECKS, Fsck
from flc_udp.store.fsck.findings import Finding
from flc_udp.store.log import Log
from flc_udp.store.once import KEEP_NUMBER, PAIR
from flc_udp.store.schema import MIGRATIONS
from flc_udp.store.sums import keep_sums

Authors = Any  # the class of the fixture: a conftest cannot be imported

TABLES = ("log", "room", "block", "clock", "once", "past_client", "node", "peer", "arrival")


def talk(authors: Authors) -> None:
    """Three authors in two rooms; some hear late, so there are concurrent heads and late stamps."""
    for name in ("ann", "bob", "cyd", "ann", "bob"):
        authors.say(name)
    authors.listen("bob", "lobby")
    for number in range(5):
        authors.say("ann", "lobby", f"ann's {number}", *map(str, range(number)))
    authors.say("bob", body="concurrent to what ann said meanwhile, and with a lower stamp")
    authors.say("bob", "ops", "one", "two")
    authors.listen("cyd", "ops")
    authors.say("cyd", "ops", wall=1_001)
    authors.listen("ann", "lobby")
    authors.say("ann", body="joins what bob and I said")
    authors.listen("bob", "ops")
    authors.say("bob", "ops", "three", "four", wall=1_002)
    authors.say("cyd", "lobby", "five", "six", "seven")


@pytest.fixture(scope="session")
def said(new_authors: Callable[[], Authors]) -> list[Block]:
    """What the good database holds."""
    authors = new_authors()
    talk(authors)
    blocks: list[Block] = authors.said
    return blocks


@pytest.fixture(scope="session")
def good(said: list[Block], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good database of a node that has ended."""
    path = tmp_path_factory.mktemp("good") / "flc.db"
    log = Log.open(path)
    log.save_self(b"a node!!", 7)
    log.save_peers([(b"another!", "ben", "127.0.0.1:7353")])
    bot = [m.dot for m in said if m.log == said[0].log]
    log.append(said[:4], once=[("bot", 1, bot[0])])
    log.append(said[4:], once=[("bot", 2, bot[1]), ("bot", 5, bot[2])])
    log.connection.execute(KEEP_NUMBER, (b"a client", 7))
    log.close()
    return path


@pytest.fixture
def copy(good: Path, tmp_path: Path) -> Path:
    """A copy of it, to be spoilt."""
    return Path(shutil.copy(good, tmp_path / "flc.db"))


def fsck(path: Path) -> list[Finding]:
    """All that is found in a file."""
    with snapshot(path) as connection:
        return list(Fsck(connection).findings())


def run(path: Path, *statements: str | tuple[str, tuple[object, ...]]) -> None:
    """Change a database; without a WAL, as if it had always been so."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        keep_sums(connection)
        for statement in statements:
            sql, values = (statement, ()) if isinstance(statement, str) else statement
            connection.execute(sql, values)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def checks(findings: Sequence[Finding]) -> list[tuple[str, str]]:
    """(check, what it is about) of each, in the order of the checks."""
    places = ((f, f.dot or (f.log and f.log.hex()) or f.room or "") for f in findings)
    pairs = [(finding.check, str(place)) for finding, place in places]
    return sorted(pairs, key=lambda pair: CHECKS.index(pair[0]))


def of(said: Sequence[Block], author: str) -> list[Block]:
    """What an author said."""
    return [block for block in said if block.author == author]


def end_of(said: Sequence[Block], block: Block) -> int:
    """The position of a block's last message."""
    return sum(len(other.bodies) for other in said[: said.index(block) + 1])


def after(block: Block) -> str:
    """The dot that follows in a message's log."""
    return str(Dot(block.log, block.last + 1))


# --- A good database --------------------------------------------------------------------------


def test_a_good_database_has_no_finding(good: Path, said: list[Block]) -> None:
    """Nothing is found, and all of it was looked at."""
    with snapshot(good) as connection:
        check = Fsck(connection)
        assert list(check.findings()) == []
    assert check.is_complete
    assert check.walk.messages == end_of(said, said[-1]) == 30
    assert check.walk.causes == sum(len(m.causes) for m in said) > 4
    assert check.rows == {"head": 3, "room": 2, "clock": 5, "once": 1, "node": check.rows["node"]}


def test_an_empty_log_is_good(tmp_path: Path) -> None:
    """A node that never heard anything has nothing wrong."""
    Log.open(tmp_path / "flc.db").close()
    assert fsck(tmp_path / "flc.db") == []


@settings(max_examples=100)
@given(
    steps=st.lists(
        st.tuples(
            st.booleans(),
            st.sampled_from(("ann", "bob", "cyd", "dan")),
            st.sampled_from(("lobby", "ops")),
            st.integers(1_000, 1_003),
        ),
        max_size=40,
    )
)
def test_whatever_is_appended_is_good(
    new_authors: Callable[[], Authors], steps: list[tuple[bool, str, str, int]]
) -> None:
    """However authors talk, hear and whatever their clocks say, nothing is found."""
    authors, disk = new_authors(), sqlite3.connect(":memory:")
    for speaks, author, room, wall in steps:
        if speaks:
            authors.say(author, room, wall=wall)
        else:
            authors.listen(author, room)
    log = Log.over(disk)
    for block in authors.said:
        log.append([block])
    assert list(Fsck(disk).findings()) == []
    disk.close()


def test_it_leaves_no_trace(copy: Path) -> None:
    """Of a node that is down neither the directory nor the file changes, not even its times."""
    before = (copy.parent.stat().st_mtime_ns, copy.stat().st_mtime_ns, copy.read_bytes())
    assert fsck(copy) == []
    assert (copy.parent.stat().st_mtime_ns, copy.stat().st_mtime_ns, copy.read_bytes()) == before
    assert list(copy.parent.iterdir()) == [copy]


def test_a_file_that_may_not_be_written(copy: Path) -> None:
    """To be allowed to read is enough."""
    copy.chmod(0o400)
    copy.parent.chmod(0o500)
    try:
        assert fsck(copy) == []
    finally:
        copy.parent.chmod(0o700)


def test_it_sees_one_moment_of_a_running_node(copy: Path, authors: Authors) -> None:
    """What is in the WAL alone is walked, and what is appended meanwhile is not."""
    node = Log.open(copy)
    node.append([authors.say("dan", "ops")])
    with snapshot(copy) as connection:
        check = Fsck(connection)
        findings = check.findings()
        node.append([authors.say("eve"), authors.say("dan", "ops")])
        assert list(findings) == []
    assert check.rows["head"] == 4
    node.close()


@pytest.mark.parametrize("shared", ["mode=ro", "mode=ro&vfs=of a directory not to write"])
def test_a_wal_without_its_index(
    tmp_path: Path, copy: Path, authors: Authors, monkeypatch: pytest.MonkeyPatch, shared: str
) -> None:
    """What a node left that was killed is read as a whole, also where no index can be made."""
    monkeypatch.setattr(connections, "SHARED", shared)
    node = Log.open(copy)
    node.append([authors.say("dan", "ops")])
    (tmp_path / "killed").mkdir()
    killed = Path(shutil.copy(copy, tmp_path / "killed"))
    shutil.copy(f"{copy}-wal", f"{killed}-wal")
    node.close()
    wal = Path(f"{killed}-wal").read_bytes()
    with snapshot(killed) as connection:
        check = Fsck(connection)
        assert list(check.findings()) == []
    assert check.rows["head"] == 4
    assert Path(f"{killed}-wal").read_bytes() == wal


def test_a_node_that_starts_meanwhile(copy: Path, authors: Authors) -> None:
    """Where the file was changed under the walk, that is said, and nothing of what it found."""

    def start_and_end() -> None:
        node = Log.open(copy)
        node.append([authors.say("dan")])
        node.close()

    with pytest.raises(FlcError, match="changed while it was read"), snapshot(copy):
        start_and_end()


# --- Messages ---------------------------------------------------------------------------------


def rewrite(path: Path, block: Block, encoded: bytes) -> None:
    """Put other bytes in a block's place."""
    run(path, ("UPDATE block SET encoded = ? WHERE encoded = ?", (encoded, block.encoded)))


def test_a_flipped_bit_breaks_the_chain(copy: Path, said: list[Block]) -> None:
    """A body with one other bit is told by its row's hash; if that fits, by the next block."""
    block = of(said, "ann")[3]
    changed = block.encoded.replace(b"ann's 1", b"ann's 0")
    rewrite(copy, block, changed)
    (finding,) = fsck(copy)
    assert checks([finding]) == [("message", str(block.dot))]
    assert block.hash.hex() in finding.problem
    run(copy, ("UPDATE block SET hash = ? WHERE encoded = ?", (hash_of(changed), changed)))
    (finding,) = fsck(copy)
    assert checks([finding]) == [("chain", after(block))]
    assert "one of the two has changed" in finding.problem


def test_a_flipped_bit_in_the_last_of_a_log(copy: Path, said: list[Block]) -> None:
    """What no block follows is guarded by its row, and by the head's hash in the log's row."""
    block = of(said, "ann")[-1]
    changed = block.encoded.replace(b"joins", b"jo1ns")
    rewrite(copy, block, changed)
    assert checks(fsck(copy)) == [("message", str(block.dot))]
    run(copy, ("UPDATE block SET hash = ? WHERE encoded = ?", (hash_of(changed), changed)))
    assert checks(fsck(copy)) == [("head", block.log.hex())]


@pytest.mark.parametrize("junk", [b"", b"junk", "text", None])
def test_a_block_that_cannot_be_read(copy: Path, said: list[Block], junk: object) -> None:
    """It is told by the name its row has, and not held against what follows it."""
    block = of(said, "ann")[5]
    junk = block.encoded[:-1] if junk is None else junk
    run(copy, ("UPDATE block SET encoded = ? WHERE encoded = ?", (junk, block.encoded)))
    (finding,) = fsck(copy)
    assert checks([finding]) == [("message", str(block.dot))]
    assert "cannot be read" in finding.problem


@pytest.mark.parametrize("column", ["log_no", "seq", "count", "stamp", "room_no"])
def test_a_row_that_says_otherwise_than_its_block(
    copy: Path, said: list[Block], column: str
) -> None:
    """Each column has to be what the bytes say."""
    block = of(said, "bob")[-1]
    sql = f"UPDATE block SET {column} = {column} + 900 WHERE encoded = ?"  # noqa: S608  # ours
    run(copy, (sql, (block.encoded,)))
    (finding,) = fsck(copy)
    assert checks([finding]) == [("message", str(block.dot))]
    assert column.removesuffix("_no") in finding.problem


# --- Blocks of several messages ---------------------------------------------------------------


def several(said: Sequence[Block]) -> list[Block]:
    """Those blocks that have more than one message, and another block after them in their log."""
    ends = {block.log: block for block in said}
    return [block for block in said if len(block.bodies) > 1 and block is not ends[block.log]]


@pytest.mark.parametrize("which", range(5))
@pytest.mark.parametrize("by", [-1, 1, 1_024, 1 << 40])
@pytest.mark.parametrize("column", ["seq", "count"])
def test_a_wrong_number_of_a_block(
    copy: Path, said: list[Block], which: int, column: str, by: int
) -> None:
    """Its bytes tell what is right: it is found alone, by its first message, and all goes on."""
    block, last = several(said)[which], said[-1]
    sql = f"UPDATE block SET {column} = {column} + ? WHERE encoded = ?"  # noqa: S608  # ours
    with closing(sqlite3.connect(copy)) as connection, suppress(sqlite3.IntegrityError):
        connection.execute(sql, (by, block.encoded))
        connection.execute(sql, (1, last.encoded))
        connection.commit()
        found = fsck(copy)
        assert checks(found) == [("message", str(block.dot)), ("message", str(last.dot))]
        assert f"its row has {column} " in found[0].problem


@pytest.mark.parametrize("which", range(5))
@pytest.mark.parametrize("value", [0, -3, 1_025, "many", 1.5, b""])
def test_a_count_that_is_none(copy: Path, said: list[Block], which: int, value: object) -> None:
    """Whatever stands there, the block is found by its bytes."""
    block = several(said)[which]
    run(copy, ("UPDATE block SET count = ? WHERE encoded = ?", (value, block.encoded)))
    assert checks(fsck(copy)) == [("message", str(block.dot))]


@pytest.mark.parametrize("which", range(5))
@pytest.mark.parametrize("by", [-1, 1_000])
def test_a_block_at_a_wrong_position(copy: Path, said: list[Block], which: int, by: int) -> None:
    """It is told with its first message's position, and so is the block that follows then."""
    block = several(said)[which]
    end = end_of(said, block)
    run(copy, ("UPDATE block SET position = position + ? WHERE position = ?", (by, end)))
    found = fsck(copy)
    dots = {finding.dot for finding in found if finding.check == "position"}
    following = said[said.index(block) + 1]
    assert dots == {block.dot, following.dot}
    first = end - len(block.bodies) + 1 + by
    assert any(f.problem.startswith(f"stands at position {first}, ") for f in found)


@pytest.mark.parametrize("which", range(5))
def test_a_block_that_stands_twice(copy: Path, said: list[Block], which: int) -> None:
    """Bytes of another block in its place are told as that one, and what they lack is missed."""
    block, other = several(said)[which], said[0]
    run(copy, ("UPDATE block SET encoded = ? WHERE encoded = ?", (other.encoded, block.encoded)))
    found = checks(fsck(copy))
    assert ("message", str(other.dot)) in found
    assert ("log", str(other.dot)) in found
    assert ("log", after(block)) in found


@pytest.mark.parametrize("which", range(5))
@pytest.mark.parametrize("junk", [b"", b"\x9a", "text", None])
def test_several_messages_that_cannot_be_read(
    copy: Path, said: list[Block], which: int, junk: object
) -> None:
    """They count as their row says: one finding by the right dot, and all counts stay right."""
    block = several(said)[which]
    junk = block.encoded[:-1] if junk is None else junk
    run(copy, ("UPDATE block SET encoded = ? WHERE encoded = ?", (junk, block.encoded)))
    with snapshot(copy) as connection:
        check = Fsck(connection)
        found = list(check.findings())
    assert checks(found) == [("message", str(block.dot))]
    assert (check.is_complete, check.walk.messages) == (True, 30)
    rooms = {name: room.messages for name, room in check.walk.rooms.items()}
    assert rooms == {"lobby": 25, "ops": 5}


@pytest.mark.parametrize("value", [0, 1, 2, 99, 2_000, "many", None])
def test_one_that_cannot_be_read_and_whose_count_is_wrong(
    copy: Path, said: list[Block], value: object
) -> None:
    """What is left of it does not fit in its place; that is told, and the walk goes on."""
    block = several(said)[1]
    sql = "UPDATE block SET encoded = x'00', count = ifnull(?, seq) WHERE encoded = ?"
    run(copy, (sql, (value, block.encoded)), "UPDATE room SET stamp = 5 WHERE name = 'ops'")
    with snapshot(copy) as connection:
        check = Fsck(connection)
        found = checks(list(check.findings()))
    assert check.is_complete
    assert {"message", "position", "log"} <= {name for name, _ in found}
    assert ("room", "ops") in found


@pytest.mark.parametrize("by", [-1, 1])
def test_rooms_count_messages(copy: Path, by: int) -> None:
    """A room's count is that of its messages, and not of its blocks."""
    run(copy, f"UPDATE room SET messages = messages + {by} WHERE name = 'lobby'")  # noqa: S608
    (finding,) = fsck(copy)
    assert finding.problem == f"its row has messages {25 + by}, by the messages 25"


# --- Places -----------------------------------------------------------------------------------


def test_swapped_stamps(copy: Path, said: list[Block]) -> None:
    """Both rows are told."""
    one, other = said[2], said[8]
    run(
        copy,
        ("UPDATE block SET stamp = ? WHERE position = ?", (other.stamp, end_of(said, one))),
        ("UPDATE block SET stamp = ? WHERE position = ?", (one.stamp, end_of(said, other))),
    )
    assert checks(fsck(copy)) == [("message", str(one.dot)), ("message", str(other.dot))]


def test_a_missing_row(copy: Path, said: list[Block]) -> None:
    """The positions, the log and the room each lack one."""
    block = of(said, "ann")[3]
    run(copy, ("DELETE FROM block WHERE position = ?", (end_of(said, block),)))
    assert checks(fsck(copy)) == [
        ("position", str(said[said.index(block) + 1].dot)),
        ("log", after(block)),
        ("room", block.room),
    ]


def test_a_missing_row_that_is_a_cause(copy: Path, said: list[Block]) -> None:
    """Its stamp is not known: that of the block after it is not taken for it."""
    block = of(said, "ann")[1]
    (reply,) = [b for b in of(said, "bob") if block.dot in b.causes]
    assert reply.stamp <= of(said, "ann")[2].stamp
    run(copy, ("DELETE FROM block WHERE position = ?", (end_of(said, block),)))
    found = checks(fsck(copy))
    assert [check for check, _ in found] == ["position", "log", "room"]


def test_a_missing_end(copy: Path, said: list[Block]) -> None:
    """The last block of all is missed by what told of it: its log, its room and their clock."""
    block = said[-1]
    run(copy, ("DELETE FROM block WHERE position = ?", (end_of(said, block),)))
    found = checks(fsck(copy))
    assert [check for check, _ in found] == ["head", "room", "clock"]
    assert (found[0][1], found[1][1]) == (block.log.hex(), block.room)


def test_swapped_positions(copy: Path, said: list[Block]) -> None:
    """A block before its predecessor: the later one lacks it, and it stands after that."""
    one, other = of(said, "ann")[2:4]
    assert said[said.index(one) + 1] == other
    first, second = end_of(said, one), end_of(said, other)
    between = first - len(one.bodies) + len(other.bodies)
    steps = [(first, 0), (second, between), (0, second)]
    sql = "UPDATE block SET position = ?2 WHERE position = ?1"
    run(copy, *((sql, step) for step in steps))
    assert checks(fsck(copy)) == [("log", str(other.dot)), ("log", str(one.dot))]


def test_a_position_that_was_moved(copy: Path, said: list[Block]) -> None:
    """Positions stand without a gap, and a room's row knows its last one."""
    run(copy, ("UPDATE block SET position = 99 WHERE position = ?", (end_of(said, said[-1]),)))
    dot, room = str(said[-1].dot), said[-1].room
    assert checks(fsck(copy)) == [("position", dot), ("room", room)]


# --- Causality --------------------------------------------------------------------------------


def stranger(causes: Sequence[Dot], stamp: int, head: Head | None = None) -> Block:
    """What a node could have written that does not keep the rules; `head` is its log's."""
    return write(
        log=b"stranger",
        first=head.seq + 1 if head else 1,
        room="lobby",
        author="eve",
        wall=0,
        stamp=stamp,
        causes=tuple(causes),
        parent=head.hash if head else bytes(8),
        bodies=[pack_body("hi")],
        origin=None if head else Origin(b"strange!", "eve"),
    )


def append(path: Path, *blocks: Block) -> None:
    """Append without a look at their causes, which only the core takes: it refused no branch."""
    log = Log.open(path)
    log.append(blocks)
    log.close()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("DELETE FROM fork")


def test_a_missing_cause(copy: Path, said: list[Block]) -> None:
    """A cause that is not held is told with the message that names it."""
    block = stranger([Dot(said[0].log, 900)], stamp=1 << 60)
    append(copy, block)
    (finding,) = fsck(copy)
    assert checks([finding]) == [("cause", str(block.dot))]
    assert f"{said[0].log.hex()}:900" in finding.problem


def test_a_cause_that_stands_after(copy: Path, authors: Authors) -> None:
    """A cause has to be held before, not only in the end."""
    late = authors.say("zoe")
    block = stranger([late.dot], stamp=1 << 60)
    append(copy, block, late)
    # What was moved past late was not there yet: the frontier is as the store made it.
    assert checks(fsck(copy)) == [("cause", str(block.dot))]


def test_a_stamp_that_is_not_above_its_cause_is_its_author_s(
    copy: Path, said: list[Block], tmp_path: Path
) -> None:
    """No node could refuse it, so it is counted, and the disk is sound: a backup is made, too."""
    deep, last = of(said, "ann")[3], of(said, "ann")[-1]
    one = stranger([deep.dot], stamp=deep.stamp)
    other = stranger([last.dot], last.stamp, Head(1, one.hash, one.stamp))
    append(copy, one, other)
    with snapshot(copy) as connection:
        check = Fsck(connection)
        assert list(check.findings()) == []
    assert check.walk.odd_causes == 2
    back_up(copy, tmp_path / "backup.db", replace=False)


def test_a_stamp_that_does_not_rise_along_its_log(copy: Path) -> None:
    """Nor may a log's stamps stand still."""
    one = stranger([], stamp=5)
    other = stranger([], 5, Head(1, one.hash, 5))
    append(copy, one, other)
    assert checks(fsck(copy)) == [("stamp", str(other.dot))]


# --- What follows from the messages -----------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("seq", 99),
        ("hash", b"12345678"),
        ("stamp", 1),
        ("node", b"12345678"),
        ("node", None),
        ("name", "nobody"),
        ("name", b"ann"),
    ],
)
def test_a_wrong_head(copy: Path, said: list[Block], column: str, value: object) -> None:
    """Seq, hash, stamp and origin of a log's row are its messages'."""
    sql = f"UPDATE log SET {column} = ? WHERE id = ?"  # noqa: S608  # ours
    run(copy, (sql, (value, said[0].log)))
    (finding,) = fsck(copy)
    assert checks([finding]) == [("head", said[0].log.hex())]
    assert column in finding.problem


def test_a_row_of_nothing(copy: Path) -> None:
    """Logs and rooms have a message each, and clocks are of these."""
    run(
        copy,
        "INSERT INTO log (id, seq, hash, stamp) VALUES (x'0102030405060708', 0, x'', 0)",
        "INSERT INTO room (name, messages, stamp, position) VALUES ('void', 0, 0, 0)",
        "INSERT INTO clock (room_no, log_no, seq) VALUES (2, 99, 1)",
    )
    assert checks(fsck(copy)) == [("head", "0102030405060708"), ("room", "void"), ("clock", "ops")]


def test_a_log_without_its_row(copy: Path, said: list[Block]) -> None:
    """Whose messages they are is told by their bytes; the row is missed with all it numbered."""
    run(copy, ("DELETE FROM log WHERE id = ?", (said[2].log,)))
    found = checks(fsck(copy))
    dots = [("message", str(m.dot)) for m in said if m.log == said[2].log]
    assert found[: len(dots)] == dots
    assert ("head", said[2].log.hex()) in found


@pytest.mark.parametrize("column", ["messages", "stamp", "position"])
def test_a_wrong_room(copy: Path, column: str) -> None:
    """Its count, its greatest stamp and its last position are its messages'."""
    run(copy, f"UPDATE room SET {column} = {column} + 1 WHERE name = 'ops'")  # noqa: S608  # ours
    (finding,) = fsck(copy)
    assert checks([finding]) == [("room", "ops")]
    assert column in finding.problem


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE clock SET seq = seq - 1 WHERE {row}",
        "UPDATE clock SET edge_stamp = 5 WHERE {row}",
        "UPDATE clock SET edge_stamp = NULL WHERE {row}",
        "DELETE FROM clock WHERE {row}",
    ],
)
def test_a_wrong_clock(copy: Path, said: list[Block], change: str) -> None:
    """The vector clock's rows and the frontier's stamps follow from the messages."""
    cyd = of(said, "cyd")[-1]
    row = "edge_stamp IS NOT NULL AND room_no = 1 AND log_no = (SELECT no FROM log WHERE id = ?)"
    run(copy, (change.format(row=row), (cyd.log,)))
    (finding,) = fsck(copy)
    assert (finding.check, finding.room, finding.log) == ("clock", "lobby", cyd.log)


def test_an_edge_that_is_covered(copy: Path, said: list[Block]) -> None:
    """What something else comes after does not stand in the frontier."""
    run(copy, "UPDATE clock SET edge_stamp = 5 WHERE edge_stamp IS NULL AND room_no = 1")
    covered = {m.log for m in said if m.author == "bob"}
    assert {(f.check, f.room) for f in fsck(copy)} == {("clock", "lobby")}
    assert {f.log for f in fsck(copy)} == covered


@pytest.mark.parametrize(
    "pairs",
    [
        [],
        [(1, b"unknown!", 1)],
        [(1, None, 900)],
        [(2, None, 1), (1, None, 2)],
        [(n, None, 1) for n in range(1_025)],
    ],
    ids=["none", "unknown log", "beyond its head", "falling", "too many"],
)
def test_what_a_client_cannot_have_said(
    copy: Path, said: list[Block], pairs: list[tuple[int, bytes | None, int]]
) -> None:
    """Its numbers rise, their dots are held, and there are no more than are remembered."""
    packed = b"".join(PAIR.pack(n, log or said[0].log, seq) for n, log, seq in pairs)
    run(copy, ("UPDATE once SET said = ?", (packed,)))
    assert checks(fsck(copy)) == [("once", "")]


# --- The file ---------------------------------------------------------------------------------


def test_an_index_that_is_not_its_tables(copy: Path) -> None:
    """An index that was not changed with its table is found by SQLite's own check."""
    forget = "DELETE FROM sqlite_schema WHERE name = 'block_history'"
    with closing(sqlite3.connect(copy)) as connection:
        sql = "SELECT * FROM sqlite_schema WHERE name = 'block_history'"
        index = connection.execute(sql).fetchone()
    run(copy, "UPDATE block SET stamp = stamp + 1 WHERE position = 5")
    run(copy, "PRAGMA writable_schema = ON", forget)
    run(copy, "UPDATE block SET stamp = stamp - 1 WHERE position = 5")
    remember = ("INSERT INTO sqlite_schema VALUES (?, ?, ?, ?, ?)", index)
    run(copy, "PRAGMA writable_schema = ON", remember)
    findings = fsck(copy)
    assert {finding.check for finding in findings} == {"file"}
    assert "row 5 missing from index block_history" in [f.problem for f in findings]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("DROP INDEX block_history", "index block_history is missing"),
        ("ALTER TABLE once ADD COLUMN more", "table once is not as this flc makes it"),
        ("CREATE TABLE other (x)", "table other is not as this flc makes it"),
    ],
)
def test_a_changed_schema(copy: Path, change: str, problem: str) -> None:
    """Tables and indexes are those of the migrations."""
    run(copy, change)
    assert fsck(copy) == [Finding("file", problem)]


def test_a_lost_table_ends_the_walk(copy: Path) -> None:
    """What cannot be walked is said, and that not all was."""
    run(copy, "DROP TABLE block")
    with snapshot(copy) as connection:
        check = Fsck(connection)
        findings = list(check.findings())
    assert {finding.check for finding in findings} == {"file"}
    assert "table block is missing" in [finding.problem for finding in findings]
    assert not check.is_complete


def test_every_torn_page_is_found(copy: Path) -> None:
    """Whichever page is overwritten, something is found or the file is refused."""
    content = copy.read_bytes()
    for page in range(1, len(content) // 4096):
        copy.write_bytes(content[: page * 4096] + b"\xa5" * 4096 + content[page * 4096 + 4096 :])
        with suppress(FlcError):
            assert fsck(copy) != []


def test_any_flipped_bit_is_found(good: Path, tmp_path: Path) -> None:
    """Wherever a bit of the file is another, that is a finding, or the file is refused.

    But for SQLite's own header. Bytes that are zero are left out: mostly they are space that no row
    uses.
    """
    chance, content, path = random.Random(1), good.read_bytes(), tmp_path / "flc.db"
    used = [at for at, byte in enumerate(content) if byte and at >= 100]
    for at in chance.choices(used, k=400):
        flipped = bytes([content[at] ^ 1 << chance.randrange(8)])
        path.write_bytes(content[:at] + flipped + content[at + 1 :])
        with suppress(FlcError):
            assert fsck(path), f"byte {at}"


def test_text_that_is_no_utf8(copy: Path) -> None:
    """Broken text is a finding like another."""
    run(copy, "UPDATE room SET name = CAST(x'ff6f' AS TEXT) WHERE name = 'ops'")
    assert ("room", "\udcffo") in checks(fsck(copy))


@pytest.mark.parametrize(
    ("pragma", "problem"),
    [
        (f"user_version = {len(MIGRATIONS) + 1}", "this flc knows schemas up to"),
        (f"user_version = {len(MIGRATIONS) - 1}", "which was before"),
        ("application_id = 77", "database of another program"),
    ],
)
def test_a_schema_that_is_not_known(copy: Path, pragma: str, problem: str) -> None:
    """Only the present schema is walked; of others it is said what to do."""
    run(copy, f"PRAGMA {pragma}")
    with pytest.raises(FlcError, match=problem) as caught:
        fsck(copy)
    assert caught.value.hint


@pytest.mark.parametrize("content", [b"", b"x", b"\xff" * 8_192, b"SQLite format 3\0" + bytes(99)])
def test_a_file_that_is_no_database(tmp_path: Path, content: bytes) -> None:
    """It is refused with a hint, and so is a place with no file at all."""
    path = tmp_path / "flc.db"
    path.write_bytes(content)
    for place in (path, tmp_path / "nothing", tmp_path):
        with pytest.raises(FlcError, match=str(place)) as caught:
            fsck(place)
        assert caught.value.hint
    assert list(tmp_path.iterdir()) == [path]


# --- Anything ---------------------------------------------------------------------------------

values = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.integers(0, 30),
    st.text(max_size=9),
    st.binary(max_size=9),
    st.none(),
    st.floats(allow_nan=False),
)


def flipped(value: object, chance: int) -> object:
    """A value with one bit changed, in whatever it is."""
    if isinstance(value, int):
        return value ^ 1 << chance % 62
    if isinstance(value, bytes) and value:
        at, bit = chance // 8 % len(value), 1 << chance % 8
        return value[:at] + bytes([value[at] ^ bit]) + value[at + 1 :]
    return chance


@settings(max_examples=400)
@given(data=st.data())
def test_any_changed_value_is_found(good: Path, data: st.DataObject) -> None:
    """Whichever column of whichever row holds another value, something is found."""
    disk = sqlite3.connect(":memory:", isolation_level=None)
    with closing(disk), closing(sqlite3.connect(f"file:{good}?immutable=1", uri=True)) as source:
        source.backup(disk)
        table = data.draw(st.sampled_from(TABLES), "table")
        sql = f"SELECT * FROM {table}"  # noqa: S608  # ours
        rows = disk.execute(sql)
        columns = [column[0] for column in rows.description]
        row = data.draw(st.sampled_from(rows.fetchall()), "row")
        at = data.draw(st.integers(0, len(columns) - 1), "column")
        value = data.draw(st.integers(0, 2**16).map(lambda n: flipped(row[at], n)) | values)
        where = " AND ".join(f"{column} IS ?" for column in columns)
        change = f"UPDATE {table} SET {columns[at]} = ? WHERE {where}"  # noqa: S608  # ours
        try:
            disk.execute(change, (value, *row))
        except sqlite3.IntegrityError:
            reject()
        if row in disk.execute(sql).fetchall():
            reject()  # SQLite took it for the same value.
        assert list(Fsck(disk).findings()) != []
