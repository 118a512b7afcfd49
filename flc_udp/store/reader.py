"""Reading the log: by dot, by position (what is live), by stamp (what is history).

Rules. No read holds more in memory than it answers with, and none keeps a transaction open after
it returned: long histories are read in pages, each its own short transaction, so a slow reader
never keeps the WAL from being folded in. They still show one moment: messages are immutable and
positions only grow, so "up to the position that was last when I began" is a snapshot.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from heapq import merge
from typing import Any, NamedTuple

from flc_udp.config import STAMP_LIMIT
from flc_udp.model.clocks import STAMP_WALL_SHIFT, VectorClock
from flc_udp.model.dots import Dot, LogId
from flc_udp.model.history import BaseLog
from flc_udp.store.base import base_heads, read_base
from flc_udp.store.once import find
from flc_udp.store.schema import failing, used_bytes

PAGE_ROWS = 256
PAGE_BYTES = 1 << 20
"""A page of messages ends with the row that reaches either."""

SPAN_ROWS_FIRST = 4
"""Most spans of a replay of thousands give only a few messages before the credit is used up."""

MOST = 2
"""One in so many of all logs is many of them."""

UNWANTED_MAX = 1_024
"""Of the rows of one replay."""

Values = Sequence[Any] | Mapping[str, Any]

WITH_ROW_BYTES = 4_096
"""A message of at most so much is read with its row, larger ones only once they are chosen."""

SELECT_SPAN = f"""
    SELECT stamp, ?1, seq, position, length(encoded),
        CASE WHEN length(encoded) <= {WITH_ROW_BYTES} THEN encoded END
    FROM message
    WHERE log_no = (SELECT no FROM log WHERE id = ?1) AND seq BETWEEN ?2 AND ?3 AND stamp >= ?4
    ORDER BY seq LIMIT ?5
"""  # noqa: S608  # a number of ours
SELECT_WALK = f"""
    SELECT message.stamp, log.id, message.seq, position, length(encoded),
        CASE WHEN length(encoded) <= {WITH_ROW_BYTES} THEN encoded END
    FROM message INDEXED BY message_history CROSS JOIN log ON log.no = log_no
    WHERE message.stamp >= ? ORDER BY message.stamp, log.id
"""  # noqa: S608  # a number of ours
SELECT_AFTER = """
    SELECT position, encoded FROM message
    WHERE position > ? ORDER BY position LIMIT ?
"""
SELECT_AFTER_IN_ROOM = """
    SELECT position, encoded FROM message
    WHERE position > ? AND position <= ? AND room_no = ? ORDER BY position LIMIT ?
"""
# Rows are to come out of the history index in order, so that only equal stamps are sorted and a
# LIMIT ends the walk: hence the index by name, and CROSS, which keeps the log second.
SELECT_HISTORY = """
    SELECT position, encoded, message.stamp, log.id, message.seq
    FROM message INDEXED BY message_history CROSS JOIN log ON log.no = log_no
    WHERE message.stamp BETWEEN :stamp AND :stamp_last AND position <= :position
        AND (message.stamp, log.id, message.seq) > (:stamp, :log, :seq)
        AND (:room_no IS NULL OR room_no = :room_no)
    ORDER BY message.stamp, log.id, message.seq LIMIT :limit
"""
SELECT_NTH_LAST = """
    SELECT message.stamp, log.id, message.seq - 1
    FROM message INDEXED BY message_history CROSS JOIN log ON log.no = log_no
    WHERE message.stamp <= :stamp_last AND position <= :position
        AND (:room_no IS NULL OR room_no = :room_no)
    ORDER BY message.stamp DESC, log.id DESC, message.seq DESC LIMIT 1 OFFSET :n - 1
"""


class RoomRow(NamedTuple):
    """A room: messages held, logs that spoke in it, its greatest stamp and position."""

    room: str
    messages: int
    logs: int
    last_stamp: int
    position: int


class _Room(NamedTuple):
    """A room's row as reads need it."""

    no: int
    messages: int
    stamp: int
    position: int


class _Place(NamedTuple):
    """A place in the history: what comes after it is greater."""

    stamp: int
    log: LogId
    seq: int


_Row = tuple[int, LogId, int, int, int, bytes | None]
"""(stamp, log, seq, position, length, encoded); None where it is large, and read once chosen."""

BEGINNING = _Place(0, b"", 0)


class Reader:
    """Reads on one connection, from one thread at a time. Failures are `StoreFailed`."""

    def __init__(self, connection: sqlite3.Connection, *, lent: bool = False) -> None:
        self._connection = connection
        self._lent = lent

    def close(self) -> None:
        """Close the connection, unless it was lent."""
        if not self._lent:
            self._connection.close()

    def message(self, dot: Dot) -> bytes | None:
        """The encoded message of that name, if it is held."""
        encoded: bytes | None = self._value(
            """SELECT encoded FROM message
               WHERE log_no = (SELECT no FROM log WHERE id = ?) AND seq = ?""",
            dot,
        )
        return encoded

    def replay(
        self,
        spans: Sequence[tuple[LogId, int, int]],
        bytes_max: int,
        after: int = 0,
        below: int = STAMP_LIMIT,
    ) -> tuple[list[bytes], int]:
        """Encoded messages of the spans (log, low, high) in (stamp, log, seq) order.

        Those with stamps in after..below (the second not included): at least one if any is held,
        else as many as `bytes_max` takes; and the stamp of the next one of the spans, STAMP_LIMIT
        if there is none. What is not held is skipped.
        """
        chosen: list[bytes | int] = []
        size = 0
        following = STAMP_LIMIT
        rows = self._walk(spans, after) if after and self._are_most(spans) else None
        for stamp, _, _, position, length, encoded in rows or self._merged(spans, after):
            size += length
            if stamp >= below or (chosen and size > bytes_max):
                following = stamp
                break
            chosen.append(position if encoded is None else encoded)
        return self._read_rest(chosen), following

    def after(self, position: int, room: str | None, limit: int) -> list[tuple[int, bytes]]:
        """(position, encoded) of what was appended after `position`, of one room or of all.

        At most `limit`, and fewer where messages are large; empty only if there is nothing.
        """
        if room is None:
            return self._page(SELECT_AFTER, (position, limit))
        row = self._room(room)
        # Costs a walk over what other rooms said in between; a follower makes that walk once.
        if row is None or row.position <= position:
            return []
        return self._page(SELECT_AFTER_IN_ROOM, (position, row.position, row.no, limit))

    def before_last(self, room: str | None, n: int) -> int:
        """The position after which the last `n` messages of the room, or of all, were appended."""
        if n <= 0:
            return self.last_position()
        if room is None:
            nth = "SELECT position FROM message ORDER BY position DESC LIMIT 1 OFFSET ? - 1"
            return int(self._value(nth, (n,)) or 1) - 1
        row = self._room(room)
        if row is None or row.messages <= n:
            return 0
        nth = """SELECT position FROM message WHERE position <= ? AND room_no = ?
                 ORDER BY position DESC LIMIT 1 OFFSET ? - 1"""
        return int(self._value(nth, (row.position, row.no, n)) or 1) - 1

    def dot_at(self, position: int) -> Dot | None:
        """The dot that stands at a position."""
        rows = self._rows(
            """SELECT log.id, message.seq FROM message JOIN log ON log.no = log_no
               WHERE position = ?""",
            (position,),
        )
        return Dot(*rows[0]) if rows else None

    def position_of(self, dot: Dot) -> int | None:
        """The position at which a message was appended, if it is held."""
        position: int | None = self._value(
            """SELECT position FROM message
               WHERE log_no = (SELECT no FROM log WHERE id = ?) AND seq = ?""",
            dot,
        )
        return position

    def last_position(self) -> int:
        """The greatest position ever given, or 0."""
        return int(self._value("SELECT max(position) FROM room") or 0)

    def history(
        self,
        room: str | None,
        *,
        last: int | None = None,
        since_wall_ms: int | None = None,
        up_to: int | None = None,
    ) -> Iterator[tuple[int, bytes]]:
        """(position, encoded) in (stamp, log, seq) order, of one room or of all.

        `last` is how many at most, the latest; `since_wall_ms` compares with the stamp's wall. What
        is appended after the call, or above the position `up_to`, is not in it.
        """
        # First the position, then the room's greatest stamp: so none up to there is above it.
        position = self.last_position()
        row = None if room is None else self._room(room)
        if room is not None and row is None:
            return iter(())
        bounds = {
            "room_no": row.no if row else None,
            "stamp_last": row.stamp if row else STAMP_LIMIT,
            "position": position,
        }
        place = BEGINNING
        if since_wall_ms is not None:
            stamp = min(max(since_wall_ms, 0) << STAMP_WALL_SHIFT, STAMP_LIMIT)
            place = _Place(stamp, b"", 0)
        if last is not None:
            place = max(place, self._before_last_in_history(bounds, last))
        return self._pages(bounds, place)

    def rooms(self) -> list[RoomRow]:
        """All rooms, by name."""
        rows = self._rows(
            """SELECT name, messages, count(*), stamp, position
               FROM room JOIN clock ON room_no = room.no GROUP BY room.no ORDER BY name"""
        )
        return [RoomRow(*row) for row in rows]

    def clock(self, room: str) -> VectorClock:
        """The room's vector clock: for each log, the last seq held in that room."""
        return VectorClock(
            dict(
                self._rows(
                    """SELECT log.id, clock.seq FROM clock JOIN log ON log.no = log_no
                       WHERE room_no = (SELECT no FROM room WHERE name = ?)""",
                    (room,),
                )
            )
        )

    def counts(self) -> tuple[int, int]:
        """How many messages and logs are held."""
        messages = self._value("SELECT sum(messages) FROM room")
        return int(messages or 0), int(self._value("SELECT count(*) FROM log"))

    def used_bytes(self) -> int:
        """The size of the database without its free pages."""
        with failing("read"):
            return used_bytes(self._connection)

    def floor(self) -> int:
        """The stamp below which messages are pruned, or came late and will be; 0 where none are."""
        return self._fact("floor")

    def base_version(self) -> int:
        """A number that is another whenever the base is: two pages of one are of one moment."""
        return self._fact("base")

    def base(self, after: LogId, rooms_max: int) -> list[BaseLog]:
        """The base's logs above `after`, by id: of about `rooms_max` rooms, but one whole log."""
        with failing("read"):
            return read_base(self._connection, after, rooms_max)

    def base_heads(self, logs: Sequence[LogId]) -> dict[LogId, int]:
        """Of those of `logs` that lost any to retention, the seq of the last one lost."""
        with failing("read"):
            return base_heads(self._connection, logs)

    def once_clients(self) -> int:
        """How many clients that numbered what they said are remembered."""
        return int(self._value("SELECT count(*) FROM once"))

    def once(self, client: str, n: int) -> Dot | None:
        """The dot the client said under `n`, None for a new number.

        Raises `once.Forgotten`, an FlcError, where it is neither remembered nor new.
        """
        said = self._value("SELECT said FROM once WHERE client = ?", (client,))
        return find(client, said or b"", n)

    # How it is read.

    def _are_most(self, spans: Sequence[tuple[LogId, int, int]]) -> bool:
        """Whether they are of many of the logs there are: who catches up asks for all of them."""
        logs = self._value("SELECT count(*) FROM log")
        return len({log for log, *_ in spans}) * MOST >= int(logs)

    def _walk(self, spans: Sequence[tuple[LogId, int, int]], after: int) -> Iterator[_Row]:
        """All that is held from a stamp on, without what is not of the spans.

        It reads a row in less than half the time that merging takes for it; but where too many are
        not of the spans, merging goes on from there.
        """
        wanted: dict[LogId, list[tuple[int, int]]] = {}
        for log, low, high in spans:
            wanted.setdefault(log, []).append((low, high))
        unwanted = 0
        with failing("read"), closing(self._connection.execute(SELECT_WALK, (after,))) as cursor:
            for row in cursor:
                for low, high in wanted.get(row[1], ()):
                    if low <= row[2] <= high:
                        yield row
                        break
                else:
                    unwanted += 1
                    if unwanted > UNWANTED_MAX:
                        break
        if unwanted > UNWANTED_MAX:
            yield from (other for other in self._merged(spans, row[0]) if other[:3] > row[:3])

    def _merged(self, spans: Sequence[tuple[LogId, int, int]], after: int) -> Iterator[_Row]:
        return merge(*(self._span(*span, after) for span in spans))

    def _span(self, log: LogId, low: int, high: int, after: int) -> Iterator[_Row]:
        # A few rows at a time, then more: a cursor
        # left open for each of thousands of spans would pin more pages than the cache holds, and
        # be prepared anew for each.
        limit = SPAN_ROWS_FIRST
        while True:
            rows = self._rows(SELECT_SPAN, (log, low, high, after, limit))
            yield from rows
            if len(rows) < limit:
                return
            low, limit = rows[-1][2] + 1, min(2 * limit, PAGE_ROWS)

    def _read_rest(self, chosen: Sequence[bytes | int]) -> list[bytes]:
        # Those that are known by their positions are read; pruned in between, they are left out.
        sql = "SELECT encoded FROM message WHERE position = ?"
        found = (at if isinstance(at, bytes) else self._value(sql, (at,)) for at in chosen)
        return [encoded for encoded in found if encoded is not None]

    def _before_last_in_history(self, bounds: dict[str, int | None], n: int) -> _Place:
        if n <= 0:
            return _Place(STAMP_LIMIT, b"", 0)
        rows = self._rows(SELECT_NTH_LAST, {**bounds, "n": n})
        return _Place(*rows[0]) if rows else BEGINNING

    def _pages(self, bounds: dict[str, int | None], place: _Place) -> Iterator[tuple[int, bytes]]:
        while True:
            page = self._page(SELECT_HISTORY, {**bounds, **place._asdict(), "limit": PAGE_ROWS})
            if not page:
                return
            yield from ((position, encoded) for position, encoded, *_ in page)
            place = _Place(*page[-1][2:])

    def _fact(self, key: str) -> int:
        return int(self._value("SELECT value FROM node WHERE key = ?", (key,)) or 0)

    def _room(self, name: str) -> _Room | None:
        rows = self._rows("SELECT no, messages, stamp, position FROM room WHERE name = ?", (name,))
        return _Room(*rows[0]) if rows else None

    def _page(self, sql: str, values: Values) -> list[Any]:
        # Rows whose second column is an encoded message, up to a bounded sum of their sizes.
        page, size = [], 0
        with failing("read"), closing(self._connection.execute(sql, values)) as cursor:
            for row in cursor:
                page.append(row)
                size += len(row[1])
                if size >= PAGE_BYTES:
                    break
        return page

    def _rows(self, sql: str, values: Values = ()) -> list[Any]:
        with failing("read"):
            return self._connection.execute(sql, values).fetchall()

    def _value(self, sql: str, values: Values = ()) -> Any:  # noqa: ANN401  # as SQLite answers
        rows = self._rows(sql, values)
        return rows[0][0] if rows else None
