"""Reads a time as people write it, in the forms that journalctl takes.

Rules. A time without a zone is local. Where the clocks were put back it may have been twice, and
where they were put forward never. Then it is refused, and the error says what to write instead.
"""

import argparse
import re
from datetime import UTC, datetime, time, timedelta

from flc_udp.cli.text import rfc3339

FORMS = "22:00, today, 2h or -1h30m (so long ago), 2026-01-31, 2026-01-31T12:00Z, @EPOCH"

UNITS_S = {"s": 1, "m": 60, "min": 60, "h": 3_600, "d": 86_400, "w": 604_800}
SPAN = re.compile(rf"(\d{{1,9}})({'|'.join(sorted(UNITS_S, reverse=True))})")
SPANS = re.compile(rf"-?(?:{SPAN.pattern})+")
DAYS_AGO = {"today": 0, "yesterday": 1}


def moment(words: str) -> str:
    """Read a time; return it as RFC 3339 in UTC, or raise argparse.ArgumentTypeError."""
    now = datetime.now(UTC)
    try:
        if words.startswith("@"):
            return rfc3339(datetime.fromtimestamp(float(words[1:]), UTC))
        if words == "now":
            return rfc3339(now)
        if SPANS.fullmatch(words):
            return rfc3339(now - timedelta(seconds=min(_span_s(words), now.timestamp())))
        return rfc3339(_local(_on_a_day(words)))
    except (ValueError, OverflowError) as error:
        raise argparse.ArgumentTypeError(f"{words!r} is not a time as {FORMS}") from error


def _span_s(words: str) -> int:
    return sum(int(count) * UNITS_S[unit] for count, unit in SPAN.findall(words))


def _on_a_day(words: str) -> datetime:
    """A date and time, with a zone only if it was written."""
    today = datetime.now().astimezone().date()
    if words in DAYS_AGO:
        return datetime.combine(today - timedelta(days=DAYS_AGO[words]), time())
    if re.match(r"\d\d?:", words):
        return datetime.combine(today, time.fromisoformat(words.zfill(5)))
    return datetime.fromisoformat(words)


def _local(found: datetime) -> datetime:
    """The moment that is meant; raises argparse.ArgumentTypeError if none or two may be."""
    both = [found.replace(fold=fold).astimezone() for fold in (0, 1)]
    if found.tzinfo is None and both[0].utcoffset() != both[1].utcoffset():
        was_there = both[0].replace(tzinfo=None) == found
        what = "was twice" if was_there else "was never, for the clocks were put forward,"
        either = " or ".join(one.isoformat() for one in sorted(both))
        raise argparse.ArgumentTypeError(f"{found} {what} in this time zone: write {either}")
    return both[0]


def let_begin_with_minus(parser: argparse.ArgumentParser) -> None:
    """Take `-1h30m` for a value as argparse takes -1, and not for an option."""
    parser._negative_number_matcher = SPANS  # noqa: SLF001  # there is no public way
