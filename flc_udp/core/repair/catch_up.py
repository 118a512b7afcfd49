"""Catch-up: a long stretch of missing history, pulled of several peers in windows of stamps.

    edge ─▶ window ─▶ one peer ───── replay … end ─▶ done, or the rest of it again
            window ─▶ another peer ─ silent ───────▶ the same again, of the next peer

Rules. Stamps rise along every cause, so what comes window by window is decided as it comes,
whatever it was caused by; what comes before its turn is laid aside unread until then. What a window
did not bring is asked for again before anything later. A credit bounds what is under way: it grows
by a step with each window that came whole and halves where datagrams were lost. Where this begins
is read off what is missing, so whoever is restarted goes on where it stopped.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from flc_udp.config import MESSAGE_BYTES_MAX, STAMP_LIMIT
from flc_udp.core.repair.pull_packets import LOGS_PER_PULL
from flc_udp.model.dots import VISITOR, LogId, NodeId
from flc_udp.model.message import stamp_of
from flc_udp.wire.packets import Replay, ReplayEnd

PEERS_MAX = 3
"""Peers asked at once."""

WINDOWS_PER_PEER = 2
"""One is on its way while the other is read: no peer waits for the next question."""

CREDIT_LEAST = 16_384
"""Bytes of one window, however much is lost."""

CREDIT_STEP = 8_192
"""What one window that came whole adds to the credit."""

AHEAD_BYTES = 1 << 20
"""Of all groups of logs together in one stretch of stamps, about: it may wait for its causes."""

EARLY_BYTES_MAX = 4 << 20
"""Of what came before its turn; beyond it only what was asked for before is asked for again."""

GROWTH_MAX = 8
"""A stretch is at most so many times as wide as the one before."""

WIDTH_FIRST = 1_000 << 16
"""A second of stamps, where nothing tells how dense they are."""

TRIES_MAX = 256
"""Answers of one peer after which the same is asked of another: a largest message in pieces of the
least credit takes a quarter of that."""

SILENCES_MAX = 8
"""So often a window may be met with silence, which may be mere loss, before peers are given up."""

PENALTY = 2_000_000
"""A peer that was silent is asked for so long only if there is no other, in µs."""


@dataclass(slots=True)
class StampWindow:
    """Stamps after..below (the second not included) of some logs, asked of one peer at a time."""

    after: int
    below: int
    logs: tuple[LogId, ...]
    group: int
    refused: tuple[NodeId, ...] = ()
    """Peers that were silent about it, or lack it."""
    peer: NodeId = VISITOR
    deadline: int = 0
    messages: int = 0
    size: int = 0
    """Bytes that came."""
    first: int = 0
    """The first stamp that came."""
    came: bool = False
    """Whether anything did: a piece, too."""
    pieces: bool = False
    """Whether some of it comes in pieces: then one more answer has to tell that all of it came."""
    tries: int = 0
    early: list[bytes] = field(default_factory=list)
    """Messages that came while something before them was still to come."""

    def rest(self, after: int, logs: tuple[LogId, ...], *, refuse: bool) -> StampWindow:
        """The same again from `after` on; `refuse` where it is not to be asked of this peer."""
        tries = self.tries + 1 if after == self.after else 0
        refused = (*self.refused, self.peer) if refuse or tries > TRIES_MAX else self.refused
        return StampWindow(after, self.below, logs, self.group, refused, tries=tries)


@dataclass(slots=True)
class CatchUp:
    """The windows of one catch-up; times in µs. Nothing is under way while `logs` is empty."""

    timeout: int
    credit_max: int
    logs: dict[LogId, int] = field(default_factory=dict)
    """{log: messages missing when it was taken over}."""
    pulls: dict[int, StampWindow] = field(default_factory=dict)
    credit: int = 4 * CREDIT_LEAST
    _groups: list[tuple[LogId, ...]] = field(default_factory=list)
    _next_of: list[int] = field(default_factory=list)
    """For each group, the first stamp at which there may be more."""
    _waiting: deque[StampWindow] = field(default_factory=deque)
    _edge: int = 0
    """Below it everything was asked for."""
    _width: int = 0
    """Stamps of the next stretch; 0 until the first answer tells how dense they are."""
    _silent: dict[NodeId, int] = field(default_factory=dict)
    _released: list[LogId] = field(default_factory=list)
    _early: list[StampWindow] = field(default_factory=list)
    """Windows that came to their end before their turn."""
    _look_at: int | None = None

    @property
    def early_bytes(self) -> int:
        """Of what is laid aside because something before it is still to come."""
        return sum(window.size for window in self._early)

    @property
    def _window_bytes_max(self) -> int:
        # An answer goes at most one message beyond the credit.
        return self.credit_max + MESSAGE_BYTES_MAX

    @property
    def wake_at(self) -> int | None:
        """When a window has been silent too long, or another may be asked for."""
        times = [window.deadline for window in self.pulls.values()]
        if self._look_at is not None:
            times.append(self._look_at)
        return min(times, default=None)

    def take_over(self, missing: dict[LogId, int], now: int) -> None:
        """Catch up on these logs too: {log: messages missing}."""
        new = [log for log in missing if log not in self.logs]
        if not self.logs:
            self._width = 0
        if new:
            self._edge = 0  # What these lack may lie below it, and all that comes waits for that.
        self.logs.update(missing)
        for at in range(0, len(new), LOGS_PER_PULL):
            self._groups.append(tuple(new[at : at + LOGS_PER_PULL]))
            self._next_of.append(0)
        self.look_again(now)

    def look_again(self, now: int) -> None:
        """What kept the next window from being asked for may be gone."""
        if self.logs:
            self._look_at = now

    def take_released(self) -> list[LogId]:
        """Logs that nothing more is asked for here: all of them at the end."""
        released, self._released = self._released, []
        is_over = not (self.pulls or self._waiting or self._early) and self._edge >= STAMP_LIMIT
        if self.logs and is_over:
            released = list(self.logs)
        for log in released:
            self.logs.pop(log, None)
        if released and not self.logs:
            self._end()
        return released

    def _end(self) -> None:
        """Nothing is asked for: what is still under way of logs that were let go counts no more."""
        self.pulls.clear()
        self._waiting.clear()
        self._early.clear()
        self._groups.clear()
        self._next_of.clear()
        self._look_at = None

    # --- Asking -----------------------------------------------------------------------------

    def take(
        self,
        now: int,
        peers_of: Callable[[LogId], Sequence[NodeId]],
        *,
        is_busy: bool,
        is_full: bool,
    ) -> StampWindow | None:
        """The next window to ask for, its peer chosen, or None while that has to wait.

        `peers_of` tells whom to ask for a log, the likeliest first. Nothing is asked for while
        too much waits for the disk (`is_busy`), and while too much waits for its causes
        (`is_full`) or for its turn only what was asked for before.
        """
        self._look_at = None
        # What waits for its causes may need what is not asked for yet. What waits for its turn does
        # not: with nothing under way it waits for the disk, or for a base.
        has_room = self.early_bytes <= EARLY_BYTES_MAX
        while self.logs and not is_busy:
            goes_on = has_room and not (is_full and self.pulls)
            if not self._waiting and not (goes_on and self._stretch()):
                return None
            window = self._waiting[0]
            peers = [p for p in peers_of(window.logs[0]) if p not in window.refused]
            if not peers:
                self._waiting.popleft()
                self._give_up(window)
                continue
            peer = self._free(peers, now)
            if peer is None:
                return None
            self._waiting.popleft()
            window.peer = peer
            return window
        return None

    def asked(self, nonce: int, window: StampWindow, now: int, *, pieces: bool) -> None:
        """A window is being asked for; with `pieces`, of a large message whose others came."""
        window.deadline = now + self.timeout
        window.pieces = pieces
        self.pulls[nonce] = window

    def nothing_missing(self, window: StampWindow) -> None:
        """Nothing of the window's logs is, and so nothing is asked."""
        if window.logs == self._groups[window.group]:
            self._next_of[window.group] = STAMP_LIMIT

    # --- Answers ----------------------------------------------------------------------------

    def heard(self, replay: Replay, peer: NodeId, now: int) -> bool:
        """A part of an answer came; False if nobody asked that peer for it, or for so much.

        Its messages are taken by `take_ready`, when it is their turn.
        """
        window = self.pulls.get(replay.nonce)
        if window is None or window.peer != peer or window.size > self._window_bytes_max:
            return False
        if not window.first and replay.messages:
            window.first = stamp_of(replay.messages[0])
        window.early += replay.messages
        window.messages += len(replay.messages)
        window.size += sum(map(len, replay.messages))
        window.came = True
        window.deadline = now + self.timeout
        return True

    def take_ready(self, now: int) -> list[bytes]:
        """Messages whose turn it is: nothing of an earlier stamp is still to come."""
        if not self.logs:
            return []
        lowest = self._lowest()
        ready = [w for w in (*self._early, *self.pulls.values()) if w.early and w.after <= lowest]
        if not ready:
            return []
        ready.sort(key=lambda window: window.after)
        self._early = [window for window in self._early if window.after > lowest]
        messages = [encoded for window in ready for encoded in window.early]
        for window in ready:
            window.early = []
        if not (self.pulls or self._waiting or self._early):
            self.look_again(now)  # It may be over.
        return messages

    def _lowest(self) -> int:
        """Where the first window begins that has not come to its end."""
        return min((w.after for w in (*self.pulls.values(), *self._waiting)), default=STAMP_LIMIT)

    def heard_piece(self, peer: NodeId, now: int) -> bool:
        """A piece of a large message came from a peer; whether it is asked for anything."""
        windows = [window for window in self.pulls.values() if window.peer == peer]
        for window in windows:
            window.came = window.pieces = True
            window.deadline = now + self.timeout
        return bool(windows)

    def ended(self, end: ReplayEnd, peer: NodeId, now: int) -> StampWindow | None:
        """An answer came to its end: its window, whose rest waits again if there is any."""
        window = self.pulls.get(end.nonce)
        if window is None or window.peer != peer:
            return None
        del self.pulls[end.nonce]
        self._silent.pop(peer, None)
        self.look_again(now)
        whole = window.messages >= end.sent
        self._pace(window, end, lost=not whole and not window.pieces)
        if window.early:
            # Out of turn if some of it was lost: what is asked for again is only what is missing.
            self._early.append(window if whole else replace(window, after=0))
        if not self._width:
            self._begin(window, end)
            return window
        reached = min(end.next, window.below) if whole and not window.pieces else window.after
        lacking = tuple(log for log in window.logs if log in end.lacks)
        others = tuple(log for log in window.logs if log not in lacking)
        if lacking:
            self._waiting.appendleft(window.rest(window.after, lacking, refuse=True))
        if others and reached < window.below:
            is_stuck = not (window.came or end.sent) and reached == window.after
            self._waiting.appendleft(window.rest(reached, others, refuse=is_stuck))
        elif not lacking:
            self._next_of[window.group] = max(end.next, self._next_of[window.group])
        return window

    def close_silent(self, now: int) -> None:
        """Ask others for what was silent too long."""
        for nonce in [n for n, window in self.pulls.items() if window.deadline <= now]:
            window = self.pulls.pop(nonce)
            self._silent[window.peer] = now + PENALTY
            refuse = window.tries >= SILENCES_MAX
            self._waiting.appendleft(window.rest(window.after, window.logs, refuse=refuse))
            self.credit = max(self.credit // 2, CREDIT_LEAST)
            self.look_again(now)

    # --- Windows ----------------------------------------------------------------------------

    def _stretch(self) -> bool:
        """Cut the next stretch of stamps, a window for each group; whether there is one."""
        if self._edge >= STAMP_LIMIT:
            return False
        if not self._width:
            return self._probe()
        self._edge = max(self._edge, min(self._next_of))
        below = min(self._edge + self._width, STAMP_LIMIT)
        for group, logs in enumerate(self._groups):
            if self._next_of[group] < below:
                self._waiting.append(StampWindow(self._edge, below, logs, group))
        self._edge = below
        return bool(self._waiting)

    def _probe(self) -> bool:
        """One window alone finds out where the missing begins, and how dense it is."""
        groups = [number for number, at in enumerate(self._next_of) if at < STAMP_LIMIT]
        if not groups:
            self._edge = STAMP_LIMIT
        elif not self.pulls:
            self._waiting.append(StampWindow(0, STAMP_LIMIT, self._groups[groups[0]], groups[0]))
        return bool(self._waiting)

    def _begin(self, probe: StampWindow, end: ReplayEnd) -> None:
        """The first answer came: from here on windows are cut to measure."""
        self._fit(probe.first, end.next, probe.size)
        self._width = self._width or WIDTH_FIRST
        if probe.first and probe.messages >= end.sent:
            self._next_of[probe.group] = probe.first

    def _pace(self, window: StampWindow, end: ReplayEnd, *, lost: bool) -> None:
        """Fit the credit to what is lost, and the width of windows to the credit."""
        if lost:
            self.credit = max(self.credit // 2, CREDIT_LEAST)
        else:
            self.credit = min(self.credit + CREDIT_STEP, self.credit_max)
        if self._width:
            size = window.size * end.sent // max(window.messages, 1)
            self._fit(window.after, min(end.next, window.below), size)

    def _fit(self, start: int, reached: int, size: int) -> None:
        """So many stamps had so many bytes: the next window is to have as many as its credit."""
        if not start < reached < STAMP_LIMIT:
            return
        target = min(self.credit, AHEAD_BYTES // max(len(self._groups), 1))
        width = max((reached - start) * target // max(size, 1), 1)
        self._width = min(width, GROWTH_MAX * (self._width or width))

    def _give_up(self, window: StampWindow) -> None:
        """Nobody who can be asked holds it: these logs are no part of this any more."""
        gone = set(window.logs)
        self._released += [log for log in window.logs if log in self.logs]
        group = tuple(log for log in self._groups[window.group] if log not in gone)
        self._groups[window.group] = group
        if not group:
            self._next_of[window.group] = STAMP_LIMIT

    def _free(self, peers: Sequence[NodeId], now: int) -> NodeId | None:
        """Who of them is asked for the next window: the least busy, of the silent ones none."""
        busy = Counter(window.peer for window in self.pulls.values())
        sound = [peer for peer in peers if self._silent.get(peer, 0) <= now] or peers
        begun = len(busy)
        free = [
            peer
            for peer in sound
            if busy[peer] < WINDOWS_PER_PEER and (peer in busy or begun < PEERS_MAX)
        ]
        return min(free, key=lambda peer: busy[peer], default=None)
