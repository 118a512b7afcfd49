"""How many links stay eager, and which: by what they bring and what is missed on all of them."""

from collections.abc import Iterable, Sequence
from heapq import heappop, heappush
from itertools import count, cycle, pairwise
from random import Random

import pytest

from flc_udp.core.liveness.members import Member, alive_row
from flc_udp.core.push.links import (
    LEAD_US,
    LOSS_BYTES,
    LOSS_FOR_US,
    LOSS_MOST,
    PRUNE_PAUSE_US,
    PRUNE_PERIOD_MS,
    Links,
    eager_least,
)
from flc_udp.model.address import Address
from flc_udp.model.block import NO_PARENT, Block, Origin, pack_body, write
from flc_udp.model.units import MS_US
from flc_udp.wire.packets import Taken

NODES = [bytes([n]) * 8 for n in range(1, 9)]
LOG, LOWER, HIGHER = b"log-----", b"a-------", b"z-------"
PERIOD_US = PRUNE_PERIOD_MS * MS_US
WALL = 1_700_000_000_000
BODY = [pack_body("hi")]


def block(seq: int, wall: int, log: bytes = LOG) -> Block:
    """What somebody said at this moment of their clock."""
    return write(
        log=log,
        first=seq,
        room="lobby",
        author="ann",
        wall=wall,
        stamp=wall << 16 | seq,
        causes=(),
        parent=NO_PARENT if seq == 1 else b"p" * len(NO_PARENT),
        bodies=BODY,
        origin=Origin(log[::-1], "ann") if seq == 1 else None,
    )


def links() -> Links:
    """A node with eight eager links."""
    found = Links(8)
    rows = [alive_row(n, 1, Address(f"10.0.0.{n[0]}", 1), "n", 1) for n in NODES]
    found.refill(bytes(7) + b"\xff", [Member(row, 0) for row in rows])
    return found


def eager(found: Links, now: int) -> list[bytes]:
    """The nodes that something is pushed to."""
    to = found.push((), (), now, receipt=False).to
    return [node for node in NODES if Address(f"10.0.0.{node[0]}", 1) in to]


def bring(found: Links, said: Block, now: int, tellers: Sequence[bytes] = NODES) -> list[bytes]:
    """Each of these tells it, the first one first. Return those that are pruned for it."""
    found.heard(said, tellers[0], now)
    return [
        node
        for at, node in enumerate(tellers)
        if found.brought(node, [said.encoded], now, is_new=at == 0)
    ]


def play(found: Links, rounds: int, missed_of_100: int) -> int:
    """Every block comes over every eager link, or has to be asked for; how many stay eager."""
    now = 0
    for number in range(rounds):
        now += PERIOD_US
        if number * missed_of_100 % 100 < missed_of_100:
            found.missed(NODES[number % 8], now)
            continue
        bring(found, block(number + 1, now // MS_US), now, eager(found, now))
    return len(eager(found, now))


@pytest.mark.parametrize(
    ("missed", "eager", "loss_max", "least"),
    [
        (0.0, 1, LOSS_MOST, 1),
        (0.0, 8, LOSS_MOST, 1),
        (0.03, 1, LOSS_MOST, 1),
        (0.1, 1, LOSS_MOST, 2),
        (0.25, 1, LOSS_MOST, 3),
        (0.0625, 2, LOSS_MOST, 3),
        (0.0156, 3, LOSS_MOST, 3),
        (0.9, 1, LOSS_MOST, 4),
        (1.0, 0, LOSS_MOST, 4),
        (0.9, 1, 0.0, 1),  # A node that is merely slow: nothing is lost on the way.
        (0.9, 1, 0.05, 1),
        (0.9, 1, 0.25, 3),
        (0.0, 1, 1.0, 1),
        (1.0, 64, 1.0, 4),  # All of what was pushed seems to be lost, and all is missed.
        (1.0, 0, 1.1, 4),
    ],
)
def test_as_many_stay_eager_as_the_loss_wants(
    missed: float, eager: int, loss_max: float, least: int
) -> None:
    """At no loss one, at a quarter three, however many of them it was measured with."""
    assert least == eager_least(missed, eager, loss_max)


def test_where_nothing_is_lost_one_link_stays_eager() -> None:
    """Each duplicate costs; the tree has one way to each node."""
    assert play(links(), 500, missed_of_100=0) == 1


def test_where_much_is_missed_more_stay_or_come_back() -> None:
    """What is lost on one link comes on another."""
    found = links()
    assert play(found, 500, missed_of_100=0) == 1
    assert play(found, 200, missed_of_100=25) >= 2


@pytest.mark.parametrize(
    ("came_of_4", "bytes_told", "pause_us", "is_fresh", "stay_eager"),
    [
        (4, 4 * LOSS_BYTES, 0, True, 1),
        (2, 4 * LOSS_BYTES, 0, True, 3),
        (4, LOSS_BYTES // 2, 0, True, 3),  # It is not known yet.
        (4, 4 * LOSS_BYTES, LOSS_FOR_US, False, 3),  # Or not any more.
        (4, 4 * LOSS_BYTES, LOSS_FOR_US, True, 3),  # Or not again.
    ],
)
def test_what_is_missed_is_taken_for_lost_only_as_far_as_windows_measured_losses(
    came_of_4: int, bytes_told: int, pause_us: int, stay_eager: int, *, is_fresh: bool
) -> None:
    """A slow node misses much, and more eager links would make it slower."""
    found, size = links(), 8_192
    for n in range(1, bytes_told // size + 1):
        found.push((bytes(size),), NODES[1:], 0, receipt=False)
        found.taken(NODES[0], Taken(n * size, n * size * came_of_4 // 4, size), 0)
    for node in NODES[1:]:
        found.prune(node)
    now = pause_us
    for number in range(64):
        now += 2 * PERIOD_US  # Two misses in a row would graft a link anyway.
        if is_fresh:
            found.taken(NODES[0], Taken(0, 0, size), now)
        found.missed(NODES[number % 8], now)

    assert len(eager(found, now)) >= stay_eager
    assert stay_eager > 1 or eager(found, now) == NODES[:1]


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
        self.links = {node: Links(8) for node in self.ids}
        for node, links in self.links.items():
            links.refill(node, [member for member in members if member.row.id != node])

    def tell(self, author: bytes, said: Block, now: int) -> tuple[int, int]:
        """An author says this; by how many it is heard, and in how many copies."""
        order = count()
        heap: list[tuple[int, int, str, bytes, bytes]] = []

        def push(sender: bytes, teller: bytes | None, at: int) -> None:
            for address in self.links[sender].push((), (teller,), at, receipt=False).to:
                send(at, "rumor", sender, self.by_address[address])

        def send(at: int, what: str, sender: bytes, to: bytes) -> None:
            late = at + self.random.randint(1 * MS_US, 10 * MS_US)
            heappush(heap, (late, next(order), what, sender, to))

        heard, copies = {author}, 0
        self.links[author].heard(said, None, now)
        push(author, None, now)
        while heap:
            at, _, what, sender, node = heappop(heap)
            if what == "prune":
                self.links[node].prune(sender)
                continue
            copies += 1
            is_new = node not in heard
            heard.add(node)
            if is_new:
                self.links[node].heard(said, sender, at)
            if self.links[node].brought(sender, [said.encoded], at, is_new=is_new):
                send(at, "prune", node, sender)
            if is_new:
                push(node, sender, at)
        return len(heard), copies


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("authors", [1, 5, 100])
def test_however_many_prune_at_once_nobody_is_cut_off(seed: int, authors: int) -> None:
    """From all links to a tree, whoever speaks: each block reaches all, by rumors alone."""
    cluster = Cluster(100, seed)
    logs = [cluster.random.randbytes(8) for _ in range(authors)]
    seqs = dict.fromkeys(logs, 0)
    for number in range(200):
        log, now = cluster.random.choice(logs), number * PERIOD_US // 3
        seqs[log] += 1
        author = cluster.ids[logs.index(log)]
        heard, copies = cluster.tell(author, block(seqs[log], WALL + now // MS_US, log), now)
        assert heard == 100
    assert copies < 1.25 * 99


class TestLead:
    """All nodes prune by the same blocks: the first of the lead log in each period of its clock."""

    def prunes(self, said: Iterable[tuple[int, Block]]) -> list[int]:
        """At which of these moments, in ms, a block came by which links are pruned."""
        found, moments = links(), []
        for now_ms, each in said:
            for node in NODES[1:]:
                found.graft(node)
            if pruned := bring(found, each, now_ms * MS_US):
                assert pruned == NODES[1:]
                moments.append(now_ms)
        return moments

    def test_the_first_block_of_each_period(self) -> None:
        """Every link that did not bring it first goes lazy by it, and by no other."""
        said = [
            (now, block(1 + now // 100, WALL - WALL % 300 + now)) for now in range(0, 1_000, 100)
        ]

        assert self.prunes(said) == [0, 300, 600, 900]

    def test_a_datagram_that_comes_twice_prunes_no_link(self) -> None:
        """The second copy is no sign that another link is quicker."""
        found, said = links(), block(1, WALL)

        assert bring(found, said, 0, [NODES[0], *NODES[:2]]) == [NODES[1]]

    def test_only_the_lowest_log_that_speaks(self) -> None:
        """Once it is silent, another one leads, at the latest after two looks."""
        said = []
        for now in range(0, 12_000, 100):
            low = LOWER if now < 3_000 else HIGHER
            said += [(now, block(1 + now // 100, WALL + now, low))]
            said += [(now, block(1 + now // 100, WALL + now, LOG))]
        moments = self.prunes(said)
        assert moments[0] < PRUNE_PERIOD_MS
        assert moments[-1] >= 12_000 - PRUNE_PERIOD_MS

        changed = [b - a for a, b in pairwise(moments) if b - a > 1.5 * PRUNE_PERIOD_MS]
        assert len(changed) == 1
        assert changed[0] <= 2 * LEAD_US // MS_US

    @pytest.mark.parametrize("jump_ms", [-3_600_000, -300, -100, 100, 300, 3_600_000, 1 << 40])
    def test_a_clock_that_jumps_costs_one_prune_more_at_most(self, jump_ms: int) -> None:
        """Periods are told apart, and not ordered."""
        said = [
            (now, block(1 + now // 100, WALL + now + (jump_ms if now >= 1_000 else 0)))
            for now in range(0, 2_000, 100)
        ]

        assert 6 <= len(self.prunes(said)) <= 9

    @pytest.mark.parametrize("walls", [[0], range(0, 1 << 40, 10_000), [0, 10_000]])
    def test_the_clock_of_an_insider_prunes_seldom_or_never(self, walls: Sequence[int]) -> None:
        """One who has the key speaks under the lowest id there is, by any clock at all.

        Prunes that come too soon after others would cut nodes off. Those that never come cost
        copies, until that one is silent.
        """
        clock = cycle(walls)
        said = [(now, block(1 + now, next(clock), bytes(8))) for now in range(0, 3_000, 10)]
        moments = self.prunes(said)

        assert all(b - a >= PRUNE_PAUSE_US // MS_US for a, b in pairwise(moments))
