"""What comes of a say: what is durable, who else holds it, and what was refused."""

from typing import Any, NamedTuple

from flc_udp.model.errors import FlcError


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
        dots: list[str] = []
        for span in self.spans:
            log, _, numbers = span.partition(":")
            low, high = map(int, numbers.split("-"))
            dots += [f"{log}:{seq}" for seq in range(low, high + 1)]
        return dots


class BodiesRefusedError(FlcError):
    """Some bodies of a say were refused, or all of them. The others are durable."""

    def __init__(self, problem: str, hint: str, record: dict[str, Any]) -> None:
        super().__init__(problem, hint)
        self.said = said_many(record)
        """Those that are durable."""
        self.refused: tuple[int, ...] = tuple(record["refused"])
        """The places of the refused bodies, from 0."""
        self.reason = str(record["reason"])
        """Why the first of them was refused."""


def said(record: dict[str, Any]) -> Said:
    """Read the answer to a say of one body."""
    return Said(record["dot"], record["position"], *_holders(record))


def said_many(record: dict[str, Any]) -> SaidMany:
    """Read the answer to a say of many bodies."""
    return SaidMany(tuple(record["spans"]), record["position"], *_holders(record))


def _holders(record: dict[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...], bool]:
    held_by, missing = tuple(record.get("held_by", ())), tuple(record.get("missing", ()))
    return held_by, missing, bool(record.get("timeout"))
