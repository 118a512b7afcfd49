"""An insider names causes and messages that nobody has: they go again, honest ones are quick."""

import pytest

from flc_udp.model.dots import Dot, LogId, NodeId
from flc_udp.wire.packets import Digest, Have
from flc_udp.wire.rows import DigestRow
from tests.core.dialogue import WALL, Talk
from tests.core.insider.forged import AT, EVE, forge, push

BOGUS = 6_000


def log(number: int) -> LogId:
    """A log that nobody has."""
    return LogId(b"m" + number.to_bytes(7, "big"))


def pair() -> Talk:
    """Two, and a small hold-back."""
    talk = Talk("ann", "bob", "cyd", holdback_blocks_max=4_096)
    talk.meet()
    return talk


def quick(talk: Talk, loses: bool) -> int:
    """How long it takes until bob has what ann says, in ms; perhaps its rumor is lost."""
    if loses:
        talk.drop(lambda _a, b, packets: b.name == "bob" and type(packets[0]).__name__ == "Rumor")
    said = talk.say("ann", f"at {talk.now}").bodies[0]
    began = talk.now
    talk.run(10)
    talk.heal()
    while said not in talk["bob"].shown:
        talk.run(10)
        assert talk.now < began + 60_000_000
    return (talk.now - began) // 1_000


SENDERS = ["cyd", "eve"]
"""A member may be the one that means ill, or a node that nobody has heard."""


def sends(talk: Talk, name: str) -> NodeId:
    """The id of the one that means ill."""
    return EVE if name == "eve" else talk[name].id


@pytest.mark.parametrize("name", SENDERS)
def test_bogus_causes_wait_in_a_part_of_the_hold_back_and_go(name: str) -> None:
    """A quarter of it at most, and within half a minute nothing of it is left."""
    talk = pair()
    for at in range(0, BOGUS, 8):
        forged = (
            forge(log=log(BOGUS + n), stamp=WALL + n, causes=(Dot(log(n), 5),))
            for n in range(at, at + 8)
        )
        push(talk["bob"], *forged, sender=sends(talk, name))
        if at % 800 == 0:
            talk.run(10)
    assert talk["bob"].facts.repair.holdback_blocks <= 1_024
    assert quick(talk, loses=True) < 5_000
    talk.run(30_000)

    assert talk["bob"].facts.repair.holdback_blocks == 0
    assert talk["bob"].facts.repair.is_idle
    assert quick(talk, loses=True) < 1_000


@pytest.mark.parametrize("name", SENDERS)
def test_claims_of_logs_that_nobody_has_are_soon_given_up(name: str) -> None:
    """By have and by digest, of ever so many messages: with fewer pulls than logs."""
    talk = pair()
    bob = talk["bob"]
    for at in range(0, BOGUS, 40):
        dots = tuple(Dot(log(n), (1 << 53) - 1) for n in range(at, at + 40))
        rows = tuple(DigestRow(log(n), 1 << 50, b"no hash!") for n in range(at, at + 40))
        packets = (Have(True, dots), Digest(rows[0].log, rows[-1].log, False, rows))
        bob.replica.receive(packets, sends(talk, name), AT, talk.wall, talk.now)
        bob.carry_out()
    before = talk.sent["Pull"]
    assert quick(talk, loses=True) < 5_000
    talk.run(30_000)

    assert bob.facts.repair.is_idle
    assert not bob.facts.catching_up
    assert talk.sent["Pull"] - before < BOGUS
