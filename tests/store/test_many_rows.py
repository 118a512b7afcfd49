import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from flc_udp.store.queries import ROWS_AT_ONCE, ManyRows

INSERT = ManyRows("INSERT INTO thing (no, name) VALUES (?, ?)")
UPDATE = ManyRows(
    "UPDATE thing SET name = new.column2 FROM (VALUES (?, ?)) AS new WHERE no = new.column1"
)
COUNTS = [0, 1, 7, 8, 9, 63, 72, sum(ROWS_AT_ONCE), 2 * ROWS_AT_ONCE[0] + 137]


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    """A database with one table, and all statements it is given in `said`."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.execute("CREATE TABLE thing (no INTEGER PRIMARY KEY, name TEXT)")
        yield connection


@pytest.mark.parametrize("count", COUNTS)
def test_every_row_is_written_once(connection: sqlite3.Connection, count: int) -> None:
    """However the number of rows divides."""
    INSERT.write(connection, [value for no in range(count) for value in (no, f"n{no}")])
    UPDATE.write(connection, [value for no in range(0, count, 2) for value in (no, f"even{no}")])

    rows = connection.execute("SELECT no, name FROM thing ORDER BY no").fetchall()

    assert rows == [(no, f"n{no}" if no % 2 else f"even{no}") for no in range(count)]


def test_a_batch_of_thousands_takes_a_few_statements(connection: sqlite3.Connection) -> None:
    """That is what it is for: the writer waits for the interpreter once a statement."""
    said: list[str] = []
    connection.set_trace_callback(said.append)

    INSERT.write(connection, [value for no in range(2_500) for value in (no, "")])

    assert len(said) <= 2_500 // 512 + 7 + 7 + 7
