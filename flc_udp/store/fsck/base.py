"""What a database says about pruned messages: the floor, and the base that a walk begins from.

Rules. No message that is held tells what the base was, so the base is checked as a whole: whether
it lies below the floor, whether its heads and clocks are of one set, and whether its part beyond
the pruned messages is held. What cannot be begun from is a finding, and is left out.
"""

import sqlite3
from collections.abc import Iterator
from typing import Any

from flc_udp.config import HASH_BYTES
from flc_udp.model.dots import LogId
from flc_udp.model.history import NO_HEAD, Edge, Frontier, Head
from flc_udp.store.fsck.findings import Finding
from flc_udp.store.writer_memory import SELECT_FACTS

SELECT_HEADS = "SELECT id, base_seq, base_hash, base_stamp FROM log WHERE typeof(id) = 'blob'"
# A clock's row without its log or its room is a finding of another check.
SELECT_CLOCKS = """
    SELECT room.name, log.id, clock.base_seq, base_edge_stamp
    FROM clock CROSS JOIN log ON log.no = log_no CROSS JOIN room ON room.no = room_no
    WHERE typeof(log.id) = 'blob' AND typeof(room.name) = 'text'
"""
SELECT_ARRIVALS = "SELECT position, wall_ms, least_stamp FROM arrival ORDER BY position"

SELECT_LAST = "SELECT ifnull(max(position), 0) FROM room WHERE typeof(position) = 'integer'"


class FoundBase:
    """The floor and the base as the tables tell them."""

    def __init__(self) -> None:
        self.floor = 0
        self.count = 0
        """How many messages were pruned here."""
        self.heads: dict[LogId, Head] = {}
        """The last message that was pruned, of each log that lost any."""
        self.clocks: dict[str, dict[LogId, int]] = {}
        """The base's clock of each room."""
        self.frontiers: dict[str, Frontier] = {}
        self.ahead: dict[tuple[str, LogId], int] = {}
        """Ends of the base's clocks that were not pruned here, so they have to be held."""

    def covers(self, room: str, log: LogId, seq: int) -> bool:
        """Whether a message is in the base, pruned or not."""
        return seq <= self.clocks.get(room, {}).get(log, 0)

    def read(self, connection: sqlite3.Connection) -> Iterator[Finding]:
        """Read it; yields what is wrong with it."""
        yield from self._read_facts(connection)
        for log, *row in connection.execute(SELECT_HEADS):
            if problem := self._read_head(log, row):
                yield Finding("floor", problem, log=log)
        for room, log, *row in connection.execute(SELECT_CLOCKS):
            if problem := self._read_clock(room, log, row):
                yield Finding("floor", problem, log=log, room=room)
        yield from self._ends()
        yield from _arrivals(connection)

    def _read_facts(self, connection: sqlite3.Connection) -> Iterator[Finding]:
        facts = dict(connection.execute(SELECT_FACTS))
        for key, value in facts.items():
            if not _is_count(value):
                yield Finding("floor", f"{key} is {value!r}")
                facts[key] = 0
        self.floor, self.count = facts.get("floor", 0), facts.get("pruned", 0)
        if self.count and not self.floor:
            yield Finding("floor", f"{self.count} messages were pruned without a floor")

    def _read_head(self, log: LogId, row: list[Any]) -> str | None:
        head = Head(*row)
        if head == NO_HEAD:
            return None
        seq, digest, stamp = head
        if not (_is_count(seq) and _is_count(stamp) and isinstance(digest, bytes)):
            return "its base cannot be read"
        if seq == 0 or len(digest) != HASH_BYTES:
            return f"its base is no message: seq {seq}, hash {digest.hex()}, stamp {stamp}"
        self.heads[log] = head
        if stamp >= self.floor:
            return f"its base has stamp {stamp}, which is not below the floor {self.floor}"
        return None

    def _read_clock(self, room: str, log: LogId, row: list[Any]) -> str | None:
        seq, edge = row
        if not (_is_count(seq) and (edge is None or _is_count(edge))):
            return "its base in the room cannot be read"
        if seq == 0:
            return None if edge is None else f"it has an edge of stamp {edge} in the room, no base"
        self.clocks.setdefault(room, {})[log] = seq
        head = self.heads.get(log, NO_HEAD)
        if seq > head.seq:
            self.ahead[room, log] = seq
        frontier = self.frontiers.setdefault(room, {})
        if edge is None:
            return None if self.floor else "it has a base in the room, and there is no floor"
        frontier[log] = Edge(seq, edge)
        if edge >= self.floor:
            return f"its edge of stamp {edge} in the room is not below the floor {self.floor}"
        if seq == head.seq and edge != head.stamp:
            return f"its edge in the room has stamp {edge}, but the log's base has {head.stamp}"
        return None

    def _ends(self) -> Iterator[Finding]:
        ends: dict[LogId, int] = {}
        for clock in self.clocks.values():
            for log, seq in clock.items():
                ends[log] = max(ends.get(log, 0), seq)
        for log, head in self.heads.items():
            if (end := ends.get(log, 0)) < head.seq:
                problem = f"its base ends at {head.seq}, but in its rooms already at {end}"
                yield Finding("floor", problem, log=log)
        for room, frontier in self.frontiers.items():
            if not frontier:
                yield Finding("floor", "its base has no edge", room=room)


def _arrivals(connection: sqlite3.Connection) -> Iterator[Finding]:
    before = (0, -1)
    (last,) = connection.execute(SELECT_LAST).fetchone()
    for position, wall_ms, least in connection.execute(SELECT_ARRIVALS):
        are_counts = _is_count(wall_ms) and _is_count(least)
        if not are_counts or position <= before[0] or wall_ms <= before[1]:
            problem = f"what stands from position {position} on is said to have come at {wall_ms!r}"
            yield Finding("floor", problem)
            return
        if position > last:
            problem = f"something is said to have come at position {position}, the last is {last}"
            yield Finding("floor", problem)
            return
        before = (position, wall_ms)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and value >= 0
