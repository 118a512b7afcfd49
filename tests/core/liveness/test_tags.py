"""Tags of members: who comes to know them, whatever was lost, and by whomever it was told."""

from __future__ import annotations

from collections.abc import Callable

from flc_udp.config import INCARNATION_LIMIT
from flc_udp.core.notices import Refuted
from flc_udp.model.tags import Tags, parse_tags
from flc_udp.wire.packets import Ack, Join, Leave, MemberDigest, Members, Packet, State, Update
from tests.core.dialogue import Party, Talk, without_tags

DB, WEB = parse_tags(["role=db", "dc=eu"]), parse_tags(["role=web"])

NEWS_MS = 300
"""Fresh news is pushed by then, a pause after that of the meeting."""

ROUND_MS = 3_000
"""Each of three has probed both others by then, at 800 ms a probe."""


def trio(*tags: str) -> Talk:
    """Ann, who has these tags, bob and cyd, who know each other."""
    talk = Talk("ann", "bob", "cyd")
    talk.tag("ann", *tags)
    talk.meet()
    return talk


def accuse(talk: Talk) -> None:
    """Bob holds ann for suspect by his own word, with the tags that he holds her to have."""
    bob, held = talk["bob"], talk["bob"].member("ann")
    assert held is not None
    bob.hear(talk["cyd"], Update((held.row._replace(state=State.SUSPECT, accuser=bob.id),)))


def of_ann(talk: Talk) -> list[Tags | None]:
    """What all hold ann's tags for."""
    return [talk[name].tags_of("ann") for name in ("ann", "bob", "cyd")]


def claims_of(name: str, talk: Talk) -> Callable[[Party, Party, list[Packet]], bool]:
    """A loss of all datagrams that claim anything of one party."""
    node = talk[name].id

    def is_claim(_a: Party, _b: Party, packets: list[Packet]) -> bool:
        rows = [
            row
            for packet in packets
            if isinstance(packet, Members | Update | MemberDigest)
            for row in packet.rows
        ]
        rows += [packet.row for packet in packets if isinstance(packet, Join | Leave)]
        return any(row.id == node for row in rows)

    return is_claim


class TestNews:
    def test_all_hear_of_them(self) -> None:
        """Also who heard of their bearer from somebody else."""
        assert of_ann(trio("role=db", "dc=eu")) == [DB, DB, DB]

    def test_others_replace_them(self) -> None:
        """While a node runs: its next claim is at a higher incarnation."""
        talk = trio("role=db", "dc=eu")
        before = talk["ann"].me.incarnation
        talk.tag("ann", "role=web")
        talk.run(NEWS_MS)

        assert of_ann(talk) == [WEB, WEB, WEB]
        assert talk["ann"].me.incarnation == before + 1

        talk.tag("ann")
        talk.run(NEWS_MS)

        assert of_ann(talk) == [(), (), ()]

    def test_the_same_are_no_news(self) -> None:
        """A reload that changes none raises no incarnation."""
        talk = trio("role=db")
        before = talk["ann"].me
        talk.tag("ann", "role=db")

        assert talk["ann"].me is before

    def test_what_was_never_said_is_refuted_where_it_is_held(self) -> None:
        """Whoever lied of them: their bearer hears of it with its next probe, and says more."""
        talk = trio("role=db")
        lie = talk["ann"].me._replace(tags=parse_tags(["role=zoo", "x=y"]))
        bob = talk["bob"]
        talk["cyd"].hear(bob, Update((lie,)))
        assert talk["cyd"].tags_of("ann") == lie.tags
        talk.run(ROUND_MS)

        assert of_ann(talk) == [parse_tags(["role=db"])] * 3
        talk.sent.clear()
        talk.run(60_000)
        assert talk.sent["Join"] == 0

    def test_a_restart_may_have_others(self) -> None:
        """Or none, as after a downgrade."""
        talk = trio("role=db")
        for tags in (WEB, ()):
            talk["ann"].tags = tags
            talk.restart("ann", seed="bob")
            talk.settle()

            assert of_ann(talk) == [tags, tags, tags]

    def test_who_missed_the_news_gets_them_all_the_same(self) -> None:
        """Its root is another, and where a probe comes first, what it says of the prober's tags."""
        talk = trio("role=db")
        talk.drop(claims_of("ann", talk))
        talk.tag("ann", "role=web")
        talk.run(60_000)
        assert of_ann(talk) == [WEB, parse_tags(["role=db"]), parse_tags(["role=db"])]
        talk.heal()
        talk.settle()

        assert of_ann(talk) == [WEB, WEB, WEB]

    def test_the_roots_alone_bring_them(self) -> None:
        """Without a word of tags on probes: the exchange of tables is enough."""
        talk = trio("role=db")
        talk.drop(claims_of("ann", talk))
        talk.tag("ann", "role=web")
        talk.run(60_000)
        talk.heal()
        talk.drop(lambda _a, _b, packets: any(isinstance(p, Join) for p in packets))
        talk.settle()

        assert of_ann(talk) == [WEB, WEB, WEB]

    def test_who_leaves_keeps_those_it_has(self) -> None:
        """Its last word is the leave."""
        talk = trio("role=db", "dc=eu")
        talk.leave("ann")
        talk.tag("ann", "role=web")
        talk.run(100)

        assert talk["bob"].believes("ann") is State.LEFT
        assert of_ann(talk) == [DB, DB, DB]

    def test_at_the_end_of_all_incarnations_a_new_id_bears_them(self) -> None:
        """There is no claim above the last one."""
        talk = Talk("ann", "bob")
        talk["ann"].start(incarnation=INCARNATION_LIMIT - 1)
        talk.meet()
        talk.tag("ann", "role=db")
        talk.settle()

        assert talk["ann"].id != talk["ann"].first_id


class TestAccused:
    def test_a_suspicion_keeps_them_and_so_does_its_refutation(self) -> None:
        """Whoever tells it."""
        talk = trio("role=db", "dc=eu")
        accuse(talk)
        talk["bob"].carry_out()
        while talk["cyd"].believes("ann") is not State.SUSPECT:
            talk.run(1)
        assert of_ann(talk) == [DB, DB, DB]
        talk.settle()

        assert talk["cyd"].believes("ann") is State.ALIVE
        assert of_ann(talk) == [DB, DB, DB]

    def test_who_first_hears_of_a_suspect_hears_its_tags(self) -> None:
        """A newcomer whose seed suspects it."""
        talk = Talk("ann", "bob", "cyd")
        talk.kill("cyd")
        talk.tag("ann", "role=db", "dc=eu")
        talk.meet()
        talk.cut("ann")
        while talk["bob"].believes("ann") is State.ALIVE:
            talk.run(100)
        talk.restart("cyd", seed="bob")
        talk.run(100)

        assert talk["cyd"].believes("ann") is State.SUSPECT
        assert talk["cyd"].tags_of("ann") == DB


class TestOlderVersion:
    def through_bob(self) -> Talk:
        """Bob is of the version before tags, and cyd has heard of ann from him alone."""
        talk = Talk("ann", "bob", "cyd")
        talk["bob"].reads = without_tags
        talk.tag("ann", "role=db", "dc=eu")
        talk.drop(lambda a, b, _packets: {a.name, b.name} == {"ann", "cyd"})
        for newcomer, seed in (("bob", "ann"), ("cyd", "bob")):
            talk.join(newcomer, seed)
            talk.run(20)
        talk.run(20_000)  # By then there is no news of anybody left.
        assert of_ann(talk) == [DB, (), ()]
        return talk

    def test_what_it_relays_is_made_good_by_a_probe(self) -> None:
        """Its subject says on its own probes that it has tags; who holds none asks it."""
        talk = self.through_bob()
        talk.heal()
        talk.run(ROUND_MS)

        assert of_ann(talk) == [DB, (), DB]

    def test_it_is_not_refuted(self) -> None:
        """Who knows of no tags contests none: no incarnation is raised over it, again and again."""
        talk = self.through_bob()
        talk.heal()
        before = talk["ann"].me
        talk.run(60_000)

        assert talk["ann"].me is before
        assert talk["ann"].told(Refuted) == []

    def test_nobody_asks_for_ever(self) -> None:
        """Roots are equal across versions, and once tags are known there is nothing to ask."""
        talk = self.through_bob()
        talk.heal()
        talk.run(60_000)
        assert talk.agree()
        talk.sent.clear()
        talk.run(60_000)

        assert set(talk.sent) == {"Ping", "Ack"}

    def test_its_suspicion_takes_no_tags_away(self) -> None:
        """Claimed without tags, at the same incarnation."""
        talk = self.through_bob()
        talk.heal()
        talk.run(ROUND_MS)
        talk.drop(claims_of("ann", talk))
        accuse(talk)
        accused = talk["bob"].member("ann")
        assert accused is not None
        assert accused.row.tags == ()
        talk["cyd"].hear(talk["bob"], Update((accused.row,)))

        assert talk["cyd"].believes("ann") is State.SUSPECT
        assert talk["cyd"].tags_of("ann") == DB

    def test_the_answer_is_not_asked_again(self) -> None:
        """Where it brings nothing that is believed, two would ask each other without a pause."""
        talk = trio("role=db")
        ann, cyd = talk["ann"], talk["cyd"]
        for nonce, joins in ((0, 0), (7, 1)):
            talk.sent.clear()
            told = Ack(nonce, bytes(8), bytes(8), False, 0, 0, b"of other")
            cyd.hear(ann, told)
            cyd.carry_out()

            assert talk.sent["Join"] == joins

    def test_a_lost_answer_is_asked_for_with_the_next_probe(self) -> None:
        """And no oftener, however long nothing comes of it."""
        talk = self.through_bob()
        talk.heal()
        talk.drop(claims_of("ann", talk))
        talk.sent.clear()
        talk.run(60_000)

        assert 0 < talk.sent["Join"] <= talk.sent["Ping"] + talk.sent["Ack"]
        talk.heal()
        talk.run(ROUND_MS)
        assert of_ann(talk) == [DB, (), DB]
