"""Probes, relays, accusers and doubts, over a link that can be cut one way or between two."""

from random import Random

import pytest

from flc_udp.config import Settings
from flc_udp.core.effects import Send
from flc_udp.core.liveness.members import alive_row
from flc_udp.core.liveness.membership import Membership
from flc_udp.core.notices import MemberDied, MemberSuspected
from flc_udp.core.shared import Shared
from flc_udp.core.standing import Standing
from flc_udp.model.address import Address
from flc_udp.wire.packets import Ack, Nack, Packet, Ping, PingReq, Relayed, Update
from flc_udp.wire.rows import MemberRow, State
from tests.core.dialogue import MS, Talk

SECOND = 1_000 * MS
NAMES = ("ann", "bob", "cyd")


def met(*names: str, **settings: int) -> Talk:
    """Those who know each other, with their round trips measured."""
    talk = Talk(*(names or NAMES), **settings)
    talk.meet()
    talk.run(5_000)
    return talk


def suspected(talk: Talk) -> list[str]:
    """Who was suspected by anybody."""
    return [name for party in talk.parties for name in party.told_of(MemberSuspected)]


def died(talk: Talk) -> list[str]:
    """Who was held dead by anybody."""
    return [name for party in talk.parties for name in party.told_of(MemberDied)]


def score(talk: Talk, name: str) -> int:
    """A node's local health: 0 is well."""
    return talk[name].facts.health.score


class TestRelays:
    def test_a_cut_between_two_is_bridged_by_a_third(self) -> None:
        """Ann and bob do not hear each other; cyd says that both live, and nobody is suspected."""
        talk = met()
        talk.drop(lambda a, b, _: {a.name, b.name} == {"ann", "bob"})
        talk.run(60_000)

        assert suspected(talk) == []
        assert talk.sent["Relayed"] >= 30

    def test_a_one_way_cut_is_bridged_too(self) -> None:
        """Bob hears ann and is not heard by her: she asks through cyd."""
        talk = met()
        talk.drop(lambda a, b, _: (a.name, b.name) == ("bob", "ann"))
        talk.run(60_000)

        assert suspected(talk) == []

    def test_a_silent_target_is_accused_after_both_stages(self) -> None:
        """A ping, a timeout, a second ping and relays, two timeouts: then it is suspect."""
        talk = met("ann", "bob", "cyd", "dan")
        asked: list[tuple[int, str, Packet]] = []
        talk.drop(
            lambda a, b, p: b.name == "dan" and (asked.append((talk.now, a.name, p[0])) or True)
        )
        talk.drop(lambda a, _b, _p: a.name == "dan")
        others = [talk[name] for name in ("ann", "bob", "cyd")]
        while not any(party.told_of(MemberSuspected) for party in others):
            talk.run(1)
        accuser = next(notice.accuser for p in others for notice in p.told(MemberSuspected))
        nonces = [p.nonce for _, name, p in asked if name == accuser and isinstance(p, Ping)]
        first, second = [at for at, _, p in asked if isinstance(p, Ping) and p.nonce == nonces[0]]
        timeout = second - first

        assert talk.settings.probe_timeout_min_ms * MS <= timeout
        # Stamped on arrival: a millisecond after it was sent.
        assert abs(talk.now - (first - MS + 3 * timeout)) <= 2 * MS
        assert talk.sent["PingReq"] >= 1
        assert talk.sent["Nack"] >= 1

    def test_a_stranger_is_not_asked_for_others(self) -> None:
        """A relay pings only members it knows, at the address it knows."""
        talk = met()
        ann, bob = talk["ann"], talk["bob"]
        ann.hear(bob, PingReq(1, b"stranger"), PingReq(1, ann.id))

        assert ann.end_turn() == []


class TestDoubt:
    def test_a_node_that_hears_no_answers_doubts_itself(self) -> None:
        """Ann's probes all fail: her score rises, the others' does not, and nobody dies of it."""
        talk = met()
        talk.drop(
            lambda _a, b, packets: b.name == "ann" and isinstance(packets[0], Ack | Nack | Relayed)
        )
        talk.run(30_000)

        assert score(talk, "ann") >= 4
        assert (score(talk, "bob"), score(talk, "cyd")) == (0, 0)
        assert died(talk) == []

        talk.heal()
        talk.run(60_000)

        assert score(talk, "ann") == 0

    def test_a_node_in_doubt_asks_more_rarely(self) -> None:
        """Interval and timeouts stretch by 1 + score."""
        talk = met("ann", "bob")
        for _ in range(8):
            talk["ann"].replica.slow_commit(talk.now)
        began = len(talk.heard)
        talk.run(8_000)
        pings = [p for a, _, p in talk.heard[began:] if isinstance(p, Ping) and a == "ann"]

        assert [p.health for p in pings][:2] <= [8, 7]
        assert len(pings) <= 2

    def test_it_tells_how_it_is(self) -> None:
        """Its score travels with its pings and acks."""
        talk = met("ann", "bob")
        talk["ann"].replica.slow_commit(talk.now)
        talk["ann"].replica.slow_commit(talk.now)
        talk.run(1_100)
        ann = talk["bob"].member("ann")

        assert ann is not None
        assert ann.health >= 1

    @pytest.mark.parametrize("lifeguard", [True, False])
    def test_who_stands_still_again_and_again_accuses_nobody(self, *, lifeguard: bool) -> None:
        """A millisecond of running between stalls is too short to hear an answer.

        Plain SWIM blames the others; with Lifeguard that time was nobody's.
        """
        talk = met(lifeguard=lifeguard)
        for _ in range(40):
            talk.stall("ann", 700)
            talk.run(1)

        assert (talk["ann"].told_of(MemberSuspected) == []) == lifeguard

    def test_many_accused_at_once_are_a_sign_about_the_accuser(self) -> None:
        """Cut off from seven, a node accuses two at a time and doubts itself for the rest."""
        names = tuple("abcdefgh")
        talk = met(*names)
        talk.cut("a")
        talk.run(9_000)
        holds = [talk["a"].believes(name) for name in names[1:]]

        assert len([state for state in holds if state is State.SUSPECT]) <= 2
        assert score(talk, "a") >= 4


class Alone:
    """The liveness half of one node that knows many who never answer."""

    def __init__(self, members: int, **settings: int) -> None:
        # A probe's turn and a verification would add accusers of its own.
        settings = {"probe_interval_ms": 60_000, **settings}
        rows = [
            alive_row(bytes([n]) * 8, 1, Address(f"10.0.0.{n}", 1), f"n{n}", 1)
            for n in range(1, members + 2)
        ]
        shared = Shared(Settings(**settings), Standing({}), Random(3))
        self.out = shared.out
        self.liveness = Membership(shared, rows[0], 0)
        self.rows = rows[1:]
        for row in self.rows:
            self.hear(row)  # From itself.

    def hear(self, *rows: MemberRow, now: int = 0) -> None:
        """Claims come in."""
        self.liveness.receive(Update(rows), rows[0].id, rows[0].address, 0, now)

    def accuse(self, subject: int, *accusers: int, now: int = 0) -> None:
        """So many members hold one for suspect."""
        row = self.rows[subject]._replace(state=State.SUSPECT)
        self.hear(*(row._replace(accuser=self.rows[n].id) for n in accusers), now=now)

    def died_after(self, limit: int) -> int | None:
        """The first tenth of a second at which somebody died, or None."""
        for now in range(0, limit, SECOND // 10):
            self.liveness.wake(now)
            if any(isinstance(effect, MemberDied) for effect in self.out):
                return now
        return None


class TestSuspicion:
    # 30 others: log10(31) = 1.49 times the shortest of a second.
    SETTINGS = {"suspect_timeout_ms": 1_000, "suspect_timeout_factor": 6}  # noqa: RUF012  # read only

    @pytest.mark.parametrize(
        ("accusers", "tenths"), [((1,), 90), ((1, 2), 53), ((1, 2, 3, 4), 15), ((1, 1, 1, 1), 90)]
    )
    def test_the_more_accuse_the_sooner_it_is_dead(
        self, accusers: tuple[int, ...], tenths: int
    ) -> None:
        """Alone it takes the longest time, with three more the shortest; one voice counts once."""
        alone = Alone(30, **self.SETTINGS)
        alone.accuse(0, *accusers)

        assert alone.died_after(20 * SECOND) == tenths * SECOND // 10

    def test_each_accuser_is_told_on(self) -> None:
        """A confirmation is news, so that others can count it too; one too many is none."""
        alone = Alone(30, **self.SETTINGS)
        while alone.liveness.members.take_news():
            pass
        alone.accuse(0, 1, 2, 3, 4, 5, 6)
        told = [row for row in alone.liveness.members.take_news() if row.id == alone.rows[0].id]

        assert sorted(row.accuser for row in told) == [alone.rows[n].id for n in (1, 2, 3, 4)]

    def test_an_accusation_that_was_refuted_confirms_nothing(self) -> None:
        """At the new incarnation everybody has to fail anew."""
        alone = Alone(30, **self.SETTINGS)
        alone.accuse(0, 1)
        alone.hear(alone.rows[0]._replace(incarnation=2))
        alone.accuse(0, 2, 3, 4, 5)

        assert alone.died_after(20 * SECOND) is None

    def test_two_nodes_alone_take_the_shortest(self) -> None:
        """There is nobody to confirm."""
        talk = met("ann", "bob")
        talk.kill("bob")
        talk.run(1_000 + 900 + talk.settings.suspect_timeout_ms + 100)

        assert State.DEAD is talk["ann"].believes("bob")

    def test_even_the_dead_refute(self) -> None:
        """Who is told dead and lives is alive for all within a round, at a higher incarnation."""
        talk = met()
        bob = talk["bob"].me
        dead = bob._replace(state=State.DEAD)
        talk["ann"].hear(talk["cyd"], Update((dead,)))
        talk["ann"].carry_out()
        talk.run(2_000)

        assert bob.incarnation < talk["bob"].me.incarnation
        assert [talk[name].believes("bob") for name in ("ann", "cyd")] == [State.ALIVE] * 2

    def test_without_lifeguard_one_time_fits_all(self) -> None:
        """Plain SWIM: the shortest time, however few accuse."""
        alone = Alone(30, lifeguard=False, **self.SETTINGS)
        alone.accuse(0, 1)

        assert alone.died_after(20 * SECOND) == 15 * SECOND // 10


class TestTimeouts:
    def probe(self, talk: Talk, *nodes: bytes) -> None:
        """Ann begins a round of each of these nodes: a sync probes whom it asks."""
        asked = talk["ann"].replica.sync(nodes, talk.now)
        assert asked == list(nodes)
        talk["ann"].carry_out()

    def pinged_twice_after(self, talk: Talk, node: bytes) -> int:
        """Ann begins a round of a node that does not answer: ms until its second stage."""
        self.probe(talk, node)
        began, asked = talk.now, talk.sent["PingReq"]
        while talk.sent["PingReq"] == asked:
            talk.run(1)
        return (talk.now - began) // MS

    def stranger(self, talk: Talk) -> MemberRow:
        """Ann hears of somebody she never probed, who is silent."""
        row = alive_row(b"stranger", 1, Address("10.0.0.99", 1), "zoe", 1)
        talk["ann"].replica.receive([Update((row,))], row.id, row.address, talk.wall, talk.now)
        return row

    def test_a_stranger_is_given_the_usual_time(self) -> None:
        """In a large cluster few are known: what others took is a guess, within the bounds."""
        talk = met(probe_interval_ms=60_000)
        self.probe(talk, talk["bob"].id, talk["cyd"].id)
        talk.run(100)
        row = self.stranger(talk)

        assert self.pinged_twice_after(talk, row.id) == talk.settings.probe_timeout_min_ms

    def test_where_nothing_is_known_it_is_the_longest(self) -> None:
        """The first probe of a run."""
        talk = Talk(*NAMES, probe_interval_ms=60_000)
        talk.meet()
        row = self.stranger(talk)

        assert self.pinged_twice_after(talk, row.id) == talk.settings.probe_timeout_ms

    def test_who_answered_late_is_given_more(self) -> None:
        """An answer to the second ping is a bound: the next timeout reaches that far."""
        talk = met(probe_interval_ms=60_000)
        self.probe(talk, talk["cyd"].id)
        talk.run(100)
        bob = talk["bob"]
        talk.drop(lambda _a, b, p: b is bob and isinstance(p[0], Ping))
        self.probe(talk, bob.id)
        talk.run(90)
        talk.heal()
        talk.run(200)
        found = talk["ann"].member("bob")

        assert found is not None
        assert found.rtt_us is None  # It cannot tell which of the two pings was answered.

        talk.kill("bob")

        assert self.pinged_twice_after(talk, bob.id) > talk.settings.probe_timeout_min_ms


class TestNews:
    def test_news_goes_at_once_and_the_next_shares_a_push(self) -> None:
        """After a quiet moment nothing waits; what follows waits for the pause, all together."""
        alone = Alone(30)
        alone.liveness.push_news(0)
        alone.out.clear()
        pushed = []
        for now in range(0, SECOND, 10 * MS):
            alone.hear(alone.rows[0]._replace(incarnation=2 + now), now=now)
            alone.liveness.push_news(now)
            if any(isinstance(effect, Send) for effect in alone.out):
                pushed.append(now)
            alone.out.clear()

        assert pushed == list(range(200 * MS, SECOND, 200 * MS))
        assert alone.liveness.wake_at <= SECOND


class TestForget:
    def test_a_dead_member_is_forgotten_by_all(self) -> None:
        """It counts as one that left, and nobody asks for it any more."""
        talk = met()
        talk.kill("cyd")
        talk.run(10_000)
        cyd = talk["cyd"].id

        assert talk["ann"].replica.forget(cyd, talk.now)
        assert not talk["ann"].replica.forget(cyd, talk.now)
        talk["ann"].carry_out()
        talk.run(5_000)
        talk.sent.clear()
        talk.run(60_000)

        assert [talk[name].believes("cyd") for name in ("ann", "bob")] == [State.LEFT] * 2
        assert talk.sent["Join"] == 0

    def test_the_living_and_the_unknown_are_not(self) -> None:
        """Only who is silent can be forgotten."""
        talk = met()
        ann = talk["ann"].replica

        assert not ann.forget(talk["bob"].id, talk.now)
        assert not ann.forget(talk["ann"].id, talk.now)
        assert not ann.forget(b"stranger", talk.now)

    def test_it_may_come_back(self) -> None:
        """A new run of it is alive at once."""
        talk = met()
        talk.kill("cyd")
        talk.run(10_000)
        talk["ann"].replica.forget(talk["cyd"].id, talk.now)
        talk["ann"].carry_out()
        talk.restart("cyd", "bob")
        talk.settle(5_000)

        assert [talk[name].believes("cyd") for name in ("ann", "bob")] == [State.ALIVE] * 2


class TestReaping:
    def knows(self, talk: Talk, name: str) -> bool:
        """Whether ann has a row of it."""
        return talk["ann"].member(name) is not None

    @pytest.mark.parametrize("how", ["dies", "leaves"])
    def test_who_is_long_gone_goes_from_the_table(self, how: str) -> None:
        """Dead or left alike; and one who reaps later brings no ghost back."""
        talk = met(reap_after_s=5)
        if how == "leaves":
            talk.leave("cyd")
            talk.run(100)
        talk.kill("cyd")
        talk.run(20_000)

        assert not self.knows(talk, "cyd")

        cyd = talk["cyd"].me
        ghost = cyd._replace(state=State.ALIVE, incarnation=cyd.incarnation - (how == "leaves"))
        talk["ann"].hear(talk["bob"], Update((ghost,)))

        assert not self.knows(talk, "cyd")

    def test_islands_that_reaped_each_other_merge(self) -> None:
        """Addresses are remembered when rows are gone: a rejoin interval later all are one."""
        talk = met(reap_after_s=5, rejoin_interval_ms=10_000)
        talk.cut("cyd")
        talk.run(100_000)

        assert not self.knows(talk, "cyd")

        talk.heal()
        talk.settle(10_500)

        assert [talk[name].believes("cyd") for name in ("ann", "bob")] == [State.ALIVE] * 2
