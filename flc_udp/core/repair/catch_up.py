"""Catch-up: fetches a long stretch of missing history, from several peers at once.

    a stretch of stamps ─▶ window ─▶ one peer ───── replay … end ─▶ done, or its rest again
                           window ─▶ another peer ─ silent ───────▶ again, of the next peer

Rules. Stamps are asked for from the lowest on, in windows (`windows`), which are as wide as suits
what the network carries. Blocks are taken in the order of their stamps; what comes too early is
laid aside, because the windows of several peers come in any order. Stamps rise along every cause,
so blocks that are taken in this order are decided as they are taken. What a window did not bring
is asked for again before anything later. Where to begin follows from what is missing, so a node
that restarts goes on where it stopped.
"""

from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import replace

from flc_udp.config import BLOCK_BYTES_MAX, STAMP_LIMIT
from flc_udp.core.repair.windows import Pace, StampWindow, Stretches
from flc_udp.model.block import stamp_of
from flc_udp.model.dots import LogId, NodeId
from flc_udp.model.units import NEVER, SECOND_US, Micros
from flc_udp.wire.packets import Replay, ReplayEnd

PEERS_MAX = 3
"""At most this many peers are asked at once."""

WINDOWS_PER_PEER = 2
"""A peer is asked for this many windows at once. While one answer is on its way the peer reads the
next one from its log, so it never waits for a question."""

EARLY_BYTES_MAX = 4 << 20
"""While more than this is laid aside, nothing new is asked for, only what was lost."""

SILENCES_MAX = 8
"""A window may be met with this many silences, which may be mere loss. After that, each peer that
is silent about it is not asked for it again."""

PENALTY_US = 2 * SECOND_US
"""For this long a peer that was silent is asked only if there is no other."""

PeersOf = Callable[[LogId], Sequence[NodeId]]
"""Tells whom to ask for a log, the likeliest first."""


class CatchUp:
    """One catch-up. Times are in µs. Nothing is under way while `logs` is empty."""

    def __init__(self, timeout_us: int, credit_bytes_max: int) -> None:
        self.logs: dict[LogId, int] = {}
        """{log: messages missing when it was taken over}."""
        self.pulls: dict[int, StampWindow] = {}
        """The windows that are being asked for, by nonce."""
        self._timeout_us = timeout_us
        self.stretches = Stretches()
        self.pace = Pace(credit_bytes_max)
        self._early: list[StampWindow] = []
        """Windows whose answers came to their end while something before them is still to come."""
        self._waiting: deque[StampWindow] = deque()
        """Windows to be asked for, the most urgent first."""
        self._silent_until: dict[NodeId, int] = {}
        """Until when a peer that was silent is asked only if there is no other."""
        self._released: list[LogId] = []
        """Logs that were given up since the last look."""
        self._look_at: int = NEVER
        """When to look whether another window may be asked for."""

    @property
    def early_bytes(self) -> int:
        """The size of what is laid aside, because something before it is still to come."""
        return sum(window.size_bytes for window in self._early)

    @property
    def wake_at(self) -> int:
        """When a window has been silent for too long, or another may be asked for."""
        return min([self._look_at, *(window.deadline for window in self.pulls.values())])

    def take_over(self, missing: dict[LogId, int], now: Micros) -> None:
        """Catch up on these logs too: {log: messages missing}."""
        self.stretches.add([log for log in missing if log not in self.logs])
        self.logs.update(missing)
        self.look_again(now)

    def look_again(self, now: Micros) -> None:
        """What kept the next window from being asked for may be gone."""
        if self.logs:
            self._look_at = now

    def take_released(self) -> dict[LogId, int]:
        """The logs that catch-up is done with, or has given up: {log: messages missing at first}.

        At the end these are all.
        """
        logs, self._released = self._released, []
        if self.logs and self.stretches.is_through and self._has_nothing:
            logs = list(self.logs)
        released = {log: self.logs.pop(log) for log in logs if log in self.logs}
        if released and not self.logs:
            self._stop()
        return released

    @property
    def _has_nothing(self) -> bool:
        """Whether no window is under way, to be asked for, or laid aside."""
        return not (self.pulls or self._waiting or self._early)

    def _stop(self) -> None:
        """Ask for nothing any more.

        Windows of logs that were given up may still be under way. Their answers do not count.
        """
        self.pulls.clear()
        self._waiting.clear()
        self._early.clear()
        self.stretches = Stretches()
        self.pace.width = 0  # How dense these messages were says nothing about later ones.
        self._look_at = NEVER

    # --- Asking -----------------------------------------------------------------------------------

    def take(
        self, now: Micros, peers_of: PeersOf, *, is_busy: bool, is_full: bool
    ) -> StampWindow | None:
        """The next window to ask for, with its peer. None: it has to wait.

        Nothing is asked for while too much waits for the disk (`is_busy`). While too much waits for
        its causes (`is_full`) or is laid aside, only what was asked for before is asked for again.
        """
        self._look_at = NEVER
        # What waits for its causes may need what is not asked for yet, so with nothing under way
        # the next stretch is begun all the same. What is laid aside needs nothing that is not asked
        # for: with nothing under way it waits for the disk, or for a base.
        has_room = self.early_bytes <= EARLY_BYTES_MAX
        while self.logs and not is_busy:
            goes_on = has_room and not (is_full and self.pulls)
            if not self._waiting and not (goes_on and self._cut()):
                return None
            window = self._waiting[0]
            peers = [peer for peer in peers_of(window.logs[0]) if peer not in window.refused]
            if not peers:
                self._give_up(self._waiting.popleft())
                continue
            peer = self._choose(peers, now)
            if peer is None:
                return None
            window.peer = peer
            return self._waiting.popleft()
        return None

    def asked(self, nonce: int, window: StampWindow, now: Micros, *, in_pieces: bool) -> None:
        """A pull for a window is being sent. `in_pieces`: it asks for pieces of some message."""
        window.deadline = now + self._timeout_us
        window.in_pieces = in_pieces
        self.pulls[nonce] = window

    def _cut(self) -> bool:
        """Cut the next windows. Return whether there are any."""
        if self.pace.width:
            self._waiting += self.stretches.cut(self.pace.width)
        elif not self.pulls:
            self._waiting += self.stretches.probe()
        return bool(self._waiting)

    def _choose(self, peers: Sequence[NodeId], now: Micros) -> NodeId | None:
        """The least busy of these peers. One that was silent is chosen only if all were.

        None: all of them are busy, or enough others are asked already.
        """
        busy = Counter(window.peer for window in self.pulls.values())
        may_begin = len(busy) < PEERS_MAX
        sound = [peer for peer in peers if self._silent_until.get(peer, 0) <= now] or peers
        free = [
            peer for peer in sound if busy[peer] < WINDOWS_PER_PEER and (peer in busy or may_begin)
        ]
        return min(free, key=lambda peer: busy[peer], default=None)

    def _give_up(self, window: StampWindow) -> None:
        """No peer that can be asked holds what is missing of these logs: release them."""
        self._released += [log for log in window.logs if log in self.logs]
        self.stretches.give_up(window)

    # --- Answers ----------------------------------------------------------------------------------

    def heard(self, replay: Replay, peer: NodeId, now: Micros) -> bool:
        """A part of an answer came. `take_ready` returns its blocks in the order of stamps.

        False: nobody asked that peer for it, or for so much.
        """
        window = self.pulls.get(replay.nonce)
        most_bytes = self.pace.credit_bytes_max + BLOCK_BYTES_MAX
        if window is None or window.peer != peer or window.size_bytes > most_bytes:
            return False
        if not window.first_stamp and replay.blocks:
            window.first_stamp = stamp_of(replay.blocks[0])
        window.laid_aside += replay.blocks
        window.blocks += len(replay.blocks)
        window.size_bytes += sum(map(len, replay.blocks))
        window.has_some = True
        window.deadline = now + self._timeout_us
        return True

    def heard_piece(self, peer: NodeId, now: Micros) -> bool:
        """A piece of a large message came. Return whether its sender is asked for any window."""
        windows = [window for window in self.pulls.values() if window.peer == peer]
        for window in windows:
            window.has_some = window.in_pieces = True
            window.deadline = now + self._timeout_us
        return bool(windows)

    def take_ready(self, now: Micros) -> list[bytes]:
        """The blocks that came and before which nothing is still to come."""
        if not self.logs:
            return []
        to_come = (window.after for window in (*self.pulls.values(), *self._waiting))
        lowest = min(to_come, default=STAMP_LIMIT)
        # The first stamp to come lies in the lowest of the windows under way, so what comes in that
        # one is taken as it comes.
        windows = (*self._early, *self.pulls.values())
        ready = [window for window in windows if window.laid_aside and window.after <= lowest]
        if not ready:
            return []
        ready.sort(key=lambda window: window.after)
        self._early = [window for window in self._early if window.after > lowest]
        blocks = [encoded for window in ready for encoded in window.laid_aside]
        for window in ready:
            window.laid_aside = []
        if self._has_nothing:
            self.look_again(now)  # This may have been the last of it.
        return blocks

    def ended(self, end: ReplayEnd, peer: NodeId, now: Micros) -> StampWindow | None:
        """An answer came to its end. Return its window; what it lacks waits to be asked for again.

        None: nobody asked that peer for it.
        """
        window = self.pulls.get(end.nonce)
        if window is None or window.peer != peer:
            return None
        del self.pulls[end.nonce]
        self._silent_until.pop(peer, None)
        self.look_again(now)
        is_whole = window.blocks >= end.sent
        if is_whole or window.in_pieces:
            self.pace.came_whole()
        else:
            self.pace.lost_some()
        if window.laid_aside:
            # If some of it was lost, what came is taken next, before all that is still to come:
            # then only what is really missing is asked for again.
            self._early.append(window if is_whole else replace(window, after=0))
        is_probe = not self.pace.width
        self.pace.measure(window, end, len(self.stretches))
        if not is_probe:
            self._ask_again(window, end, is_whole=is_whole)
        elif is_whole and window.first_stamp:
            # From here on windows are cut to measure. What came already is not asked for again.
            self.stretches.goes_on_at(window.group, window.first_stamp)
        return window

    def _ask_again(self, window: StampWindow, end: ReplayEnd, *, is_whole: bool) -> None:
        """Put the rest of a window first among those that wait, if there is any.

        The logs of which this peer holds less than is wanted are asked of another one. So is all,
        if the peer sent nothing and told of nothing further.
        """
        is_sure = is_whole and not window.in_pieces
        reached = min(end.next, window.below) if is_sure else window.after
        lacking = tuple(log for log in window.logs if log in end.lacks)
        others = tuple(log for log in window.logs if log not in lacking)
        if lacking:
            self._waiting.appendleft(window.rest(window.after, lacking, refuse=True))
        if others and reached < window.below:
            is_stuck = not (window.has_some or end.sent) and reached == window.after
            self._waiting.appendleft(window.rest(reached, others, refuse=is_stuck))
        elif not lacking:
            self.stretches.goes_on_at(window.group, end.next)

    def close_silent(self, now: Micros) -> None:
        """Ask again for the windows of which nothing came for too long."""
        for nonce in [n for n, window in self.pulls.items() if window.deadline <= now]:
            window = self.pulls.pop(nonce)
            self._silent_until[window.peer] = now + PENALTY_US
            refuse = window.tries >= SILENCES_MAX
            self._waiting.appendleft(window.rest(window.after, window.logs, refuse=refuse))
            self.pace.lost_some()
            self.look_again(now)
