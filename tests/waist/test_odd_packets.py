"""Every kind of packet with every field at its limits, to a node in every state: none ends it.

The packets are sealed with the cluster's key, so a broken or hostile member may send them. A table
of values is tried in each place, and those that the codec takes there are sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import cycle
from random import Random
from typing import Any

import msgpack
import pytest

from flc_udp.config import STAMP_LIMIT
from flc_udp.model.address import Address
from flc_udp.model.block import decode
from flc_udp.model.dots import BEGINNING, Dot, LogId
from flc_udp.model.history import BaseLog, BaseRoom, Head
from flc_udp.wire.codec import FORMS
from flc_udp.wire.forms import Struct
from flc_udp.wire.packets import (
    Ack,
    Base,
    BaseEnd,
    BasePull,
    Have,
    Ping,
    Pull,
    Replay,
    ReplayEnd,
)
from flc_udp.wire.rows import Want
from tests.model.kept import history_of
from tests.model.stories import Story
from tests.search import TIMES
from tests.waist.stage import ANN, BOB, Stage, stage
from tests.wire.odd_values import fitting, values

STRANGER, VISITOR, FAR = b"stranger", bytes(8), LogId(b"far away")

NO_ROOT = bytes(8)

DRAWN = 100 * TIMES

ANSWER_BYTES_MAX = 256 << 10
"""One packet draws at most so much: twice what a pull may ask for."""

SENDERS = [
    (BOB.id, BOB.address),
    (BOB.id, Address("10.0.0.9", 9)),
    (STRANGER, Address("10.0.0.3", 7352)),
    (VISITOR, Address("10.0.0.4", 7352)),
    (ANN.id, ANN.address),
]
"""A member, someone else under its id, a node that nobody knows, a visitor, and the node itself."""


def odd_packets(struct: Struct[Any], kind: int, pool: list[Any]) -> Iterator[list[Any]]:
    """Packets of one kind: each field at each of its values, the others at their first and last.

    And some with each field at any of its values.
    """
    fields = [fitting(form, pool) for form in struct.fields.values()]
    assert all(fields), f"nothing fits a field of {struct.made.__name__}"
    for others in (0, -1):
        usual = [found[others] for found in fields]
        yield [kind, *usual]
        for at, found in enumerate(fields):
            for value in found:
                yield [kind, *usual[:at], value, *usual[at + 1 :]]
    random = Random(kind)
    for _ in range(DRAWN):
        yield [kind, *map(random.choice, fields)]


# --- The states of a node -----------------------------------------------------------------------


def alone() -> Stage:
    """It knows nobody."""
    return Stage()


def catching_up() -> Stage:
    """It was told of very much that it has not, and got a little of it."""
    made = stage()
    first = Story().say("eve")
    made.receive(Have(True, (Dot(first.log, 1 << 40),)))
    made.turn(1_000_000)
    (pull,) = made.of_kind(Pull)
    end = ReplayEnd(pull.nonce, 1, first.stamp + 1, 0, ())
    made.receive(Replay(pull.nonce, (first.encoded,)), end)
    made.turn(1_000)
    made.turn(1_000_000)
    assert made.node.catching_up
    return made


def adopting() -> Stage:
    """It waits until another node's base is written."""
    made = stage()
    made.receive(Have(True, (Dot(FAR, 1),)))
    made.turn(1_000_000)
    (pull,) = made.of_kind(Pull)
    made.receive(ReplayEnd(pull.nonce, 0, STAMP_LIMIT, 1_000, (FAR,)))
    for _ in range(2):
        made.turn(1_000_000)
    wanted, *_ = made.of_kind(BasePull)
    base = (BaseLog(FAR, Head(1, bytes(8), 999), None, (BaseRoom("ops", 1, 999),)),)
    made.receive(Base(wanted.nonce, base), BaseEnd(wanted.nonce, 1_000, 1, 1, BEGINNING))
    made.turn()
    assert made.adopts == [(1_000, base)]
    return made


def leaving() -> Stage:
    """It was told to leave."""
    made = stage()
    made.node.leave()
    made.turn()
    return made


def failing() -> Stage:
    """Its disk failed, and the log has not been read again."""
    made = stage()
    made.say("lost")
    made.turn(1_000_000)
    made.commits.clear()
    made.node.commit_failed("disk full")
    return made


def recovered() -> Stage:
    """Its disk failed a moment ago."""
    made = failing()
    made.recover_now()
    return made


def speaking() -> Stage:
    """It has said more than one pull may draw, and a commit is under way."""
    made = stage()
    for body in ("a", *["x" * 60_000] * 8, "b"):
        if made.commits:
            made.finish()
        made.say(body, receipt=True)
        made.turn(1_000_000)
    assert made.commits
    return made


def stopped() -> Stage:
    """It did not run for a minute."""
    made = stage()
    made.time += 60_000_000
    return made


STATES = (alone, stage, catching_up, adopting, leaving, failing, recovered, speaking, stopped)

# --- The packets ----------------------------------------------------------------------------------

IDS = (BOB.id, ANN.id, STRANGER, VISITOR, b"\xff" * 8, b"", FAR, speaking().node.log)
"""The last one is the log of each node here that spoke first of all."""

PACKETS = {
    struct.made.__name__: list(odd_packets(struct, kind, values(IDS, BOB)))
    for kind, struct in FORMS.items()
}


def send(made: Stage, sender: bytes, source: Address, packet: list[Any]) -> int:
    """One packet as it is, and a turn; give how many bytes were sent for it."""
    made.node.datagram_received(made.seal.close(msgpack.packb([sender, packet])), source)
    made.turn(2_000)
    size = sum(made.sizes)
    for told in (made.packets, made.trace, made.sizes):
        told.clear()
    return size


def assert_works(made: Stage) -> None:
    """What is said is durable, shown, and told to a peer, who gets it when it asks."""
    said = made.say("afterwards")
    for _ in range(20):
        made.turn(500_000)
        if made.commits:
            made.finish()
    assert said.is_durable
    made.packets.clear()
    dot = said.dots()[0]
    made.receive(Ping(7, NO_ROOT, NO_ROOT, False, dot.log))
    made.receive(Pull(7, 4_096, True, 0, STAMP_LIMIT, (Want(dot.log, dot.seq, dot.seq),)))
    made.turn(2_000)
    assert made.node.root in [ack.root for ack in made.of_kind(Ack)]
    (block,) = [block for replay in made.of_kind(Replay) for block in replay.blocks]
    assert decode(block).bodies == ("afterwards",)
    assert ("show", "afterwards") in [(what, shown[-1]) for what, shown in made.trace if shown]


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("kind", PACKETS)
def test_none_of_them_ends_a_node(kind: str, state: Callable[[], Stage]) -> None:
    """It goes on, answers each with few bytes, and works afterwards."""
    made = state()
    senders = cycle(SENDERS)
    for packet in PACKETS[kind]:
        sender, source = next(senders)
        assert send(made, sender, source, packet) <= ANSWER_BYTES_MAX, packet
        if made.commits:
            made.finish()
    for _ in range(20):
        made.turn(500_000)
    if state is adopting:
        made.node.adopted(history_of(made.disk.blocks))
    elif state is failing:
        made.recover_now()
        made.turn(2_000_000)
    if state is leaving:
        assert made.node.has_left
    else:
        assert_works(made)
