"""Pulls under way: who was asked for what, and until when an answer is waited for.

    begun ── the answer comes in parts ── its end ─▶ over
      └──── nothing came for too long ─────────────▶ over

Rules. A pull has a nonce, and only the peer that was asked can answer it. Every part of an answer
gives it more time. This module does not know what is wanted, or why.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from flc_udp.model.dots import LogId, NodeId
from flc_udp.model.units import Micros

REPAIR_MESSAGES_MAX = 64
"""A pull for at most this many messages repairs live traffic, so what it brings is forwarded. A
pull for more fetches history."""


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


@dataclass(slots=True)
class Pulls:
    """All pulls under way, by nonce."""

    pull_timeout_us: int
    """A pull has ended when nothing came for this long."""
    repair_timeout_us: int
    """The first part of an answer has this long, if the pull repairs live traffic."""
    by_nonce: dict[int, PullUnderWay] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.by_nonce)

    @property
    def deadlines(self) -> list[int]:
        """When each of them will have been silent for too long."""
        return [pull.deadline for pull in self.by_nonce.values()]

    @property
    def peers(self) -> set[NodeId]:
        """The peers that are being asked."""
        return {pull.peer for pull in self.by_nonce.values()}

    def begin(
        self,
        nonce: int,
        peer: NodeId,
        missing: Mapping[LogId, int],
        now: Micros,
        *,
        for_pieces: bool,
    ) -> None:
        """A pull is being sent. `missing` is {log: messages missing}."""
        pull = PullUnderWay(peer, missing, now + self.repair_timeout_us, for_pieces)
        if pull.messages > REPAIR_MESSAGES_MAX:
            pull.deadline = now + self.pull_timeout_us
        self.by_nonce[nonce] = pull

    def heard(self, nonce: int, peer: NodeId, now: Micros) -> int | None:
        """A part of an answer came: how many messages were asked for. None: nobody asked for it."""
        pull = self.by_nonce.get(nonce)
        if pull is None or pull.peer != peer:
            return None
        pull.deadline = now + self.pull_timeout_us
        return pull.messages

    def heard_piece(self, peer: NodeId, now: Micros) -> int:
        """A piece of a large message came: how many messages that peer was asked for, 0 if none.

        A piece has no nonce, so it counts for all pulls from its sender.
        """
        pulls = [pull for pull in self.by_nonce.values() if pull.peer == peer]
        for pull in pulls:
            pull.deadline = now + self.pull_timeout_us
            pull.has_pieces = True
        return sum(pull.messages for pull in pulls)

    def take(self, nonce: int, peer: NodeId) -> PullUnderWay | None:
        """An answer came to its end, so its pull is over. None: nobody asked that peer for it."""
        pull = self.by_nonce.get(nonce)
        return self.by_nonce.pop(nonce) if pull is not None and pull.peer == peer else None

    def take_silent(self, now: Micros) -> list[PullUnderWay]:
        """The pulls for which nothing came for too long. They are over."""
        silent = [nonce for nonce, pull in self.by_nonce.items() if pull.deadline <= now]
        return [self.by_nonce.pop(nonce) for nonce in silent]
