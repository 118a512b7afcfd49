"""What must hold at every moment, judged only from what can be observed.

The checkers see what was said, what a disk was given, what was answered and what was shown. They
never ask a node what it thinks, and trust no clock, frontier or cause of the code under test. When
an author speaks, they write down what it had been shown, and demand that whoever is shown its
message has been shown that, too.

What is acknowledged is never lost while its disk stands. A disk that is put back to an earlier
state may take acknowledged messages with it, but only those that no other disk holds at that
moment. They may come back all the same, from a datagram under way. Retention, and a base that is
taken, may delete the last copy of a message. That is noted, and excused only below the floors
(`audit`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from flc_udp.model.dots import Dot
from flc_udp.model.errors import FlcError
from flc_udp.model.history import NO_HEAD, BaseLog, History
from flc_udp.model.message import Message
from flc_udp.model.units import MS_US, Micros
from flc_udp.sim.follower import Allowed, Arrived, Follower, Found, Minted, Utterance, Violation
from flc_udp.waist.ports import Committed

__all__ = ["Checks", "Utterance", "Violation"]

ASKED_WITHIN = 10_000 * MS_US
"""A node that takes a base has asked every other node for what that has had for this long."""


class Checks:
    """All followers, and every message that any disk ever took."""

    def __init__(self) -> None:
        self.followers: list[Follower] = []
        self.minted: dict[Dot, Minted] = {}
        self.acknowledged: dict[Dot, int] = {}
        self.lost_with_a_disk: dict[Dot, None] = {}
        self.let_go: dict[Dot, str] = {}
        """Messages whose last copy was rightly deleted, and how."""

    def add(self, name: str) -> None:
        """Add a node."""
        self.followers.append(Follower(name))

    def utters(self, number: int, room: str, body: str | bytes, at: int) -> Utterance:
        """Somebody speaks, who has seen what this node has shown."""
        follower = self.followers[number]
        utterance = Utterance(room, body, at, dict(follower.rooms.get(room, {})))
        follower.unanswered.append(utterance)
        return utterance

    def answered(self, number: int, utterance: Utterance, answer: Committed | FlcError) -> None:
        """Somebody was told what became of it. It is told once, and after it is durable."""
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

    def wrote(
        self, number: int, first_position: int, messages: Sequence[Message], arrived: Arrived
    ) -> None:
        """A transaction is on a disk. The first disk that has a message is that of its author."""
        follower = self.followers[number]
        for position, message in enumerate(messages, first_position):
            if message.dot not in self.minted:
                self._mint(number, message)
            minted = self.minted[message.dot]
            is_same = minted.message.encoded == message.encoded
            follower.demand(is_same, message, "has two contents")
            follower.write(position, message)
            follower.arrived.setdefault(message.dot, arrived)
            follower.unshown.append((position, message.dot))

    def found(self, number: int, messages: Sequence[Message], arrived: Arrived) -> None:
        """A commit that was reported as failed is on the disk. Its posts may be refused."""
        follower = self.followers[number]
        first_position = follower.position + 1
        self.wrote(number, first_position, messages, arrived)
        self.showed(number, first_position, messages)
        dots = {message.dot for message in messages}
        for utterance in follower.unanswered:
            utterance.is_doubted = utterance.dot in dots

    def showed(self, number: int, first_position: int, messages: Sequence[Message]) -> None:
        """A node showed these messages: all that was written, in the same order."""
        follower = self.followers[number]
        for position, message in enumerate(messages, first_position):
            due = follower.unshown.popleft() if follower.unshown else None
            follower.demand(due == (position, message.dot), message, f"shown, and due was {due}")
            follower.show(message, self.minted[message.dot])

    def started(self, number: int, found: Found) -> None:
        """A node started from this disk, which must be as it was left."""
        follower = self.followers[number]
        expected = follower.disk, follower.kept, follower.floor, follower.position
        follower.reread(found, self.minted)
        if (follower.disk, follower.kept, follower.floor, follower.position) != expected:
            raise Violation(f"{follower.name}: its disk is not as it was left")

    def put_back(self, number: int, found: Found) -> None:
        """A disk is as it was earlier. Excuse what it lost, if no other disk holds it."""
        follower = self.followers[number]
        before = Follower(follower.name, follower.disk, follower.kept)
        follower.reread(found, self.minted)
        self._gone(before.kept, f"its last copy went when the disk of {follower.name} was put back")
        for dot in self.minted:
            if before.knows(dot) and not any(other.knows(dot) for other in self.followers):
                self.lost_with_a_disk[dot] = None

    def pruned(self, number: int, left: set[int], floor: int, allowed: Allowed) -> int:
        """Retention deleted something on a disk. Return how many messages are gone."""
        follower = self.followers[number]
        gone = follower.prune(left, floor, allowed)
        self._gone(gone, f"{follower.name} kept it no longer")
        return len(gone)

    def adopts(
        self, number: int, base: Sequence[BaseLog], reachable: Iterable[int], now: Micros
    ) -> None:
        """A node is to take a base. The nodes it can reach do not have what the base covers.

        They may have it since lately, because each of them was asked once, at some moment.
        """
        follower = self.followers[number]
        others = [self.followers[other] for other in reachable]
        heads = {row.log: (follower.disk.get(row.log, NO_HEAD).seq, row.head.seq) for row in base}
        lacking = [Dot(log, seq + 1) for log, (seq, head) in heads.items() if seq < head]
        since = now - ASKED_WITHIN
        if lacking and all(any(other.has_kept(dot, since) for other in others) for dot in lacking):
            raise Violation(f"{follower.name}: took a base for {lacking[0]}, which it could have")

    def adopted(
        self, number: int, floor: int, base: Sequence[BaseLog], history: History, left: set[int]
    ) -> None:
        """A disk took a floor and its base, and has these positions left."""
        follower = self.followers[number]
        gone = follower.adopt(floor, base, history, self.minted)
        if left != {kept.position for kept in follower.kept.values()}:
            raise Violation(f"{follower.name}: took a base, and holds what it should not, or lost")
        self._gone(gone, f"{follower.name} took a base for it")

    def _gone(self, dots: Iterable[Dot], how: str) -> None:
        for dot in dots:
            if not any(dot in follower.kept for follower in self.followers):
                self.let_go[dot] = how

    def crashed(self, number: int) -> None:
        """Nobody will be told any more what became of the open posts."""
        follower = self.followers[number]
        follower.unanswered.clear()
        follower.unshown.clear()

    def demand_rest(self) -> None:
        """After the play everything is shown and answered, and no acknowledged message is lost."""
        for follower in self.followers:
            if follower.unanswered:
                raise Violation(f"{follower.name}: {len(follower.unanswered)} posts unanswered")
            if follower.unshown:
                raise Violation(f"{follower.name}: {follower.unshown[0]} was never shown")
        for dot, number in self.acknowledged.items():
            is_held = any(dot in follower.kept for follower in self.followers)
            if not (is_held or dot in self.lost_with_a_disk or dot in self.let_go):
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
            rises = self.minted[dot].message.stamp < message.stamp
            follower.demand(rises, message, f"has a stamp that is not above that of {dot}")
        self.minted[message.dot] = Minted(number, message, utterance.at, utterance.seen)
