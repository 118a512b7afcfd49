"""Retention: what is too old, or more than there is space for, is deleted slice by slice.

Promise. What a slice leaves behind is whole. Messages go in the order of their stamps, which is one
of causality. In the same transaction the floor rises above them and the base moves past them. No
slice takes longer than another, however much there is to prune.

Rules. One call does one thing: it prunes a slice; or it gives free pages back, if there is nothing
to prune; or it does nothing. Its owner calls it again while there is more, and commits in between.
What came below stamps that were pruned here, from a node that was apart for long, goes first,
whatever the limits are. A floor that was taken from another member deletes nothing: by fault or by
will it may be any. A block whose stamp is far ahead of the cluster's clock is not pruned before
that time comes: else all that is said now would have to have stamps above it.

A block that has changed on the disk goes as the columns of its row say, and the hash chain tells
what it was. Its causes are lost. So some of the base's edges may stay that are none any more: they
cost the next message of a newcomer a few causes too many. If its stamp has changed, its turn is
unknown, and retention waits until it is healed, as it does if nothing proves what the block was.
"""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

from flc_udp.config import STAMP_LIMIT
from flc_udp.model.block import Block, decode
from flc_udp.model.dots import LogId
from flc_udp.model.errors import StoreFailed
from flc_udp.model.history import Edge, Frontier, advance
from flc_udp.model.units import Millis
from flc_udp.store.base import END_ROOM
from flc_udp.store.queries import Queries, atomic, pragma, used_bytes
from flc_udp.store.rot import Rot, is_sound
from flc_udp.store.writer_memory import RoomMemory, WriterMemory

SLICE_BYTES = 1 << 20
"""A slice ends with the block that brings it to this size, if not before."""

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
    SELECT stamp, position, encoded, hash FROM block INDEXED BY block_history
    WHERE stamp < ? ORDER BY stamp
"""
SELECT_ROTTEN = """
    SELECT log.id, block.seq - count + 1, block.seq, room.name, block.hash FROM block
    JOIN log ON log.no = log_no JOIN room ON room.no = room_no WHERE block.position = ?
"""
DELETE_OLDEST = "DELETE FROM block INDEXED BY block_history WHERE stamp <= ?"
SELECT_BASE_CLOCK = "SELECT base_seq, base_edge_stamp FROM clock WHERE room_no = ? AND log_no = ?"
UPDATE_BASE_CLOCK = """
    UPDATE clock SET base_seq = ?, base_edge_stamp = ? WHERE room_no = ? AND log_no = ?
"""
UPDATE_BASE = "UPDATE log SET base_seq = ?, base_hash = ?, base_stamp = ? WHERE no = ?"
UPDATE_COUNT = "UPDATE room SET messages = ? WHERE no = ?"


class Retained(NamedTuple):
    """What a call did.

    All below the stamp `floor` was pruned here, `pruned` counts messages, and `more` says whether
    to call again. `rotten` has the positions of blocks whose stamps have changed on the disk: it
    waits for them.
    """

    floor: int
    pruned: int
    more: bool
    rotten: Sequence[int] = ()


def retain(
    memory: WriterMemory,
    arrived_before_ms: Millis | None,
    bytes_max: int | None,
    messages_max: int,
    stamp_limit: int,
) -> Retained:
    """Do one thing, in one transaction. No stamp from `stamp_limit` on is pruned."""
    below, size_bytes = memory.pruned_below, SLICE_BYTES
    if arrived_before_ms is not None:
        below = max(below, memory.arrivals.least_since(arrived_before_ms))
    excess = _excess_bytes(memory, bytes_max)
    (oldest,) = memory.connection.execute("SELECT min(stamp) FROM block").fetchone()
    if excess and oldest is not None and oldest >= below:
        # A row may take twice its bytes. So half of the excess goes now, then half of the rest.
        size_bytes = min(max(excess // 2, SLICE_BYTES_MIN), SLICE_BYTES)
        below = STAMP_LIMIT
    below = min(below, stamp_limit)
    if oldest is None or oldest >= below:
        memory.is_shrinking = False
        return Retained(memory.pruned_below, 0, _give_back(memory.connection))
    blocks, rotten = _oldest(memory.connection, below, messages_max, size_bytes)
    if not blocks:
        return Retained(memory.pruned_below, 0, more=False, rotten=rotten)
    with atomic(memory.connection):
        pruned = _prune(memory, blocks)
        if arrived_before_ms is not None:
            memory.arrivals.forget_before(arrived_before_ms)
    return Retained(memory.pruned_below, pruned, more=True)


def _excess_bytes(memory: WriterMemory, bytes_max: int | None) -> int:
    if bytes_max is None:
        return 0
    used = used_bytes(memory.connection)
    low = bytes_max - bytes_max // HYSTERESIS
    memory.is_shrinking = used > (low if memory.is_shrinking else bytes_max)
    return used - low if memory.is_shrinking else 0


def _oldest(
    connection: sqlite3.Connection, below: int, messages_max: int, bytes_max: int
) -> tuple[list[Block], list[int]]:
    """Those with the least stamps, and the positions of the rotten ones that come next, if any do.

    The floor lies between two stamps, so equal ones go together.
    """
    blocks: list[Block] = []
    messages = size_bytes = 0
    with closing(connection.execute(SELECT_OLDEST, (below,))) as found:
        for stamp, rows in groupby(found, itemgetter(0)):
            group, rotten = [], []
            for _, position, encoded, digest in rows:
                is_read = is_sound(encoded, digest)
                block = decode(encoded) if is_read else _rotten(connection, position, stamp)
                if block.stamp != stamp or not block.hash:
                    rotten.append(position)
                    continue
                group.append(block)
                messages += _count(block)
                # What it takes on the disk is known, whatever it has become.
                size_bytes += len(encoded) if isinstance(encoded, bytes) else 0
            if rotten:
                return blocks, rotten
            blocks += group
            if messages >= messages_max or size_bytes >= bytes_max:
                break
    return blocks, []


def _rotten(connection: sqlite3.Connection, position: int, stamp: int) -> Block:
    """What is still known of a block that has changed: all that moves the base but its causes."""
    log, first, last, room, digest = connection.execute(SELECT_ROTTEN, (position,)).fetchone()
    digest = Rot(Queries(connection)).proof(log, last) or digest
    return Block(log, first, last, room, "", Millis(0), stamp, (), b"", (), None, b"", digest)


def _count(block: Block) -> int:
    return block.last - block.first + 1


def _prune(memory: WriterMemory, blocks: list[Block]) -> int:
    """Delete the blocks with the least stamps, and move the floor and the base past them.

    Return how many messages these were.
    """
    rooms: dict[str, list[Block]] = {}
    for block in blocks:
        rooms.setdefault(block.room, []).append(block)
    for name, of_room in rooms.items():
        _move_base(memory, memory.rooms[name], of_room)
    heads = {b.log: (b.last, b.hash, b.stamp, memory.logs[b.log].no) for b in blocks}
    memory.connection.executemany(UPDATE_BASE, heads.values())
    last = blocks[-1].stamp
    deleted = memory.connection.execute(DELETE_OLDEST, (last,)).rowcount
    if deleted != len(blocks):  # The index has others than the table.
        raise StoreFailed("retain", f"{deleted} blocks lie below a stamp, and {len(blocks)} do")
    memory.connection.executemany(END_ROOM, [(memory.rooms[name].no,) for name in rooms])
    memory.pruned_below = max(memory.pruned_below, last + 1)
    memory.floor = max(memory.floor, memory.pruned_below)
    messages = sum(map(_count, blocks))
    memory.pruned += messages
    memory.save_facts()
    return messages


def _move_base(memory: WriterMemory, room: RoomMemory, blocks: list[Block]) -> None:
    """Move a room's base past blocks. All that comes before them is in the base already."""
    clock: dict[LogId, int] = {}
    frontier: Frontier = {}
    for block in blocks:
        for log in (block.log, *(log for log, _ in block.causes)):
            if log not in clock and (base := _base_in(memory, room, log)) is not None:
                clock[log], edge_stamp = base
                if edge_stamp is not None:
                    frontier[log] = Edge(clock[log], edge_stamp)
        # A base that was adopted reaches further than what was pruned, and knows what follows.
        if block.last > clock[block.log]:
            clock[block.log] = block.last
            advance(frontier, block)
    edges = {log: edge.stamp for log, edge in frontier.items()}
    rows = [(seq, edges.get(log), room.no, memory.logs[log].no) for log, seq in clock.items()]
    memory.connection.executemany(UPDATE_BASE_CLOCK, rows)
    room.messages -= sum(map(_count, blocks))
    memory.connection.execute(UPDATE_COUNT, (room.messages, room.no))


def _base_in(memory: WriterMemory, room: RoomMemory, log: LogId) -> tuple[int, int | None] | None:
    """Where the base of a room ends in a log; None where the log has said nothing in the room.

    A member may name causes of another room. They are no part of this room's clock.
    """
    if log not in memory.logs:
        return None
    row = memory.connection.execute(SELECT_BASE_CLOCK, (room.no, memory.logs[log].no))
    found: tuple[int, int | None] | None = row.fetchone()
    return found


def _give_back(connection: sqlite3.Connection) -> bool:
    """Give some free pages back to the file system; return whether there are more to give."""
    free = pragma(connection, "freelist_count")
    if free <= PAGES_KEPT:
        return False
    pages = min(free - PAGES_KEPT, PAGES_GIVEN_BACK)
    # With `execute` only one page would be given back: it takes one step if there are no rows.
    connection.executescript(f"PRAGMA incremental_vacuum({pages})")
    # None were given back if somebody has rewritten the file as one that cannot shrink.
    return PAGES_KEPT < pragma(connection, "freelist_count") < free
