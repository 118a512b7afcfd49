"""Times as people write them."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from flc_udp.cli.times import moment


@pytest.fixture(autouse=True)
def new_york(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A zone whose clocks are put forward and back."""
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("2026-01-02T03:04:05+01:00", "2026-01-02T02:04:05.000Z"),
        ("2026-01-02T02:04:05Z", "2026-01-02T02:04:05.000Z"),
        ("2026-01-02", "2026-01-02T05:00:00.000Z"),
        ("2026-07-02 03:04", "2026-07-02T07:04:00.000Z"),
        ("2026-11-01 00:59", "2026-11-01T04:59:00.000Z"),
        ("2026-11-01 01:30-04:00", "2026-11-01T05:30:00.000Z"),
        ("@1700000000", "2023-11-14T22:13:20.000Z"),
        ("99999999d", "1970-01-01T00:00:00.000Z"),
    ],
)
def test_a_moment_however_it_is_written(words: str, expected: str) -> None:
    """Without a zone it is local; a span that begins before all clocks is all."""
    assert moment(words) == expected


@pytest.mark.parametrize(
    ("words", "ago"),
    [
        ("now", timedelta()),
        ("2h", timedelta(hours=2)),
        ("-2h", timedelta(hours=2)),
        ("-1h30m", timedelta(minutes=90)),
        ("1w2d3h4min5s", timedelta(weeks=1, days=2, hours=3, minutes=4, seconds=5)),
    ],
)
def test_a_span_ago(words: str, ago: timedelta) -> None:
    """With a minus as journalctl takes it, and without."""
    found = datetime.fromisoformat(moment(words))

    assert abs(datetime.now(UTC) - ago - found) < timedelta(minutes=1)


def test_a_day_or_a_time_of_today() -> None:
    """Days begin at midnight here."""
    today = datetime.fromisoformat(moment("today")).astimezone()
    yesterday = datetime.fromisoformat(moment("yesterday")).astimezone()
    evening = datetime.fromisoformat(moment("22:00")).astimezone()

    assert (today.hour, today.minute, evening.hour, evening.minute) == (0, 0, 22, 0)
    assert today.date() - yesterday.date() == timedelta(days=1)
    assert evening.date() == today.date()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            "2026-11-01 01:30",
            "was twice .* write 2026-11-01T01:30:00-04:00 or 2026-11-01T01:30:00-05:00",
        ),
        ("2026-03-08 02:30", "was never"),
        *((words, "is not a time") for words in ("", "2h ago", "2026-13-01", "@", "@nan", "25:00")),
        *((words, "is not a time") for words in ("-", "2026", "@1e99", "9" * 30 + "d")),
    ],
)
def test_what_is_no_time(words: str, said: str) -> None:
    """What may mean two moments, or none, is refused with what to write."""
    with pytest.raises(argparse.ArgumentTypeError, match=said):
        moment(words)
