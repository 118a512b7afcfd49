"""Base: what no member keeps any more is given up, and another member's base is taken for it.

    pull ─▶ end(floor, lacks) of one member after another ─▶ no member keeps what is wanted
         ─▶ base-pull ─▶ base … base-end(next) ─▶ base-pull(next) ─▶ … ─▶ adopt

Rules. The member with the lowest floor keeps the most, so its base is taken, page by page. All
pages must be of one version. If the member deletes more messages meanwhile, its version changes,
and the base is taken from its beginning again. What arrived of a page is kept, and the page is
asked for again until it is whole. A member that stays silent is given up. A base is adopted only if
it is still needed when all of it has come: a member that came meanwhile may have brought what is
missing, or may keep it. A base that brings nothing of what was asked for, or that cannot be, is
refused, and the next member's is taken: so a member that tells a low floor and has no base keeps
nobody from taking another's.
"""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field

from flc_udp.config import CLOCK_STAMP_LIMIT
from flc_udp.core.causal import Causal
from flc_udp.core.effects import Adopt
from flc_udp.core.liveness.members import MemberTable
from flc_udp.core.notices import HistoryTruncated
from flc_udp.core.repair.wants import Wants
from flc_udp.core.shared import CoreMachine, Shared
from flc_udp.model.address import Address
from flc_udp.model.dots import BEGINNING, VISITOR, LogId, NodeId
from flc_udp.model.errors import Drop
from flc_udp.model.history import BaseLog, BaseRoom
from flc_udp.model.units import MS_US, NEVER, Micros
from flc_udp.wire.packets import Base, BaseEnd, BasePull

TRIES_MAX = 20
"""A member is given up after this many pages in vain or new beginnings, one after another."""

ROWS_MAX = 1 << 20
"""A base has at most this many rows. No cluster has as many logs and rooms."""


@dataclass(slots=True)
class BaseTake:
    """The base that is being taken, if there is one. Times are in µs."""

    timeout_us: int
    peer: NodeId = VISITOR
    """The member whose base it is."""
    deadline: int = NEVER
    """When the page that was asked for has been silent for too long."""
    _nonce: int = 0
    _after: LogId = BEGINNING
    """The last log of the page before."""
    _version: int | None = None
    _rows: list[BaseLog] = field(default_factory=list)
    """The rows of the pages that are whole."""
    _page: dict[tuple[LogId, tuple[BaseRoom, ...]], BaseLog] = field(default_factory=dict)
    """The rows of this page, by log and first room. A log of many rooms comes in several rows."""
    _tries: int = 0

    @property
    def is_on(self) -> bool:
        """Whether a base is being taken."""
        return self.deadline < NEVER

    def begin(self, peer: NodeId, nonce: int, now: Micros) -> BasePull:
        """Begin to take the base of `peer`."""
        self.peer, self._tries = peer, 0
        return self._start(nonce, now)

    def _stop(self) -> None:
        """Take no base any more."""
        self.deadline = NEVER
        self._rows, self._page = [], {}

    def heard(self, base: Base, peer: NodeId, now: Micros) -> None:
        """Some rows of the page came."""
        if self.is_on and (base.nonce, peer) == (self._nonce, self.peer):
            for row in base.rows[: ROWS_MAX - len(self._rows) - len(self._page)]:
                self._page[row.log, row.rooms[:1]] = row
            self.deadline = now + self.timeout_us

    def ended(self, end: BaseEnd, peer: NodeId, nonce: int, now: Micros) -> BasePull | Adopt | None:
        """A page came to its end. Return what to ask for next, or the base if it is whole."""
        if not self.is_on or (end.nonce, peer) != (self._nonce, self.peer):
            return None
        if self._version not in (None, end.version):
            return self._start(nonce, now) if self._may_try() else None
        self._version = end.version
        if end.rows != len(self._page):
            return self.again(now)
        self._rows += self._page.values()
        if end.next:
            self._after, self._tries = end.next, 0
            return self._ask(nonce, now)
        rows = tuple(_joined(self._rows))
        self._stop()
        if any(row.head.stamp >= end.floor for row in rows):
            return None  # This is no base: messages at the floor and above it are kept.
        return Adopt(end.floor, rows)

    def again(self, now: Micros) -> BasePull | None:
        """The page was silent for too long, or came only in part: ask for it again, or give up.

        What came of it is kept, because the rows of one version are the same each time.
        """
        if not self._may_try():
            return None
        self.deadline = now + self.timeout_us
        return BasePull(self._nonce, self._after)

    def _may_try(self) -> bool:
        """Count a page in vain or a new beginning. After too many the member is given up."""
        self._tries += 1
        if self._tries > TRIES_MAX:
            self._stop()
        return self.is_on

    def _start(self, nonce: int, now: Micros) -> BasePull:
        self._rows, self._after, self._version = [], BEGINNING, None
        return self._ask(nonce, now)

    def _ask(self, nonce: int, now: Micros) -> BasePull:
        self._nonce, self._page = nonce, {}
        self.deadline = now + self.timeout_us
        return BasePull(nonce, self._after)


def _joined(rows: list[BaseLog]) -> list[BaseLog]:
    """Join the rows of each log into one."""
    logs: dict[LogId, BaseLog] = {}
    for row in rows:
        first = logs.get(row.log)
        logs[row.log] = row if first is None else first._replace(rooms=first.rooms + row.rooms)
    return list(logs.values())


class Adoption(CoreMachine):
    """Decides when a base is taken, and of whom. Times are in µs."""

    def __init__(self, shared: Shared, causal: Causal, wants: Wants, members: MemberTable) -> None:
        super().__init__(shared)
        self.take = BaseTake(self._settings.pull_timeout_ms * MS_US)
        self._causal = causal
        self._wants = wants
        self._members = members
        self._given_up: list[LogId] = []
        """The logs for which the base is taken."""
        self._refused: Counter[NodeId] = Counter()
        """How often each member gave no base of use. Others come first."""

    def wake(self, live: Collection[NodeId], now: Micros) -> None:
        """Begin to take a base where one is needed, or go on with the one that is being taken."""
        take = self.take
        if take.is_on:
            if take.deadline > now:
                return
            pull = take.again(now)  # A page was silent for too long: ask for it again.
            if pull is not None:
                if take.peer in live:
                    self._out.send(self._members[take.peer].row.address, pull)
                return
            self._refuse(take.peer)
        truncated = self._wants.take_truncated()
        # This node's own floor does not matter: what is missing lies below the others' floors.
        floors = [
            (self._refused[peer], floor, peer)
            for asked in truncated.values()
            for peer, floor in asked.items()
            if floor and peer in live
        ]
        if floors:
            self._given_up = list(truncated)
            *_, peer = min(floors)
            pull = take.begin(peer, self._random.getrandbits(64), now)
            self._out.send(self._members[peer].row.address, pull)

    def receive_end(self, end: BaseEnd, sender: NodeId, source: Address, now: Micros) -> None:
        """A page came to its end: ask for the next one, or adopt the base if it is whole."""
        was_on = self.take.is_on
        following = self.take.ended(end, sender, self._random.getrandbits(64), now)
        if isinstance(following, BasePull):
            self._out.send(source, following)
        elif was_on and not self.take.is_on:
            self._came(following, sender, now)

    def _came(self, adopt: Adopt | None, sender: NodeId, now: Micros) -> None:
        """All of a base came, or what is none. It is taken if it is needed and of use."""
        live = self._members.live_by_id()
        if not self._wants.needs_base(self._given_up, live, now):
            return
        if adopt is not None and self._is_of_use(adopt):
            self._out += [HistoryTruncated(adopt.floor, sender), adopt]
        else:
            self._refuse(sender)
            self.wake(live, now)

    def _is_of_use(self, adopt: Adopt) -> bool:
        """Whether a base brings something that was asked for, and nothing that cannot be.

        Nobody else can be ahead in a log of this run: the next post would fork it.
        """
        heads = self._causal.head
        ahead = {row.log for row in adopt.base if row.head.seq > heads(row.log).seq}
        is_possible = adopt.floor <= CLOCK_STAMP_LIMIT and ahead.isdisjoint(self._standing.own)
        return is_possible and not ahead.isdisjoint(self._given_up)

    def _refuse(self, peer: NodeId) -> None:
        """A member told of a floor, and gives no base of use: it counts as one that has nothing."""
        self._drops[Drop.BASE_OF_NO_USE] += 1
        self._refused[peer] += 1
        self._wants.base_refused(self._given_up, peer)
