"""Waits: people who wait until other nodes durably hold what they said (`say --wait`).

Rules. A wait ends when enough others hold the message, when nobody is left who could, or when its
time is out. Its time is out when everything was read that came in before its deadline, so a receipt
that came in time counts, even where this node stood still.
"""

from collections.abc import Callable
from typing import NamedTuple

from flc_udp.core.push.receipts import Wait
from flc_udp.model.dots import NodeId


class WaitEnded(NamedTuple):
    """How a wait ended."""

    held_by: tuple[NodeId, ...]
    missing: tuple[NodeId, ...]
    """Members that were waited for and do not hold it, as far as is known: also those that died."""
    is_short: bool
    """Whether fewer hold it than were asked for."""


class Waiting(NamedTuple):
    """One wait. Its deadline is in µs, and `done` is called once."""

    watched: Wait
    is_for_all: bool
    deadline: int
    done: Callable[[WaitEnded], None]

    def has_ended(self, read_until: int) -> bool:
        """Whether it is over once everything was read that came in until then."""
        return self.watched.is_done or self.deadline <= read_until

    def give_up(self) -> None:
        """Nobody wants to know any more: it ends with the next turn."""
        self.watched.is_wanted = False

    def outcome(self) -> WaitEnded:
        """How it ended, or stands by now."""
        wait = self.watched
        is_short = bool(wait.waited_for) if self.is_for_all else len(wait.held_by) < wait.needed
        return WaitEnded(tuple(wait.held_by), (*wait.waited_for, *wait.gone), is_short)


def take_ended(waits: list[Waiting], read_until: int) -> list[Waiting]:
    """Take out the waits that have ended. Everything that came in until `read_until` was read."""
    ended = [waiting for waiting in waits if waiting.has_ended(read_until)]
    waits[:] = [waiting for waiting in waits if not waiting.has_ended(read_until)]
    return ended
