"""What the waist tells people: commits, retention and bases that failed."""

from flc_udp.model.dots import Dot
from flc_udp.model.notices import Level, Notice
from flc_udp.model.units import Millis


class CommitFailed(Notice, level=Level.ERROR):
    """The log cannot be written. The node goes on read-only, and tries again by itself."""

    reason: str


class RetentionFailed(Notice, level=Level.WARNING):
    """Old messages could not be deleted. The node tries again at the next look."""

    reason: str


class BaseFailed(Notice, level=Level.WARNING):
    """Another node's base could not be written. The node looks what the log holds, and goes on."""

    reason: str


class ClockDoubted(Notice, level=Level.WARNING):
    """The wall clock of the start is far from when messages arrived: ages count from there."""

    latest_arrival_ms: Millis
    wall_ms: Millis


class ClockUnusable(Notice, level=Level.WARNING):
    """The wall clock shows a time before 1970 or after 2199. Posts are refused until it is set."""

    wall_ms: Millis


class PeersUnreadable(Notice, level=Level.WARNING):
    """The remembered members cannot be read. The node asks its seeds alone, and goes on."""

    reason: str


class StoodStill(Notice, level=Level.WARNING):
    """This node did not run: its process was stopped, or its machine suspended or overloaded.

    It blames nobody for that time. What others said of it meanwhile it refutes.
    """

    ms: Millis


class Flooded(Notice, level=Level.WARNING):
    """Many datagrams come that are from nobody. The kernel is asked to drop most of them."""

    a_second: int
    only_members: bool
    """Whether also what is under this node's keys is dropped, unless a member sends it."""


class FloodEnded(Notice):
    """All datagrams are read again."""


class BlockHealed(Notice):
    """A block that had changed on the disk was written anew."""

    dot: Dot
    """Its first message."""


class HealingFailed(Notice, level=Level.WARNING):
    """Blocks that had changed on the disk could not be written anew. They are fetched again."""

    reason: str
