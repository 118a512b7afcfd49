"""One pass over all blocks, in the order they were appended: what is wrong with them.

Rules. The bytes of a block are the truth, because the hash chain of its log guards them; its row
has to agree. On the way the logs and rooms are built anew from the blocks, and upon the base if
messages were pruned; `database` compares the tables with these. A block that cannot be read
counts as what its row says. What its parent and causes would have told is not held against others.
Memory grows with logs and rooms, not with messages.

A member may name a cause that is of another room, or whose stamp is not below its own. No node can
refuse that: a node that has pruned the cause cannot see it, and all nodes have to take the same. So
it is counted, and no finding: the bytes are as they were said. So it is with a cause on a branch of
a forked log that was refused here, of which the table of forks tells.

A block that is held may be in the base, too: the base of another node, which was taken, may reach
further than what was pruned here. The base's frontier has moved past such a block already.
"""

import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from flc_udp.config import BODIES_MAX
from flc_udp.model.block import Block, Origin, decode
from flc_udp.model.dots import Dot, LogId
from flc_udp.model.errors import Drop, Malformed
from flc_udp.model.history import NO_HEAD, Frontier, Head, advance
from flc_udp.model.units import EPOCH
from flc_udp.store.fsck.base import FoundBase
from flc_udp.store.fsck.findings import Finding, difference
from flc_udp.store.reader import SELECT_BY_DOT

SELECT_BLOCKS = """
    SELECT block.position, log.id, block.seq, count, block.stamp, room.name, block.hash, encoded
    FROM block LEFT JOIN log ON log.no = log_no AND typeof(log.id) = 'blob'
        LEFT JOIN room ON room.no = room_no AND typeof(room.name) = 'text'
    ORDER BY block.position
"""
SELECT_FORKS = "SELECT log, seq FROM fork WHERE typeof(log) = 'blob' AND typeof(seq) = 'integer'"
COLUMNS = ("log", "seq", "count", "stamp", "room", "hash")

UNREAD = b""
"""The hash and parent of a block that cannot be read. No hash is equal to it."""


@dataclass(slots=True)
class WalkedRoom:
    """A room as its blocks make it. `is_read` says whether all of them could be read."""

    messages: int = 0
    stamp: int = 0
    position: int = 0
    clock: dict[LogId, int] = field(default_factory=dict)
    frontier: Frontier = field(default_factory=dict)
    is_read: bool = True


class Walk:
    """The pass. Afterwards heads, origins and rooms are those that the blocks make."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.base = FoundBase()
        self.heads: dict[LogId, Head] = {}
        self.origins: dict[LogId, Origin] = {}
        self.rooms: defaultdict[str, WalkedRoom] = defaultdict(WalkedRoom)
        self.messages = 0
        self.causes = 0
        self.odd_causes = 0
        """How many of them are of another room, as far as is known, have no lower stamp, or are on
        a branch that was refused."""
        self.waiting = 0
        """How many blocks have no bytes: a repair found them rotten, and other nodes are asked."""
        self._connection = connection
        self._refused: dict[LogId, int] = {}
        """Up to where the other branch of a forked log was refused here."""
        self._greatest: dict[LogId, int] = {}
        """The greatest stamp of each log, which is not its head's if its stamps do not rise."""
        self._position = 0
        self._gaps_left = 0
        """How many positions may still be free, because messages were pruned."""
        self._found: list[Finding] = []

    def findings(self) -> Iterator[Finding]:
        """What is wrong with the base, then with each block."""
        yield from self.base.read(self._connection)
        self._begin_from_base()
        self._refused = dict(self._connection.execute(SELECT_FORKS))
        for position, *told, encoded in self._connection.execute(SELECT_BLOCKS):
            block = self._read(position, told, encoded)
            if block is not None:
                self.messages += len(block.bodies)
                self._check_position(position, block)
                self._check_causes(block)
                self._check_log(block)
                self._pass_over(position, block)
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

    def _note(self, check: str, problem: str, block: Block | None) -> None:
        of = (None, None, None) if block is None else (block.dot, block.log, block.room)
        self._found.append(Finding(check, problem, *of))

    def _read(self, position: int, told: list[Any], encoded: object) -> Block | None:
        try:
            block = decode(_bytes(encoded))
        except Malformed as error:
            stand_in = _stand_in(*told)
            waits = encoded == b"" and stand_in is not None  # So a repair leaves it.
            self.waiting += waits
            why = "other nodes are asked for its bytes" if waits else error
            self._note("message", f"at position {position} cannot be read: {why}", stand_in)
            return stand_in
        said = [block.log, block.last, len(block.bodies), block.stamp, block.room, block.hash]
        if told != said:
            problem = difference(COLUMNS, told, said, "its bytes")
            self._note("message", f"at position {position}: {problem}", block)
            if isinstance(told[-1], bytes):  # Where its bytes have changed, that is not the next's.
                block = block._replace(hash=told[-1])
        return block

    def _check_position(self, position: int, block: Block) -> None:
        first = position - len(block.bodies) + 1
        gap = first - self._position - 1
        if 0 <= gap <= self._gaps_left:
            self._gaps_left -= gap
        else:
            problem = f"stands at position {first}, the one before it is {self._position}"
            if self.base.count:
                problem += f", and {self.base.count} in all were pruned"
            self._note("position", problem, block)
        self._position = position

    def _check_causes(self, block: Block) -> None:
        self.causes += len(block.causes)
        for dot in block.causes:
            if self.heads.get(dot.log, NO_HEAD).seq < dot.seq <= self._refused.get(dot.log, 0):
                self.odd_causes += 1
            elif self.heads.get(dot.log, NO_HEAD).seq < dot.seq:
                self._note("cause", f"its cause {dot} does not stand before it", block)
            elif self._is_odd(block, dot):
                self.odd_causes += 1

    def _is_odd(self, block: Block, cause: Dot) -> bool:
        if self._is_pruned(cause) and not self.base.covers(block.room, *cause):
            return True
        # Stamps rise along a log, so mostly its greatest is enough and nothing is looked up.
        return self._greatest[cause.log] >= block.stamp and self._stamp_of(cause) >= block.stamp

    def _is_pruned(self, dot: Dot) -> bool:
        return dot.seq <= self.base.heads.get(dot.log, NO_HEAD).seq

    def _stamp_of(self, dot: Dot) -> int:
        head = self.base.heads.get(dot.log, NO_HEAD)
        if dot.seq == head.seq:
            return head.stamp
        row = self._connection.execute(SELECT_BY_DOT, dot).fetchone()
        try:
            return 0 if row is None else decode(_bytes(row[1])).stamp
        except Malformed:
            return 0  # That it cannot be read is a finding of its own.

    def _check_log(self, block: Block) -> None:
        log, first = block.log, block.first
        if log not in self.heads and block.origin is not None:
            self.origins[log] = block.origin
        head = self.heads.setdefault(log, NO_HEAD)
        if first <= head.seq:
            self._note("log", f"stands after {log.hex()}:{head.seq}", block)
            return
        if first > head.seq + 1:
            self._note("log", f"{first - 1 - head.seq} before it in its log are missing", block)
        elif block.parent != head.hash and UNREAD not in (block.parent, head.hash):
            problem = "its parent is not the hash of the one before: one of the two has changed"
            self._note("chain", problem, block)
        if block.stamp <= head.stamp:
            self._note("stamp", "its stamp is not above that of the one before in its log", block)
        self.heads[log] = Head(block.last, block.hash, block.stamp)
        self._greatest[log] = max(self._greatest.get(log, 0), block.stamp)

    def _pass_over(self, position: int, block: Block) -> None:
        room = self.rooms[block.room]
        room.messages += len(block.bodies)
        room.position = position
        room.stamp = max(room.stamp, block.stamp)
        if self.base.covers(block.room, block.log, block.last):
            self._check_in_base(block)
            return
        room.clock[block.log] = block.last
        room.is_read &= block.hash != UNREAD
        advance(room.frontier, block)

    def _check_in_base(self, block: Block) -> None:
        if block.stamp >= self.base.floor:
            problem = f"is in the base, but not below the floor {self.base.floor}"
            self._note("floor", problem, block)
        place = (block.room, block.log)
        if self.base.ahead.get(place) == block.last:
            del self.base.ahead[place]
            edge = self.base.frontiers[block.room].get(block.log)
            if edge is not None and edge.stamp != block.stamp:
                self._note("floor", f"is an edge of the base with stamp {edge.stamp}", block)


def _bytes(value: object) -> bytes:
    if isinstance(value, bytes):
        return value
    raise Malformed(Drop.BLOCK_NOT_BYTES)


def _stand_in(
    log: LogId | None, seq: object, count: object, stamp: object, room: str | None, _hash: object
) -> Block | None:
    """A block of which only the row is known, if the row tells enough."""
    if log is None or room is None or not (isinstance(seq, int) and isinstance(stamp, int)):
        return None
    if not isinstance(count, int) or not 1 <= count <= min(seq, BODIES_MAX):
        return None
    first, bodies = seq - count + 1, ("",) * count
    return Block(log, first, seq, room, "", EPOCH, stamp, (), UNREAD, bodies, None, b"", UNREAD)
