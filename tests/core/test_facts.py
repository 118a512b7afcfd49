"""Facts: what everybody outside may see of a Replica at one moment, and that it is true."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import FrozenInstanceError, fields

import pytest

from flc_udp.core.facts import Facts, LinkFacts, MemberFacts
from flc_udp.core.liveness.health import Change
from flc_udp.core.push.window import WAITING_BYTES_MAX
from flc_udp.core.standing import NO_LOG
from flc_udp.model.errors import Drop
from flc_udp.model.units import SECOND_US
from flc_udp.wire.packets import Ack, Digest, Have, Ping, Prune, Rumor
from flc_udp.wire.rows import State
from tests.core.dialogue import Talk
from tests.model.kept import history_of


def met(*names: str, **settings: int) -> Talk:
    """Those who know each other."""
    talk = Talk(*names, **settings)
    talk.meet()
    return talk


def seen(talk: Talk, of: str, by: str = "ann") -> MemberFacts:
    """What one knows of another now."""
    member = talk[by].member(of)
    assert member is not None
    return member


class TestMoment:
    def test_what_happens_later_does_not_change_them(self) -> None:
        """Nothing in them is the Replica's own, so they can be kept and compared."""
        talk = met("ann", "bob", "cyd")
        talk.say("ann", "hi")
        talk.settle()
        before = talk["ann"].facts
        copy = deepcopy(before)
        talk["ann"].replica.slow_commit(talk.now)
        talk["ann"].hear(talk["ann"], Ping(1, bytes(8), bytes(8), False, bytes(8)))
        talk.say("bob", "ho", "ops")
        talk.kill("cyd")
        talk.run(20_000)
        now = talk["ann"].facts

        assert before == copy
        changed = {f.name for f in fields(Facts) if getattr(before, f.name) != getattr(now, f.name)}
        assert {"members", "health", "root", "messages", "logs", "rooms", "drops"} <= changed

    def test_they_cannot_be_written_to(self) -> None:
        """Nobody steers a node through what it shows."""
        facts = Talk("ann")["ann"].facts

        with pytest.raises(FrozenInstanceError):
            facts.floor = 1  # type: ignore[misc]  # that is what is refused
        with pytest.raises(AttributeError):
            facts.members[0].health = 3  # type: ignore[misc]  # that is what is refused

    def test_to_look_changes_nothing(self) -> None:
        """A node that is looked at all the time does what it would do unseen."""

        def heard(*, looks: bool) -> list[object]:
            talk = met("ann", "bob", "cyd")
            talk.lose(Rumor)
            for number in range(200):
                if number % 20 == 0:
                    talk.say("ann", str(number))
                talk.run(50)
                if looks:
                    assert talk["ann"].facts == talk["ann"].facts
            return list(talk.heard)

        assert heard(looks=True) == heard(looks=False)


class TestHistory:
    def test_only_what_is_durable_is_counted(self) -> None:
        """Its log, its rooms, its messages; what waits for the disk is told apart."""
        talk = Talk("ann")
        ann = talk["ann"]
        nothing = ann.facts
        assert (nothing.log, nothing.logs, nothing.messages, nothing.rooms) == (NO_LOG, 0, 0, 0)

        ann.commits_alone = False
        first = talk.say("ann", "hi")
        assert (ann.facts.uncommitted, ann.facts.messages) == (1, 0)
        assert ann.facts.root == nothing.root

        ann.commits_alone = True
        talk.say("ann", "ho", "ops")
        facts = ann.facts
        assert (facts.log, facts.logs, facts.messages, facts.rooms) == (first.log, 1, 2, 2)
        assert facts.uncommitted == 0
        assert facts.root != nothing.root

    def test_the_floor_is_where_the_log_has_it(self) -> None:
        """What was deleted counts among the messages all the same."""
        talk = Talk("ann")
        message = talk.say("ann", "hi")
        talk["ann"].replica.floor_moved(message.stamp + 1)

        assert (talk["ann"].facts.floor, talk["ann"].facts.messages) == (message.stamp + 1, 1)

    def test_what_is_missing_is_seen_until_it_is_here(self) -> None:
        """Held back, wanted, and pulled; then the node is idle again."""
        talk = met("ann", "bob")
        talk.lose(Rumor)
        talk.say("ann", "lost")
        talk.run(5)
        talk.heal()
        talk.lose(Ping, Digest, Have)
        early = talk.say("ann", "found")
        assert talk["bob"].facts.repair.is_idle
        talk.run(2)
        repair = talk["bob"].facts.repair

        assert (repair.holdback_messages, repair.holdback_bytes) == (1, len(early.encoded))
        assert not repair.is_idle

        talk.run(talk.settings.pull_grace_ms - 1)
        assert talk["bob"].facts.repair.pulls == 1
        assert talk["bob"].facts.repair.to_go == 1
        talk.run(5)
        repair = talk["bob"].facts.repair
        assert (repair.holdback_messages, repair.holdback_bytes, repair.pulls) == (0, 0, 0)
        talk.run(1_000)
        assert talk["bob"].facts.repair.is_idle


class TestMembers:
    def test_this_node_comes_first_then_the_others_as_they_were_first_heard_of(self) -> None:
        """The dead and those who left are members, too; only the others are live."""
        talk = Talk("ann", "bob", "cyd", "dan")
        for name in ("cyd", "bob", "dan"):
            talk.join(name, "ann")
            talk.run(10)
        talk.leave("dan")
        talk.run(100)
        talk.kill("dan")
        talk.kill("bob")
        talk.run(20_000)
        facts = talk["ann"].facts

        assert [(member.row.name, member.row.state) for member in facts.members] == [
            ("ann", State.ALIVE),
            ("cyd", State.ALIVE),
            ("bob", State.DEAD),
            ("dan", State.LEFT),
        ]
        assert facts.me == facts.members[0].row
        assert [member.row.name for member in facts.others] == ["cyd", "bob", "dan"]
        assert [member.row.name for member in facts.live] == ["cyd"]

    def test_how_long_ago_a_state_changed(self) -> None:
        """Durations, so that nobody needs this node's clock to read them."""
        talk = met("ann", "bob")
        talk.run(10_000)
        assert 10 * SECOND_US <= seen(talk, "bob").state_for_us < 11 * SECOND_US

        talk.kill("bob")
        while talk["ann"].believes("bob") is not State.DEAD:
            talk.run(10)

        assert seen(talk, "bob").state_for_us <= 10_000

    def test_the_round_trip_of_a_probe(self) -> None:
        """Two ways of a millisecond; none to itself."""
        talk = met("ann", "bob")
        talk.run(5_000)

        assert seen(talk, "bob").rtt_us == 2_000
        assert seen(talk, "ann").rtt_us is None

    def test_its_own_health_and_what_others_say_of_theirs(self) -> None:
        """The score, what moved it, how often, and how long ago."""
        talk = met("ann", "bob")
        talk.run(5_000)
        for _ in range(2):
            talk["bob"].replica.slow_commit(talk.now)
        health = talk["bob"].facts.health
        talk.run(1_000)

        assert (health.score, health.multiplier, health.score_max) == (2, 3, 8)
        assert health.counts[Change.SLOW_COMMIT] == 2
        assert health.last_for_us[Change.SLOW_COMMIT] == 0
        assert talk["bob"].facts.health.last_for_us[Change.SLOW_COMMIT] == SECOND_US
        assert seen(talk, "bob").health >= 1
        assert seen(talk, "bob", by="bob").health == talk["bob"].facts.health.score


class TestLag:
    """How far others are behind, by what they say anyway."""

    def test_who_holds_all_is_not_behind(self) -> None:
        """After a few probes what was said is confirmed, and roots agree."""
        talk = met("ann", "bob")
        for number in range(5):
            talk.say("ann", str(number))
        talk.run(5_000)
        bob = seen(talk, "bob")

        assert (bob.lag_messages, bob.is_behind, bob.roots_agree) == (0, False, True)
        assert bob.told_for_us is not None
        assert bob.told_for_us < 2_500_000

    def test_who_keeps_up_under_load_is_not_behind(self) -> None:
        """Something is always on its way, so roots differ and some is unconfirmed: no fault."""
        talk = met("ann", "bob")
        for number in range(1_000):
            talk.say("ann", str(number))
            talk.run(5)
            assert not seen(talk, "bob").is_behind

        assert 0 < seen(talk, "bob").lag_messages < 1_000

    def test_who_does_not_take_messages_is_behind_since_it_stopped(self) -> None:
        """It lives and answers probes, and its disk takes nothing."""
        talk = met("ann", "bob")
        talk.say("ann", "taken")
        talk.run(5_000)
        talk["bob"].commits_alone = False
        for number in range(60):
            talk.say("ann", str(number))
            talk.run(1_000)
        bob = seen(talk, "bob")

        assert (bob.lag_messages, bob.is_behind, bob.roots_agree) == (60, True, False)
        assert 50 * SECOND_US < bob.behind_for_us < 62 * SECOND_US
        assert bob.agreed_for_us is not None
        assert 59 * SECOND_US < bob.agreed_for_us < 63 * SECOND_US

        talk["bob"].commits_alone = True
        talk["bob"].commit()
        talk.run(5_000)
        assert (seen(talk, "bob").lag_messages, seen(talk, "bob").is_behind) == (0, False)

    def test_a_root_that_agrees_confirms_too(self) -> None:
        """The others' pings tell it, also while none of this node's own is answered."""
        talk = met("ann", "bob")
        talk.drop(lambda _a, b, p: b.name == "ann" and any(isinstance(x, Ack) for x in p))
        talk.say("ann", "hi")
        talk.run(3_000)

        assert (seen(talk, "bob").lag_messages, seen(talk, "bob").roots_agree) == (0, True)

    def test_who_agrees_is_behind_no_more(self) -> None:
        """Though it never said that it reached what it was behind of."""
        talk = met("ann", "bob")
        talk["bob"].commits_alone = False
        for number in range(5):
            talk.say("ann", str(number))
            talk.run(1_000)
        assert seen(talk, "bob").behind_for_us > 0

        talk.drop(lambda _a, b, p: b.name == "ann" and any(isinstance(x, Ack) for x in p))
        talk["bob"].commits_alone = True
        talk["bob"].commit()
        talk.run(2_000)

        assert (seen(talk, "bob").lag_messages, seen(talk, "bob").behind_for_us) == (0, 0)

    def test_nothing_is_known_of_one_that_said_nothing(self) -> None:
        """That is not the same as that it holds nothing."""
        talk = met("ann", "bob", probe_interval_ms=60_000)
        talk.lose(Rumor)
        talk.say("ann", "hi")
        bob = seen(talk, "bob")

        assert (bob.lag_messages, bob.behind_for_us, bob.told_for_us) == (1, 0, None)

    def test_who_died_is_not_behind(self) -> None:
        """Its mark is forgotten, and what it said with it."""
        talk = met("ann", "bob")
        talk.say("ann", "hi")
        talk.run(3_000)
        talk.kill("bob")
        for number in range(60):
            talk.say("ann", str(number))
            talk.run(1_000)

        assert seen(talk, "bob").behind_for_us == 0
        assert not seen(talk, "bob").is_behind


class TestLinks:
    def test_all_of_few_are_linked(self) -> None:
        """Eagerly at first, with nothing on the way; nobody is linked to itself or to the dead."""
        talk = met("ann", "bob", "cyd")
        talk.kill("cyd")
        talk.run(20_000)

        assert seen(talk, "bob").link == LinkFacts(True, 0, False)
        assert seen(talk, "ann").link is None
        assert seen(talk, "cyd").link is None

    def test_the_link_to_one_that_restarted_is_new(self) -> None:
        """Though nobody held it for dead: it is eager at its end, so it is at this one."""
        talk = met("ann", "bob")
        talk["ann"].hear(talk["bob"], Prune())
        assert seen(talk, "bob").link == LinkFacts(False, 0, False)

        talk.kill("bob")
        talk.restart("bob", "ann")
        talk.run(100)

        assert seen(talk, "bob").link == LinkFacts(True, 0, False)

    def test_what_is_on_the_way_and_that_there_is_no_room(self) -> None:
        """To a peer that reads nothing no more than a window is pushed; what waits is bounded."""
        talk = met("ann", "bob")
        talk.kill("bob")
        sizes = [len(talk.say("ann", "x" * 8_000).encoded) for _ in range(9)]
        link = seen(talk, "bob").link

        assert link is not None
        assert (link.in_flight_bytes, link.is_window_full) == (sum(sizes[:8]), False)

        for _ in range(WAITING_BYTES_MAX // 8_000 + 1):
            talk.say("ann", "x" * 8_000)
        link = seen(talk, "bob").link

        assert link is not None
        assert (link.in_flight_bytes, link.is_window_full) == (sum(sizes[:8]), True)


def test_drops_are_of_all_the_machines_inside() -> None:
    """Each by its reason, wherever it was counted; what never happened is not listed."""
    talk = met("ann", "bob", holdback_blocks_max=16)
    ann, bob = talk["ann"], talk["bob"]
    assert dict(bob.facts.drops) == {}
    talk.cut("bob")
    said = [talk.say("ann", str(number)).encoded for number in range(40)]
    bob.hear(bob, Ping(1, bytes(8), bytes(8), False, bytes(8)))
    bob.hear(ann, *(Rumor(False, 0, (encoded,)) for encoded in said[1:]))

    assert bob.facts.drops.keys() == {Drop.OWN_DATAGRAM, Drop.HOLDBACK_OVERFLOW}
    assert bob.facts.drops[Drop.HOLDBACK_OVERFLOW] == 39 - bob.facts.repair.holdback_messages


def test_drops_outlive_a_failed_commit_and_an_adopted_base() -> None:
    """What is built anew after these counts on from where it stood."""
    talk = met("ann", "bob", holdback_blocks_max=16)
    ann, bob = talk["ann"], talk["bob"]
    talk.cut("bob")
    said = [talk.say("ann", str(number)).encoded for number in range(40)]
    bob.hear(ann, *(Rumor(False, 0, (encoded,)) for encoded in said[1:]))
    drops = dict(bob.facts.drops)
    bob.fail_commit()

    assert drops.keys() == {Drop.HOLDBACK_OVERFLOW}
    assert bob.facts.drops == drops

    bob.replica.adopted(history_of(bob.disk), talk.now)

    assert bob.facts.drops == drops
