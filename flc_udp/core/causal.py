"""Causal delivery: a message is decided once its predecessor in its log and all its causes are.

Rules. A message that came before these waits in the hold-back, which is bounded. Beyond the bound
the messages with the latest stamps are dropped; that costs a later pull and nothing else. Messages
are decided in an order that respects causality, and none is decided twice. This module does not
know who sent what, or when.

Each waiting message waits for one missing dot at a time. A decision therefore wakes only those that
wait for it, and the work grows with the number of messages and causes, in whatever order they come.
"""

from collections import Counter
from enum import Enum
from typing import NamedTuple

from flc_udp.model.dots import Dot, LogId, NodeId, Spans
from flc_udp.model.errors import Drop
from flc_udp.model.history import NO_HEAD, Frontier, Head, History, advance
from flc_udp.model.message import Message, Origin, hash_of

DROPPED_SHARE = 8
"""A hold-back that overflows drops an eighth of what it may hold at once. It sorts all messages for
that, which costs little for each of those that go."""


class Outcome(Enum):
    """What became of a message that was offered."""

    DECIDED = "decided"
    HELD = "held"
    """It waits for its predecessor or for causes."""
    DUPLICATE = "duplicate"
    FORKED = "forked"
    """It was refused: another message has its dot, or it does not follow the one before it."""


class Arrival(NamedTuple):
    """A message and how it came."""

    message: Message
    teller: NodeId | None = None
    """The node that sent it here. None: it was said here."""
    forward: bool = False
    """Whether it is to be sent on to others."""
    receipt: bool = False
    """Whether its author is to be told when it is durable here."""


class Causal:
    """The decided heads and frontiers, and the hold-back."""

    def __init__(
        self, history: History, messages_max: int, bytes_max: int, drops: Counter[Drop]
    ) -> None:
        self.heads: dict[LogId, Head] = dict(history.heads)
        self.origins: dict[LogId, Origin] = dict(history.origins)
        self.frontiers: dict[str, Frontier] = {r: dict(f) for r, f in history.frontiers.items()}
        self.held: dict[Dot, Arrival] = {}
        """The hold-back."""
        self.held_bytes = 0
        self._held_of: dict[LogId, Spans] = {}
        """The seqs of each log that wait."""
        self._waiting_for: dict[Dot, list[Dot]] = {}
        """{missing dot: the messages that wait for it}."""
        self._messages_max = messages_max
        self._bytes_max = bytes_max
        self._drops = drops

    def head(self, log: LogId) -> Head:
        """The last decided message of a log. It is NO_HEAD where there is none."""
        return self.heads.get(log, NO_HEAD)

    @property
    def is_half_full(self) -> bool:
        """Whether so much waits that nothing more should be asked for that may have to wait."""
        return 2 * len(self.held) > self._messages_max or 2 * self.held_bytes > self._bytes_max

    def knows(self, dot: Dot) -> bool:
        """Whether the message is decided or waits here, so that another copy brings nothing."""
        return dot.seq <= self.head(dot.log).seq or dot in self.held

    def contradicts(self, dot: Dot, encoded: bytes) -> bool:
        """Whether the message that is known by this name has other bytes, as far as can be seen.

        The bytes of a log's head and of waiting messages are known. A fork further back shows in
        the parent of the next message.
        """
        arrival = self.held.get(dot)
        if arrival is not None:
            return arrival.message.encoded != encoded
        head = self.head(dot.log)
        return dot.seq == head.seq and hash_of(encoded) != head.hash

    def causes_of_next(self, room: str, log: LogId) -> dict[Dot, int]:
        """{dot: stamp} of the causes that `log` names next: the room's frontier without `log`."""
        frontier = self.frontiers.get(room) or {}
        return {Dot(at, edge.seq): edge.stamp for at, edge in frontier.items() if at != log}

    def offer(self, arrival: Arrival) -> tuple[Outcome, list[Arrival]]:
        """Take a message. Return what became of it, and all that is decided now, in order."""
        message = arrival.message
        head = self.heads.get(message.log, NO_HEAD)
        if message.seq <= head.seq:
            forked = message.seq == head.seq and message.hash != head.hash
            return (Outcome.FORKED if forked else Outcome.DUPLICATE), []
        twin = self.held.get(message.dot) if self.held else None
        if twin is not None:
            same = twin.message.hash == message.hash
            return (Outcome.DUPLICATE if same else Outcome.FORKED), []
        blocker = self._blocker(message)
        if blocker is not None:
            self._hold(arrival, blocker)
            return Outcome.HELD, []
        decided = self._decide(arrival)
        return (Outcome.DECIDED if decided else Outcome.FORKED), decided

    def extend(self, message: Message) -> bool:
        """Decide a message in the plain case: nothing is missing for it, and nothing waits for it.

        `offer` would decide the same at twice the cost, and history comes by the ten thousand.
        False: the case is not plain and nothing was done, so the message is to be offered.
        """
        heads, dot = self.heads, (message.log, message.seq)
        head = heads.get(message.log, NO_HEAD)
        if head.seq != message.seq - 1 or not self._follows(message, head):
            return False
        for log, seq in message.causes:
            if heads.get(log, NO_HEAD).seq < seq:
                return False
        if self.held and (dot in self.held or dot in self._waiting_for):
            return False
        self._advance(message)
        return True

    def missing(self, message: Message) -> list[Dot]:
        """The dots that a waiting message names and that are not decided: they are asked for."""
        head = self.head(message.log).seq
        wants = [Dot(message.log, message.seq - 1)] if message.seq > head + 1 else []
        wants += [dot for dot in message.causes if self.head(dot.log).seq < dot.seq]
        return wants

    def gaps(self, log: LogId, upper: int) -> Spans:
        """Which of `log`'s messages up to `upper` are neither decided nor waiting here."""
        head = self.head(log).seq
        if upper <= head:
            return Spans()
        gaps = Spans([(head + 1, upper)])
        held = self._held_of.get(log)
        return gaps.minus(held) if held else gaps

    def _blocker(self, message: Message) -> Dot | None:
        """The first dot that is missing for this message. None: it can be decided."""
        heads = self.heads
        if heads.get(message.log, NO_HEAD).seq != message.seq - 1:
            return Dot(message.log, message.seq - 1)
        for dot in message.causes:
            if heads.get(dot.log, NO_HEAD).seq < dot.seq:
                return dot
        return None

    def _decide(self, first: Arrival) -> list[Arrival]:
        decided = []
        ready = [first]
        for arrival in ready:  # Each decision may add to it.
            message = arrival.message
            if not self._follows(message, self.heads.get(message.log, NO_HEAD)):
                self._drops[Drop.BROKEN_CHAIN] += 1
                continue
            self._advance(message)
            decided.append(arrival)
            if self._waiting_for:
                ready += self._wake(message.dot)
        return decided

    @staticmethod
    def _follows(message: Message, head: Head) -> bool:
        """Whether a message continues its log. It depends on nothing else, so all nodes agree."""
        return message.parent == head.hash and message.stamp > head.stamp

    def _advance(self, message: Message) -> None:
        # This runs once for each message. A named tuple's own constructor costs four times as much.
        head = tuple.__new__(Head, (message.seq, message.hash, message.stamp))
        self.heads[message.log] = head
        if message.origin is not None:
            self.origins[message.log] = message.origin
        frontier = self.frontiers.get(message.room)
        if frontier is None:
            frontier = self.frontiers[message.room] = {}
        advance(frontier, message)

    def _wake(self, dot: Dot) -> list[Arrival]:
        """Those that waited for `dot` and lack nothing now. The others wait for their next dot."""
        ready = []
        for waiting in self._waiting_for.pop(dot, ()):
            arrival = self.held[waiting]
            blocker = self._blocker(arrival.message)
            if blocker is None:
                self._release(arrival.message)
                ready.append(arrival)
            else:
                self._waiting_for.setdefault(blocker, []).append(waiting)
        return ready

    def _hold(self, arrival: Arrival, blocker: Dot) -> None:
        message = arrival.message
        self.held[message.dot] = arrival
        self.held_bytes += len(message.encoded)
        self._held_of.setdefault(message.log, Spans()).add(message.seq)
        self._waiting_for.setdefault(blocker, []).append(message.dot)
        if len(self.held) > self._messages_max or self.held_bytes > self._bytes_max:
            self._drop_latest()

    def _release(self, message: Message) -> None:
        del self.held[message.dot]
        self.held_bytes -= len(message.encoded)
        spans = self._held_of[message.log]
        spans.remove(message.seq)
        if not spans:
            del self._held_of[message.log]

    def _drop_latest(self) -> None:
        """Drop the messages with the latest stamps. Those that will be decided first stay."""
        by_stamp = sorted((held.message for held in self.held.values()), key=lambda m: m.stamp)
        keep_messages = self._messages_max - self._messages_max // DROPPED_SHARE
        keep_bytes = self._bytes_max - self._bytes_max // DROPPED_SHARE
        while by_stamp and (len(self.held) > keep_messages or self.held_bytes > keep_bytes):
            self._release(by_stamp.pop())
            self._drops[Drop.HOLDBACK_OVERFLOW] += 1
        for blocker, waiting in list(self._waiting_for.items()):
            waiting[:] = [dot for dot in waiting if dot in self.held]
            if not waiting:
                del self._waiting_for[blocker]
