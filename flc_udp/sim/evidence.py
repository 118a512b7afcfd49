"""Evidence: what the checkers write down of what they observe, and what they say at the end."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from flc_udp.model.dots import Dot, LogId
from flc_udp.model.errors import FlcError
from flc_udp.model.history import History
from flc_udp.model.message import Message
from flc_udp.model.units import Millis
from flc_udp.waist.ports import Committed

Clock = dict[LogId, int]


class Violation(Exception):  # noqa: N818  # says what happened, as Malformed does
    """A promise was broken."""


@dataclass(slots=True)
class Utterance:
    """Something that somebody says, and what became of it."""

    room: str
    body: str | bytes
    at: int
    seen: Clock
    """{log: last seq} that its author had been shown in the room."""
    dot: Dot | None = None
    """The message, once it is on its author's disk."""
    is_doubted: bool = False
    """Whether the commit was reported as failed."""
    said: Committed | None = None
    error: FlcError | None = None

    def says(self, message: Message) -> bool:
        """Whether a message may be this."""
        return (message.room, message.body) == (self.room, self.body)

    @property
    def is_answered(self) -> bool:
        """Whether somebody was told that it is said or refused."""
        return self.said is not None or self.error is not None


class Minted(NamedTuple):
    """A message as its author's disk took it."""

    author: int
    message: Message
    at: int
    """The moment at which it was said."""
    seen: Clock


class KeptMessage(NamedTuple):
    """A message that a disk holds."""

    position: int
    stamp: int
    size: int


class Arrived(NamedTuple):
    """The moment at which a message arrived: by the machine's clock in ms, and in virtual µs."""

    wall: Millis
    at: int


class Allowed(NamedTuple):
    """What may be deleted: what arrived before a moment, in ms, and this many bytes or a slice."""

    before_ms: int | None
    excess: int


class Found(NamedTuple):
    """What is read from a disk: messages by position, the tables, and the last position."""

    rows: Iterable[tuple[int, Message]]
    history: History
    position: int
