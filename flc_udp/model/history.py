"""What a node remembers of all it has: log heads, origins and the frontier of each room.

This is the whole state a restart needs, and it does not grow with the number of messages. The
store keeps it in the messages' transaction; the core is born from it, and reborn after a failed
commit.

Retention prunes what is below a *floor*, a stamp, and so a prefix of each log. What stays of that
is the *base*: each log's last message in it, each room's clock and frontier over it. Heads and
frontiers as of now do not change by it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from flc_udp.model.dots import LogId
from flc_udp.model.drops import Drop
from flc_udp.model.message import NO_PARENT, Message, Origin


class Head(NamedTuple):
    """The last message of a log: its seq, hash and stamp."""

    seq: int
    hash: bytes
    stamp: int


NO_HEAD = Head(0, NO_PARENT, 0)
"""Head of a log nothing is held of."""


class Edge(NamedTuple):
    """A frontier's entry: the seq and stamp of a message nothing held yet comes after."""

    seq: int
    stamp: int


Frontier = dict[bytes, Edge]
"""{log: edge}: the maximal dots of one room, at most one for each log."""


class BaseRoom(NamedTuple):
    """Where a log stood in a room at the floor: its last seq there, and the stamp if an edge."""

    room: str
    seq: int
    edge: int | None


class BaseLog(NamedTuple):
    """One log of a base: its last message in it, who wrote it, and the rooms it spoke in."""

    log: LogId
    head: Head
    origin: Origin | None
    rooms: tuple[BaseRoom, ...]

    def fault(self) -> Drop | None:
        """Say why no log stands so at a floor."""
        last = self.head.seq
        for room in self.rooms:
            if room.seq > last:
                return Drop.BASE_ROOM_NOT_OF_LOG
        return None


@dataclass(slots=True)
class History:
    """What a log holds, in a few small tables; `frontiers` is {room: frontier}.

    Every message ever held with a stamp of at least `floor` still is; `bases` are the last messages
    that are not, of each log that lost any.
    """

    heads: dict[LogId, Head] = field(default_factory=dict)
    origins: dict[LogId, Origin] = field(default_factory=dict)
    frontiers: dict[str, Frontier] = field(default_factory=dict)
    floor: int = 0
    bases: dict[LogId, Head] = field(default_factory=dict)


def advance(frontier: Frontier, message: Message, moved: dict[LogId, int] | None = None) -> None:
    """Move a room's frontier past `message`, whose causes are all held.

    A message covers its causes and its own log's former edge; what else stands is concurrent. Whose
    edges came or went is noted in `moved`, with their seqs: {log: seq}.
    """
    log, seq = message.log, message.seq
    for other, cause in message.causes:
        edge = frontier.get(other)
        if edge is not None and edge.seq <= cause:
            del frontier[other]
            if moved is not None:
                moved[other] = edge.seq
    # Once a message: a named tuple's own constructor costs four times as much.
    frontier[log] = tuple.__new__(Edge, (seq, message.stamp))
    if moved is not None:
        moved[log] = seq
