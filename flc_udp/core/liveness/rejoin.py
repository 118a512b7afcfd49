"""The way back in: addresses nobody answers at are asked for ever, ever more rarely.

Seeds not yet heard from, members that died, members reaped long ago: islands always merge, because
the gap between two asks is a tenth of the silence at most, and never above the longest, less
some chance so that a whole site that lost its seed does not ask in step. Over all
of them a node asks once a second at most, so a thousand dead cost what one does; and those who
miss the same one share the asking, so that its return is not met by a thousand at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from random import Random

from flc_udp.model.address import Address

SECOND = 1_000_000

REJOIN_SHARE = 10
"""An address silent for t is asked again after t/10: a cut heals within a tenth of its length."""

JITTER = 0.25
"""Of a gap, so much may be missing."""

ASKERS = 3
"""Of any number who miss an address about so many ask in each gap: none does in 5 of 100 gaps."""

REMEMBERED_MAX = 10_000
"""Silent addresses at once; beyond it the one longest silent is forgotten."""


@dataclass(slots=True)
class _Silent:
    since: int
    due: int
    is_fresh: bool = True


class Rejoin:
    """Seeds and dead members' addresses, at most one asked a second over all of them.

    `live` is how many members this node sees, who miss the same addresses.
    """

    def __init__(self, longest: int, random: Random, now: int) -> None:
        self._longest = longest
        self._random = random
        self._silent: dict[Address, _Silent] = {}
        self._next_at = now
        self._first: Address | None = None
        """The one due first; None where that has to be looked for."""

    @property
    def wake_at(self) -> int | None:
        """When the next address is due, if there is any."""
        first = self._find_first()
        return None if first is None else max(self._next_at, self._silent[first].due)

    def add(self, addresses: Iterable[Address], now: int) -> None:
        """Nobody is known to answer there: ask at once."""
        for address in addresses:
            self._add(address, _Silent(now, now))

    def add_dead(self, address: Address, live: int, now: int) -> None:
        """Somebody died there, now, and `live` others miss it too: some of them ask at once.

        Who was wrongly held for dead hears of it from them, and refutes.
        """
        is_asked = self._random.random() * live < ASKERS
        due = now if is_asked else now + self._gap(0, live)
        self._add(address, _Silent(now, due, is_fresh=False))

    def answered(self, address: Address) -> None:
        """Somebody lives there."""
        if self._silent.pop(address, None) is not None:
            self._first = None

    def start_all(self, now: int) -> list[Address]:
        """Every address never asked yet: seeds are joined in parallel."""
        fresh = [address for address, silent in self._silent.items() if silent.is_fresh]
        for address in fresh:
            self._asked(address, 0, now)
        return fresh

    def start(self, live: int, now: int) -> Address | None:
        """The address to ask now, or None."""
        wake_at, first = self.wake_at, self._first
        if first is None or wake_at is None or now < wake_at:
            return None
        self._asked(first, live, now)
        self._next_at = now + SECOND
        return first

    def _add(self, address: Address, silent: _Silent) -> None:
        self._silent.setdefault(address, silent)
        if len(self._silent) > REMEMBERED_MAX:
            del self._silent[next(iter(self._silent))]
        self._first = None

    def _asked(self, address: Address, live: int, now: int) -> None:
        silent = self._silent[address]
        silent.is_fresh = False
        silent.due = now + self._gap(now - silent.since, live)
        self._first = None

    def _gap(self, silence: int, live: int) -> int:
        gap = min(max(silence // REJOIN_SHARE, SECOND), self._longest)
        if live <= ASKERS:
            return max(round(gap * self._random.uniform(1 - JITTER, 1)), SECOND)
        return round(gap * live / ASKERS * self._random.uniform(0, 2))

    def _find_first(self) -> Address | None:
        if self._first is None and self._silent:
            self._first = min(self._silent, key=lambda address: self._silent[address].due)
        return self._first
