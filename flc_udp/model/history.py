"""What a node remembers of all it has: log heads, origins and the frontier of each room.

This is the whole state a restart needs, and it does not grow with the number of messages. The
store keeps it in the messages' transaction; the core is born from it, and reborn after a failed
commit.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from flc_udp.model.dots import LogId
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


@dataclass(slots=True)
class History:
    """What a log holds, in a few small tables; `frontiers` is {room: frontier}."""

    heads: dict[LogId, Head] = field(default_factory=dict)
    origins: dict[LogId, Origin] = field(default_factory=dict)
    frontiers: dict[str, Frontier] = field(default_factory=dict)


def advance(frontier: Frontier, message: Message) -> None:
    """Move a room's frontier past `message`, whose causes are all held.

    A message covers its causes and its own log's former edge; what else stands is concurrent.
    """
    for log, seq in message.causes:
        edge = frontier.get(log)
        if edge is not None and edge.seq <= seq:
            del frontier[log]
    frontier[message.log] = Edge(message.seq, message.stamp)
