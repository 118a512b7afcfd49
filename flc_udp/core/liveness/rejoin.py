"""The way back: addresses at which nobody answers are asked for ever, but ever more rarely.

These are seeds that were not heard yet, and members that died or were reaped long ago. Islands
always merge, because the gap between two questions to an address is at most a tenth of its silence,
and never more than a limit. Chance shortens the gaps, so that the nodes of a site that lost its
seed do not ask in step. A node asks at most one address a second, so a thousand dead members cost
no more than one. Nodes that miss the same address share the asking, so that a member that returns
is not met by a thousand questions at once.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from random import Random

from flc_udp.model.address import Address
from flc_udp.model.units import NEVER, SECOND_US, Micros

REJOIN_SHARE = 10
"""An address that was silent for t is asked again after t/10. So a cut heals within a tenth of its
length."""

JITTER = 0.25
"""A gap may be shorter by at most this part."""

ASKERS = 3
"""About this many nodes of those that miss an address ask in each gap. In 5 of 100 gaps none does.
"""

REMEMBERED_MAX = 10_000
"""At most this many silent addresses are kept. Beyond it the one that was added first is forgotten.
"""


@dataclass(slots=True)
class _Silent:
    since: int
    due: int


class Rejoin:
    """The addresses of silent seeds and dead members. At most one is asked each second.

    `live` is how many other members there are, which miss the same addresses.
    """

    def __init__(self, longest_us: int, random: Random, now: Micros) -> None:
        self._longest_us = longest_us
        self._random = random
        self._silent: dict[Address, _Silent] = {}
        self._next_at = now
        self._first: Address | None = None
        """The address that is due first. None: it has to be looked for."""

    @property
    def wake_at(self) -> int:
        """When the next address is due."""
        if self._first is None:
            self._first = min(self._silent, key=lambda at: self._silent[at].due, default=None)
        return NEVER if self._first is None else max(self._next_at, self._silent[self._first].due)

    def join(self, addresses: Iterable[Address], now: Micros) -> list[Address]:
        """Add the addresses of seeds. Return those that are new, which are all asked at once."""
        fresh = [address for address in dict.fromkeys(addresses) if address not in self._silent]
        for address in fresh:
            self._add(address, _Silent(now, now + self._gap_us(0, 0)))
        return fresh

    def add_dead(self, address: Address, live: int, now: Micros) -> None:
        """Add the address of a member that died now. Some of the `live` others ask it at once.

        If it was wrongly taken for dead, it hears of that from them, and refutes.
        """
        is_asked = self._random.random() * live < ASKERS
        due = now if is_asked else now + self._gap_us(0, live)
        self._add(address, _Silent(now, due))

    def answered(self, address: Address) -> None:
        """Somebody lives at this address: forget it here."""
        if self._silent.pop(address, None) is not None:
            self._first = None

    def start(self, live: int, now: Micros) -> Address | None:
        """The address to ask now. None: nothing is due."""
        is_due, first = self.wake_at <= now, self._first
        if first is None or not is_due:
            return None
        silent = self._silent[first]
        silent.due = now + self._gap_us(now - silent.since, live)
        self._first = None
        self._next_at = Micros(now + SECOND_US)
        return first

    def _add(self, address: Address, silent: _Silent) -> None:
        self._silent.setdefault(address, silent)
        if len(self._silent) > REMEMBERED_MAX:
            del self._silent[next(iter(self._silent))]
        self._first = None

    def _gap_us(self, silence_us: int, live: int) -> int:
        gap_us = min(max(silence_us // REJOIN_SHARE, SECOND_US), self._longest_us)
        if live <= ASKERS:
            return max(round(gap_us * self._random.uniform(1 - JITTER, 1)), SECOND_US)
        return round(gap_us * live / ASKERS * self._random.uniform(0, 2))
