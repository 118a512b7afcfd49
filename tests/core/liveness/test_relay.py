from random import Random

from flc_udp.core.liveness.probe import RELAYS_MAX, Errand, Relay
from flc_udp.model.address import Address
from flc_udp.model.units import NEVER

ANN, BOB = b"ann-----", b"bob-----"
ASKER = Address("10.0.0.1", 7352)


def errand(nack_at: int = 100, nonce: int = 7) -> Errand:
    """Ask ann for somebody."""
    return Errand(ANN, ASKER, nonce, nack_at)


def begun(*errands: Errand) -> tuple[Relay, list[int]]:
    """A relay on these errands, and the nonces it pings with."""
    relay = Relay(Random(0))
    nonces = [relay.begin(errand) for errand in errands]
    return relay, [nonce for nonce in nonces if nonce is not None]


def test_an_ack_fulfils_its_errand_once() -> None:
    """From its target, with the relay's own nonce; then the asker is told."""
    relay, (nonce,) = begun(errand())

    assert relay.receive_ack(nonce, BOB) is None
    assert relay.receive_ack(nonce ^ 1, ANN) is None
    assert relay.receive_ack(nonce, ANN) == errand()
    assert relay.receive_ack(nonce, ANN) is None
    assert relay.wake_at == NEVER


def test_a_silent_target_is_said_once_in_time() -> None:
    """The nack goes when the target had its time, and not before."""
    relay, _ = begun(errand(100, 1), errand(200, 2))

    assert relay.wake_at == 100
    assert relay.take_silent(99) == []
    assert [errand(100, 1)] == relay.take_silent(100)
    assert relay.wake_at == 200
    assert [errand(200, 2)] == relay.take_silent(1_000)
    assert relay.take_silent(1_000) == []


def test_askers_nonces_do_not_collide() -> None:
    """Two askers may use one nonce: the relay pings with its own."""
    _, nonces = begun(errand(nonce=5), errand(nonce=5))

    assert len(set(nonces)) == 2


def test_errands_are_bounded() -> None:
    """Beyond the bound a ping-req is not heard."""
    relay, nonces = begun(*(errand() for _ in range(RELAYS_MAX + 3)))

    assert len(nonces) == RELAYS_MAX
    assert relay.receive_ack(nonces[0], ANN) is not None
    assert relay.begin(errand()) is not None
