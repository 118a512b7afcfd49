"""What a play measured: copies, bytes, packets, and how soon everybody saw a message."""

from collections import Counter
from collections.abc import Sequence
from statistics import median
from typing import Annotated, NamedTuple

import msgpack

from flc_udp.model.dots import Dot
from flc_udp.model.errors import Drop
from flc_udp.model.message import Message
from flc_udp.model.units import MS_US
from flc_udp.sim.world import World


class SimFigures(NamedTuple):
    """The result of a play that kept every promise, each figure with what people are told.

    The bytes are those of all traffic during the talk, probes included. `trace` is the hash of all
    its lines.
    """

    nodes: Annotated[int, "nodes"]
    messages: Annotated[int, "messages said"]
    converged_after_ms: Annotated[int, "last word to equal histories, ms"]
    latency_p50_ms: Annotated[float | None, "said to shown everywhere, ms, half"]
    latency_p99_ms: Annotated[float | None, "                          99 of 100"]
    copies_per_node: Annotated[float | None, "copies of a message a node gets"]
    repaired_percent: Annotated[float | None, "first copies that were asked for, %"]
    causes_bytes_p50: Annotated[int | None, "bytes of causes in a message, half"]
    bytes_per_message_per_node: Annotated[int | None, "bytes a node sends for a message"]
    packets: Annotated[int, "datagrams sent"]
    pruned: Annotated[int, "messages pruned, over all nodes"]
    bases_taken: Annotated[int, "bases taken of others"]
    trace: Annotated[str, "trace"] = ""


class Meter:
    """Watches what is shown, from its creation until it is read."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._since = world.heap.now
        self._everybody = (1 << len(world.machines)) - 1
        self._seen_by: dict[Dot, int] = {}
        self._latencies: list[int] = []
        self._firsts = 0
        self._before = world.network.datagrams, world.network.bytes, self._counted()
        world.watchers.append(self._watch)

    @property
    def messages(self) -> int:
        """How many messages were shown by any node."""
        return len(self._seen_by)

    def read(self, converged_after_ms: int) -> SimFigures:
        """The figures so far."""
        nodes, messages = len(self._world.machines), len(self._seen_by)
        network, firsts = self._world.network, self._firsts
        datagrams, size, before = self._before
        counted, latencies = self._counted(), sorted(self._latencies)
        since = counted - before
        minted = self._world.checks.minted
        causes_bytes = [_causes_bytes(minted[dot].message) for dot in self._seen_by]
        copies = firsts + since[Drop.DUPLICATE_BLOCK]
        # Replayed blocks count though they were lost.
        repaired = since["blocks replayed"]
        return SimFigures(
            nodes=nodes,
            messages=messages,
            converged_after_ms=converged_after_ms,
            latency_p50_ms=_share(latencies, 0.5),
            latency_p99_ms=_share(latencies, 0.99),
            copies_per_node=round(copies / firsts, 2) if firsts else None,
            repaired_percent=round(100 * repaired / firsts, 1) if firsts else None,
            causes_bytes_p50=int(median(causes_bytes)) if causes_bytes else None,
            bytes_per_message_per_node=(
                (network.bytes - size) // messages // nodes if messages else None
            ),
            packets=network.datagrams - datagrams,
            pruned=counted["messages pruned"],
            bases_taken=counted["bases taken"],
        )

    def _counted(self) -> Counter[str]:
        """What all nodes of all lives counted."""
        counters = (machine.counted() for machine in self._world.machines.values())
        return sum(counters, Counter())

    def _watch(self, number: int, messages: Sequence[Message]) -> None:
        minted, now = self._world.checks.minted, self._world.heap.now
        for message in messages:
            dot, said_at = message.dot, minted[message.dot].utterance.at
            if said_at < self._since:
                continue
            seen_by = self._seen_by.get(dot, 0)
            is_first_of_block = dot == minted[dot].block.dot
            self._firsts += is_first_of_block and minted[dot].author != number
            # A machine that came later than this counts for none of them.
            self._seen_by[dot] = after = (seen_by | 1 << number) & self._everybody
            if after == self._everybody != seen_by:
                self._latencies.append(now - said_at)


def _causes_bytes(message: Message) -> int:
    flat = [part for dot in message.causes for part in dot]
    return len(msgpack.packb(flat)) - 1  # without the byte of the empty array


def _share(ordered: Sequence[int], share: float) -> float | None:
    """The value, in ms, below which this share of the values lies."""
    if not ordered:
        return None
    return round(ordered[min(int(share * len(ordered)), len(ordered) - 1)] / MS_US, 1)
