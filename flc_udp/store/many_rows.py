"""Writing many rows with one statement, so that the writer seldom waits for the interpreter.

Promise. The effect is that of `executemany`: each row is written once and in order. But it takes
only a few statements.

SQLite works without the interpreter's lock. Taking the lock back from a busy loop costs up to a
switch interval (`sys.setswitchinterval`), whether one row was written or five hundred. Row by row,
a commit of 2,500 messages beside a busy loop took eight times as long as without it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

ROWS_AT_ONCE = (512, 64, 8, 1)
"""A statement is prepared for each of these numbers of rows. They are few, so that each statement
stays prepared. SQLite allows 32,766 values in one."""


class ManyRows:
    """A statement that holds the word `rows`, and the text of one row that is put there."""

    def __init__(self, statement: str, row: str) -> None:
        columns = row.count("?")
        self._sizes = tuple(
            (rows * columns, statement.replace("rows", ", ".join([row] * rows)))
            for rows in ROWS_AT_ONCE
        )

    def write(self, connection: sqlite3.Connection, values: Sequence[Any]) -> None:
        """Write rows whose values come one after the other."""
        at = 0
        for size, statement in self._sizes:
            while len(values) - at >= size:
                connection.execute(statement, values[at : at + size])
                at += size
