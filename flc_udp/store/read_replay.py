"""Reading what a replay sends: the blocks of given spans, in the order of their stamps.

Rules. There are two ways with one result. Merging reads each span by its own index. Walking reads
all blocks by stamp and leaves out what is not of the spans: it takes less than half the time for
a row, and is chosen when most logs are wanted. If too many of its rows are not wanted, merging goes
on from there.
"""

from collections.abc import Iterator, Sequence
from contextlib import closing
from heapq import merge
from itertools import groupby
from operator import itemgetter

from flc_udp.config import STAMP_LIMIT
from flc_udp.model.dots import LogId
from flc_udp.store.queries import PAGE_ROWS, Queries, failing

SPAN_ROWS_FIRST = 4
"""This many rows of a span are read at first. Of thousands of spans, most give only a few blocks
before the credit is used up."""

WALKED_LOGS_PART = 2
"""Walking is chosen when at least one in this many logs is wanted."""

UNWANTED_MAX = 1_024
"""Walking ends after this many rows that are not of the spans."""

WITH_ROW_BYTES = 4_096
"""A block of at most this size is read with its row. Larger ones are read once they are chosen.
"""

SELECT_SPAN = f"""
    SELECT stamp, ?1, seq, count, position, length(encoded),
        CASE WHEN length(encoded) <= {WITH_ROW_BYTES} THEN encoded END
    FROM block
    WHERE log_no = (SELECT no FROM log WHERE id = ?1)
        AND seq >= ?2 AND seq <= coalesce((
            SELECT min(seq) FROM block
            WHERE log_no = (SELECT no FROM log WHERE id = ?1) AND seq >= ?3), ?3)
        AND seq - count < ?3 AND stamp >= ?4
    ORDER BY seq LIMIT ?5
"""  # noqa: S608  # a number of ours
SELECT_WALK = f"""
    SELECT block.stamp, log.id, block.seq, count, position, length(encoded),
        CASE WHEN length(encoded) <= {WITH_ROW_BYTES} THEN encoded END
    FROM block INDEXED BY block_history CROSS JOIN log ON log.no = log_no
    WHERE block.stamp >= ? ORDER BY block.stamp, log.id
"""  # noqa: S608  # a number of ours

Span = tuple[LogId, int, int]
"""(log, low, high), both seqs included."""

Row = tuple[int, LogId, int, int, int, int, bytes | None]
"""(stamp, log, last seq, messages, position, length, encoded). A large block has None here."""


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
    rows = _walk(queries, spans, after) if after and _are_most(queries, spans) else None
    for stamp, _, _, _, position, length, encoded in rows or _merged(queries, spans, after):
        size_bytes += length
        if stamp >= below or (chosen and size_bytes > bytes_max):
            following = stamp
            break
        chosen.append(position if encoded is None else encoded)
    return _read_rest(queries, chosen), following


def _are_most(queries: Queries, spans: Sequence[Span]) -> bool:
    """Whether the spans are of many of the logs that there are, as when somebody catches up."""
    logs = queries.value("SELECT count(*) FROM log")
    return len({log for log, *_ in spans}) * WALKED_LOGS_PART >= int(logs)


def _walk(queries: Queries, spans: Sequence[Span], after: int) -> Iterator[Row]:
    """What is held of the spans from a stamp on."""
    wanted: dict[LogId, list[tuple[int, int]]] = {}
    for log, low, high in spans:
        wanted.setdefault(log, []).append((low, high))
    unwanted = 0
    with failing("read"), closing(queries.connection.execute(SELECT_WALK, (after,))) as cursor:
        for row in cursor:
            last, count = row[2:4]
            for low, high in wanted.get(row[1], ()):
                if low <= last and last - count < high:
                    yield row
                    break
            else:
                unwanted += 1
                if unwanted > UNWANTED_MAX:
                    break
    if unwanted > UNWANTED_MAX:
        yield from (other for other in _merged(queries, spans, row[0]) if other[:3] > row[:3])


def _merged(queries: Queries, spans: Sequence[Span], after: int) -> Iterator[Row]:
    merged = merge(*(_of_span(queries, *span, after) for span in spans))
    # Two spans of a log may both have messages of one block, which then comes twice.
    return (next(rows) for _, rows in groupby(merged, itemgetter(4)))


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
