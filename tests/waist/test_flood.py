"""A flood from strangers: when the door is narrowed, for whom it is open, and when it is wide."""

from __future__ import annotations

from collections import Counter

import pytest

from flc_udp.model.address import Address
from flc_udp.model.errors import Drop
from flc_udp.model.units import SECOND_US, Micros
from flc_udp.waist.flood import (
    ADDRESSES_MAX,
    AWAITED_MAX,
    AWAITED_US,
    ENDED_LOOKS,
    MANY,
    SAMPLE_MOST,
    Door,
    Flood,
)

KEYS = (b"key1",)
MEMBERS = [Address("10.0.0.1", 7352), Address("10.0.0.2", 7352)]
SAMPLE = 64
"""Of thirty thousand a second."""


class Watch:
    """A node that looks once a second."""

    def __init__(self) -> None:
        self.drops: Counter[Drop] = Counter()
        self.now = Micros(5)
        self.flood = Flood(self.drops, self.now)
        self.members = list(MEMBERS)

    def second(self, **count: int) -> bool:
        """So many are dropped in a second; whether the door is another one then."""
        for name, of in count.items():
            self.drops[Drop[name]] += of
        self.now = Micros(self.now + SECOND_US)
        return self.flood.look(KEYS, lambda: self.members, self.now)


def test_few_narrow_nothing() -> None:
    """As many as mistakes of operators and a restart of a large cluster bring."""
    watch = Watch()
    for _ in range(20):
        assert not watch.second(KEY_UNKNOWN=MANY // 2, UNPROVED=MANY // 2)
        assert watch.flood.door is None
    assert watch.flood.a_second == MANY


def test_what_honest_load_drops_is_no_flood() -> None:
    """A full inbox and a block that comes twice are no sign of strangers."""
    watch = Watch()
    assert not watch.second(INBOX_FULL=90_000, DUPLICATE_BLOCK=90_000)
    assert watch.flood.door is None


@pytest.mark.parametrize("name", ["DATAGRAM_SIZE", "WIRE_VERSION_UNKNOWN", "KEY_UNKNOWN"])
def test_what_is_of_other_clusters_is_kept_out_by_its_first_bytes(name: str) -> None:
    """Whoever has the key still gets in."""
    watch = Watch()
    assert watch.second(**{name: 30_000})
    assert watch.flood.door == Door(KEYS, None, SAMPLE)
    assert not watch.second(**{name: 30_000 // SAMPLE})
    assert watch.flood.a_second == 30_000 // SAMPLE * SAMPLE


@pytest.mark.parametrize("name", ["SEAL_BROKEN", "SESSIONS_TOO_MANY", "UNPROVED", "REPLAYED"])
def test_what_looks_like_ours_is_kept_out_by_where_it_is_from(name: str) -> None:
    """Only members' addresses are read then, and others are learned while it lasts."""
    watch = Watch()
    assert watch.second(**{name: 30_000})
    assert watch.flood.door == Door(KEYS, tuple(MEMBERS), SAMPLE)
    watch.members.append(Address("10.0.0.3", 7352))
    assert watch.second(**{name: 500})
    assert watch.flood.door == Door(KEYS, tuple(watch.members), SAMPLE)
    assert not watch.second(**{name: 500})


def test_a_flood_that_changes_its_kind_is_followed() -> None:
    """From junk to replays."""
    watch = Watch()
    watch.second(KEY_UNKNOWN=30_000)
    assert watch.second(KEY_UNKNOWN=10, REPLAYED=30_000)
    assert watch.flood.door == Door(KEYS, tuple(MEMBERS), SAMPLE)


@pytest.mark.parametrize("name", ["KEY_UNKNOWN", "REPLAYED"])
def test_it_ends_when_the_sample_says_so(name: str) -> None:
    """After ten seconds in a row; a pause in between begins them anew."""
    watch = Watch()
    watch.second(**{name: 30_000})
    for second in range(ENDED_LOOKS - 1):
        assert not watch.second(**{name: MANY // SAMPLE - 1}), second
    assert not watch.second(**{name: 500})
    assert [watch.second() for _ in range(ENDED_LOOKS)] == [False] * (ENDED_LOOKS - 1) + [True]
    assert watch.flood.door is None


def test_a_late_look_counts_a_second_and_not_a_minute() -> None:
    """The node may have stood still."""
    watch = Watch()
    watch.now = Micros(watch.now + 59 * SECOND_US)
    assert not watch.second(REPLAYED=30_000)
    assert watch.flood.a_second == 500
    assert not watch.flood.look(KEYS, list, watch.now)  # No second has passed.


def test_of_too_many_members_none_is_kept_out() -> None:
    """As many as a filter holds are known, without repetition. Of more only the key is asked."""
    watch = Watch()
    watch.members = [Address("10.0.0.1", port) for port in range(1, ADDRESSES_MAX + 1)] * 2
    watch.second(REPLAYED=30_000)
    assert watch.flood.door == Door(KEYS, tuple(watch.members[:ADDRESSES_MAX]), SAMPLE)
    watch.members.append(Address("10.0.0.2", 1))
    watch.second(REPLAYED=500)
    assert watch.flood.door == Door(KEYS, None, SAMPLE)


def test_who_draws_a_cookie_may_answer_it() -> None:
    """Until the next look, which knows those that have proved themselves; once in a minute."""
    watch = Watch()
    new, other = Address("10.0.0.9", 1), Address("10.0.0.9", 2)
    assert not watch.flood.await_answers([new], watch.now)  # All is read.
    watch.second(REPLAYED=30_000)
    assert not watch.flood.await_answers(MEMBERS, watch.now)
    assert watch.flood.await_answers([new, new, MEMBERS[0]], watch.now)
    assert watch.flood.door == Door(KEYS, (*MEMBERS, new), SAMPLE)
    assert watch.flood.await_answers([other], watch.now)
    assert watch.second(REPLAYED=500)
    assert watch.flood.door == Door(KEYS, tuple(MEMBERS), SAMPLE)
    assert not watch.flood.await_answers([new], watch.now)
    for _ in range(AWAITED_US // SECOND_US):
        watch.second(REPLAYED=500)
    assert watch.flood.await_answers([new], watch.now)


def test_of_many_that_draw_cookies_few_are_let_in() -> None:
    """And more only when others are forgotten."""
    watch = Watch()
    watch.second(REPLAYED=30_000)
    many = [Address("10.0.1.1", port) for port in range(1, 3 * AWAITED_MAX)]
    assert watch.flood.await_answers(many, watch.now)
    assert not watch.flood.await_answers(many, watch.now)
    door = watch.flood.door
    assert door is not None
    assert door.addresses == (*MEMBERS, *many[:AWAITED_MAX])


def test_junk_alone_keeps_nobody_out_who_has_the_key() -> None:
    """So nobody is to be let in."""
    watch = Watch()
    watch.second(KEY_UNKNOWN=30_000)
    assert not watch.flood.await_answers([Address("10.0.0.9", 1)], watch.now)


@pytest.mark.parametrize(
    ("count", "sample"), [(1_001, 4), (2_001, 8), (30_000, 64), (100_000, 256), (9_000_000, 1_024)]
)
def test_of_more_less_is_read(count: int, sample: int) -> None:
    """Some hundreds a second; a little more or less is chance and changes nothing."""
    assert sample <= SAMPLE_MOST
    watch = Watch()
    watch.second(REPLAYED=count)
    assert watch.flood.door == Door(KEYS, tuple(MEMBERS), sample)
    for part in (1.0, 0.6, 1.0):
        watch.second(REPLAYED=round(part * count / sample))
        assert watch.flood.door == Door(KEYS, tuple(MEMBERS), sample)


def test_what_comes_from_known_addresses_is_counted_once() -> None:
    """It is read in full, so the sample tells nothing of it: else a door would stay for ever."""
    watch = Watch()
    watch.second(REPLAYED=30_000)
    for second in range(ENDED_LOOKS):
        for _ in range(100):
            watch.flood.dropped(Drop.REPLAYED, MEMBERS[0])
            watch.flood.dropped(Drop.REPLAYED, Address("10.0.0.9", 1))
            watch.flood.dropped(Drop.INBOX_FULL, MEMBERS[0])
        is_other = watch.second(REPLAYED=100)
        assert watch.flood.a_second == 100
        assert is_other == (second == ENDED_LOOKS - 1)
    assert watch.flood.door is None


@pytest.mark.parametrize("name", ["OWN_DATAGRAM", "RECEIVER_OTHER"])
def test_what_this_node_and_others_have_sent_floods_too(name: str) -> None:
    """When somebody sends it again and again."""
    watch = Watch()
    assert watch.second(**{name: 30_000})
