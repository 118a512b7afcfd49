"""Pings for other members: whom a relay asks, whom it answers, and when."""

from random import Random

from flc_udp.config import Settings
from flc_udp.core.effects import Send
from flc_udp.core.liveness.detector import ERRANDS_MAX, Detector
from flc_udp.core.liveness.members import MemberTable, alive_row
from flc_udp.core.shared import Shared
from flc_udp.core.standing import Standing
from flc_udp.model.address import Address
from flc_udp.model.units import MS_US
from flc_udp.wire.packets import Ack, Nack, Packet, Ping, PingReq, Relayed

ME, ANN, BOB = b"me------", b"ann-----", b"bob-----"
ASKER = Address("10.0.0.1", 7352)


class OneRelay:
    """A node that knows ann and bob, and nothing but what it sends."""

    def __init__(self) -> None:
        settings = Settings()
        rows = [
            alive_row(node, 1, Address("10.0.0.2", 7352 + number), "n", 1)
            for number, node in enumerate((ME, ANN, BOB))
        ]
        self.shared = Shared(settings, Standing({}), Random(0))
        members = MemberTable(rows[0], settings, self.shared.drops, 0)
        for row in rows[1:]:
            members.apply(row, 0)
        self.detector = Detector(self.shared, members, 0)
        self.timeout_us = settings.probe_timeout_ms * MS_US

    def ask(self, nonce: int, now: int = 0) -> int | None:
        """Somebody asks for ann; the nonce that she is pinged with."""
        self.detector.receive_ping_req(PingReq(nonce, ANN), ASKER, now)
        pings = [packet for packet in self.sent() if isinstance(packet, Ping)]
        return pings[0].nonce if pings else None

    def ack(self, nonce: int, sender: bytes) -> list[Packet]:
        """Somebody answers; what the asker is told."""
        self.detector.receive_ack(Ack(nonce, bytes(8), bytes(8), False, 0), sender, 0)
        return self.sent()

    def nacks(self, now: int) -> list[Packet]:
        """Which askers are told that there is no answer, when the relay wakes."""
        self.detector.wake(now)
        return [packet for packet in self.sent() if isinstance(packet, Nack)]

    def sent(self) -> list[Packet]:
        """What was sent since the last look."""
        sends = [effect for effect in self.shared.out if isinstance(effect, Send)]
        self.shared.out.clear()
        return [packet for send in sends for packet in send.packets]


def test_an_ack_fulfils_its_errand_once() -> None:
    """From its target, with the relay's own nonce; then the asker is told."""
    relay = OneRelay()
    nonce = relay.ask(7)
    assert nonce is not None

    assert relay.ack(nonce, BOB) == []
    assert relay.ack(nonce ^ 1, ANN) == []
    assert relay.ack(nonce, ANN) == [Relayed(7, ANN)]
    assert relay.ack(nonce, ANN) == []
    assert relay.nacks(relay.timeout_us) == []


def test_a_silent_target_is_said_once_in_time() -> None:
    """The nack goes when the target had its time, and not before."""
    relay = OneRelay()
    relay.ask(1, 0)
    relay.ask(2, 100)

    assert relay.detector.wake_at <= relay.timeout_us
    assert relay.nacks(relay.timeout_us - 1) == []
    assert relay.nacks(relay.timeout_us) == [Nack(1)]
    assert relay.nacks(relay.timeout_us + 1_000) == [Nack(2)]
    assert relay.nacks(relay.timeout_us + 2_000) == []


def test_askers_nonces_do_not_collide() -> None:
    """Two askers may use one nonce: the relay pings with its own."""
    relay = OneRelay()

    assert relay.ask(5) != relay.ask(5)


def test_errands_are_bounded() -> None:
    """Beyond the bound a ping-req is not heard."""
    relay = OneRelay()
    nonces = [relay.ask(7) for _ in range(ERRANDS_MAX + 3)]

    assert [nonce for nonce in nonces if nonce is None] == [None] * 3
    assert nonces[0] is not None
    assert relay.ack(nonces[0], ANN) == [Relayed(7, ANN)]
    assert relay.ask(7) is not None
