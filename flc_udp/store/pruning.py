"""Pruning: what is too old, or more than there is space for, is deleted slice by slice.

Promise. What a slice leaves behind is whole. Messages go in the order of their stamps, which is one
of causality. In the same transaction the floor rises above them and the base moves past them. No
slice takes longer than another, however much there is to prune.

Rules. One call does one thing: it prunes a slice; or it gives free pages back, if there is nothing
to prune; or it does nothing. Its owner calls it again while there is more, and commits in between.
What came below the floor, from a node that was apart for long, goes first, whatever the limits are.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from contextlib import closing
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

from flc_udp.config import STAMP_LIMIT
from flc_udp.model.dots import LogId
from flc_udp.model.errors import Malformed, StoreFailed
from flc_udp.model.history import Edge, Frontier, Head, advance
from flc_udp.model.message import Message, decode
from flc_udp.model.units import Millis
from flc_udp.store.queries import atomic, used_bytes
from flc_udp.store.writer_memory import WriterMemory

SLICE_BYTES = 1 << 20
"""A slice ends with the message that brings it to this size, if not before."""

SLICE_BYTES_MIN = 1 << 16
"""A slice for the limit in bytes is at least this large, or it would not be worth its commit."""

HYSTERESIS = 16
"""Above the limit in bytes, messages are pruned until one part in this many is free. So not each
new message prunes an old one."""

PAGES_GIVEN_BACK = 256
"""One call gives back at most this many free pages."""

PAGES_KEPT = 256
"""This many free pages are kept: the next messages take them."""

SELECT_OLDEST = """
    SELECT stamp, encoded FROM message INDEXED BY message_history
    WHERE stamp < ? ORDER BY stamp
"""
DELETE_OLDEST = "DELETE FROM message INDEXED BY message_history WHERE stamp <= ?"
SELECT_BASE_CLOCK = """
    SELECT base_seq, base_edge_stamp FROM clock WHERE room_no = ? AND log_no = ?
"""
UPDATE_BASE_CLOCK = """
    UPDATE clock SET base_seq = ?, base_edge_stamp = ? WHERE room_no = ? AND log_no = ?
"""
UPDATE_BASE = "UPDATE log SET base_seq = ?, base_hash = ?, base_stamp = ? WHERE no = ?"
UPDATE_COUNT = "UPDATE room SET messages = ? WHERE no = ?"


class Retained(NamedTuple):
    """What a call did: the floor now, how many messages it pruned, whether to call again."""

    floor: int
    pruned: int
    more: bool


class Slice(NamedTuple):
    """Of what to prune: messages with stamps below `below`, up to a count or a size."""

    below: int
    messages_max: int
    bytes_max: int


class Pruner:
    """Decides what the next slice is."""

    def __init__(self) -> None:
        self._is_shrinking = False
        """Whether the limit in bytes was exceeded, and the database is not yet small enough."""

    def step(
        self,
        connection: sqlite3.Connection,
        memory: WriterMemory,
        arrived_before_ms: Millis | None,
        bytes_max: int | None,
        messages_max: int,
    ) -> Retained:
        """Do one thing, in one transaction."""
        below = memory.floor
        if arrived_before_ms is not None:
            below = max(below, memory.arrivals.least_since(arrived_before_ms))
        excess = self._excess_bytes(connection, bytes_max)
        portion = None
        if _is_any_below(connection, below):
            portion = Slice(below, messages_max, SLICE_BYTES)
        elif excess and _is_any_below(connection, STAMP_LIMIT):
            # A row may take twice its bytes. So half of the excess goes now, then half of the rest.
            size_bytes = min(max(excess // 2, SLICE_BYTES_MIN), SLICE_BYTES)
            portion = Slice(STAMP_LIMIT, messages_max, size_bytes)
        else:
            self._is_shrinking = False
        pruned = _prune(connection, memory, portion, arrived_before_ms) if portion else 0
        more = pruned > 0 or _give_back(connection)
        return Retained(memory.floor, pruned, more)

    def _excess_bytes(self, connection: sqlite3.Connection, bytes_max: int | None) -> int:
        if bytes_max is None:
            return 0
        used = used_bytes(connection)
        low = bytes_max - bytes_max // HYSTERESIS
        self._is_shrinking = used > (low if self._is_shrinking else bytes_max)
        return used - low if self._is_shrinking else 0


def _is_any_below(connection: sqlite3.Connection, stamp: int) -> bool:
    (least,) = connection.execute("SELECT min(stamp) FROM message").fetchone()
    return least is not None and least < stamp


def _prune(
    connection: sqlite3.Connection,
    memory: WriterMemory,
    portion: Slice,
    arrived_before_ms: Millis | None,
) -> int:
    with atomic(connection):
        messages = _oldest(connection, portion)
        base = _BaseRows(connection, memory)
        for message in messages:
            base.take_in(message)
        base.save()
        last = messages[-1].stamp
        count = connection.execute(DELETE_OLDEST, (last,)).rowcount
        assert count == len(messages), "what is below a stamp is all of it"
        memory.floor = max(memory.floor, last + 1)
        memory.pruned += count
        memory.save_facts()
        if arrived_before_ms is not None:
            memory.arrivals.forget_before(arrived_before_ms)
    return count


def _oldest(connection: sqlite3.Connection, portion: Slice) -> list[Message]:
    """Those with the least stamps. The floor lies between two stamps, so equal ones go together."""
    messages: list[Message] = []
    size_bytes = 0
    with closing(connection.execute(SELECT_OLDEST, (portion.below,))) as found:
        for _, rows in groupby(found, itemgetter(0)):
            for _, encoded in rows:
                messages.append(_read(encoded))
                size_bytes += len(encoded)
            if len(messages) >= portion.messages_max or size_bytes >= portion.bytes_max:
                break
    return messages


def _read(encoded: bytes) -> Message:
    try:
        return decode(encoded)
    except Malformed as error:
        raise StoreFailed(
            "retain", f"a message cannot be read, and `flc fsck` tells which: {error}"
        ) from error


class _BaseRows:
    """The rows of the base that a slice may change. Each is read once."""

    def __init__(self, connection: sqlite3.Connection, memory: WriterMemory) -> None:
        self._connection = connection
        self._logs = memory.logs
        self._rooms = memory.rooms
        self._heads: dict[LogId, Head] = {}
        self._taken: Counter[str] = Counter()
        self._clocks: dict[str, dict[LogId, int]] = {}
        self._frontiers: dict[str, Frontier] = {}

    def take_in(self, message: Message) -> None:
        """Move the base past a message. All that comes before it is in the base already."""
        self._heads[message.log] = Head(message.seq, message.hash, message.stamp)
        self._taken[message.room] += 1
        clock = self._clocks.setdefault(message.room, {})
        frontier = self._frontiers.setdefault(message.room, {})
        for log in (message.log, *(log for log, _ in message.causes)):
            if log not in clock:
                self._look_up(message.room, log)
        # A base that was adopted reaches further than what was pruned, and knows what follows.
        if message.seq > clock[message.log]:
            clock[message.log] = message.seq
            advance(frontier, message)

    def _look_up(self, room: str, log: LogId) -> None:
        key = (self._rooms[room].no, self._logs[log].no)
        seq, edge = self._connection.execute(SELECT_BASE_CLOCK, key).fetchone()
        self._clocks[room][log] = seq
        if edge is not None:
            self._frontiers[room][log] = Edge(seq, edge)

    def save(self) -> None:
        """Write what was changed, and how many messages fewer each room holds."""
        write = self._connection.executemany
        write(UPDATE_BASE, [(*head, self._logs[log].no) for log, head in self._heads.items()])
        for name, count in self._taken.items():
            self._rooms[name].messages -= count
        taken = [self._rooms[name] for name in self._taken]
        write(UPDATE_COUNT, [(room.messages, room.no) for room in taken])
        for name, clock in self._clocks.items():
            room_no, frontier = self._rooms[name].no, self._frontiers[name]
            rows = [
                (seq, edge and edge.stamp, room_no, self._logs[log].no)
                for log, seq in clock.items()
                for edge in (frontier.get(log),)
            ]
            write(UPDATE_BASE_CLOCK, rows)


def _give_back(connection: sqlite3.Connection) -> bool:
    """Give some free pages back to the file system; return whether there are more to give."""
    free = _free_pages(connection)
    if free <= PAGES_KEPT:
        return False
    pages = min(free - PAGES_KEPT, PAGES_GIVEN_BACK)
    # With `execute` only one page would be given back: it takes one step if there are no rows.
    connection.executescript(f"PRAGMA incremental_vacuum({pages})")
    # None were given back if somebody has rewritten the file as one that cannot shrink.
    return PAGES_KEPT < _free_pages(connection) < free


def _free_pages(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA freelist_count").fetchone()[0])
