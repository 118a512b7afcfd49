"""Tags of members: who comes to know them, whatever was lost, and by whomever it was told."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from flc_udp.core.liveness.claims import INCARNATION_LEAD
from flc_udp.model.tags import Tags, parse_tags
from flc_udp.wire.packets import Join, Leave, MemberDigest, Members, Packet, Update
from flc_udp.wire.rows import State
from tests.core.dialogue import WALL, Party, Talk

DB, WEB = parse_tags(["role=db", "dc=eu"]), parse_tags(["role=web"])

NEWS_MS = 300
"""Fresh news is pushed by then, a pause after that of the meeting."""


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

    @pytest.mark.parametrize("state", [State.ALIVE, State.SUSPECT])
    def test_a_lie_at_the_same_incarnation_is_refuted(self, state: State) -> None:
        """The roots of its believer and of its subject differ, so the subject hears of it."""
        talk = trio("role=db")
        lie = talk["ann"].me._replace(state=state, tags=parse_tags(["x=y"]))
        bob = talk["bob"]
        talk["cyd"].hear(bob, Update((lie,)))
        assert talk["cyd"].tags_of("ann") == lie.tags
        talk["cyd"].carry_out()
        assert not talk.agree()
        talk.settle()

        assert of_ann(talk) == [parse_tags(["role=db"])] * 3
        assert talk["ann"].me.incarnation > lie.incarnation
        assert talk["cyd"].believes("ann") is State.ALIVE

    def test_a_restart_may_have_others(self) -> None:
        """It may also have none."""
        talk = trio("role=db")
        for tags in (WEB, ()):
            talk["ann"].tags = tags
            talk.restart("ann", seed="bob")
            talk.settle()

            assert of_ann(talk) == [tags, tags, tags]

    def test_who_missed_the_news_gets_them_by_the_roots(self) -> None:
        """A member table with other tags has another root: the exchange of tables brings them."""
        talk = trio("role=db")
        talk.drop(claims_of("ann", talk))
        talk.tag("ann", "role=web")
        talk.run(60_000)
        assert of_ann(talk) == [WEB, parse_tags(["role=db"]), parse_tags(["role=db"])]
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
        """Others would not believe much higher ones."""
        talk = Talk("ann", "bob")
        talk["ann"].start(incarnation=WALL // 1_000 + INCARNATION_LEAD // 2 + 60)
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
        talk.drop(lambda a, b, _: {a.name, b.name} == {"ann", "bob"})
        while talk["bob"].believes("ann") is State.ALIVE:
            talk.run(100)
        talk.restart("cyd", seed="bob")
        while talk["cyd"].member("ann") is None:
            talk.run(1)

        assert talk["cyd"].believes("ann") is State.SUSPECT
        assert talk["cyd"].tags_of("ann") == DB
