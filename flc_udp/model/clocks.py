"""Clocks: vector clocks, which say what came before what, and stamps, which order history.

Only vector clocks and causes decide what came before what. A stamp (a hybrid logical clock,
Kulkarni et al. 2014) is one integer, `(wall_ms << 16) + lift`. All messages of a block have one
stamp. From block to block it rises along every log and every cause, so messages in the order of
their stamps, and within a block of their numbers, respect causality.
"""

from collections import Counter
from enum import Enum

from flc_udp.config import WALL_MS_LIMIT
from flc_udp.model.dots import LogId
from flc_udp.model.units import Millis

STAMP_WALL_SHIFT = 16
"""The low bits of a stamp. They count the steps within one millisecond of the wall clock."""


class Order(Enum):
    """How one message, or one vector clock, stands to another."""

    EQUAL = "equal"
    BEFORE = "before"
    AFTER = "after"
    CONCURRENT = "concurrent"


class VectorClock(Counter[LogId]):
    """The last number of each log that was seen (Fidge, Mattern 1988).

    The number of a log that is not in it is 0. `one | other` has seen everything that both have
    seen, and `one >= other` says whether one has seen everything that the other has seen.
    """


def wall_of(stamp: int) -> Millis:
    """The time that a stamp tells, by its author's clock."""
    return Millis(stamp >> STAMP_WALL_SHIFT)


def is_usable(wall_ms: int) -> bool:
    """Whether stamps can be made from what a wall clock shows: a time from 1970 to 2199."""
    return 0 <= wall_ms < WALL_MS_LIMIT


def next_stamp(wall_ms: Millis, previous: int, causes_greatest: int) -> int:
    """Make the stamp of a new block, above those of its log and of all its causes."""
    return max(wall_ms << STAMP_WALL_SHIFT, previous + 1, causes_greatest + 1)
