"""What the writer remembers of the tables, and how a batch of blocks changes them.

Promise. `WriterMemory` is exactly what stood in the database at the writer's last commit. Appending
changes the memory first and writes the differences afterwards. So a batch costs one row for each
block, and one for each log, each room and each log of a room that it touched. If the transaction
fails, the memory is worthless and has to be read again.

Pruning leaves heads, rooms and frontiers as they are. It changes columns that are not remembered
here: `retention` and `base` read them when they need them.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

from flc_udp.config import STAMP_LIMIT
from flc_udp.model.block import Block, Origin
from flc_udp.model.dots import LogId
from flc_udp.model.errors import StoreFailed
from flc_udp.model.history import Edge, Frontier, Head, History, advance
from flc_udp.model.units import Millis
from flc_udp.store.arrivals import Arrivals
from flc_udp.store.queries import ManyRows

SELECT_FACTS = (
    "SELECT key, value FROM node WHERE key IN ('floor', 'pruned_below', 'pruned', 'base')"
)
SELECT_FRONTIERS = """
    SELECT room.name, log.id, clock.seq, edge_stamp
    FROM clock JOIN room ON room.no = room_no JOIN log ON log.no = log_no
    WHERE edge_stamp IS NOT NULL
"""
SELECT_HISTORY = """
    SELECT id, node, name, seq, hash, stamp, base_seq, base_hash, base_stamp FROM log ORDER BY id
"""
SAVE_FACT = "INSERT OR REPLACE INTO node (key, value) VALUES (?, ?)"
NOTE_FORK = """
    INSERT INTO fork (log, seq) VALUES (?, ?)
    ON CONFLICT DO UPDATE SET seq = max(seq, excluded.seq)
"""
INSERT_LOG = "INSERT INTO log (id, node, name, seq, hash, stamp) VALUES (?, ?, ?, 0, x'', 0)"
INSERT_ROOM = "INSERT INTO room (name, messages, stamp, position) VALUES (?, 0, 0, 0)"
INSERT_BLOCKS = ManyRows("""
    INSERT INTO block (position, log_no, seq, count, stamp, room_no, hash, encoded)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?)
""")
UPDATE_LOGS = ManyRows("""
    UPDATE log SET seq = new.column2, hash = new.column3, stamp = new.column4
    FROM (VALUES (?, ?, ?, ?)) AS new WHERE no = new.column1
""")
UPDATE_ROOMS = ManyRows("""
    UPDATE room SET messages = new.column2, stamp = new.column3, position = new.column4
    FROM (VALUES (?, ?, ?, ?)) AS new WHERE no = new.column1
""")
UPSERT_CLOCKS = ManyRows("""
    INSERT INTO clock (room_no, log_no, seq, edge_stamp) VALUES (?, ?, ?, ?)
    ON CONFLICT DO UPDATE SET seq = excluded.seq, edge_stamp = excluded.edge_stamp
""")

STAMP = attrgetter("stamp")


@dataclass(slots=True)
class LogMemory:
    """A log's number in the tables, and the seq of its head."""

    no: int
    seq: int = 0


@dataclass(slots=True)
class RoomMemory:
    """A room's number, count of messages, greatest stamp, greatest position, and frontier."""

    no: int
    messages: int = 0
    stamp: int = 0
    position: int = 0
    frontier: Frontier = field(default_factory=dict)
    changed: dict[LogId, int] = field(default_factory=dict)
    """The clock's entries that this batch may have changed: {log: its seq in the room}. It is empty
    between two batches."""

    def add(self, block: Block, position: int) -> None:
        """Count a block, whose last message is at `position`, and move the frontier past it."""
        self.messages += len(block.bodies)
        self.position = position
        self.stamp = max(self.stamp, block.stamp)
        advance(self.frontier, block, self.changed)


class WriterMemory:
    """The writer's memory of one database."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        """Read it. The cost grows with logs and rooms, and not with messages."""
        self.connection = connection
        logs = connection.execute("SELECT id, no, seq FROM log")
        self.logs = {log: LogMemory(no, seq) for log, no, seq in logs}
        rooms = connection.execute("SELECT name, no, messages, stamp, position FROM room")
        self.rooms = {name: RoomMemory(*row) for name, *row in rooms}
        for room, log, seq, stamp in connection.execute(SELECT_FRONTIERS):
            self.rooms[room].frontier[log] = Edge(seq, stamp)
        self.position = max((room.position for room in self.rooms.values()), default=0)
        """The greatest position that was ever given."""
        self.arrivals = Arrivals(connection)
        facts = dict(connection.execute(SELECT_FACTS))
        self.floor: int = facts.get("floor", 0)
        """Of messages with a stamp from here on, none was pruned here or by who gave the base."""
        self.pruned_below: int = facts.get("pruned_below", self.floor)
        """What comes below this stamp is pruned next. It follows from what was pruned here."""
        self.pruned: int = facts.get("pruned", 0)
        """How many messages were ever pruned here."""
        self.is_shrinking = False
        """Whether the limit in bytes was exceeded, and the database is not yet small enough."""
        self._base_version: int = facts.get("base", 0)

    def check(self) -> None:
        """Raise StoreFailed if a frontier names what is not held: others would wait for it."""
        for room in self.rooms.values():
            for log, edge in room.frontier.items():
                if edge.seq > self.logs[log].seq:
                    problem = f"a clock names {log.hex()}:{edge.seq}, which is not held"
                    raise StoreFailed("load", f"{problem}: `flc fsck --repair` mends it")

    def save_facts(self) -> None:
        """Write the floor and how many messages were pruned, and that the base has changed."""
        self._base_version += 1
        facts = {
            "floor": self.floor,
            "pruned_below": self.pruned_below,
            "pruned": self.pruned,
            "base": self._base_version,
        }
        self.connection.executemany(SAVE_FACT, facts.items())

    def history(self) -> History:
        """What the core is born from. It is the caller's own: later appends do not change it."""
        frontiers = {name: dict(room.frontier) for name, room in self.rooms.items()}
        history = History(frontiers=frontiers, floor=self.floor, pruned_below=self.pruned_below)
        for log, node, name, *numbers in self.connection.execute(SELECT_HISTORY):
            history.heads[log] = Head(*numbers[:3])
            base = Head(*numbers[3:])
            if base.seq:
                history.bases[log] = base
            if node is not None:
                history.origins[log] = Origin(node, name)
        return history

    def append(self, blocks: Sequence[Block], wall: Millis) -> None:
        """Write `blocks`, each the next of its log, inside the caller's transaction."""
        values: list[Any] = []
        heads: dict[int, Block] = {}
        touched: dict[str, RoomMemory] = {}
        position = self.position
        for block in blocks:
            log = self.logs.get(block.log) or self.log(block.log, block.origin)
            room = touched[block.room] = self.rooms.get(block.room) or self.room(block.room)
            assert block.first == log.seq + 1, "a log grows without gaps"
            if block.causes:
                self._note_forks(block)
            log.seq = seq = block.last
            heads[log.no] = block
            count = len(block.bodies)
            position += count
            room.add(block, position)
            row = (position, log.no, seq, count, block.stamp, room.no, block.hash, block.encoded)
            values += row
        INSERT_BLOCKS.write(self.connection, values)
        self._write_differences(heads, touched.values())
        self._note_arrival(blocks, wall)
        self.position = position

    def _note_forks(self, block: Block) -> None:
        """A cause that is not held is on a branch of its log that was refused."""
        for log, seq in block.causes:
            row = self.logs.get(log)
            if row is None or seq > row.seq:
                self.connection.execute(NOTE_FORK, (log, seq))

    def log(self, log: LogId, origin: Origin | None) -> LogMemory:
        """The row of a log, which is made if the log was unknown."""
        row = self.logs.get(log)
        if row is None:
            cursor = self.connection.execute(INSERT_LOG, (log, *(origin or (None, None))))
            assert cursor.lastrowid is not None
            row = self.logs[log] = LogMemory(cursor.lastrowid)
        return row

    def room(self, name: str) -> RoomMemory:
        """The row of a room, which is made if the room was unknown."""
        row = self.rooms.get(name)
        if row is None:
            cursor = self.connection.execute(INSERT_ROOM, (name,))
            assert cursor.lastrowid is not None
            row = self.rooms[name] = RoomMemory(cursor.lastrowid)
        return row

    def _write_differences(self, heads: dict[int, Block], rooms: Iterable[RoomMemory]) -> None:
        log_values: list[Any] = []
        for log_no, head in heads.items():
            log_values += (log_no, head.last, head.hash, head.stamp)
        room_values: list[int] = []
        clock_values: list[int | None] = []
        for room in rooms:
            room_values += (room.no, room.messages, room.stamp, room.position)
            for log, seq in room.changed.items():
                edge = room.frontier.get(log)
                clock_values += (room.no, self.logs[log].no, seq, edge and edge.stamp)
            room.changed.clear()
        UPDATE_LOGS.write(self.connection, log_values)
        UPDATE_ROOMS.write(self.connection, room_values)
        UPSERT_CLOCKS.write(self.connection, clock_values)

    def _note_arrival(self, blocks: Sequence[Block], wall: Millis) -> None:
        least = min(map(STAMP, blocks), default=STAMP_LIMIT)
        if least < self.pruned_below:  # That is pruned next, so nothing else waits for it.
            stamps = (b.stamp for b in blocks if b.stamp >= self.pruned_below)
            least = min(stamps, default=STAMP_LIMIT)
        if least < STAMP_LIMIT:
            self.arrivals.add(self.position + 1, wall, least)
