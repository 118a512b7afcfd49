"""Wants: what is missing here is asked for, of one peer after another, until it came.

    later ── due ─▶ ready ── a pull ── its answer, in parts, then its end ─▶ ready, later, dropped
                      │         └───── nothing came for too long ─────────▶ later, dropped
                      └── much is missing ─▶ catch-up has it ─▶ catch-up is done with it ─▲

Rules. A log is asked of one peer at a time: of its tellers first, then of anybody. At most
PULLS_MAX peers are asked at once, each by one pull. A pull has a nonce, and only the peer that was
asked can answer it. Every part of an answer gives it more time, and what comes too late is taken
all the same. Long stretches of history are left
to catch-up (`catch_up`).

A log of which an answer brought something is ready again at once. The first failures are followed
by another pull at once, later ones after pauses that double, and after too many the want is
dropped; a later digest brings it back. A member that has deleted what is wanted answers with its
floor. Another one may still keep it, so each of them is asked, and a base is taken only when all
were asked in vain.

What a member claims to hold is *backed* once an answer brought some of it and its sender holds the
rest. All that is only claimed counts as little, so no claim keeps a node from repair. Who claimed
what nobody brought is believed little for a while. Nothing here walks over all wants, because a
newcomer to ten thousand logs has ten thousand of them.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import islice

from flc_udp.core.repair.pull_packets import LOGS_PER_PULL, Missing
from flc_udp.core.repair.wanted_log import (
    ENOUGH,
    FAILURES_MAX,
    FLOWS_US,
    Asker,
    Floors,
    WantedLog,
)
from flc_udp.model.dots import LogId, NodeId, Spans
from flc_udp.model.errors import Drop
from flc_udp.model.units import NEVER, SECOND_US, Micros

REPAIR_MESSAGES_MAX = 256
"""A pull for at most this many messages repairs live traffic, so what it brings is forwarded. A
pull for more fetches history."""

CATCH_UP_LEAST = 1_024
"""Catch-up begins when at least this many messages are missing in all logs together."""

DOUBTED_US = 60 * SECOND_US
"""For this long a member that claimed what nobody brought is asked for a little at a time only."""

DOUBTED_MAX = 1_024
"""At most this many members are doubted at once."""

VAIN_MAX = 2 * FAILURES_MAX
"""After so many pulls in a row that brought nothing of what a member was the first to tell of, all
that it tells of is given up, however much that is. An honest one may be taken for that while its
answers are lost. So each digest of it is worth one more pull, which brings back what is true."""

WANTS_MAX = 65_536
"""At most this many logs are wanted at once."""

PULLS_MAX = 8
"""At most this many peers are asked at once."""

LATE_MAX = 64
"""The answers to this many pulls that were given up are still taken, where they come late."""

LOOKS_MAX = 512
"""At most this many ready logs are looked at in one go. All pulls together cannot name more."""

ASKED_ANEW_US = 5 * SECOND_US
"""What no member keeps is asked for again after this time, unless a base was taken meanwhile."""

SILENT = 1
"""The doubt after a pull that was not answered."""

VAIN = 2
"""The doubt after an answer of which nothing arrived. There may have been something in it."""

Gaps = Callable[[LogId, int], Spans]
"""Tells what is missing of a log up to a seq, as `Causal.gaps` does."""

Chosen = dict[NodeId, Missing]
"""What to ask of whom."""


@dataclass(slots=True)
class PullUnderWay:
    """One pull, as the node that asked remembers it."""

    peer: NodeId
    logs: tuple[LogId, ...]
    messages: int
    """How many messages were missing in all."""
    deadline: int
    for_pieces: bool
    """Whether it asks for pieces. The end of an answer does not count pieces, so then it does not
    tell whether the peer has nothing."""
    has_pieces: bool = False
    """Whether pieces came: that is progress, although no message is whole yet."""


class Wants:
    """All wanted logs, and the pulls for them. Times are in µs."""

    def __init__(
        self, gaps: Gaps, pull_timeout_us: int, repair_timeout_us: int, drops: Counter[Drop]
    ) -> None:
        self.backed = self.claimed = 0
        """Messages that are missing, as last counted: of backed claims, and of others."""
        self.found = False
        """Whether a digest was the first to tell of something that was asked for since this was
        last looked at."""
        self.pulls: dict[int, PullUnderWay] = {}
        """The pulls under way, by nonce."""
        self._late: dict[int, PullUnderWay] = {}
        """The last ones that were given up, because nothing came for too long."""
        self._gaps = gaps
        self._pull_timeout_us = pull_timeout_us
        """A pull has ended when nothing came for this long."""
        self._repair_timeout_us = repair_timeout_us
        """The first part of an answer has this long, if the pull repairs live traffic."""
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
        self._doubted: dict[NodeId, int] = {}
        """Until when a member is believed little."""
        self._vain: Counter[NodeId] = Counter()
        """How many pulls in a row brought nothing of what this member was the first to tell of."""
        self._given_up: list[LogId] = []
        self._look_at: int = NEVER
        """When to try again what is ready and could not be asked for."""

    @property
    def to_go(self) -> int:
        """How many messages are missing, as far as is known. What is only claimed counts little."""
        return self.backed + min(self.claimed, CATCH_UP_LEAST)

    @property
    def wake_at(self) -> int:
        """When something is due to be asked for, or a pull has been silent for too long."""
        times = [pull.deadline for pull in self.pulls.values()]
        if len(times) < PULLS_MAX:
            times += (self._later[0][0] if self._later else NEVER, self._look_at)
        return min(times)

    @property
    def is_idle(self) -> bool:
        """Whether nothing is wanted of anybody, and this has been counted."""
        return self.wake_at == NEVER and not self.to_go

    def look_again(self, now: Micros) -> None:
        """What kept something from being asked for may be gone."""
        if self._ready:
            self._look_at = now

    # --- What is missing --------------------------------------------------------------------------

    def add(
        self, log: LogId, upper: int, teller: NodeId, due_at: int, *, by_digest: bool = False
    ) -> None:
        """`teller` holds `log` up to `upper`. What is still missing at `due_at` is asked for."""
        if by_digest and self._vain[teller] >= VAIN_MAX:
            self._vain[teller] = VAIN_MAX - 1
        if self._doubted.get(teller, 0) > due_at and (missing := self._gaps(log, upper)):
            upper = min(upper, missing.first + REPAIR_MESSAGES_MAX - 1)
        wanted = self._wanted.get(log)
        if wanted is None:
            if len(self._wanted) >= WANTS_MAX:
                return
            wanted = self._wanted[log] = WantedLog(due_at, by_digest)
            self._wait(log, wanted, due_at)
        elif wanted.floors is not None:
            wanted.floors.tells(teller)
        elif due_at < wanted.due_at and wanted.asker is None and log not in self._ready:
            self._wait(log, wanted, due_at)  # A digest leaves more time than other tellings.
        if wanted.tell(upper, teller):
            self._uncounted[log] = None

    def flowed(self, log: LogId, now: Micros) -> None:
        """The tree brought some of a log."""
        wanted = self._wanted.get(log)
        if wanted is not None:
            wanted.flowed_at = now

    def missing(self, log: LogId) -> Spans:
        """What is wanted of a log, and missing now."""
        wanted = self._wanted.get(log)
        return Spans() if wanted is None else self._gaps(log, wanted.upper)

    def tellers(self, log: LogId) -> list[NodeId]:
        """Who told of it, in the order in which they are to be asked."""
        wanted = self._wanted.get(log)
        return [] if wanted is None else wanted.tellers

    def _count(self, log: LogId, wanted: WantedLog) -> Spans:
        """Count what is missing of a wanted log, and return it. If nothing is, drop the want."""
        missing = self._gaps(log, wanted.upper)
        self._tally(wanted, missing.count())
        if not wanted.missing:
            self._drop(log, wanted)
        return missing

    def _tally(self, wanted: WantedLog, missing: int, *, is_backed: bool | None = None) -> None:
        """So much is missing of a log. `is_backed` is as before unless it is given."""
        was = wanted.is_backed
        wanted.is_backed = was if is_backed is None else is_backed
        self.backed += missing * wanted.is_backed - wanted.missing * was
        self.claimed += missing * (not wanted.is_backed) - wanted.missing * (not was)
        wanted.missing = missing

    # --- Asking -----------------------------------------------------------------------------------

    def ripen(self, now: Micros) -> None:
        """Make ready what is due.

        What was due first comes first, so no log waits for others that keep bringing messages.
        """
        uncounted, self._uncounted = self._uncounted, {}
        for log in uncounted:  # Those in a pull are counted when it is over.
            if (wanted := self._wanted.get(log)) is not None and wanted.asker is None:
                if wanted.flows(self._gaps(log, wanted.upper), now):
                    self._uncounted[log] = None
                else:
                    self._count(log, wanted)
        while self._later and self._later[0][0] <= now:
            due_at, log = heappop(self._later)
            wanted = self._wanted.get(log)
            if wanted is None or wanted.asker is not None or wanted.due_at != due_at:
                continue
            if wanted.flows(self._gaps(log, wanted.upper), now):
                self._wait(log, wanted, wanted.flowed_at + FLOWS_US)
            else:
                self._ready[log] = None

    def take_due(self, now: Micros, live: Collection[NodeId], *, is_busy: bool) -> Chosen:
        """What to ask of whom.

        Nothing is asked for while `is_busy`: what came by earlier pulls waits for the disk.
        """
        chosen: Chosen = {}
        busy = {pull.peer for pull in self.pulls.values()}
        for log in [] if is_busy else list(islice(self._ready, LOOKS_MAX)):
            wanted = self._wanted[log]
            missing = self._count(log, wanted)
            if not missing:
                continue
            if self._is_made_up(wanted):
                self._give_up(log, wanted, now)
                continue
            to_ask = wanted.still_to_ask(live)
            if live and not to_ask:
                self._note_truncated(log, wanted, now)
                continue
            peer = _choose(wanted.tellers, to_ask, busy, chosen)
            if peer is None:
                self._ready[log] = self._ready.pop(log)  # The others are looked at first.
                continue
            logs = chosen.setdefault(peer, [])
            if len(logs) < LOGS_PER_PULL:
                logs.append((log, missing))
                self.found = self.found or wanted.by_digest
        # The end of a pull or of a commit looks again at once. If neither comes, time does.
        self._look_at = now + self._pull_timeout_us if self._ready else NEVER
        return chosen

    def asked(
        self, nonce: int, peer: NodeId, named: Missing, now: Micros, *, for_pieces: bool = False
    ) -> int:
        """A pull for what is missing of these logs is being sent: it asks for so many messages."""
        messages = sum(missing.count() for _, missing in named)
        deadline = now + self._silence_us(messages)
        logs = tuple(log for log, _ in named)
        self.pulls[nonce] = PullUnderWay(peer, logs, messages, deadline, for_pieces)
        for log in logs:
            self._wanted[log].asker = Asker.PULL
            self._ready.pop(log, None)
        return messages

    def _silence_us(self, messages: int) -> int:
        """After how much silence a pull for so many messages has ended."""
        is_repair = messages <= REPAIR_MESSAGES_MAX
        return self._repair_timeout_us if is_repair else self._pull_timeout_us

    # --- Answers ----------------------------------------------------------------------------------

    def heard(self, nonce: int, peer: NodeId, now: Micros) -> int | None:
        """A part of an answer came: how many messages were asked for. None: nobody asked for it."""
        pull = self.pulls.get(nonce) or self._late.get(nonce)
        if pull is None or pull.peer != peer:
            return None
        pull.deadline = now + self._silence_us(pull.messages)
        return pull.messages

    def heard_piece(self, peer: NodeId, now: Micros) -> int:
        """A piece of a large message came: how many messages that peer was asked for, 0 if none.

        A piece has no nonce, so it counts for all pulls from its sender.
        """
        pulls = [pull for pull in self.pulls.values() if pull.peer == peer]
        for pull in pulls:
            pull.deadline = now + self._silence_us(pull.messages)
            pull.has_pieces = True
        return sum(pull.messages for pull in pulls)

    def ended(
        self,
        nonce: int,
        peer: NodeId,
        now: Micros,
        *,
        is_empty: bool = False,
        lacks: Collection[LogId] = (),
    ) -> None:
        """An answer came to its end, so what it did not bring is due again.

        `is_empty`: the peer said that it has nothing of all that it was asked for. Of the logs that
        it `lacks` it holds less than that.
        """
        pull = self.pulls.get(nonce)
        if pull is not None and pull.peer == peer:
            doubt = ENOUGH if is_empty and not pull.for_pieces else VAIN
            self._close(nonce, doubt, now, lacks)

    def close_silent(self, now: Micros) -> None:
        """Give up the pulls for which nothing came for too long."""
        for nonce in [nonce for nonce, pull in self.pulls.items() if pull.deadline <= now]:
            self._late[nonce] = self.pulls[nonce]
            self._close(nonce, SILENT, now)
        while len(self._late) > LATE_MAX:
            del self._late[next(iter(self._late))]

    def _close(self, nonce: int, doubt: int, now: Micros, lacks: Collection[LogId] = ()) -> None:
        """A pull is over. `doubt` is what follows for its peer if nothing came."""
        pull = self.pulls.pop(nonce)
        gained = [log for log in pull.logs if self._gained(log, self._wanted[log])]
        self._note_floors(pull, doubt, brought=pull.has_pieces or bool(gained))
        told = {self._wanted[log].boldest for log in pull.logs}
        true = told if pull.has_pieces else {self._wanted[log].boldest for log in gained}
        for teller in sorted(told):
            self._vain[teller] = 0 if teller in true else self._vain[teller] + 1
        while len(self._vain) > DOUBTED_MAX:
            del self._vain[next(iter(self._vain))]
        for log in pull.logs:
            self._settle(
                log,
                self._wanted[log],
                pull.peer,
                now,
                is_more=pull.has_pieces or log in gained,
                is_backed=log not in lacks,
            )
        self.look_again(now)

    def _gained(self, log: LogId, wanted: WantedLog) -> bool:
        missing = self._gaps(log, wanted.upper)
        return missing.count() < wanted.missing and wanted.gained(missing)

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
            self.found = self.found or wanted.by_digest
        return {log: wanted.missing for log, wanted in taken.items()}

    def recount(self, logs: Mapping[LogId, bool]) -> None:
        """Answers to catch-up came to their end: {log: whether the rest is held by who sent it}.

        A log that catch-up has given back meanwhile may be in a pull, whose end counts it.
        """
        for log, is_held in logs.items():
            wanted = self._wanted.get(log)
            if wanted is not None and wanted.asker is Asker.CATCH_UP:
                before = wanted.missing
                self._count(log, wanted)
                is_backed = is_held and (wanted.is_backed or wanted.missing < before)
                self._tally(wanted, wanted.missing, is_backed=is_backed)

    def give_back(self, log: LogId, before: int, now: Micros) -> None:
        """Catch-up is done with a log of which `before` messages were missing at first."""
        wanted = self._wanted.get(log)
        if wanted is not None and wanted.asker is Asker.CATCH_UP:
            is_more, is_backed = self._gaps(log, wanted.upper).count() < before, wanted.is_backed
            peer = wanted.tellers[0]
            self._settle(log, wanted, peer, now, is_more=is_more, is_backed=is_backed)

    # --- What members have deleted ----------------------------------------------------------------

    def asked_of(self, nonce: int, peer: NodeId) -> tuple[LogId, ...]:
        """The logs that this peer was asked for under this nonce."""
        pull = self.pulls.get(nonce) or self._late.get(nonce)
        return () if pull is None or pull.peer != peer else pull.logs

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

    def base_refused(self, logs: Iterable[LogId], peer: NodeId) -> None:
        """A member told of a floor for these and has no base of them: another one's is due."""
        for log in logs:
            wanted = self._wanted.get(log)
            if wanted is not None and wanted.floors is not None:
                wanted.floors.asked[peer] = 0
                self._truncated[log] = None

    def _note_truncated(self, log: LogId, wanted: WantedLog, now: Micros) -> None:
        """No reachable member keeps what is wanted of a log.

        A base is to be taken. If that fails, all members are asked anew after a while.
        """
        assert wanted.floors is not None
        wanted.floors.is_through = True
        self._truncated[log] = None
        del self._ready[log]
        self._wait(log, wanted, now + ASKED_ANEW_US)

    def _note_floors(self, pull: PullUnderWay, doubt: int, *, brought: bool) -> None:
        """Note how a peer answered for logs of which some member has deleted what is wanted.

        If it brought anything it is not doubted. What it brought may be of other logs, because
        messages come in the order of stamps, and only as many as the credit allows.
        """
        for floors in [it for log in pull.logs if (it := self._wanted[log].floors)]:
            if brought:
                floors.has_brought(pull.peer)
            else:
                floors.doubt(pull.peer, doubt)

    # --- One want ---------------------------------------------------------------------------------

    def _settle(  # what became of one want
        self,
        log: LogId,
        wanted: WantedLog,
        peer: NodeId,
        now: Micros,
        *,
        is_more: bool,
        is_backed: bool,
    ) -> None:
        """Nobody is asked for this log any more. `is_more`: some of it came since `peer` was.

        `is_backed`: if some of it came, `peer` has the rest, too.
        """
        wanted.asker = None
        self._count(log, wanted)
        if wanted.missing and is_more:
            wanted.failures = 0
            self._doubted.pop(peer, None)
            self._tally(wanted, wanted.missing, is_backed=is_backed)
            self._ready[log] = None
        elif wanted.missing:
            wanted.fail(peer)
            self._tally(wanted, wanted.missing, is_backed=False)
            if wanted.failures >= FAILURES_MAX:
                self._give_up(log, wanted, now)
            else:
                self._wait(log, wanted, now + wanted.pause_us(self._repair_timeout_us))

    def _is_made_up(self, wanted: WantedLog) -> bool:
        """Whether a member was the first to tell of it of whose claims nothing came for long."""
        is_only_claimed = wanted.floors is None and not wanted.is_backed
        return is_only_claimed and self._vain[wanted.boldest] >= VAIN_MAX

    def _give_up(self, log: LogId, wanted: WantedLog, now: Micros) -> None:
        self._drops[Drop.WANT_GIVEN_UP] += 1
        self._doubt(wanted.boldest, now)
        self._drop(log, wanted)
        self._given_up.append(log)

    def take_given_up(self) -> list[LogId]:
        """The logs that nobody is asked for any more, though something of them is missing."""
        logs, self._given_up = self._given_up, []
        return logs

    def _doubt(self, peer: NodeId, now: Micros) -> None:
        self._doubted[peer] = now + DOUBTED_US
        if len(self._doubted) > DOUBTED_MAX:
            del self._doubted[next(iter(self._doubted))]

    def _wait(self, log: LogId, wanted: WantedLog, due_at: int) -> None:
        wanted.due_at = due_at
        heappush(self._later, (due_at, log))

    def _drop(self, log: LogId, wanted: WantedLog) -> None:
        self._truncated.pop(log, None)
        self._tally(wanted, 0)
        del self._wanted[log]
        self._ready.pop(log, None)


def _choose(
    tellers: Sequence[NodeId], to_ask: Collection[NodeId], busy: set[NodeId], chosen: Chosen
) -> NodeId | None:
    """Choose a teller that is to be asked and is not busy, or any member if no teller is.

    A peer that is asked for other logs at the same time comes first: one pull names them all. None:
    all of them are busy, or enough others are asked already.
    """
    candidates = [teller for teller in tellers if teller in to_ask] or list(to_ask)
    free = [peer for peer in candidates if peer not in busy]
    begun = [peer for peer in free if peer in chosen]
    if begun:
        return begun[0]
    may_begin = len(busy) + len(chosen) < PULLS_MAX
    return free[0] if free and may_begin else None
