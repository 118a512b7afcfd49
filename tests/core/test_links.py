"""How many links stay eager, and which: by what they bring and what is missed on all of them."""

import pytest

from flc_udp.core.members import Member, alive_row
from flc_udp.core.rumors import PRUNE_AFTER, PRUNE_PAUSE, Links, eager_least
from flc_udp.model.address import Address

NODES = [bytes([n]) * 8 for n in range(1, 9)]


def links() -> Links:
    """A node with eight eager links."""
    found = Links(8, 65_536)
    rows = [alive_row(n, 1, Address(f"10.0.0.{n[0]}", 1), "n", 1) for n in NODES]
    found.refill(bytes(7) + b"\xff", [Member(row, 0) for row in rows])
    return found


def play(found: Links, rounds: int, missed_of_100: int) -> int:
    """Every message comes over every eager link, or has to be asked for; how many stay eager."""
    now = 0
    for number in range(rounds):
        now += PRUNE_PAUSE
        eager = [
            node for node in NODES if Address(f"10.0.0.{node[0]}", 1) in found.push(0, (), now)[0]
        ]
        if number * missed_of_100 % 100 < missed_of_100:
            found.missed(NODES[number % 8], now)
            continue
        for at, node in enumerate(eager):
            found.brought(node, is_new=at == 0, now=now)
    return len(found.push(0, (), now)[0])


@pytest.mark.parametrize(
    ("missed", "eager", "least"),
    [
        (0.0, 1, 1),
        (0.0, 8, 1),
        (0.03, 1, 1),
        (0.1, 1, 2),
        (0.25, 1, 3),
        (0.0625, 2, 3),
        (0.0156, 3, 3),
        (0.9, 1, 4),
        (1.0, 0, 4),
    ],
)
def test_as_many_stay_eager_as_the_loss_wants(missed: float, eager: int, least: int) -> None:
    """At no loss one, at a quarter three, however many of them it was measured with."""
    assert least == eager_least(missed, eager)


def test_where_nothing_is_lost_one_link_stays_eager() -> None:
    """Each duplicate costs; the tree has one way to each node."""
    assert play(links(), 100 * PRUNE_AFTER, missed_of_100=0) == 1


def test_where_much_is_missed_more_stay_or_come_back() -> None:
    """What is lost on one link comes on another."""
    found = links()
    assert play(found, 100 * PRUNE_AFTER, missed_of_100=0) == 1
    assert play(found, 200, missed_of_100=25) >= 2
