"""What the core tells people: changes of members, refutations, clones, forks and lost history."""

from flc_udp.model.address import Address
from flc_udp.model.dots import Dot, NodeId
from flc_udp.model.notices import Level, Notice
from flc_udp.wire.rows import State


class MemberChanged(Notice):
    """The state of another member is a new one. This class is the base of the four that follow."""

    id: NodeId
    member: str
    """The member's name."""
    address: Address


class MemberAlive(MemberChanged):
    """A member joined, came back, or refuted a suspicion."""


class MemberSuspected(MemberChanged, level=Level.WARNING):
    """A member did not answer its probes in time."""

    accuser: str | None = None
    """Name of the member whose probes failed, where this node knows it."""


class MemberDied(MemberChanged, level=Level.WARNING):
    """A suspect did not refute in time."""


class MemberLeft(MemberChanged):
    """A member left in order, or an operator forgot it."""


MEMBER_NOTICES: dict[State, type[MemberChanged]] = {
    State.ALIVE: MemberAlive,
    State.SUSPECT: MemberSuspected,
    State.DEAD: MemberDied,
    State.LEFT: MemberLeft,
}
"""The notice that tells of each state."""


class Refuted(Notice, level=Level.WARNING):
    """Others said something wrong about this node, and it contradicted them."""

    claim: str
    """The state they said this node was in."""
    incarnation: int
    """The incarnation at which this node contradicted them."""


class CloneMet(Notice, level=Level.WARNING):
    """Another process runs under this node's id."""

    id: NodeId
    address: Address
    """Where the other process is."""
    keeps_id: bool
    """Whether this node keeps the id. The other one takes a new id then."""


class LogForked(Notice, level=Level.ERROR):
    """Two messages have one name: a disk or a machine was copied, or it broke."""

    dot: Dot


class HistoryTruncated(Notice):
    """No member keeps some old messages any more, so this node starts above their floor."""

    floor: int
    """The stamp from which this node has everything."""
    member: NodeId
    """The member whose base this node takes."""


class BlockRotten(Notice, level=Level.ERROR):
    """A block has changed on this node's disk. It is fetched anew from others."""

    dot: Dot
    """Its first message."""
    last: int
    """The number of its last message."""
