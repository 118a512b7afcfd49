"""Hearsay: members that only others tell of. Each is an address to ask, until it answers itself.

    a peer tells of a member ─▶ ping to its address ── its ack ─▶ it is in the member table
                                       └── silent each time ─▶ forgotten

Rules. Only who was heard directly is in the table, is probed, linked to, counted, waited for and
told of to others. So members that somebody makes up cost a few pings each, and spread no further.
Those who tell are heard in turn, by their addresses, so that one that tells of thousands delays
nobody else's newcomers. How many are asked in a time, and how many wait, is bounded.
"""

from dataclasses import dataclass

from flc_udp.core.shared import CoreMachine, Shared
from flc_udp.model.address import Address
from flc_udp.model.dots import NodeId
from flc_udp.model.units import MS_US, NEVER, Micros
from flc_udp.wire.rows import MemberRow

ASKED_AT_ONCE = 32
"""So many are asked in one go, and after ASK_PAUSE_US the next ones: 3 kB of pings."""

ASK_PAUSE_US = 100 * MS_US

ANSWER_US = 700 * MS_US
"""An address that has not answered after this time is asked once more."""

TRIES = 4
"""An address that never answered is asked so often, and then forgotten. Who it is proves itself
first, so up to four datagrams have to arrive for an answer."""

SILENT_MANY = 32
"""Members die, and who has not heard of it tells of them. Nobody who means well tells of so many.
"""

TELLERS_MAX = 256
"""How many silent members each of so many tellers told of is remembered."""

WAITING_MAX = 1_024
"""At most this many wait that one address tells of, and at most this many addresses tell."""


@dataclass(slots=True)
class HeardOf:
    """A member that somebody told of."""

    row: MemberRow
    is_news: bool
    """Whether others are to be told of it, too."""
    by: tuple[NodeId, Address]
    """Who told."""
    tries: int = 0
    again_at: int = 0


class Hearsay(CoreMachine):
    """The members of which this node has only been told. Times are in µs."""

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        self._waiting: dict[Address, dict[NodeId, HeardOf]] = {}
        """By the addresses that told of them, those first whose turn it is."""
        self._asked: dict[NodeId, tuple[int, HeardOf]] = {}
        """Those that were asked, in the order in which they were, and the nonces of their pings."""
        self._silent: dict[tuple[NodeId, Address], int] = {}
        """Of how many silent members each teller told."""
        self._next_at = 0

    def __len__(self) -> int:
        return len(self._asked) + sum(map(len, self._waiting.values()))

    @property
    def wake_at(self) -> int:
        """When somebody is to be asked, or asked again."""
        if self._waiting:
            return self._next_at
        # They stand in the order in which they were asked.
        again = next((told.again_at for _, told in self._asked.values()), NEVER)
        return max(again, self._next_at)

    def add(self, row: MemberRow, sender: NodeId, source: Address, *, is_news: bool) -> bool:
        """A node at `source` tells of a member. False: there is nothing new in that."""
        asked = self._asked.get(row.id)
        if asked is not None and asked[1].row.incarnation >= row.incarnation:
            return False
        waiting = self._waiting.get(source, {})
        if row.id in waiting or len(waiting) >= WAITING_MAX:
            return False
        if not waiting and len(self._waiting) >= WAITING_MAX:
            return False
        self._waiting.setdefault(source, waiting)[row.id] = HeardOf(row, is_news, (sender, source))
        return True

    def take_due(self, now: Micros) -> list[tuple[int, Address]]:
        """The pings that are due: the nonce and the address of each."""
        if now < self._next_at:
            return []
        self._next_at = now + ASK_PAUSE_US
        due: list[HeardOf] = []
        for node, (_, told) in list(self._asked.items()):
            if told.again_at > now or len(due) >= ASKED_AT_ONCE:
                break
            del self._asked[node]
            if told.tries < TRIES:
                due.append(told)
            else:
                self._note_silent(told, now)
        while self._waiting and len(due) < ASKED_AT_ONCE:
            source, waiting = next(iter(self._waiting.items()))
            due.append(waiting.pop(next(iter(waiting))))
            del self._waiting[source]
            if waiting:
                self._waiting[source] = waiting  # The next of its rows comes after all others'.
        return [(self._ask(told, now), told.row.address) for told in due]

    def _note_silent(self, told: HeardOf, now: Micros) -> None:
        count = self._silent.pop(told.by, 0) + 1
        self._silent[told.by] = count
        if len(self._silent) > TELLERS_MAX:
            del self._silent[next(iter(self._silent))]
        if count >= SILENT_MANY:
            new = count if count == SILENT_MANY else 1
            self._offences.note(*told.by, "tells of members that do not answer", now, new)

    def _ask(self, told: HeardOf, now: Micros) -> int:
        nonce = self._random.getrandbits(64) or 1
        told.tries += 1
        told.again_at = now + ANSWER_US
        self._asked.pop(told.row.id, None)
        self._asked[told.row.id] = nonce, told
        return nonce

    def answered(self, nonce: int, sender: NodeId) -> HeardOf | None:
        """A member answers: what was told of it. None: it was not asked so."""
        asked = self._asked.get(sender)
        if asked is None or asked[0] != nonce:
            return None
        del self._asked[sender]
        return asked[1]
