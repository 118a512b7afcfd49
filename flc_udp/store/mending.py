"""Rows of small tables that have changed on the disk are set right while the node runs.

Rules. By its sum a row tells which bit of it has changed, if only one has. Where more have, what is
a mere convenience goes: a remembered member, or a time of arrival, of which later ones are kept.
All else stays as it is, and its sum with it, so that nobody takes it for sound.
"""

import sqlite3
import time
from contextlib import suppress

from flc_udp.model.units import Millis
from flc_udp.store.queries import atomic
from flc_udp.store.repair.keep import keep_arrivals
from flc_udp.store.sums import IS_SOUND, KEYS, SUMMED, SUMS, changed_rows, set_right

MENDED = tuple(SUMMED.keys() - {"past_client"})
"""That one may have a million rows, each of which is looked at when it is needed."""


def mend_rows(connection: sqlite3.Connection) -> dict[str, int]:
    """Set right what can be; return {table: how many rows of it are left that cannot be}.

    A table that cannot be read is left to whoever needs it: some of them are mere conveniences.
    """
    changed: dict[str, int] = {}
    for table in MENDED:
        with suppress(sqlite3.DatabaseError):
            changed |= changed_rows(connection, (table,))
    if not changed:
        return {}
    with atomic(connection):
        for table in changed:
            _set_right(connection, table)
        if "peer" in changed:
            connection.execute(f"DELETE FROM peer WHERE NOT {IS_SOUND['peer']}")  # noqa: S608  # ours
        if "arrival" in changed:
            now = Millis(time.time_ns() // 1_000_000)
            keep_arrivals(connection, connection, lambda position: position, now)
    return changed_rows(connection, changed)


def _set_right(connection: sqlite3.Connection, table: str) -> None:
    keys, columns = KEYS.get(table, ("rowid",)), SUMMED[table]
    marks = ", ".join("?" * len(columns.split(", ")))
    if table not in KEYS:  # SQLite changes no row that it does not find in its index.
        connection.execute(f"REINDEX {table}")
    row_of = " AND ".join(f"{key} IS ?" for key in keys)
    select = f"SELECT {', '.join(keys)}, checksum, {columns} FROM {table}"  # noqa: S608  # ours
    for found in connection.execute(f"{select} WHERE NOT {IS_SOUND[table]}").fetchall():
        key, checksum, row = found[: len(keys)], found[len(keys)], found[len(keys) + 1 :]
        right = set_right(connection, table, row, checksum)
        if right == row:
            update = f"UPDATE {table} SET checksum = {SUMS[table]} WHERE {row_of}"  # noqa: S608  # ours
            connection.execute(update, key)
        elif right is not None:
            update = f"UPDATE {table} SET ({columns}) = ({marks}) WHERE {row_of}"  # noqa: S608  # ours
            connection.execute(update, (*right, *key))
