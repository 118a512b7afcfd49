"""A link's window: what is in flight is bounded, whatever the peer does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flc_udp.core.liveness.members import Member, alive_row
from flc_udp.core.push.links import Links
from flc_udp.core.push.rumors import Rumors
from flc_udp.core.push.window import ANSWERS_WITHIN_US, LOST_AFTER_US, TAKEN_BYTES, PushWindow
from flc_udp.model.address import Address
from flc_udp.wire.packets import Have, Rumor
from tests.model.stories import Story

LIMIT = 65_536
BOB, CYD = Address("10.0.0.1", 1), Address("10.0.0.2", 1)


def test_beyond_it_nothing_is_pushed_until_the_peer_has_read_some() -> None:
    """And then as much as it has read."""
    window = PushWindow()
    pushed = [window.push(at, 8_192, LIMIT, 0) for at in range(1, 12)]

    assert pushed == [True] * 8 + [False] * 3
    assert window.is_behind(0)

    window.taken(2, 0)

    assert [window.push(at, 8_192, LIMIT, 0) for at in (12, 13, 14)] == [True, True, False]


def test_one_message_always_fits_an_empty_window() -> None:
    """However large it is."""
    assert PushWindow().push(1, 10 * LIMIT, LIMIT, 0)


def test_what_is_never_answered_is_lost_after_a_while() -> None:
    """A peer that stands still gets a window a second, and no more."""
    window = PushWindow()
    pushed = sum(window.push(at, 8_192, LIMIT, at * LOST_AFTER_US // 100) for at in range(1_000))

    assert 8 * 9 <= pushed <= 8 * 11


def test_a_peer_answers_every_few_datagrams() -> None:
    """A lone message is not answered; a stream is, at least twice a window."""
    window = PushWindow()

    assert [window.came(TAKEN_BYTES // 4) for _ in range(8)] == [False, False, False, True] * 2
    assert 2 * TAKEN_BYTES <= LIMIT


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 20_000)), max_size=200))
def test_what_is_in_flight_is_what_was_pushed_and_not_taken(steps: list[tuple[bool, int]]) -> None:
    """Whatever comes in which order; never above the limit, but for one part."""
    window = PushWindow()
    flying: dict[int, int] = {}
    for at, (is_push, number) in enumerate(steps):
        if not is_push:
            window.taken(number % (at + 1), 0)
            flying = {a: size for a, size in flying.items() if a > number % (at + 1)}
        elif window.push(at, number, LIMIT, 0):
            flying[at] = number
        assert window.in_flight == sum(flying.values())
        assert window.in_flight <= LIMIT


def test_who_has_no_room_is_told_what_there_is() -> None:
    """All others get the messages; that one is told of them, as on a lazy link, and can pull."""
    links, rumors = Links(8, LIMIT), Rumors()
    rows = [alive_row(bytes([n]) * 8, 1, Address(f"10.0.0.{n}", 1), "n", 1) for n in (1, 2)]
    links.refill(b"me------", [Member(row, 0) for row in rows])
    story = Story()
    pushed: dict[Address, int] = {BOB: 0, CYD: 0}
    for _ in range(40):
        block = story.say("ann", body="x" * 6_000)
        rumors.push(block, None, None, receipt=False)
        for send in rumors.take(links, 0):
            for to in send.to:
                pushed[to] += sum(isinstance(packet, Rumor) for packet in send.packets)
        links.taken(rows[0].id, 1 << 40, 0)
        rumors.have(block, None, 0)

    assert pushed[BOB] == 40
    assert pushed[CYD] <= LIMIT // 6_000

    told = [send for send in rumors.take(links, 20_000) if isinstance(send.packets[0], Have)]

    assert [send.to for send in told] == [(CYD,)]
    assert told[0].packets == (Have(False, (block.dot,)),)


FULL = LIMIT // 8_192 * 8_192


@pytest.mark.parametrize(
    ("peers", "slow", "silent", "room"),
    [
        (2, 0, 0, LIMIT),
        (2, 1, 0, LIMIT),  # It will catch up; the others need not wait for it.
        (2, 2, 0, LIMIT - FULL),
        (2, 1, 1, LIMIT - FULL),  # What a peer that stands still has no room for says nothing.
        (2, 0, 2, None),
        (1, 0, 1, None),
        (1, 1, 0, LIMIT - FULL),
        (4, 2, 0, LIMIT),
        (4, 3, 0, LIMIT - FULL),
    ],
)
def test_room_is_what_at_least_half_of_the_peers_have(
    peers: int, slow: int, silent: int, room: int | None
) -> None:
    """Of those that say how far they have read."""
    links, now = Links(8, LIMIT), ANSWERS_WITHIN_US
    rows = [alive_row(bytes([n]) * 8, 1, Address(f"10.0.0.{n}", 1), "n", 1) for n in range(peers)]
    links.refill(b"me------", [Member(row, 0) for row in rows])
    for _ in range(LIMIT // 8_192 + 1):
        _, at = links.push(8_192, (), now)
        for row in rows[slow + silent :]:
            links.taken(row.id, at, now)
    for row in rows[:slow]:
        links.taken(row.id, 0, now)

    assert links.room(now) == room
    assert links.room(now + ANSWERS_WITHIN_US) is None
