from collections import Counter
from functools import reduce
from itertools import permutations, product
from operator import xor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flc_udp.config import TAGS_MAX, Settings
from flc_udp.core.liveness.members import NEWS_BYTES, MemberTable, member_hash, overrides
from flc_udp.core.liveness.news import TRANSMITS_FACTOR
from flc_udp.model.address import Address
from flc_udp.model.errors import Drop
from flc_udp.model.tags import Tag, Tags
from flc_udp.wire.packets import Update
from flc_udp.wire.packing import pack, packed_row
from flc_udp.wire.rows import MemberRow, State

SETTINGS = Settings(members_max=100)

ME = MemberRow(b"me------", 1, State.ALIVE, Address("10.0.0.1", 1), "me", 1)


def row(
    node: bytes = b"ann-----",
    incarnation: int = 5,
    state: State = State.ALIVE,
    port: int = 1,
    boot: int = 1,
    tags: Tags = (),
) -> MemberRow:
    """A claim."""
    return MemberRow(node, incarnation, state, Address("10.0.0.2", port), "ann", boot, tags=tags)


claims = st.builds(
    row,
    node=st.sampled_from([b"ann-----", b"bob-----", b"cyd-----"]),
    incarnation=st.integers(4, 6),
    state=st.sampled_from(State),
    port=st.integers(1, 3),
    boot=st.integers(1, 2),
    tags=st.sampled_from([(), (Tag("dc", "eu"),), (Tag("dc", "us"),)]),
)

CLAIMS = [row(incarnation=i, state=s) for i, s in product((4, 5, 6), State)]


def rows_of(members: MemberTable) -> list[MemberRow]:
    """All rows of a table, that of the node itself first."""
    return [member.row for member in members]


def believed(claims: list[MemberRow]) -> MemberTable:
    """A table that heard these claims."""
    members = MemberTable(ME, SETTINGS, Counter(), 0)
    for claim in claims:
        members.apply(claim, 0)
    return members


def spend(members: MemberTable) -> None:
    """Tell all the news there is."""
    while members.take_news():
        pass


class TestPrecedence:
    @pytest.mark.parametrize(
        ("held", "overridden_by"),
        [
            (State.ALIVE, {State.SUSPECT, State.DEAD, State.LEFT}),
            (State.SUSPECT, {State.DEAD, State.LEFT}),
            (State.DEAD, {State.LEFT}),
            (State.LEFT, set()),
        ],
    )
    def test_at_one_incarnation_the_worse_news_wins(
        self, held: State, overridden_by: set[State]
    ) -> None:
        """Alive, suspect, dead, left: each overrides those before it (SWIM 4.2)."""
        assert overridden_by == {s for s in State if overrides(row(state=s), row(state=held))}

    @pytest.mark.parametrize(("older", "newer"), list(product(State, State)))
    def test_a_newer_incarnation_wins_whatever_its_state(self, older: State, newer: State) -> None:
        """Only the subject raises its incarnation, so it knows best."""
        old, new = row(incarnation=4, state=older), row(incarnation=5, state=newer)

        assert (overrides(new, old), overrides(old, new)) == (True, False)

    @pytest.mark.parametrize(("one", "other"), list(product(CLAIMS, CLAIMS)))
    def test_it_is_total_and_antisymmetric(self, one: MemberRow, other: MemberRow) -> None:
        """Of two claims that differ exactly one overrides the other; of equal ones neither."""
        assert (one != other) == (overrides(one, other) != overrides(other, one))
        assert not (overrides(one, other) and overrides(other, one))

    @given(claims, claims)
    def test_it_is_total_over_all_fields(self, one: MemberRow, other: MemberRow) -> None:
        """Claims of one incarnation that differ in anything have an order too."""
        other = other._replace(id=one.id)

        assert (one != other) == (overrides(one, other) != overrides(other, one))


class TestTable:
    @given(
        st.lists(claims, max_size=6).flatmap(lambda c: st.tuples(st.just(c), st.permutations(c)))
    )
    def test_the_order_of_claims_does_not_matter(
        self, told: tuple[list[MemberRow], list[MemberRow]]
    ) -> None:
        """Who heard the same claims believes the same and has the same root."""
        one, other = believed(told[0]), believed(told[1])

        assert sorted(rows_of(one)) == sorted(rows_of(other))
        assert one.table.root == other.table.root

    def test_every_order_of_a_life_ends_alike(self) -> None:
        """Alive, suspected, refuted, dead, back, left: in any order the last word is left."""
        life = [
            row(incarnation=5),
            row(incarnation=5, state=State.SUSPECT),
            row(incarnation=6),
            row(incarnation=6, state=State.DEAD),
            row(incarnation=7),
            row(incarnation=8, state=State.LEFT),
        ]

        assert {life[-1]} == {rows_of(believed(list(order)))[1] for order in permutations(life)}

    @given(st.lists(claims, max_size=20))
    def test_the_root_is_that_of_the_living_from_scratch(self, told: list[MemberRow]) -> None:
        """Kept incrementally, the root is what it would be reckoned anew."""
        members = believed(told)
        live = [row for row in rows_of(members) if row.state in (State.ALIVE, State.SUSPECT)]

        assert reduce(xor, map(member_hash, live), 0).to_bytes(8, "big") == members.table.root

    @given(claims, claims)
    def test_two_nodes_find_by_their_roots_whatever_they_disagree_about(
        self, one: MemberRow, other: MemberRow
    ) -> None:
        """Only the state is left out: a suspicion alone starts no exchange."""
        other = other._replace(id=one.id, state=one.state)

        assert (one == other) == (member_hash(one) == member_hash(other))

    def test_its_own_row_replaced_is_its_own_row_in_the_root(self) -> None:
        """A refutation is a new row, and a leave takes it out."""
        members = MemberTable(ME, SETTINGS, Counter(), 0)
        later = ME._replace(incarnation=2)
        members.refute(later, 1)

        assert MemberTable(later, SETTINGS, Counter(), 0).table.root == members.table.root

        members.refute(later._replace(incarnation=3, state=State.LEFT), 2)

        assert bytes(8) == members.table.root

    def test_apply_says_whether_anything_changed(self) -> None:
        """What was known is no news."""
        members = MemberTable(ME, SETTINGS, Counter(), 0)

        assert members.apply(row(), 0)
        assert not members.apply(row(), 0)
        assert not members.apply(row(incarnation=4, state=State.LEFT), 0)

    @given(st.permutations(CLAIMS))
    def test_tags_are_those_of_the_incarnation(self, told: list[MemberRow]) -> None:
        """In whatever order the claims come, the tags are those of the newest."""
        told = [c._replace(tags=(Tag("n", str(c.incarnation)),)) for c in told]
        _, held = rows_of(believed(told))

        assert held[:3] == (b"ann-----", 6, State.LEFT)
        assert held.tags == (Tag("n", "6"),)

    def test_since_is_when_the_state_changed(self) -> None:
        """A refutation of what was alive all along does not begin its life anew."""
        members = MemberTable(ME, SETTINGS, Counter(), 0)
        members.apply(row(), 10)
        members.apply(row(incarnation=6), 20)

        assert members[row().id].since == 10

        members.apply(row(incarnation=6, state=State.SUSPECT), 30)

        assert members[row().id].since == 30


class TestBound:
    def rows_of(self, count: int, state: State) -> list[MemberRow]:
        """So many members in one state."""
        return [row(node=n.to_bytes(8, "big"), state=state) for n in range(1, count + 1)]

    def test_a_full_table_takes_no_newcomer_in_place_of_the_living(self) -> None:
        """Beyond the bound a claim is refused and counted."""
        drops = Counter[Drop]()
        members = MemberTable(ME, Settings(members_max=10), drops, 0)
        for claim in self.rows_of(20, State.ALIVE):
            members.apply(claim, 0)

        assert len(rows_of(members)) == 10
        assert drops == {Drop.MEMBER_TABLE_FULL: 11}

    def test_a_full_table_lets_go_of_the_longest_dead(self) -> None:
        """The dead make room for the living, and no trace of them stays in the news."""
        members = MemberTable(ME, Settings(members_max=10), Counter(), 0)
        for now, claim in enumerate(self.rows_of(9, State.DEAD)):
            members.apply(claim, now)

        assert members.apply(row(), 100)
        assert len(rows_of(members)) == 10
        assert members.get((1).to_bytes(8, "big")) is None
        assert members.get((2).to_bytes(8, "big")) is not None
        assert members.table.root == believed([row()]).table.root
        while members.take_news():
            pass


class TestNews:
    def test_news_is_let_go_after_lambda_log_n_tellings(self) -> None:
        """Each piece of news is told λ·log2 N times (here of 7 others and this node: 3 x 4)."""
        members = believed([row(node=n.to_bytes(8, "big")) for n in range(1, 8)])
        told = 0
        while rows := members.take_news():
            told += len(rows)

        assert told == 8 * TRANSMITS_FACTOR * 4

    def test_the_least_told_goes_first(self) -> None:
        """As many rows at a time as fit; all are told equally often."""
        rows = [row(node=n.to_bytes(8, "big")) for n in range(1, 12)]
        members = believed(rows)
        first, second = members.take_news(), members.take_news()

        assert {ME, *rows} == {*first, *second}
        assert len(first) == len(second) == 10

    def test_news_keeps_to_its_bytes(self) -> None:
        """Ten short rows fit, fewer long ones; one of the longest, so that none waits for ever."""
        long = [row(node=n.to_bytes(8, "big"))._replace(name="n" * 128) for n in range(1, 12)]
        members = believed(long)
        spent = members.take_news()

        assert 1 <= len(spent) <= 2
        assert len(pack(ME.id, [Update(spent)], 1_400)[0]) <= NEWS_BYTES

    def test_one_with_many_tags_keeps_nobody_back(self) -> None:
        """A row beyond the bytes that news may take goes alone, and the others have their turn."""
        full = tuple(Tag(f"{n:02}", "x" * 30) for n in range(TAGS_MAX))
        rows = [row(node=n.to_bytes(8, "big")) for n in range(1, 8)]
        members = believed([*rows[:3], rows[3]._replace(tags=full), *rows[4:]])
        assert len(packed_row(members[rows[3].id].row)) > NEWS_BYTES

        told = Counter(claim.id for _ in range(1_000) for claim in members.take_news())

        assert set(told.values()) == {TRANSMITS_FACTOR * 4}
        assert len(told) == 8

    def test_a_push_to_four_is_four_tellings(self) -> None:
        """λ·log N counts who was told, however few datagrams were made for it."""
        members = believed([])
        told = 0
        while members.take_news(4):
            told += 4

        assert TRANSMITS_FACTOR * 1 <= told < TRANSMITS_FACTOR * 1 + 4

    def test_fresh_news_is_told_anew(self) -> None:
        """A newer claim of a member starts from none told."""
        members = believed([row()])
        spend(members)
        members.apply(row(incarnation=6), 0)

        assert (row(incarnation=6),) == members.take_news()

    def test_a_suspicion_is_told_once_for_each_accuser(self) -> None:
        """Who hears it can count them: the same claim, another accuser."""
        members = believed([row()])
        spend(members)
        accused = row(state=State.SUSPECT)._replace(accuser=b"bob-----")
        members.apply(accused, 0)
        members.news.confirm(accused.id, b"cyd-----")
        told = members.take_news()

        assert [claim.accuser for claim in told] == [b"bob-----", b"cyd-----"]
        assert {accused[:6]} == {claim[:6] for claim in told}

    def test_whoever_is_not_believed_alive_hears_that_first(self) -> None:
        """However old the news, its subject gets it with the next packet (Lifeguard 4.3)."""
        members = believed([row(), row(node=b"bob-----", state=State.SUSPECT)])
        spend(members)

        assert members.news_for(b"ann-----") == ()
        assert (Update((members[b"bob-----"].row,)),) == members.news_for(b"bob-----")

    def test_the_dead_and_reaped_are_no_news(self) -> None:
        """What left the table leaves the news."""
        members = believed([row(state=State.DEAD)])
        members.reap(1)

        assert list(members.take_news()) == [ME]


class TestLive:
    @given(st.lists(claims, max_size=20))
    def test_the_live_are_those_of_the_table(self, told: list[MemberRow]) -> None:
        """Kept from one change to the next, the list is what it would be reckoned anew."""
        members = MemberTable(ME, SETTINGS, Counter(), 0)
        for now, claim in enumerate(told):
            members.live()
            members.apply(claim, now)
            if now % 3 == 2:
                members.reap(now)
            live = [m.row.id for m in members if m.is_live][1:]

            assert live == [m.row.id for m in members.live()] == list(members.live_by_id())


class TestReaping:
    def test_the_long_dead_go_and_the_living_stay(self) -> None:
        """Only who is dead or left since before that time."""
        members = MemberTable(ME, SETTINGS, Counter(), 0)
        members.apply(row(state=State.DEAD), 10)
        members.apply(row(node=b"bob-----", state=State.LEFT), 20)
        members.apply(row(node=b"cyd-----"), 0)
        members.reap(20)

        assert [m.row.id for m in members] == [b"me------", b"bob-----", b"cyd-----"]

    @pytest.mark.parametrize("state", State)
    def test_a_ghost_does_not_come_back(self, state: State) -> None:
        """A claim no newer than the one it was reaped with is not believed again."""
        members = MemberTable(ME, SETTINGS, Counter(), 0)
        members.apply(row(state=State.DEAD), 0)
        members.reap(1)

        assert members.apply(row(state=state), 2) == (state > State.DEAD)

    def test_a_newer_life_comes_back(self) -> None:
        """Its subject alone raises the incarnation: that is no ghost."""
        members = MemberTable(ME, SETTINGS, Counter(), 0)
        members.apply(row(state=State.LEFT), 0)
        members.reap(1)

        assert members.apply(row(incarnation=6), 2)
        assert list(members.live_by_id()) == [b"ann-----"]

    def test_tombstones_are_bounded(self) -> None:
        """As many as the table has rows; the oldest goes first."""
        members = MemberTable(ME, Settings(members_max=4), Counter(), 0)
        for n in range(1, 10):
            members.apply(row(node=bytes([n]) * 8, state=State.DEAD), n)
            members.reap(n + 1)

        assert members.apply(row(node=bytes([1]) * 8), 99)
        assert not members.apply(row(node=bytes([9]) * 8), 99)
