"""Adoption: what no member keeps any more is given up, and another member's base is taken for it.

    pull ─▶ end(floor, lacks) of one member after another ─▶ no member keeps what is wanted
         ─▶ the base of the member with the lowest floor (`base`) ─▶ adopt

Rules. The member with the lowest floor keeps the most, so its base is taken. A base is adopted only
if it is still needed when all of it has come: a member that came meanwhile may have brought what is
missing, or may keep it.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from flc_udp.core.effects import Adopt, Effect, Send
from flc_udp.core.liveness.members import MemberTable
from flc_udp.core.notices import HistoryTruncated
from flc_udp.core.repair.base import BaseTake
from flc_udp.core.repair.wants import Wants
from flc_udp.model.address import Address
from flc_udp.model.dots import LogId, NodeId
from flc_udp.model.units import Micros
from flc_udp.wire.packets import Base, BaseEnd, BasePull


class Adoption:
    """Decides when a base is taken, and of whom. Effects go to `out`. Times are in µs."""

    def __init__(
        self,
        timeout_us: int,
        wants: Wants,
        members: MemberTable,
        random: Random,
        out: list[Effect],
    ) -> None:
        self.take = BaseTake(timeout_us)
        self._wants = wants
        self._members = members
        self._random = random
        self._out = out
        self._given_up: list[LogId] = []
        """The logs for which the base is taken."""

    def wake(self, live: Sequence[NodeId], now: Micros) -> None:
        """Begin to take a base where one is needed, or go on with the one that is being taken."""
        if self.take.is_on:
            self._go_on(live, now)
            return
        truncated = self._wants.take_truncated()
        # This node's own floor does not matter: what is missing lies below the others' floors.
        floors = [
            (floor, peer)
            for asked in truncated.values()
            for peer, floor in asked.items()
            if floor and peer in live
        ]
        if floors:
            self._given_up = list(truncated)
            _, peer = min(floors)
            pull = self.take.begin(peer, self._random.getrandbits(64), now)
            self._send(self._members[peer].row.address, pull)

    def receive(self, base: Base, sender: NodeId, now: Micros) -> None:
        """Some rows of a page came."""
        self.take.heard(base, sender, now)

    def receive_end(self, end: BaseEnd, sender: NodeId, source: Address, now: Micros) -> None:
        """A page came to its end: ask for the next one, or adopt the base if it is whole."""
        following = self.take.ended(end, sender, self._random.getrandbits(64), now)
        if isinstance(following, Adopt):
            live = [member.row.id for member in self._members.live()]
            if self._wants.needs_base(self._given_up, live, now):
                self._out += [HistoryTruncated(following.floor, sender), following]
        elif following is not None:
            self._send(source, following)

    def _go_on(self, live: Sequence[NodeId], now: Micros) -> None:
        """Ask again for a page that was silent for too long."""
        take = self.take
        if take.deadline is not None and take.deadline <= now:
            pull = take.again(now)
            if pull is not None and take.peer in live:
                self._send(self._members[take.peer].row.address, pull)

    def _send(self, to: Address, pull: BasePull) -> None:
        self._out.append(Send((to,), (pull,)))
