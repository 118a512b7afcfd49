"""An insider asks in loops: what one address draws with one kind of packet is bounded."""

from collections.abc import Callable

import pytest

from flc_udp.config import HASH_BYTES, ID_BYTES, RANGE_FANOUT
from flc_udp.core.budget import ACCOUNT_BYTES, BYTES_A_SECOND
from flc_udp.core.effects import Send
from flc_udp.model.dots import LogId, NodeId
from flc_udp.model.errors import Drop
from flc_udp.wire.packets import Digest, MemberDigest, MemberRanges, Packet, Ping, Ranges
from flc_udp.wire.packing import pack
from tests.core.dialogue import PAYLOAD_BYTES, Party, Talk
from tests.core.insider.forged import AT, EVE, forge, push

LOWEST, HIGHEST = bytes(ID_BYTES), b"\xff" * ID_BYTES
NO_HASHES = bytes(RANGE_FANOUT * HASH_BYTES)
LOGS = 2_000

LOOPS: list[Callable[[int], Packet]] = [
    lambda _: Digest(LogId(LOWEST), LogId(HIGHEST), True, ()),
    lambda _: Ranges(LogId(LOWEST), 0, NO_HASHES),
    lambda n: Ping(n, bytes(8), bytes(8), False, LogId(LOWEST)),
    lambda _: MemberRanges(NodeId(LOWEST), 0, NO_HASHES),
    lambda _: MemberDigest(NodeId(LOWEST), NodeId(HIGHEST), ()),
]


def fill(party: Party) -> None:
    """It holds many logs, all over the space of ids."""
    ids = [LogId((n * 0x9E3779B97F4A7C15 % (1 << 64)).to_bytes(8, "big")) for n in range(1, LOGS)]
    for at in range(0, LOGS, 50):
        push(party, *(forge(log=log, stamp=at + 1) for log in ids[at : at + 50]))


@pytest.mark.parametrize("loop", LOOPS)
def test_a_loop_draws_no_more_than_the_account(loop: Callable[[int], Packet]) -> None:
    """400 questions at once, then 100 a second: the rest is dropped, and others are answered."""
    talk = Talk("ann", "bob")
    talk.meet()
    ann = talk["ann"]
    fill(ann)
    drawn = 0
    for second in range(5):
        packets = [loop(n + 1) for n in range(100 if second else 400)]
        ann.replica.receive(packets, EVE, AT, talk.wall, talk.now)
        for effect in ann.end_turn():
            if isinstance(effect, Send) and AT in effect.to:
                drawn += sum(map(len, pack(ann.id, effect.packets, PAYLOAD_BYTES)))
        talk.now += 1_000_000
    assert drawn <= 2 * (ACCOUNT_BYTES + 5 * BYTES_A_SECOND)


def test_one_that_is_held_off_keeps_nobody_else_from_an_answer() -> None:
    """Each address has accounts of its own."""
    talk = Talk("ann", "bob", "cyd")
    talk.meet()
    ann = talk["ann"]
    fill(ann)
    ann.replica.receive([LOOPS[0](1)] * 400, EVE, AT, talk.wall, talk.now)
    ann.carry_out()
    assert ann.facts.drops[Drop.REPLY_BUDGET]
    talk.settle()
