"""Wants: what is known to exist and not held, whom to ask for it, and what has been asked.

    later ── due ─▶ ready ── asked ─▶ a pull ── ended, silent ─▶ later, ready or done
                      └── where much is missing ─▶ catch-up ── released ──▲

Rules. Whoever told of a message holds its causes, so the teller is asked first, then other tellers,
then anybody. A log is asked of one peer at a time, at most PULLS_MAX peers are asked at once, and
what a pull did not bring is asked for again: at once where it brought something, later and of
another where it did not. A want nobody can serve is let go; a later digest brings it back. Nothing
here walks all wants: a newcomer to ten thousand logs has as many.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import islice

from flc_udp.core.repair.floors import ENOUGH, SILENT, VAIN, Floors
from flc_udp.core.repair.pulls import REPAIR_MESSAGES_MAX, PullUnderWay
from flc_udp.model.dots import LogId, NodeId, Spans

PULLS_MAX = 8
"""Peers asked at once."""

CATCH_UP_LEAST = 256
"""Messages missing altogether with which catch-up begins (`catch_up`)."""

CATCHING_UP = -1
"""Number of a want's pull while it is catch-up's."""

LOGS_PER_PULL = 40
"""Logs one pull names; fewer where their gaps would not fit a datagram."""

TELLERS_MAX = 4
"""Peers remembered for one want."""

WANTS_MAX = 65_536
"""Logs wanted at once."""

LOOKS_MAX = 512
"""Ready wants looked at in one go: more than all pulls together can name."""

FAILURES_MAX = 14
"""Pulls in a row that may bring nothing of a want before it is let go."""

FAILURES_QUICK = 8
"""Of them, so many are followed by another pull at once. At 25% loss 44 of 100 fail, so one want in
700 is still waiting after eight: among a thousand nodes there is always one."""

ASKED_ANEW = 5_000_000
"""What no member keeps is asked for again after so long, in µs, unless a base was taken."""

Gaps = Callable[[LogId, int], Spans]
"""What is missing of a log up to a seq: `Causal.gaps`."""


@dataclass(slots=True)
class _Wanted:
    upper: int
    due: int
    tellers: list[NodeId]
    by_digest: bool
    missing: int = 0
    """Messages, as last counted."""
    pull: int | None = None
    failures: int = 0
    floors: Floors | None = None
    """Once some member told that it no longer keeps it from where it is wanted."""


@dataclass(slots=True)
class Wants:
    """Gaps by log, and the pulls under way by nonce; times in µs."""

    pull_timeout: int
    repair_timeout: int
    pulls: dict[int, PullUnderWay] = field(default_factory=dict)
    abandoned: int = 0
    to_go: int = 0
    """Messages known to be missing, as last counted."""
    _wanted: dict[LogId, _Wanted] = field(default_factory=dict)
    _uncounted: dict[LogId, None] = field(default_factory=dict)
    _truncated: dict[LogId, None] = field(default_factory=dict)
    """Logs that no reachable member keeps from where they are wanted."""
    _later: list[tuple[int, LogId]] = field(default_factory=list)
    """A heap of (due, log); one that is not its want's `due` any more means nothing."""
    _ready: dict[LogId, None] = field(default_factory=dict)
    _look_at: int | None = None
    """When to try again what is ready and could not be asked for."""

    @property
    def wake_at(self) -> int | None:
        """When a gap is due to be asked for, or a pull has been silent too long."""
        times = [asked.deadline for asked in self.pulls.values()]
        if len(self.pulls) < PULLS_MAX:
            if self._later:
                times.append(self._later[0][0])
            if self._look_at is not None:
                times.append(self._look_at)
        return min(times, default=None)

    @property
    def is_idle(self) -> bool:
        """Whether nothing is wanted of anybody, and that has been reckoned."""
        return self.wake_at is None and not self.to_go

    def add(
        self, log: LogId, upper: int, teller: NodeId, due: int, *, by_digest: bool = False
    ) -> None:
        """`teller` holds `log` up to `upper`; if it is still missing at `due`, ask."""
        wanted = self._wanted.get(log)
        if wanted is None:
            if len(self._wanted) >= WANTS_MAX:
                return
            wanted = self._wanted[log] = _Wanted(upper, due, [teller], by_digest)
            self._wait(log, wanted, due)
            self._uncounted[log] = None
            return
        if wanted.floors is not None:
            wanted.floors.has_some(teller)
        elif due < wanted.due and wanted.pull is None and log not in self._ready:
            self._wait(log, wanted, due)  # A digest leaves more time than who tells of it now.
        if upper > wanted.upper:
            # The latest teller holds the most: it is asked first.
            wanted.upper = upper
            wanted.tellers = [teller, *(t for t in wanted.tellers if t != teller)][:TELLERS_MAX]
            self._uncounted[log] = None
        elif teller not in wanted.tellers:
            wanted.tellers = [*wanted.tellers, teller][:TELLERS_MAX]

    def ripen(self, now: int, gaps: Gaps) -> None:
        """What is due is ready, the longest due first: no log waits behind another's flow."""
        self._count_new(gaps)
        while self._later and self._later[0][0] <= now:
            due, log = heappop(self._later)
            wanted = self._wanted.get(log)
            if wanted is not None and wanted.pull is None and wanted.due == due:
                self._ready[log] = None

    def take_many(self, *, has_begun: bool) -> tuple[dict[LogId, int], bool]:
        """{log: messages missing} for catch-up to ask for, and whether a digest found any of it.

        All that is ready if much is missing, and once it has begun what is much by itself. What
        some member keeps no more is asked of each, and not here.
        """
        if not has_begun and self.to_go < CATCH_UP_LEAST:
            return {}, False
        least = REPAIR_MESSAGES_MAX if has_begun else 0
        wanted = self._wanted
        logs = [log for log in self._ready if wanted[log].missing > least]
        logs = [log for log in logs if wanted[log].floors is None]
        for log in logs:
            wanted[log].pull = CATCHING_UP
            del self._ready[log]
        found = any(wanted[log].by_digest for log in logs)
        return {log: wanted[log].missing for log in logs}, found

    def upper(self, log: LogId) -> int:
        """Up to where a log is wanted; 0 if it is not."""
        wanted = self._wanted.get(log)
        return 0 if wanted is None else wanted.upper

    def tellers(self, log: LogId) -> list[NodeId]:
        """Who told of it, whoever holds the most first."""
        wanted = self._wanted.get(log)
        return [] if wanted is None else wanted.tellers

    def recount(self, logs: Iterable[LogId], gaps: Gaps) -> None:
        """Some of these came, by catch-up; one it gave back meanwhile is asked for elsewhere."""
        for log in logs:
            wanted = self._wanted.get(log)
            if wanted is not None and wanted.pull == CATCHING_UP:
                self._count(log, wanted, gaps(log, wanted.upper))

    def give_back(self, log: LogId, before: int, now: int, gaps: Gaps) -> None:
        """Catch-up is done with a log of which so much was missing before."""
        wanted = self._wanted.get(log)
        if wanted is not None and wanted.pull == CATCHING_UP:
            self._let(log, wanted, before, wanted.tellers[0], now, gaps)

    def take_truncated(self) -> dict[LogId, dict[NodeId, int]]:
        """Logs that no reachable member keeps from where they are wanted, and the floors of all."""
        logs, self._truncated = self._truncated, {}
        return {log: it.asked for log in logs if (it := self._wanted[log].floors)}

    def needs_base(
        self, logs: Iterable[LogId], live: Iterable[NodeId], now: int, gaps: Gaps
    ) -> bool:
        """Whether some of these are still missing, and no member is there that was not asked."""
        missing = [(log, self._wanted[log]) for log in logs if gaps(log, self.upper(log))]
        is_through = bool(missing)
        for log, wanted in missing:
            if wanted.floors and wanted.floors.others(live):
                is_through = wanted.floors.is_through = False
                self._wait(log, wanted, now)
        return is_through

    def take_due(
        self, now: int, gaps: Gaps, live: Iterable[NodeId], is_busy: bool
    ) -> tuple[list[tuple[NodeId, list[tuple[LogId, Spans]]]], bool]:
        """What to ask of whom: [(peer, [(log, spans)])], and whether a digest found any of it.

        Nothing while `is_busy`: what was pulled before waits for the disk.
        """
        by_peer: dict[NodeId, list[tuple[LogId, Spans]]] = {}
        busy = {asked.peer for asked in self.pulls.values()}
        found = False
        everybody = dict.fromkeys(live)
        for log in [] if is_busy else list(islice(self._ready, LOOKS_MAX)):
            wanted = self._wanted[log]
            missing = gaps(log, wanted.upper)
            if not self._count(log, wanted, missing):
                continue
            if wanted.floors and wanted.floors.is_through:
                wanted.floors = None
            others = wanted.floors.others(everybody) if wanted.floors else everybody
            if everybody and not others:
                self._put_down(log, wanted, now)
                continue
            peer = self._whom(wanted, others, busy, by_peer)
            if peer is None:
                self._put_off(log)
                continue
            chosen = by_peer.setdefault(peer, [])
            if len(chosen) < LOGS_PER_PULL:
                chosen.append((log, missing))
                found = found or wanted.by_digest
        # The end of a pull or a commit looks again at once; if neither comes, time does.
        self._look_at = now + self.pull_timeout if self._ready else None
        return list(by_peer.items()), found

    def look_again(self, now: int) -> None:
        """What kept due gaps from being asked for is gone."""
        if self._ready:
            self._look_at = now

    def asked(
        self,
        nonce: int,
        peer: NodeId,
        spans: list[tuple[LogId, Spans]],
        now: int,
        *,
        for_pieces: bool = False,
    ) -> None:
        """A pull is being sent."""
        missing = {log: missing.count() for log, missing in spans}
        pull = PullUnderWay(peer, missing, now + self.repair_timeout, for_pieces=for_pieces)
        self.pulls[nonce] = pull
        if pull.is_catch_up:
            pull.deadline = now + self.pull_timeout
        for log in missing:
            self._wanted[log].pull = nonce
            self._ready.pop(log, None)

    def heard(self, nonce: int, peer: NodeId, now: int) -> int | None:
        """A part of a replay came: how many messages that peer was asked for; None if for none."""
        asked = self.pulls.get(nonce)
        if asked is None or asked.peer != peer:
            return None
        asked.deadline = now + self.pull_timeout
        return sum(asked.missing.values())

    def heard_any(self, peer: NodeId, now: int) -> int:
        """Part of a large message came from a peer: how many messages it was asked for, if any."""
        asked_for = 0
        for asked in self.pulls.values():
            if asked.peer == peer:
                asked.deadline = now + self.pull_timeout
                asked.pieces = True
                asked_for += sum(asked.missing.values())
        return asked_for

    def below_floor(self, logs: Iterable[LogId], peer: NodeId, floor: int) -> None:
        """A member keeps no such old messages of these: each is asked once."""
        for log in logs:
            if (wanted := self._wanted.get(log)) is not None:
                wanted.floors = wanted.floors or Floors()
                wanted.floors.asked[peer] = floor

    def ended(
        self, nonce: int, peer: NodeId, now: int, gaps: Gaps, *, is_empty: bool = False
    ) -> None:
        """A replay came to its end: what it did not bring is due again.

        `is_empty` where the peer has nothing of all that was asked for.
        """
        asked = self.pulls.get(nonce)
        if asked is not None and asked.peer == peer:
            self._close(nonce, now, gaps, ENOUGH if is_empty and not asked.for_pieces else VAIN)

    def close_silent(self, now: int, gaps: Gaps) -> None:
        """Give up pulls that went silent."""
        for nonce in [n for n, asked in self.pulls.items() if asked.deadline <= now]:
            self._close(nonce, now, gaps, SILENT)

    def _close(self, nonce: int, now: int, gaps: Gaps, doubt: int) -> None:
        asked = self.pulls.pop(nonce)
        self._note_floors(asked, gaps, doubt)
        for log, before in asked.missing.items():
            self._let(log, self._wanted[log], before + asked.pieces, asked.peer, now, gaps)
        self.look_again(now)

    def _note_floors(self, asked: PullUnderWay, gaps: Gaps, doubt: int) -> None:
        """How a peer answered for what some member no longer keeps.

        What it brought may be of other logs: messages come by stamps, up to a credit.
        """
        noted = [it for log in asked.missing if (it := self._wanted[log].floors)]
        missing = asked.missing.items() if noted else ()
        brought = asked.pieces or any(gaps(log, self.upper(log)).count() < n for log, n in missing)
        for floors in noted:
            if brought:
                floors.has_some(asked.peer)
            else:
                floors.doubt(asked.peer, doubt)

    def _let(
        self, log: LogId, wanted: _Wanted, before: int, peer: NodeId, now: int, gaps: Gaps
    ) -> None:
        """Nobody is asked for a log any more: `before` was missing when `peer` was."""
        wanted.pull = None
        left = self._count(log, wanted, gaps(log, wanted.upper))
        if left and left < before:
            wanted.failures = 0
            self._ready[log] = None
        elif left:
            self._fail(log, wanted, peer, now)

    def _fail(self, log: LogId, wanted: _Wanted, peer: NodeId, now: int) -> None:
        if wanted.floors is None:
            wanted.failures += 1
        elif peer in wanted.floors.asked:
            wanted.failures = 0  # It was answered, and another is next.
        else:
            wanted.failures = min(wanted.floors.doubts[peer], FAILURES_MAX - 1)
        wanted.tellers = [t for t in wanted.tellers if t != peer] + [peer]
        if wanted.failures >= FAILURES_MAX:
            self._drop(log, wanted)
            self.abandoned += 1
            return
        # The timeout paced the first few, and another peer is next; then ever more rarely.
        patient = max(wanted.failures - FAILURES_QUICK, 0)
        self._wait(log, wanted, now + ((self.repair_timeout << patient) - self.repair_timeout) // 2)

    def _wait(self, log: LogId, wanted: _Wanted, due: int) -> None:
        wanted.due = due
        heappush(self._later, (due, log))

    def _put_down(self, log: LogId, wanted: _Wanted, now: int) -> None:
        """No reachable member keeps it: a base is to be taken, or in a while all are asked anew."""
        assert wanted.floors is not None
        wanted.floors.is_through = True
        self._truncated[log] = None
        del self._ready[log]
        self._wait(log, wanted, now + ASKED_ANEW)

    def _put_off(self, log: LogId) -> None:
        """Nobody to ask, or no leave to: others have their turn first."""
        del self._ready[log]
        self._ready[log] = None

    def _count_new(self, gaps: Gaps) -> None:
        for log in self._uncounted:
            if (wanted := self._wanted.get(log)) is not None and wanted.pull is None:
                self._count(log, wanted, gaps(log, wanted.upper))
        self._uncounted.clear()

    def _count(self, log: LogId, wanted: _Wanted, missing: Spans) -> int:
        """Count what is missing of a log; where that is nothing it is wanted no more."""
        count = missing.count()
        self.to_go += count - wanted.missing
        wanted.missing = count
        if not count:
            self._drop(log, wanted)
        return count

    def _drop(self, log: LogId, wanted: _Wanted) -> None:
        self._truncated.pop(log, None)
        self.to_go -= wanted.missing
        del self._wanted[log]
        self._ready.pop(log, None)

    def _whom(
        self,
        wanted: _Wanted,
        live: dict[NodeId, None],
        busy: set[NodeId],
        chosen: dict[NodeId, list[tuple[LogId, Spans]]],
    ) -> NodeId | None:
        """A teller that lives and is free; of none living, any live member that is free."""
        tellers = [t for t in wanted.tellers if t in live] or list(live)
        free = [t for t in tellers if t not in busy]
        begun = [t for t in free if t in chosen]
        if begun:
            return begun[0]
        may_begin = len(busy) + len(chosen) < PULLS_MAX
        return free[0] if free and may_begin else None
