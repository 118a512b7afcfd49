"""What the waist tells people: commits, retention and bases that failed."""

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
