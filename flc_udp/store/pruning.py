"""Retention: what is old, or more than there is space for, is pruned a slice at a time.

Promise. What a slice leaves behind is whole: messages go in the order of their stamps, which is one
of causality, and in the same transaction the floor rises above them and the base moves past them.
No slice takes longer than another, however much there is to prune.

Rules. One call does one thing: it prunes a slice; or, with nothing to prune, gives free pages back;
or nothing. Its owner calls it again while there is more, with commits in between. What came below
the floor, from a node that was apart for long, goes first, and whatever the limits are.
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
from flc_udp.store.schema import atomic, used_bytes
from flc_udp.store.tables import Kept

SLICE_BYTES = 1 << 20
"""A slice ends with the message that reaches this, too."""

SLICE_BYTES_MIN = 1 << 16
"""One for the limit in bytes is no smaller: it would not be worth its commit."""

HYSTERESIS = 16
"""Above the limit in bytes, as much is pruned as leaves a part in so many free: not a message each
time one comes."""

PAGES_GIVEN_BACK = 256
"""Free pages given back by one call."""

PAGES_KEPT = 256
"""Free pages not worth giving back: the next messages take them."""

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


class Retained(NamedTuple):
    """What a call did: the floor now, how many messages it pruned, whether to call again."""

    floor: int
    pruned: int
    more: bool


class Retention:
    """Decides what the next slice is."""

    def __init__(self) -> None:
        self._is_shrinking = False
        """Whether the limit in bytes was exceeded, and is not yet undercut."""

    def step(
        self,
        connection: sqlite3.Connection,
        kept: Kept,
        arrived_before_ms: int | None,
        bytes_max: int | None,
        messages_max: int,
    ) -> Retained:
        """Do one thing, in one transaction."""
        below = kept.floor
        if arrived_before_ms is not None:
            below = max(below, kept.arrivals.least_since(arrived_before_ms))
        excess = self._excess(connection, bytes_max)
        pruned = 0
        if _is_any_below(connection, below):
            pruned = _prune(connection, kept, below, messages_max, SLICE_BYTES, arrived_before_ms)
        elif excess and _is_any_below(connection, STAMP_LIMIT):
            # A row may take twice its bytes: half of what is too much goes, then half of the rest.
            size = min(max(excess // 2, SLICE_BYTES_MIN), SLICE_BYTES)
            pruned = _prune(connection, kept, STAMP_LIMIT, messages_max, size, arrived_before_ms)
        else:
            self._is_shrinking = False
        more = pruned > 0 or _give_back(connection)
        return Retained(kept.floor, pruned, more)

    def _excess(self, connection: sqlite3.Connection, bytes_max: int | None) -> int:
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
    kept: Kept,
    below: int,
    messages_max: int,
    bytes_max: int,
    arrived_before_ms: int | None,
) -> int:
    with atomic(connection):
        messages = _oldest(connection, below, messages_max, bytes_max)
        base = _Base(connection, kept)
        for message in messages:
            base.take_in(message)
        base.save()
        last = messages[-1].stamp
        count = connection.execute(DELETE_OLDEST, (last,)).rowcount
        assert count == len(messages), "what is below a stamp is all of it"
        kept.floor = max(kept.floor, last + 1)
        kept.pruned += count
        kept.save_facts()
        if arrived_before_ms is not None:
            kept.arrivals.forget_before(arrived_before_ms)
    return count


def _oldest(
    connection: sqlite3.Connection, below: int, messages_max: int, bytes_max: int
) -> list[Message]:
    """Those with the least stamps; of equal stamps all or none, for the floor is between two."""
    messages: list[Message] = []
    size = 0
    with closing(connection.execute(SELECT_OLDEST, (below,))) as found:
        for _, rows in groupby(found, itemgetter(0)):
            for _, encoded in rows:
                messages.append(_read(encoded))
                size += len(encoded)
            if len(messages) >= messages_max or size >= bytes_max:
                break
    return messages


def _read(encoded: bytes) -> Message:
    try:
        return decode(encoded)
    except Malformed as error:
        raise StoreFailed(
            "retain", f"a message cannot be read, which `flc fsck` tells: {error}"
        ) from error


class _Base:
    """The rows of the base that a slice may move, each read once."""

    def __init__(self, connection: sqlite3.Connection, kept: Kept) -> None:
        self._connection = connection
        self._kept = kept
        self._heads: dict[LogId, Head] = {}
        self._taken: Counter[str] = Counter()
        self._clocks: dict[str, dict[LogId, int]] = {}
        self._frontiers: dict[str, Frontier] = {}

    def take_in(self, message: Message) -> None:
        """Move past a message, with all before it in the base already."""
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
        key = (self._kept.rooms[room].no, self._kept.logs[log].no)
        seq, edge = self._connection.execute(SELECT_BASE_CLOCK, key).fetchone()
        self._clocks[room][log] = seq
        if edge is not None:
            self._frontiers[room][log] = Edge(seq, edge)

    def save(self) -> None:
        """Write what was moved, and that as many messages fewer are held."""
        logs, rooms = self._kept.logs, self._kept.rooms
        write = self._connection.executemany
        write(UPDATE_BASE, [(*head, logs[log].no) for log, head in self._heads.items()])
        for name, count in self._taken.items():
            rooms[name].messages -= count
        write(
            "UPDATE room SET messages = ? WHERE no = ?",
            [(rooms[name].messages, rooms[name].no) for name in self._taken],
        )
        for name, clock in self._clocks.items():
            frontier = self._frontiers[name]
            write(
                UPDATE_BASE_CLOCK,
                [
                    (seq, edge and edge.stamp, rooms[name].no, logs[log].no)
                    for log, seq in clock.items()
                    for edge in (frontier.get(log),)
                ],
            )


def _give_back(connection: sqlite3.Connection) -> bool:
    """Give some free pages back to the file system; whether there are more worth it."""
    free = _free_pages(connection)
    if free <= PAGES_KEPT:
        return False
    pages = min(free - PAGES_KEPT, PAGES_GIVEN_BACK)
    # A script, because `execute` gives back one page only: it takes one step of what has no rows.
    connection.executescript(f"PRAGMA incremental_vacuum({pages})")
    # None were given back, if there was no space to make this an incremental file.
    return PAGES_KEPT < _free_pages(connection) < free


def _free_pages(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA freelist_count").fetchone()[0])
