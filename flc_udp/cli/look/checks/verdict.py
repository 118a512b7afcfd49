"""The result of a check: its level, what was found, and what to do if that is not well."""

from typing import NamedTuple

from flc_udp.model.visible import visible

OK, WARN, FAIL = "ok", "warn", "fail"


class Verdict(NamedTuple):
    """One line of `flc doctor`. Only a verdict that is ok has no `advice`."""

    check: str
    level: str
    found: str
    advice: str | None = None


def ok(check: str, found: str) -> Verdict:
    """Say that all is well."""
    return Verdict(check, OK, found)


def warn(check: str, found: str, advice: str) -> Verdict:
    """Say that it works, but worse than it could."""
    return Verdict(check, WARN, found, advice)


def fail(check: str, found: str, advice: str) -> Verdict:
    """Say that something does not work."""
    return Verdict(check, FAIL, found, advice)


def verdict_text(verdict: Verdict) -> str:
    """Write one line for people, and one more with the advice."""
    line = f"{verdict.level:<6}{verdict.check:<16}{verdict.found}"
    advice = f"\n      -> {visible(verdict.advice)}" if verdict.advice else ""
    return visible(line) + advice
