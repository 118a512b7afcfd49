"""What must hold at every moment, judged from what can be observed and nothing else.

The checkers see what was said, what a disk was given, what was answered and what was shown. They
never ask a node what it thinks, and trust no clock, frontier or cause of the code under test: what
an author had been shown is written down when it speaks, and is demanded of whoever is shown that.

What is acknowledged is never lost while its disk stands. A disk that is put back to an earlier
state may take acknowledged messages with it, though only those that no other disk holds at that
moment; they may come back all the same, from a datagram under way.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from flc_udp.ground import Said
from flc_udp.model.dots import Dot, LogId
from flc_udp.model.errors import FlcError
from flc_udp.model.history import NO_HEAD, Head
from flc_udp.model.message import Message

Clock = dict[LogId, int]


class Violation(Exception):  # noqa: N818  # says what happened, as Malformed does
    """A promise is broken."""


@dataclass(slots=True)
class Utterance:
    """Something somebody says, and what became of it."""

    room: str
    body: str | bytes
    at: int
    seen: Clock
    """{log: last seq} of what its author had been shown in the room."""
    dot: Dot | None = None
    """Its message, once that is on its author's disk."""
    is_doubted: bool = False
    """Whether that commit was reported as failed."""
    said: Said | None = None
    error: FlcError | None = None

    def says(self, message: Message) -> bool:
        """Whether the message may be this."""
        return (message.room, message.body) == (self.room, self.body)

    @property
    def is_answered(self) -> bool:
        """Whether it is known to be said or refused."""
        return self.said is not None or self.error is not None


class Minted(NamedTuple):
    """A message as its author's disk took it."""

    author: int
    hash: bytes
    stamp: int
    at: int
    """When it was said."""
    seen: Clock


@dataclass(slots=True)
class Follower:
    """One node's disk, as it was given things, and who follows the node, as it is shown them."""

    name: str
    disk: dict[LogId, Head] = field(default_factory=dict)
    position: int = 0
    unshown: deque[tuple[int, Dot]] = field(default_factory=deque)
    shown: Clock = field(default_factory=dict)
    rooms: dict[str, Clock] = field(default_factory=dict)
    unanswered: list[Utterance] = field(default_factory=list)

    def holds(self, dot: Dot) -> bool:
        """Whether its disk has the message."""
        return self.disk.get(dot.log, NO_HEAD).seq >= dot.seq

    def write(self, position: int, message: Message) -> None:
        """Its disk took a message: each log without gaps, causes first, at the next position."""
        head = self.disk.get(message.log, NO_HEAD)
        self.demand(message.seq == head.seq + 1, message, "written with a gap in its log")
        self.demand(message.parent == head.hash, message, "written on another parent")
        self.demand(all(map(self.holds, message.causes)), message, "written before its causes")
        self.demand(position == self.position + 1, message, f"written at position {position}")
        self.position = position
        self.disk[message.log] = Head(message.seq, message.hash, message.stamp)

    def show(self, message: Message, minted: Minted) -> None:
        """Who follows it sees a message: all that its author had seen was seen before."""
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


class Checks:
    """All followers, and every message that any disk ever took."""

    def __init__(self) -> None:
        self.followers: list[Follower] = []
        self.minted: dict[Dot, Minted] = {}
        self.acknowledged: dict[Dot, int] = {}
        self.lost_with_a_disk: dict[Dot, None] = {}

    def add(self, name: str) -> None:
        """One more node."""
        self.followers.append(Follower(name))

    def utters(self, number: int, room: str, body: str | bytes, at: int) -> Utterance:
        """Somebody speaks, having seen what this node has shown."""
        follower = self.followers[number]
        utterance = Utterance(room, body, at, dict(follower.rooms.get(room, {})))
        follower.unanswered.append(utterance)
        return utterance

    def answered(self, number: int, utterance: Utterance, answer: Said | FlcError) -> None:
        """Somebody was told what became of it, once, and durable first."""
        follower = self.followers[number]
        if utterance.is_answered:
            raise Violation(f"{follower.name}: {utterance.body!r} was answered twice")
        follower.unanswered = [other for other in follower.unanswered if other is not utterance]
        if isinstance(answer, FlcError):
            utterance.error = answer
            if utterance.dot is not None and not utterance.is_doubted:
                raise Violation(f"{follower.name}: {utterance.dot} refused and on its disk")
            return
        utterance.said = answer
        if utterance.dot != answer.dot:
            raise Violation(f"{follower.name}: {answer.dot} acknowledged and not on its disk")
        self.acknowledged[answer.dot] = number

    def wrote(self, number: int, first_position: int, messages: Sequence[Message]) -> None:
        """A transaction is on a disk. The first disk that has a message is its author's."""
        follower = self.followers[number]
        for position, message in enumerate(messages, first_position):
            if message.dot not in self.minted:
                self._mint(number, message)
            minted = self.minted[message.dot]
            follower.demand(minted.hash == message.hash, message, "has two contents")
            follower.write(position, message)
            follower.unshown.append((position, message.dot))

    def found(self, number: int, messages: Sequence[Message]) -> None:
        """A commit that was reported as failed stands on the disk: its posts may be refused."""
        follower = self.followers[number]
        first_position = follower.position + 1
        self.wrote(number, first_position, messages)
        self.showed(number, first_position, messages)
        dots = {message.dot for message in messages}
        for utterance in follower.unanswered:
            utterance.is_doubted = utterance.dot in dots

    def showed(self, number: int, first_position: int, messages: Sequence[Message]) -> None:
        """A node showed these: what was written, all of it, in that order."""
        follower = self.followers[number]
        for position, message in enumerate(messages, first_position):
            due = follower.unshown.popleft() if follower.unshown else None
            follower.demand(due == (position, message.dot), message, f"shown, and due was {due}")
            follower.show(message, self.minted[message.dot])

    def started(self, number: int, rows: Iterable[tuple[int, Message]]) -> None:
        """A node started from this disk: what it was given, and who follows reads on from it."""
        follower = self.followers[number]
        expected = follower.disk
        self._reread(follower, rows)
        if follower.disk != expected:
            raise Violation(f"{follower.name}: its disk is not as it was left")

    def put_back(self, number: int, rows: Iterable[tuple[int, Message]]) -> None:
        """A disk is as it was earlier: excuse what it lost and no other disk holds."""
        follower = self.followers[number]
        before = Follower(follower.name, follower.disk)
        self._reread(follower, rows)
        for dot in self.acknowledged:
            if before.holds(dot) and not any(other.holds(dot) for other in self.followers):
                self.lost_with_a_disk[dot] = None

    def crashed(self, number: int) -> None:
        """Nobody will be told any more what became of what was said."""
        follower = self.followers[number]
        follower.unanswered.clear()
        follower.unshown.clear()

    def demand_rest(self) -> None:
        """After the play: everything is shown and answered, and no acknowledged message is gone."""
        for follower in self.followers:
            if follower.unanswered:
                raise Violation(f"{follower.name}: {len(follower.unanswered)} posts unanswered")
            if follower.unshown:
                raise Violation(f"{follower.name}: {follower.unshown[0]} was never shown")
        for dot, number in self.acknowledged.items():
            held = any(follower.holds(dot) for follower in self.followers)
            if not held and dot not in self.lost_with_a_disk:
                raise Violation(f"{self.followers[number].name}: {dot} acknowledged and lost")

    def _mint(self, number: int, message: Message) -> None:
        follower = self.followers[number]
        first = (said for said in follower.unanswered if said.dot is None)
        utterance = next(first, None)
        is_own = utterance is not None and utterance.says(message)
        follower.demand(is_own, message, "came from a node that has not committed it")
        assert utterance is not None
        utterance.dot = message.dot
        for dot in [*message.causes, *([Dot(message.log, message.seq - 1)][: message.seq - 1])]:
            rises = self.minted[dot].stamp < message.stamp
            follower.demand(rises, message, f"has a stamp that is not above that of {dot}")
        self.minted[message.dot] = Minted(
            number, message.hash, message.stamp, utterance.at, utterance.seen
        )

    def _reread(self, follower: Follower, rows: Iterable[tuple[int, Message]]) -> None:
        follower.disk, follower.position, follower.shown, follower.rooms = {}, 0, {}, {}
        follower.unshown.clear()
        for position, message in rows:
            follower.write(position, message)
            follower.show(message, self.minted[message.dot])
