"""Two processes on copies of one disk: one keeps the id, the other takes a new one."""

import pytest

from flc_udp.core.notices import CloneMet
from flc_udp.wire.packets import Rumor, Update
from flc_udp.wire.rows import State
from tests.core.dialogue import Talk


def cloned(*others: str, boots: tuple[int, int]) -> Talk:
    """Ann and her clone bob, whose runs have these nonces, and others who know only ann."""
    talk = Talk("ann", "bob", *others)
    talk["bob"].first_id = talk["ann"].first_id
    # The later start has the higher incarnation, whatever the nonces.
    for name, boot, incarnation in zip(("ann", "bob"), boots, (100, 150), strict=True):
        talk[name].start(boot=boot, incarnation=incarnation)
    return talk


@pytest.mark.parametrize("boots", [(1, 2), (2, 1)])
@pytest.mark.parametrize("others", [(), ("cyd",), ("cyd", "dan", "eve")])
def test_two_with_one_id_become_two_members(
    others: tuple[str, ...], boots: tuple[int, int]
) -> None:
    """Whoever has the lower nonce takes a new id; all see both, and each is somebody."""
    talk = cloned(*others, boots=boots)
    kept = talk["ann"].first_id
    for name in ("bob", *others):
        talk.join(name, "ann")
    talk.settle()

    keeps, moves = ("ann", "bob") if boots[0] > boots[1] else ("bob", "ann")
    assert talk[keeps].id == kept
    assert talk[moves].id != kept
    for party in talk.parties:
        live = {m.row.id: m.row.address for m in party.facts.members if m.is_live}
        assert {p.id: p.address for p in talk.parties} == live


def test_who_took_a_new_id_speaks_in_a_new_log() -> None:
    """Its next message says whose it is; what it said before stays its former log's."""
    talk = cloned("cyd", boots=(1, 2))
    before = talk.say("ann", "before")
    for name in ("bob", "cyd"):
        talk.join(name, "ann")
    talk.settle()
    after = talk.say("ann", "after")
    talk.settle()

    assert after.log != before.log
    assert after.origin is not None
    assert after.origin.node == talk["ann"].id
    assert ["before", "after"] == talk["cyd"].shown == talk["bob"].shown


def test_a_receipt_that_was_asked_for_is_of_its_own_log() -> None:
    """The first message of the new log asks for none because the first of the former one did."""
    talk = cloned("cyd", boots=(1, 2))
    ann = talk["ann"]
    ann.commits_alone = False
    talk.say("ann", "before", receipt=True)
    for name in ("bob", "cyd"):
        talk.join(name, "ann")
    talk.run(5_000)
    assert ann.id != ann.first_id
    talk.say("ann", "after")
    ann.commit()
    talk.run(100)

    rumors = [p for teller, _, p in talk.heard if isinstance(p, Rumor) and teller == "ann"]
    assert {rumor.receipt for rumor in rumors} == {False}


def test_a_claim_of_a_former_run_is_no_clone() -> None:
    """What was said of this id before this run began is stale, and the id is kept."""
    talk = Talk("ann", "bob")
    talk.meet()
    former = talk["ann"].me
    talk.restart("ann", "bob")
    talk["ann"].hear(talk["bob"], Update((former,)))
    talk.settle()

    assert former.id == talk["ann"].id
    assert State.ALIVE is talk["bob"].believes("ann")
    assert talk["ann"].told(CloneMet) == []
