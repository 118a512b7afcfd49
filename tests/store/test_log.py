import sqlite3
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flc_udp.config import ONCE_REMEMBERED, STAMP_LIMIT
from flc_udp.model.block import Block, Origin
from flc_udp.model.clocks import VectorClock
from flc_udp.model.dots import Dot
from flc_udp.model.errors import StoreFailed
from flc_udp.model.history import Head
from flc_udp.model.message import Message, history_key
from flc_udp.model.units import EPOCH
from flc_udp.store.log import Log, Reader
from flc_udp.store.reader import messages_of
from flc_udp.store.writer_memory import WriterMemory

Authors = Any  # the class of the fixture: a conftest cannot be imported

AUTHORS = ("ann", "bob", "cyd")
ROOMS = ("lobby", "ops")

steps = st.lists(
    st.one_of(
        st.tuples(
            st.just("say"),
            st.sampled_from(AUTHORS),
            st.sampled_from(ROOMS),
            st.integers(1_000, 1_004),
            st.sampled_from([1, 1, 2, 5]),
        ),
        st.tuples(st.just("listen"), st.sampled_from(AUTHORS), st.sampled_from(ROOMS)),
        st.tuples(st.sampled_from(["commit", "fail", "crash", "reopen"])),
    ),
    max_size=40,
)


def check_all(reader: Reader, log: Log, authors: Authors, kept: list[Block]) -> None:
    """Compare everything that can be read with a list of blocks."""
    history = log.load()
    last = {b.log: b for b in kept}
    assert {i: Head(b.last, b.hash, b.stamp) for i, b in last.items()} == history.heads
    assert {b.log: b.origin for b in kept if b.origin} == history.origins
    messages = messages_in(kept)
    assert (len(messages), len(last)) == reader.counts()
    assert len(messages) == reader.last_position()
    assert sorted(messages, key=history_key) == read(reader, None)
    assert [b.encoded for b in sorted(kept, key=block_key)] == encoded_of(reader.blocks(None))
    for room in {b.room for b in kept}:
        inside = [b for b in kept if b.room == room]
        said = messages_in(inside)
        assert authors.edges(room) == history.frontiers[room]
        assert VectorClock({b.log: b.last for b in inside}) == reader.clock(room)
        ordered = sorted(said, key=history_key)
        assert ordered == read(reader, room)
        assert ordered[-2:] == read(reader, room, last=2)
        assert [b.encoded for b in inside] == encoded_of(reader.after(0, room, 1_000))
        after = reader.before_last(room, 2)
        assert said[-2:] == [m for _, m in messages_of(reader.after(after, room, 9), after)]
    spans = [(i, 2, 5) for i in last]
    wanted = [b.encoded for b in sorted(kept, key=block_key) if b.first <= 5 and b.last >= 2]
    assert (wanted, STAMP_LIMIT) == reader.replay(spans, 1 << 20)


def messages_in(blocks: Iterable[Block]) -> list[Message]:
    """All messages of these blocks, in their order."""
    return [message for block in blocks for message in block.messages()]


def block_key(block: Block) -> tuple[int, bytes, int]:
    """Where a block stands in the history."""
    return (block.stamp, block.log, block.first)


def encoded_of(rows: Iterable[tuple[int, bytes]]) -> list[bytes]:
    """The bytes of what was read with its positions."""
    return [encoded for _, encoded in rows]


def read(reader: Reader, room: str | None, **limits: int) -> list[Message]:
    """The messages of a history."""
    return [message for _, message in reader.history(room, **limits)]


@settings(max_examples=150, deadline=None)
@given(steps=steps)
def test_it_holds_what_was_committed_and_nothing_else(
    new_authors: Callable[[], Any], steps: list[tuple[Any, ...]]
) -> None:
    """After any commits, failures, crashes and restarts, every read agrees with a plain list."""
    authors, disk = new_authors(), sqlite3.connect(":memory:")
    log, kept = Log.over(disk), list[Block]()
    for step, *rest in [*steps, ("commit",), ("reopen",)]:
        waiting = authors.said[len(kept) :]
        match step:
            case "say":
                author, room, wall, count = rest
                authors.say(author, room, *map(str, range(count)), wall=wall)
            case "listen":
                authors.listen(*rest)
            case "commit":
                assert len(messages_in(kept)) + 1 == log.append(waiting)
                kept = list(authors.said)
            case "fail":
                dot = Dot(bytes(8), 1)
                with pytest.raises(AssertionError):
                    log.append(waiting, once=[("bot", 1, dot), ("bot", 1, dot)])
            case "crash":
                disk.execute("BEGIN IMMEDIATE")
                WriterMemory(disk).append(waiting, EPOCH)
                log = Log.over(disk)
            case "reopen":
                log = Log.over(disk)
    check_all(log.reader(), log, authors, authors.said)
    disk.close()


def test_a_log_on_disk_survives_a_restart(tmp_path: Path, authors: Authors) -> None:
    """What was appended before a close is read after an open, and appending goes on."""
    log = Log.open(tmp_path / "a.db")
    assert log.append([authors.say("ann"), authors.say("bob", "ops")]) == 1
    log.close()
    log = Log.open(tmp_path / "a.db")
    authors.listen("ann", "lobby")
    assert log.append([authors.say("ann"), authors.say("bob", "ops")]) == 3
    reader = log.reader()
    check_all(reader, log, authors, authors.said)
    reader.close()
    log.close()


def test_a_reader_sees_commits_at_once_and_cannot_write(log: Log, authors: Authors) -> None:
    """A reader on its own connection sees each commit of the writer, and is read only."""
    reader = log.reader()
    log.append([authors.say("ann")])
    assert reader.block(Dot(authors.log("ann"), 1)) == authors.said[0].encoded
    assert reader.dot_at(1) == authors.said[0].dot
    assert reader.dot_at(2) is None
    assert reader.block(Dot(authors.log("ann"), 2)) is None
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader.connection.execute("DELETE FROM block")  # that it cannot
    reader.close()


def test_a_gap_in_a_log_is_a_broken_invariant(log: Log, authors: Authors) -> None:
    """A message that is not its log's next is refused, and so is its whole batch."""
    first, _, third = (authors.say("ann") for _ in range(3))
    with pytest.raises(AssertionError):
        log.append([first, third])
    assert log.load().heads == {}
    assert log.append([first]) == 1


def test_positions_are_never_used_twice(log: Log, authors: Authors) -> None:
    """A position stays used when the last messages were pruned, also after a restart."""
    log.append([authors.say("ann") for _ in range(3)])
    log.connection.execute("DELETE FROM block WHERE position > 1")  # to prune
    log.recover()
    reader = log.reader()
    assert reader.last_position() == 3
    assert log.append([authors.say("ann")]) == 4
    reader.close()


def test_origins_are_told_by_first_messages(log: Log, authors: Authors) -> None:
    """A log's node and name are known from its message with seq 1 on."""
    log.append([authors.say("ann"), authors.say("ann")])
    assert log.load().origins == {authors.log("ann"): Origin(authors.log("ann")[::-1], "ann")}


def test_what_load_gave_is_the_callers_own(log: Log, authors: Authors) -> None:
    """Appending does not change a history that was loaded before."""
    log.append([authors.say("ann")])
    history = log.load()
    before = dict(history.frontiers["lobby"])
    log.append([authors.say("ann")])
    assert before == history.frontiers["lobby"]


class TestReplay:
    def test_it_stops_at_the_credit_and_says_so(self, log: Log, authors: Authors) -> None:
        """As many messages as the credit takes, in order; then False, for there is more."""
        log.append([authors.say("ann", body="x" * 100) for _ in range(10)])
        reader = log.reader()
        sizes = [len(m.encoded) for m in authors.said]
        spans = [(authors.log("ann"), 1, 10)]
        assert reader.replay(spans, sum(sizes[:4])) == (
            [m.encoded for m in authors.said[:4]],
            authors.said[4].stamp,
        )
        everything = [m.encoded for m in authors.said]
        assert reader.replay(spans, sum(sizes)) == (everything, STAMP_LIMIT)
        reader.close()

    def test_a_window_of_stamps_gives_what_is_in_it(self, log: Log, authors: Authors) -> None:
        """From its first stamp up to its last, which is not in it; the next one's stamp beside."""
        log.append([authors.say(name) for name in ("ann", "bob", "cyd") * 20])
        reader = log.reader()
        spans = [(authors.log(name), 1, 20) for name in ("ann", "bob", "cyd")]
        history = sorted(authors.said, key=block_key)
        after, below = history[10].stamp, history[40].stamp
        inside = [m.encoded for m in history if after <= m.stamp < below]
        assert reader.replay(spans, 1 << 20, after, below) == (inside, below)
        assert reader.replay(spans, 1 << 20, below, below) == ([], below)
        reader.close()

    @pytest.mark.parametrize("wanted", [("ann", "bob", "cyd"), ("ann", "cyd"), ("bob",)])
    def test_spans_of_several_logs_come_in_one_order(
        self, log: Log, authors: Authors, wanted: tuple[str, ...]
    ) -> None:
        """Of most of the logs, or of few, from any stamp on."""
        log.append([authors.say(name) for name in ("ann", "bob", "cyd", "bob", "bob") * 12])
        reader = log.reader()
        logs = {authors.log(name): name for name in wanted}
        spans = [(of, low, high) for of in logs for low, high in ((1, 4), (6, 11))]
        history = sorted(authors.said, key=block_key)
        for after in (1, history[7].stamp, history[30].stamp):
            held = [m for m in history if m.stamp >= after and m.log in logs]
            inside = [m.encoded for m in held if m.first in {1, 2, 3, 4, *range(6, 12)}]
            assert reader.replay(spans, 1 << 20, after) == (inside, STAMP_LIMIT)
        reader.close()

    def test_one_message_is_given_however_large(self, log: Log, authors: Authors) -> None:
        """A message above the credit is still given, or it could never be had."""
        log.append([authors.say("ann", body="x" * 5_000), authors.say("ann")])
        reader = log.reader()
        spans = [(authors.log("ann"), 1, 2)]
        assert reader.replay(spans, 10) == ([authors.said[0].encoded], authors.said[1].stamp)
        reader.close()

    def test_what_is_not_held_is_empty(self, log: Log, authors: Authors) -> None:
        """Spans of unknown logs or beyond heads, and no spans at all, give nothing, completely."""
        log.append([authors.say("ann")])
        reader = log.reader()
        nothing = [(b"nobodys!", 1, 9), (authors.log("ann"), 2, 9)]
        assert reader.replay(nothing, 99) == ([], STAMP_LIMIT)
        assert reader.replay([], 99) == ([], STAMP_LIMIT)
        reader.close()


class TestHistory:
    def test_pages_join_without_a_seam(self, log: Log, authors: Authors) -> None:
        """A history longer than many pages is whole, though stamps are equal across page ends."""
        for n in range(700):
            authors.say(f"a{n % 350}", ROOMS[n % 2], wall=1_000 + n // 400)
        log.append(authors.said)
        reader = log.reader()
        ordered = sorted(messages_in(authors.said), key=history_key)
        assert ordered == read(reader, None)
        assert ordered[-600:] == read(reader, None, last=600)
        assert read(reader, None, last=0) == []
        reader.close()

    def test_it_shows_the_moment_it_was_asked(self, log: Log, authors: Authors) -> None:
        """Messages appended while a history is read are not in it, wherever they would stand."""
        log.append([authors.say("ann", wall=2_000 + n) for n in range(300)])
        reader = log.reader()
        history = reader.history("lobby")
        next(history)
        log.append([authors.say("bob", wall=1_000), authors.say("ann", wall=9_000)])
        assert len(list(history)) == 299
        reader.close()

    def test_a_reading_left_halfway_does_not_hold_the_wal(self, log: Log, authors: Authors) -> None:
        """A slow reader of a long history never keeps the WAL from being folded in."""
        log.append([authors.say("ann") for _ in range(600)])
        reader = log.reader()
        history = reader.history(None)
        next(history)
        pragma = "PRAGMA wal_checkpoint(TRUNCATE)"
        assert log.connection.execute(pragma).fetchone() == (0, 0, 0)  # no door
        assert len(list(history)) == 599
        reader.close()

    def test_what_is_above_a_position_is_left_out(self, log: Log, authors: Authors) -> None:
        """So a listing and the position that it ends at are of one moment; a later one is now."""
        log.append([authors.say("ann") for _ in range(9)])
        reader = log.reader()

        assert sorted(at for at, _ in reader.history(None, up_to=5)) == [1, 2, 3, 4, 5]
        assert len(list(reader.history(None, up_to=99))) == 9
        reader.close()

    def test_since_goes_by_the_stamps_wall(self, log: Log, authors: Authors) -> None:
        """`since_wall_ms` begins with the first stamp of that millisecond; any integer will do."""
        log.append([authors.say("ann", wall=1_000 + n) for n in range(5)])
        reader = log.reader()
        assert messages_in(authors.said[3:]) == read(reader, None, since_wall_ms=1_003)
        assert len(read(reader, "lobby", since_wall_ms=-5)) == 5
        assert read(reader, None, since_wall_ms=1 << 80) == []
        assert len(read(reader, None, since_wall_ms=1_001, last=2)) == 2
        assert read(reader, "nowhere") == []
        reader.close()


class TestFollow:
    def test_a_room_is_followed_past_what_others_say(self, log: Log, authors: Authors) -> None:
        """`after` skips other rooms, respects its limit, and ends empty."""
        log.append([authors.say("ann", ROOMS[n % 2]) for n in range(10)])
        reader = log.reader()
        assert [p for p, _ in reader.after(0, "ops", 3)] == [2, 4, 6]
        assert [p for p, _ in reader.after(6, "ops", 9)] == [8, 10]
        assert [p for p, _ in reader.after(7, None, 2)] == [8, 9]
        assert reader.after(10, "ops", 9) == []
        assert reader.after(0, "nowhere", 9) == []
        reader.close()

    def test_large_messages_come_a_few_at_a_time(self, log: Log, authors: Authors) -> None:
        """One answer is bounded in bytes too, and following its end leads to all."""
        log.append([authors.say("ann", body="x" * 400_000) for _ in range(7)])
        reader = log.reader()
        first = reader.after(0, None, 100)
        assert 1 <= len(first) < 7
        seen = position = 0
        while answer := reader.after(position, None, 100):
            seen, position = seen + len(answer), answer[-1][0]
        assert seen == 7
        reader.close()

    def test_the_last_n_begin_where_before_last_says(self, log: Log, authors: Authors) -> None:
        """`before_last` gives 0 where fewer are held, and the very end for none."""
        log.append([authors.say("ann", ROOMS[n % 2]) for n in range(10)])
        reader = log.reader()
        assert [reader.before_last(None, n) for n in (0, 1, 10, 99)] == [10, 9, 0, 0]
        assert [reader.before_last("ops", n) for n in (1, 2, 5, 99)] == [9, 7, 0, 0]
        assert reader.before_last("nowhere", 1) == 0
        reader.close()


def test_rooms_are_listed_with_their_counts(log: Log, authors: Authors) -> None:
    """A room's row: messages, logs that spoke there, greatest stamp, last position."""
    log.append([authors.say("ann"), authors.say("ann", "ops"), authors.say("bob", wall=3_000)])
    reader = log.reader()
    assert list(reader.rooms()) == [
        ("lobby", 2, 2, authors.said[2].stamp, 3),
        ("ops", 1, 1, authors.said[1].stamp, 2),
    ]
    reader.close()


class TestOnce:
    def test_a_repeated_number_finds_the_first_dot(self, log: Log, authors: Authors) -> None:
        """A number said is found again, also after a restart; a higher one is new."""
        one, two = authors.say("ann"), authors.say("ann")
        log.append([one, two], once=[("bot", 7, one.dot), ("bot", 9, two.dot)])
        log.recover()
        reader = log.reader()
        assert reader.once("bot", 7, 4) == ([one.dot, None, two.dot, None], 9)
        assert reader.once("other", 1, 1) == ([None], -1)
        reader.close()

    def test_numbers_count_on_through_blocks(self, log: Log, authors: Authors) -> None:
        """Each message of a block has its own number, whatever blocks were made of one say."""
        blocks = [authors.say("ann", "ops", *"abc"), authors.say("ann", "ops", *"de")]
        dots = [message.dot for message in messages_in(blocks)]
        log.append(blocks, once=[("bot", n, dot) for n, dot in enumerate(dots, 7)])
        reader = log.reader()
        for n in range(5, 14):
            for count in range(9):
                found, newest = reader.once("bot", n, count)
                expected = [dots[k - 7] if 7 <= k < 12 else None for k in range(n, n + count)]
                assert (found, newest) == (expected, 11)
        assert [reader.position_of(dot) for dot in dots] == [1, 2, 3, 4, 5]
        reader.close()

    def test_only_the_last_are_remembered(self, log: Log, authors: Authors) -> None:
        """Of a number below the last 1,024 nothing is known but that it is not above the last."""
        blocks = [authors.say("ann") for _ in range(ONCE_REMEMBERED + 1)]
        log.append(blocks, once=[("bot", b.first, b.dot) for b in blocks])
        reader = log.reader()
        found, newest = reader.once("bot", 1, ONCE_REMEMBERED + 2)
        assert found == [None, *(b.dot for b in blocks[1:]), None]
        assert newest == ONCE_REMEMBERED + 1
        reader.close()

    def test_of_clients_the_last_are_remembered(
        self, log: Log, authors: Authors, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whoever said something last. Of the others it is known how far they had come."""
        monkeypatch.setattr("flc_udp.store.once.CLIENTS_MAX", 3)
        said = [authors.say("ann") for _ in range(7)]
        for n, client in enumerate(("a", "b", "c", "a", "d", "b", "e")):
            log.append([said[n]], once=[(client, n + 1, said[n].dot)])
        reader = log.reader()
        found = {
            c: reader.once(c, n, 1)[0][0]
            for c, n in (("a", 4), ("b", 6), ("c", 3), ("d", 5), ("e", 7))
        }
        assert found == {"a": None, "b": said[5].dot, "c": None, "d": said[4].dot, "e": said[6].dot}
        assert [reader.once(client, 1, 0)[1] for client in "abcdef"] == [4, 6, 3, 5, 7, -1]
        log.append([again := authors.say("ann")], once=[("a", 9, again.dot)])
        assert reader.once("a", 4, 6) == ([None] * 5 + [again.dot], 9)
        reader.close()

    def test_of_many_more_clients_the_numbers_are_remembered(
        self, log: Log, authors: Authors, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Up to a limit; who is older than all of those may begin anew."""
        monkeypatch.setattr("flc_udp.store.once.CLIENTS_MAX", 2)
        monkeypatch.setattr("flc_udp.store.once.PAST_CLIENTS_MAX", 4)
        for client in "abcdefgh":
            log.append([block := authors.say("ann")], once=[(client, 7, block.dot)])
        with closing(log.reader()) as reader:
            newest = [reader.once(client, 1, 0)[1] for client in "abcdefgh"]
        assert newest == [-1, -1, 7, 7, 7, 7, 7, 7]


class TestFacts:
    def test_the_last_identity_counts(self, log: Log) -> None:
        """There is none at first; then it is the one that was saved last."""
        assert log.identity() is None
        log.save_self(b"first id", 1)
        log.save_self(b"a third!", 2)
        assert log.identity() == b"a third!"

    def test_the_incarnation_is_never_lowered(self, log: Log) -> None:
        """Saving a lower incarnation changes nothing."""
        assert log.incarnation() == 0
        log.save_self(b"node id!", 9)
        log.save_self(b"node id!", 4)
        assert log.incarnation() == 9

    def test_peers_are_replaced_as_a_whole(self, log: Log) -> None:
        """What was remembered before and is not in the new rows is gone."""
        log.save_peers([(b"11111111", "one", "[::1]:1"), (b"22222222", "two", "10.0.0.2:2")])
        log.save_peers([(b"33333333", "three", "10.0.0.3:3"), (b"22222222", "two", "10.0.0.2:9")])
        assert log.peers() == [
            (b"22222222", "two", "10.0.0.2:9"),
            (b"33333333", "three", "10.0.0.3:3"),
        ]


def test_the_simulators_connection_outlives_its_log(authors: Authors) -> None:
    """Closing a log over a lent connection, or its reader, leaves the connection open."""
    disk = sqlite3.connect(":memory:")
    log = Log.over(disk)
    log.append([authors.say("ann")])
    log.reader().close()
    log.close()
    assert Log.over(disk).reader().counts() == (1, 1)
    disk.close()


def test_a_failed_read_is_the_stores_failure(log: Log) -> None:
    """A reader whose connection is gone raises StoreFailed, not an error of sqlite3."""
    reader = log.reader()
    reader.close()
    with pytest.raises(StoreFailed, match="read: "):
        reader.counts()
