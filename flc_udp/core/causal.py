"""Causal delivery: a block is decided once its predecessor in its log and all its causes are.

Rules. A block that came before these waits in the hold-back, which is bounded, also for each node
that sends. Beyond the bound the blocks with the latest stamps are dropped, and so is what waits for
what nobody has; that costs a later pull and nothing else. Blocks are
decided in an order that respects causality, and none is decided twice. This module does not
know who sent what, or when.

Each waiting block waits for one missing dot at a time. A decision therefore wakes only those that
wait for it, and the work grows with the number of blocks and causes, in whatever order they come.

Two blocks of one log that overlap are a fork. The one that follows the head is decided, whatever
else waits. The other branch is refused. Where it came because it was asked for, how far it goes is
remembered: a cause on it counts as satisfied, so what was said by those who keep that branch is
decided here, too.
"""

from collections import Counter
from enum import Enum
from typing import NamedTuple

from flc_udp.config import BODIES_MAX, CLOCK_STAMP_LIMIT
from flc_udp.model.block import Block, Origin, hash_of
from flc_udp.model.dots import Dot, LogId, NodeId, Spans
from flc_udp.model.errors import Drop
from flc_udp.model.history import NO_HEAD, Frontier, Head, History, advance

DROPPED_SHARE = 8
"""A hold-back that overflows drops an eighth of what it may hold at once. It sorts all blocks for
that, which costs little for each of those that go."""


REFUSED_MAX = 1_024
"""The refused branches of at most this many logs are remembered, and as many refused blocks. Others
are met again."""


class Outcome(Enum):
    """What became of a block that was offered."""

    DECIDED = "decided"
    HELD = "held"
    """It waits for its predecessor or for causes."""
    DUPLICATE = "duplicate"
    FORKED = "forked"
    """It was refused: another block has its dot, or it does not follow the one before it."""


class Arrival(NamedTuple):
    """A block and how it came."""

    block: Block
    teller: NodeId | None = None
    """The node that sent it here. None: it was said here."""
    forward: bool = False
    """Whether it is to be sent on to others."""
    receipt: bool = False
    """Whether its author is to be told when it is durable here."""
    asked: bool = False
    """Whether this node asked for it, of a peer that is to have it. What came by itself is no
    evidence of another branch: anybody can send it."""
    may_wait: bool = True
    """Whether it may wait here for its causes: whoever sent it can be asked for them."""


class Causal:
    """The decided heads and frontiers, and the hold-back."""

    def __init__(
        self, history: History, blocks_max: int, bytes_max: int, drops: Counter[Drop]
    ) -> None:
        self.heads: dict[LogId, Head] = dict(history.heads)
        self.origins: dict[LogId, Origin] = dict(history.origins)
        self.frontiers: dict[str, Frontier] = {r: dict(f) for r, f in history.frontiers.items()}
        self.held: dict[Dot, Arrival] = {}
        """The hold-back, by the first dot of each block."""
        self.held_messages = self.held_bytes = 0
        self._held_from = Counter[NodeId | None]()
        self._held_of: dict[LogId, Spans] = {}
        """The seqs of each log that wait."""
        self._waiting_for: dict[LogId, dict[int, list[Dot]]] = {}
        """{log: {missing seq: the blocks that wait for it}}."""
        self._refused: dict[LogId, int] = {}
        """Of forked logs, up to which seq another branch was refused here."""
        self._branches: dict[bytes, None] = {}
        """The hashes of the last blocks that were refused: what follows one of them is, too."""
        self._begins: dict[LogId, int] = {}
        """Where the head's block begins, of each log that has grown."""
        self._blocks_max = blocks_max
        self._bytes_max = bytes_max
        self._drops = drops

    def head(self, log: LogId) -> Head:
        """The last decided message of a log. It is NO_HEAD where there is none."""
        return self.heads.get(log, NO_HEAD)

    @property
    def is_half_full(self) -> bool:
        """Whether so much waits that nothing more should be asked for that may have to wait."""
        return 2 * len(self.held) > self._blocks_max or 2 * self.held_bytes > self._bytes_max

    def knows(self, dot: Dot) -> bool:
        """Whether the message is decided or waits here, so that another copy brings nothing."""
        if dot.seq <= self.heads.get(dot.log, NO_HEAD).seq:
            return True
        held = self._held_of.get(dot.log)
        return held is not None and dot.seq in held

    def contradicts(self, dot: Dot, encoded: bytes) -> bool:
        """Whether a block with this first dot, which is known, may be another one: it is read then.

        The bytes of a log's head and of waiting blocks are known. A fork further back shows in the
        parent of the next block.
        """
        head = self.head(dot.log)
        if dot.seq > head.seq:
            arrival = self.held.get(dot)
            return arrival is None or arrival.block.encoded != encoded
        begins = self._begins.get(dot.log, head.seq - BODIES_MAX)
        return dot.seq > begins or (dot.seq == begins and hash_of(encoded) != head.hash)

    def _reach(self, log: LogId) -> int:
        """Up to which seq a log can be a cause: what is decided of it, or was refused."""
        head = self.heads.get(log, NO_HEAD).seq
        return max(head, self._refused.get(log, 0))

    def refused(self, log: LogId, seq: int, digest: bytes) -> bool:
        """Whether a log that a member holds up to here is on the branch that was refused.

        If it is another branch, it may be the one that is kept here, and it is asked for.
        """
        if seq > self._refused.get(log, 0):
            return False
        if digest not in self._branches:
            del self._refused[log]
        return digest in self._branches

    def _refuse(self, arrival: Arrival) -> list[Arrival]:
        """A block is on another branch than what is here. Return what waited for that branch."""
        if not arrival.asked:
            return []
        block = arrival.block
        self._note_branch(block)
        ready = self._wake(block) if block.log in self._waiting_for else []
        while following := self.held.get(Dot(block.log, block.last + 1)):
            if following.block.parent != block.hash:
                break
            block = following.block
            self._release(block)
            self._forget_released()
            self._drops[Drop.BROKEN_CHAIN] += 1
            self._note_branch(block)
            ready += self._wake(block) if block.log in self._waiting_for else []
        return ready

    def _note_branch(self, block: Block) -> None:
        self._branches[block.hash] = None
        if len(self._branches) > REFUSED_MAX:
            del self._branches[next(iter(self._branches))]
        if block.last > self._reach(block.log):
            self._refused.pop(block.log, None)
            self._refused[block.log] = block.last
            if len(self._refused) > REFUSED_MAX:
                del self._refused[next(iter(self._refused))]

    def causes_of_next(self, room: str) -> dict[Dot, int]:
        """{dot: stamp} of what a message of a new log would name: the room's frontier.

        What has a stamp that no clock makes is no cause: no stamp would be left above it.
        """
        frontier = self.frontiers.get(room) or {}
        return {
            Dot(at, edge.seq): edge.stamp
            for at, edge in frontier.items()
            if edge.stamp < CLOCK_STAMP_LIMIT - 1
        }

    def offer(self, arrival: Arrival) -> tuple[Outcome, list[Arrival]]:
        """Take a block. Return what became of it, and all that is decided now, in order."""
        block = arrival.block
        head = self.heads.get(block.log, NO_HEAD)
        if block.first <= head.seq:
            begins = self._begins.get(block.log, head.seq)
            if block.last < begins or block.hash == head.hash:
                return Outcome.DUPLICATE, []
        if block.first <= head.seq or not self._branches.keys().isdisjoint(
            (block.hash, block.parent)
        ):
            return Outcome.FORKED, self._decide_all(self._refuse(arrival))
        blocker = self._blocker(block, head)
        if blocker is None:
            decided = self._decide_all([arrival])
            is_taken = bool(decided) and decided[0] is arrival
            return (Outcome.DECIDED if is_taken else Outcome.FORKED), decided
        if block.dot in self.held and self.held[block.dot].block.hash == block.hash:
            return Outcome.DUPLICATE, []
        held = self._held_of.get(block.log)
        if held and held.overlaps(block.first, block.last):
            return Outcome.FORKED, []
        self._hold(arrival, blocker)
        return Outcome.HELD, []

    def missing(self, block: Block) -> list[Dot]:
        """The dots that a waiting block names and that are not decided: they are asked for."""
        head = self.head(block.log).seq
        wants = [Dot(block.log, block.first - 1)] if block.first > head + 1 else []
        wants += [dot for dot in block.causes if self._reach(dot.log) < dot.seq]
        return wants

    def gaps(self, log: LogId, upper: int) -> Spans:
        """Which of `log`'s messages up to `upper` are neither decided nor waiting here."""
        head = self._reach(log)
        if upper <= head:
            return Spans()
        gaps = Spans([(head + 1, upper)])
        held = self._held_of.get(log)
        return gaps.minus(held) if held else gaps

    def _blocker(self, block: Block, head: Head) -> Dot | None:
        """The first dot that is missing for this block. None: it can be decided."""
        if head.seq < block.first - 1:
            return Dot(block.log, block.first - 1)
        if (block.first, block.parent) != (head.seq + 1, head.hash):
            return None  # It is refused, and that need not wait for causes.
        heads = self.heads
        for dot in block.causes:
            if heads.get(dot.log, NO_HEAD).seq < dot.seq and self._reach(dot.log) < dot.seq:
                return dot
        return None

    def _decide_all(self, ready: list[Arrival]) -> list[Arrival]:
        decided = []
        for arrival in ready:  # Each decision may add to it.
            block = arrival.block
            log = block.log
            head = self.heads.get(log, NO_HEAD)
            # This depends on the log alone, so all nodes agree.
            if (block.first, block.parent) != (
                head.seq + 1,
                head.hash,
            ) or block.stamp <= head.stamp:
                self._drops[Drop.BROKEN_CHAIN] += 1
                ready += self._refuse(arrival)
                continue
            # A named tuple's own constructor costs four times as much.
            if log in self._held_of:
                self._refuse_rival(block.dot)
            self.heads[log] = tuple.__new__(Head, (block.last, block.hash, block.stamp))
            self._begins[log] = block.first
            if block.origin is not None:
                self.origins[log] = block.origin
            frontier = self.frontiers.get(block.room)
            if frontier is None:
                frontier = self.frontiers[block.room] = {}
            advance(frontier, block)
            decided.append(arrival)
            if log in self._waiting_for:
                ready += self._wake(block)
        return decided

    def _refuse_rival(self, dot: Dot) -> None:
        """Drop another block that waits for its causes under the name of one that is decided.

        Those that begin inside of the decided block wait for its numbers. They are woken, refused.
        """
        if dot in self.held:
            self._release(self.held[dot].block)
            self._drops[Drop.BROKEN_CHAIN] += 1
            self._forget_released()

    def _wake(self, block: Block) -> list[Arrival]:
        """Those that waited for this block and lack nothing now. The others wait for their next."""
        ready = []
        by_seq = self._waiting_for[block.log]
        for seq in range(block.first, block.last + 1):
            for dot in by_seq.pop(seq, ()):
                arrival = self.held[dot]
                blocker = self._blocker(arrival.block, self.head(dot.log))
                if blocker is None:
                    self._release(arrival.block)
                    ready.append(arrival)
                else:
                    self._wait(dot, blocker)
        if not by_seq:
            del self._waiting_for[block.log]
        return ready

    def _wait(self, dot: Dot, blocker: Dot) -> None:
        self._waiting_for.setdefault(blocker.log, {}).setdefault(blocker.seq, []).append(dot)

    def _hold(self, arrival: Arrival, blocker: Dot) -> None:
        block, teller = arrival.block, arrival.teller
        is_much = not arrival.asked and 4 * self._held_from[teller] >= self._blocks_max
        if is_much or not arrival.may_wait:
            self._drops[Drop.HOLDBACK_OVERFLOW] += 1
            return  # What one node sends leaves room for what others do.
        self._held_from[teller] += 1
        if blocker.log == block.log:
            self._refused.pop(block.log, None)  # It may be on no other branch: what is missing?
        self.held[block.dot] = arrival
        self.held_messages += len(block.bodies)
        self.held_bytes += len(block.encoded)
        self._held_of.setdefault(block.log, Spans()).add(block.first, block.last)
        self._wait(block.dot, blocker)
        if len(self.held) > self._blocks_max or self.held_bytes > self._bytes_max:
            self._drop_latest()

    def give_up(self, log: LogId) -> None:
        """Drop what waits for a log of which nobody has what is missing."""
        for dots in list(self._waiting_for.get(log, {}).values()):
            for dot in dots:
                if dot in self.held:
                    self._release(self.held[dot].block)
                    self._drops[Drop.HOLDBACK_OVERFLOW] += 1
        if self._waiting_for.pop(log, None):
            self._forget_released()

    def _release(self, block: Block) -> None:
        teller = self.held.pop(block.dot).teller
        self._held_from[teller] -= 1
        if not self._held_from[teller]:
            del self._held_from[teller]
        self.held_messages -= len(block.bodies)
        self.held_bytes -= len(block.encoded)
        spans = self._held_of[block.log]
        spans.remove(block.first, block.last)
        if not spans:
            del self._held_of[block.log]

    def _drop_latest(self) -> None:
        """Drop the blocks with the latest stamps. Those that will be decided first stay."""
        by_stamp = sorted((held.block for held in self.held.values()), key=lambda b: b.stamp)
        keep_blocks = self._blocks_max - self._blocks_max // DROPPED_SHARE
        keep_bytes = self._bytes_max - self._bytes_max // DROPPED_SHARE
        while by_stamp and (len(self.held) > keep_blocks or self.held_bytes > keep_bytes):
            self._release(by_stamp.pop())
            self._drops[Drop.HOLDBACK_OVERFLOW] += 1
        self._forget_released()

    def _forget_released(self) -> None:
        """Blocks that were dropped wait for nothing any more."""
        waiting, self._waiting_for = self._waiting_for, {}
        for log, by_seq in waiting.items():
            for seq, dots in by_seq.items():
                for dot in dots:
                    if dot in self.held:
                        self._wait(dot, Dot(log, seq))
