"""Fuzz: odd datagrams, sealed with the cluster's key, and odd control lines, to real daemons.

    python -m tests.daemon.fuzz [--datagrams N] [--lines M] [--seed K]

Three nodes run. Somebody who holds the key joins them as a member, answers their probes, and sends
them what `mutations` makes. Meanwhile one of the nodes comes through every state in which a node
can be: it catches up, takes a base, leaves, cannot write, or stands still. The lines come later.

Promise. No daemon ends by itself, nothing fails unexpectedly, no memory grows, and afterwards the
nodes agree, and what is said on each is shown on all.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from itertools import cycle
from random import Random

from flc_udp.model.address import split_host_port
from flc_udp.model.dots import VISITOR, NodeId
from flc_udp.model.errors import FlcError
from flc_udp.wire.packets import Join
from flc_udp.wire.seal import make_key, read_key
from tests.daemon.cluster import Cluster, Node
from tests.daemon.key_holder import ANSWER_S, KeyHolder
from tests.daemon.mutations import Payloads, odd_line
from tests.daemon.plays import performed
from tests.daemon.process import until
from tests.daemon.test_full_disk import fill_disk, make_room
from tests.daemon.wire import Wire

ROUND, BURST = 4_000, 200
"""A state lasts so many datagrams, and so many are sent before the nodes are asked for a sign that
they have read them."""

MEMBERS = 4

LINES_A_CONNECTION, LINES_AT_ONCE = 250, 25

GROWTH_BYTES_MAX = 48 << 20
"""By so much may the memory of a node grow after a quarter of everything was sent: hold-back and
wait buffers are full at some times, and not at others."""

SETTLE_S = 300.0


# --- The states of a node -------------------------------------------------------------------------


@asynccontextmanager
async def plain(_cho: Node, _others: list[Node]) -> AsyncIterator[None]:
    """It is well."""
    yield


@asynccontextmanager
async def catching_up(cho: Node, others: list[Node]) -> AsyncIterator[None]:
    """It was away while others said much."""
    cho.kill9()
    await others[0].control.say_many("ops", ["x" * 200] * 3_000)
    await cho.start(*(node.address for node in others))
    yield


@asynccontextmanager
async def taking_a_base(cho: Node, others: list[Node]) -> AsyncIterator[None]:
    """It begins with nothing, and the others do not keep all that was said."""
    cho.kill9()
    shutil.rmtree(cho.data)
    await cho.start(*(node.address for node in others))
    yield


@asynccontextmanager
async def leaving(cho: Node, others: list[Node]) -> AsyncIterator[None]:
    """It was told to leave."""
    cho.process.send_signal(signal.SIGTERM)
    yield
    assert await cho.ended() == 0
    await cho.start(*(node.address for node in others))


@asynccontextmanager
async def not_writing(cho: Node, _others: list[Node]) -> AsyncIterator[None]:
    """Its disk takes no more."""
    fill_disk(cho)
    with suppress(FlcError):
        await cho.control.say_many("ops", ["y" * 200] * 1_000)
    yield
    make_room(cho)


@asynccontextmanager
async def standing_still(cho: Node, _others: list[Node]) -> AsyncIterator[None]:
    """It is stopped."""
    cho.stop()
    yield
    cho.cont()


STATES = (plain, catching_up, taking_a_base, leaving, not_writing, standing_still)

# --- The datagrams --------------------------------------------------------------------------------


class Shooting:
    """Odd datagrams to three nodes, one of which comes through all states."""

    def __init__(self, nodes: list[Node], key: bytes, random: Random, round_datagrams: int) -> None:
        self._nodes = nodes
        self._key, self._random = key, random
        self._prober = KeyHolder(key, random, VISITOR)
        self._ids = [NodeId(random.randbytes(8)) for _ in range(MEMBERS)]
        """A few members take turns. Of many, each new one, all would be probed for long."""
        self._round_datagrams = round_datagrams
        self._sent: Counter[str] = Counter()
        self._unread = 0

    async def shoot_all(self, count: int, weigh: Callable[[], None]) -> None:
        """State after state, until so many are sent; `weigh` is called after a quarter."""
        *others, cho = self._nodes
        states = cycle(STATES)
        weighs_at = count // 4
        while (sent := self._sent.total()) < count:
            if sent >= weighs_at and (weighs_at := count):
                weigh()
            state = next(states)
            async with state(cho, others):
                await self._round(state.__name__, min(self._round_datagrams, count - sent))
                assert all(node.process.poll() is None for node in others), "a node ended"
                assert state is leaving or cho.process.poll() is None, "cho ended"
        self._prober.close()

    async def _round(self, state: str, count: int) -> None:
        """One member, with ids and blocks that were not there before, in one state of cho."""
        now_s = time.time()
        eve = KeyHolder(self._key, self._random, self._random.choice(self._ids), int(now_s))
        payloads = Payloads(self._random, await self._known_ids(), eve.row, int(now_s * 1_000))
        for number, start in enumerate(range(0, count, BURST)):
            if number % 4 == 0:
                eve.renew()
            for to in self._addresses():
                eve.say(Join(eve.row), to)
            self._burst(eve, payloads, min(BURST, count - start))
            self._sent[state] += min(BURST, count - start)
            for to in self._addresses():
                self._unread += not await self._prober.is_read(to)
            eve.listen(payloads)
        eve.close()

    def _burst(self, eve: KeyHolder, payloads: Payloads, count: int) -> None:
        *others, cho = self._addresses()
        for _ in range(count):
            to = cho if self._random.random() < 2 / 3 else self._random.choice(others)
            eve.shoot(payloads.next(), to)
            if self._random.random() < 1 / 16:
                eve.listen(payloads)

    def _addresses(self) -> list[tuple[str, int]]:
        return [split_host_port(node.address) for node in self._nodes]

    async def _known_ids(self) -> list[bytes]:
        """Those of the nodes, and of a log of each of the two that always answer."""
        ids = [*self._ids, *(bytes.fromhex(node.id) for node in self._nodes)]
        for node in self._nodes[:2]:
            said = await node.control.say("ops", "here")
            ids.append(bytes.fromhex(said.dot.partition(":")[0]))
        return ids

    def figures(self) -> list[str]:
        """How many were sent in each state of cho, and how often a node gave no sign."""
        sent = ", ".join(f"{count} {state}" for state, count in self._sent.items())
        return [f"sent: {sent}", f"no answer within {ANSWER_S} s: {self._unread} pings"]


# --- The control lines ----------------------------------------------------------------------------


async def odd_lines(
    nodes: list[Node], count: int, random: Random, weigh: Callable[[], None]
) -> None:
    """Send so many, over ever new connections; after each few the connection has to go on."""
    for number in range(0, count, LINES_A_CONNECTION):
        if number == count // 4 // LINES_A_CONNECTION * LINES_A_CONNECTION:
            weigh()
        opened: list[Wire] = []
        wire = await Wire.to(random.choice(nodes), opened)
        for start in range(number, min(number + LINES_A_CONNECTION, count), LINES_AT_ONCE):
            end = f"end {start}"
            lines = [odd_line(random, start + n) for n in range(LINES_AT_ONCE)]
            hello = json.dumps({"op": "hello", "id": end}).encode() + b"\n"
            await asyncio.gather(wire.send(*lines, hello), answered(wire, end))
        await wire.close()


async def answered(wire: Wire, end: str) -> None:
    """Read on until the answer to this id."""
    while (await wire.read()).get("id") != end:
        pass


# --- Afterwards -----------------------------------------------------------------------------------


async def settle(nodes: list[Node]) -> float:
    """They agree, and what is said on each is shown on all; give the seconds that it took."""
    began_s = time.monotonic()
    await until("the nodes agree", partial(agree, nodes), SETTLE_S)
    agreed_s = time.monotonic() - began_s
    follows = [(await node.client()).follow("ops") for node in nodes]
    for node in nodes:
        await node.control.say("ops", f"at last, {node.name}")
    for follow in follows:
        heard = {(await anext(follow)).message["body"] for _ in nodes}
        assert heard == {f"at last, {node.name}" for node in nodes}
    await until("the nodes agree again", partial(agree, nodes), SETTLE_S)
    return agreed_s


async def agree(nodes: list[Node]) -> bool:
    """Whether all hold the same."""
    digests = [await node.ask("digest") for node in nodes]
    return len({(digest["root"], digest["messages"]) for digest in digests}) == 1


async def nothing_failed(nodes: list[Node]) -> None:
    """Each of them takes a say, none met anything that nobody expected or holds a request."""
    for node in nodes:
        await node.control.say("ops", "still here")
        assert (await node.ask("status"))["failures"] == {}, node.name
        await until(f"{node.name} holds no request", partial(holds_nothing, node))


async def holds_nothing(node: Node) -> bool:
    """Whether all that clients asked was answered, or nobody waits for it."""
    return (await node.ask("status"))["clients"]["held_bytes"] == 0


# --- The play -------------------------------------------------------------------------------------


async def fuzz(
    cluster: Cluster,
    datagrams: int,
    lines: int,
    seed: int,
    round_datagrams: int = ROUND,
    *,
    settles: bool = True,
) -> str:
    """Nobody ends, nothing fails, nothing grows, and the nodes agree; give the figures.

    To agree again takes the nodes as long as a member that claimed much, and fell silent, takes to
    be given up.
    """
    key = make_key()
    (cluster.home / "key").write_text(key)
    (cluster.home / "flc.toml").write_text("retention_bytes = 1048576\n")
    words = ("--key-file", str(cluster.home / "key"), "--config", str(cluster.home / "flc.toml"))
    nodes = await cluster.start(3, *words)
    ann, ben, cho = nodes
    random = Random(seed)
    weights = [[node.resident_bytes() for node in (ann, ben)]]

    def weigh() -> None:
        weights.append([node.resident_bytes() for node in (ann, ben)])

    shooting = Shooting([ann, ben, cho], read_key(key, "the key"), random, round_datagrams)
    await shooting.shoot_all(datagrams, weigh)
    await odd_lines([ann, ben], lines, random, weigh)
    weigh()
    await nothing_failed(nodes)
    growth = [after - before for before, after in zip(weights[1], weights[-1], strict=True)]
    assert max(growth) <= GROWTH_BYTES_MAX, weights
    figures = [*shooting.figures(), f"ann and ben had {in_mb(weights)} MB"]
    if settles:
        figures.append(f"the nodes agreed after {await settle(nodes):.0f} s")
    return "\n".join(figures)


def in_mb(weights: list[list[int]]) -> str:
    """Several moments, in their order."""
    return ", then ".join(" and ".join(f"{size >> 20}" for size in both) for both in weights)


def main() -> int:
    """Play it, and report; 1 if it failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.daemon.fuzz", description=__doc__)
    parser.add_argument("--datagrams", type=int, default=1_000_000, help="(default 1,000,000)")
    parser.add_argument("--lines", type=int, default=100_000, help="of control (default 100,000)")
    parser.add_argument("--seed", type=int, default=1, help="of all that is sent (default 1)")
    args = parser.parse_args()
    play = partial(fuzz, datagrams=args.datagrams, lines=args.lines, seed=args.seed)
    outcome = asyncio.run(performed(play))
    sys.stdout.write(f"{outcome.mark}\n{outcome.figures}\n")
    sys.stderr.write(outcome.problem)
    return outcome.mark == "FAILED"


if __name__ == "__main__":
    sys.exit(main())
