"""Under which keys others are heard, and who is lost for want of one."""

import pytest

from flc_udp.core.facts import MemberFacts
from flc_udp.model.address import Address
from flc_udp.model.dots import NodeId
from flc_udp.model.units import SECOND_US, Micros
from flc_udp.waist import hearing
from flc_udp.waist.hearing import ENOUGH, LASTS_US, Hearing
from flc_udp.wire.rows import MemberRow, State

OURS, THEIRS = b"ours", b"them"
BOB = Address("10.0.0.2", 7352)
ROW = MemberRow(NodeId(b"bob-----"), 7, State.DEAD, BOB, "bob", 1)


def at(seconds: float) -> Micros:
    """That long after the beginning."""
    return Micros(int(seconds * SECOND_US))


def bob(state: State = State.DEAD, state_for_s: float = 5.0) -> MemberFacts:
    """A member that has been in that state for so long."""
    return MemberFacts(ROW._replace(state=state), at(state_for_s), None, 0, catching_up=False)


def knocked(times: int, every_s: float = 1.0) -> Hearing:
    """A node that got so many datagrams of Bob's that it cannot open."""
    found = Hearing()
    for number in range(times):
        found.not_opened(BOB, at(number * every_s))
    return found


def test_an_address_that_goes_on_sending_is_a_stranger() -> None:
    """A datagram or a burst of them tells nothing, and the silent are forgotten."""
    assert knocked(ENOUGH - 1).strangers(at(10)) == []
    assert knocked(1_000, every_s=0.001).strangers(at(10)) == []
    assert knocked(ENOUGH).strangers(at(10)) == [BOB]
    assert knocked(ENOUGH, every_s=60).strangers(at(130)) == [BOB]
    assert knocked(ENOUGH).strangers(at(10 + LASTS_US / SECOND_US)) == []
    assert knocked(ENOUGH + 1, every_s=1 + LASTS_US / SECOND_US).strangers(at(0)) == []


def broken(times: int, every_s: float) -> Hearing:
    """A node that got so many datagrams whose seal is broken."""
    found = Hearing()
    for number in range(times):
        found.seal_broken(at(number * every_s))
    return found


def test_several_broken_seals_in_a_minute_are_told_for_a_while() -> None:
    """Anybody can forge one, and a bad cable damages one now and then."""
    assert not broken(ENOUGH - 1, 0).seals_break(at(0))
    assert not broken(100, 60 / (ENOUGH - 1) + 1).seals_break(at(100 * 60))
    several, lasts_s = broken(ENOUGH, 0), LASTS_US / SECOND_US
    assert several.seals_break(at(lasts_s - 1))
    assert not several.seals_break(at(lasts_s))


@pytest.mark.parametrize("state", State)
def test_a_member_that_is_lost_and_sends_is_named(state: State) -> None:
    """One that is well is not: whoever writes its address into a datagram changes nothing."""
    lost = state in (State.SUSPECT, State.DEAD)

    found = knocked(ENOUGH).apart([bob(state)], OURS, at(10))

    assert [(row.id, key) for row, key in found] == ([(ROW.id, None)] if lost else [])


@pytest.mark.parametrize(
    ("key", "heard_s", "is_named"),
    [(THEIRS, 8.0, True), (THEIRS, 4.0, False), (OURS, 8.0, False)],
)
def test_a_member_that_is_lost_and_heard_under_another_key_is_named(
    key: bytes, heard_s: float, *, is_named: bool
) -> None:
    """If it was heard since it was lost, ten seconds after the beginning and five ago."""
    found = Hearing()
    found.heard(ROW.id, key, at(heard_s))

    apart = found.apart([bob()], OURS, at(10))

    assert [key for _, key in apart] == ([THEIRS] if is_named else [])


def test_what_is_known_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who was heard longest ago is forgotten first."""
    monkeypatch.setattr(hearing, "HEARD_MAX", 2)
    monkeypatch.setattr(hearing, "STRANGERS_MAX", 2)
    found = Hearing()
    for number in range(2 * ENOUGH):
        for name in ("a", "b", "a", "c"):
            found.heard(NodeId(name.encode() * 8), OURS, at(number))
        for last in range(2 + number):
            found.not_opened(Address(f"10.0.0.{last}", 1), at(number))
    assert len(found) == 2
    assert len(found.strangers(at(2 * ENOUGH))) <= 2
    assert found.key_of(NodeId(b"b" * 8)) is None
    assert found.key_of(NodeId(b"c" * 8)) == OURS
