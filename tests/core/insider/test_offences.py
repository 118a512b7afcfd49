"""The insider is named: id, address, and what it did. Some minutes later it is forgotten."""

from collections.abc import Callable

import pytest

from flc_udp.config import INCARNATION_LIMIT, STAMP_LIMIT
from flc_udp.core.liveness.hearsay import SILENT_MANY
from flc_udp.core.offences import REMEMBERED_US
from flc_udp.model.dots import BEGINNING, LogId
from flc_udp.wire.packets import Digest, Pull, Update
from flc_udp.wire.rows import Want
from tests.core.dialogue import WALL, Party, Talk
from tests.core.insider.forged import AT, EVE, forge, member, push

YEAR = 365 * 86_400_000 << 16


def say(to: Party, *packets: object) -> None:
    """The insider sends this."""
    to.replica.receive(packets, EVE, AT, to.talk.wall, to.talk.now)  # type: ignore[arg-type]
    to.carry_out()


ACTS: dict[str, Callable[[Party], None]] = {
    "pulls more than any node names": lambda ann: say(
        ann,
        Pull(1, 9, False, 0, STAMP_LIMIT, tuple(Want(bytes([n]) * 8, 1, 1) for n in range(99))),
    ),
    "tells incarnations beyond every clock": lambda ann: say(
        ann, Update((member(1, incarnation=INCARNATION_LIMIT - 1),))
    ),
    "tells of members that do not answer": lambda ann: say(
        ann, *(Update((member(n),)) for n in range(SILENT_MANY))
    ),
    "sends blocks that do not follow those before them": lambda ann: push(
        ann, first := forge(), forge(after=first._replace(hash=b"no hash!"))
    ),
}


@pytest.mark.parametrize("what", ACTS)
def test_who_did_it_is_told_for_some_minutes(what: str) -> None:
    """And nobody else is."""
    talk = Talk("ann", "bob")
    talk.meet()
    ACTS[what](talk["ann"])
    talk.run(5_000)

    assert {(o.node, o.address, o.what) for o in talk["ann"].facts.offences} >= {(EVE, AT, what)}
    assert {o.node for o in talk["ann"].facts.offences} == {EVE}
    talk.run(REMEMBERED_US // 1_000)
    assert talk["ann"].facts.offences == ()


def test_who_tells_of_a_few_that_have_died_is_not_named() -> None:
    """He may not have heard of it."""
    talk = Talk("ann", "bob")
    talk.meet()
    say(talk["ann"], *(Update((member(n),)) for n in range(SILENT_MANY - 1)))
    talk.run(5_000)
    assert talk["ann"].facts.offences == ()
    say(talk["ann"], Update((member(SILENT_MANY),)))
    talk.run(5_000)
    (offence,) = talk["ann"].facts.offences
    assert (offence.node, offence.times) == (EVE, SILENT_MANY)


def test_a_loop_is_told() -> None:
    """Its address draws too much."""
    talk = Talk("ann")
    ann = talk["ann"]
    for n in range(1_500):
        push(ann, forge(log=LogId((n + 1).to_bytes(8, "big")), stamp=n + 1))
    say(ann, *[Digest(LogId(bytes(8)), LogId(b"\xff" * 8), True, ())] * 100)

    assert [(o.node, o.what) for o in ann.facts.offences] == [(EVE, "asks in loops")]
    assert BEGINNING == b""


def test_a_carried_room_is_told_with_who_did_it() -> None:
    """Not those who go on there; also after a restart it is told that the room leads."""
    talk = Talk("ann", "bob")
    talk.meet()
    talk.say("ann", "before")
    push(talk["ann"], forge(stamp=(WALL << 16) + YEAR))
    talk.settle()
    for name in ("bob", "ann"):
        talk.say(name, "goes on")
        talk.say(name, "here", "ops")
        talk.run(100)

    for party in talk.parties:
        (carried,) = party.facts.carried
        assert carried.room == "lobby"
        assert carried.origin is not None
        assert carried.origin.node == EVE
    talk.restart("ann", "bob")
    talk.run(2_000)
    assert [room.room for room in talk["ann"].facts.carried] == ["lobby"]
