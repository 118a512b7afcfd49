"""Wants: what is known to exist and not held, whom to ask for it, and what has been asked.

Rules. Whoever told of a message holds its causes, so the teller is asked first, then other tellers,
then anybody. A log is asked of one peer at a time, at most PULLS_MAX peers are asked at once, and
what a pull did not bring is asked for again: at once where it brought something, later and of
another where it did not. A want nobody can serve is let go; a later digest brings it back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from flc_udp.model.dots import LogId, NodeId, Spans

PULLS_MAX = 8
"""Peers asked at once."""

CATCH_UPS_MAX = 3
"""Of them, peers asked for more than REPAIR_MESSAGES_MAX."""

REPAIR_MESSAGES_MAX = 64
"""A pull of at most so many repairs live traffic and is forwarded; a larger one is catch-up."""

LOGS_PER_PULL = 40
"""Logs one pull names; fewer where their gaps would not fit a datagram."""

TELLERS_MAX = 4
"""Peers remembered for one want."""

WANTS_MAX = 65_536
"""Logs wanted at once."""

FAILURES_MAX = 10
"""Pulls in a row that may bring nothing of a want before it is let go."""

FAILURES_QUICK = 4
"""Of them, so many are followed by another pull at once: under heavy loss half of all fail."""

Gaps = Callable[[LogId, int], Spans]
"""What is missing of a log up to a seq: `Causal.gaps`."""


@dataclass(slots=True)
class _Wanted:
    upper: int
    due: int
    tellers: list[NodeId]
    by_digest: bool
    pull: int | None = None
    failures: int = 0


@dataclass(slots=True)
class Asked:
    """One pull under way: of whom, how much was missing of each log, and until when."""

    peer: NodeId
    missing: dict[LogId, int]
    deadline: int

    @property
    def is_catch_up(self) -> bool:
        """Whether it is for more than live repair."""
        return sum(self.missing.values()) > REPAIR_MESSAGES_MAX


@dataclass(slots=True)
class Wants:
    """Gaps by log, and the pulls under way by nonce; times in µs."""

    pull_timeout: int
    repair_timeout: int
    pulls: dict[int, Asked] = field(default_factory=dict)
    abandoned: int = 0
    to_go: int = 0
    """Messages known to be missing, as last reckoned."""
    _wanted: dict[LogId, _Wanted] = field(default_factory=dict)
    _next_due: int | None = None

    @property
    def wake_at(self) -> int | None:
        """When a gap is due to be asked for, or a pull has been silent too long."""
        times = [asked.deadline for asked in self.pulls.values()]
        if self._next_due is not None and len(self.pulls) < PULLS_MAX:
            times.append(self._next_due)
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
        elif upper > wanted.upper:
            # The latest teller holds the most: it is asked first.
            wanted.upper = upper
            wanted.tellers = [teller, *(t for t in wanted.tellers if t != teller)][:TELLERS_MAX]
        elif teller not in wanted.tellers:
            wanted.tellers = [*wanted.tellers, teller][:TELLERS_MAX]
        if wanted.pull is None:
            self._hurry(wanted.due)

    def take_due(
        self, now: int, gaps: Gaps, live: Iterable[NodeId], is_busy: bool
    ) -> tuple[list[tuple[NodeId, list[tuple[LogId, Spans]]]], bool]:
        """What to ask of whom: [(peer, [(log, spans)])], and whether a digest found any of it.

        Nothing while `is_busy`: what was pulled before waits for the disk.
        """
        by_peer: dict[NodeId, list[tuple[LogId, Spans]]] = {}
        busy = {asked.peer for asked in self.pulls.values()}
        catch_ups = sum(asked.is_catch_up for asked in self.pulls.values())
        found = False
        if not is_busy:
            everybody = dict.fromkeys(live)
            for log, wanted, missing in self._due(now, gaps):
                peer = self._whom(wanted, everybody, busy, by_peer)
                is_large = missing.count() > REPAIR_MESSAGES_MAX
                if peer is None or (is_large and catch_ups >= CATCH_UPS_MAX):
                    continue
                catch_ups += is_large and peer not in by_peer
                chosen = by_peer.setdefault(peer, [])
                if len(chosen) < LOGS_PER_PULL:
                    chosen.append((log, missing))
                    found = found or wanted.by_digest
        self._reckon(now, gaps)
        return list(by_peer.items()), found

    def look_again(self, now: int) -> None:
        """What kept due gaps from being asked for is gone."""
        if self._wanted:
            self._hurry(now)

    def asked(self, nonce: int, peer: NodeId, spans: list[tuple[LogId, Spans]], now: int) -> None:
        """A pull is being sent."""
        missing = {log: missing.count() for log, missing in spans}
        pull = self.pulls[nonce] = Asked(peer, missing, now + self.repair_timeout)
        if pull.is_catch_up:
            pull.deadline = now + self.pull_timeout
        for log in missing:
            self._wanted[log].pull = nonce

    def heard(self, nonce: int, peer: NodeId, now: int) -> bool:
        """A part of a replay came; False if nobody asked that peer for it."""
        asked = self.pulls.get(nonce)
        if asked is None or asked.peer != peer:
            return False
        asked.deadline = now + self.pull_timeout
        return True

    def heard_any(self, peer: NodeId, now: int) -> int:
        """Part of a large message came from a peer: how many messages it was asked for, if any."""
        asked_for = 0
        for asked in self.pulls.values():
            if asked.peer == peer:
                asked.deadline = now + self.pull_timeout
                asked_for += sum(asked.missing.values())
        return asked_for

    def ended(self, nonce: int, peer: NodeId, now: int, gaps: Gaps) -> None:
        """A replay came to its end: what it did not bring is due again."""
        asked = self.pulls.get(nonce)
        if asked is not None and asked.peer == peer:
            self._close(nonce, now, gaps)

    def close_silent(self, now: int, gaps: Gaps) -> None:
        """Give up pulls that went silent."""
        for nonce in [n for n, asked in self.pulls.items() if asked.deadline <= now]:
            self._close(nonce, now, gaps)

    def _close(self, nonce: int, now: int, gaps: Gaps) -> None:
        asked = self.pulls.pop(nonce)
        for log, before in asked.missing.items():
            wanted = self._wanted[log]
            wanted.pull = None
            left = gaps(log, wanted.upper).count()
            if not left:
                del self._wanted[log]
            elif left < before:
                wanted.failures = 0
                wanted.due = now
            else:
                self._fail(log, wanted, asked.peer, now)
        self._next_due = now

    def _fail(self, log: LogId, wanted: _Wanted, peer: NodeId, now: int) -> None:
        wanted.failures += 1
        wanted.tellers = [t for t in wanted.tellers if t != peer] + [peer]
        # The timeout paced the first few, and another peer is next; then ever more rarely.
        patient = max(wanted.failures - FAILURES_QUICK, 0)
        wanted.due = now + ((self.repair_timeout << patient) - self.repair_timeout) // 2
        if wanted.failures >= FAILURES_MAX:
            del self._wanted[log]
            self.abandoned += 1

    def _due(self, now: int, gaps: Gaps) -> list[tuple[LogId, _Wanted, Spans]]:
        """Gaps to be asked for, the longest due first: no log waits behind another's flow."""
        due = []
        for log, wanted in list(self._wanted.items()):
            if wanted.pull is None and wanted.due <= now:
                missing = gaps(log, wanted.upper)
                if missing:
                    due.append((log, wanted, missing))
                else:
                    del self._wanted[log]
        due.sort(key=lambda row: row[1].due)
        return due

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

    def _hurry(self, due: int) -> None:
        if self._next_due is None or due < self._next_due:
            self._next_due = due

    def _reckon(self, now: int, gaps: Gaps) -> None:
        """Count what is missing and find when to look again."""
        idle = [wanted.due for wanted in self._wanted.values() if wanted.pull is None]
        self._next_due = min((due for due in idle if due > now), default=None)
        if any(due <= now for due in idle):
            # Due, and nobody to ask or no leave to: the end of a pull or a commit looks again at
            # once, and if neither comes, time does.
            self._hurry(now + self.pull_timeout)
        self.to_go = sum(gaps(log, wanted.upper).count() for log, wanted in self._wanted.items())
