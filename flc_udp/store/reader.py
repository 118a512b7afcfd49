"""Reading the log: by dot, by position (what is live), by stamp (what is history), and by spans.

Rules. No read holds more in memory than it answers with, and none keeps a transaction open after it
has returned. Reading by spans stands in `read_replay`. A block that is not what was written (`rot`)
is given to nobody.

The history is read in pages, each a short transaction, so a slow reader never keeps the WAL from
being folded in. It still shows one moment: blocks never change and positions only grow, so
whatever has a position up to the last one of that moment belongs to it.
"""

import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from itertools import islice, zip_longest
from typing import Any, NamedTuple

from flc_udp.config import STAMP_LIMIT
from flc_udp.model.block import decode
from flc_udp.model.clocks import STAMP_WALL_SHIFT, VectorClock
from flc_udp.model.dots import BEGINNING, Dot, LogId
from flc_udp.model.errors import StoreFailed
from flc_udp.model.history import BaseLog, PlacedBlock, RottenBlock
from flc_udp.model.message import Message
from flc_udp.store.base import read_base
from flc_udp.store.once import CHANGED, SELECT_SAID, find, past_number
from flc_udp.store.queries import (
    OF_ROOM,
    PAGE_ROWS,
    Queries,
    Values,
    check_sound,
    failing,
    used_bytes,
)
from flc_udp.store.read_replay import Span, read_replay
from flc_udp.store.rooms import RoomRow, read_rooms
from flc_udp.store.rot import Rot

# A block's row has the seq and the position of its last message, so a message is in the first row
# from its own on. Rows are compared by SQLite, which knows an order of all that may stand in them.
SELECT_BY_DOT = """
    SELECT position, encoded, hash, position - seq + ?2 FROM (
        SELECT * FROM block
        WHERE log_no = (SELECT no FROM log WHERE id = ?1) AND seq >= ?2 ORDER BY seq LIMIT 1)
    WHERE seq - count < ?2
"""
SELECT_BY_POSITION = """
    SELECT log.id, block.seq - position + ?1 FROM (
        SELECT * FROM block WHERE position >= ?1 ORDER BY position LIMIT 1
    ) AS block JOIN log ON log.no = log_no AND typeof(log.id) = 'blob'
    WHERE position - count < ?1
"""
COUNT = "ifnull(CAST(count AS INTEGER), 1)"
SELECT_AFTER = """
    SELECT position, encoded, hash FROM block
    WHERE position > :after ORDER BY position LIMIT :limit
"""
# This walks over what other rooms said, and the room's last position ends the walk. `room_no` is
# given, because a condition that looks it up would take longer for each row.
SELECT_AFTER_IN_ROOM = """
    SELECT position, encoded, hash FROM block
    WHERE position > :after AND position <= (SELECT position FROM room WHERE no = :room_no)
        AND room_no = :room_no
    ORDER BY position LIMIT :limit
"""
SELECT_LAST = f"""
    SELECT {COUNT}, position FROM block
    WHERE {OF_ROOM}
        AND position <= iif(:room IS NULL, 1 << 62, (
            SELECT position FROM room WHERE name = :room AND messages > :n))
    ORDER BY position DESC
"""  # noqa: S608  # texts of ours
# Rows have to come out of the history index in order, so that only equal stamps are sorted and a
# LIMIT ends the walk. That is why the index is named, and why CROSS keeps the log second. The walk
# also ends at the room's greatest stamp.
WITHIN = f"""
    FROM block INDEXED BY block_history CROSS JOIN log ON log.no = log_no
    WHERE position <= :position AND {OF_ROOM} AND block.stamp <=
        iif(:room IS NULL, {STAMP_LIMIT}, (SELECT stamp FROM room WHERE name = :room))
"""  # noqa: S608  # texts of ours
SELECT_HISTORY = f"""
    SELECT position, encoded, block.hash, block.stamp, log.id, block.seq, (
        SELECT row.stamp = block.stamp AND row.room_no = block.room_no
        FROM block AS row NOT INDEXED WHERE row.position = block.position) {WITHIN}
        AND block.stamp >= :stamp
        AND (block.stamp, log.id, block.seq) > (:stamp, :log, :seq)
    ORDER BY block.stamp, log.id, block.seq LIMIT :limit
"""  # noqa: S608  # texts of ours
SELECT_HISTORY_LAST = f"""
    SELECT {COUNT}, block.stamp, log.id, block.seq - 1 {WITHIN}
    ORDER BY block.stamp DESC, log.id DESC, block.seq DESC
"""
SELECT_BASE_HEADS = "SELECT id, base_seq FROM log WHERE base_seq > 0 AND id IN ({})"
SELECT_HELD = "SELECT sum(messages) FROM room WHERE ?1 IS NULL OR name = ?1"
SELECT_CLOCK = """
    SELECT log.id, clock.seq FROM clock JOIN log ON log.no = log_no
    WHERE room_no = (SELECT no FROM room WHERE name = ?)
"""


class Place(NamedTuple):
    """A place in the history. What comes after it is greater."""

    stamp: int
    log: LogId = BEGINNING
    seq: int = 0


def messages_of(rows: Iterable[tuple[int, bytes]], after: int = 0) -> Iterator[tuple[int, Message]]:
    """(position, message) of the messages in these blocks, without those up to `after`.

    A row is (position of its last message, encoded). Raises StoreFailed.
    """
    for last, encoded in rows:
        with failing("read"):
            block = decode(encoded)
        begins = last - len(block.bodies) + 1
        for position, message in enumerate(block.messages(), begins):
            if position > after:
                yield position, message


class Reader(Queries):
    """Reads on one connection, from one thread at a time. Failures are `StoreFailed`."""

    def __init__(self, connection: sqlite3.Connection, *, lent: bool = False) -> None:
        super().__init__(connection)
        self._lent = lent
        self.rot = Rot(self)
        """What was read, and is not what was written."""

    def met_rotten(self, positions: Sequence[int]) -> None:
        """The blocks at these positions have changed on the disk, as the writer found."""
        for position in positions:
            self.rot.met(position)

    def take_rotten(self) -> tuple[list[RottenBlock], list[PlacedBlock]]:
        """The rotten blocks that were met since the last call, and sound ones with wrong rows."""
        return self.rot.take() if self.rot else ([], [])

    def look_through(self, after: int) -> int:
        """Compare the next rows after a position with their blocks, as far as one look goes.

        Return the position of the last one; 0 at the end. `take_rotten` tells what was found.
        """
        return self.rot.look_through(after)

    def close(self) -> None:
        """Close the connection, unless it was lent."""
        if not self._lent:
            self.connection.close()

    # --- By dot -----------------------------------------------------------------------------------

    def block(self, dot: Dot) -> bytes | None:
        """The encoded block with this message, if it is held and sound."""
        rows = (row[:3] for row in self.rows(SELECT_BY_DOT, dot))
        return next((encoded for _, encoded in self.rot.sound(rows)), None)

    def position_of(self, dot: Dot) -> int | None:
        """The position at which a message was appended, if it is held."""
        return next((row[3] for row in self.rows(SELECT_BY_DOT, dot)), None)

    def once(self, client: str, n: int, count: int) -> tuple[list[Dot | None], int]:
        """The dots that a client said under `count` numbers from `n` on, and its greatest number.

        None stands for a number that is not remembered.
        """
        rows = self.rows(SELECT_SAID, (client,))
        with self.reading():
            for said, is_sound in rows:
                check_sound(is_sound=is_sound, of=CHANGED)
                return find(said, n, count)
            return [None] * count, past_number(self.connection, client)

    # --- By position ------------------------------------------------------------------------------

    def dot_at(self, position: int) -> Dot | None:
        """The dot of the message at a position."""
        return next((Dot(*row) for row in self.rows(SELECT_BY_POSITION, (position,))), None)

    def after(
        self, position: int, room: str | None, limit: int, *, leaves_out: bool = False
    ) -> list[tuple[int, bytes]]:
        """(position, encoded) of the blocks that end after `position`, of one room or of all.

        The position is that of the block's last message. At most `limit`, and fewer where blocks
        are large. It is empty only if there is nothing. It ends before a block that is not sound;
        where that comes first, StoreFailed is raised until the block is healed. Or it `leaves_out`
        all blocks that are not sound.
        """
        page = self._page_after(position, room, limit)
        sound = list(self.rot.sound(page))
        while leaves_out and page and not sound:
            page = self._page_after(page[-1][0], room, limit)
            sound = list(self.rot.sound(page))
        if leaves_out or len(sound) == len(page):
            return sound
        rotten = next(row[0] for row, good in zip_longest(page, sound) if row[:2] != good)
        before = [row for row in sound if row[0] < rotten]
        if not before:
            raise StoreFailed("read", f"the block at position {rotten} has changed on the disk")
        return before

    def _page_after(self, position: int, room: str | None, limit: int) -> list[Any]:
        values = {"after": position, "limit": limit}
        if room is None:
            return self.page(SELECT_AFTER, values)
        room_no = self.value("SELECT no FROM room WHERE name = ?", (room,))
        return self.page(SELECT_AFTER_IN_ROOM, {**values, "room_no": room_no})

    def before_last(self, room: str | None, n: int) -> int:
        """The position after which the last `n` messages of the room, or of all, were appended."""
        if n <= 0:
            return self.last_position()
        found = self._from_the_end(SELECT_LAST, {"room": room, "n": n}, n)
        return 0 if found is None else found[0][1] - found[0][0] + found[1]

    def _from_the_end(self, sql: str, values: Values, n: int) -> tuple[Any, int] | None:
        """The row that has the n-th last message, and how many of its messages come before that.

        A row begins with the number of its messages. None: there are fewer messages.
        """
        with self.reading(), closing(self.connection.execute(sql, values)) as cursor:
            for row in cursor:
                n -= row[0]
                if n <= 0:
                    return row, -n
        return None

    # --- By stamp ---------------------------------------------------------------------------------

    def history(
        self,
        room: str | None,
        *,
        last: int | None = None,
        since_wall_ms: int | None = None,
        up_to: int | None = None,
        left_out: Counter[str] | None = None,
    ) -> Iterator[tuple[int, Message]]:
        """(position, message) in (stamp, log, seq) order, of one room or of all.

        At most the latest `last`, and only those whose stamp has a wall of at least
        `since_wall_ms`. What is appended after the call, or above the position `up_to`, is left
        out, and so are blocks that are not sound, which are counted as `left_out`.
        """
        position = self.last_position() if up_to is None else min(self.last_position(), up_to)
        bounds = {"room": room, "position": position}
        place = Place(min(max(since_wall_ms or 0, 0) << STAMP_WALL_SHIFT, STAMP_LIMIT))
        cut = 0
        if last is not None:
            if last <= 0:
                return iter(())
            found = self._from_the_end(SELECT_HISTORY_LAST, bounds, last)
            if found is not None and (first := Place(*found[0][1:])) >= place:
                place, cut = first, found[1]
        return islice(messages_of(self._in_order(bounds, place, left_out)), cut, None)

    def blocks(self, room: str | None) -> Iterator[tuple[int, bytes]]:
        """(position of the last message, encoded) of all blocks, as `history` orders them.

        Those that are not sound are left out.
        """
        return self._in_order({"room": room, "position": self.last_position()}, Place(0))

    def _in_order(
        self, bounds: dict[str, Any], place: Place, left_out: Counter[str] | None = None
    ) -> Iterator[tuple[int, bytes]]:
        bounds = {**bounds, "limit": PAGE_ROWS}
        while page := self.page(SELECT_HISTORY, {**bounds, **place._asdict()}):
            for row in page:
                if not row[-1]:
                    self.rot.misled(*row[:3])
            sound = list(self.rot.sound(row[:3] for row in page))
            if left_out is not None and len(sound) < len(page):
                left_out["left_out"] += len(page) - len(sound)
            yield from sound
            place = Place(*page[-1][3:6])

    def replay(
        self,
        spans: Sequence[Span],
        bytes_max: int,
        after: int = 0,
        below: int = STAMP_LIMIT,
    ) -> tuple[list[bytes], int]:
        """What a replay sends: see `read_replay`."""
        with self.reading():
            return read_replay(self, self.rot, spans, bytes_max, after, below)

    # --- What there is ----------------------------------------------------------------------------

    def rooms(self) -> Iterator[RoomRow]:
        """All rooms, by name. They are read in pages, so a new one may or may not be among them."""
        return read_rooms(self)

    def held(self, room: str | None) -> int:
        """How many messages are held of a room, or of all."""
        return int(self.value(SELECT_HELD, (room,)) or 0)

    def clock(self, room: str) -> VectorClock:
        """The room's vector clock: for each log, the last seq that is held in that room."""
        return VectorClock(dict(self.rows(SELECT_CLOCK, (room,))))

    def counts(self) -> tuple[int, int]:
        """How many messages and logs are held."""
        messages = self.value("SELECT sum(messages) FROM room")
        return int(messages or 0), int(self.value("SELECT count(*) FROM log"))

    def once_clients(self) -> int:
        """How many clients are remembered that numbered what they said."""
        return int(self.value("SELECT count(*) FROM once"))

    def used_bytes(self) -> int:
        """The size of the database without its free pages."""
        with self.reading():
            return used_bytes(self.connection)

    # --- What is left of pruned messages ----------------------------------------------------------

    def floor(self) -> int:
        """The stamp below which messages are pruned, or came late and will be. 0 if none are."""
        return int(self.fact("floor") or 0)

    def base_version(self) -> int:
        """A number that changes whenever the base does: two pages with one number fit together."""
        return int(self.fact("base") or 0)

    def base(self, after: LogId, rooms_max: int) -> list[BaseLog]:
        """The base's logs above `after`, by id: of about `rooms_max` rooms, but whole logs."""
        with self.reading():
            return read_base(self.connection, self.rot, after, rooms_max)

    def base_heads(self, logs: Sequence[LogId]) -> dict[LogId, int]:
        """{log: seq of its last message that was pruned}, for those of `logs` that lost any."""
        return dict(self.rows(SELECT_BASE_HEADS.format(", ".join("?" * len(logs))), logs))
