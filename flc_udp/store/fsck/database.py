"""The whole check of a database, and what can be wrong with it.

Promise. Nothing is written, one moment is read, and memory grows with logs, rooms and clock rows,
not with messages.

Rules. First comes the file, by SQLite's own checks and against the schema that the migrations make.
Then comes each block (`blocks`). Then come the rows of the tables, against what follows from
the messages. A fault is told where it shows, and again where something else that is held does not
fit with it.

Last come the sums of rows (`sums`), for what nothing else tells.

These things cannot be seen here:
- a whole row of `node`, `once`, `past_client`, `peer` or `arrival` that is missing;
- two messages that changed places, if neither comes after the other nor ends its room;
- a log's missing end, if all that told of it is missing, too, as in an older copy of the file;
- bytes that no row uses, and the versions and counters in SQLite's own header.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path

from flc_udp.config import ONCE_REMEMBERED
from flc_udp.model.dots import LogId
from flc_udp.model.history import NO_HEAD
from flc_udp.store.connections import UNREADABLE, header_problem
from flc_udp.store.fsck.blocks import Walk
from flc_udp.store.fsck.findings import UNKNOWN, Finding, difference
from flc_udp.store.once import PAIR
from flc_udp.store.sanity import is_fact, is_peer
from flc_udp.store.schema import migrate
from flc_udp.store.sums import changed_rows, know_sums
from flc_udp.store.wal import Damage, find_damage, wal_of

CHECKS = (
    *("file", "message", "position", "log", "chain", "cause", "stamp", "floor"),
    *("head", "room", "clock", "once", "node", "sum"),
)
"""What a finding's `check` may be, in the order in which they are told."""

PROBLEMS_OF_SQLITE_MAX = 100
"""SQLite's own check ends after this many: a file that is torn has as many problems as rows."""

SELECT_SCHEMA = "SELECT name, type, tbl_name, sql FROM sqlite_schema WHERE name NOT LIKE ?"
STATISTICS = "sqlite_stat%"
"""These tables of SQLite's own are left by whoever says ANALYZE, and change nothing."""

# Rows that follow from the messages: the log and the room that each is about, then its columns.
SELECT_LOGS = "SELECT id, NULL, seq, hash, stamp, node, name FROM log"
SELECT_ROOMS = "SELECT NULL, name, messages, stamp, position FROM room"
SELECT_CLOCKS = """
    SELECT log.id, room.name, clock.seq, edge_stamp
    FROM clock LEFT JOIN log ON log.no = log_no LEFT JOIN room ON room.no = room_no
"""
SELECT_LAST_POSITION = "SELECT max(position) FROM room WHERE typeof(position) = 'integer'"
SELECT_PRUNED_ENDS = """
    SELECT name, base_position FROM room WHERE typeof(base_position) = 'integer'
"""

Expected = dict[tuple[LogId | None, str | None], tuple[object, ...]]
"""What rows have to be: {(log, room): columns}."""

Schema = dict[object, tuple[object, ...]]
"""{name: (type, table, SQL)} of tables and indexes."""


class Fsck:
    """The checks of the database behind a connection, which is in a read transaction."""

    def __init__(self, connection: sqlite3.Connection, cut: Damage | None = None) -> None:
        """`cut` is what `find_cut` found before the database was opened."""
        self._cut = cut
        self.walk = Walk(connection)
        """The pass over the messages, as far as it has come."""
        self.rows = dict.fromkeys(("head", "room", "clock", "once", "node"), 0)
        """{check: how many rows it looked at}."""
        self.is_complete = False
        """Whether everything was looked at, and not only what came before a torn page."""
        self._is_walkable = True
        self._connection = connection
        know_sums(connection)

    def findings(self) -> Iterator[Finding]:
        """All that is wrong, as soon as it is found."""
        try:
            yield from self._file()
            if not self._is_walkable:
                return
            yield from self.walk.findings()
            yield from self._log_rows()
            yield from self._room_rows()
            yield from self._clock_rows()
            yield from self._once_rows()
            yield from self._own_rows()
            yield from self._sums()
            self.is_complete = True
        except (OSError, *UNREADABLE) as error:
            yield Finding("file", f"cannot be read any further: {error}")

    def _file(self) -> Iterator[Finding]:
        (_, _, path), *_ = self._connection.execute("PRAGMA database_list")
        if path and (damage := find_damage(Path(path)) or self._cut):
            yield Finding("file", f"{wal_of(Path(path)).name} {damage.words}")
        if path and not Path(f"{path}-shm").exists() and (problem := header_problem(Path(path))):
            yield Finding("file", problem)
        found, promised = _schema(self._connection), _promised_schema()
        for name in sorted(found.keys() | promised.keys(), key=str):
            if found.get(name) != promised.get(name):
                kind = promised.get(name, found.get(name, ("",)))[0]
                # Without one of our tables nothing can be told; without an index it takes longer.
                self._is_walkable &= name not in promised or kind != "table"
                state = "missing" if name not in found else "not as this flc makes it"
                yield Finding("file", f"{kind} {name} is {state}")
        # This compares the indexes with their tables, too, which quick_check leaves out.
        sql = f"PRAGMA integrity_check({PROBLEMS_OF_SQLITE_MAX})"
        for (problem,) in self._connection.execute(sql):
            if problem != "ok":
                yield Finding("file", " ".join(str(problem).split()))

    def _log_rows(self) -> Iterator[Finding]:
        expected: Expected = {}
        for log, (seq, digest, stamp) in self.walk.heads.items():
            # What a message that cannot be read would have told is unknown.
            origin = self.walk.origins.get(log, (UNKNOWN, UNKNOWN))
            expected[log, None] = (seq, digest or UNKNOWN, stamp, *origin)
        return self._compare(
            "head", SELECT_LOGS, expected, "row of a log without messages", "a log without a row"
        )

    def _room_rows(self) -> Iterator[Finding]:
        rooms, held, pruned = self.walk.rooms, self.walk.messages, self.walk.base.count
        for name, position in self._connection.execute(SELECT_PRUNED_ENDS):
            if name in rooms:  # Its last message may have been pruned.
                rooms[name].position = max(rooms[name].position, position)
        expected: Expected = {
            (None, name): (room.messages, room.stamp, room.position) for name, room in rooms.items()
        }
        yield from self._compare(
            "room", SELECT_ROOMS, expected, "row of a room without messages", "a room without a row"
        )
        last = self._connection.execute(SELECT_LAST_POSITION).fetchone()[0] or 0
        if pruned and last != held + pruned:
            problem = f"of {last} that were appended {held} are held and {pruned} were pruned"
            yield Finding("position", problem)

    def _clock_rows(self) -> Iterator[Finding]:
        expected: Expected = {}
        for name, room in self.walk.rooms.items():
            for log, seq in room.clock.items():
                edge = room.frontier.get(log)
                expected[log, name] = (seq, edge and edge.stamp) if room.is_read else (seq, UNKNOWN)
        stray = "row of a log that said nothing in the room"
        missing = "the log has no row for the room"
        return self._compare("clock", SELECT_CLOCKS, expected, stray, missing)

    def _compare(
        self, check: str, sql: str, expected: Expected, stray: str, missing: str
    ) -> Iterator[Finding]:
        """Compare rows. `stray` is the problem with one too many, `missing` with one too few."""
        left = dict.fromkeys(expected)
        rows = self._connection.execute(sql)
        columns = [name for name, *_ in rows.description[2:]]
        for log, room, *told in rows:
            self.rows[check] += 1
            # A value of another type names nothing.
            log_id = LogId(log) if isinstance(log, bytes) else None
            place = (log_id, room if isinstance(room, str) else None)
            left.pop(place, None)
            said = expected.get(place)
            problem = difference(columns, told, said, "the messages") if said else stray
            if problem:
                yield Finding(check, problem, None, *place)
        for place in left:
            yield Finding(check, missing, None, *place)

    def _once_rows(self) -> Iterator[Finding]:
        for client, said in self._connection.execute("SELECT client, said FROM once"):
            self.rows["once"] += 1
            if not _could_be_said(self.walk, said):
                yield Finding("once", f"what client {client!r} said is not as it was remembered")

    def _own_rows(self) -> Iterator[Finding]:
        for key, value in self._connection.execute("SELECT key, value FROM node"):
            self.rows["node"] += 1
            if not is_fact(key, value):
                yield Finding("node", f"what the node keeps as {key!r} cannot be {value!r}")
        for row in self._connection.execute("SELECT id, name, address FROM peer"):
            self.rows["node"] += 1
            if not is_peer(*row):
                yield Finding("node", f"no remembered member can be {row!r}")

    def _sums(self) -> Iterator[Finding]:
        for table, count in changed_rows(self._connection).items():
            verb = "row has" if count == 1 else "rows have"
            yield Finding("sum", f"{count} {verb} changed on the disk in the table {table}")


def _could_be_said(walk: Walk, said: object) -> bool:
    if not isinstance(said, bytes) or not said or len(said) % PAIR.size:
        return False
    pairs = list(PAIR.iter_unpack(said))
    numbers = [-1, *(number for number, _, _ in pairs)]
    rise = all(low < high for low, high in pairwise(numbers))
    held = (0 < seq <= walk.heads.get(log, NO_HEAD).seq for _, log, seq in pairs)
    return rise and len(pairs) <= ONCE_REMEMBERED and all(held)


def _schema(connection: sqlite3.Connection) -> Schema:
    return {name: tuple(rest) for name, *rest in connection.execute(SELECT_SCHEMA, [STATISTICS])}


def _promised_schema() -> Schema:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as empty:
        migrate(empty, "the schema")
        return _schema(empty)
