"""`flc export` and `flc import`: what comes out goes in, and nothing else does."""

from __future__ import annotations

import base64
import io
import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flc_udp.cli.keep.export import (
    BASE_ROOMS_A_LINE,
    ExportHead,
    block_lines,
    head_line,
    lines,
)
from flc_udp.cli.keep.imports import BATCH_MESSAGES, Import
from flc_udp.model.block import Block, hash_of
from flc_udp.model.errors import FlcError
from flc_udp.model.json_lines import compact
from flc_udp.store.connections import connect
from flc_udp.store.directory import DataDirectory
from flc_udp.store.fsck.database import Fsck
from flc_udp.store.log import Log
from flc_udp.store.schema import MIGRATIONS
from tests.cli.down import directory_of
from tests.cli.fake import Flc, Spawn
from tests.model.stories import Story, counts, steps, variant
from tests.store.nodes import EVERYTHING, Node, size

STEPS = [("ann", "lobby", None), ("bob", "ops", 0), ("bob", "lobby", 0), ("ann", "lobby", 2)]


Steps = list[tuple[str, str, int | None]]


class Disk:
    """A node that is down: its database, in memory."""

    def __init__(self) -> None:
        self.connection = sqlite3.connect(":memory:")
        self.log = Log.over(self.connection)

    def take(self, exported: bytes) -> Import:
        """Import, as `flc import` does."""
        taking = Import(self.log, self.log.reader())
        taking.take_all(io.BytesIO(exported))
        return taking

    def refuses(self, exported: bytes) -> str:
        """Import what is wrong: the error."""
        with pytest.raises(FlcError) as caught:
            self.take(exported)
        assert caught.value.hint
        return str(caught.value)

    def check(self) -> None:
        """Nothing is found wrong."""
        assert list(Fsck(self.connection).findings()) == []


def exported(connection: sqlite3.Connection, room: str | None = None) -> bytes:
    """What `flc export` prints."""
    return b"".join(line + b"\n" for line in lines(connection, room))


def export_of(*blocks: Block) -> bytes:
    """What a node that holds these prints."""
    disk = Disk()
    disk.log.append(blocks)
    return exported(disk.connection)


def lines_of(*blocks: Block) -> bytes:
    """The lines of blocks, without a head."""
    return b"".join(line + b"\n" for block in blocks for line in block_lines(block))


def swapped(whole: bytes, old: bytes, new: bytes) -> bytes:
    """Another text in one place."""
    assert whole.count(old) == 1
    return whole.replace(old, new)


bodies = st.lists(st.text(max_size=20) | st.binary(max_size=20), min_size=1, max_size=5)


@given(steps=steps, counts=counts, bodies=bodies)
def test_an_export_is_the_whole_history(
    steps: Steps, counts: list[int], bodies: list[str | bytes]
) -> None:
    """Imported into nothing it is the same heads, frontiers and lines; imported again, nothing."""
    story = Story(steps, counts)
    story.say("ann", "lobby", *bodies)
    node, other = Node(story), Disk()
    node.catch_up()
    export = exported(node.disk)
    taking = other.take(export)

    assert (taking.imported, taking.held) == (size(story.said), 0)
    assert other.log.load() == node.log.load()
    assert exported(other.connection) == export
    other.check()
    again = other.take(export + export)
    assert (again.imported, again.held) == (0, 2 * size(story.said))


@given(steps=steps, counts=counts, data=st.data())
def test_an_export_of_what_was_pruned(steps: Steps, counts: list[int], data: st.DataObject) -> None:
    """Floor and base go with it: equal roots, and equal lines from the floor on."""
    story = Story(steps, counts)
    nodes = [Node(story), Node(story)]
    for node in nodes:
        for _ in range(data.draw(st.integers(0, len(story.said)))):
            node.deliver(data.draw(st.sampled_from(node.waiting())))
        node.retain(data.draw(st.integers(1, 10)))
    node, giver = nodes
    if data.draw(st.booleans()):
        node.adopt(giver)
    other = Disk()
    export = exported(node.disk)
    other.take(export)

    told, history = node.log.load(), other.log.load()
    assert (told.heads, told.frontiers) == (history.heads, history.frontiers)
    based = {log.log: log.head.seq for log in node.log.reader().base(b"", EVERYTHING)}
    above = [b for b in node.held if b.first > based.get(b.log, 0)]
    held = [encoded for _, encoded in other.log.reader().blocks(None)]
    assert held == [b.encoded for b in sorted(above, key=lambda b: (b.stamp, b.log, b.first))]
    assert {b.encoded for b in node.held if b.stamp >= node.floor} <= set(held)
    other.check()
    assert other.take(export).imported == 0


@given(steps=steps, counts=counts, data=st.data())
def test_whatever_is_imported_the_log_stays_sound(
    steps: Steps, counts: list[int], data: st.DataObject
) -> None:
    """A line less, twice or moved, a byte changed, an end cut off: whatever is taken is sound."""
    node = Node(Story(steps, counts))
    node.catch_up()
    node.retain(data.draw(st.integers(0, 3)))
    spoiled = exported(node.disk).splitlines(keepends=True)
    at = data.draw(st.integers(0, len(spoiled) - 1))
    match data.draw(st.sampled_from(("drop", "twice", "move", "byte", "cut"))):
        case "drop":
            del spoiled[at]
        case "twice":
            spoiled.insert(at, spoiled[at])
        case "move":
            spoiled.insert(data.draw(st.integers(0, len(spoiled) - 1)), spoiled.pop(at))
        case "byte":
            line = bytearray(spoiled[at])
            line[data.draw(st.integers(0, len(line) - 1))] = data.draw(st.integers(0, 255))
            spoiled[at] = bytes(line)
        case "cut":
            spoiled[at:] = [spoiled[at][: data.draw(st.integers(0, len(spoiled[at]) - 1))]]
    disk = Disk()
    with suppress(FlcError):
        disk.take(b"".join(spoiled))
    disk.check()
    # What is held of it was said so.
    held = {encoded for _, encoded in disk.log.reader().blocks(None)}
    assert held <= {block.encoded for block in node.held}


def test_lines_are_what_log_prints_and_the_bytes() -> None:
    """The fields of `flc log --json`, in their order, then what rebuilds the block."""
    message = Story().say("ann", body=b"\xff")
    head, line = map(json.loads, export_of(message).splitlines())

    assert head == {
        "flc_export": 1,
        "room": None,
        "messages": 1,
        "base": 0,
        "floor": 0,
        "logs": 1,
        "root": head["root"],
        "hash": head["hash"],
    }
    assert list(line) == (
        "dot log seq room author body said_at stamp causes encoded".split()  # noqa: SIM905
    )
    assert line["body"] == {"base64": "/w=="}
    assert base64.b64decode(line["encoded"]) == message.encoded


def test_fields_of_a_later_version_stay() -> None:
    """Bytes behind the fields that are known here are part of the block, and come through."""
    import msgpack  # noqa: PLC0415

    from flc_udp.model.block import decode  # noqa: PLC0415

    (message,) = Story([("ann", "lobby", None)]).said
    fields = [*msgpack.unpackb(message.encoded), {"later": True}]
    later = decode(msgpack.packb(fields))
    disk = Disk()
    disk.take(export_of(later))

    assert disk.log.reader().block(later.dot) == later.encoded


def test_a_base_of_many_rooms_comes_in_several_lines() -> None:
    """No line grows with the rooms there are."""
    story = Story([("ann", f"room {n}", None) for n in range(2 * BASE_ROOMS_A_LINE + 1)])
    story.say("ann", "last")
    node, other = Node(story), Disk()
    node.catch_up()
    node.retain(2 * BASE_ROOMS_A_LINE + 1)
    export = exported(node.disk)
    other.take(export)

    assert json.loads(export.splitlines()[0])["base"] == 3
    assert other.log.load() == replace(node.log.load(), pruned_below=0)
    other.check()


def test_a_line_of_the_base_counts_once() -> None:
    """One that comes again does not stand in for one that is missing."""
    story = Story([("ann", f"room {n}", None) for n in range(2 * BASE_ROOMS_A_LINE + 1)])
    story.say("ann", "last")
    node, other = Node(story), Disk()
    node.catch_up()
    node.retain(2 * BASE_ROOMS_A_LINE + 1)
    head, first, _second, *rest = exported(node.disk).splitlines(keepends=True)

    assert other.refuses(b"".join((head, first, first, *rest))).startswith(
        "line 3 repeats a line of the base"
    )
    assert other.log.load().heads == {}
    other.check()


def test_many_batches() -> None:
    """A commit is bounded, and the next goes on where it ended."""
    messages = _long_log(2 * BATCH_MESSAGES + 1)
    disk = Disk()
    taking = disk.take(export_of(*messages))

    assert taking.imported == len(messages)
    assert [e for _, e in disk.log.reader().blocks(None)] == [m.encoded for m in messages]


def _long_log(count: int) -> list[Block]:
    from flc_udp.model.block import NO_PARENT, Origin, pack_body, write  # noqa: PLC0415

    messages: list[Block] = []
    for n in range(1, count + 1):
        messages.append(
            write(
                log=b"8 bytes!",
                first=n,
                room="lobby",
                author="ann",
                wall=n,
                stamp=n << 16,
                causes=(),
                parent=messages[-1].hash if messages else NO_PARENT,
                bodies=[pack_body("hi")],
                origin=None if messages else Origin(b"a node!!", "a"),
            )
        )
    return messages


def _broken() -> Iterator[tuple[str, bytes, int, str]]:
    """A name, an export that is wrong, how much before it is kept, and a part of the error."""
    said = Story(STEPS).said
    whole = export_of(*said)
    first, *rows = whole.splitlines(keepends=True)
    by_dot = {json.loads(row)["dot"]: row for row in rows}
    yield "cut in a line", whole[:-10], 3, "line 5 is no JSON, or only a part of it; messages"
    yield "cut between lines", whole[: -len(rows[-1])], 3, "line 4 is the last, but 1 more should"
    yield "cut to its head", first, 0, "line 1 is the last, but 4 more should follow; messages"
    cut_before = whole[: -len(rows[-1])] + whole
    yield "cut before another", cut_before, 3, "line 5 is the last, but 1 more should follow"
    yield "empty", b"", 0, "the input is empty"
    yield "no head", b"".join(rows), 0, "line 1 has a message in a wrong place"
    yield "another program's", b'{"body":"hi"}\n', 0, "line 1 is no line of an export"
    yield "no object", first + b"[1]\n", 0, "line 2 is no line of an export"
    yield "deep", first + b"[" * 100_000 + b"\n", 0, "line 2 is no JSON"
    bare = json.loads(rows[0])
    del bare["encoded"]
    deep_head = b'{"flc_export":%b1%b}' % (b"[" * 1_000, b"]" * 1_000)
    yield "a deep head", deep_head, 0, "line 1 is no JSON"
    yield "of flc log", first + json.dumps(bare).encode() + b"\n", 0, "without the bytes"
    yield "later format", swapped(whole, b'"flc_export":1', b'"flc_export":2'), 0, "of format 2"
    yield (
        "bad head",
        swapped(whole, b'"messages":4', b'"messages":5'),
        0,
        "is a head whose hash is wrong",
    )
    for number in ("many", True, -1, 1 << 62):
        odd = ExportHead(room=None, messages=number, base=0, floor=0, logs=1, root="")  # type: ignore[arg-type]  # odd
        yield f"{number!r} messages", head_line(odd), 0, "number out of range"
    ops = ExportHead(room="ops", messages=1, base=0, floor=0, logs=1, root="")
    yield "one room's", head_line(ops), 0, "line 1 begins an export of room 'ops' alone"
    edited = rows[1].replace(b'"hi"', b'"ho"')
    yield "edited", whole.replace(rows[1], edited), 1, "line 3 has another body than the bytes of"
    yield "no base64", first + b'{"encoded":"?"}\n', 0, "bytes that are no base64"
    yield "no message", first + b'{"encoded":"wAA="}\n', 0, "bytes that are no block: "
    yield "base changed", first + b'{"base":"kcA="}\n', 0, "has a base whose hash is wrong"
    bare_base = compact({"base": "kcA=", "hash": hash_of(b"\x91\xc0").hex()})
    yield "no base", first + bare_base, 0, "has a base that cannot be read"
    yield "one too many", whole + rows[0], 4, "line 6 has a message in a wrong place"
    last = str(said[3].dot)
    gap = whole.replace(by_dot[str(said[0].dot)], b"")
    yield "a gap", gap, 1, f"messages that it comes after are missing: {said[0].dot}; "
    no_cause = whole.replace(by_dot[str(said[2].dot)], b"")
    yield (
        "no cause",
        no_cause,
        2,
        f"has {last}, but messages that it comes after are missing: {said[2].dot}",
    )
    forked = lines_of(variant(said[3], parent=said[1].hash))
    yield "forked", whole.replace(by_dot[last], forked), 3, f"{last}, which does not follow"
    other = lines_of(variant(said[2]))
    yield "two for a dot", whole.replace(rows[-1], other), 3, f"has other bytes for {said[2].dot}"


BROKEN = list(_broken())


@pytest.mark.parametrize(
    ("export", "kept", "problem"), [b[1:] for b in BROKEN], ids=[b[0] for b in BROKEN]
)
def test_a_broken_line(export: bytes, kept: int, problem: str) -> None:
    """The error names the line and what is wrong; what stood before it is durable."""
    disk = Disk()
    assert problem in disk.refuses(export)
    assert disk.log.reader().counts()[0] == kept
    disk.check()


def told() -> list[Block]:
    """Blocks of three, two, one and three messages."""
    story = Story()
    story.say("ann", "lobby", "one", "two", "three")
    story.hear("bob", story.said[0])
    story.say("bob", "ops", "four", b"\xff")
    story.say("bob", "lobby", "six")
    story.say("bob", "lobby", "seven", "eight", "nine")
    return story.said


LATER = [3, 4, 6, 9, 10]
"""The lines that show a later message of a block, by their number."""


def later(number: int) -> tuple[list[bytes], int]:
    """The lines of an export, and how many messages its blocks up to that of a line have."""
    lines = export_of(*told()).splitlines(keepends=True)
    assert b'"encoded"' not in lines[number - 1]
    return lines, next(end for end in (3, 5, 6, 9) if number - 1 <= end)


def check_refused(lines: list[bytes], problem: str, kept: int) -> None:
    """It is refused with these words, and so many messages were kept, of whole blocks."""
    disk = Disk()
    error = disk.refuses(b"".join(lines))
    assert (problem in error, error.endswith(f"kept: {kept}")) == (True, True), error
    held = [encoded for _, encoded in disk.log.reader().blocks(None)]
    assert held == [block.encoded for block in told()[: len(held)]]
    assert disk.log.reader().counts()[0] == kept
    disk.check()


class TestLaterMessages:
    """Of a block's later messages only the readable fields have lines. They are checked, too."""

    def test_blocks_come_back_byte_for_byte(self) -> None:
        """Each of its messages has a line, the first one the bytes; the counts are messages."""
        export, disk = export_of(*told()), Disk()
        head, *rows = map(json.loads, export.splitlines())
        assert (head["messages"], len(rows)) == (9, 9)
        assert [at for at, row in enumerate(rows, 2) if "encoded" not in row] == LATER
        taking = disk.take(export)
        assert (taking.imported, taking.held) == (9, 0)
        assert taking.record()["messages"] == 9
        assert [encoded for _, encoded in disk.log.reader().blocks(None)] == [
            block.encoded for block in told()
        ]
        again = disk.take(export)
        assert (again.imported, again.held) == (0, 9)
        assert again.record() == {**taking.record(), "imported": 0, "held": 9}

    def test_two_exports_in_a_row(self) -> None:
        """The second one has more, and is taken from where the first one ended."""
        story = told()
        disk = Disk()
        taking = disk.take(export_of(*story[:2]) + export_of(*story))
        assert (taking.imported, taking.held) == (9, 5)
        assert exported(disk.connection) == export_of(*story)

    @pytest.mark.parametrize("number", LATER)
    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("dot", "2d2d2d2d2d616e6e:9"),
            ("log", "00" * 8),
            ("seq", 77),
            ("room", "other"),
            ("author", "eve"),
            ("body", "forged"),
            ("said_at", "1971-01-01T00:00:00.000Z"),
            ("stamp", 7),
            ("causes", ["2d2d2d2d2d616e6e:1"]),
        ],
    )
    def test_an_edited_line(self, number: int, field: str, value: object) -> None:
        """Another value, or none: the line, the field and the message are named."""
        lines, kept = later(number)
        record = json.loads(lines[number - 1])
        dot = record["dot"]
        for edited in ({**record, field: value}, {k: v for k, v in record.items() if k != field}):
            if "dot" in edited:
                lines[number - 1] = compact(edited) + b"\n"
                problem = f"line {number} has another {field} than the bytes of {dot} say"
                check_refused(lines, problem, kept)

    @pytest.mark.parametrize("number", LATER)
    def test_a_missing_line(self, number: int) -> None:
        """It is missed at the line that stands in its place, or at the end."""
        lines, kept = later(number)
        del lines[number - 1]
        at = min(number, len(lines))
        problem = "is the last, but 1 more should follow" if number == 10 else ""
        check_refused(lines, f"line {at} {problem}", kept)

    @pytest.mark.parametrize("number", LATER)
    def test_a_line_twice(self, number: int) -> None:
        """The second one is refused."""
        lines, kept = later(number)
        lines.insert(number, lines[number - 1])
        check_refused(lines, f"line {number + 1} has ", kept)

    @pytest.mark.parametrize("number", LATER)
    def test_a_line_in_a_wrong_place(self, number: int) -> None:
        """Wherever else it stands, the first line that is not in its place is named."""
        whole, _ = later(number)
        for to in range(1, len(whole) + 1):
            lines = list(whole)
            lines.insert(to - 1, lines.pop(number - 1))
            if to != number:
                first = min(to, number)
                kept = sum(len(block.bodies) for block in whole_before(first))
                check_refused(lines, f"line {first} ", kept)

    def test_the_bytes_of_a_block_in_the_line_of_a_later_message(self) -> None:
        """They stand with its first message only."""
        lines, kept = later(3)
        lines[2] = compact({**json.loads(lines[2]), **json.loads(lines[1])}) + b"\n"
        check_refused(lines, "line 3 has a message in a wrong place", kept)

    @pytest.mark.parametrize("first", [1, 2, 3])
    @pytest.mark.parametrize("is_durable", [False, True])
    def test_another_block_with_one_of_its_messages(self, first: int, *, is_durable: bool) -> None:
        """It is refused, whether the block that has that name came just now or long ago."""
        block = told()[0]
        other = (
            variant(block)
            if first == 1
            else variant(told()[2], log=block.log, first=first, causes=())
        )
        head = ExportHead(None, 3 + len(other.bodies), base=0, floor=0, logs=1, root="")
        disk = Disk()
        if is_durable:
            disk.log.append([block])
        lines = head_line(head) + b"\n" + lines_of(block, other)
        assert f"line 5 has other bytes for {other.dot}" in disk.refuses(lines)
        assert disk.log.reader().counts()[0] == 3


def whole_before(number: int) -> list[Block]:
    """The blocks whose first line stands before a line of the export."""
    firsts = [2, 5, 7, 8]
    return [block for block, first in zip(told(), firsts, strict=True) if first < number]


def test_a_line_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not read into memory to its end."""
    monkeypatch.setattr("flc_udp.cli.keep.export.LINE_BYTES_MAX", 100)
    assert "line 1 is longer than 100 bytes" in Disk().refuses(b"x" * 1_000)


def test_a_base_is_no_news_where_all_is_held_and_refused_where_only_some_is() -> None:
    """What was pruned elsewhere is taken over only by a directory without messages."""
    story = Story(STEPS)
    node = Node(story)
    node.catch_up()
    node.retain(2)
    export = exported(node.disk)
    whole, part = Disk(), Disk()
    whole.log.append(story.said)
    part.log.append(story.said[:1])

    assert whole.take(export).imported == 0
    assert whole.log.load().floor == 0
    assert "lacks some of the messages" in part.refuses(export)
    assert part.log.reader().counts()[0] == 1


def test_what_was_pruned_here_does_not_come_back() -> None:
    """It is held already: its log goes on behind it."""
    story = Story(STEPS)
    node = Node(story)
    node.catch_up()
    node.retain(2)
    taking = Import(node.log, node.log.reader())
    taking.take_all(io.BytesIO(export_of(*story.said)))

    assert (taking.imported, taking.held) == (0, len(story.said))
    node.check()


def test_a_full_disk() -> None:
    """The batch that did not fit is not kept, and the error says what is."""
    messages = _long_log(3 * BATCH_MESSAGES)
    export = export_of(*messages)
    disk = Disk()
    disk.take(export_of(*messages[:1]))
    (pages,) = disk.connection.execute("PRAGMA page_count").fetchone()
    disk.connection.execute(f"PRAGMA max_page_count = {pages + 80}")
    problem = disk.refuses(export)

    assert "database or disk is full; " in problem
    kept = disk.log.reader().counts()[0] - 1
    assert problem.endswith(f"kept: {kept}")
    assert 0 < kept < 3 * BATCH_MESSAGES
    disk.check()


# --- As commands ----------------------------------------------------------------------------------


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The data directory of a node that is down."""
    return directory_of(tmp_path, Story(STEPS).said)


@pytest.fixture
def export(data: Path, tmp_path: Path) -> bytes:
    """An export of it, which stands in the file `export`."""
    with closing(connect(data / "flc.db", "mode=ro")) as connection:
        export = exported(connection)
    (tmp_path / "export").write_bytes(export)
    return export


async def test_out_of_one_directory_into_another(
    flc: Flc, data: Path, tmp_path: Path, export: bytes
) -> None:
    """What is printed is the export; the other directory is made, and prints the same."""
    ended = await flc("export", "--data", str(data))
    assert (ended.code, ended.out.encode(), ended.err) == (0, export, "")
    root = json.loads(ended.out.splitlines()[0])["root"]

    new = tmp_path / "new"
    ended = await flc("import", str(tmp_path / "export"), "--data", str(new))
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == f"4 imported, 0 held already; now 4 messages, root {root}\n"
    assert new.stat().st_mode & 0o777 == 0o700
    assert (await flc("fsck", "--data", str(new))).code == 0
    assert (await flc("export", "--data", str(new))).out.encode() == export

    ended = await flc("import", "--json", str(tmp_path / "export"), "--data", str(new))
    assert json.loads(ended.out) == {"imported": 0, "held": 4, "messages": 4, "root": root}


async def test_one_room(flc: Flc, data: Path, tmp_path: Path) -> None:
    """Its messages alone, which import refuses before anything is done."""
    ended = await flc("export", "ops", "--data", str(data))
    head, *rows = map(json.loads, ended.out.splitlines())
    assert (head["room"], head["messages"]) == ("ops", 1)
    assert [row["room"] for row in rows] == ["ops"]

    (tmp_path / "ops").write_text(ended.out)
    ended = await flc("import", str(tmp_path / "ops"), "--data", str(tmp_path / "new"))
    assert ended.code == 1
    assert ended.err.startswith("error: line 1 begins an export of room 'ops' alone")


async def test_stdin(export: bytes, tmp_path: Path, spawn: Spawn) -> None:
    """`-` is what another export prints into a pipe."""
    process = await spawn("import", "-", "--data", str(tmp_path / "new"))
    out, err = await process.communicate(export)
    assert (process.returncode, err) == (0, b"")
    assert out.startswith(b"4 imported, 0 held already")


def _refused() -> list[tuple[str, ...]]:
    return [
        ("export", "nowhere", "--data", "data"),
        ("export", "a\nb", "--data", "data"),
        ("export", "--data", "nothing"),
        ("export", "--data", "newer"),
        ("import", "nothing", "--data", "new"),
        ("import", "data", "--data", "new"),
        ("import", "export", "--data", "newer"),
        ("import", "export", "--data", "export"),
        ("import", "export", "--data", "torn"),
        ("import", "export", "--data", "locked"),
    ]


@pytest.fixture
def places(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Directories where no node can be exported from, or imported into."""
    for name in ("newer", "torn"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "flc.db").write_bytes((data / "flc.db").read_bytes())
    with closing(sqlite3.connect(tmp_path / "newer" / "flc.db")) as newer:
        newer.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    os.truncate(tmp_path / "torn" / "flc.db", 5_000)
    running = DataDirectory(tmp_path / "locked")
    monkeypatch.chdir(tmp_path)
    yield
    running.release()


@pytest.mark.usefixtures("places", "export")
@pytest.mark.parametrize("words", _refused(), ids=" ".join)
async def test_refused_in_two_lines(flc: Flc, words: tuple[str, ...]) -> None:
    """No room, no log, another's schema, no such file, a node that runs: an error and a hint."""
    ended = await flc(*words)

    assert (ended.code, ended.out) == (1, "")
    error, hint = ended.err.splitlines()
    assert (error[:7], hint[:6]) == ("error: ", "hint: ")
