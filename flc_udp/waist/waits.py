"""Waits: people who wait until other nodes durably hold what they said (`say --wait`).

Rules. A wait ends when enough others hold the message, when nobody is left who could, or when its
time is out. Its time is out when everything was read that came in before its deadline, so a receipt
that came in time counts, even where this node stood still. A turn looks only at waits that end.
"""

from bisect import bisect_left, insort
from collections.abc import Callable
from itertools import count
from typing import NamedTuple

from flc_udp.core.push.receipts import Wait
from flc_udp.model.dots import NodeId
from flc_udp.model.units import NEVER


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

    def give_up(self) -> None:
        """Nobody wants to know any more: it ends with the next turn."""
        self.watched.give_up()

    def outcome(self) -> WaitEnded:
        """How it ended, or stands by now."""
        wait = self.watched
        is_short = bool(wait.waited_for) if self.is_for_all else len(wait.held_by) < wait.needed
        return WaitEnded(tuple(wait.held_by), (*wait.waited_for, *wait.gone), is_short)


class Waits:
    """All waits of a node."""

    def __init__(self) -> None:
        self.done: list[Wait] = []
        """Those that are done come in here, and go with the next turn."""
        self._numbers = count()
        self._entries: dict[Wait, tuple[int, int, Waiting]] = {}
        """Each wait with its deadline and its number."""
        self._by_deadline: list[tuple[int, int, Waiting]] = []

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def next_deadline(self) -> int:
        """When the next of them is late."""
        return self._by_deadline[0][0] if self._by_deadline else NEVER

    def add(self, waiting: Waiting) -> Waiting:
        """One more wait, which tells in `done` that it is done."""
        entry = waiting.deadline, next(self._numbers), waiting
        self._entries[waiting.watched] = entry
        insort(self._by_deadline, entry)
        return waiting

    def take_ended(self, read_until: int) -> list[Waiting]:
        """Take out the waits that have ended. Everything that came in until `read_until` was read.

        Those that are done come first, and then those that are late.
        """
        late = self._by_deadline[: bisect_left(self._by_deadline, (read_until + 1,))]
        ended = dict.fromkeys((*self.done, *(waiting.watched for *_, waiting in late)))
        self.done.clear()
        return [self._take(wait) for wait in ended if wait in self._entries]

    def _take(self, wait: Wait) -> Waiting:
        entry = self._entries.pop(wait)
        del self._by_deadline[bisect_left(self._by_deadline, entry)]
        wait.is_wanted = False
        return entry[-1]
