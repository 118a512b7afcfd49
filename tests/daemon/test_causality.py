import asyncio
from collections.abc import AsyncIterator
from typing import Any

from flc_udp.client import Client, Shown
from tests.daemon.cluster import Cluster
from tests.daemon.process import DEADLINE_S
from tests.daemon.relay import Faults
from tests.daemon.scenarios import assert_causes_first, shown_by

EXCHANGES = 25


class Talker:
    """Speaks on one node, knows what it was shown there, and notes it with each thing it says."""

    def __init__(self, client: Client) -> None:
        self.said: dict[str, frozenset[str]] = {}
        """{dot: the dots it had been shown when it said that}."""
        self._client = client
        self._follow: AsyncIterator[Shown] = client.follow("ops", position=0)
        self._seen: set[str] = set()

    async def say(self, body: str) -> str:
        """Say something; its dot."""
        seen = frozenset(self._seen)
        dot = (await self._client.say("ops", body)).dot
        self.said[dot] = seen
        return dot

    async def hear(self, dot: str) -> None:
        """Wait until it is shown here."""
        async with asyncio.timeout(DEADLINE_S):
            while dot not in self._seen:
                self._seen.add((await anext(self._follow)).message["dot"])


async def converse(one: Talker, other: Talker) -> int:
    """Each replies only to what it has been shown; the number of messages."""
    for number in range(EXCHANGES):
        question = await one.say(f"question {number}")
        await other.hear(question)
        reply = await other.say(f"reply {number}")
        await one.hear(reply)
    return 2 * EXCHANGES


def assert_nothing_before_what_was_seen(shown: list[dict[str, Any]], talker: Talker) -> None:
    """Whoever shows what the talker said has shown before what the talker had seen."""
    before: set[str] = set()
    for message in shown:
        assert talker.said.get(message["dot"], frozenset()) <= before
        before.add(message["dot"])


async def test_no_reply_is_shown_before_its_cause(cluster: Cluster) -> None:
    """A node that was cut off during a conversation shows all of it, each reply after its cause."""
    relay, (ann, ben, cho) = await cluster.start_relayed(3, seed=4)
    one, other = Talker(await ann.client()), Talker(await ben.client())
    relay.isolate("cho")
    count = await converse(one, other)
    assert await cho.history() == b""
    relay.heal()
    await cluster.converged(ann, ben, cho, messages=count)

    shown = await shown_by(cho, "ops")
    assert len(shown) == count
    assert_causes_first(shown)
    for talker in (one, other):
        assert_nothing_before_what_was_seen(shown, talker)


async def test_noise_on_the_network_changes_no_order(cluster: Cluster) -> None:
    """Lost, doubled and overtaken datagrams delay messages and never reorder them."""
    relay, nodes = await cluster.start_relayed(3, seed=5)
    ann, ben, cho = nodes
    relay.faults = Faults(loss=0.15, duplication=0.15, reordering=0.4)
    count = await converse(Talker(await ann.client()), Talker(await ben.client()))
    relay.heal()
    await cluster.converged(*nodes, messages=count)

    assert relay.lost > 0
    assert_causes_first(await shown_by(cho, "ops"))


async def test_a_one_way_cut_is_walked_around(cluster: Cluster) -> None:
    """Where one direction between two nodes is dead, messages still go through the third."""
    relay, nodes = await cluster.start_relayed(3, seed=6)
    ann = nodes[0]
    relay.cut("ann", "cho")
    said = await ann.flc("say", "ops", "can you hear me?")

    history = await cluster.converged(*nodes, messages=1)
    assert said.out.decode().strip() in history.decode()
    assert said.code == 0
