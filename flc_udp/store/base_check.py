"""What a database says of what was pruned: the floor, and the base a walk of the rest begins from.

Rules. Nothing that is held tells what the base was, so it is looked at as a whole: whether it lies
below the floor, whether heads and clocks of it are of one set, whether what it has beyond the
pruned messages is held. What is not fit to begin from is told, and left out.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from typing import Any

from flc_udp.config import HASH_BYTES
from flc_udp.model.dots import LogId
from flc_udp.model.history import NO_HEAD, Edge, Frontier, Head

SELECT_FACTS = "SELECT key, value FROM node WHERE key IN ('floor', 'pruned', 'base')"
SELECT_HEADS = "SELECT no, base_seq, base_hash, base_stamp FROM log"
SELECT_CLOCKS = "SELECT room_no, log_no, base_seq, base_edge_stamp FROM clock"
SELECT_ARRIVALS = "SELECT position, wall_ms, least_stamp FROM arrival ORDER BY position"

Problem = tuple[str, LogId | None, str | None]
"""What is wrong, of which log and room."""


class Pruned:
    """The floor and the base, by the tables of a database."""

    def __init__(self) -> None:
        self.floor = 0
        self.count = 0
        """Messages pruned here."""
        self.heads: dict[LogId, Head] = {}
        """Of each log that lost any, the last one lost."""
        self.clocks: dict[str, dict[LogId, int]] = {}
        """Of each room, the base's clock."""
        self.frontiers: dict[str, Frontier] = {}
        self.ahead: dict[tuple[str, LogId], int] = {}
        """Ends of the base's clocks that are not pruned: they have to be held."""

    def covers(self, room: str, log: LogId, seq: int) -> bool:
        """Whether a message is in the base, pruned or not."""
        return seq <= self.clocks.get(room, {}).get(log, 0)

    def read(
        self, connection: sqlite3.Connection, logs: Mapping[int, LogId], rooms: Mapping[int, str]
    ) -> Iterator[Problem]:
        """Read it, with the names of logs and rooms by number; what is wrong with it."""
        yield from self._read_facts(connection)
        for no, *row in connection.execute(SELECT_HEADS):
            if no in logs and (problem := self._read_head(logs[no], row)):
                yield problem, logs[no], None
        for room_no, log_no, *row in connection.execute(SELECT_CLOCKS):
            room, log = rooms.get(room_no), logs.get(log_no)
            if room is None or log is None:
                continue  # A finding of its own, of the row.
            if problem := self._read_clock(room, log, row):
                yield problem, log, room
        yield from self._ends()
        yield from _arrivals(connection)

    def _read_facts(self, connection: sqlite3.Connection) -> Iterator[Problem]:
        facts = dict(connection.execute(SELECT_FACTS))
        for key, value in facts.items():
            if not isinstance(value, int) or value < 0:
                yield f"{key} is {value!r}", None, None
                facts[key] = 0
        self.floor, self.count = facts.get("floor", 0), facts.get("pruned", 0)
        if self.count and not self.floor:
            yield f"{self.count} messages were pruned without a floor", None, None

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
            return None if edge is None else f"an edge of stamp {edge} in the room, of no base"
        self.clocks.setdefault(room, {})[log] = seq
        head = self.heads.get(log, NO_HEAD)
        if seq > head.seq:
            self.ahead[room, log] = seq
        frontier = self.frontiers.setdefault(room, {})
        if edge is None:
            return None if self.floor else "a base in the room, without a floor"
        frontier[log] = Edge(seq, edge)
        if edge >= self.floor:
            return f"an edge of stamp {edge} in the room, which is not below the floor {self.floor}"
        if seq == head.seq and edge != head.stamp:
            return f"an edge of stamp {edge} in the room, by the log's base {head.stamp}"
        return None

    def _ends(self) -> Iterator[Problem]:
        ends: dict[LogId, int] = {}
        for clock in self.clocks.values():
            for log, seq in clock.items():
                ends[log] = max(ends.get(log, 0), seq)
        for log, head in self.heads.items():
            if ends.get(log, 0) < head.seq:
                yield f"its base ends at {head.seq}, in the rooms it spoke in before", log, None
        for room, frontier in self.frontiers.items():
            if not frontier:
                yield "its base has no edge", None, room


def _arrivals(connection: sqlite3.Connection) -> Iterator[Problem]:
    before = (0, -1)
    for position, wall, least in connection.execute(SELECT_ARRIVALS):
        is_read = _is_count(wall) and _is_count(least)
        if not is_read or position <= before[0] or wall <= before[1]:
            yield f"what arrived from position {position} on did so at {wall!r}", None, None
            return
        before = (position, wall)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and value >= 0
