"""What is left of pruned messages, as far as the tables and the blocks that are held tell it.

Rules. What can be read and fits is kept. Where a log's base does not fit with the first block that
is held of it, the hash chain decides. Of the other columns, those that cannot be true are
replaced by what is true in any case: a low stamp, an edge that is the log's last. A log of whose
base nothing is known is cut: others have it. The base of another node, which was taken, may reach
further than what was pruned here. It ends there then, and what is held beyond it stays.
"""

import sqlite3
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

from flc_udp.config import HASH_BYTES, STAMP_LIMIT
from flc_udp.model.block import NO_PARENT, Origin
from flc_udp.model.dots import LogId
from flc_udp.model.history import NO_HEAD, BaseLog, BaseRoom, Head
from flc_udp.store.repair.tables import is_count, is_log, is_name, summed

SELECT_BY_PARENT = (
    "SELECT first - 1, parent, stamp FROM scratch.chosen WHERE log = ? AND parent = ?"
)
SELECT_FOLLOWER = "SELECT first - 1, parent, stamp, room FROM scratch.chosen WHERE log = ?"


class ClockRow(NamedTuple):
    """A row of a clock, with whatever is in it."""

    seq: Any
    edge: Any
    base_seq: Any
    base_edge: Any


class Told:
    """What the tables tell of logs and rooms, but for what follows from blocks."""

    def __init__(self, old: sqlite3.Connection, new: sqlite3.Connection) -> None:
        self._new = new
        logs = dict(new.execute("SELECT no, id FROM scratch.log"))
        rooms = dict(new.execute("SELECT no, name FROM scratch.room"))
        self._rooms = sorted(rooms.values())
        self.heads: dict[LogId, Head] = {}
        self.origins: dict[LogId, Origin] = {}
        self.clocks: defaultdict[LogId, dict[str, ClockRow]] = defaultdict(dict)
        self._ends: dict[LogId, Head] = {}
        self._firsts: list[int] = []
        """The stamps of those blocks that follow the base."""
        for (no, _, *told), _, head in summed(old, "log", "no", "seq, hash, stamp"):
            if no in logs:
                self._take_log(logs[no], [*told[:2], *head, *told[2:]])
        of_clock = summed(old, "clock", "room_no, log_no", "seq, edge_stamp")
        for (room_no, log_no, seq, edge), is_sound, (last, last_edge) in of_clock:
            if log_no in logs and room_no in rooms:
                base_seq = seq if is_sound or seq != 0 else None
                row = ClockRow(last, last_edge, base_seq, edge)
                self.clocks[logs[log_no]][rooms[room_no]] = row

    def _take_log(self, log: LogId, row: Sequence[Any]) -> None:
        node, name, *numbers = row
        if is_log(node) and is_name(name):
            self.origins[log] = Origin(node, name)
        self.heads[log], self._ends[log] = Head(*numbers[:3]), Head(*numbers[3:])

    def base(self, floor: Any) -> tuple[int, list[BaseLog]]:  # noqa: ANN401  # as it was read
        """The floor and the base."""
        is_known = is_count(floor) and 0 < floor < STAMP_LIMIT
        limit: int = floor if is_known else STAMP_LIMIT
        told = (self._base_log(log, limit) for log in sorted({*self.clocks, *self._ends}))
        base = [log for log in told if log is not None]
        if not is_known:
            stamps = [room.edge or 0 for log in base for room in log.rooms]
            limit = max([*stamps, *(log.head.stamp for log in base)], default=-1) + 1
            # All that is held has a stamp from the floor on.
            limit = max(limit, min(self._firsts, default=0))
        return limit, _with_edges(base)

    def _base_log(self, log: LogId, limit: int) -> BaseLog | None:
        rooms = {room: row for room, row in self.clocks[log].items() if row.base_seq != 0}
        head, room = self._base_head(log, limit, rooms)
        if head is None:
            return None
        for room, row in self.clocks[log].items():
            if room not in rooms and is_count(row.seq) and 0 < row.seq <= head.seq:
                rooms[room] = row._replace(base_seq=row.seq)  # Its last one there was pruned.
        rooms = rooms or {room: ClockRow(None, None, head.seq, None)}
        told = [_base_room(room, row, head, limit) for room, row in rooms.items()]
        if all(room.seq != head.seq for room in told):
            # One of them ends the log's base. The one that ends last is taken for it.
            *told, last = sorted(told, key=lambda room: room.seq)
            edge = None if last.edge is None else head.stamp
            told.append(last._replace(seq=head.seq, edge=edge))
        return BaseLog(log, head, self.origins.get(log), tuple(sorted(told)))

    def _follower(self, condition: str, log: LogId, value: object) -> Any:  # noqa: ANN401  # a row
        return self._new.execute(f"{SELECT_FOLLOWER} AND {condition}", (log, value)).fetchone()

    def _base_head(
        self, log: LogId, limit: int, rooms: dict[str, ClockRow]
    ) -> tuple[Head | None, str]:
        """The last message of a log that was pruned, if any was, and a room for it."""
        told, room = self._ends.get(log, NO_HEAD), next(iter(self._rooms), "")
        ends = [row.base_seq for row in rooms.values() if is_count(row.base_seq)]
        if log in self._ends and told.hash == NO_PARENT and told.seq not in ends:
            return None, room
        follower = None
        if told.hash != NO_PARENT:
            follower = self._follower("parent = ?", log, told.hash)
        for seq in (told.seq, max(ends, default=0)):
            if follower is None and is_count(seq) and seq:
                follower = self._follower("first = ? + 1", log, seq)
        if follower is not None:
            seq, digest, below, room = follower
            limit = min(limit, below)
            self._firsts.append(below)
            told = Head(seq, digest, told.stamp)
        else:  # It may have been pruned as a whole, and then its head is the same.
            head = self.heads.get(log, NO_HEAD)
            heads = [told, head] if head.seq in ends else [told]
            heads = sorted(filter(_is_head, heads), key=lambda head: head.seq not in ends)
            if not (heads and room):
                return None, room
            told = heads[0]
        edges = [row.base_edge for row in rooms.values() if row.base_seq == told.seq]
        stamps = [x for x in (told.stamp, *edges) if is_count(x) and 0 < x < limit]
        return told._replace(stamp=stamps[0] if stamps else 1), room


def _is_head(head: Head) -> bool:
    is_hash = isinstance(head.hash, bytes) and len(head.hash) == HASH_BYTES
    return is_hash and head.hash != NO_PARENT and is_count(head.seq) and head.seq > 0


def _base_room(name: str, row: ClockRow, head: Head, limit: int) -> BaseRoom:
    seq = row.base_seq if is_count(row.base_seq) else row.seq
    seq = min(seq, head.seq) if is_count(seq) and seq else head.seq
    if row.base_edge is None or seq == head.seq:
        return BaseRoom(name, seq, None if row.base_edge is None else head.stamp)
    is_stamp = is_count(row.base_edge) and row.base_edge < limit
    return BaseRoom(name, seq, row.base_edge if is_stamp else None)


def _with_edges(base: list[BaseLog]) -> list[BaseLog]:
    """The base, in which each room has an edge: one that has none gets the latest that can be."""
    rooms = {room.room for log in base for room in log.rooms}
    rooms -= {room.room for log in base for room in log.rooms if room.edge is not None}
    for number, log in sorted(enumerate(base), key=lambda pair: -pair[1].head.stamp):
        fixed = [
            room._replace(edge=log.head.stamp) if room.room in rooms else room for room in log.rooms
        ]
        rooms -= {room.room for room in log.rooms}
        base[number] = log._replace(rooms=tuple(fixed))
    return base
