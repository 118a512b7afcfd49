"""One pass over all messages in the order they were appended: what is wrong with them.

Rules. What a message's bytes say is the truth, because each log's hash chain guards them; its row
has to agree. On the way the logs and rooms are built anew that the messages make, for the tables to
be compared with (`fsck`); where messages were pruned, upon the base that is left of them. A message
that cannot be read stands as its row says: what its parent and causes would have told is not held
against others. Memory grows with logs and rooms, not with messages.

A message that is held may be in the base, too: another's, which was taken, reaches further than
what was pruned here. The base's frontier is past it already.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from flc_udp.model.dots import Dot, LogId
from flc_udp.model.drops import Drop
from flc_udp.model.errors import Malformed
from flc_udp.model.history import NO_HEAD, Frontier, advance
from flc_udp.model.message import NO_PARENT, Message, Origin, decode
from flc_udp.store.base_check import Pruned

SELECT_LOGS = "SELECT no, id FROM log"
SELECT_ROOMS = "SELECT no, name FROM room"
SELECT_MESSAGES = """
    SELECT position, log_no, seq, stamp, room_no, encoded FROM message ORDER BY position
"""
SELECT_ONE = """
    SELECT encoded FROM message WHERE log_no = (SELECT no FROM log WHERE id = ?) AND seq = ?
"""

UNREAD = b""
"""Hash and parent of a message that cannot be read; no hash is equal to it."""


class Finding(NamedTuple):
    """What is wrong: which check found it, in words, and of which message, log or room."""

    check: str
    problem: str
    dot: Dot | None = None
    log: LogId | None = None
    room: str | None = None


@dataclass(slots=True)
class WalkedLog:
    """A log as its messages make it; `greatest` is its greatest stamp, should they not rise."""

    seq: int = 0
    hash: bytes = NO_PARENT
    stamp: int = 0
    greatest: int = 0
    origin: Origin | None = None


@dataclass(slots=True)
class WalkedRoom:
    """A room as its messages make it; `is_read` while all of them could be read."""

    messages: int = 0
    stamp: int = 0
    position: int = 0
    clock: dict[LogId, int] = field(default_factory=dict)
    frontier: Frontier = field(default_factory=dict)
    is_read: bool = True


class Walk:
    """The pass; afterwards, the `logs` and `rooms` there are by the messages."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.logs: dict[LogId, WalkedLog] = {}
        self.rooms: dict[str, WalkedRoom] = {}
        self.messages = 0
        self.causes = 0
        ids, names = (connection.execute(sql) for sql in (SELECT_LOGS, SELECT_ROOMS))
        self.log_ids = {no: log for no, log in ids if isinstance(log, bytes)}
        self.room_names = {no: name for no, name in names if isinstance(name, str)}
        self.base = Pruned()
        self._connection = connection
        self._position = 0
        self._gaps_left = 0
        """Positions that may be free still: messages were pruned."""
        self._found: list[Finding] = []

    def findings(self) -> Iterator[Finding]:
        """What is wrong with the base, and with each message, as it is passed over."""
        for problem, log, room in self.base.read(self._connection, self.log_ids, self.room_names):
            yield Finding("floor", problem, log=log, room=room)
        self._begin_from_base()
        for position, *row, encoded in self._connection.execute(SELECT_MESSAGES):
            self.messages += 1
            message = self._read(position, row, encoded)
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
        for log, (seq, digest, stamp) in self.base.heads.items():
            self.logs[log] = WalkedLog(seq, digest, stamp, stamp)
        for name, clock in self.base.clocks.items():
            frontier = self.base.frontiers[name]
            # Nothing comes after the room's greatest stamp, so that is an edge's.
            stamp = max((edge.stamp for edge in frontier.values()), default=0)
            self.rooms[name] = WalkedRoom(stamp=stamp, clock=dict(clock), frontier=dict(frontier))

    def _note(self, check: str, problem: str, message: Message | None) -> None:
        of = (None, None, None) if message is None else (message.dot, message.log, message.room)
        self._found.append(Finding(check, problem, *of))

    def _read(self, position: int, row: Sequence[Any], encoded: object) -> Message | None:
        log_no, seq, stamp, room_no = row
        told = (self.log_ids.get(log_no), seq, stamp, self.room_names.get(room_no))
        try:
            message = decode(_bytes(encoded))
        except Malformed as error:
            stand_in = _stand_in(*told)
            self._note("message", f"at position {position} cannot be read: {error}", stand_in)
            return stand_in
        said = (message.log, message.seq, message.stamp, message.room)
        if told != said:
            problem = difference(("log", "seq", "stamp", "room"), told, said, "its bytes")
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
            log = self.logs.get(dot.log)
            if log is None or log.seq < dot.seq:
                self._note("cause", f"its cause {dot} does not stand before it", message)
            elif self._is_pruned(dot) and not self.base.covers(message.room, *dot):
                self._note("cause", f"its cause {dot} was pruned, of another room", message)
            # Stamps rise along a log, so its greatest mostly is enough, and nothing is looked up.
            elif log.greatest >= message.stamp and self._stamp_of(dot) >= message.stamp:
                self._note("stamp", f"its stamp is not above that of its cause {dot}", message)

    def _is_pruned(self, dot: Dot) -> bool:
        return dot.seq <= self.base.heads.get(dot.log, NO_HEAD).seq

    def _stamp_of(self, dot: Dot) -> int:
        head = self.base.heads.get(dot.log, NO_HEAD)
        if dot.seq == head.seq:
            return head.stamp
        row = self._connection.execute(SELECT_ONE, dot).fetchone()
        try:
            return decode(_bytes(row and row[0])).stamp
        except Malformed:
            return 0  # Pruned; or it cannot be read, which is a finding of its own.

    def _check_log(self, message: Message) -> None:
        log = self.logs.get(message.log)
        if log is None:
            log = self.logs[message.log] = WalkedLog(origin=message.origin)
        seq = message.seq
        if seq <= log.seq:
            return self._note("log", f"stands after {message.log.hex()}:{log.seq}", message)
        if seq > log.seq + 1:
            self._note("log", f"{seq - 1 - log.seq} before it in its log are missing", message)
        elif message.parent != log.hash and UNREAD not in (message.parent, log.hash):
            problem = "its parent is not the hash of the one before: one of the two has changed"
            self._note("chain", problem, message)
        if message.stamp <= log.stamp:
            self._note("stamp", "its stamp is not above that of the one before in its log", message)
        log.seq, log.hash, log.stamp = seq, message.hash, message.stamp
        log.greatest = max(log.greatest, message.stamp)
        return None

    def _pass_over(self, position: int, message: Message) -> None:
        room = self.rooms.get(message.room)
        if room is None:
            room = self.rooms[message.room] = WalkedRoom()
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


def difference(
    names: Sequence[str], told: Sequence[object], said: Sequence[object], by: str = "the messages"
) -> str | None:
    """In which columns a row differs from what follows from the messages; None if in none."""
    wrong = [
        f"{name} {_word(one)}, by {by} {_word(other)}"
        for name, one, other in zip(names, told, said, strict=True)
        if one != other
    ]
    return f"its row has {'; '.join(wrong)}" if wrong else None


def _word(value: object) -> str:
    if value is None:
        return "nothing"
    return value.hex() if isinstance(value, bytes) else repr(value)


def _bytes(value: object) -> bytes:
    if isinstance(value, bytes):
        return value
    raise Malformed(Drop.MESSAGE_NOT_BYTES)


def _stand_in(log: LogId | None, seq: object, stamp: object, room: str | None) -> Message | None:
    """A message of which only the row is known, if that tells enough."""
    if log is None or room is None or not isinstance(seq, int) or not isinstance(stamp, int):
        return None
    return Message(log, seq, room, "", 0, stamp, (), UNREAD, "", None, b"", UNREAD)
