"""Wants: the logs of which something is known to exist that is missing here, and who told of it.

    later ── due ─▶ ready ── asked for ─▶ its pull is over ─▶ ready, later, or dropped
                      └── much is missing ─▶ catch-up has it ─▶ catch-up is done with it ─▲

Rules. A teller of a message holds all its causes, so tellers are the first to be asked for it. What
an answer brought only in part is ready again at once. Where it brought nothing, the log waits, ever
longer, and the teller that failed goes to the end of the row. A want that nobody can serve is
dropped in the end; a later digest brings it back. Nothing here walks over all wants, because a
newcomer to ten thousand logs has ten thousand of them. Who is asked for what is decided in `fetch`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from heapq import heappop, heappush
from itertools import islice

from flc_udp.core.repair.floors import Floors
from flc_udp.core.repair.pulls import REPAIR_MESSAGES_MAX
from flc_udp.model.dots import LogId, NodeId, Spans
from flc_udp.model.units import SECOND_US

CATCH_UP_LEAST = 256
"""Catch-up begins when at least this many messages are missing in all logs together."""

TELLERS_MAX = 4
"""A want remembers at most this many tellers."""

WANTS_MAX = 65_536
"""At most this many logs are wanted at once."""

FAILURES_MAX = 14
"""A want is dropped after this many pulls in a row that brought nothing of it."""

FAILURES_QUICK = 8
"""This many of them are each followed by another pull at once. At 25% loss 44 of 100 pulls fail, so
one want in 700 is still waiting after eight of them. Among a thousand nodes there always is one."""

ASKED_ANEW_US = 5 * SECOND_US
"""What no member keeps is asked for again after this time, unless a base was taken meanwhile."""

Gaps = Callable[[LogId, int], Spans]
"""Tells what is missing of a log up to a seq, as `Causal.gaps` does."""


class Asker(Enum):
    """Who is asking for a wanted log at the moment."""

    PULL = "pull"
    CATCH_UP = "catch-up"


@dataclass(slots=True)
class _Wanted:
    """One log of which something is wanted."""

    upper: int
    """The last seq that some teller holds."""
    due_at: int
    """When to ask for it, while it waits."""
    tellers: list[NodeId]
    """Whoever is to be asked first stands first."""
    by_digest: bool
    """Whether a digest found it first."""
    missing: int = 0
    """Messages, as last counted."""
    asker: Asker | None = None
    failures: int = 0
    floors: Floors | None = None
    """It exists once some member told that it has deleted what is wanted."""


class Wants:
    """All wanted logs. Times are in µs."""

    def __init__(self, gaps: Gaps, repair_timeout_us: int) -> None:
        self.to_go = 0
        """Messages known to be missing, as last counted."""
        self.abandoned = 0
        """Wants that nobody could serve."""
        self._gaps = gaps
        self._repair_timeout_us = repair_timeout_us
        self._wanted: dict[LogId, _Wanted] = {}
        self._uncounted: dict[LogId, None] = {}
        """Logs of which more is wanted than was counted."""
        self._later: list[tuple[int, LogId]] = []
        """A heap of (moment, log). Only an entry at the `due_at` of its log counts."""
        self._ready: dict[LogId, None] = {}
        """Logs to be asked for, those first that waited longest."""
        self._truncated: dict[LogId, None] = {}
        """Logs of which no reachable member keeps what is wanted."""

    @property
    def due_at(self) -> int | None:
        """When the first log that waits becomes ready."""
        return self._later[0][0] if self._later else None

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
            wanted = self._wanted[log] = _Wanted(upper, due_at, [teller], by_digest)
            self._wait(log, wanted, due_at)
            self._uncounted[log] = None
            return
        if wanted.floors is not None:
            wanted.floors.has_some(teller)
        elif due_at < wanted.due_at and wanted.asker is None and log not in self._ready:
            self._wait(log, wanted, due_at)  # A digest leaves more time than other tellings.
        if upper > wanted.upper:
            # The latest teller holds the most, so it is asked first.
            wanted.upper = upper
            wanted.tellers = [teller, *(t for t in wanted.tellers if t != teller)][:TELLERS_MAX]
            self._uncounted[log] = None
        elif teller not in wanted.tellers:
            wanted.tellers = [*wanted.tellers, teller][:TELLERS_MAX]

    def upper(self, log: LogId) -> int:
        """The last seq that is wanted of a log. 0: nothing is."""
        wanted = self._wanted.get(log)
        return 0 if wanted is None else wanted.upper

    def tellers(self, log: LogId) -> list[NodeId]:
        """Who told of it. Whoever is to be asked first stands first."""
        wanted = self._wanted.get(log)
        return [] if wanted is None else wanted.tellers

    def is_by_digest(self, log: LogId) -> bool:
        """Whether a digest found what is wanted of this log, and no message or `have` did."""
        return self._wanted[log].by_digest

    def count(self, log: LogId) -> Spans:
        """What is missing of a wanted log. Where nothing is missing, the want is dropped."""
        wanted = self._wanted[log]
        missing = self._gaps(log, wanted.upper)
        count = missing.count()
        self.to_go += count - wanted.missing
        wanted.missing = count
        if not count:
            self._drop(log, wanted)
        return missing

    # --- What to ask for --------------------------------------------------------------------------

    def ripen(self, now: int) -> None:
        """Make ready what is due, the longest due first: no log waits for others that go on."""
        self._count_new()
        while self._later and self._later[0][0] <= now:
            due_at, log = heappop(self._later)
            wanted = self._wanted.get(log)
            if wanted is not None and wanted.asker is None and wanted.due_at == due_at:
                self._ready[log] = None

    def first_ready(self, count: int) -> list[LogId]:
        """The first logs to be asked for, at most `count` of them."""
        return list(islice(self._ready, count))

    def still_to_ask(self, log: LogId, live: dict[NodeId, None]) -> dict[NodeId, None]:
        """Those of the live members that may still have what is wanted of a log."""
        wanted = self._wanted[log]
        if wanted.floors is not None and wanted.floors.is_through:
            wanted.floors = None  # All were asked some time ago: all are asked anew.
        return live if wanted.floors is None else wanted.floors.others(live)

    def give_way(self, log: LogId) -> None:
        """A log cannot be asked for now. The others are asked for first."""
        del self._ready[log]
        self._ready[log] = None

    def note_truncated(self, log: LogId, now: int) -> None:
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

    def answered(
        self,
        missing: Mapping[LogId, int],
        peer: NodeId,
        doubt: int,
        now: int,
        *,
        has_pieces: bool,
    ) -> None:
        """A pull is over. `peer` was asked for these: {log: messages missing then}.

        `doubt` is what follows for the peer if nothing came. `has_pieces`: some pieces came.
        """
        self._note_floors(missing, peer, doubt, has_pieces)
        for log, before in missing.items():
            self._settle(log, self._wanted[log], before + has_pieces, peer, now)

    # --- Catch-up ---------------------------------------------------------------------------------

    def take_many(self, *, has_begun: bool) -> tuple[dict[LogId, int], bool]:
        """{log: messages missing} for catch-up to ask for, and whether a digest found any of them.

        Catch-up begins with all that is ready, when much is missing. Once it has begun it takes
        only logs of which much is missing. It never takes what some member has deleted: it asks
        only a few members, and of such a log every member has to be asked.
        """
        if not has_begun and self.to_go < CATCH_UP_LEAST:
            return {}, False
        least = REPAIR_MESSAGES_MAX if has_begun else 0
        ready = {log: self._wanted[log] for log in self._ready}
        taken = {log: it for log, it in ready.items() if it.missing > least and it.floors is None}
        for log, wanted in taken.items():
            wanted.asker = Asker.CATCH_UP
            del self._ready[log]
        found = any(wanted.by_digest for wanted in taken.values())
        return {log: wanted.missing for log, wanted in taken.items()}, found

    def recount(self, logs: Iterable[LogId]) -> None:
        """Some messages of these came by catch-up.

        It may have given a log back meanwhile, which then is counted when its pull is over.
        """
        for log in logs:
            wanted = self._wanted.get(log)
            if wanted is not None and wanted.asker is Asker.CATCH_UP:
                self.count(log)

    def give_back(self, log: LogId, before: int, now: int) -> None:
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

    def needs_base(self, logs: Iterable[LogId], live: Iterable[NodeId], now: int) -> bool:
        """Whether something of these is still missing, and every live member was asked for it.

        What somebody was not asked for, because it came meanwhile, is due at once.
        """
        missing = [(log, self._wanted[log]) for log in logs if self._gaps(log, self.upper(log))]
        is_through = bool(missing)
        for log, wanted in missing:
            if wanted.floors and wanted.floors.others(live):
                is_through = wanted.floors.is_through = False
                self._wait(log, wanted, now)
        return is_through

    def _note_floors(
        self, missing: Mapping[LogId, int], peer: NodeId, doubt: int, has_pieces: bool
    ) -> None:
        """Note how a peer answered for logs of which some member has deleted what is wanted.

        If it brought anything it is not doubted. What it brought may be of other logs, because
        messages come in the order of stamps, and only as many as the credit allows.
        """
        noted = [it for log in missing if (it := self._wanted[log].floors)]
        if not noted:
            return
        brought = has_pieces or any(
            self._gaps(log, self.upper(log)).count() < before for log, before in missing.items()
        )
        for floors in noted:
            if brought:
                floors.has_some(peer)
            else:
                floors.doubt(peer, doubt)

    # --- One want ---------------------------------------------------------------------------------

    def _settle(self, log: LogId, wanted: _Wanted, before: int, peer: NodeId, now: int) -> None:
        """Nobody is asked for this log any more. `before` was missing when `peer` was asked."""
        wanted.asker = None
        self.count(log)
        if 0 < wanted.missing < before:
            wanted.failures = 0
            self._ready[log] = None
        elif wanted.missing:
            self._fail(log, wanted, peer, now)

    def _fail(self, log: LogId, wanted: _Wanted, peer: NodeId, now: int) -> None:
        if wanted.floors is None:
            wanted.failures += 1
        elif peer in wanted.floors.asked:
            wanted.failures = 0  # The peer has answered for good, and another one is next.
        else:
            wanted.failures = min(wanted.floors.doubts[peer], FAILURES_MAX - 1)
        wanted.tellers = [t for t in wanted.tellers if t != peer] + [peer]
        if wanted.failures >= FAILURES_MAX:
            self._drop(log, wanted)
            self.abandoned += 1
            return
        # The timeout itself paces the first failures, and another peer is next. The others are
        # followed by pauses that double.
        patient = max(wanted.failures - FAILURES_QUICK, 0)
        timeout_us = self._repair_timeout_us
        self._wait(log, wanted, now + ((timeout_us << patient) - timeout_us) // 2)

    def _wait(self, log: LogId, wanted: _Wanted, due_at: int) -> None:
        wanted.due_at = due_at
        heappush(self._later, (due_at, log))

    def _count_new(self) -> None:
        for log in self._uncounted:
            if (wanted := self._wanted.get(log)) is not None and wanted.asker is None:
                self.count(log)
        self._uncounted.clear()

    def _drop(self, log: LogId, wanted: _Wanted) -> None:
        self._truncated.pop(log, None)
        self.to_go -= wanted.missing
        del self._wanted[log]
        self._ready.pop(log, None)
