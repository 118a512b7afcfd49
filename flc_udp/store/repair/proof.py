"""Which of the blocks that were found are sound, and which are waited for.

Rules. A log is walked from its end. A block is sound if its bytes have the hash that the next block
names. Where that is unknown, it is the hash that its row names, or at the log's end the log's row.
In the place of a block that is not sound stays what the indexes tell of it, if the blocks after it
prove that it was there: the node fetches its bytes from others, by the hash chain.
"""

import sqlite3
from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import attrgetter, itemgetter
from typing import NamedTuple

from flc_udp.model.dots import LogId
from flc_udp.model.history import Head

CREATE = """
    CREATE TABLE scratch.chosen (log, first, last, position, stamp, room, hash, parent, at)
"""
INDEX = "CREATE INDEX scratch.of_log ON chosen (log, last)"
SELECT_FOUND = """
    SELECT log, first, last, position, stamp, room, own, told, parent, at FROM scratch.found
    ORDER BY log, last DESC, own IS NULL
"""
INSERT_CHOSEN = "INSERT INTO scratch.chosen VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"


class Found(NamedTuple):
    """A row of what was found."""

    log: LogId
    first: int | None
    last: int
    position: int
    stamp: int
    room: str
    own: bytes | None
    told: object
    parent: bytes | None
    at: int | None


def choose(new: sqlite3.Connection, heads: dict[LogId, Head]) -> None:
    """Write what is sound and what is waited for into the table of CREATE."""
    new.execute(CREATE)
    found = map(Found._make, new.execute(SELECT_FOUND))
    for log, rows in groupby(found, itemgetter(0)):
        new.executemany(INSERT_CHOSEN, _proven(rows, heads.get(log)))
    new.execute(INDEX)


def _proven(rows: Iterable[Found], head: Head | None) -> Iterator[tuple[object, ...]]:
    """The chosen ones of a log, from its last on."""
    after: Found | None = None
    for last, group in groupby(rows, attrgetter("last")):
        proof, at_end = None, head if head is not None and head.seq == last else None
        is_next = after is not None and after.first in (None, last + 1)
        if after is not None:
            if last >= (after.first or after.last):
                continue  # Something else is proven to stand there.
            proof, at_end = (after.parent if is_next else None), None
        same = list(group)
        stand_in = next((found for found in same if found.own is None), None)
        sound = next((found for found in same if _is_sound(found, proof, at_end)), None)
        if sound is not None:
            after = sound
            # Two indexes tell the position; the row alone may be wrong.
            position = (stand_in or sound).position
            yield (*sound[:3], position, *sound[4:7], *sound[8:])
        elif stand_in is not None and (is_next or at_end):
            after = stand_in
            digest = proof or (at_end.hash if at_end else b"")
            yield (*stand_in[:6], digest, None, None)


def _is_sound(found: Found, proof: bytes | None, at_end: Head | None) -> bool:
    if found.own is None or proof is not None:
        return found.own is not None and found.own == proof
    return found.own == found.told or (at_end is not None and found.own == at_end.hash)
