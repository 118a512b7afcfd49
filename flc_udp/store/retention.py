"""Retention: what is too old, or more than there is space for, is deleted slice by slice.

Promise. What a slice leaves behind is whole. Messages go in the order of their stamps, which is one
of causality. In the same transaction the floor rises above them and the base moves past them. No
slice takes longer than another, however much there is to prune.

Rules. One call does one thing: it prunes a slice; or it gives free pages back, if there is nothing
to prune; or it does nothing. Its owner calls it again while there is more, and commits in between.
What came below the floor, from a node that was apart for long, goes first, whatever the limits are.
"""

import sqlite3
from contextlib import closing
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

from flc_udp.config import STAMP_LIMIT
from flc_udp.model.dots import LogId
from flc_udp.model.history import Edge, Frontier, advance
from flc_udp.model.message import Message, decode
from flc_udp.model.units import Millis
from flc_udp.store.queries import atomic, used_bytes
from flc_udp.store.writer_memory import RoomMemory, WriterMemory

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
SELECT_BASE_CLOCK = "SELECT base_seq, base_edge_stamp FROM clock WHERE room_no = ? AND log_no = ?"
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


def retain(
    memory: WriterMemory,
    arrived_before_ms: Millis | None,
    bytes_max: int | None,
    messages_max: int,
) -> Retained:
    """Do one thing, in one transaction."""
    below, size_bytes = memory.floor, SLICE_BYTES
    if arrived_before_ms is not None:
        below = max(below, memory.arrivals.least_since(arrived_before_ms))
    excess = _excess_bytes(memory, bytes_max)
    (oldest,) = memory.connection.execute("SELECT min(stamp) FROM message").fetchone()
    if excess and oldest is not None and oldest >= below:
        # A row may take twice its bytes. So half of the excess goes now, then half of the rest.
        size_bytes = min(max(excess // 2, SLICE_BYTES_MIN), SLICE_BYTES)
        below = STAMP_LIMIT
    if oldest is None or oldest >= below:
        memory.is_shrinking = False
        return Retained(memory.floor, 0, _give_back(memory.connection))
    with atomic(memory.connection):
        messages = _oldest(memory.connection, below, messages_max, size_bytes)
        _prune(memory, messages)
        if arrived_before_ms is not None:
            memory.arrivals.forget_before(arrived_before_ms)
    return Retained(memory.floor, len(messages), more=True)


def _excess_bytes(memory: WriterMemory, bytes_max: int | None) -> int:
    if bytes_max is None:
        return 0
    used = used_bytes(memory.connection)
    low = bytes_max - bytes_max // HYSTERESIS
    memory.is_shrinking = used > (low if memory.is_shrinking else bytes_max)
    return used - low if memory.is_shrinking else 0


def _oldest(
    connection: sqlite3.Connection, below: int, messages_max: int, bytes_max: int
) -> list[Message]:
    """Those with the least stamps. The floor lies between two stamps, so equal ones go together."""
    messages: list[Message] = []
    size_bytes = 0
    with closing(connection.execute(SELECT_OLDEST, (below,))) as found:
        for _, rows in groupby(found, itemgetter(0)):
            for _, encoded in rows:
                messages.append(decode(encoded))
                size_bytes += len(encoded)
            if len(messages) >= messages_max or size_bytes >= bytes_max:
                break
    return messages


def _prune(memory: WriterMemory, messages: list[Message]) -> None:
    """Delete the messages with the least stamps, and move the floor and the base past them."""
    rooms: dict[str, list[Message]] = {}
    for message in messages:
        rooms.setdefault(message.room, []).append(message)
    for name, of_room in rooms.items():
        _move_base(memory, memory.rooms[name], of_room)
    heads = {m.log: (m.seq, m.hash, m.stamp, memory.logs[m.log].no) for m in messages}
    memory.connection.executemany(UPDATE_BASE, heads.values())
    last = messages[-1].stamp
    count = memory.connection.execute(DELETE_OLDEST, (last,)).rowcount
    assert count == len(messages), "what is below a stamp is all of it"
    memory.floor = max(memory.floor, last + 1)
    memory.pruned += count
    memory.save_facts()


def _move_base(memory: WriterMemory, room: RoomMemory, messages: list[Message]) -> None:
    """Move a room's base past messages. All that comes before them is in the base already."""
    clock: dict[LogId, int] = {}
    frontier: Frontier = {}
    for message in messages:
        for log in (message.log, *(log for log, _ in message.causes)):
            if log not in clock:
                row = memory.connection.execute(SELECT_BASE_CLOCK, (room.no, memory.logs[log].no))
                clock[log], edge_stamp = row.fetchone()
                if edge_stamp is not None:
                    frontier[log] = Edge(clock[log], edge_stamp)
        # A base that was adopted reaches further than what was pruned, and knows what follows.
        if message.seq > clock[message.log]:
            clock[message.log] = message.seq
            advance(frontier, message)
    edges = {log: edge.stamp for log, edge in frontier.items()}
    rows = [(seq, edges.get(log), room.no, memory.logs[log].no) for log, seq in clock.items()]
    memory.connection.executemany(UPDATE_BASE_CLOCK, rows)
    room.messages -= len(messages)
    memory.connection.execute(UPDATE_COUNT, (room.messages, room.no))


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
