"""Wants: the logs of which something is missing here, and when it is to be asked for.

    later ── due ─▶ ready ── asked for ─▶ its pull is over ─▶ ready, later, or dropped
                      └── much is missing ─▶ catch-up has it ─▶ catch-up is done with it ─▲

A *teller* is a node that said that it holds something, or that sent it. A teller of a message holds
all its causes, too. The teller that holds the most is asked first, and one that failed is asked
last.

Rules. A log of which an answer brought something is ready again at once. The first failures are
followed by another pull at once, later ones after pauses that double, and after too many the want
is dropped; a later digest brings it back. A member that has deleted what is wanted answers with its
floor. Another one may still keep it, so each of them is asked, and a base is taken only when all
were asked in vain. Nothing here walks over all wants, because a newcomer to ten thousand logs has
ten thousand of them. Who is asked for what is decided in `fetch`.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from heapq import heappop, heappush
from itertools import islice

from flc_udp.model.dots import LogId, NodeId, Spans
from flc_udp.model.drops import Drop
from flc_udp.model.units import NEVER, SECOND_US, Micros

REPAIR_MESSAGES_MAX = 64
"""A pull for at most this many messages repairs live traffic, so what it brings is forwarded. A
pull for more fetches history."""

CATCH_UP_LEAST = 256
"""Catch-up begins when at least this many messages are missing in all logs together."""

WANTS_MAX = 65_536
"""At most this many logs are wanted at once."""

ASKED_ANEW_US = 5 * SECOND_US
"""What no member keeps is asked for again after this time, unless a base was taken meanwhile."""

TELLERS_MAX = 4
"""A want remembers at most this many tellers."""

FAILURES_MAX = 14
"""A want is hopeless after this many pulls in a row that brought nothing of it."""

FAILURES_QUICK = 8
"""This many of them are each followed by another pull at once. At 25% loss 44 of 100 pulls fail, so
one want in 700 is still waiting after eight of them. Among a thousand nodes there always is one."""

ENOUGH = 14
"""A member with this much doubt in a row counts as one that has nothing. The pauses between pulls
grow, so silence alone takes four seconds for it. A member that died is known to be dead by then,
and is asked no more."""

SILENT = 1
"""The doubt after a pull that was not answered."""

VAIN = 2
"""The doubt after an answer of which nothing arrived. There may have been something in it."""

Gaps = Callable[[LogId, int], Spans]
"""Tells what is missing of a log up to a seq, as `Causal.gaps` does."""


@dataclass(slots=True)
class Floors:
    """What members answered for one log."""

    asked: dict[NodeId, int] = field(default_factory=dict)
    """{member: its floor, or 0 where it has nothing}. A member with a floor has a base."""
    is_through: bool = False
    """Whether all were asked. A base may be taken then; after a while all are asked anew."""
    doubts: Counter[NodeId] = field(default_factory=Counter)

    def has_some(self, peer: NodeId) -> None:
        """It said that it holds some, or it brought some. If it had nothing before, it has now."""
        self.doubts.pop(peer, None)
        if self.asked.get(peer) == 0:
            del self.asked[peer]

    def doubt(self, peer: NodeId, weight: int) -> None:
        """It was asked, and nothing arrived."""
        self.doubts[peer] += weight
        if self.doubts[peer] >= ENOUGH:
            self.asked.setdefault(peer, 0)

    def others(self, peers: Iterable[NodeId]) -> dict[NodeId, None]:
        """Those of them that are still to be asked."""
        return {peer: None for peer in peers if peer not in self.asked}


class Asker(Enum):
    """Who is asking for a wanted log at the moment."""

    PULL = "pull"
    CATCH_UP = "catch-up"


@dataclass(slots=True)
class WantedLog:
    """What is wanted of one log."""

    upper: int
    """The last seq that some teller holds."""
    due_at: int
    """When it is to be asked for, while it waits."""
    tellers: list[NodeId]
    """Those that hold it, in the order in which they are to be asked."""
    by_digest: bool
    """Whether a digest was the first to tell of it."""
    missing: int = 0
    """Messages, as last counted."""
    asker: Asker | None = None
    """None: nobody is asking for it."""
    failures: int = 0
    floors: Floors | None = None
    """It exists once some member told that it has deleted what is wanted."""

    def tell(self, upper: int, teller: NodeId) -> bool:
        """`teller` holds the log up to `upper`. Return whether that is more than was known."""
        if upper > self.upper:
            self.upper = upper
            others = [other for other in self.tellers if other != teller]
            self.tellers = [teller, *others][:TELLERS_MAX]
            return True
        if teller not in self.tellers:
            self.tellers = [*self.tellers, teller][:TELLERS_MAX]
        return False

    def fail(self, peer: NodeId) -> None:
        """`peer` was asked, and brought nothing of it."""
        if self.floors is None:
            self.failures += 1
        elif peer in self.floors.asked:
            self.failures = 0  # It has answered for good, and another member is next.
        else:
            # This never becomes hopeless: when all members were asked a base is taken.
            self.failures = min(self.floors.doubts[peer], FAILURES_MAX - 1)
        self.tellers = [teller for teller in self.tellers if teller != peer] + [peer]

    def pause_us(self, timeout_us: int) -> int:
        """How long to wait before asking again.

        A pull has the timeout to be answered, which paces the first failures, too.
        """
        doublings = max(self.failures - FAILURES_QUICK, 0)
        return ((timeout_us << doublings) - timeout_us) // 2


@dataclass(slots=True)
class PullUnderWay:
    """One pull, as the node that asked remembers it."""

    peer: NodeId
    missing: Mapping[LogId, int]
    """{log: how many of its messages were missing when it was asked for}."""
    deadline: int
    for_pieces: bool
    """Whether it asks for pieces. The end of an answer does not count pieces, so then it does not
    tell whether the peer has nothing."""
    has_pieces: bool = False
    """Whether pieces came: that is progress, although no message is whole yet."""

    @property
    def messages(self) -> int:
        """How many messages were missing in all."""
        return sum(self.missing.values())


class Wants:
    """All wanted logs. Times are in µs."""

    def __init__(self, gaps: Gaps, repair_timeout_us: int, drops: Counter[Drop]) -> None:
        self.to_go = 0
        """Messages known to be missing, as last counted."""
        self.found = False
        """Whether a digest was the first to tell of something that was asked for since this was
        last looked at."""
        self._gaps = gaps
        self._repair_timeout_us = repair_timeout_us
        self._drops = drops
        self._wanted: dict[LogId, WantedLog] = {}
        self._uncounted: dict[LogId, None] = {}
        """Logs of which more is wanted than was counted."""
        self._later: list[tuple[int, LogId]] = []
        """A heap of (moment, log). Only an entry at the `due_at` of its log counts."""
        self._ready: dict[LogId, None] = {}
        """Logs to be asked for, those first that waited longest."""
        self._truncated: dict[LogId, None] = {}
        """Logs of which no reachable member keeps what is wanted."""

    @property
    def due_at(self) -> int:
        """When the first log that waits becomes ready."""
        return self._later[0][0] if self._later else NEVER

    @property
    def has_ready(self) -> bool:
        """Whether anything is to be asked for now."""
        return bool(self._ready)

    # --- What is missing --------------------------------------------------------------------------

    def add(
        self, log: LogId, upper: int, teller: NodeId, due_at: int, *, by_digest: bool = False
    ) -> None:
        """`teller` holds `log` up to `upper`. What is still missing at `due_at` is asked for."""
        wanted = self._wanted.get(log)
        if wanted is None:
            if len(self._wanted) >= WANTS_MAX:
                return
            wanted = self._wanted[log] = WantedLog(upper, due_at, [teller], by_digest)
            self._wait(log, wanted, due_at)
            self._uncounted[log] = None
            return
        if wanted.floors is not None:
            wanted.floors.has_some(teller)
        elif due_at < wanted.due_at and wanted.asker is None and log not in self._ready:
            self._wait(log, wanted, due_at)  # A digest leaves more time than other tellings.
        if wanted.tell(upper, teller):
            self._uncounted[log] = None

    def missing(self, log: LogId) -> Spans:
        """What is wanted of a log, and missing now."""
        wanted = self._wanted.get(log)
        return Spans() if wanted is None else self._gaps(log, wanted.upper)

    def tellers(self, log: LogId) -> list[NodeId]:
        """Who told of it, in the order in which they are to be asked."""
        wanted = self._wanted.get(log)
        return [] if wanted is None else wanted.tellers

    def count(self, log: LogId) -> Spans:
        """Count what is missing of a wanted log, and return it. If nothing is, drop the want."""
        wanted = self._wanted[log]
        missing = self._gaps(log, wanted.upper)
        count = missing.count()
        self.to_go += count - wanted.missing
        wanted.missing = count
        if not count:
            self._drop(log, wanted)
        return missing

    # --- What to ask for --------------------------------------------------------------------------

    def ripen(self, now: Micros) -> None:
        """Make ready what is due.

        What was due first comes first, so no log waits for others that keep bringing messages.
        """
        self._count_new()
        while self.due_at <= now:
            due_at, log = heappop(self._later)
            wanted = self._wanted.get(log)
            if wanted is not None and wanted.asker is None and wanted.due_at == due_at:
                self._ready[log] = None

    def first_ready(self, count: int) -> list[LogId]:
        """The first logs to be asked for, at most `count` of them."""
        return list(islice(self._ready, count))

    def still_to_ask(self, log: LogId, live: Collection[NodeId]) -> Collection[NodeId]:
        """Those of the live members that may still have what is wanted of a log."""
        wanted = self._wanted[log]
        if wanted.floors is not None and wanted.floors.is_through:
            wanted.floors = None  # All were asked some time ago: all are asked anew.
        return live if wanted.floors is None else wanted.floors.others(live)

    def give_way(self, log: LogId) -> None:
        """A log cannot be asked for now. The others are asked for first."""
        self._ready[log] = self._ready.pop(log)

    def note_chosen(self, log: LogId) -> None:
        """This is to be asked for now."""
        self.found = self.found or self._wanted[log].by_digest

    def note_truncated(self, log: LogId, now: Micros) -> None:
        """No reachable member keeps what is wanted of a log.

        A base is to be taken. If that fails, all members are asked anew after a while.
        """
        wanted = self._wanted[log]
        assert wanted.floors is not None
        wanted.floors.is_through = True
        self._truncated[log] = None
        del self._ready[log]
        self._wait(log, wanted, now + ASKED_ANEW_US)

    def asked(self, logs: Iterable[LogId]) -> None:
        """These are in a pull that is being sent."""
        for log in logs:
            self._wanted[log].asker = Asker.PULL
            self._ready.pop(log, None)

    def answered(self, pull: PullUnderWay, doubt: int, now: Micros) -> None:
        """A pull is over. `doubt` is what follows for its peer if nothing came."""
        self._note_floors(pull, doubt)
        for log, before in pull.missing.items():
            self._settle(log, self._wanted[log], before + pull.has_pieces, pull.peer, now)

    # --- Catch-up ---------------------------------------------------------------------------------

    def take_many(self, *, has_begun: bool) -> dict[LogId, int]:
        """{log: messages missing} for catch-up to ask for.

        Catch-up begins with all that is ready, when much is missing. Once it has begun it takes
        only logs of which much is missing. It never takes what some member has deleted: it asks
        only a few members, and of such a log every member has to be asked.
        """
        if not has_begun and self.to_go < CATCH_UP_LEAST:
            return {}
        least = REPAIR_MESSAGES_MAX if has_begun else 0
        ready = {log: self._wanted[log] for log in self._ready}
        taken = {log: it for log, it in ready.items() if it.missing > least and it.floors is None}
        for log, wanted in taken.items():
            wanted.asker = Asker.CATCH_UP
            del self._ready[log]
            self.note_chosen(log)
        return {log: wanted.missing for log, wanted in taken.items()}

    def recount(self, logs: Iterable[LogId]) -> None:
        """Some messages of these came by catch-up.

        A log that catch-up has given back meanwhile may be in a pull, whose end counts it.
        """
        for log in logs:
            wanted = self._wanted.get(log)
            if wanted is not None and wanted.asker is Asker.CATCH_UP:
                self.count(log)

    def give_back(self, log: LogId, before: int, now: Micros) -> None:
        """Catch-up is done with a log of which `before` messages were missing at first."""
        wanted = self._wanted.get(log)
        if wanted is not None and wanted.asker is Asker.CATCH_UP:
            self._settle(log, wanted, before, wanted.tellers[0], now)

    # --- What members have deleted ----------------------------------------------------------------

    def below_floor(self, logs: Iterable[LogId], peer: NodeId, floor: int) -> None:
        """A member has deleted what is wanted of these logs. Now each member is asked once."""
        for log in logs:
            if (wanted := self._wanted.get(log)) is not None:
                wanted.floors = wanted.floors or Floors()
                wanted.floors.asked[peer] = floor

    def take_truncated(self) -> dict[LogId, dict[NodeId, int]]:
        """{log: {member: its floor}} of logs of which no reachable member keeps what is wanted."""
        logs, self._truncated = self._truncated, {}
        return {log: it.asked for log in logs if (it := self._wanted[log].floors)}

    def needs_base(self, logs: Iterable[LogId], live: Iterable[NodeId], now: Micros) -> bool:
        """Whether something of these is still missing, and every live member was asked for it.

        It is not needed while there is a member that came meanwhile: that one is asked at once.
        """
        missing = [(log, self._wanted[log]) for log in logs if self.missing(log)]
        is_through = bool(missing)
        for log, wanted in missing:
            if wanted.floors and wanted.floors.others(live):
                is_through = wanted.floors.is_through = False
                self._wait(log, wanted, now)
        return is_through

    def _note_floors(self, pull: PullUnderWay, doubt: int) -> None:
        """Note how a peer answered for logs of which some member has deleted what is wanted.

        If it brought anything it is not doubted. What it brought may be of other logs, because
        messages come in the order of stamps, and only as many as the credit allows.
        """
        noted = [it for log in pull.missing if (it := self._wanted[log].floors)]
        if not noted:
            return
        brought = pull.has_pieces or any(
            self.missing(log).count() < before for log, before in pull.missing.items()
        )
        for floors in noted:
            if brought:
                floors.has_some(pull.peer)
            else:
                floors.doubt(pull.peer, doubt)

    # --- One want ---------------------------------------------------------------------------------

    def _settle(
        self, log: LogId, wanted: WantedLog, before: int, peer: NodeId, now: Micros
    ) -> None:
        """Nobody is asked for this log any more. `before` was missing when `peer` was asked."""
        wanted.asker = None
        self.count(log)
        if 0 < wanted.missing < before:
            wanted.failures = 0
            self._ready[log] = None
        elif wanted.missing:
            wanted.fail(peer)
            if wanted.failures >= FAILURES_MAX:
                self._drops[Drop.WANT_GIVEN_UP] += 1
                self._drop(log, wanted)
            else:
                self._wait(log, wanted, now + wanted.pause_us(self._repair_timeout_us))

    def _wait(self, log: LogId, wanted: WantedLog, due_at: int) -> None:
        wanted.due_at = due_at
        heappush(self._later, (due_at, log))

    def _count_new(self) -> None:
        """Count the logs of which more is wanted. Those in a pull are counted when it is over."""
        for log in self._uncounted:
            if (wanted := self._wanted.get(log)) is not None and wanted.asker is None:
                self.count(log)
        self._uncounted.clear()

    def _drop(self, log: LogId, wanted: WantedLog) -> None:
        self._truncated.pop(log, None)
        self.to_go -= wanted.missing
        del self._wanted[log]
        self._ready.pop(log, None)
