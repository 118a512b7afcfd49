"""A base: pages of one moment, whatever is lost of them."""

from __future__ import annotations

from random import Random

import pytest

from flc_udp.config import Settings
from flc_udp.core.causal import Causal
from flc_udp.core.effects import Adopt
from flc_udp.core.liveness.members import MemberTable, alive_row
from flc_udp.core.push.links import Links
from flc_udp.core.repair.anti_entropy import AntiEntropy
from flc_udp.core.repair.base import TRIES_MAX, BaseTake
from flc_udp.core.shared import Shared
from flc_udp.core.standing import Standing
from flc_udp.model.address import Address
from flc_udp.model.history import BaseLog, BaseRoom, Head, History
from flc_udp.model.units import NEVER
from flc_udp.wire.packets import Base, BaseEnd, BasePull

BOB = b"bob-----"
FLOOR = 1_000
TIMEOUT_US = 400_000


def row(number: int, first: int = 0, rooms: int = 2) -> BaseLog:
    """A log, or some rooms of one."""
    found = tuple(BaseRoom(f"room{first + n}", 5, None) for n in range(rooms))
    return BaseLog(number.to_bytes(8, "big"), Head(9, bytes(8), 900 + number), None, found)


class Teller:
    """Pages of ten logs, each row in a datagram of its own, some of which are lost."""

    def __init__(self, logs: int, loss: float = 0) -> None:
        self.rows = [row(number, first) for number in range(1, logs + 1) for first in (0, 2)]
        self.version = 1
        self.asked = 0
        self._loss = loss
        self._chance = Random(1)

    def answer(self, take: BaseTake, pull: BasePull) -> BasePull | Adopt | None:
        """One page; what is asked next, or the base."""
        self.asked += 1
        after = [found for found in self.rows if found.log > pull.after]
        page = after[:20]
        for found in page:
            if self._chance.random() >= self._loss:
                take.heard(Base(pull.nonce, (found,)), BOB, 0)
        if self._chance.random() < self._loss:
            return take.again(0)
        following = page[-1].log if page[20:] or after[20:] else b""
        end = BaseEnd(pull.nonce, FLOOR, self.version, len(page), following)
        return take.ended(end, BOB, pull.nonce + 1, 0)

    def give_all(self, take: BaseTake) -> BasePull | Adopt | None:
        """Until there is nothing more to ask."""
        step: BasePull | Adopt | None = take.begin(BOB, 1, 0)
        while isinstance(step, BasePull):
            step = self.answer(take, step)
        return step


@pytest.mark.parametrize("loss", [0.0, 0.25, 0.5])
def test_it_comes_whole_and_one_row_a_log(loss: float) -> None:
    """What came of a page stays, and the rest of it comes with another try."""
    teller = Teller(45, loss)
    adopt = teller.give_all(BaseTake(TIMEOUT_US))

    assert isinstance(adopt, Adopt)
    assert adopt.floor == FLOOR
    assert [len(found.rooms) for found in adopt.base] == [4] * 45
    assert len({found.log for found in adopt.base}) == 45
    assert teller.asked <= 5 * (1 + 12 * loss)


def test_pages_of_different_moments_are_begun_again() -> None:
    """Retention went on between them."""
    teller, take = Teller(45), BaseTake(TIMEOUT_US)
    step = teller.answer(take, take.begin(BOB, 1, 0))
    assert isinstance(step, BasePull)
    teller.version = 2
    again = teller.answer(take, step)

    assert isinstance(again, BasePull)
    assert again.after == b""
    while isinstance(again, BasePull):
        again = teller.answer(take, again)
    assert isinstance(again, Adopt)


def test_a_silent_teller_is_left() -> None:
    """Not for ever the same."""
    take = BaseTake(TIMEOUT_US)
    take.begin(BOB, 1, 0)

    assert all(take.again(0) is not None for _ in range(TRIES_MAX))
    assert take.again(0) is None
    assert not take.is_on


def test_what_is_no_base_is_not_taken() -> None:
    """What stands at the floor or above it is kept, so it is in no base."""
    take = BaseTake(TIMEOUT_US)
    pull = take.begin(BOB, 1, 0)
    take.heard(Base(pull.nonce, (row(100),)), BOB, 0)

    assert take.ended(BaseEnd(pull.nonce, FLOOR, 1, 1, b""), BOB, 2, 0) is None
    assert not take.is_on


def test_a_base_that_nobody_needs_any_more_is_no_deadline_for_ever() -> None:
    """All came of others while it was taken, then its teller died: the node wakes, and rests."""
    settings, now = Settings(), 0
    me, bob = (
        alive_row(name.ljust(8, b"-"), 1, Address(f"10.0.0.{number}", 7352), "n", 1)
        for number, name in enumerate((b"me", b"bob"), 1)
    )
    shared = Shared(settings, Standing({}), Random(0))
    members = MemberTable(me, settings, shared.drops, now)
    members.apply(bob, now)
    causal, links = Causal(History(), 1_000, 1 << 20, shared.drops), Links(8)
    repair = AntiEntropy(shared, causal, members, links, now)
    assert repair.is_idle
    repair.adoption.take.begin(BOB, 7, now)
    for _ in range(100):
        if repair.wake_at == NEVER:
            break
        assert repair.wake_at > now
        now = repair.wake_at
        repair.wake(now, is_busy=False)

    assert repair.wake_at == NEVER
