"""Reading the log: by dot, by position (what is live), by stamp (what is history), and by spans.

Rules. No read holds more in memory than it answers with, and none keeps a transaction open after it
has returned. Reading by spans stands in `read_replay`.

The history is read in pages, each a short transaction, so a slow reader never keeps the WAL from
being folded in. It still shows one moment: messages never change and positions only grow, so
whatever has a position up to the last one of that moment belongs to it.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from flc_udp.config import STAMP_LIMIT
from flc_udp.model.clocks import STAMP_WALL_SHIFT, VectorClock
from flc_udp.model.dots import BEGINNING, Dot, LogId
from flc_udp.model.history import BaseLog
from flc_udp.store.base import read_base
from flc_udp.store.once import find
from flc_udp.store.queries import OF_ROOM, PAGE_ROWS, Queries, failing, used_bytes
from flc_udp.store.read_replay import read_replay

BY_DOT = "FROM message WHERE log_no = (SELECT no FROM log WHERE id = ?) AND seq = ?"
SELECT_ENCODED = f"SELECT encoded {BY_DOT}"
SELECT_POSITION = f"SELECT position {BY_DOT}"
SELECT_DOT = """
    SELECT log.id, message.seq FROM message JOIN log ON log.no = log_no WHERE position = ?
"""
SELECT_AFTER = """
    SELECT position, encoded FROM message WHERE position > :after ORDER BY position LIMIT :limit
"""
# This walks over what other rooms said, and the room's last position ends the walk. `room_no` is
# given, because a condition that looks it up would take longer for each row.
SELECT_AFTER_IN_ROOM = """
    SELECT position, encoded FROM message
    WHERE position > :after AND position <= (SELECT position FROM room WHERE no = :room_no)
        AND room_no = :room_no
    ORDER BY position LIMIT :limit
"""
SELECT_NTH_LAST = f"""
    SELECT position FROM message
    WHERE {OF_ROOM}
        AND position <= iif(:room IS NULL, 1 << 62, (
            SELECT position FROM room WHERE name = :room AND messages > :n))
    ORDER BY position DESC LIMIT 1 OFFSET :n - 1
"""  # noqa: S608  # texts of ours
# Rows have to come out of the history index in order, so that only equal stamps are sorted and a
# LIMIT ends the walk. That is why the index is named, and why CROSS keeps the log second. The walk
# also ends at the room's greatest stamp.
WITHIN = f"""
    FROM message INDEXED BY message_history CROSS JOIN log ON log.no = log_no
    WHERE position <= :position AND {OF_ROOM} AND message.stamp <=
        iif(:room IS NULL, {STAMP_LIMIT}, (SELECT stamp FROM room WHERE name = :room))
"""  # noqa: S608  # texts of ours
SELECT_HISTORY = f"""
    SELECT position, encoded, message.stamp, log.id, message.seq {WITHIN}
        AND message.stamp >= :stamp
        AND (message.stamp, log.id, message.seq) > (:stamp, :log, :seq)
    ORDER BY message.stamp, log.id, message.seq LIMIT :limit
"""
SELECT_HISTORY_NTH_LAST = f"""
    SELECT message.stamp, log.id, message.seq - 1 {WITHIN}
    ORDER BY message.stamp DESC, log.id DESC, message.seq DESC LIMIT 1 OFFSET :n - 1
"""
SELECT_BASE_HEADS = "SELECT id, base_seq FROM log WHERE base_seq > 0 AND id IN ({})"
SELECT_ROOMS = """
    SELECT name, messages, count(*), stamp, position
    FROM room JOIN clock ON room_no = room.no GROUP BY room.no ORDER BY name
"""
SELECT_CLOCK = """
    SELECT log.id, clock.seq FROM clock JOIN log ON log.no = log_no
    WHERE room_no = (SELECT no FROM room WHERE name = ?)
"""


class RoomRow(NamedTuple):
    """A room: messages held, logs that spoke in it, its greatest stamp and position."""

    room: str
    messages: int
    logs: int
    last_stamp: int
    position: int


class Place(NamedTuple):
    """A place in the history. What comes after it is greater."""

    stamp: int
    log: LogId = BEGINNING
    seq: int = 0


END = Place(STAMP_LIMIT)
"""Nothing comes after it."""


class Reader(Queries):
    """Reads on one connection, from one thread at a time. Failures are `StoreFailed`."""

    def __init__(self, connection: sqlite3.Connection, *, lent: bool = False) -> None:
        super().__init__(connection)
        self._lent = lent

    def close(self) -> None:
        """Close the connection, unless it was lent."""
        if not self._lent:
            self.connection.close()

    # --- By dot -----------------------------------------------------------------------------------

    def message(self, dot: Dot) -> bytes | None:
        """The encoded message with this dot, if it is held."""
        encoded: bytes | None = self.value(SELECT_ENCODED, dot)
        return encoded

    def position_of(self, dot: Dot) -> int | None:
        """The position at which a message was appended, if it is held."""
        position: int | None = self.value(SELECT_POSITION, dot)
        return position

    def once(self, client: str, n: int) -> Dot | None:
        """The dot that the client said under `n`, None for a new number.

        Raises `once.Forgotten`, an FlcError, if the number is neither remembered nor new.
        """
        said = self.value("SELECT said FROM once WHERE client = ?", (client,))
        return find(client, said or b"", n)

    # --- By position ------------------------------------------------------------------------------

    def dot_at(self, position: int) -> Dot | None:
        """The dot of the message at a position."""
        rows = self.rows(SELECT_DOT, (position,))
        return Dot(*rows[0]) if rows else None

    def last_position(self) -> int:
        """The greatest position that was ever given, or 0."""
        return int(self.value("SELECT max(position) FROM room") or 0)

    def after(self, position: int, room: str | None, limit: int) -> list[tuple[int, bytes]]:
        """(position, encoded) of what was appended after `position`, of one room or of all.

        At most `limit`, and fewer where messages are large. It is empty only if there is nothing.
        """
        values = {"after": position, "limit": limit}
        if room is None:
            return self.page(SELECT_AFTER, values)
        room_no = self.value("SELECT no FROM room WHERE name = ?", (room,))
        return self.page(SELECT_AFTER_IN_ROOM, {**values, "room_no": room_no})

    def before_last(self, room: str | None, n: int) -> int:
        """The position after which the last `n` messages of the room, or of all, were appended."""
        if n <= 0:
            return self.last_position()
        return int(self.value(SELECT_NTH_LAST, {"room": room, "n": n}) or 1) - 1

    # --- By stamp ---------------------------------------------------------------------------------

    def history(
        self,
        room: str | None,
        *,
        last: int | None = None,
        since_wall_ms: int | None = None,
        up_to: int | None = None,
    ) -> Iterator[tuple[int, bytes]]:
        """(position, encoded) in (stamp, log, seq) order, of one room or of all.

        At most the latest `last`, and only those whose stamp has a wall of at least
        `since_wall_ms`. What is appended after the call, or above the position `up_to`, is left
        out.
        """
        position = self.last_position() if up_to is None else min(self.last_position(), up_to)
        bounds = {"room": room, "position": position}
        place = Place(min(max(since_wall_ms or 0, 0) << STAMP_WALL_SHIFT, STAMP_LIMIT))
        if last is not None:
            found = self.rows(SELECT_HISTORY_NTH_LAST, {**bounds, "n": last}) if last > 0 else [END]
            place = max([place, *(Place(*row) for row in found)])
        return self._history_pages(bounds, place)

    def _history_pages(self, bounds: dict[str, Any], place: Place) -> Iterator[tuple[int, bytes]]:
        bounds = {**bounds, "limit": PAGE_ROWS}
        while page := self.page(SELECT_HISTORY, {**bounds, **place._asdict()}):
            yield from ((position, encoded) for position, encoded, *_ in page)
            place = Place(*page[-1][2:])

    replay = read_replay

    # --- What there is ----------------------------------------------------------------------------

    def rooms(self) -> list[RoomRow]:
        """All rooms, by name."""
        return [RoomRow(*row) for row in self.rows(SELECT_ROOMS)]

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
        with failing("read"):
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
        with failing("read"):
            return read_base(self.connection, after, rooms_max)

    def base_heads(self, logs: Sequence[LogId]) -> dict[LogId, int]:
        """{log: seq of its last message that was pruned}, for those of `logs` that lost any."""
        return dict(self.rows(SELECT_BASE_HEADS.format(", ".join("?" * len(logs))), logs))
