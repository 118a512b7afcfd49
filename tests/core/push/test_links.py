"""How many links stay eager, and which: by what they bring and what is missed on all of them."""

from heapq import heappop, heappush
from itertools import count
from random import Random

import pytest

from flc_udp.core.liveness.members import Member, alive_row
from flc_udp.core.push.links import PRUNE_AFTER, PRUNE_PAUSE_US, Links, eager_least
from flc_udp.model.address import Address
from flc_udp.model.dots import Dot
from flc_udp.model.units import MS_US

NODES = [bytes([n]) * 8 for n in range(1, 9)]
LOG = bytes(8)


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
        now += PRUNE_PAUSE_US
        eager = [
            node for node in NODES if Address(f"10.0.0.{node[0]}", 1) in found.push(0, (), now)[0]
        ]
        if number * missed_of_100 % 100 < missed_of_100:
            found.missed(NODES[number % 8], now)
            continue
        for at, node in enumerate(eager):
            found.brought(node, Dot(LOG, number + 1), is_new=at == 0, now=now)
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


class Cluster:
    """Links of many nodes, and datagrams that take 1 to 10 ms; nothing is lost, nothing pulled."""

    def __init__(self, nodes: int, seed: int) -> None:
        self.random = Random(seed)
        members = []
        for number in range(nodes):
            address = Address(f"10.0.0.{number}", 1)
            members.append(Member(alive_row(self.random.randbytes(8), 1, address, "n", 1), 0))
        self.ids = [member.row.id for member in members]
        self.by_address = {member.row.address: member.row.id for member in members}
        self.links = {node: Links(8, 65_536) for node in self.ids}
        for node, links in self.links.items():
            links.refill(node, [member for member in members if member.row.id != node])

    def tell(self, dot: Dot, now: int) -> tuple[int, int]:
        """Somebody says a message; by how many it is heard, and in how many copies."""
        order = count()
        heap: list[tuple[int, int, str, bytes, bytes]] = []

        def push(sender: bytes, teller: bytes | None, at: int) -> None:
            for address in self.links[sender].push(0, (teller,), at)[0]:
                send(at, "rumor", sender, self.by_address[address])

        def send(at: int, what: str, sender: bytes, to: bytes) -> None:
            late = at + self.random.randint(1 * MS_US, 10 * MS_US)
            heappush(heap, (late, next(order), what, sender, to))

        author = self.random.choice(self.ids)
        heard, copies = {author}, 0
        push(author, None, now)
        while heap:
            at, _, what, sender, node = heappop(heap)
            if what == "prune":
                self.links[node].prune(sender)
                continue
            copies += 1
            is_new = node not in heard
            heard.add(node)
            if self.links[node].brought(sender, dot, is_new=is_new, now=at):
                send(at, "prune", node, sender)
            if is_new:
                push(node, sender, at)
        return len(heard), copies


@pytest.mark.parametrize("seed", range(4))
def test_however_many_prune_at_once_nobody_is_cut_off(seed: int) -> None:
    """From all links to a tree, each message of another author: it reaches all, by rumors alone."""
    cluster = Cluster(100, seed)
    for number in range(200):
        log = cluster.random.randbytes(8)
        heard, copies = cluster.tell(Dot(log, 1), number * 2 * PRUNE_PAUSE_US // 3)
        assert heard == 100
    assert copies < 1.25 * 99


def test_all_that_is_pruned_goes_by_one_message() -> None:
    """One in four is pruned by, and by it every link that brought too little; others only count."""
    found = links()
    pruned = []
    for seq in range(1, 2 * PRUNE_AFTER + 1):
        for node in NODES[: len(found.push(0, (), seq)[0])]:
            is_new = node == NODES[0]
            if found.brought(node, Dot(LOG, seq), is_new=is_new, now=seq * PRUNE_PAUSE_US):
                pruned.append((seq, node))
    assert pruned == [(8, node) for node in NODES[1:]]
