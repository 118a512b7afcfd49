"""An insider carries a room's stamps far ahead: the room goes on, and no other goes along."""

import pytest

from flc_udp.config import CLOCK_STAMP_LIMIT, STAMP_LIMIT
from flc_udp.core.peer_walls import LEAD_MS_MOST
from flc_udp.model.block import Block
from flc_udp.model.clocks import STAMP_WALL_SHIFT
from tests.core.dialogue import WALL, Talk
from tests.core.insider.forged import forge, push

FAR = [STAMP_LIMIT - 1, CLOCK_STAMP_LIMIT, CLOCK_STAMP_LIMIT - 1, CLOCK_STAMP_LIMIT - 9]
"""Stamps that leave no room above them, or little."""

YEARS_MS = 50 * 365 * 86_400_000


def lead_ms(talk: Talk, block: Block) -> int:
    """How far a block's stamp is ahead of the clock."""
    return (block.stamp >> STAMP_WALL_SHIFT) - talk.wall


def attacked(stamp: int, room: str = "spoiled") -> Talk:
    """Three who have spoken, and an insider who carried one room."""
    talk = Talk("ann", "bob", "cyd")
    talk.meet()
    for name in ("ann", "bob", "cyd"):
        talk.say(name, "before", room)
        talk.say(name, "before", "ops")
    push(talk["ann"], forge("poison", room=room, stamp=stamp))
    talk.settle()
    return talk


@pytest.mark.parametrize("stamp", FAR)
def test_a_room_at_the_end_of_all_stamps_goes_on(stamp: int) -> None:
    """Everybody speaks there as often as he likes, and everybody hears it."""
    talk = attacked(stamp)
    for turn in range(40):
        for name in ("ann", "bob", "cyd"):
            talk.say(name, f"{name} {turn}", "spoiled")
        talk.run(20)
    talk.settle()

    for party in talk.parties:
        assert len(party.shown) == 6 + 1 + 3 * 40
        assert party.history() == talk["ann"].history()
    blocks = {block.log for block in talk["ann"].disk}
    assert len(blocks) <= 3 * 3 + 1


@pytest.mark.parametrize("stamp", [*FAR, (WALL + YEARS_MS) << STAMP_WALL_SHIFT])
def test_the_lead_spreads_to_no_other_room(stamp: int) -> None:
    """Who speaks by turns here and there has one more log for that, and not one more each time."""
    talk = attacked(stamp)
    for _ in range(20):
        for name in ("ann", "bob", "cyd"):
            talk.say(name, "there", "spoiled")
            assert lead_ms(talk, talk.say(name, "here", "ops")) <= LEAD_MS_MOST
        talk.run(20)
    talk.settle()

    assert talk["ann"].facts.logs <= 3 * 3 + 1


def test_a_reply_in_a_carried_room_comes_after_what_it_replies_to() -> None:
    """Its stamp and its causes say so: the room stays what it is."""
    talk = attacked((WALL + YEARS_MS) << STAMP_WALL_SHIFT)
    first = talk.say("ann", "question", "spoiled")
    talk.run(100)
    reply = talk.say("bob", "answer", "spoiled")

    assert first.dot in reply.causes
    assert reply.stamp > first.stamp


def test_two_rooms_that_lead_by_different_times_do_not_carry_each_other() -> None:
    """Each has a log of its own."""
    talk = attacked((WALL + YEARS_MS) << STAMP_WALL_SHIFT)
    days = 5 * 86_400_000
    push(talk["ann"], forge("poison", room="days", log=b"another!", stamp=(WALL + days) << 16))
    talk.settle()
    talk.say("bob", "x", "spoiled")

    assert lead_ms(talk, talk.say("bob", "x", "days")) <= days
    assert lead_ms(talk, talk.say("bob", "x", "ops")) <= LEAD_MS_MOST


def test_others_tell_who_holds_what_was_said_in_either_log() -> None:
    """A wait for a message of the log that another one follows ends as any."""
    talk = attacked((WALL + YEARS_MS) << STAMP_WALL_SHIFT)
    there = talk.say("ann", "there", "spoiled", receipt=True)
    wait = talk["ann"].watch(there)
    here = talk.say("ann", "here", "ops", receipt=True)
    other = talk["ann"].watch(here)
    talk.run(1_000)

    assert wait.is_done
    assert other.is_done
    assert (len(wait.held_by), len(other.held_by)) == (2, 2)
