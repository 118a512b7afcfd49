"""An insider makes up members, drives out ids and says that others left: little comes of it."""

from collections.abc import Callable

import pytest

from flc_udp.config import INCARNATION_LIMIT
from flc_udp.core.liveness.claims import INCARNATION_LEAD
from flc_udp.core.notices import MemberLeft
from flc_udp.model.dots import NodeId
from flc_udp.model.errors import Drop
from flc_udp.wire.packets import Packet, Ping, Update
from flc_udp.wire.rows import MemberRow, State
from tests.core.dialogue import MS, WALL, Party, Talk
from tests.core.insider.forged import AT, EVE, member

MADE_UP = 3_000


def tell(to: Party, *packets: Packet, sender: NodeId = EVE) -> None:
    """The insider sends this."""
    to.replica.receive(packets, sender, AT, to.talk.wall, to.talk.now)


def trio() -> Talk:
    """Three who know each other."""
    talk = Talk("ann", "bob", "cyd")
    talk.meet()
    talk.run(5_000)
    return talk


def test_made_up_members_are_nobody_to_anyone() -> None:
    """They are asked once or twice, and linked to, counted, waited for and told of by nobody."""
    talk = trio()
    for at in range(0, MADE_UP, 15):
        tell(talk["ann"], Update(tuple(map(member, range(at, at + 15)))))
        talk["ann"].carry_out()
        talk.run(1)
    message = talk.say("ann", "hi")
    wait = talk["ann"].watch(message)
    talk.run(1_000)
    assert talk["bob"].shown == talk["cyd"].shown == ["hi"]
    assert wait.is_done
    assert len(wait.held_by) == 2

    talk.kill("cyd")
    talk.run(12_000)
    assert talk["ann"].believes("cyd") is talk["bob"].believes("cyd") is State.DEAD
    assert [len(talk[name].facts.others) for name in ("ann", "bob")] == [2, 2]
    before = talk.sent["Ping"]
    talk.run(60_000)
    assert talk.sent["Ping"] - before < 400


def test_a_newcomer_is_not_kept_waiting_by_those_that_are_made_up() -> None:
    """Those who tell of members are heard in turn."""
    talk = Talk("ann", "bob", "cyd", "dan")
    talk.kill("dan")
    talk.meet()
    for at in range(0, MADE_UP, 15):
        tell(talk["ann"], Update(tuple(map(member, range(at, at + 15)))))
    talk.restart("dan", "bob")
    talk.run(1_000)

    assert talk["ann"].believes("dan") is State.ALIVE


def lie_about(party: Party, **changes: object) -> MemberRow:
    """What the insider says of a member."""
    return party.me._replace(**changes)


ID_LIES: list[Callable[[Party], MemberRow]] = [
    lambda bob: lie_about(bob, incarnation=INCARNATION_LIMIT - 1, state=State.SUSPECT),
    lambda bob: lie_about(bob, incarnation=WALL // 1_000 + INCARNATION_LEAD, state=State.SUSPECT),
    lambda bob: lie_about(bob, incarnation=bob.me.incarnation + 5, boot=(1 << 64) - 1),
    lambda bob: lie_about(bob, incarnation=bob.me.incarnation + 5, boot=(1 << 64) - 1, address=AT),
]


@pytest.mark.parametrize("lie", ID_LIES)
def test_a_node_is_driven_to_one_new_id_a_minute_at_most(lie: Callable[[Party], MemberRow]) -> None:
    """And there is one row of it that lives; a minute after the last lie all is well."""
    talk = trio()
    bob = talk["bob"]
    ids = {bob.id}
    for _ in range(600):
        tell(bob, Update((lie(bob),)))
        bob.carry_out()
        talk.run(50)
        ids.add(bob.id)
    assert len(ids) <= 2
    talk.run(30_000)

    talk.settle()
    for party in talk.parties:
        alive = [m.row.id for m in party.facts.members if m.row.state is State.ALIVE]
        assert sorted(alive) == sorted(each.id for each in talk.parties)
        assert len(party.facts.members) <= 4


def test_an_absurd_incarnation_is_malformed() -> None:
    """It is counted, and nobody else hears of it."""
    talk = trio()
    tell(talk["ann"], Update((lie_about(talk["bob"], incarnation=INCARNATION_LIMIT - 1),)))
    talk["ann"].carry_out()
    talk.run(2_000)

    assert talk["ann"].facts.drops[Drop.INCARNATION_AHEAD] == 1
    assert talk["ann"].member("bob").row == talk["bob"].me  # type: ignore[union-attr]  # it is known


@pytest.mark.parametrize("lead", [0, 1, 5])
def test_who_is_said_to_have_left_is_asked_first(lead: int) -> None:
    """It answers, so nothing is believed; and who is gone without a word is gone."""
    talk = trio()
    for _ in range(50):
        cyd = talk["cyd"].me
        left = cyd._replace(incarnation=cyd.incarnation + lead, state=State.LEFT)
        tell(talk["ann"], Update((left,)))
        talk["ann"].carry_out()
        assert talk["ann"].believes("cyd") is not State.LEFT
        talk.run(200)
    assert talk["ann"].told_of(MemberLeft) == []

    talk.kill("cyd")
    tell(talk["ann"], Update((left,)))
    talk["ann"].carry_out()
    talk.run(2_000)
    assert talk["ann"].believes("cyd") is State.LEFT


def test_a_new_id_at_an_address_buries_the_former_one() -> None:
    """A node whose disk was lost is one member, and not one more each time."""
    talk = trio()
    for run in range(5):
        talk.kill("cyd")
        talk["cyd"].disk.clear()
        talk["cyd"].first_id = NodeId(b"cyd" + bytes([run]) * 5)
        talk.run(1_000)
        talk.restart("cyd", "ann")
        talk.run(3_000)

    for name in ("ann", "bob"):
        live = [m.row.id for m in talk[name].facts.members if m.is_live]
        assert len(live) == 3
        assert talk["cyd"].id in live


def test_who_only_is_named_at_an_address_buries_nobody() -> None:
    """The insider makes up a member where an honest one is."""
    talk = trio()
    tell(talk["ann"], Update((member(1, address=talk["bob"].address),)))
    talk["ann"].carry_out()
    talk.run(5_000)

    assert talk["ann"].believes("bob") is State.ALIVE
    assert len(talk["ann"].facts.members) == 3
    assert any(isinstance(p, Ping) and b == "bob" for _, b, p in talk.heard)
    assert talk.now > 5_000 * MS
