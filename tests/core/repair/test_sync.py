"""A sync: a few members tell where they stand now, and what differs is exchanged at once."""

from collections import Counter

import pytest

from flc_udp.wire.packets import Ack, Digest, Have, Packet, Ping, Pull, Ranges, Replay, Rumor
from flc_udp.wire.rows import State
from tests.core.dialogue import Party, Talk

SELDOM = 60_000
"""A pause between exchanges, and between probes, that no test here waits out."""


QUICK = {"exchange_interval_ms": 2_000, "probe_interval_ms": 500}
"""The shortest pause between exchanges that a sync brings back; the longest stays a minute."""


def told_nothing(*names: str, **settings: int) -> Talk:
    """They know each other; then ann says `missed` and nobody else hears of it.

    Each has begun the exchanges its pacing allows, in vain, and now waits for a minute.
    """
    pauses = {"exchange_interval_ms": SELDOM, "exchange_backoff_ms": SELDOM, **settings}
    talk = Talk(*names, **pauses)
    talk.meet()
    talk.lose(Rumor, Have, Digest)
    talk.say("ann", "missed")
    talk.run(10_000)
    talk.heal()
    return talk


def told_all_but_bob(**settings: int) -> Talk:
    """The same, and then cyd and dan hear of it from ann, each by a sync of its own."""
    talk = told_nothing("ann", "bob", "cyd", "dan", **settings)
    talk.lose(Rumor, Have)  # what is repaired is told on
    for name in ("cyd", "dan"):
        sync(talk[name], talk["ann"])
    talk.run(500)
    assert [len(party.disk) for party in talk.parties] == [1, 0, 1, 1]
    return talk


def sync(party: Party, *others: Party) -> list[bytes]:
    """What the user asks for; whom it asks."""
    asked = party.replica.sync([other.id for other in others], party.talk.now)
    party.carry_out()
    return asked


def agrees(party: Party) -> dict[bytes, bool | None]:
    """Who was asked and what became of it."""
    return dict(party.facts.repair.synced)


@pytest.mark.parametrize("asker", ["ann", "bob"])
def test_a_sync_finds_what_the_pacing_would_leave_for_later(asker: str) -> None:
    """One round at once brings the missing message, whichever end asks; else it is not due."""
    talk = told_nothing("ann", "bob")
    talk.run(10_000)
    assert talk["bob"].history() == []

    sync(talk[asker])
    talk.run(500)

    assert talk["bob"].history() == ["missed"]


def test_an_equal_peer_costs_one_small_packet_and_its_answer() -> None:
    """Where the roots are equal a ping and its ack are all that is sent."""
    talk = Talk("ann", "bob", probe_interval_ms=SELDOM)
    talk.meet()
    talk.say("ann", "known")
    talk.settle()
    for party in talk.parties:
        party.spend_news()  # it would go along with any probe
    before = Counter(talk.sent)

    asked = sync(talk["ann"])
    talk.run(1_000)

    assert asked == [talk["bob"].id]
    assert talk.sent - before == Counter(Ping=1, Ack=1)
    assert agrees(talk["ann"]) == {talk["bob"].id: True}


def test_three_are_asked_at_most() -> None:
    """Of five others three are asked, all different, and each of the five at some time."""
    talk = Talk("ann", "bob", "cyd", "dan", "eve", "fay")
    talk.meet()
    others = {party.id for party in talk.parties} - {talk["ann"].id}
    rounds = [sync(talk["ann"]) for _ in range(20)]

    assert {len(set(asked)) for asked in rounds} == {3}
    assert {node for asked in rounds for node in asked} == others


def test_who_is_named_is_the_only_one_asked() -> None:
    """A sync with cyd is none with bob."""
    talk = told_nothing("ann", "bob", "cyd", probe_interval_ms=SELDOM)
    before = len(talk.heard)

    assert sync(talk["bob"], talk["cyd"]) == [talk["cyd"].id]
    talk.run(1_000)

    assert {(a, b) for a, b, _ in talk.heard[before:]} == {("bob", "cyd"), ("cyd", "bob")}


def test_only_who_is_alive_is_asked() -> None:
    """Neither suspect nor dead are asked, named or not; where nobody is alive nobody is."""
    talk = Talk("ann", "bob", "cyd")
    talk.meet()
    talk.kill("cyd")
    for state in (State.SUSPECT, State.DEAD):
        while talk["ann"].believes("cyd") is not state:
            talk.run(50)
        assert sync(talk["ann"], talk["cyd"]) == []
        assert sync(talk["ann"]) == [talk["bob"].id]
    talk.kill("bob")
    talk.run(60_000)
    assert sync(talk["ann"]) == []
    assert agrees(talk["ann"]) == {}


def test_who_says_that_it_catches_up_is_asked_all_the_same() -> None:
    """Nobody begins an exchange with such a node by itself, but the user may."""
    talk = told_nothing("ann", "bob")
    talk["bob"].reads = as_of_one_that_catches_up
    talk.run(2_000)
    ann = talk["bob"].member("ann")
    assert ann is not None
    assert ann.catching_up

    sync(talk["bob"])
    talk.run(500)

    assert talk["bob"].history() == ["missed"]


def as_of_one_that_catches_up(packet: Packet) -> Packet:
    """Let probes say that their sender is catching up."""
    return packet._replace(catching_up=True) if isinstance(packet, Ping | Ack) else packet


def test_an_exchange_is_begun_once() -> None:
    """However often the asked one tells a root that differs, it is compared with once."""
    talk = told_nothing("ann", "bob", probe_interval_ms=500)
    talk.lose(Digest)
    before = talk.sent["Digest"]

    sync(talk["bob"])
    talk.run(5_000)

    assert talk.sent["Digest"] == before + 1
    assert agrees(talk["bob"]) == {talk["ann"].id: False}


def test_after_a_sync_exchanges_are_frequent_again() -> None:
    """What lost packets of a sync would have found is found at the shortest pause after it."""
    talk = told_all_but_bob(**QUICK)
    talk.lose(Digest)
    talk.run(120_000)
    sync(talk["bob"])
    talk.run(100)
    talk.heal()
    talk.drop(begun_by_others)

    talk.run(3_500)

    assert talk["bob"].history() == ["missed"]


def test_where_the_asked_are_silent_others_are_compared_with() -> None:
    """A sync makes the next root that differs begin an exchange, and soon another if it is lost."""
    talk = told_nothing("ann", "bob", "cyd", **QUICK)
    talk.lose(Digest)
    talk.run(120_000)
    talk.drop(lambda a, b, _: "cyd" in (a.name, b.name))
    before = talk.sent["Digest"]
    sync(talk["bob"], talk["cyd"])
    talk.run(1_000)
    assert talk.sent["Digest"] > before
    talk.heal()
    talk.drop(begun_by_others)

    talk.run(3_000)

    assert talk["bob"].history() == ["missed"]


def begun_by_others(sender: Party, _to: Party, packets: list[Packet]) -> bool:
    """An exchange that is not bob's: it would find the message, too."""
    return sender.name != "bob" and any(isinstance(p, Digest) and p.reply for p in packets)


def test_who_answers_agrees_only_when_it_does() -> None:
    """Silent at first, then other than this node, then equal: as the asked one's roots tell."""
    talk = told_nothing("ann", "bob", probe_interval_ms=500)
    ann = talk["ann"].id

    sync(talk["bob"])
    seen = [agrees(talk["bob"])[ann]]
    talk.run(3)
    seen.append(agrees(talk["bob"])[ann])
    talk.run(5_000)
    seen.append(agrees(talk["bob"])[ann])

    assert seen == [None, False, True]


def test_the_latest_sync_counts() -> None:
    """Who was asked before and not again is not waited for."""
    talk = Talk("ann", "bob", "cyd")
    talk.meet()

    sync(talk["ann"], talk["bob"])
    sync(talk["ann"], talk["cyd"])
    talk.run(1_000)

    assert agrees(talk["ann"]) == {talk["cyd"].id: True}


def test_what_a_sync_found_is_pulled_once() -> None:
    """Three who all hold it are told of what is missing, and one of them is asked for it."""
    talk = told_all_but_bob()
    before = len(talk.heard)

    sync(talk["bob"])
    talk.run(500)
    heard = [p for _, _, p in talk.heard[before:]]

    assert talk["bob"].history() == ["missed"]
    assert sum(isinstance(p, Pull) for p in heard) == 1
    assert sum(len(p.blocks) for p in heard if isinstance(p, Replay)) == 1
    assert not [p for p in heard if isinstance(p, Ranges)]


def test_who_is_not_known_is_not_asked() -> None:
    """An id of nobody asks nobody, and neither does a node that is alone."""
    talk = Talk("ann")

    assert talk["ann"].replica.sync([b"nobody.."], talk.now) == []
    assert sync(talk["ann"]) == []
    assert talk.sent == Counter()


def test_exchanges_that_are_lost_do_not_become_rare() -> None:
    """What was lost on the way has not found that nothing differs."""
    talk = Talk("ann", "bob", exchange_interval_ms=1_000, exchange_backoff_ms=SELDOM)
    talk.meet()
    talk.lose(Rumor, Have, Digest)
    talk.say("ann", "missed")
    talk.run(40_000)
    talk.heal()
    talk.lose(Rumor, Have)
    talk.run(5_000)
    assert [len(party.disk) for party in talk.parties] == [1, 1]
