"""Two and three nodes and a link that can lose: each test a play."""

from collections import Counter
from random import Random
from typing import Any

import pytest

from flc_udp.config import BODY_BYTES_MAX, WALL_MS_LIMIT
from flc_udp.core.effects import Send
from flc_udp.core.notices import LogForked, MemberDied, MemberSuspected
from flc_udp.core.push.links import ANNOUNCE_BYTES
from flc_udp.core.standing import NO_LOG
from flc_udp.model.address import Address
from flc_udp.model.dots import Dot
from flc_udp.model.errors import Drop, FlcError
from flc_udp.wire.packets import (
    Ack,
    Digest,
    Have,
    Join,
    Leave,
    Members,
    Packet,
    Piece,
    Ping,
    Pull,
    Receipt,
    Replay,
    ReplayEnd,
    Rumor,
    Update,
)
from flc_udp.wire.rows import DigestRow, MemberRow, State, Want
from tests.core.dialogue import WALL, Party, Talk
from tests.model.kept import history_of
from tests.model.stories import Story, variant

HASH = b"hash----"


def pair(**settings: int) -> Talk:
    """Ann and bob, who know each other."""
    talk = Talk("ann", "bob", **settings)
    talk.meet()
    return talk


def trio(**settings: int) -> Talk:
    """Ann, bob and cyd, who know each other."""
    talk = Talk("ann", "bob", "cyd", **settings)
    talk.meet()
    return talk


class TestJoining:
    def test_a_newcomer_and_its_seed_know_each_other(self) -> None:
        """One join and one answer make two members, and their tables are alike at once."""
        talk = Talk("ann", "bob")
        talk.join("bob", "ann")
        talk.run(10)

        assert State.ALIVE is talk["ann"].believes("bob")
        assert State.ALIVE is talk["bob"].believes("ann")
        assert {k: talk.sent[k] for k in ("Join", "Members")} == {"Join": 1, "Members": 1}
        assert talk.agree()

    def test_members_of_one_seed_come_to_know_each_other(self) -> None:
        """Who joined the same node hears of each other through it."""
        talk = trio()

        assert State.ALIVE is talk["bob"].believes("cyd")
        assert State.ALIVE is talk["cyd"].believes("bob")

    def test_all_seeds_are_asked_at_once_and_one_that_lives_is_enough(self) -> None:
        """Dead seeds do not slow a join."""
        talk = Talk("ann", "bob", "cyd")
        talk.kill("bob")
        talk.join("cyd", "bob", "ann")
        talk.run(10)

        assert State.ALIVE is talk["cyd"].believes("ann")

    def test_a_seed_that_was_silent_is_asked_again(self) -> None:
        """A lost join costs a second, not the membership."""
        talk = Talk("ann", "bob")
        talk.lose(Join)
        talk.join("bob", "ann")
        talk.run(5_000)
        talk.heal()
        talk.run(1_100)

        assert State.ALIVE is talk["ann"].believes("bob")

    def test_a_lost_answer_is_made_good(self) -> None:
        """A newcomer whose answer was lost is probed by its seed and hears of it."""
        talk = Talk("ann", "bob")
        talk.lose(Members)
        talk.join("bob", "ann")
        talk.run(10)
        talk.heal()
        talk.settle(10_000)

        assert State.ALIVE is talk["bob"].believes("ann")

    def test_a_newcomer_gets_the_history(self) -> None:
        """Who joins late ends with every message, in the same order."""
        talk = Talk("ann", "bob")
        for number in range(300):
            talk.say("ann", f"{number}")
        talk.meet()

        assert [str(n) for n in range(300)] == talk["bob"].shown
        assert talk["ann"].history() == talk["bob"].history()


class TestSaying:
    def test_what_is_said_is_shown_to_all(self) -> None:
        """One push, milliseconds later everybody has it, once."""
        talk = trio()
        talk.say("ann", "hi")
        talk.run(5)

        assert [party.shown for party in talk.parties] == [["hi"]] * 3

    def test_a_reply_waits_for_what_it_replies_to(self) -> None:
        """A message is shown only after its causes, whatever order the datagrams came in."""
        talk = trio()
        talk.drop(lambda a, b, _: {a.name, b.name} == {"ann", "cyd"})
        talk.drop(
            lambda _a, b, packets: (
                b.name == "cyd"
                and any(
                    isinstance(p, Rumor | Replay) and b"question" in p.blocks[0] for p in packets
                )
            )
        )
        talk.say("ann", "question")
        talk.run(5)
        talk.say("bob", "answer")
        talk.run(10)

        assert talk["cyd"].shown == []
        assert talk["cyd"].facts.repair.holdback_messages == 1

        talk.heal()
        talk.settle()

        assert talk["cyd"].shown == ["question", "answer"]

    def test_what_a_reply_waits_for_is_asked_of_its_teller_at_once(self) -> None:
        """A gap seen in the hold-back is filled within grace and a round trip, without digests."""
        talk = trio()
        talk.lose(Rumor)
        talk.say("ann", "lost")
        talk.run(5)
        talk.heal()
        talk.lose(Ping, Digest)
        talk.say("ann", "found")
        talk.run(talk.settings.pull_grace_ms + 5)

        assert [party.shown for party in talk.parties] == [["lost", "found"]] * 3
        assert talk.sent["Digest"] == 0

    def test_causes_too_are_asked_of_the_teller_at_once(self) -> None:
        """Whoever tells of an answer holds the question."""
        talk = trio()
        talk.cut("cyd")
        talk.say("ann", "question")
        talk.run(5)
        talk.heal()
        talk.lose(Ping, Ack, Digest)
        talk.say("bob", "answer")
        talk.run(talk.settings.pull_grace_ms + 5)

        assert talk["cyd"].shown == ["question", "answer"]

    def test_a_room_is_a_context_of_its_own(self) -> None:
        """Frontiers are of one room: nothing said elsewhere is a cause."""
        talk = pair()
        talk.say("ann", "hi", "ops")
        talk.settle()

        assert talk.say("bob", "hi", "lobby").causes == ()
        assert len(talk.say("bob", "yes", "ops").causes) == 1

    def test_a_refused_post_leaves_no_gap(self) -> None:
        """The next message takes the seq the refused one would have had."""
        talk = pair()
        talk.say("ann", "one")
        with pytest.raises(FlcError) as too_long:
            talk.say("ann", "x" * (BODY_BYTES_MAX + 1))
        with pytest.raises(FlcError):
            talk.say("ann", "room", "no\nroom")
        second = talk.say("ann", "two")
        talk.settle()

        assert second.dot.seq == 2
        assert str(BODY_BYTES_MAX) in str(too_long.value)
        assert talk["bob"].shown == ["one", "two"]

    def test_a_refused_first_post_leaves_no_log(self) -> None:
        """A log begins with its first message, not with an attempt."""
        talk = pair()
        with pytest.raises(FlcError):
            talk.say("ann", "room", "")

        assert talk["ann"].facts.log == NO_LOG


class TestRepair:
    def test_a_lost_rumor_is_repaired_by_roots_digest_and_pull(self) -> None:
        """When no later message betrays the gap, the next probe's root does."""
        talk = pair()
        talk.lose(Rumor)
        talk.say("ann", "hi")
        talk.settle(10_000)

        assert talk["bob"].shown == ["hi"]
        assert {"Digest", "Pull", "Replay"} <= set(talk.sent)

    @pytest.mark.parametrize("kind", [Rumor, Digest, Pull, Replay, Ping, Ack])
    def test_the_loss_of_any_kind_of_packet_for_a_while_is_repaired(self, kind: type) -> None:
        """Whatever was lost, anti-entropy finds it."""
        talk = trio()
        talk.lose(kind)
        for number in range(5):
            talk.say("ann", f"a{number}")
            talk.say("bob", f"b{number}")
            talk.run(700)
        talk.heal()
        talk.settle()

        for party in talk.parties:
            assert talk["ann"].history() == party.history()
            assert len(party.shown) == 10

    @pytest.mark.parametrize("seed", range(6))
    def test_a_link_that_loses_a_third_is_survived(self, seed: int) -> None:
        """Three who talk over a bad link end with the same history."""
        talk = Talk("ann", "bob", "cyd", seed=seed)
        talk.meet()
        random = Random(seed)
        talk.drop(lambda _a, _b, _p: random.random() < 0.33)
        for number in range(40):
            talk.say(("ann", "bob", "cyd")[number % 3], f"{number}", ("lobby", "ops")[number % 2])
            talk.run(100)
        talk.heal()
        talk.settle()

        assert len(talk["ann"].disk) == 40
        assert talk["ann"].history() == talk["bob"].history() == talk["cyd"].history()

    def test_two_islands_merge(self) -> None:
        """After a cut both sides hold what was said on either."""
        talk = trio()
        talk.cut("cyd")
        talk.say("ann", "here")
        talk.say("cyd", "there")
        talk.run(30_000)

        assert State.DEAD is talk["ann"].believes("cyd")

        talk.heal()
        talk.settle(10_000)

        assert State.ALIVE is talk["ann"].believes("cyd")
        assert talk["ann"].history() == talk["bob"].history() == talk["cyd"].history()
        assert len(talk["ann"].disk) == 2

    def test_a_replay_of_much_is_not_forwarded(self) -> None:
        """Catch-up goes from teller to puller and no further."""
        talk = trio()
        talk.cut("cyd")
        for number in range(400):
            talk.say("ann", f"{number}")
        talk.run(2_000)
        pushed = talk.sent["Rumor"]
        talk.heal()
        talk.settle()

        assert len(talk["cyd"].disk) == 400
        assert pushed == talk.sent["Rumor"]

    def test_a_replay_nobody_asked_for_is_dropped_and_counted(self) -> None:
        """Only a pull makes a replay welcome."""
        talk = Talk("ann", "bob", "cyd")
        message = talk.say("ann", "hi")
        bob = talk["bob"]
        bob.hear(talk["ann"], Replay(7, (message.encoded,)))

        assert [e for e in bob.end_turn() if getattr(e, "blocks", ())] == []
        assert dict(bob.facts.drops) == {Drop.REPLAY_NOT_ASKED_FOR: 1}

    def test_a_pull_fits_a_datagram_however_many_gaps_there_are(self) -> None:
        """A pull in two datagrams would be answered twice, and the second answer dropped."""
        talk = pair()
        story = Story()
        said = [story.say(f"bot{number}") for _ in range(10) for number in range(100)]
        every_other = tuple(b.encoded for b in said if b.first % 2 == 0)
        talk["bob"].hear(talk["ann"], Rumor(False, 0, every_other))
        talk["bob"].carry_out()
        talk["ann"].disk += said
        talk["ann"].start()
        talk.meet()
        talk.settle()
        pulls = Counter(p.nonce for _, to, p in talk.heard if isinstance(p, Pull) and to == "ann")

        assert {1} == set(pulls.values())
        assert len(talk["bob"].disk) == 1_000
        assert talk["bob"].facts.drops[Drop.REPLAY_NOT_ASKED_FOR] == 0

    def test_junk_inside_a_rumor_is_dropped_and_counted(self) -> None:
        """What is no message changes nothing, and its neighbours in the packet are taken."""
        talk = pair()
        talk.cut("bob")
        message = talk.say("ann", "hi")
        bob = talk["bob"]
        bob.hear(talk["ann"], Rumor(False, 0, (b"junk", message.encoded)))
        bob.carry_out()

        assert bob.shown == ["hi"]
        assert sum(bob.facts.drops.values()) == 1

    def test_what_flows_is_not_pulled(self) -> None:
        """Somebody tells of more, and the tree brings it in order for longer than any grace."""
        talk = pair()
        ann, bob = talk["ann"], talk["bob"]
        talk.lose(Rumor)
        said = [talk.say("ann", str(number)) for number in range(100)]
        bob.hear(ann, Have(False, (said[-1].dot,)))
        for block in said:
            bob.hear(ann, Rumor(False, 0, (block.encoded,)))
            bob.carry_out()
            talk.run(5)

        assert len(bob.shown) == 100
        assert talk.sent["Pull"] == 0


class TestLiveness:
    def test_who_does_not_answer_is_suspected_and_dies(self) -> None:
        """Alive, suspect, dead: in that order and told once each."""
        talk = trio()
        talk.kill("cyd")
        while talk["ann"].believes("cyd") is State.ALIVE:
            talk.run(50)

        assert State.SUSPECT is talk["ann"].believes("cyd")

        talk.run(7_000)

        for name in ("ann", "bob"):
            assert State.DEAD is talk[name].believes("cyd")
            assert talk[name].told_of(MemberSuspected) == ["cyd"]
            assert talk[name].told_of(MemberDied) == ["cyd"]

    def test_who_was_dead_comes_back(self) -> None:
        """A member that was cut off is alive again for all when it can be reached."""
        talk = trio()
        talk.cut("cyd")
        talk.run(20_000)
        talk.heal()
        talk.settle(10_000)

        for name in ("ann", "bob"):
            assert State.ALIVE is talk[name].believes("cyd")
        assert State.ALIVE is talk["cyd"].believes("ann")

    def test_a_dead_member_that_was_heard_is_asked_all_the_same(self) -> None:
        """Its questions came, all answers were lost, and after a restart it knows nobody."""
        talk = pair()
        talk.drop(lambda sender, _receiver, _packets: sender.name == "bob")
        talk.run(20_000)
        assert State.DEAD is talk["bob"].believes("ann")
        assert talk["bob"].told_of(MemberDied) == ["ann"]
        talk.restart("ann")
        talk.heal()
        talk.settle(10_000)

        assert State.ALIVE is talk["ann"].believes("bob")

    def test_a_restart_of_a_dead_member_is_believed(self) -> None:
        """A new run speaks at a higher incarnation and is alive at once."""
        talk = pair()
        talk.kill("bob")
        talk.run(20_000)
        talk.restart("bob", "ann")
        talk.run(10)

        assert State.ALIVE is talk["ann"].believes("bob")

    def test_who_comes_back_elsewhere_and_renamed_is_the_same_member(self) -> None:
        """Another address and name take effect with its first packet, and no ghost stays."""
        talk = trio()
        talk.kill("bob")
        talk["bob"].address = Address("10.0.9.9", 7352)
        talk["bob"].name = "robert"
        talk.restart("bob", "ann")
        talk.settle(10_000)

        for name in ("ann", "cyd"):
            rows = [member.row for member in talk[name].facts.members]
            (row,) = [row for row in rows if row.id == talk["bob"].id]
            assert (row.name, str(row.address), row.state) == (
                "robert",
                "10.0.9.9:7352",
                State.ALIVE,
            )
            assert len(rows) == 3

    def test_two_of_one_name_are_two_members(self) -> None:
        """A name is a label: both are alive, known by their ids, and one can die alone."""
        talk = trio()
        talk.kill("cyd")
        talk["cyd"].name = "bob"
        talk.restart("cyd", "ann")
        talk.settle(10_000)
        named = [m.row for m in talk["ann"].facts.members if m.row.name == "bob"]

        assert {talk["bob"].id, talk["cyd"].id} == {row.id for row in named}
        assert {row.state for row in named} == {State.ALIVE}

        talk.kill("cyd")
        talk.run(20_000)

        assert State.DEAD is talk["ann"].believes("cyd")
        assert State.ALIVE is talk["ann"].believes("bob")

    def test_a_suspect_refutes(self) -> None:
        """Its subject hears of a suspicion and is alive at a higher incarnation, never dead."""
        talk = trio()
        bob = talk["bob"].me
        before = bob.incarnation
        talk["ann"].hear(talk["cyd"], Update((bob._replace(state=State.SUSPECT),)))
        talk["ann"].carry_out()

        assert State.SUSPECT is talk["ann"].believes("bob")

        talk.run(20_000)

        assert before < talk["bob"].me.incarnation
        for name in ("ann", "cyd"):
            assert State.ALIVE is talk[name].believes("bob")
            assert talk[name].told_of(MemberDied) == []

    def test_an_alive_claim_from_a_former_life_is_outlived(self) -> None:
        """Who hears itself at a higher incarnation goes above it."""
        talk = pair()
        bob = talk["bob"].me
        talk["bob"].hear(talk["ann"], Update((bob._replace(incarnation=bob.incarnation + 7),)))
        talk["bob"].carry_out()
        talk.settle()

        assert bob.incarnation + 8 == talk["bob"].me.incarnation

    @pytest.mark.parametrize(
        "lie", [{"boot": 77}, {"address": Address("10.9.9.9", 9)}, {"name": "zoe"}]
    )
    def test_an_alive_claim_of_another_self_is_refuted(self, lie: dict[str, Any]) -> None:
        """Whatever of its row is told wrongly at its own incarnation, its subject sets right."""
        talk = trio()
        bob = talk["bob"].me
        talk["ann"].hear(talk["cyd"], Update((bob._replace(**lie),)))
        talk["ann"].carry_out()
        talk.run(2_000)

        for party in talk.parties:
            member = party.member("bob")
            assert member is not None
            assert bob[3:] == member.row[3:]

    def test_who_is_not_believed_alive_hears_it_with_its_ack(self) -> None:
        """However old the news: its next probe is answered with what is held of it."""
        talk = pair()
        ann, bob = talk["ann"], talk["bob"]
        suspect = bob.me._replace(state=State.SUSPECT)
        ann.hear(bob, Update((suspect,)))
        ann.spend_news()
        ann.end_turn()
        ann.hear(bob, Ping(1, HASH, HASH, False, HASH))
        (answer,) = [
            e for e in ann.end_turn() if isinstance(e, Send) and Ack in map(type, e.packets)
        ]

        assert Update((suspect,)) in answer.packets

    def test_tables_that_differ_are_exchanged(self) -> None:
        """When news is spent, unequal roots still betray a row that the other lacks."""
        talk = pair()
        ann = talk["ann"]
        zoe = ann.me._replace(id=b"zoe-----", address=Address("10.0.0.9", 1), name="zoe")
        ann.replica.receive([Update((zoe,))], zoe.id, zoe.address, talk.wall, talk.now)
        ann.spend_news()
        ann.end_turn()
        talk.run(4_000)
        tables = [
            p for a, b, p in talk.heard if isinstance(p, Members) and (a, b) == ("ann", "bob")
        ]

        assert [zoe.id] == [row.id for row in tables[-1].rows if row.id == zoe.id]

    def test_a_stale_claim_changes_nothing(self) -> None:
        """An accusation of an incarnation long refuted is not even answered."""
        talk = pair()
        bob = talk["bob"].me
        stale = bob._replace(state=State.DEAD, incarnation=bob.incarnation - 1)
        for name in ("ann", "bob"):
            talk[name].hear(talk["ann"], Update((stale,)), sender=b"strange!")
            talk[name].carry_out()

        assert bob == talk["bob"].me
        assert State.ALIVE is talk["ann"].believes("bob")

    def test_one_lost_probe_suspects_nobody(self) -> None:
        """A probe asks twice before it has failed, even where nobody else can be asked."""
        talk = pair()
        lost = iter([True])
        talk.drop(lambda _a, _b, p: isinstance(p[0], Ping) and next(lost, False))
        talk.run(10_000)

        assert talk["ann"].told_of(MemberSuspected) + talk["bob"].told_of(MemberSuspected) == []

    def test_a_quiet_pair_sends_only_probes(self) -> None:
        """After settling, an interval costs each node one ping and one ack, and nothing else."""
        talk = pair()
        talk.say("ann", "hi")
        talk.settle()
        talk.run(30_000)
        talk.sent.clear()
        talk.run(60_000)

        assert {"Ping", "Ack"} == set(talk.sent)
        assert 148 <= talk.sent["Ping"] <= 152
        assert talk.sent["Ping"] == talk.sent["Ack"]

    def test_a_quiet_trio_after_a_death_sends_probes_and_ever_fewer_joins(self) -> None:
        """One dead member costs each other at most one join in a tenth of its silence."""
        talk = trio()
        talk.kill("cyd")
        talk.run(200_000)
        talk.sent.clear()
        talk.run(200_000)

        assert {"Ping", "Ack", "Join", "Update"} >= set(talk.sent)
        # At 200 s of silence every 20 s, at 400 s every 40 s, from two nodes.
        assert 2 * 5 <= talk.sent["Join"] <= 2 * 11

    def test_wakes_are_in_the_future_after_a_wake(self) -> None:
        """No deadline that was served stays due: a node that has nothing to do sleeps."""
        talk = trio()
        talk.kill("cyd")
        for _ in range(300):
            talk.run(100)
            for party in talk.parties:
                assert talk.now < party.replica.wake_at


class TestLeaving:
    def test_a_leave_is_witnessed(self) -> None:
        """Who leaves is acknowledged, is left for all, and never suspected."""
        talk = trio()
        talk.leave("cyd")

        assert not talk["cyd"].has_left

        talk.run(10)

        assert talk["cyd"].has_left
        talk.kill("cyd")
        talk.run(30_000)
        for name in ("ann", "bob"):
            assert State.LEFT is talk[name].believes("cyd")
            assert talk[name].told_of(MemberSuspected) == []

    def test_a_leave_is_known_to_all_before_it_goes(self) -> None:
        """Of ten nodes the nine others hold it for left at the moment when it may go."""
        names = tuple("abcdefghij")
        talk = Talk(*names)
        talk.meet()
        talk.drop(lambda a, _b, p: isinstance(p[0], Leave) and talk.now % 3 == 0 and a.name == "j")
        talk.leave("j")
        while not talk["j"].has_left:
            talk.run(1)

        assert {State.LEFT} == {talk[name].believes("j") for name in names[:-1]}

    def test_who_leaves_does_not_refute(self) -> None:
        """Accused while it goes, it goes: nobody hears that it is alive."""
        talk = pair()
        bob = talk["bob"]
        bob.replica.leave(talk.now)
        last_word = bob.me
        accused = last_word._replace(state=State.SUSPECT, incarnation=1 << 40)
        bob.hear(talk["ann"], Update((accused,)))
        bob.carry_out()

        assert bob.me == last_word
        assert last_word.state is State.LEFT

    def test_a_lost_leave_is_said_again(self) -> None:
        """A witness that did not hear is told again while patience lasts."""
        talk = pair()
        talk.lose(Leave)
        talk.leave("bob")
        talk.run(300)

        assert not talk["bob"].has_left

        talk.heal()
        talk.run(300)

        assert talk["bob"].has_left
        assert State.LEFT is talk["ann"].believes("bob")

    def test_who_is_alone_leaves_at_once(self) -> None:
        """There is nobody to wait for."""
        talk = Talk("ann")
        talk.leave("ann")

        assert talk["ann"].has_left

    def test_patience_ends(self) -> None:
        """Who is heard by nobody goes all the same, after a second."""
        talk = pair()
        talk.cut("bob")
        talk.leave("bob")
        talk.run(999)

        assert not talk["bob"].has_left

        talk.run(1)

        assert talk["bob"].has_left


class TestWaiting:
    def test_all_hold_it(self) -> None:
        """`--wait all` is over when every member's receipt is there."""
        talk = trio()
        message = talk.say("ann", "hi", receipt=True)
        wait = talk["ann"].watch(message)

        assert not wait.is_done

        talk.run(10)

        assert wait.is_done
        assert {talk["bob"].id, talk["cyd"].id} == set(wait.held_by)

    def test_one_of_two_is_enough_for_one(self) -> None:
        """`--wait 1` is over with the first receipt."""
        talk = trio()
        talk.cut("cyd")
        message = talk.say("ann", "hi", receipt=True)
        wait = talk["ann"].watch(message, 1)
        talk.run(10)

        assert wait.is_done
        assert [talk["bob"].id] == wait.held_by

    def test_a_receipt_waits_for_the_disk(self) -> None:
        """What is decided and not durable is not held."""
        talk = pair()
        talk["bob"].commits_alone = False
        message = talk.say("ann", "hi", receipt=True)
        wait = talk["ann"].watch(message)
        talk.run(2_000)

        assert not wait.is_done

        talk["bob"].commit()
        talk.run(5)

        assert wait.is_done

    def test_a_lost_receipt_costs_one_probe(self) -> None:
        """Acks carry heads: without any receipt the wait ends with a probe."""
        talk = trio()
        talk.lose(Receipt)
        message = talk.say("ann", "hi", receipt=True)
        wait = talk["ann"].watch(message)
        talk.run(210)

        assert wait.is_done

    def test_a_member_that_dies_meanwhile_is_dropped_and_named(self) -> None:
        """`all` is those that lived when it was said, but for who dies."""
        talk = trio()
        talk.kill("cyd")
        message = talk.say("ann", "hi", receipt=True)
        wait = talk["ann"].watch(message)
        talk.run(20_000)

        assert wait.is_done
        assert [talk["bob"].id] == wait.held_by
        assert [talk["cyd"].id] == wait.gone

    def test_a_receipt_of_another_log_does_not_count(self) -> None:
        """Nor one for more than was ever said, as of the log of a former run."""
        talk = pair()
        talk.cut("bob")
        message = talk.say("ann", "hi")
        ann, bob = talk["ann"], talk["bob"]
        ann.hear(bob, Receipt(b"another-", 1), Receipt(message.log, 2))

        assert not ann.watch(message).is_done

        ann.hear(bob, Receipt(message.log, 1))

        assert ann.watch(message).is_done

    def test_an_ack_that_nobody_asked_for_does_not_count(self) -> None:
        """As one that was recorded in a former run: it speaks of another log."""
        talk = pair()
        talk.cut("bob")
        message = talk.say("ann", "hi")
        ann, bob = talk["ann"], talk["bob"]
        for nonce in (1, 1 << 40, (1 << 64) - 1):
            ann.hear(bob, Ack(nonce, bytes(8), bytes(8), False, message.last))

        assert not ann.watch(message).is_done

    def test_an_ack_about_a_former_log_does_not_count(self) -> None:
        """It was asked for before a failed commit, after which a new log begins."""
        talk = pair()
        talk.say("ann", "old")
        talk.lose(Receipt)
        ann, acks = talk["ann"], []
        talk["bob"].reads = lambda packet: acks.append(packet) or packet  # type: ignore[func-returns-value]
        talk.run(3_000)
        (ping, *_) = [packet for packet in acks if isinstance(packet, Ping)]
        ann.replica.rebuild(history_of(ann.disk), talk.now)
        message = talk.say("ann", "new")
        ann.hear(talk["bob"], Ack(ping.nonce, bytes(8), bytes(8), False, message.last))

        assert not ann.watch(message).is_done

    def test_an_ack_of_a_repeated_ping_counts_only_where_both_asked_about_one_log(self) -> None:
        """Where a new log began in between, nobody knows which of the two it speaks of."""
        talk = pair()
        talk.say("ann", "old")
        talk.lose(Receipt)
        talk.lose(Ack)
        ann, pings = talk["ann"], list[Ping]()

        def listen(packet: Packet) -> Packet:
            pings.extend([packet] if isinstance(packet, Ping) else [])
            return packet

        talk["bob"].reads = listen
        while not pings:
            talk.run(1)
        ann.replica.rebuild(history_of(ann.disk), talk.now)
        message = talk.say("ann", "new")
        while pings[-1] is pings[0]:
            talk.run(1)
        assert [ping.nonce for ping in pings] == [pings[0].nonce] * 2
        assert pings[0].log != pings[1].log == message.log
        ann.hear(talk["bob"], Ack(pings[0].nonce, bytes(8), bytes(8), False, message.last))

        assert not ann.watch(message).is_done

    def test_an_old_message_is_waited_for_too(self) -> None:
        """What others said they hold before the wait began counts."""
        talk = pair()
        message = talk.say("ann", "hi", receipt=True)
        talk.run(10)

        assert talk["ann"].watch(message).is_done

    def test_nobody_to_wait_for_is_over_at_once(self) -> None:
        """Alone, all others hold it."""
        talk = Talk("ann")
        message = talk.say("ann", "hi")

        assert talk["ann"].watch(message).is_done

    def test_a_copy_that_asks_is_answered_too(self) -> None:
        """A rumor of what is held already owes its receipt all the same."""
        talk = pair()
        message = talk.say("ann", "hi")
        talk.run(10)
        talk.sent.clear()
        talk["bob"].hear(talk["ann"], Rumor(True, 0, (message.encoded,)))
        talk["bob"].carry_out()

        assert dict(talk.sent) == {"Receipt": 1}


class TestBlocks:
    """Blocks of several messages, by every way a block can come."""

    def test_a_rumor_brings_a_block_as_a_whole(self) -> None:
        """One datagram to each, and all its messages are shown at once, in order."""
        talk = pair()
        block = talk.say("ann", "a", "lobby", "b", "c")
        talk.run(5)
        rumors = [p.blocks for _, _, p in talk.heard if isinstance(p, Rumor)]

        assert [party.shown for party in talk.parties] == [["a", "b", "c"]] * 2
        assert rumors == [(block.encoded,)]
        assert (talk["bob"].facts.messages, talk["bob"].disk) == (3, [block])

    @pytest.mark.parametrize("held", [0, 1])
    def test_a_have_names_its_last_message_and_the_block_is_pulled(self, held: int) -> None:
        """Asked for is all that is missing up to there, and each block comes once."""
        talk = pair()
        talk.say("ann", "a", "lobby", "b")
        talk.run(5_000)
        talk.lose(Rumor, Ping, Ack)
        lost = [talk.say("ann", f"{n}", "lobby", f"{n}'", f"{n}''") for n in range(2)]
        last = lost[held]
        talk["bob"].hear(talk["ann"], Have(False, (Dot(last.log, last.last),)))
        talk["bob"].carry_out()
        talk.run(talk.settings.have_grace_ms + 10)
        pulled = [p.wants for _, _, p in talk.heard if isinstance(p, Pull)]
        replayed = [b for _, _, p in talk.heard if isinstance(p, Replay) for b in p.blocks]

        assert pulled == [(Want(last.log, 3, last.last),)]
        assert replayed == [block.encoded for block in lost[: held + 1]]
        assert talk["bob"].history() == talk["ann"].history()[: last.last]

    @pytest.mark.parametrize("seed", range(4))
    def test_the_newcomer_gets_blocks_of_any_size(self, seed: int) -> None:
        """Of one message and of many, small ones and one in pieces, over a link that loses."""
        talk = Talk("ann", "bob", seed=seed)
        random = Random(seed)
        for number in range(60):
            bodies = [f"{number}.{n}" for n in range(random.choice((1, 2, 7, 50)))]
            bodies = [random.randbytes(20_000).hex()] if number % 20 == 10 else bodies
            talk.say("ann", bodies[0], random.choice(("lobby", "ops")), *bodies[1:])
        talk.drop(lambda _a, _b, _p: random.random() < 0.2)
        talk.join("bob", "ann")
        talk.run(2_000)
        talk.heal()
        talk.settle()

        assert talk["ann"].shown == talk["bob"].shown
        assert talk["ann"].history() == talk["bob"].history()

    def test_a_large_one_comes_in_pieces_between_blocks_of_many(self) -> None:
        """What follows it waits until the last piece is here."""
        talk = pair()
        talk.say("ann", "a", "lobby", "b")
        talk.lose(Pull)
        large = talk.say("ann", "x" * 60_000)
        talk.say("ann", "c", "lobby", "d", "e")
        talk.run(500)
        repair = talk["bob"].facts.repair
        assert (talk["bob"].shown, repair.holdback_messages) == (["a", "b"], 3)

        talk.heal()
        talk.settle()
        pieces = [p for _, _, p in talk.heard if isinstance(p, Piece)]

        assert {Dot(p.log, p.seq) for p in pieces} == {large.dot}
        assert talk["bob"].shown == ["a", "b", "x" * 60_000, "c", "d", "e"]

    def test_a_reply_to_a_block_comes_after_all_of_it(self) -> None:
        """Its cause is the last message, and what waits is counted in messages."""
        talk = trio()
        talk.drop(lambda _a, b, p: b.name == "cyd" and any(isinstance(x, Rumor) for x in p))
        question = talk.say("ann", "is", "lobby", "it", "so")
        talk.run(5)
        talk.heal()
        talk.lose(Ping, Ack, Pull)
        reply = talk.say("bob", "yes", "lobby", "it is")
        talk.run(10)
        assert reply.causes == (Dot(question.log, 3),)
        assert (talk["cyd"].shown, talk["cyd"].facts.repair.holdback_messages) == ([], 2)

        talk.heal()
        talk.settle()

        assert talk["cyd"].shown == ["is", "it", "so", "yes", "it is"]

    @pytest.mark.parametrize("seq", [3, 4, 5])
    @pytest.mark.parametrize("kind", [None, Receipt])
    def test_any_message_of_a_block_can_be_waited_for(
        self, kind: type[Receipt] | None, seq: int
    ) -> None:
        """By the receipt of its block, or by a probe: once its block is durable there."""
        talk = pair()
        talk.say("ann", "a", "lobby", "b", receipt=True)
        talk.run(10)
        if kind is not None:
            talk.lose(kind)
        talk["bob"].commits_alone = False
        block = talk.say("ann", "c", "lobby", "d", "e", receipt=True)
        wait = talk["ann"].watch(block, seq=seq)
        talk.run(1_000)
        assert not wait.is_done

        talk["bob"].commit()
        talk.run(210)

        assert wait.is_done
        assert wait.held_by == [talk["bob"].id]
        receipts = [p for _, _, p in talk.heard if isinstance(p, Receipt)]
        assert receipts[1:] == ([] if kind else [Receipt(block.log, 5)])

    def test_a_lost_block_is_found_by_digests(self) -> None:
        """Their rows have the last message of each log."""
        talk = pair()
        talk.lose(Rumor, Have)
        block = talk.say("ann", "a", "lobby", "b", "c")
        talk.settle(10_000)
        rows = {row for _, _, p in talk.heard if isinstance(p, Digest) for row in p.rows}

        assert rows == {DigestRow(block.log, 3, block.hash)}
        assert talk["bob"].shown == ["a", "b", "c"]

    @pytest.mark.parametrize("cause", [Dot(b"made-up-", 7), None])
    def test_a_forgery_that_waits_does_not_stop_its_log(self, cause: Dot | None) -> None:
        """Somebody wrote in ann's name, and what she says is decided all the same when it comes."""
        talk = trio()
        first = talk.say("ann", "first")
        talk.settle()
        lie = variant(
            first,
            first=2 if cause else 3,
            parent=first.hash,
            causes=(cause,) if cause else (),
            bodies=["a lie"] * 9,
            stamp=first.stamp + 1,
            origin=None,
        )
        bob = talk["bob"]
        bob.hear(talk["cyd"], Rumor(False, 0, (lie.encoded,)))
        bob.carry_out()
        assert bob.facts.repair.holdback_messages == 9

        talk.say("ann", "a", "lobby", "b", "c")
        talk.run(5)

        assert bob.shown == ["first", "a", "b", "c"]
        assert bob.facts.repair.holdback_messages == 0
        assert bob.facts.drops[Drop.BROKEN_CHAIN] == 1
        talk.settle()


class TestLargeBodies:
    def test_a_large_body_is_announced_and_pulled(self) -> None:
        """Above ANNOUNCE_BYTES nothing is pushed but a dot; pieces come when asked for."""
        talk = trio()
        body = "x" * 60_000
        talk.say("ann", body)
        talk.settle(10_000)

        assert [[body]] * 3 == [party.shown for party in talk.parties]
        assert talk.sent["Rumor"] == 0
        assert talk.sent["Have"] > 0

    def test_a_body_larger_than_a_datagram_is_pushed_in_pieces(self) -> None:
        """Between a datagram and ANNOUNCE_BYTES the pieces of a rumor are pushed."""
        talk = trio()
        body = "x" * (ANNOUNCE_BYTES - 1_000)
        talk.say("ann", body)
        talk.run(20)

        assert [[body]] * 3 == [party.shown for party in talk.parties]
        assert talk.sent["Pull"] == 0

    def test_a_stream_of_bodies_larger_than_a_datagram_is_pushed(self) -> None:
        """A megabyte a second, in pieces: it is acknowledged, and nobody waits, pulls or prunes."""
        talk = pair()
        for number in range(1_000):
            talk.say("ann", f"{number}".ljust(2_000))
            talk.run(2)

        assert talk["ann"].shown == talk["bob"].shown
        assert len(talk["bob"].shown) == 1_000
        assert talk.sent["Taken"] > 100
        assert talk.sent["Pull"] == talk.sent["Prune"] == 0

    def test_what_says_where_pieces_end_is_no_duplicate(self) -> None:
        """A rumor without blocks brings nothing new, and its link is not pruned for that."""
        talk = trio()
        ann, bob, cyd = talk.parties
        talk.cut("bob")
        block = talk.say("ann", "hi")
        bob.hear(ann, Rumor(False, 1, (block.encoded,)))
        bob.hear(cyd, *(Rumor(False, at, ()) for at in range(20)))
        bob.carry_out()

        assert talk.sent["Prune"] == 0

    @pytest.mark.parametrize("seed", range(4))
    def test_lost_pieces_are_asked_for_by_number(self, seed: int) -> None:
        """Of a large body that lost a fifth on the way, most is sent once."""
        talk = Talk("ann", "bob", seed=seed)
        talk.meet()
        random = Random(seed)
        talk.drop(lambda _a, _b, p: isinstance(p[0], Piece) and random.random() < 0.2)
        body = random.randbytes(60_000)
        talk.say("ann", body)
        talk.settle(60_000)
        pieces = [p for _, to, p in talk.heard if isinstance(p, Piece)]

        assert [body] == talk["bob"].shown
        assert len({p.number for p in pieces}) + 5 >= len(pieces)

    def test_the_newcomer_gets_large_bodies(self) -> None:
        """Catch-up carries small and large messages, in causal order."""
        talk = Talk("ann", "bob")
        bodies = [f"{n}" * (1 if n % 3 else 20_000) for n in range(1, 10)]
        for body in bodies:
            talk.say("ann", body)
        talk.meet()

        assert bodies == talk["bob"].shown


class TestCommits:
    def test_nothing_of_its_own_leaves_before_its_commit(self) -> None:
        """Said and not yet durable: no rumor, no head, no digest."""
        talk = pair()
        talk["ann"].commits_alone = False
        talk.say("ann", "hi")
        talk.run(10_000)

        assert talk["ann"].shown + talk["bob"].shown == []
        assert talk.sent["Rumor"] == 0

        talk["ann"].commit()
        talk.run(5)

        assert [party.shown for party in talk.parties] == [["hi"]] * 2

    def test_a_foreign_message_is_forwarded_before_its_commit_and_not_shown(self) -> None:
        """Its author holds it; who forwards it claims nothing."""
        talk = trio(links_max=8)
        talk.drop(lambda a, b, _: {a.name, b.name} == {"ann", "cyd"})
        talk["bob"].commits_alone = False
        talk.say("ann", "hi")
        talk.run(10)

        assert talk["cyd"].shown == ["hi"]
        assert talk["bob"].shown == []

    def test_a_failed_commit_is_as_if_nothing_was_said(self) -> None:
        """The message is gone, the node goes on, and its next one is of a new log."""
        talk = pair()
        talk.say("ann", "kept")
        talk["ann"].commits_alone = False
        lost = talk.say("ann", "lost")
        talk["ann"].fail_commit()
        talk["ann"].commits_alone = True
        later = talk.say("ann", "later")
        talk.settle()

        assert talk["bob"].shown == ["kept", "later"]
        assert lost.log != later.log
        assert later.first == 1
        assert talk["ann"].facts.uncommitted == 0

    def test_foreign_messages_lost_by_a_failed_commit_come_again(self) -> None:
        """What others hold is pulled once the disk takes it."""
        talk = pair()
        talk["bob"].commits_alone = False
        talk.say("ann", "hi")
        talk.run(10)
        talk["bob"].fail_commit()
        talk["bob"].commits_alone = True
        talk.settle()

        assert talk["bob"].shown == ["hi"]

    def test_members_survive_a_failed_commit(self) -> None:
        """Only the log side is reborn: who is alive is still known, and nothing is suspected."""
        talk = trio()
        talk["ann"].commits_alone = False
        talk.say("ann", "lost")
        talk["ann"].fail_commit()

        assert State.ALIVE is talk["ann"].believes("bob")

        talk.run(20_000)

        assert [n for party in talk.parties for n in party.told_of(MemberSuspected)] == []

    def test_a_wait_does_not_outlive_its_log(self) -> None:
        """Receipts of the old log say nothing of the new one."""
        talk = pair()
        talk.say("ann", "one", receipt=True)
        talk.say("ann", "two", receipt=True)
        talk.run(10)
        talk["ann"].commits_alone = False
        talk.say("ann", "lost")
        talk["ann"].fail_commit()
        talk.cut("bob")
        message = talk.say("ann", "new")
        talk["ann"].commit()

        assert not talk["ann"].watch(message).is_done

    def test_while_a_base_is_taken_nothing_else_is_taken_in(self) -> None:
        """Also after a failed commit; what was not taken then is asked for afterwards."""
        talk = pair()
        bob = talk["bob"]
        bob.replica.pause()
        bob.fail_commit()
        talk.say("ann", "meanwhile")
        talk.run(1_000)
        assert bob.shown == []
        assert bob.facts.drops[Drop.WAITING_FOR_THE_DISK] > 0

        bob.replica.adopted(None, talk.now)
        talk.settle()

        assert bob.shown == ["meanwhile"]

    def test_a_log_goes_on_over_the_base_that_is_taken(self) -> None:
        """Nothing was lost by it, so the next message follows the last; receipts are kept."""
        talk = pair()
        first = talk.say("ann", "before", receipt=True)
        talk.run(10)
        ann = talk["ann"]
        ann.replica.pause()
        ann.replica.adopted(history_of(ann.disk), talk.now)
        second = talk.say("ann", "after")
        talk.settle()

        assert (second.log, second.first, second.parent) == (first.log, 2, first.hash)
        assert ann.watch(first).is_done
        assert talk["bob"].shown == ["before", "after"]

    def test_every_run_has_a_log_of_its_own(self) -> None:
        """After a restart the first message begins a new log that follows the old one."""
        talk = pair()
        first = talk.say("ann", "before")
        talk.settle()
        talk.kill("ann")
        talk.restart("ann", "bob")
        second = talk.say("ann", "after")
        talk.settle()

        assert first.log != second.log
        assert (first.dot,) == second.causes
        assert talk["bob"].shown == ["before", "after"]

    def test_a_restored_disk_mints_no_dot_twice(self) -> None:
        """A node thrown back to an old disk gets its own former messages from the others."""
        talk = pair()
        talk.say("ann", "one")
        talk.say("ann", "two")
        talk.settle()
        talk.kill("ann")
        del talk["ann"].disk[1:]
        talk.restart("ann", "bob")
        talk.say("ann", "three")
        talk.settle()

        assert {"one", "two", "three"} == set(talk["ann"].history())
        assert talk["ann"].history() == talk["bob"].history()


def test_own_datagrams_that_come_back_are_dropped() -> None:
    """What bears this node's own id is not heard."""
    talk = Talk("ann")
    ann = talk["ann"]
    ann.hear(ann, Join(ann.me))

    assert dict(ann.facts.drops) == {Drop.OWN_DATAGRAM: 1}
    assert ann.end_turn() == []


def test_a_visitor_is_answered_and_never_a_member() -> None:
    """Sender id zero gets its ack and leaves no trace."""
    talk = Talk("ann")
    ann = talk["ann"]
    ping = Ping(5, bytes(8), bytes(8), False, bytes(8))
    ann.hear(ann, ping, sender=bytes(8))
    packets = [p for e in ann.end_turn() for p in getattr(e, "packets", ())]

    assert [p.wall for p in packets if isinstance(p, Ack)] == [WALL]
    assert {Ack, Update} >= {type(p) for p in packets}
    assert len(ann.facts.members) == 1


@pytest.mark.parametrize("wall", [-1, -(10**12), WALL_MS_LIMIT, 10**18])
def test_a_clock_that_shows_no_usable_time_is_not_told(wall: int) -> None:
    """Such a node answers like any other: nobody takes it for dead or goes by its clock."""
    talk = Talk("ann")
    ann = talk["ann"]
    talk.wall_shift = wall - WALL
    ann.hear(ann, Ping(5, bytes(8), bytes(8), False, bytes(8)), sender=bytes(8))
    packets = [p for e in ann.end_turn() for p in getattr(e, "packets", ())]

    assert [p.wall for p in packets if isinstance(p, Ack)] == [0]


def test_a_node_behind_a_wildcard_learns_its_address_from_its_seeds() -> None:
    """A row without an address is taken with the one its datagram came from."""
    talk = Talk("ann", "bob")
    ann = talk["ann"]
    wildcard = Address("0.0.0.0", 7352)  # noqa: S104  # nothing is bound
    row = MemberRow(talk["bob"].id, 5, State.ALIVE, wildcard, "bob", 1)
    ann.hear(talk["bob"], Join(row))

    assert [talk["bob"].address] == [member.row.address for member in ann.facts.others]


def wildcard_row(talk: Talk, incarnation: int = 5) -> MemberRow:
    """Bob's row, as long as bob does not know where others see it."""
    wildcard = Address("0.0.0.0", 7352)  # noqa: S104  # nothing is bound
    return MemberRow(talk["bob"].id, incarnation, State.ALIVE, wildcard, "bob", 1)


@pytest.mark.parametrize("packet", [Members, Update])
def test_whoever_joins_a_node_behind_a_wildcard_sees_where_it_is(packet: type[Packet]) -> None:
    """Its own row, in whatever it sends, is taken with the address it is sent from."""
    talk = Talk("ann", "bob")
    ann = talk["ann"]
    ann.hear(talk["bob"], packet((wildcard_row(talk),)))

    assert [talk["bob"].address] == [member.row.address for member in ann.facts.others]


def test_nobody_else_is_seen_where_its_row_comes_from() -> None:
    """A row without an address that another node tells says nothing."""
    talk = Talk("ann", "bob", "cyd")
    ann = talk["ann"]
    ann.hear(talk["cyd"], Update((wildcard_row(talk),)))

    assert ann.facts.others == ()


def test_a_node_that_is_seen_elsewhere_now_is_told_so() -> None:
    """It asks by a join without an address, and stays known at the old one until it says more."""
    talk = Talk("ann", "bob")
    ann, bob = talk["ann"], talk["bob"]
    held = wildcard_row(talk)._replace(address=Address("192.0.2.7", 9))
    ann.replica.receive([Members((held,))], bob.id, held.address, talk.wall, talk.now)
    ann.end_turn()
    ann.hear(bob, Join(wildcard_row(talk)))
    told = [p for e in ann.end_turn() for p in getattr(e, "packets", ()) if isinstance(p, Members)]

    assert [member.row.address for member in ann.facts.others] == [held.address]
    seen = wildcard_row(talk)._replace(address=bob.address)
    assert [row for packet in told for row in packet.rows if row.id == bob.id] == [held, seen]


def test_a_node_behind_a_wildcard_follows_what_its_peers_see() -> None:
    """Suspected, it asks where it is seen, and says so; a claim of the past moves it nowhere."""
    talk = Talk("ann", "bob")
    ann, bob = talk["ann"], talk["bob"]
    bob.address = wildcard_row(talk).address
    bob.start()
    bob.hear(ann, Members((ann.me, bob.me._replace(address=Address("192.0.2.7", 9)))))
    bob.end_turn()
    assert str(bob.me.address) == "192.0.2.7:9"

    suspect = bob.me._replace(state=State.SUSPECT, accuser=ann.id)
    bob.hear(ann, Update((suspect,)))
    asked = [p for e in bob.end_turn() for p in getattr(e, "packets", ()) if isinstance(p, Join)]
    assert [join.row.address.is_wildcard for join in asked] == [True]

    moved = Address("198.51.100.3", 7)
    before = bob.me
    bob.hear(ann, Members((before._replace(incarnation=before.incarnation - 1, address=moved),)))
    assert bob.me == before
    bob.hear(ann, Members((before._replace(address=moved),)))
    assert (bob.me.address, bob.me.incarnation) == (moved, before.incarnation + 1)


def test_a_node_that_is_alone_is_well_again_after_a_stall() -> None:
    """Nobody answers it, and nobody doubts it: its rounds in time are enough."""
    talk = Talk("ann")
    ann = talk["ann"]
    ann.replica.stalled(30_000_000, talk.now)
    assert ann.facts.health.score > 0
    talk.run(60_000)
    assert ann.facts.health.score == 0


def test_the_same_seed_gives_the_same_dialogue() -> None:
    """Nothing depends on hash order or a clock: a run can be replayed."""

    def run() -> list[object]:
        talk = Talk("ann", "bob", "cyd", seed=3)
        talk.meet()
        talk.cut("cyd")
        talk.say("ann", "hi")
        talk.run(15_000)
        talk.heal()
        talk.settle()
        return list(talk.heard)

    heard = run()

    assert heard == run()
    assert len(heard) > 100


class TestDissemination:
    def test_a_rumor_is_never_told_to_who_told_it_or_wrote_it(self) -> None:
        """Of three, two hear it from its author and once from each other: four copies, no more."""
        talk = trio()
        talk.say("ann", "hi")
        talk.run(100)
        told = [(a, b) for a, b, p in talk.heard if isinstance(p, Rumor)]

        assert sorted(told) == [("ann", "bob"), ("ann", "cyd"), ("bob", "cyd"), ("cyd", "bob")]

    def test_the_dead_are_told_nothing(self) -> None:
        """A link lives as long as its member."""
        talk = trio()
        talk.kill("cyd")
        talk.run(20_000)
        talk.sent.clear()
        talk.say("ann", "hi")
        talk.run(100)

        # One datagram each way: bob has nobody to pass it on to.
        assert {kind: n for kind, n in talk.sent.items() if kind == "Rumor"} == {"Rumor": 1}

    def test_a_repair_of_little_is_passed_on(self) -> None:
        """Who was cut off from the author hears through who pulled it, without asking."""
        talk = Talk("ann", "bob", "cyd")
        talk.meet()
        talk.drop(lambda a, b, _: {a.name, b.name} == {"ann", "cyd"})
        talk.drop(lambda _a, b, p: b.name == "bob" and any(isinstance(x, Rumor) for x in p))
        talk.drop(lambda a, b, p: {a.name, b.name} == {"bob", "cyd"} and isinstance(p[0], Digest))
        talk.say("ann", "hi")
        talk.run(5_000)

        assert [party.shown for party in talk.parties] == [["hi"]] * 3


def test_anothers_large_message_does_not_take_our_receipt() -> None:
    """Seq 1 of one log is not seq 1 of another, though both are in one commit."""
    talk = pair()
    ann = talk["ann"]
    ann.commits_alone = False
    talk.say("bob", "x" * (ANNOUNCE_BYTES + 1))
    talk.run(2_000)
    assert [len(block.bodies[0]) for block in ann.pending] == [ANNOUNCE_BYTES + 1]
    talk.say("ann", "hi", receipt=True)
    ann.commit()
    talk.run(100)

    rumors = [p for teller, _, p in talk.heard if isinstance(p, Rumor) and teller == "ann"]
    assert [rumor.receipt for rumor in rumors] == [True]


class TestDigests:
    def many_logs(self, count: int) -> Talk:
        """A pair of whom ann holds so many logs and bob all but the last's second message."""
        talk = Talk("ann", "bob")
        story = Story()
        said = [story.say(f"bot{number}") for number in range(count)]
        for name in ("ann", "bob"):
            talk[name].disk += said
        talk["ann"].disk.append(story.say(f"bot{count - 1}"))
        for name in ("ann", "bob"):
            talk.restart(name, "ann")
        return talk

    def test_digests_together_cover_the_id_space_once(self) -> None:
        """What a newcomer is answered with follows on from the first id to the last, gapless."""
        ann, bob = self.many_logs(300).parties
        nothing = Digest(bytes(8), b"\xff" * 8, True, ())
        ann.hear(bob, nothing)
        sent = [e for e in ann.end_turn() if isinstance(e, Send)]
        digests = [p for send in sent for p in send.packets if isinstance(p, Digest)]
        assert len(digests) > 5
        reach = -1
        for digest in digests:
            assert int.from_bytes(digest.low, "big") == reach + 1
            reach = int.from_bytes(digest.high, "big")
            if reach == (1 << 64) - 1:
                reach = -1

        assert reach == -1

    def test_a_digest_is_answered_with_what_it_lacks_and_no_more(self) -> None:
        """Of 300 logs one differs: one row comes back, or one pull, and one message."""
        talk = self.many_logs(300)
        talk.settle()
        answers = [p for _, _, p in talk.heard if isinstance(p, Digest) and not p.reply]
        replayed = [b for _, _, p in talk.heard if isinstance(p, Replay) for b in p.blocks]

        assert {1} >= {len(answer.rows) for answer in answers}
        assert len(replayed) == 1
        assert talk["ann"].history() == talk["bob"].history()

    def test_while_exchanges_find_something_they_stay_frequent(self) -> None:
        """Where all rumors are lost each message is repaired within seconds, however many."""
        talk = pair()
        talk.lose(Rumor)
        for number in range(1, 16):
            talk.say("ann", f"{number}")
            talk.run(5_000)

            assert len(talk["bob"].shown) == number

    def test_who_lacks_much_says_so_until_it_has_it(self) -> None:
        """A node that is catching up tells it in its probes, and nobody starts an exchange."""
        talk = Talk("ann", "bob")
        for number in range(2_000):
            talk.say("ann", f"{number}".ljust(100), "lobby", *"abcd")

        def after_an_answer(_sender: Party, _to: Party, packets: list[Packet]) -> bool:
            answered = any(isinstance(packet, ReplayEnd) for *_, packet in talk.heard)
            return answered and any(isinstance(packet, Replay) for packet in packets)

        talk.drop(after_an_answer)
        for name in ("ann", "bob"):
            talk.restart(name, "ann")
        talk.run(2_000)
        probes = [p for a, _, p in talk.heard if isinstance(p, Ping | Ack) and a == "bob"]

        assert talk["bob"].facts.catching_up
        assert probes[-1].catching_up

        talk.heal()
        talk.settle()

        assert not talk["bob"].facts.catching_up
        assert len(talk["bob"].disk) == 2_000


class TestForks:
    def forked(self, *branches: int) -> Talk:
        """A pair who hold a log of the same first message that then goes two ways."""
        story = Story()
        first, second, third = (story.say("eve") for _ in range(3))
        talk = Talk("ann", "bob")
        other = variant(second)
        rest = variant(third, parent=other.hash)
        for name, branch, length in zip(
            ("ann", "bob"), ([first, second, third], [first, other, rest]), branches, strict=True
        ):
            talk[name].disk += branch[:length]
            talk[name].start()
        talk.join("bob", "ann")
        return talk

    @pytest.mark.parametrize("branches", [(2, 2), (3, 3)])
    def test_heads_of_one_seq_and_two_hashes_are_an_alarm(self, branches: tuple[int, int]) -> None:
        """A digest shows it to both, and neither changes what it holds."""
        talk = self.forked(*branches)
        before = [party.history() for party in talk.parties]
        talk.run(60_000)

        for party in talk.parties:
            assert party.told(LogForked)
        assert before == [party.history() for party in talk.parties]

    def test_a_longer_branch_is_refused_and_an_alarm(self) -> None:
        """What follows the other second message does not fit the chain."""
        talk = self.forked(2, 3)
        talk.run(60_000)

        assert talk["ann"].told(LogForked)
        assert len(talk["ann"].disk) == 2
        assert talk["ann"].facts.drops[Drop.FORKED_LOG] >= 1

    @pytest.mark.parametrize("has_grown", [False, True])
    @pytest.mark.parametrize(("ours", "theirs"), [(3, 3), (2, 3), (1, 3), (3, 1), (3, 5)])
    def test_heads_that_are_cut_in_other_ways_are_an_alarm(
        self, ours: int, theirs: int, *, has_grown: bool
    ) -> None:
        """Two blocks begin with one number, in a log that grew in this run or in a former one."""
        story = Story()
        first = story.say("eve")
        following = story.say("eve")
        branches = [
            variant(following, bodies=["x"] * ours),
            variant(following, bodies=["y"] * theirs),
        ]
        talk = Talk("ann", "bob")
        for name, branch in zip(("ann", "bob"), branches, strict=True):
            party = talk[name]
            if has_grown:
                party.hear(talk["ann"], Rumor(False, 0, (first.encoded,)), sender=b"strange!")
                party.hear(talk["ann"], Rumor(False, 0, (branch.encoded,)), sender=b"strange!")
                party.carry_out()
            else:
                party.disk += [first, branch]
                party.start()
        talk.join("bob", "ann")
        before = [party.history() for party in talk.parties]
        talk.run(60_000)

        # Whoever holds more asks for nothing, and so sees nothing of the other's.
        least = min(map(len, before))
        assert all(p.told(LogForked) for p in talk.parties if len(p.history()) == least)
        assert before == [party.history() for party in talk.parties]

    def test_a_fork_does_not_flood(self) -> None:
        """Roots that never agree cost ever fewer exchanges, down to one in 16 s a node."""
        talk = self.forked(3, 3)
        talk.run(60_000)
        talk.sent.clear()
        talk.run(160_000)

        # One digest in two or three probes' time past every 16 s, and each is one datagram.
        assert 10 <= talk.sent["Digest"] <= 20

    def test_other_messages_pass_a_fork(self) -> None:
        """One broken log does not stop the others."""
        talk = self.forked(2, 3)
        talk.run(1_000)
        talk.say("ann", "hi")
        talk.run(10)

        assert talk["bob"].shown == ["hi"]


def test_what_catch_up_brings_waits_for_the_disk_and_is_not_dropped() -> None:
    """However slow the disk is: all that comes after a part that was dropped would wait for it."""
    talk = pair(holdback_blocks_max=256, commit_blocks_max=1_024)
    talk.lose(Rumor)
    for number in range(3_000):
        talk.say("ann", f"{number}")
    talk.run(5)
    talk.heal()
    bob = talk["bob"]
    bob.commits_alone = False
    for _ in range(200):
        talk.run(100)
        bob.commit()
    bob.commits_alone = True
    talk.settle()

    assert bob.facts.drops[Drop.WAITING_FOR_THE_DISK] == 0
    assert bob.facts.drops[Drop.HOLDBACK_OVERFLOW] == 0
