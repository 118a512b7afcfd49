"""Many rows a statement: beside a busy loop the writer waits for the interpreter once for them all.

Promise. The same as `executemany`, a row at a time and in order, but in a few statements.

SQLite works without the interpreter's lock, and to take it back from a loop that is busy costs up
to a switch interval (`sys.setswitchinterval`), whether one row was written or five hundred: row by
row, a commit of 2,500 messages beside a loop at work took eight times as long as by itself.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

ROWS_AT_ONCE = (512, 64, 8, 1)
"""Statements of so many rows: a few, so that each stays prepared; SQLite allows 32,766 values."""


class Many:
    """A statement with `rows` in it, which stands for as many times `row` as there are."""

    def __init__(self, statement: str, row: str) -> None:
        self._columns = row.count("?")
        self._sizes = tuple(
            (rows * self._columns, statement.replace("rows", ", ".join([row] * rows)))
            for rows in ROWS_AT_ONCE
        )

    def write(self, connection: sqlite3.Connection, values: Sequence[Any]) -> None:
        """Write the values of all rows, one after the other."""
        at = 0
        for size, statement in self._sizes:
            while len(values) - at >= size:
                connection.execute(statement, values[at : at + size])
                at += size
