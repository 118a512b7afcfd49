"""One pass over all messages in the order they were appended: what is wrong with them.

Rules. What a message's bytes say is the truth, because each log's hash chain guards them; its row
has to agree. On the way the logs and rooms are built anew that the messages make, for the tables to
be compared with (`fsck`). A message that cannot be read stands as its row says: what its parent and
causes would have told is not held against others. Memory grows with logs and rooms, not with
messages.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from flc_udp.model.dots import Dot, LogId
from flc_udp.model.errors import Malformed
from flc_udp.model.history import Frontier, advance
from flc_udp.model.message import NO_PARENT, Message, Origin, decode

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
        self._connection = connection
        self._position = 0
        self._found: list[Finding] = []

    def findings(self) -> Iterator[Finding]:
        """What is wrong with each message, as it is passed over."""
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
        # Without gaps, as long as there is no floor below which messages are pruned.
        if position != self._position + 1:
            problem = f"stands at position {position}, the one before it is {self._position}"
            self._note("position", problem, message)
        self._position = position

    def _check_causes(self, message: Message) -> None:
        self.causes += len(message.causes)
        for dot in message.causes:
            log = self.logs.get(dot.log)
            if log is None or log.seq < dot.seq:
                self._note("cause", f"its cause {dot} does not stand before it", message)
            # Stamps rise along a log, so its greatest mostly is enough, and nothing is looked up.
            elif log.greatest >= message.stamp and self._stamp_of(dot) >= message.stamp:
                self._note("stamp", f"its stamp is not above that of its cause {dot}", message)

    def _stamp_of(self, dot: Dot) -> int:
        row = self._connection.execute(SELECT_ONE, dot).fetchone()
        try:
            return decode(_bytes(row and row[0])).stamp
        except Malformed:
            return 0  # It cannot be read, which is a finding of its own.

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
        room.clock[message.log] = message.seq
        room.is_read &= message.hash != UNREAD
        advance(room.frontier, message)


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
    raise Malformed("message is not bytes")


def _stand_in(log: LogId | None, seq: object, stamp: object, room: str | None) -> Message | None:
    """A message of which only the row is known, if that tells enough."""
    if log is None or room is None or not isinstance(seq, int) or not isinstance(stamp, int):
        return None
    return Message(log, seq, room, "", 0, stamp, (), UNREAD, "", None, b"", UNREAD)
