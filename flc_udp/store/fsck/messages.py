"""One pass over all messages, in the order they were appended: what is wrong with them.

Rules. The bytes of a message are the truth, because the hash chain of its log guards them; its row
has to agree. On the way the logs and rooms are built anew from the messages, and upon the base if
messages were pruned; `database` compares the tables with these. A message that cannot be read
counts as what its row says. What its parent and causes would have told is not held against others.
Memory grows with logs and rooms, not with messages.

A message that is held may be in the base, too: the base of another node, which was taken, may reach
further than what was pruned here. The base's frontier has moved past such a message already.
"""

import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from flc_udp.model.dots import Dot, LogId
from flc_udp.model.errors import Drop, Malformed
from flc_udp.model.history import NO_HEAD, Frontier, Head, advance
from flc_udp.model.message import Message, Origin, decode
from flc_udp.model.units import EPOCH
from flc_udp.store.fsck.base import FoundBase
from flc_udp.store.fsck.findings import Finding, difference
from flc_udp.store.reader import SELECT_ENCODED

SELECT_MESSAGES = """
    SELECT message.position, log.id, message.seq, message.stamp, room.name, encoded
    FROM message LEFT JOIN log ON log.no = log_no AND typeof(log.id) = 'blob'
        LEFT JOIN room ON room.no = room_no AND typeof(room.name) = 'text'
    ORDER BY message.position
"""
COLUMNS = ("log", "seq", "stamp", "room")

UNREAD = b""
"""The hash and parent of a message that cannot be read. No hash is equal to it."""


@dataclass(slots=True)
class WalkedRoom:
    """A room as its messages make it. `is_read` says whether all of them could be read."""

    messages: int = 0
    stamp: int = 0
    position: int = 0
    clock: dict[LogId, int] = field(default_factory=dict)
    frontier: Frontier = field(default_factory=dict)
    is_read: bool = True


class Walk:
    """The pass. Afterwards heads, origins and rooms are those that the messages make."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.base = FoundBase()
        self.heads: dict[LogId, Head] = {}
        self.origins: dict[LogId, Origin] = {}
        self.rooms: defaultdict[str, WalkedRoom] = defaultdict(WalkedRoom)
        self.messages = 0
        self.causes = 0
        self._connection = connection
        self._greatest: dict[LogId, int] = {}
        """The greatest stamp of each log, which is not its head's if its stamps do not rise."""
        self._position = 0
        self._gaps_left = 0
        """How many positions may still be free, because messages were pruned."""
        self._found: list[Finding] = []

    def findings(self) -> Iterator[Finding]:
        """What is wrong with the base, then with each message."""
        yield from self.base.read(self._connection)
        self._begin_from_base()
        for position, *told, encoded in self._connection.execute(SELECT_MESSAGES):
            self.messages += 1
            message = self._read(position, told, encoded)
            if message is not None:
                self._check_position(position, message)
                self._check_causes(message)
                self._check_log(message)
                self._pass_over(position, message)
            if self._found:
                yield from self._found
                self._found.clear()
        for (room, log), seq in self.base.ahead.items():
            problem = f"the base goes to {seq} in the room, which is neither pruned nor held"
            yield Finding("floor", problem, log=log, room=room)

    def _begin_from_base(self) -> None:
        self._gaps_left = self.base.count
        self.heads = dict(self.base.heads)
        self._greatest = {log: head.stamp for log, head in self.heads.items()}
        for name, clock in self.base.clocks.items():
            frontier = self.base.frontiers[name]
            # Nothing comes after the room's greatest stamp, so it is an edge's.
            stamp = max((edge.stamp for edge in frontier.values()), default=0)
            self.rooms[name] = WalkedRoom(stamp=stamp, clock=dict(clock), frontier=dict(frontier))

    def _note(self, check: str, problem: str, message: Message | None) -> None:
        of = (None, None, None) if message is None else (message.dot, message.log, message.room)
        self._found.append(Finding(check, problem, *of))

    def _read(self, position: int, told: list[Any], encoded: object) -> Message | None:
        try:
            message = decode(_bytes(encoded))
        except Malformed as error:
            stand_in = _stand_in(*told)
            self._note("message", f"at position {position} cannot be read: {error}", stand_in)
            return stand_in
        said = [message.log, message.seq, message.stamp, message.room]
        if told != said:
            problem = difference(COLUMNS, told, said, "its bytes")
            self._note("message", f"at position {position}: {problem}", message)
        return message

    def _check_position(self, position: int, message: Message) -> None:
        gap = position - self._position - 1
        if 0 <= gap <= self._gaps_left:
            self._gaps_left -= gap
        else:
            problem = f"stands at position {position}, the one before it is {self._position}"
            if self.base.count:
                problem += f", and {self.base.count} in all were pruned"
            self._note("position", problem, message)
        self._position = position

    def _check_causes(self, message: Message) -> None:
        self.causes += len(message.causes)
        for dot in message.causes:
            if self.heads.get(dot.log, NO_HEAD).seq < dot.seq:
                self._note("cause", f"its cause {dot} does not stand before it", message)
            elif self._is_pruned(dot) and not self.base.covers(message.room, *dot):
                self._note("cause", f"its cause {dot} was pruned, of another room", message)
            # Stamps rise along a log, so mostly its greatest is enough and nothing is looked up.
            elif self._greatest[dot.log] >= message.stamp and self._stamp_of(dot) >= message.stamp:
                self._note("stamp", f"its stamp is not above that of its cause {dot}", message)

    def _is_pruned(self, dot: Dot) -> bool:
        return dot.seq <= self.base.heads.get(dot.log, NO_HEAD).seq

    def _stamp_of(self, dot: Dot) -> int:
        head = self.base.heads.get(dot.log, NO_HEAD)
        if dot.seq == head.seq:
            return head.stamp
        row = self._connection.execute(SELECT_ENCODED, dot).fetchone()
        try:
            return decode(_bytes(row and row[0])).stamp
        except Malformed:
            return 0  # It was pruned, or it cannot be read, which is a finding of its own.

    def _check_log(self, message: Message) -> None:
        log, seq = message.log, message.seq
        if log not in self.heads and message.origin is not None:
            self.origins[log] = message.origin
        head = self.heads.setdefault(log, NO_HEAD)
        if seq <= head.seq:
            self._note("log", f"stands after {log.hex()}:{head.seq}", message)
            return
        if seq > head.seq + 1:
            self._note("log", f"{seq - 1 - head.seq} before it in its log are missing", message)
        elif message.parent != head.hash and UNREAD not in (message.parent, head.hash):
            problem = "its parent is not the hash of the one before: one of the two has changed"
            self._note("chain", problem, message)
        if message.stamp <= head.stamp:
            self._note("stamp", "its stamp is not above that of the one before in its log", message)
        self.heads[log] = Head(seq, message.hash, message.stamp)
        self._greatest[log] = max(self._greatest.get(log, 0), message.stamp)

    def _pass_over(self, position: int, message: Message) -> None:
        room = self.rooms[message.room]
        room.messages += 1
        room.position = position
        room.stamp = max(room.stamp, message.stamp)
        if self.base.covers(message.room, message.log, message.seq):
            self._check_in_base(message)
            return
        room.clock[message.log] = message.seq
        room.is_read &= message.hash != UNREAD
        advance(room.frontier, message)

    def _check_in_base(self, message: Message) -> None:
        if message.stamp >= self.base.floor:
            problem = f"is in the base, but not below the floor {self.base.floor}"
            self._note("floor", problem, message)
        place = (message.room, message.log)
        if self.base.ahead.get(place) == message.seq:
            del self.base.ahead[place]
            edge = self.base.frontiers[message.room].get(message.log)
            if edge is not None and edge.stamp != message.stamp:
                self._note("floor", f"is an edge of the base with stamp {edge.stamp}", message)


def _bytes(value: object) -> bytes:
    if isinstance(value, bytes):
        return value
    raise Malformed(Drop.MESSAGE_NOT_BYTES)


def _stand_in(log: LogId | None, seq: object, stamp: object, room: str | None) -> Message | None:
    """A message of which only the row is known, if the row tells enough."""
    if log is None or room is None or not isinstance(seq, int) or not isinstance(stamp, int):
        return None
    return Message(log, seq, room, "", EPOCH, stamp, (), UNREAD, "", None, b"", UNREAD)
