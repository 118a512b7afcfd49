"""Reading the history: messages by stamp, of one room or of all.

Rules. It is read in pages, each a short transaction, so a slow reader never keeps the WAL from
being folded in. It still shows one moment: messages never change and positions only grow, so
whatever has a position up to the last one of that moment belongs to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from flc_udp.config import STAMP_LIMIT
from flc_udp.model.clocks import STAMP_WALL_SHIFT
from flc_udp.model.dots import BEGINNING, LogId
from flc_udp.store.queries import OF_ROOM, PAGE_ROWS, Queries

# Rows have to come out of the history index in order, so that only equal stamps are sorted and a
# LIMIT ends the walk. That is why the index is named, and why CROSS keeps the log second. The walk
# also ends at the room's greatest stamp.
WITHIN = f"""
    FROM message INDEXED BY message_history CROSS JOIN log ON log.no = log_no
    WHERE position <= :position AND {OF_ROOM} AND message.stamp <=
        iif(:room IS NULL, {STAMP_LIMIT}, (SELECT stamp FROM room WHERE name = :room))
"""  # noqa: S608  # texts of ours
SELECT_HISTORY = f"""
    SELECT position, encoded, message.stamp, log.id, message.seq {WITHIN}
        AND message.stamp >= :stamp
        AND (message.stamp, log.id, message.seq) > (:stamp, :log, :seq)
    ORDER BY message.stamp, log.id, message.seq LIMIT :limit
"""
SELECT_NTH_LAST = f"""
    SELECT message.stamp, log.id, message.seq - 1 {WITHIN}
    ORDER BY message.stamp DESC, log.id DESC, message.seq DESC LIMIT 1 OFFSET :n - 1
"""


class Place(NamedTuple):
    """A place in the history. What comes after it is greater."""

    stamp: int
    log: LogId = BEGINNING
    seq: int = 0


def read_history(
    queries: Queries, room: str | None, position: int, last: int | None, since_wall_ms: int | None
) -> Iterator[tuple[int, bytes]]:
    """What `Reader.history` promises, of what stands up to a position."""
    bounds = {"room": room, "position": position}
    place = Place(min(max(since_wall_ms or 0, 0) << STAMP_WALL_SHIFT, STAMP_LIMIT))
    if last is not None:
        place = max(place, _before_last(queries, bounds, last))
    return _pages(queries, bounds, place)


def _before_last(queries: Queries, bounds: dict[str, Any], n: int) -> Place:
    if n <= 0:
        return Place(STAMP_LIMIT)
    rows = queries.rows(SELECT_NTH_LAST, {**bounds, "n": n})
    return Place(*rows[0]) if rows else Place(0)


def _pages(queries: Queries, bounds: dict[str, Any], place: Place) -> Iterator[tuple[int, bytes]]:
    bounds = {**bounds, "limit": PAGE_ROWS}
    while page := queries.page(SELECT_HISTORY, {**bounds, **place._asdict()}):
        yield from ((position, encoded) for position, encoded, *_ in page)
        place = Place(*page[-1][2:])
