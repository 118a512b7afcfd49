"""How far others are behind, as `flc status` and the metrics tell it, by what the core keeps."""

from __future__ import annotations

from flc_udp.core.facts import MemberFacts
from flc_udp.core.push.receipts import Receipts
from flc_udp.daemon.watch.peers import peer_sums, peers_record
from flc_udp.wire.packets import Ack
from flc_udp.wire.rows import State
from tests.core.dialogue import Talk


def seen(talk: Talk, of: str, by: str = "ann") -> MemberFacts:
    """What one knows of another now."""
    others = talk[by].replica.facts(talk.now).others
    return next(member for member in others if member.row.id == talk[of].id)


def test_who_holds_all_is_not_behind() -> None:
    """After a few probes; what was said is confirmed, and roots agree."""
    talk = Talk("ann", "bob")
    talk.meet()
    for number in range(5):
        talk.say("ann", str(number))
    talk.run(5_000)

    bob = seen(talk, "bob")
    assert (bob.lag_messages, bob.is_behind, bob.roots_agree) == (0, False, True)
    assert bob.told_for_us is not None
    assert bob.told_for_us < 2_500_000


def test_who_keeps_up_under_load_is_not_behind() -> None:
    """Something is always on its way, so roots differ and some is unconfirmed: no fault."""
    talk = Talk("ann", "bob")
    talk.meet()
    for number in range(2_000):
        talk.say("ann", str(number))
        talk.run(5)
        assert not seen(talk, "bob").is_behind

    assert seen(talk, "bob").lag_messages < 1_000


def test_who_does_not_take_messages_is_behind_since_it_stopped() -> None:
    """It lives and answers probes, and its disk takes nothing."""
    talk = Talk("ann", "bob")
    talk.meet()
    talk.say("ann", "taken")
    talk.run(5_000)
    talk["bob"].commits_alone = False
    for number in range(60):
        talk.say("ann", str(number))
        talk.run(1_000)

    bob = seen(talk, "bob")
    assert (bob.lag_messages, bob.is_behind, bob.roots_agree) == (60, True, False)
    assert 50_000_000 < bob.behind_for_us < 62_000_000
    assert bob.agreed_for_us is not None
    assert 59_000_000 < bob.agreed_for_us < 63_000_000
    sums = peer_sums(talk["ann"].replica.facts(talk.now))
    assert (sums["behind"], sums["lagging"], sums["roots_differ"]) == (1, 1, 1)

    talk["bob"].commits_alone = True
    talk["bob"].commit()
    talk.run(5_000)
    assert (seen(talk, "bob").lag_messages, seen(talk, "bob").is_behind) == (0, False)


def receipts(talk: Talk) -> Receipts:
    """What ann knows of who holds her log."""
    replica = talk["ann"].replica
    return replica._receipts(replica.log)  # noqa: SLF001  # told nowhere


def test_a_root_that_agrees_confirms_too() -> None:
    """The others' pings tell it, also while none of this node's own is answered."""
    talk = Talk("ann", "bob")
    talk.meet()
    talk.drop(lambda _a, b, packets: b.name == "ann" and any(isinstance(p, Ack) for p in packets))
    talk.say("ann", "hi")
    talk.run(3_000)

    assert not receipts(talk).held
    assert (seen(talk, "bob").lag_messages, seen(talk, "bob").roots_agree) == (0, True)


def test_the_worst_come_first_and_who_left_is_not_listed() -> None:
    """Dead, then behind; a member without a word is listed too, and the sums are of the living."""
    talk = Talk("ann", "bob", "cyd", "dee")
    talk.meet()
    talk["dee"].replica.leave(talk.now)
    talk["dee"].carry_out()
    talk.run(1_000)
    talk.kill("dee")
    talk["bob"].commits_alone = False
    talk.kill("cyd")
    for number in range(90):
        talk.say("ann", str(number))
        talk.run(1_000)

    assert talk["ann"].believes("cyd") is State.DEAD
    record = peers_record(talk["ann"].replica.facts(talk.now))
    assert isinstance(record["list"], list)
    assert [(row["name"], row["state"]) for row in record["list"]] == [
        ("cyd", "dead"),
        ("bob", "alive"),
    ]
    assert (record["live"], record["behind"], record["unlisted"]) == (1, 1, 0)


def test_what_is_kept_of_peers_is_of_the_living() -> None:
    """A member that died takes no room among the marks."""
    talk = Talk("ann", "bob")
    talk.meet()
    talk.say("ann", "hi")
    talk.run(3_000)
    assert list(receipts(talk).marks) == [talk["bob"].id]

    talk.kill("bob")
    talk.run(60_000)
    assert not receipts(talk).marks
