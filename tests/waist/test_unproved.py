"""Who has not proved itself changes nothing, and is sent no more than it sent.

It may hold the key, as everybody does in an open cluster, or have recorded what it sends.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import msgpack
import pytest

from flc_udp.model.address import Address
from flc_udp.waist.node import Node
from flc_udp.waist.sessions import COOKIE_BYTES
from flc_udp.wire.packets import Cookie
from flc_udp.wire.seal import receiver_of
from tests.waist.credulous import believe_nobody
from tests.waist.stage import ANN, BOB, Stage
from tests.waist.test_odd_packets import PACKETS, STATES

EACH = 16
"""So many of the packets of one kind are tried, from the first to the last."""

SOURCES = (BOB.address, Address("10.0.0.9", 9))
"""A member's address, which somebody else may write into a datagram, and nobody's."""


def seen(node: Node) -> object:
    """All that a datagram could change at once."""
    facts = node.facts()
    return replace(facts, drops={}), node.hearing.strangers(0), node.queued(), node.apart_by_key()


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("kind", PACKETS)
def test_it_changes_nothing_and_draws_no_more_than_it_sent(
    kind: str, state: Callable[[], Stage]
) -> None:
    """Each datagram draws one cookie or nothing."""
    made = state()
    node = believe_nobody(made.node)
    for _ in range(3):
        made.turn()  # Whatever was due is done.
    made.sizes.clear()
    made.packets.clear()
    before, packets = seen(node), PACKETS[kind]
    for at, packet in enumerate(packets[:: max(len(packets) // EACH, 1)]):
        source = SOURCES[at % 2]
        payload = msgpack.packb([BOB.id, packet])
        receiver = (b"", receiver_of(ANN.id), receiver_of(BOB.id))[at % 3]
        datagram = made.seal.close(payload, receiver)
        node.datagram_received(datagram, source)
        made.turn()
        assert seen(node) == before, packet
        assert all(to == source for _, to in made.packets), packet
        assert all(isinstance(sent, Cookie) for sent, _ in made.packets), packet
        assert sum(made.sizes) <= len(datagram), packet
        assert made.sizes in ([], [COOKIE_BYTES]) or sum(made.sizes) < COOKIE_BYTES
        made.sizes.clear()
        made.packets.clear()
    assert node.drops().total() > 0
