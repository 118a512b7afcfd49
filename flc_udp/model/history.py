"""The history in short: the head and the origin of each log, and the frontier of each room.

A restart needs no more than this, and it does not grow with the number of messages. The store
writes it in the same transaction as the blocks. The core begins with it, and begins with it again
after a failed commit.

Retention deletes the blocks below a *floor*, which is a stamp, and so the beginning of each log.
The *base* stands for what was deleted: the last deleted block of each log, and the clock and the
frontier of each room at the floor. Today's heads and frontiers stay as they are.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from flc_udp.model.block import NO_PARENT, Block, Origin
from flc_udp.model.dots import Dot, LogId
from flc_udp.model.errors import Drop


class Head(NamedTuple):
    """The last block of a log: the number of its last message, its hash and its stamp."""

    seq: int
    hash: bytes
    stamp: int


NO_HEAD = Head(0, NO_PARENT, 0)
"""The head of a log of which nothing is held."""


class Edge(NamedTuple):
    """The number and stamp of a message in a frontier: no other message comes after it so far."""

    seq: int
    stamp: int


Frontier = dict[LogId, Edge]
"""{log: edge} of one room. A log has at most one edge in a room."""


class BaseRoom(NamedTuple):
    """Where a log stood in a room at the floor: its last number there, and its edge's stamp.

    `edge` is None if that message was no edge of the room's frontier.
    """

    room: str
    seq: int
    edge: int | None


class BaseLog(NamedTuple):
    """A log of a base: its last message there, the node that wrote it, and its rooms."""

    log: LogId
    head: Head
    origin: Origin | None
    rooms: tuple[BaseRoom, ...]

    def fault(self) -> Drop | None:
        """Say why no log stands so at a floor."""
        is_beyond = any(room.seq > self.head.seq for room in self.rooms)
        return Drop.BASE_ROOM_NOT_OF_LOG if is_beyond else None


class RottenBlock(NamedTuple):
    """A block that has changed on the disk, by the numbers of its messages."""

    log: LogId
    first: int
    last: int
    proof: bytes
    """The hash that it must have."""
    position: int
    """Where its row stands: the position of its last message."""
    stamp: int
    """What its row says of its stamp."""

    @property
    def dot(self) -> Dot:
        """The name of its first message, which names the block, too."""
        return Dot(self.log, self.first)


class PlacedBlock(NamedTuple):
    """A sound block, and where its row stands or has to: the position of its last message."""

    position: int
    block: Block


@dataclass(slots=True)
class History:
    """What a node holds, in a few small tables; `frontiers` is {room: frontier}.

    Blocks with a stamp of at least `floor` are all kept. If blocks of a log were deleted, `bases`
    has the last one of them. The floor may be another node's, and then blocks below it are held,
    too: what this node itself deleted, and goes on deleting, has stamps below `pruned_below`.
    """

    heads: dict[LogId, Head] = field(default_factory=dict)
    origins: dict[LogId, Origin] = field(default_factory=dict)
    frontiers: dict[str, Frontier] = field(default_factory=dict)
    floor: int = 0
    pruned_below: int = 0
    bases: dict[LogId, Head] = field(default_factory=dict)


def advance(frontier: Frontier, block: Block, moved: dict[LogId, int] | None = None) -> None:
    """Move a room's frontier past a block whose causes are all held.

    Its last message takes the place of its causes and of the former edge of its own log. All other
    edges are concurrent with it, and stay. `moved` notes which edges came or went, as {log: seq}.
    """
    log, seq = block.log, block.last
    for other, cause in block.causes:
        edge = frontier.get(other)
        if edge is not None and edge.seq <= cause:
            del frontier[other]
            if moved is not None:
                moved[other] = edge.seq
    # This is done for each block, and a named tuple's own constructor takes four times as long.
    frontier[log] = tuple.__new__(Edge, (seq, block.stamp))
    if moved is not None:
        moved[log] = seq
