"""Two tables of members compared: at thousands, within a datagram's budget, and at whose pace."""

from collections.abc import Callable
from random import Random

import pytest

from flc_udp.config import SEAL_BYTES, Settings
from flc_udp.core.effects import Send
from flc_udp.core.liveness.members import alive_row
from flc_udp.core.liveness.membership import Membership
from flc_udp.core.liveness.roster import ROWS_MOST
from flc_udp.core.shared import Shared
from flc_udp.core.standing import Standing
from flc_udp.model.address import Address
from flc_udp.model.units import NEVER
from flc_udp.wire.codec import read
from flc_udp.wire.packets import (
    Ack,
    Join,
    MemberDigest,
    MemberRanges,
    Members,
    Packet,
    Ping,
    Update,
)
from flc_udp.wire.packing import pack
from flc_udp.wire.rows import MemberRow, State

SECOND = 1_000_000
EXCHANGE = (MemberRanges, MemberDigest, Members, Update)


def rows(count: int, name: Callable[[int], str] = "node{}".format) -> list[MemberRow]:
    """So many members with random ids."""
    random = Random(5)
    return [
        alive_row(
            random.randbytes(8),
            1_800_000_000,
            Address(f"10.1.{n >> 8}.{n & 255}", 7352),
            name(n),
            n,
        )
        for n in range(1, count + 1)
    ]


class Peer:
    """The liveness half of one node that knows these members."""

    def __init__(self, number: int, known: list[MemberRow], **settings: int) -> None:
        self.settings = Settings(**settings)
        shared = Shared(self.settings, Standing({}), Random(1))
        self.out = shared.out
        me = alive_row(bytes([number]) * 8, 7, Address(f"10.0.0.{number}", 7352), "me", number)
        self.liveness = Membership(shared, me, 0)
        for row in known:
            self.liveness.members.apply(row, 0)
        self.liveness.members.news.clear()
        self.sizes: list[int] = []
        self.asked_at = 0

    @property
    def root(self) -> bytes:
        """Of its members."""
        return self.liveness.members.table.root

    def compare(self, other: "Peer", now: int = 0) -> None:
        """A probe told the other's root."""
        me = other.liveness.members.me.row
        self.liveness.roster.compare(other.root, me.id, me.address, now)

    def take(self) -> list[Packet]:
        """Exchange packets as they arrive; the size of each datagram is kept."""
        sends = [e for e in self.out if isinstance(e, Send)]
        self.out.clear()
        packets = [p for send in sends for p in send.packets if isinstance(p, EXCHANGE)]
        payloads = pack(
            self.liveness.members.me.row.id, packets, self.settings.packet_bytes_max - SEAL_BYTES
        )
        self.sizes += [len(payload) + SEAL_BYTES for payload in payloads]
        return [packet for payload in payloads for packet in read(payload)[1]]

    def receive(self, packets: list[Packet], sender: "Peer", now: int) -> None:
        """As the Replica hands them on."""
        node, source = sender.liveness.members.me.row.id, sender.liveness.members.me.row.address
        for packet in packets:
            self.liveness.receive(packet, node, source, 0, now)
        self.answer_all()

    def answer_all(self) -> None:
        """Everybody of whom it was told answers it at once."""
        claims = self.liveness.claims
        while claims.hearsay.wake_at < NEVER:
            self.asked_at += SECOND // 10
            before = len(self.out)
            claims.ask(self.asked_at)
            pings, self.out[before:] = self.out[before:], []
            told = {t.row.address: node for node, (_, t) in claims.hearsay._asked.items()}  # noqa: SLF001
            for send in pings:
                assert isinstance(send, Send)
                assert isinstance(send.packets[0], Ping)
                claims.answered(send.packets[0].nonce, told[send.to[0]], self.asked_at)


def talk(asker: Peer, answerer: Peer, now: int = 0) -> int:
    """One exchange to its end, begun by `asker` if one is due; how many hops it took."""
    asker.compare(answerer, now)
    hops = 0
    while packets := asker.take():
        answerer.receive(packets, asker, now)
        asker, answerer = answerer, asker
        hops += 1
    return hops


def knows(one: Peer, other: Peer) -> None:
    """Two that know each other already."""
    one.liveness.members.apply(other.liveness.members.me.row, 0)
    other.liveness.members.apply(one.liveness.members.me.row, 0)


@pytest.mark.parametrize("members", [3, 100, 5_000])
def test_one_difference_is_found_in_a_few_small_datagrams(members: int) -> None:
    """Whatever the size: at most five hops and 4 kB, every datagram within the budget."""
    known = rows(members)
    one, other = Peer(1, known), Peer(2, known)
    knows(one, other)
    one.liveness.members.apply(known[1]._replace(incarnation=1_900_000_000), 0)
    hops = talk(one, other)

    assert one.root == other.root
    assert hops <= 5
    assert sum(one.sizes + other.sizes) <= 4_000
    assert max(one.sizes + other.sizes) <= one.settings.packet_bytes_max


@pytest.mark.parametrize("begins", [0, 1])
def test_what_each_knows_better_goes_both_ways(begins: int) -> None:
    """One knows of a death, the other of a new address and a newcomer: both learn it all."""
    known = rows(300)
    peers = one, other = Peer(1, known), Peer(2, known)
    knows(one, other)
    newcomer = rows(301)[300]
    died = known[3]._replace(state=State.DEAD)
    moved = known[4]._replace(incarnation=1_900_000_000, address=Address("10.9.9.9", 1))
    one.liveness.members.apply(died, 0)
    for row in (moved, newcomer):
        other.liveness.members.apply(row, 0)
    talk(peers[begins], peers[1 - begins])

    for peer in peers:
        held = {member.row.id: member.row for member in peer.liveness.members}
        assert [moved, newcomer] == [held[row.id] for row in (moved, newcomer)]
    # Who is dead at one is suspect at the other for now, and has time to refute.
    assert died == one.liveness.members[died.id].row
    assert other.liveness.members[died.id].row.state is State.SUSPECT


def test_a_newcomer_draws_a_large_table_at_its_own_pace() -> None:
    """5,000 members in a few exchanges, none longer than it may be, one due right after another."""
    newcomer, seed = Peer(1, []), Peer(2, rows(5_000))
    knows(newcomer, seed)
    exchanges = 0
    while newcomer.root != seed.root:
        assert talk(newcomer, seed, exchanges * SECOND // 20), "it waits though more is there"
        exchanges += 1
        assert sum(seed.sizes) <= exchanges * ROWS_MOST * 100

    assert exchanges <= 12
    assert max(newcomer.sizes + seed.sizes) <= newcomer.settings.packet_bytes_max


def test_long_names_fit_too() -> None:
    """Rows of the greatest length are spread over as many datagrams as it takes."""
    newcomer, seed = Peer(1, []), Peer(2, rows(60, lambda n: f"{n:03}".ljust(128, "x")))
    knows(newcomer, seed)
    talk(newcomer, seed)

    assert newcomer.root == seed.root
    assert max(newcomer.sizes + seed.sizes) <= newcomer.settings.packet_bytes_max


def test_equal_roots_cost_nothing() -> None:
    """Two that agree send nothing at all."""
    known = rows(50)
    one, other = Peer(1, known), Peer(2, known)
    knows(one, other)

    assert talk(one, other) == 0


def test_exchanges_that_find_nothing_become_rare() -> None:
    """A peer whose table cannot be made like ours costs an exchange in 16 s, not one a probe."""
    one, other = Peer(1, rows(3)), Peer(2, rows(1_000), members_max=1_000)
    stranger = Peer(3, rows(1_000)[:500])
    knows(one, stranger)
    begun = [
        second for second in range(120) if (one.compare(other, second * SECOND), one.take())[1]
    ]

    assert begun == [0, 2, 6, 14, 30, 46, 62, 78, 94, 110]


def test_who_was_unknown_is_no_news_and_what_changed_is() -> None:
    """A newcomer does not gossip the table it was given; a death an exchange told is told on."""
    known = rows(20)
    newcomer, seed = Peer(1, known[:1]), Peer(2, known)
    knows(newcomer, seed)
    newcomer.liveness.members.news.clear()
    seed.liveness.members.apply(known[0]._replace(state=State.DEAD), 0)
    talk(newcomer, seed)

    assert [known[0].id] == [row.id for row in newcomer.liveness.members.take_news()]


def test_a_join_is_answered_with_little() -> None:
    """Its row, what is held of the newcomer, and its roots: the newcomer asks for the rest."""
    seed = Peer(2, rows(5_000))
    joiner = Peer(1, []).liveness.members.me.row
    seed.liveness.receive(Join(joiner), joiner.id, joiner.address, 0, 0)
    (send,) = [e for e in seed.out if isinstance(e, Send)]
    (payload,) = pack(seed.liveness.members.me.row.id, send.packets, 1_400)

    assert [Members, Ack] == [type(packet) for packet in send.packets]
    assert len(payload) < 200
