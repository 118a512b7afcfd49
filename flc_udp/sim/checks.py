"""What must hold at every moment, judged only from what can be observed.

The checkers see what was said, what a disk was given, what was answered and what was shown. They
never ask a node what it thinks, and trust no clock, frontier or cause of the code under test. When
an author speaks, they write down what it had been shown, and demand that whoever is shown its
message has been shown that, too. What nodes claim to hold is looked at as it is sent (`claims`).

A log grows without gaps, and after the causes of each message. Messages are deleted only as the
operator allowed, because of their age or for lack of space, the lowest stamps first. A log jumps
only where a base is taken, and to a message that was said.

What is acknowledged is never lost while its disk stands. A disk that is put back to an earlier
state may take acknowledged messages with it, but only those that no other disk holds at that
moment. They may come back all the same, from a datagram under way. Retention, and a base that is
taken, may delete the last copy of a message. That is noted, and excused only below the floors
(`audit`). Everything else is a Violation.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import NamedTuple

from flc_udp.core.standing import log_hash
from flc_udp.model.block import Block, peek_dot
from flc_udp.model.dots import Dot, LogId, NodeId
from flc_udp.model.errors import FlcError, StoreFailed
from flc_udp.model.history import NO_HEAD, BaseLog, Head, History
from flc_udp.model.message import Message
from flc_udp.model.units import MS_US, Micros
from flc_udp.sim.disk import stored
from flc_udp.sim.numbers import Numbers
from flc_udp.sim.violation import Violation
from flc_udp.store.log import Log
from flc_udp.store.retention import SLICE_BYTES_MIN
from flc_udp.waist.ports import Once

Clock = dict[LogId, int]

ASKED_WITHIN = 10_000 * MS_US
"""A node that takes a base has asked every other node for what that has had for this long."""


@dataclass(slots=True)
class Utterance:
    """Something that somebody says, and what became of it."""

    room: str
    body: str | bytes
    at: int
    seen: Clock
    """{log: last seq} that its author had been shown in the room."""
    once: Once | None = None
    """The client that says it, and its number."""
    may_be_passed: bool = False
    """Whether what is said after it may come first."""
    dot: Dot | None = None
    """The message, once it is on its author's disk."""
    is_doubted: bool = False
    """Whether the commit was reported as failed."""
    answer: Dot | FlcError | StoreFailed | None = None
    """What somebody was told: that it is said, or why it is refused."""

    def may_be(self, message: Message) -> bool:
        """Whether this message may be it.

        The first that is open is next, but for what may be said under its number already, or is
        refused and not answered yet, because others are waited for.
        """
        is_same = (self.room, self.body) == (message.room, message.body)
        return self.dot is None and (not self.may_be_passed or is_same)


class Minted(NamedTuple):
    """A message as its author's disk took it, and how it was said."""

    author: int
    message: Message
    block: Block
    utterance: Utterance


class Checks:
    """All followers, and every message that any disk ever took."""

    def __init__(self) -> None:
        self.followers: list[Follower] = []
        self.minted: dict[Dot, Minted] = {}
        self.holders: dict[NodeId, list[Follower]] = {}
        """The nodes that ever had an id."""
        self.acknowledged: set[Dot] = set()
        """Messages of which somebody was told that they are said."""
        self.has_pruned_rotten = False
        """Whether a block was pruned that had changed, so that nobody knows its causes any more."""
        self.let_go: dict[Dot, str] = {}
        """Messages whose last copy was rightly deleted, and how."""

    def add(self, name: str) -> "Follower":
        """Follow one more node."""
        follower = Follower(self, name, len(self.followers))
        self.followers.append(follower)
        return follower

    def named(self, follower: "Follower", node: NodeId) -> None:
        """A node has this id."""
        of_id = self.holders.setdefault(node, [])
        if follower not in of_id:
            of_id.append(follower)

    def demand_held(self, dot: Dot, held_by: Iterable[NodeId]) -> None:
        """Somebody is told that these nodes durably hold a message.

        They do, or did before their disk was put back.
        """
        for node in held_by:
            if not any(follower.has_known(dot) for follower in self.holders[node]):
                raise Violation(f"{dot} is said to be held by {node.hex()}, and is not")

    def note_gone(self, dots: Iterable[Dot], how: str) -> None:
        """A disk does not hold these messages any more, and that is right."""
        for dot in dots:
            if not any(dot in follower.kept for follower in self.followers):
                self.let_go[dot] = how

    def demand_rest(self) -> None:
        """After the play everything is shown and answered, and no acknowledged message is lost."""
        for follower in self.followers:
            follower.demand_rest()
        for dot in self.minted:
            is_held = any(dot in follower.kept for follower in self.followers)
            if dot in self.acknowledged and not is_held and dot not in self.let_go:
                raise Violation(f"{dot} acknowledged and lost")


class Follower:
    """What was written to one node's disk, what is left of it, and what the node showed."""

    def __init__(self, checks: Checks, name: str, number: int) -> None:
        self._heads: dict[LogId, Head] = {}
        """Every message up to the head of its log is kept, was deleted, or is covered by a base."""
        self.roots = {0}
        """Of all that the disk has held since the node started: what it may claim to hold."""
        self._root = 0
        self._lost: Clock = {}
        """{log: last seq} of what was known before the disk was put back."""
        self.kept: dict[Dot, int] = {}
        """{dot: position} of what the disk holds."""
        self.position = 0
        self._checks = checks
        self.name = name
        self._number = number
        self._minted = checks.minted
        self._floor = self._pruned_below = 0
        self.arrived: dict[Dot, int] = {}
        """The first time, where a disk was put back in between."""
        self._sound_since: dict[Dot, float] = {}
        """When blocks that had changed on the disk were healed; until then never. By their last
        messages."""
        self._unshown: deque[tuple[int, Dot]] = deque()
        self._shown: Clock = {}
        self._rooms: dict[str, Clock] = {}
        self._unanswered: list[Utterance] = []
        self._latest: dict[Once | None, Utterance] = {}
        """Who said a number last."""
        self._numbers = Numbers(name)

    # --- What is said -----------------------------------------------------------------------------

    def utters(
        self,
        room: str,
        body: str | bytes,
        at: int,
        once: Once | None = None,
        *,
        may_be_passed: bool = False,
    ) -> Utterance:
        """Somebody speaks, who has seen what this node has shown."""
        seen = dict(self._rooms.get(room, {}))
        utterance = Utterance(room, body, at, seen, once, may_be_passed=may_be_passed)
        self._unanswered.append(utterance)
        if once is not None:
            self._latest[once] = utterance
        return utterance

    def answered(self, utterance: Utterance, answer: Dot | FlcError | StoreFailed) -> None:
        """Somebody was told what became of it. It is told once, and after it is durable.

        What is repeated under a number has the dot under which it was said.
        """
        self._demand(utterance.answer is None, f"{utterance.body!r} was answered twice")
        utterance.answer = answer
        self._unanswered = [other for other in self._unanswered if other is not utterance]
        if not isinstance(answer, Dot):
            # Whoever repeats a number before its answer may be told only later that it was refused.
            is_repeated = self._latest.get(utterance.once, utterance) is not utterance
            is_refused = utterance.dot is None or utterance.is_doubted or is_repeated
            self._demand(is_refused, "refused and on its disk", utterance.dot)
            self._numbers.refused(utterance.once, answer)
            return
        known = self._numbers.dot(utterance.once) or utterance.dot
        self._demand(known == answer, "acknowledged and not on its disk", answer)
        same = self._minted[answer].utterance.body == utterance.body
        self._demand(same, "acknowledged, and is another message", answer)
        self._checks.acknowledged.add(answer)

    def demand_rest(self) -> None:
        """Nobody waits for an answer, and everything that was written is shown."""
        self._demand(not self._unanswered, f"{len(self._unanswered)} posts unanswered")
        due = next(iter(self._unshown), None)
        self._demand(due is None, f"{due} was never shown")

    # --- What is written --------------------------------------------------------------------------

    def wrote(self, position: int, blocks: Sequence[Block], arrived: int) -> None:
        """A transaction is on the disk. The first disk that has a block is that of its author."""
        for block in blocks:
            for message in block.messages():
                if message.dot not in self._minted:
                    self._mint(message, block)
                minted = self._minted[message.dot].block
                self._demand(minted.encoded == block.encoded, "has two contents", message.dot)
                self.arrived.setdefault(message.dot, arrived)
                self._unshown.append((position, message.dot))
                position += 1
            self._write(position - len(block.bodies), block)

    def _mint(self, message: Message, block: Block) -> None:
        dot = message.dot
        utterance = next((said for said in self._unanswered if said.may_be(message)), None)
        if utterance is None or (utterance.room, utterance.body) != (message.room, message.body):
            raise Violation(f"{self.name}: {dot} came from a node that has not committed it")
        utterance.dot = dot
        self._numbers.said(utterance.once, dot)
        for past in [*message.causes, *([Dot(message.log, message.seq - 1)][: message.seq - 1])]:
            before = self._minted[past]
            rises = before.block is block or before.message.stamp < message.stamp
            self._demand(rises, f"has a stamp that is not above that of {past}", dot)
        self._minted[dot] = Minted(self._number, message, block, utterance)

    def _write(self, position: int, block: Block) -> None:
        """A block is next in its log, after its causes, its messages at the next positions."""
        dot, head = block.dot, self._heads.get(block.log, NO_HEAD)
        self._demand(block.first == head.seq + 1, "written with a gap in its log", dot)
        self._demand(block.parent == head.hash, "written on another parent", dot)
        self._demand(all(map(self.knows, block.causes)), "written before its causes", dot)
        self._demand(position == self.position + 1, f"written at position {position}", dot)
        self._move_head(block.log, Head(block.last, block.hash, block.stamp))
        for message in block.messages():
            self.position += 1
            self.kept[message.dot] = self.position

    def found(self, blocks: Sequence[Block], arrived: int) -> None:
        """A commit that was reported as failed is on the disk. Its posts may be refused."""
        first_position = self.position + 1
        self.wrote(first_position, blocks, arrived)
        messages = [message for block in blocks for message in block.messages()]
        self.showed(first_position, messages)
        dots = {message.dot for message in messages}
        for utterance in self._unanswered:
            utterance.is_doubted = utterance.dot in dots

    def showed(self, first_position: int, messages: Sequence[Message]) -> None:
        """The node showed these messages: all that was written, in the same order."""
        for position, message in enumerate(messages, first_position):
            due = self._unshown.popleft() if self._unshown else None
            is_due = due == (position, message.dot)
            self._demand(is_due, f"shown, and due was {due}", message.dot)
            self._show(message)

    def _show(self, message: Message) -> None:
        """A follower sees a message, and has seen before everything that its author had seen."""
        dot, before = message.dot, self._shown.get(message.log, 0)
        self._demand(message.seq == before + 1, f"shown after {before} of its log", dot)
        for log, seq in message.causes:
            self._demand(self._shown.get(log, 0) >= seq, "shown before a cause of it", dot)
        for log, seq in self._minted[dot].utterance.seen.items():
            if self._shown.get(log, 0) < seq:
                problem = f"shown before {Dot(log, seq)}, which its author had been shown"
                raise Violation(f"{self.name}: {dot} {problem}")
        self._shown[message.log] = message.seq
        self._rooms.setdefault(message.room, {})[message.log] = message.seq

    def _move_head(self, log: LogId, head: Head) -> None:
        before = self._heads.get(log)
        self._root ^= log_hash(log, head) ^ (0 if before is None else log_hash(log, before))
        self.roots.add(self._root)
        self._heads[log] = head

    def has_known(self, dot: Dot) -> bool:
        """Whether the disk has the message, or had it before it was put back."""
        return self.knows(dot) or self._lost.get(dot.log, 0) >= dot.seq

    def knows(self, dot: Dot) -> bool:
        """Whether the disk has the message, or a base that covers it."""
        return self._heads.get(dot.log, NO_HEAD).seq >= dot.seq

    def _demand(self, holds: bool, problem: str, dot: Dot | None = None) -> None:
        """Raise Violation unless it holds, of this node or of one message."""
        if not holds:
            raise Violation(f"{self.name}: {problem if dot is None else f'{dot} {problem}'}")

    # --- What is deleted --------------------------------------------------------------------------

    def pruned(self, left: set[int], floor: int, before: int | None, excess: int) -> int:
        """The disk has these positions left, and this floor. Return how many messages are gone.

        It was allowed to delete what arrived before a moment, in virtual µs, and `excess` bytes or
        a slice.
        """
        dots = [dot for dot, position in self.kept.items() if position not in left]
        for dot in dots:
            del self.kept[dot]
            self._checks.has_pruned_rotten |= self._sound_since.get(dot, 0) == inf
        count = len(self.kept)
        self._demand(len(left) == count, f"{len(left)} messages are left, not {count}")
        gone = [self._minted[dot].message for dot in dots]
        above = max((message.stamp + 1 for message in gone), default=0)
        is_above = floor == max(self._floor, above)
        self._demand(is_above, f"{floor} is not the floor above what is pruned")
        is_first = all(self._minted[dot].message.stamp >= above for dot in self.kept)
        self._demand(is_first, "what is older than what is pruned is left")
        self._demand_allowed(gone, before, excess)
        self._floor = floor
        self._pruned_below = max(self._pruned_below, above)
        self._checks.note_gone(dots, f"{self.name} kept it no longer")
        return len(gone)

    def _demand_allowed(self, gone: list[Message], before: int | None, excess: int) -> None:
        size, last = 0, max((message.stamp for message in gone), default=0)
        for message in gone:
            is_old = before is not None and self.arrived[message.dot] < before
            if is_old or message.stamp < self._pruned_below:
                continue
            self._demand(excess > 0, "pruned too early", message.dot)
            block = self._minted[message.dot].block
            is_first = block.dot == message.dot
            size += len(block.encoded) if is_first and message.stamp < last else 0
        is_allowed = size < max(excess, SLICE_BYTES_MIN)
        self._demand(is_allowed, f"{size} bytes pruned, {excess} were too much")

    # --- Bases ------------------------------------------------------------------------------------

    def adopts(self, base: Sequence[BaseLog], reachable: Iterable[int], now: Micros) -> None:
        """The node is to take a base. The nodes it can reach do not have what the base covers.

        They may have it since lately, because each of them was asked once, at some moment.
        """
        others = [self._checks.followers[other] for other in reachable]
        heads = {row.log: (self._heads.get(row.log, NO_HEAD).seq, row.head.seq) for row in base}
        lacking = [Dot(log, seq + 1) for log, (seq, head) in heads.items() if seq < head]
        since = now - ASKED_WITHIN
        if lacking and all(any(other.has_kept(dot, since) for other in others) for dot in lacking):
            raise Violation(f"{self.name}: took a base for {lacking[0]}, which it could have")

    def aged(self, by_us: int) -> None:
        """What arrived until now is older by so much, as far as the node can know."""
        for dot in self.arrived:
            self.arrived[dot] -= by_us

    def outlasted(self, age_us: int, stamp_limit: int, now: Micros) -> None:
        """Nothing arrives any more, and nothing that is as old as this may be left below a stamp.

        What is above it is far ahead of the clock, and so is all that comes after it in its log.
        """
        young = now - age_us
        old = next(
            (
                dot
                for dot in self.kept
                if self.arrived[dot] < young and self._minted[dot].message.stamp < stamp_limit
            ),
            None,
        )
        self._demand(old is None, "is kept for longer than it should be", old)

    def has_kept(self, dot: Dot, since: int) -> bool:
        """Whether the disk has the message, and had it at that moment, as it was said."""
        block = self._minted[dot].block
        sound_since = self._sound_since.get(Dot(block.log, block.last), 0)
        return dot in self.kept and self.arrived[dot] <= since >= sound_since

    def adopted(
        self, floor: int, base: Sequence[BaseLog], history: History, left: set[int]
    ) -> None:
        """The disk took a base, holds this history, and has these positions left.

        Logs that it was behind in jump, and what it held of them is gone.
        """
        heads = {row.log: row.head for row in base}
        is_below = all(head.stamp < floor for head in heads.values())
        self._demand(is_below, "took a base that is not below its floor")
        skipped = self._skip(heads)
        self._demand_closed(skipped)
        logs = {message.log for message in skipped}
        gone = [dot for dot in self.kept if dot.log in logs]
        for dot in gone:
            del self.kept[dot]
        self._floor = max(self._floor, floor)
        is_joined = (history.heads, history.floor) == (self._heads, self._floor)
        self._demand(is_joined, "its heads are not those of what it has and of the base")
        holds = left == set(self.kept.values())
        self._demand(holds, "took a base, and holds what it should not, or lost")
        self._checks.note_gone(gone, f"{self.name} took a base for it")

    def _skip(self, heads: Mapping[LogId, Head]) -> list[Message]:
        """A base covers everything up to these heads. Return the messages that it stands for."""
        skipped: list[Message] = []
        for log, head in heads.items():
            before = self._heads.get(log, NO_HEAD).seq
            if head.seq <= before:
                continue
            dots = (Dot(log, seq) for seq in range(before + 1, head.seq + 1))
            skipped += (self._minted[dot].message for dot in dots)
            block = self._minted[skipped[-1].dot].block
            is_said = Head(block.last, block.hash, block.stamp) == head
            self._demand(is_said, "is another in a base", skipped[-1].dot)
            self._move_head(log, head)
            self._shown[log] = head.seq
        for message in skipped:
            self._rooms.setdefault(message.room, {})[message.log] = message.seq
        return skipped

    def _demand_closed(self, skipped: Iterable[Message]) -> None:
        """The causes of what a base covers are covered by it, too, or held."""
        for message in skipped:
            is_closed = all(map(self.knows, message.causes))
            self._demand(is_closed, "is in a base without its causes", message.dot)

    # --- Bits that flip ---------------------------------------------------------------------------

    def rotted(self, blocks: Iterable[Dot]) -> None:
        """These blocks, by their last messages, are not any more what was written."""
        self._sound_since.update(dict.fromkeys(blocks, inf))

    def healed(self, blocks: Iterable[Dot], now: Micros) -> None:
        """These were written anew."""
        self._sound_since.update(dict.fromkeys(blocks, now))

    def read(self, encoded: bytes) -> None:
        """Somebody was shown a block from the disk."""
        dot = peek_dot(encoded)
        minted = None if dot is None else self._minted.get(dot)
        is_same = minted is not None and minted.block.encoded == encoded
        self._demand(is_same, "is shown, and has changed on the disk", dot)

    # --- What becomes of the node and its disk ----------------------------------------------------

    def crashed(self) -> None:
        """Nobody will be told any more what became of the open posts."""
        self._unanswered.clear()
        self._unshown.clear()

    def copied(self, other: "Follower") -> None:
        """The disk is a copy of another one: what is on it arrived when it did there."""
        self.arrived = dict(other.arrived)

    def started(self, log: Log) -> None:
        """A node started from this disk, which must be as it was left."""
        expected = self._heads, self.kept, self._floor, self.position
        self._reread(log)
        is_as_left = (self._heads, self.kept, self._floor, self.position) == expected
        self._demand(is_as_left, "its disk is not as it was left")

    def put_back(self, log: Log) -> None:
        """The disk is as it was earlier. Excuse what it lost, if no other disk holds it."""
        kept, heads = self.kept, self._heads
        self._reread(log)
        for log_id, head in heads.items():
            self._lost[log_id] = max(head.seq, self._lost.get(log_id, 0))
        self._numbers.put_back(self.knows)
        how = f"its last copy went when the disk of {self.name} was put back"
        self._checks.note_gone(kept, how)

    def _reread(self, log: Log) -> None:
        """Be as this disk. A follower reads from the beginning, which may be a base."""
        history, reader = log.load(), log.reader()
        self._heads, self.kept, self._shown, self._rooms = {}, {}, {}, {}
        self._root = 0
        self._unshown.clear()
        self._floor, self._pruned_below = history.floor, history.pruned_below
        skipped = self._skip(history.bases)
        last = 0
        for dot, end, encoded in stored(log.connection):
            self._demand(dot in self._minted, "is on its disk, and nobody said it", dot)
            block = self._minted[dot].block
            if encoded != block.encoded:
                self.rotted([dot])
            position = end - len(block.bodies) + 1
            problem = f"stands at position {position} after {last}"
            self._demand(position > last, problem, block.dot)
            self.position = position - 1
            self._write(position, block)
            last = self.position
            for message in block.messages():
                self._show(message)
        self._demand_closed(skipped)
        self.position = reader.last_position()
        is_whole = history.heads == self._heads
        self._demand(is_whole, "its heads are not those of its base and messages")
        self.roots = {self._root}
