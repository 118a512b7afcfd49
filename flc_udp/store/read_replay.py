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

SPAN_ROWS_FIRST = 4
"""This many rows of a span are read at first. Of thousands of spans, most give only a few blocks
before the credit is used up."""

WITH_ROW_BYTES = 4_096
"""A block of at most this size is read with its row. Larger ones are read once they are chosen.
"""

SELECT_SPAN = f"""
    SELECT stamp, ?1, seq, position, length(encoded),
        CASE WHEN length(encoded) <= {WITH_ROW_BYTES} THEN encoded END
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

Row = tuple[int, LogId, int, int, int, bytes | None]
"""(stamp, log, last seq, position, length, encoded). A large block has None here."""


def read_replay(
    queries: Queries,
    spans: Sequence[Span],
    bytes_max: int,
    after: int = 0,
    below: int = STAMP_LIMIT,
) -> tuple[list[bytes], int]:
    """Encoded blocks with messages of the spans (log, low, high), in (stamp, log, seq) order.

    Only those with stamps from `after` on and below `below`: as many as `bytes_max` allows, but one
    at least. The second value is the stamp of the next block of the spans, or STAMP_LIMIT if
    there is none. What is not held is skipped.
    """
    chosen: list[bytes | int] = []
    size_bytes = 0
    following = STAMP_LIMIT
    for stamp, _, _, position, length, encoded in _merged(queries, spans, after):
        size_bytes += length
        if stamp >= below or (chosen and size_bytes > bytes_max):
            following = stamp
            break
        chosen.append(position if encoded is None else encoded)
    return _read_rest(queries, chosen), following


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


def _read_rest(queries: Queries, chosen: Sequence[bytes | int]) -> list[bytes]:
    # Large blocks are known by their positions. What was pruned meanwhile is left out.
    sql = "SELECT encoded FROM block WHERE position = ?"
    found = (at if isinstance(at, bytes) else queries.value(sql, (at,)) for at in chosen)
    return [encoded for encoded in found if encoded is not None]
