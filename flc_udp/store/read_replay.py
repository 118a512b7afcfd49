"""Reading what a replay sends: the blocks of given spans, in the order of their stamps.

Each span is read by the index of its log, and what comes out of all spans is merged.
"""

from collections.abc import Iterator, Sequence
from heapq import merge
from itertools import groupby
from operator import itemgetter

from flc_udp.config import STAMP_LIMIT
from flc_udp.model.dots import LogId
from flc_udp.store.queries import PAGE_ROWS, Queries
from flc_udp.store.rot import Rot, is_sound

SPAN_ROWS_FIRST = 4
"""This many rows of a span are read at first. Of thousands of spans, most give only a few blocks
before the credit is used up."""

WITH_ROW_BYTES = 4_096
"""A block of at most this size is read with its row. Larger ones are read once they are chosen.
"""

SELECT_SPAN = f"""
    SELECT stamp, ?1, seq, position, length(encoded), hash,
        CASE WHEN length(encoded) > {WITH_ROW_BYTES} THEN NULL ELSE encoded END
    FROM block
    WHERE log_no = (SELECT no FROM log WHERE id = ?1)
        AND seq >= ?2 AND seq <= coalesce((
            SELECT min(seq) FROM block
            WHERE log_no = (SELECT no FROM log WHERE id = ?1) AND seq >= ?3), ?3)
        AND seq - count < ?3 AND stamp >= ?4
    ORDER BY seq LIMIT ?5
"""  # noqa: S608  # a number of ours

Span = tuple[LogId, int, int]
"""(log, low, high), both seqs included."""

Row = tuple[int, LogId, int, int, int, bytes, bytes | None]
"""(stamp, log, last seq, position, length, hash, encoded). A large block has None here."""


def read_replay(
    queries: Queries, rot: Rot, spans: Sequence[Span], bytes_max: int, after: int, below: int
) -> tuple[list[bytes], int]:
    """Encoded blocks with messages of the spans (log, low, high), in (stamp, log, seq) order.

    Only those with stamps from `after` on and below `below`: as many as `bytes_max` allows, but one
    at least. The second value is the stamp of the next block of the spans, or STAMP_LIMIT if
    there is none. What is not held, or is not sound, is skipped.
    """
    chosen: list[tuple[int, bytes | None]] = []
    size_bytes = 0
    following = STAMP_LIMIT
    for stamp, _, _, position, length, digest, encoded in _merged(queries, spans, after):
        if length is None or (encoded is not None and not is_sound(encoded, digest)):
            rot.met(position)
            continue
        size_bytes += length
        if stamp >= below or (chosen and size_bytes > bytes_max):
            following = stamp
            break
        chosen.append((position, encoded))
    return list(_whole(queries, rot, chosen)), following


def _merged(queries: Queries, spans: Sequence[Span], after: int) -> Iterator[Row]:
    merged = merge(*(_of_span(queries, *span, after) for span in spans))
    # Two spans of a log may both have messages of one block, which then comes twice.
    return (next(rows) for _, rows in groupby(merged, itemgetter(3)))


def _of_span(queries: Queries, log: LogId, low: int, high: int, after: int) -> Iterator[Row]:
    # A few rows at a time, then more. A cursor that is left open for each of thousands of spans
    # would pin more pages than the cache holds, and its statement would be prepared anew for each.
    limit = SPAN_ROWS_FIRST
    while True:
        rows = queries.rows(SELECT_SPAN, (log, low, high, after, limit))
        yield from rows
        if len(rows) < limit:
            return
        low, limit = rows[-1][2] + 1, min(2 * limit, PAGE_ROWS)


def _whole(
    queries: Queries, rot: Rot, chosen: Sequence[tuple[int, bytes | None]]
) -> Iterator[bytes]:
    # Large blocks are known by their positions. What was pruned meanwhile is left out.
    sql = "SELECT position, encoded, hash FROM block WHERE position = ?"
    for position, encoded in chosen:
        if encoded is not None:
            yield encoded
        else:
            yield from (large for _, large in rot.sound(queries.rows(sql, (position,))))
