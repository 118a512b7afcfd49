"""What comes of a say: what is durable, who else holds it, and what was refused."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from flc_udp.model.errors import FlcError

Record = dict[str, Any]
"""One JSON object of the control socket, without the `id` that belongs to the connection."""


class Said(NamedTuple):
    """A durable message: its dot, its position here (None: pruned), and who else holds it."""

    dot: str
    position: int | None
    held_by: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    timed_out: bool = False


class SaidMany(NamedTuple):
    """Durable messages of one say. `position` is that of the last one, as in Said."""

    spans: tuple[str, ...]
    """Their dots as `LOG:LOW-HIGH`, both numbers included. There is rarely more than one span."""
    position: int | None
    held_by: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    timed_out: bool = False

    @property
    def dots(self) -> list[str]:
        """The dot of each message, in the order in which they were said."""
        return list(_dots(self.spans))


class BodiesRefusedError(FlcError):
    """Some bodies of a say were refused, or all of them. The others are durable."""

    def __init__(self, record: Record) -> None:
        super().__init__(*_words(record))
        self.said = said_many(record)
        """Those that are durable."""
        errors = (FlcError(*_words(reason)) for reason in record["reasons"])
        self.errors: dict[int, FlcError] = dict(zip(record["refused"], errors, strict=True))
        """Why each refused body was refused, by its place, from 0."""


def said(record: Record) -> Said:
    """Read the answer to a say of one body."""
    return Said(record["dot"], record["position"], *_holders(record))


def said_many(record: Record) -> SaidMany:
    """Read the answer to a say of many bodies."""
    return SaidMany(tuple(record["spans"]), record["position"], *_holders(record))


def said_each(record: Record) -> list[Said]:
    """Read what became of each message that is durable, from the answer to a say of many bodies.

    None of them was said before, so their positions follow one another.
    """
    dots, holders = list(_dots(record["spans"])), _holders(record)
    first = record["position"] - len(dots) + 1 if dots else 0
    return [Said(dot, first + place, *holders) for place, dot in enumerate(dots)]


def refusal(record: Record) -> FlcError:
    """Return the error that a refusing answer stands for."""
    return BodiesRefusedError(record) if "refused" in record else FlcError(*_words(record))


def _words(record: Record) -> tuple[str, str]:
    return str(record.get("error", "refused")), str(record.get("hint", "see its log"))


def _dots(spans: tuple[str, ...]) -> Iterator[str]:
    for span in spans:
        log, _, numbers = span.partition(":")
        low, high = map(int, numbers.split("-"))
        for seq in range(low, high + 1):
            yield f"{log}:{seq}"


def _holders(record: Record) -> tuple[tuple[str, ...], tuple[str, ...], bool]:
    held_by, missing = tuple(record.get("held_by", ())), tuple(record.get("missing", ()))
    return held_by, missing, bool(record.get("timeout"))
