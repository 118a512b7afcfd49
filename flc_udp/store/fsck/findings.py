"""What fsck tells, and how a row is compared with what it has to be."""

from collections.abc import Sequence
from typing import NamedTuple

from flc_udp.model.dots import Dot, LogId

UNKNOWN = object()
"""This stands for a value that nothing tells. Whatever a row has there is taken for right."""


class Finding(NamedTuple):
    """What is wrong: the check that found it, the problem in words, and where it is."""

    check: str
    problem: str
    dot: Dot | None = None
    log: LogId | None = None
    room: str | None = None


def difference(
    columns: Sequence[str], told: Sequence[object], said: Sequence[object], by: str
) -> str | None:
    """In which columns a row (`told`) differs from what it has to be (`said`); None if in none."""
    wrong = [
        f"{column} {_word(one)}, by {by} {_word(other)}"
        for column, one, other in zip(columns, told, said, strict=True)
        if one != other and other is not UNKNOWN
    ]
    return f"its row has {'; '.join(wrong)}" if wrong else None


def _word(value: object) -> str:
    if value is None:
        return "nothing"
    return value.hex() if isinstance(value, bytes) else repr(value)
