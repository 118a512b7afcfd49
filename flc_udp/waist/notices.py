"""What the waist tells people: commits, retention and bases that failed."""

from dataclasses import dataclass
from typing import ClassVar

from flc_udp.model.notices import Level, Notice, WarningNotice


@dataclass(frozen=True, slots=True)
class CommitFailed(Notice):
    """The log cannot be written. The node goes on read-only, and tries again by itself."""

    level: ClassVar[Level] = Level.ERROR
    reason: str


@dataclass(frozen=True, slots=True)
class RetentionFailed(WarningNotice):
    """Old messages could not be deleted. The node tries again at the next look."""

    reason: str


@dataclass(frozen=True, slots=True)
class BaseFailed(WarningNotice):
    """Another node's base could not be written. The node looks what the log holds, and goes on."""

    reason: str
