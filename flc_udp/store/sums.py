"""The sums of rows: by them a row that has changed on the disk is told from what was written.

Promise. A bit that flips in a column of `SUMMED` is found, whatever it makes of the value.

Rules. A sum is over the name of the table and over those columns that nothing else tells. What
follows from blocks has none, nor has a row of a clock without a base, so commits pay nothing for
sums. Triggers of the writer's own connection keep them, so that no statement has to remember it.
Only new rows of `clock` bring their own, because commits make such rows, and a trigger would slow
them. Where a row has changed already, the sum is left that no longer fits: nothing makes a changed
row look sound.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any
from zlib import crc32

SUMMED = {
    "node": "key, value",
    "log": "no, id, node, name, base_seq, base_hash, base_stamp",
    "room": "no, name, base_position",
    "clock": "room_no, log_no, base_seq, base_edge_stamp",
    "once": "client, said",
    "past_client": "hash, n",
    "peer": "id, name, address",
    "fork": "log, seq",
    "arrival": "position, wall_ms, least_stamp",
}
"""{table: the columns that its sums are over}."""

KEYS = {"node": ("key",), "clock": ("room_no", "log_no")}
"""How a row is found in the tables that have no rowid."""

FUNCTION = "crc32"

LONG = "typeof({0}) || {0}"
"""What clients said may be long, and to quote it takes ten times as long as its sum."""

READ_BYTES_MAX = 4_096
"""Of values that are longer it is not tried which bit has changed. It would take minutes."""


def sum_of(table: str, values: Sequence[str]) -> str:
    """The sum of a row whose columns are these, in SQL."""
    # `quote` tells the types apart. Bytes can be compared that are no text any more.
    texts = ["quote({0})" if name != "said" else LONG for name in SUMMED[table].split(", ")]
    row = " || ',' || ".join(text.format(value) for text, value in zip(texts, values, strict=True))
    has_any = "{2} IS NOT 0 OR {3} IS NOT NULL".format(*values) if table == "clock" else "true"
    return f"iif({has_any}, {FUNCTION}(CAST('{table} ' || {row} AS BLOB)), NULL)"


def _sum(table: str, row: str) -> str:
    return sum_of(table, [f"{row}.{name}" for name in SUMMED[table].split(", ")])


SUMS = {table: _sum(table, table) for table in SUMMED}
"""{table: the sum of a row of it, as it is now}."""

IS_SOUND = {table: f"({table}.checksum IS {now})" for table, now in SUMS.items()}
"""{table: the condition that a row of it is as it was written}."""


def know_sums(connection: sqlite3.Connection) -> None:
    """Let statements on a connection use `IS_SOUND`."""
    connection.create_function(FUNCTION, 1, crc32, deterministic=True)


def keep_sums(connection: sqlite3.Connection) -> None:
    """From now on the sums of all rows that a connection writes are kept."""
    know_sums(connection)
    for table, columns in SUMMED.items():
        keys = KEYS.get(table, ("rowid",))
        this = " AND ".join(f"{key} = new.{key}" for key in keys)
        was_sound = f"old.checksum IS {_sum(table, 'old')}"
        kept = f"iif({was_sound}, {_sum(table, 'new')}, old.checksum)"
        for event, when, value in (
            ("INSERT", "new.checksum IS NULL", _sum(table, "new")),
            (f"UPDATE OF {columns}", "true", kept),
        )[table == "clock" :]:
            connection.execute(f"""
                CREATE TEMP TRIGGER IF NOT EXISTS {table}_{event[:6]} AFTER {event} ON main.{table}
                WHEN {when} BEGIN UPDATE {table} SET checksum = {value} WHERE {this}; END
            """)  # noqa: S608  # texts of ours


def set_right(
    connection: sqlite3.Connection, table: str, row: Sequence[Any], checksum: object
) -> Sequence[Any] | None:
    """The columns of a row as they were written, if one bit at most has changed; else None."""
    select = f"SELECT {sum_of(table, [f'?{at}' for at in range(1, len(row) + 1)])}"

    def sum_now(values: Sequence[Any]) -> int:
        try:
            (found,) = connection.execute(select, values).fetchone()
        except UnicodeEncodeError:  # A column has become what is no text.
            return -1
        return -1 if found is None else int(found)

    if isinstance(checksum, int) and (sum_now(row) ^ checksum).bit_count() <= 1:
        return row
    readings = (
        (*row[:at], reading, *row[at + 1 :])
        for at, value in enumerate(row)
        for reading in _readings(value)
    )
    return next((reading for reading in readings if sum_now(reading) == checksum), None)


def _readings(value: object) -> Iterator[object]:
    """What a value may have been before one bit of it changed."""
    if isinstance(value, int):
        for bit in range(63):
            yield from (value ^ 1 << bit, value ^ -1 << bit)  # The latter, if that is the sign's.
        return
    raw = value.encode(errors="surrogateescape") if isinstance(value, str) else value
    if not isinstance(raw, bytes) or len(raw) > READ_BYTES_MAX:
        return
    with suppress(UnicodeDecodeError):  # One bit tells text from bytes.
        yield raw if isinstance(value, str) else raw.decode()
    for at, byte in enumerate(raw):
        for bit in range(8):
            reading = b"%s%c%s" % (raw[:at], byte ^ 1 << bit, raw[at + 1 :])
            if isinstance(value, bytes):
                yield reading
            with suppress(UnicodeDecodeError):
                yield reading.decode()


def changed_rows(
    connection: sqlite3.Connection, tables: Iterable[str] = tuple(SUMMED)
) -> dict[str, int]:
    """{table: how many of its rows have changed on the disk}, without those that have none."""
    select = "SELECT count(*) FROM {} WHERE NOT {}"
    counts = {
        table: connection.execute(select.format(table, IS_SOUND[table])).fetchone()[0]
        for table in tables
    }
    return {table: count for table, count in counts.items() if count}
