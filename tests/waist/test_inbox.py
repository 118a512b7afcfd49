"""The inbox: what tells who is alive goes first, and the rest in turns and in order."""

from collections import Counter

import pytest

from flc_udp.model.address import Address
from flc_udp.model.dots import Dot, NodeId
from flc_udp.model.units import Micros
from flc_udp.waist.flood import Flood
from flc_udp.waist.inbox import BLOCKS_A_TURN, INBOX_BYTES_MAX, INBOX_MAX, Inbox, Received
from flc_udp.wire.packets import Have, Nack, Packet, Ping, Prune, Replay, ReplayEnd
from flc_udp.wire.packing import pack
from flc_udp.wire.seal import Seal, keyring
from tests.waist.credulous import Credulous

ANN = NodeId(b"ann-----")
BOB = Address("10.0.0.2", 7352)
PING = Ping(1, bytes(8), bytes(8), False, bytes(8))
RING = keyring((), "flc")


class Box:
    """An inbox and a peer that sends to it."""

    def __init__(self) -> None:
        self.drops: Counter[str] = Counter()
        sessions = Credulous(Seal(RING, b"r" * 16), ANN, bytes, self.drops, Micros(0))
        self.inbox = Inbox(sessions, self.drops, Counter(), Flood(self.drops, Micros(0)))
        self._seal = Seal(RING, b"s" * 16)

    def send(self, *packets: Packet, sender: bytes = b"bob-----") -> None:
        """One datagram."""
        (payload,) = pack(sender, packets, 65_400)
        self.inbox.add(self._seal.close(payload), BOB)

    def take(self) -> list[Received]:
        """A turn's worth."""
        return list(self.inbox.take(Micros(0)))


def replay(number: int) -> Replay:
    """Ten blocks, in a replay of this number."""
    return Replay(number, (b"x",) * 10)


def test_a_probe_overtakes_all_that_waits() -> None:
    """However much came before it, this turn takes it, and first."""
    box = Box()
    for number in range(2 * BLOCKS_A_TURN // 10):
        box.send(replay(number))
    box.send(PING)
    box.send(Nack(7))

    assert [received.packets for received in box.take()][:2] == [[PING], [Nack(7)]]


def test_the_rest_keeps_its_order_over_the_turns() -> None:
    """An end never overtakes what it ends, small as it is."""
    box = Box()
    for number in range(300):
        box.send(replay(number))
        box.send(ReplayEnd(number, 10, 0, 0, ()))
    turns = []
    while len(box.inbox):
        turns.append([packet for received in box.take() for packet in received.packets])

    nonces = [packet.nonce for turn in turns for packet in turn]
    assert nonces == sorted(nonces)
    assert len(turns) > 1
    assert all(len(turn) * 11 // 2 <= BLOCKS_A_TURN + 11 for turn in turns)


def test_what_waits_opened_counts_too() -> None:
    """The bound is for all that waits, sealed and opened."""
    box = Box()
    for number in range(INBOX_MAX):
        box.send(replay(number % 100))
    box.take()
    left = len(box.inbox)
    for number in range(INBOX_MAX - left + 5):
        box.send(replay(number))

    assert len(box.inbox) == INBOX_MAX
    assert box.drops["inbox full"] == 5


def test_the_bytes_that_wait_are_bounded_too() -> None:
    """Datagrams may be 40 times as long as usual ones; all that is taken is given back."""
    box = Box()
    large = Replay(1, (b"x" * 1_000,) * 60)
    for _ in range(2):
        for _ in range(2 * INBOX_BYTES_MAX // 60_000):
            box.send(large)
        assert INBOX_BYTES_MAX - 70_000 < box.inbox.waiting_bytes <= INBOX_BYTES_MAX
        assert box.drops["inbox full"] > INBOX_BYTES_MAX // 70_000
        box.take()
        assert box.inbox.waiting_bytes > 0
    while len(box.inbox):
        box.take()
    assert box.inbox.waiting_bytes == 0


@pytest.mark.parametrize("packet", [Have(False, (Dot(b"eight by", 1),) * 3_000), Prune()])
def test_a_packet_counts_by_what_is_in_it(packet: Have | Prune) -> None:
    """One datagram may name 3,000 messages, and then it is enough for a turn."""
    box = Box()
    for _ in range(3):
        box.send(packet)
    turns = [len(box.take()) for _ in range(3)]
    assert turns == ([1, 1, 1] if isinstance(packet, Have) else [3, 0, 0])


def test_it_is_known_who_was_last_heard_under_which_key() -> None:
    """By what is about liveness alone: it comes from all and is cheap to look at."""
    box = Box()
    box.send(Nack(7))
    box.send(replay(1), sender=b"cyd-----")
    box.take()

    assert box.inbox.hearing.key_of(NodeId(b"bob-----")) == RING.keys[0].id
    assert box.inbox.hearing.key_of(NodeId(b"cyd-----")) is None
