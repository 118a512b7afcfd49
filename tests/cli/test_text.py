"""How records look to people."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wcwidth import width

from flc_udp.cli import text


def test_bytes_are_shown_as_text_where_they_are() -> None:
    """A body of bytes keeps what is UTF-8 and escapes the rest."""
    assert text.body_text({"body": {"base64": "YcOp/w=="}}) == "aé\\xff"


def test_bodies_are_exact() -> None:
    """The raw body is what was said, byte for byte."""
    assert text.body_bytes({"body": "é\n"}) == b"\xc3\xa9\n"
    assert text.body_bytes({"body": {"base64": "/wA="}}) == b"\xff\x00"


def test_an_author_has_one_colour() -> None:
    """The colour is a function of the name; without colour the name stands alone."""
    assert text.author_text("ann", colour=True) == text.author_text("ann", colour=True)
    assert text.author_text("ann", colour=True) != text.author_text("ben", colour=True)
    assert text.author_text("a\x1bn", colour=False) == "a␛n"


def test_times() -> None:
    """In a pipe times are UTC with milliseconds."""
    assert text.time_text("2026-01-02T03:04:05.678Z", local=False) == "2026-01-02T03:04:05.678Z"
    assert text.time_text("2026-01-02T03:04:05+01:00", local=False) == "2026-01-02T02:04:05.000Z"
    assert len(text.time_text("2026-01-02T03:04:05.678Z", local=True)) == len("2026-01-02 03:04:05")


def test_tables_are_aligned() -> None:
    """Columns are as wide as they look, numbers right, and no line ends in spaces."""
    assert text.table(("NAME", "N"), [("漢", 5), ("ann\n", 12)]) == "NAME   N\n漢     5\nann␊  12"


def test_a_table_of_nothing() -> None:
    """Without rows the heads stand alone."""
    assert text.table(("A", "B"), []) == "A  B"


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (5 << 20, "5.2 MB"),
        (10**15, "1000.0 TB"),
    ],
)
def test_sizes(size: int, shown: str) -> None:
    """Bytes with a unit that fits."""
    assert text.size_text(size) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0 s"), (59.9, "59 s"), (60, "1 min 0 s"), (3_700, "1 h 1 min"), (90_000, "1 d 1 h")],
)
def test_durations(seconds: float, shown: str) -> None:
    """A span in its two largest units."""
    assert text.duration_text(seconds) == shown


def rows_of(line: str, columns: int) -> int:
    """How many rows a terminal takes for a line."""
    return max(-(-width(line) // columns), 1)


@given(
    st.lists(st.text("ab 漢🙂", min_size=1, max_size=100), min_size=1, max_size=30),
    st.integers(2, 90),
    st.integers(1, 30),
)
def test_a_picture_fits_its_terminal(lines: list[str], columns: int, rows: int) -> None:
    """However small that is: what comes first is seen, and the last row says what is not."""
    shown = text.fitted("\n".join(lines), columns, rows).split("\n")
    heights = [rows_of(line, columns) for line in shown]

    assert shown[0] == lines[0][: len(shown[0])] != ""
    if shown != lines:
        assert sum(heights) <= rows
        left_out = len(lines) - len(shown) + 1
        says = f"... {left_out} more lines"[:columns]
        assert shown[-1] == says or len(shown) == 1
    else:
        assert sum(heights) <= rows


def test_what_does_not_fit_is_counted() -> None:
    """A line that is folded takes several rows."""
    assert text.fitted("one\ntwo\nthree", 80, 3) == "one\ntwo\nthree"
    assert text.fitted("one\ntwo\nthree", 80, 2) == "one\n... 2 more lines"
    assert text.fitted("one\n" + "x" * 81 + "\nthree", 80, 3) == "one\n... 2 more lines"
    assert text.fitted("one\ntwo", 80, 1) == "one"
    assert text.fitted("x" * 81, 40, 2) == "x" * 80
    assert text.fitted("", 80, 1) == ""
