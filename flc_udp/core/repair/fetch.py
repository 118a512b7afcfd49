"""Fetch: asks for what is wanted, of one peer after another, until it came.

    wants ── whom to ask ─▶ a pull ── the answer comes in parts ── its end ─▶ wants
                              └────── nothing came for too long ────────────▶ wants

Rules. A log is asked of one peer at a time: of its tellers first, then of anybody. At most
PULLS_MAX peers are asked at once, each by one pull. A pull has a nonce, and only the peer that was
asked can answer it. Every part of an answer gives it more time. A pull that brought something is
followed by another at once; after one that brought nothing another peer is asked. Long stretches of
history are left to catch-up (`catch_up`).
"""

from collections.abc import Collection, Sequence

from flc_udp.core.repair.pull_packets import LOGS_PER_PULL, Missing
from flc_udp.core.repair.wants import (
    ENOUGH,
    REPAIR_MESSAGES_MAX,
    SILENT,
    VAIN,
    PullUnderWay,
    Wants,
)
from flc_udp.model.dots import NodeId
from flc_udp.model.units import NEVER, Micros

PULLS_MAX = 8
"""At most this many peers are asked at once."""

LOOKS_MAX = 512
"""At most this many ready logs are looked at in one go. All pulls together cannot name more."""

Chosen = dict[NodeId, Missing]
"""What to ask of whom."""


class Fetch:
    """The pulls for what is wanted. Times are in µs."""

    def __init__(self, wants: Wants, pull_timeout_us: int, repair_timeout_us: int) -> None:
        self.pulls: dict[int, PullUnderWay] = {}
        """The pulls under way, by nonce."""
        self._wants = wants
        self._pull_timeout_us = pull_timeout_us
        """A pull has ended when nothing came for this long."""
        self._repair_timeout_us = repair_timeout_us
        """The first part of an answer has this long, if the pull repairs live traffic."""
        self._look_at: int = NEVER
        """When to try again what is ready and could not be asked for."""

    @property
    def wake_at(self) -> int:
        """When something is due to be asked for, or a pull has been silent for too long."""
        times = [pull.deadline for pull in self.pulls.values()]
        if len(times) < PULLS_MAX:
            times += (self._wants.due_at, self._look_at)
        return min(times)

    @property
    def is_idle(self) -> bool:
        """Whether nothing is wanted of anybody, and this has been counted."""
        return self.wake_at == NEVER and not self._wants.to_go

    def look_again(self, now: Micros) -> None:
        """What kept something from being asked for may be gone."""
        if self._wants.has_ready:
            self._look_at = now

    # --- Asking -----------------------------------------------------------------------------------

    def take_due(self, now: Micros, live: Collection[NodeId], *, is_busy: bool) -> Chosen:
        """What to ask of whom.

        Nothing is asked for while `is_busy`: what came by earlier pulls waits for the disk.
        """
        wants = self._wants
        chosen: Chosen = {}
        busy = {pull.peer for pull in self.pulls.values()}
        for log in [] if is_busy else wants.first_ready(LOOKS_MAX):
            missing = wants.count(log)
            if not missing:
                continue
            to_ask = wants.still_to_ask(log, live)
            if live and not to_ask:
                wants.note_truncated(log, now)
                continue
            peer = _choose(wants.tellers(log), to_ask, busy, chosen)
            if peer is None:
                wants.give_way(log)
                continue
            logs = chosen.setdefault(peer, [])
            if len(logs) < LOGS_PER_PULL:
                logs.append((log, missing))
                wants.note_chosen(log)
        # The end of a pull or of a commit looks again at once. If neither comes, time does.
        self._look_at = now + self._pull_timeout_us if wants.has_ready else NEVER
        return chosen

    def asked(
        self, nonce: int, peer: NodeId, logs: Missing, now: Micros, *, for_pieces: bool = False
    ) -> None:
        """A pull for what is missing of these logs is being sent."""
        missing = {log: gaps.count() for log, gaps in logs}
        pull = PullUnderWay(peer, missing, now + self._repair_timeout_us, for_pieces)
        if pull.messages > REPAIR_MESSAGES_MAX:
            pull.deadline = now + self._pull_timeout_us
        self.pulls[nonce] = pull
        self._wants.asked(missing)

    # --- Answers ----------------------------------------------------------------------------------

    def heard(self, nonce: int, peer: NodeId, now: Micros) -> int | None:
        """A part of an answer came: how many messages were asked for. None: nobody asked for it."""
        pull = self.pulls.get(nonce)
        if pull is None or pull.peer != peer:
            return None
        pull.deadline = now + self._pull_timeout_us
        return pull.messages

    def heard_piece(self, peer: NodeId, now: Micros) -> int:
        """A piece of a large message came: how many messages that peer was asked for, 0 if none.

        A piece has no nonce, so it counts for all pulls from its sender.
        """
        pulls = [pull for pull in self.pulls.values() if pull.peer == peer]
        for pull in pulls:
            pull.deadline = now + self._pull_timeout_us
            pull.has_pieces = True
        return sum(pull.messages for pull in pulls)

    def ended(self, nonce: int, peer: NodeId, now: Micros, *, is_empty: bool = False) -> None:
        """An answer came to its end, so what it did not bring is due again.

        `is_empty`: the peer said that it has nothing of all that it was asked for.
        """
        pull = self.pulls.get(nonce)
        if pull is not None and pull.peer == peer:
            self._close(nonce, ENOUGH if is_empty and not pull.for_pieces else VAIN, now)

    def close_silent(self, now: Micros) -> None:
        """Give up the pulls for which nothing came for too long."""
        for nonce in [nonce for nonce, pull in self.pulls.items() if pull.deadline <= now]:
            self._close(nonce, SILENT, now)

    def _close(self, nonce: int, doubt: int, now: Micros) -> None:
        pull = self.pulls.pop(nonce)
        self._wants.answered(pull, doubt, now)
        self.look_again(now)


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
