"""Whether a database holds what the log promises, and what of it is wrong.

Promise. Nothing is written, one moment is read, and memory grows with logs, rooms and clock rows,
not with messages.

Rules. First the file, by SQLite's own checks and against the schema as the migrations make it; then
each message (`walk`); then each row of the tables, against what follows from the messages. A fault
is told where it shows, and again where something else that is held does not fit with it.

What cannot be seen here:
- the node's own facts and its remembered peers (`node`, `peer`): nothing else tells them;
- in `once`, another client's name, and a number or a dot that could have been as well;
- two messages that changed places, where neither comes after the other nor ends its room;
- of what was pruned, what nothing that is held follows from: a log's last stamp, who was an edge,
  at which of the free positions it stood;
- when what is held arrived;
- the ends of logs that are missing with all that told of them, as in an older copy of the file;
- bytes that no row uses, and the versions and counters in SQLite's own header.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from typing import Any

from flc_udp.config import ONCE_REMEMBERED
from flc_udp.model.dots import LogId
from flc_udp.store.once import PAIR
from flc_udp.store.schema import MIGRATIONS
from flc_udp.store.snapshot import UNREADABLE
from flc_udp.store.walk import Finding, Walk, WalkedLog, WalkedRoom, difference

CHECKS = (
    *("file", "message", "position", "log", "chain", "cause", "stamp", "floor"),
    *("head", "room", "clock", "once"),
)
"""What a finding's `check` may be, in the order they are told."""

PROBLEMS_OF_SQLITE_MAX = 100
"""Where SQLite's own check ends: a file that is torn has as many problems as rows."""

SELECT_SCHEMA = "SELECT name, type, tbl_name, sql FROM sqlite_schema WHERE name NOT LIKE ?"
STATISTICS = "sqlite_stat%"
"""Tables of SQLite's own that whoever says ANALYZE leaves, and that change nothing."""

Schema = dict[object, tuple[object, ...]]
"""{name: (type, table, SQL)} of tables and indexes."""


class Fsck:
    """The checks of the database behind a connection, which is in a read transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.walk: Walk | None = None
        """The pass over the messages, once it has begun."""
        self.rows = dict.fromkeys(("log", "room", "clock", "once"), 0)
        """{table: rows looked at}."""
        self.is_complete = False
        """Whether everything was looked at, and not only what came before a torn page."""
        self._is_walkable = True
        self._connection = connection

    def findings(self) -> Iterator[Finding]:
        """All that is wrong, as it is come upon."""
        try:
            yield from self._file()
            if not self._is_walkable:
                return
            walk = self.walk = Walk(self._connection)
            yield from walk.findings()
            yield from self._log_rows(walk)
            yield from self._room_rows(walk)
            yield from self._clock_rows(walk)
            yield from self._once_rows(walk)
            self.is_complete = True
        except UNREADABLE as error:
            yield Finding("file", f"cannot be read any further: {error}")

    def _file(self) -> Iterator[Finding]:
        found, promised = _schema(self._connection), _promised_schema()
        for name in sorted(found.keys() | promised.keys(), key=str):
            if found.get(name) != promised.get(name):
                kind = promised.get(name, found.get(name, ("",)))[0]
                # Of a table that is another, nothing can be said; an index only makes it slower.
                self._is_walkable &= name not in promised or kind != "table"
                state = "missing" if name not in found else "not as this flc makes it"
                yield Finding("file", f"{kind} {name} is {state}")
        # It compares the indexes with their tables, too, which quick_check leaves out.
        sql = f"PRAGMA integrity_check({PROBLEMS_OF_SQLITE_MAX})"
        for (problem,) in self._connection.execute(sql):
            if problem != "ok":
                yield Finding("file", " ".join(str(problem).split()))
        for table, row, other, _ in self._connection.execute("PRAGMA foreign_key_check"):
            yield Finding("file", f"row {row} of {table} refers to nothing in {other}")

    def _rows(self, table: str, columns: str) -> Iterator[list[Any]]:
        # By rowid or primary key, as they lie in the file.
        for row in self._connection.execute(f"SELECT {columns} FROM {table}"):  # noqa: S608  # ours
            self.rows[table] += 1
            yield list(row)

    def _log_rows(self, walk: Walk) -> Iterator[Finding]:
        rowless = dict.fromkeys(walk.logs)
        for log_id, *told in self._rows("log", "id, seq, hash, stamp, node, name"):
            rowless.pop(log_id, None)
            log = walk.logs.get(log_id)
            problem = "row of a log without messages" if log is None else _log_problem(log, told)
            if problem:
                yield Finding("head", problem, log=log_id if isinstance(log_id, bytes) else None)
        for log_id in rowless:
            yield Finding("head", "a log without a row", log=log_id)

    def _room_rows(self, walk: Walk) -> Iterator[Finding]:
        rowless = dict.fromkeys(walk.rooms)
        last = 0
        for name, *told in self._rows("room", "name, messages, stamp, position"):
            rowless.pop(name, None)
            room = walk.rooms.get(name)
            *_, position = told
            if isinstance(position, int):
                last = max(last, position)
                if room is not None and self._may_be_pruned(walk, room.position, position):
                    room.position = position
            problem = (
                "row of a room without messages" if room is None else _room_problem(room, told)
            )
            if problem:
                yield Finding("room", problem, room=name if isinstance(name, str) else None)
        for name in rowless:
            yield Finding("room", "a room without a row", room=name)
        if walk.base.count and last != walk.messages + walk.base.count:
            held = f"{walk.messages} are held and {walk.base.count} were pruned"
            yield Finding("position", f"of {last} that were appended {held}")

    def _may_be_pruned(self, walk: Walk, held: int, position: int) -> bool:
        """Whether a room may have had a message behind the last one that is held."""
        if not walk.base.count or position <= held:
            return False
        sql = "SELECT count(*) FROM message WHERE position = ?"
        (standing,) = self._connection.execute(sql, (position,)).fetchone()
        return not standing

    def _clock_rows(self, walk: Walk) -> Iterator[Finding]:
        for room_no, log_no, *told in self._rows("clock", "room_no, log_no, seq, edge_stamp"):
            name, log_id = walk.room_names.get(room_no), walk.log_ids.get(log_no)
            room = None if name is None else walk.rooms.get(name)
            if room is None or log_id not in room.clock:
                problem: str | None = "row of a log that said nothing in the room"
            else:
                problem = _clock_problem(room, log_id, told)
                del room.clock[log_id]
            if problem:
                yield Finding("clock", problem, log=log_id, room=name)
        for name, room in walk.rooms.items():
            for log_id in room.clock:
                yield Finding("clock", "the log has no row for the room", log=log_id, room=name)

    def _once_rows(self, walk: Walk) -> Iterator[Finding]:
        for client, said in self._rows("once", "client, said"):
            if not _could_be_said(walk, said):
                yield Finding("once", f"what client {client!r} said is not as it was remembered")


def _log_problem(log: WalkedLog, told: list[Any]) -> str | None:
    _, digest, _, node, name = told
    # What a message that cannot be read would have told is taken for right.
    said = (log.seq, log.hash or digest, log.stamp, *(log.origin or (node, name)))
    return difference(("seq", "hash", "stamp", "node", "name"), told, said)


def _room_problem(room: WalkedRoom, told: list[Any]) -> str | None:
    said = (room.messages, room.stamp, room.position)
    return difference(("messages", "stamp", "position"), told, said)


def _clock_problem(room: WalkedRoom, log: LogId, told: list[Any]) -> str | None:
    _, edge_stamp = told
    if room.is_read:
        edge = room.frontier.get(log)
        edge_stamp = None if edge is None else edge.stamp
    return difference(("seq", "edge_stamp"), told, (room.clock[log], edge_stamp))


def _could_be_said(walk: Walk, said: object) -> bool:
    if not isinstance(said, bytes) or not said or len(said) % PAIR.size:
        return False
    pairs = list(PAIR.iter_unpack(said))
    numbers = [-1, *(number for number, _, _ in pairs)]
    rise = all(low < high for low, high in pairwise(numbers))
    none = WalkedLog()
    held = (0 < seq <= walk.logs.get(log, none).seq for _, log, seq in pairs)
    return rise and len(pairs) <= ONCE_REMEMBERED and all(held)


def _schema(connection: sqlite3.Connection) -> Schema:
    return {name: tuple(rest) for name, *rest in connection.execute(SELECT_SCHEMA, [STATISTICS])}


def _promised_schema() -> Schema:
    with closing(sqlite3.connect(":memory:")) as empty:
        for migration in MIGRATIONS:
            for statement in migration:
                empty.execute(statement)
        return _schema(empty)
