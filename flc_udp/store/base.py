"""The base: what stays of pruned messages. It is told to others, and theirs can be taken.

Promise. A base is causally closed: whatever came before a message in it is in it. So it can be
joined with what a node has. The frontiers of both together follow from the two clocks, entry by
entry: the greater seq wins and brings its edge. If the seqs are equal, an edge stays one only if
both have it.

Rules. A base that was taken may reach further than what was pruned here. Of a log in which we were
ahead we keep what we hold, until retention comes to it. `clock.base_seq` is where the base ends,
and `log.base_seq` where pruning ended. Where they differ, the message at the base's end is held.
"""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from itertools import groupby
from operator import itemgetter
from typing import Any

from flc_udp.model.block import Origin, stamp_of
from flc_udp.model.dots import LogId
from flc_udp.model.history import BaseLog, BaseRoom, Head
from flc_udp.store.queries import check_sound
from flc_udp.store.rot import Rot, is_sound
from flc_udp.store.sums import IS_SOUND, sum_of
from flc_udp.store.writer_memory import LogMemory, WriterMemory

# The logs are read in the order of their ids. So a page reads only what it gives, and the logs
# without a base that lie between.
SELECT_BASE = f"""
    SELECT log.id, log.node, log.name, log.base_seq, log.base_hash, log.base_stamp,
        room.name, clock.base_seq, clock.base_edge_stamp,
        held.position, held.stamp, held.encoded, held.hash,
        {IS_SOUND["log"]} AND {IS_SOUND["room"]} AND {IS_SOUND["clock"]}
    FROM log CROSS JOIN clock INDEXED BY clock_base ON clock.log_no = log.no AND clock.base_seq > 0
        CROSS JOIN room ON room.no = clock.room_no
        LEFT JOIN block AS held
            ON clock.base_seq > log.base_seq
            AND held.log_no = log.no AND held.seq = clock.base_seq
    WHERE log.id > ? ORDER BY log.id
"""  # noqa: S608  # texts of ours
LEARN_ORIGIN = "UPDATE log SET node = ?, name = ? WHERE no = ? AND node IS NULL"
JUMP = """
    UPDATE log SET seq = ?1, hash = ?2, stamp = ?3, base_seq = ?1, base_hash = ?2, base_stamp = ?3
    WHERE no = ?4
"""
COUNT_BY_ROOM = "SELECT room_no, sum(count) FROM block WHERE log_no = ? GROUP BY room_no"
END_ROOM = """
    UPDATE room SET base_position = position
    WHERE no = ? AND NOT EXISTS (SELECT 1 FROM block WHERE block.position = room.position)
"""
JOIN_CLOCK = f"""
    INSERT INTO clock (room_no, log_no, seq, edge_stamp, base_seq, base_edge_stamp, checksum)
    VALUES (?1, ?2, ?3, ?4, ?3, ?4, {sum_of("clock", ["?1", "?2", "?3", "?4"])})
    ON CONFLICT DO UPDATE SET
        seq = max(seq, ?3), base_seq = max(base_seq, ?3),
        edge_stamp = CASE
            WHEN seq < ?3 THEN ?4 WHEN seq = ?3 AND ?4 IS NULL THEN NULL ELSE edge_stamp END,
        base_edge_stamp = CASE
            WHEN base_seq < ?3 THEN ?4
            WHEN base_seq = ?3 AND ?4 IS NULL THEN NULL ELSE base_edge_stamp END
"""  # noqa: S608  # texts of ours


def read_base(
    connection: sqlite3.Connection, rot: Rot, after: LogId, rooms_max: int
) -> list[BaseLog]:
    """The base's logs above `after`, by id, until they have `rooms_max` rooms or more.

    Where it ends at a block that is not sound, the hash chain tells what that was.
    """
    logs: list[BaseLog] = []
    rooms = 0
    with closing(connection.execute(SELECT_BASE, (after,))) as rows:
        for _, rows_of_log in groupby(rows, itemgetter(0)):
            if rooms >= rooms_max and logs:
                break
            logs.append(_base_log(rot, list(rows_of_log)))
            rooms += len(logs[-1].rooms)
    return logs


def _base_log(rot: Rot, rows: list[tuple[Any, ...]]) -> BaseLog:
    log, node, name, *pruned = rows[0][:6]
    head = Head(*pruned)
    for *_, seq, _, position, stamp, encoded, digest, is_row_sound in rows:
        check_sound(is_sound=is_row_sound, of="the base")
        if position is None or seq <= head.seq:
            continue
        if is_sound(encoded, digest):
            head = Head(seq, digest, stamp_of(encoded))
        else:
            rot.met(position)
            head = Head(seq, rot.proof(log, seq) or digest, stamp)
    rooms = sorted(BaseRoom(*row[6:9]) for row in rows)
    return BaseLog(log, head, None if node is None else Origin(node, name), tuple(rooms))


def adopt(memory: WriterMemory, floor: int, base: Sequence[BaseLog]) -> None:
    """Join another node's base with what is held, in the caller's transaction.

    Afterwards `memory` does not fit the tables any more and has to be read again.
    """
    connection = memory.connection
    for log in base:
        row = memory.log(log.log, log.origin)
        if log.origin is not None:
            connection.execute(LEARN_ORIGIN, (*log.origin, row.no))
        if log.head.seq > row.seq:
            memory.pruned += _jump(connection, row, log.head)
        rows = [(memory.room(name).no, row.no, seq, edge) for name, seq, edge in log.rooms]
        connection.executemany(JOIN_CLOCK, rows)
    # Nothing comes after a room's greatest stamp, so it is an edge's.
    edges = ((edge, room) for log in base for room, _, edge in log.rooms if edge is not None)
    connection.executemany("UPDATE room SET stamp = max(stamp, ?) WHERE name = ?", edges)
    memory.floor = max(memory.floor, floor)
    memory.save_facts()


def _jump(connection: sqlite3.Connection, row: LogMemory, head: Head) -> int:
    """Delete all messages of a log, whose head is now one beyond them; return their number."""
    counts = connection.execute(COUNT_BY_ROOM, (row.no,)).fetchall()
    connection.executemany("UPDATE room SET messages = messages - ?2 WHERE no = ?1", counts)
    connection.execute("DELETE FROM block WHERE log_no = ?", (row.no,))
    connection.executemany(END_ROOM, [(room,) for room, _ in counts])
    connection.execute(JUMP, (*head, row.no))
    row.seq = head.seq
    return sum(count for _, count in counts)
