"""What the core tells people: changes of members, refutations, clones, forks and lost history."""

from dataclasses import dataclass
from typing import ClassVar

from flc_udp.model.address import Address
from flc_udp.model.dots import Dot, NodeId
from flc_udp.model.notices import Level, Notice, WarningNotice
from flc_udp.wire.rows import State


@dataclass(frozen=True, slots=True)
class MemberChanged(Notice):
    """The state of another member is a new one. This class is the base of the four that follow."""

    id: NodeId
    member: str
    """The member's name."""
    address: Address


@dataclass(frozen=True, slots=True)
class MemberAlive(MemberChanged):
    """A member joined, came back, or refuted a suspicion."""


@dataclass(frozen=True, slots=True)
class MemberSuspected(MemberChanged):
    """A member did not answer its probes in time."""

    level: ClassVar[Level] = Level.WARNING
    accuser: str | None = None
    """Name of the member whose probes failed, where this node knows it."""


@dataclass(frozen=True, slots=True)
class MemberDied(MemberChanged):
    """A suspect did not refute in time."""

    level: ClassVar[Level] = Level.WARNING


@dataclass(frozen=True, slots=True)
class MemberLeft(MemberChanged):
    """A member left in order, or an operator forgot it."""


MEMBER_NOTICES: dict[State, type[MemberChanged]] = {
    State.ALIVE: MemberAlive,
    State.SUSPECT: MemberSuspected,
    State.DEAD: MemberDied,
    State.LEFT: MemberLeft,
}
"""The notice that tells of each state."""


@dataclass(frozen=True, slots=True)
class Refuted(WarningNotice):
    """Others said something wrong about this node, and it contradicted them."""

    claim: str
    """The state they said this node was in."""
    incarnation: int
    """The incarnation at which this node contradicted them."""


@dataclass(frozen=True, slots=True)
class CloneMet(WarningNotice):
    """Another process runs under this node's id."""

    id: NodeId
    address: Address
    """Where the other process is."""
    keeps_id: bool
    """Whether this node keeps the id. The other one takes a new id then."""


@dataclass(frozen=True, slots=True)
class LogForked(Notice):
    """Two messages have one name: a disk or a machine was copied, or it broke."""

    level: ClassVar[Level] = Level.ERROR
    dot: Dot


@dataclass(frozen=True, slots=True)
class HistoryTruncated(Notice):
    """No member keeps some old messages any more, so this node starts above their floor."""

    floor: int
    """The stamp from which this node has everything."""
    member: NodeId
    """The member whose base this node takes."""
