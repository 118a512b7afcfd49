"""What one node's disk was given, and what somebody who follows the node was shown.

Rules. A log grows without gaps, and after the causes of each message. Messages are deleted only as
the operator allowed, because of their age or for lack of space, the lowest stamps first. A log
jumps only where a base is taken, and to a message that was said. Everything else is a Violation.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from flc_udp.model.dots import Dot, LogId
from flc_udp.model.errors import FlcError
from flc_udp.model.history import NO_HEAD, BaseLog, Head, History
from flc_udp.model.message import Message
from flc_udp.model.units import Millis
from flc_udp.store.pruning import SLICE_BYTES_MIN
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


@dataclass(slots=True)
class Follower:
    """What was written to a disk, what is left of it, and what was shown."""

    name: str
    disk: dict[LogId, Head] = field(default_factory=dict)
    """The heads. Every message up to them is kept, was deleted, or is covered by a base."""
    kept: dict[Dot, KeptMessage] = field(default_factory=dict)
    floor: int = 0
    position: int = 0
    arrived: dict[Dot, Arrived] = field(default_factory=dict)
    """The first time, where a disk was put back in between."""
    unshown: deque[tuple[int, Dot]] = field(default_factory=deque)
    shown: Clock = field(default_factory=dict)
    rooms: dict[str, Clock] = field(default_factory=dict)
    unanswered: list[Utterance] = field(default_factory=list)

    def knows(self, dot: Dot) -> bool:
        """Whether the disk has the message, or a base that covers it."""
        return self.disk.get(dot.log, NO_HEAD).seq >= dot.seq

    def has_kept(self, dot: Dot, since: int) -> bool:
        """Whether the disk has the message, and had it at that moment."""
        return dot in self.kept and self.arrived[dot].at <= since

    def write(self, position: int, message: Message) -> None:
        """The disk took a message: next in its log, after its causes, at the next position."""
        head = self.disk.get(message.log, NO_HEAD)
        self.demand(message.seq == head.seq + 1, message, "written with a gap in its log")
        self.demand(message.parent == head.hash, message, "written on another parent")
        self.demand(all(map(self.knows, message.causes)), message, "written before its causes")
        self.demand(position == self.position + 1, message, f"written at position {position}")
        self.position = position
        self.disk[message.log] = Head(message.seq, message.hash, message.stamp)
        self.kept[message.dot] = KeptMessage(position, message.stamp, len(message.encoded))

    def show(self, message: Message, minted: Minted) -> None:
        """A follower sees a message, and has seen before everything that its author had seen."""
        before = self.shown.get(message.log, 0)
        self.demand(message.seq == before + 1, message, f"shown after {before} of its log")
        for log, seq in message.causes:
            self.demand(self.shown.get(log, 0) >= seq, message, "shown before a cause of it")
        for log, seq in minted.seen.items():
            if self.shown.get(log, 0) < seq:
                problem = f"shown before {Dot(log, seq)}, which its author had been shown"
                raise Violation(f"{self.name}: {message.dot} {problem}")
        self.shown[message.log] = message.seq
        self.rooms.setdefault(message.room, {})[message.log] = message.seq

    def demand(self, holds: bool, message: Message, problem: str) -> None:
        """Raise Violation unless it holds."""
        if not holds:
            raise Violation(f"{self.name}: {message.dot} {problem}")

    # --- Retention --------------------------------------------------------------------------

    def prune(self, left: set[int], floor: int, allowed: Allowed) -> list[Dot]:
        """The disk has these positions left, and this floor. Return what was deleted."""
        gone = {dot: kept for dot, kept in self.kept.items() if kept.position not in left}
        for dot in gone:
            del self.kept[dot]
        if len(left) != len(self.kept):
            raise Violation(f"{self.name}: {len(left)} messages are left, not {len(self.kept)}")
        last = max((kept.stamp for kept in gone.values()), default=0)
        if floor != max(self.floor, last + 1 if gone else 0):
            raise Violation(f"{self.name}: {floor} is not the floor above what is pruned")
        if gone and any(kept.stamp <= last for kept in self.kept.values()):
            raise Violation(f"{self.name}: what is older than what is pruned is left")
        self._demand_allowed(gone, last, allowed)
        self.floor = floor
        return list(gone)

    def _demand_allowed(self, gone: dict[Dot, KeptMessage], last: int, allowed: Allowed) -> None:
        size = 0
        for dot, kept in gone.items():
            is_late = kept.stamp < self.floor
            before = allowed.before_ms
            if is_late or (before is not None and self.arrived[dot].wall < before):
                continue
            if not allowed.excess:
                raise Violation(f"{self.name}: {dot} pruned too early")
            size += kept.size if kept.stamp < last else 0
        if size >= max(allowed.excess, SLICE_BYTES_MIN):
            raise Violation(f"{self.name}: {size} bytes pruned, {allowed.excess} were too much")

    def adopt(
        self, floor: int, base: Sequence[BaseLog], history: History, minted: Mapping[Dot, Minted]
    ) -> list[Dot]:
        """The disk took a base.

        Logs that it was behind in jump, and what it held of them is gone.
        """
        heads = {row.log: row.head for row in base}
        if any(head.stamp >= floor for head in heads.values()):
            raise Violation(f"{self.name}: took a base that is not below its floor")
        behind = self.skip(heads, minted)
        self._demand_closed(heads, behind, minted)
        gone = [dot for dot in self.kept if dot.log in behind]
        for dot in gone:
            del self.kept[dot]
        self.floor = max(self.floor, floor)
        if (history.heads, history.floor) != (self.disk, self.floor):
            raise Violation(f"{self.name}: its heads are not those of what it has and of the base")
        return gone

    def skip(self, heads: Mapping[LogId, Head], minted: Mapping[Dot, Minted]) -> dict[LogId, int]:
        """A base covers everything up to these heads.

        Return {log: seq before} of logs that jump.
        """
        behind: dict[LogId, int] = {}
        for log, head in heads.items():
            before = self.disk.get(log, NO_HEAD).seq
            if head.seq <= before:
                continue
            message = minted[Dot(log, head.seq)].message
            is_said = (message.hash, message.stamp) == (head.hash, head.stamp)
            self.demand(is_said, message, "is another in a base")
            behind[log] = before
            self.disk[log] = head
            self.shown[log] = head.seq
            for seq in range(before + 1, head.seq + 1):
                room = minted[Dot(log, seq)].message.room
                self.rooms.setdefault(room, {})[log] = seq
        return behind

    def _demand_closed(
        self, heads: Mapping[LogId, Head], behind: dict[LogId, int], minted: Mapping[Dot, Minted]
    ) -> None:
        """The causes of what a base covers are covered by it, too, or held."""
        for log, before in behind.items():
            for seq in range(before + 1, heads[log].seq + 1):
                message = minted[Dot(log, seq)].message
                is_closed = all(map(self.knows, message.causes))
                self.demand(is_closed, message, "is in a base without its causes")

    def reread(self, found: Found, minted: Mapping[Dot, Minted]) -> None:
        """Be as this disk. A follower reads from the beginning, which may be a base."""
        self.disk, self.kept, self.shown, self.rooms = {}, {}, {}, {}
        self.unshown.clear()
        self.floor = found.history.floor
        behind = self.skip(found.history.bases, minted)
        last = 0
        for position, message in found.rows:
            self.demand(position > last, message, f"stands at position {position} after {last}")
            last, self.position = position, position - 1
            self.write(position, message)
            self.show(message, minted[message.dot])
        self._demand_closed(found.history.bases, behind, minted)
        self.position = found.position
        if found.history.heads != self.disk:
            raise Violation(f"{self.name}: its heads are not those of its base and messages")
