"""What a check says: how it stands, what was found, and what to do where that is not well."""

from __future__ import annotations

from typing import NamedTuple

from flc_udp.cli.text import visible
from flc_udp.client import Record

OK, WARN, FAIL = "ok", "warn", "fail"


class Verdict(NamedTuple):
    """One line of `flc doctor`; `advice` is there unless all is well."""

    check: str
    level: str
    found: str
    advice: str | None = None


def ok(check: str, found: str) -> Verdict:
    """All is well."""
    return Verdict(check, OK, found)


def warn(check: str, found: str, advice: str) -> Verdict:
    """It works, and worse than it could."""
    return Verdict(check, WARN, found, advice)


def fail(check: str, found: str, advice: str) -> Verdict:
    """Something does not work."""
    return Verdict(check, FAIL, found, advice)


def verdict_text(verdict: Verdict) -> str:
    """One line for people, and one more of what to do."""
    line = f"{verdict.level:<6}{verdict.check:<16}{verdict.found}"
    advice = f"\n      -> {visible(verdict.advice)}" if verdict.advice else ""
    return visible(line) + advice


def verdict_record(verdict: Verdict) -> Record:
    """The same as JSON."""
    return verdict._asdict()
