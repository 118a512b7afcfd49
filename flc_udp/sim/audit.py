"""What must hold when all is quiet: the disks are read, and everything in them is reckoned anew.

Rules. Every running node has the same history, byte for byte; the history is a linear extension of
causality; what the store keeps beside the messages (clocks, frontiers, heads) is what follows from
the messages alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from flc_udp.model.clocks import VectorClock
from flc_udp.model.dots import Dot, LogId
from flc_udp.model.history import Edge, Head
from flc_udp.model.message import Message, decode, history_key
from flc_udp.sim.checks import Checks, Violation
from flc_udp.store.log import Log, Reader

FRONTIER_MESSAGES_MAX = 1_000
"""Reckoning frontiers from nothing is quadratic: only short histories pay it."""

PAGE = 500


def by_position(reader: Reader, position: int = 0) -> Iterator[tuple[int, Message]]:
    """(position, message) of all that a disk has after a position, in the order of appending."""
    while page := reader.after(position, None, PAGE):
        yield from ((at, decode(encoded)) for at, encoded in page)
        position = page[-1][0]


def audit(checks: Checks, logs: Iterable[tuple[str, Log]]) -> None:
    """Compare the disks of all running nodes; raises Violation."""
    reckoned: Reckoned | None = None
    for name, log in logs:
        history = [encoded for _, encoded in log.reader().history(None)]
        if reckoned is None:
            reckoned = Reckoned(history)
            reckoned.demand_causal()
        if history != reckoned.history:
            raise Violation(f"{name}: {_difference(history, reckoned.history)}")
        reckoned.compare(name, log)
    checks.demand_rest()


def _difference(history: list[bytes], first: list[bytes]) -> str:
    pairs = enumerate(zip(history, first, strict=False))
    at = next((at for at, (a, b) in pairs if a != b), min(len(history), len(first)))
    return f"has another history from message {at} of {len(history)} and {len(first)} on"


class Reckoned:
    """A history, and all that follows from its messages."""

    def __init__(self, history: list[bytes]) -> None:
        self.history = history
        self.messages = [decode(encoded) for encoded in history]
        self.heads: dict[LogId, Head] = {}
        self.clocks: dict[str, dict[LogId, int]] = {}
        for message in self.messages:
            self.heads[message.log] = Head(message.seq, message.hash, message.stamp)
            self.clocks.setdefault(message.room, {})[message.log] = message.seq

    def demand_causal(self) -> None:
        """In the printed order, logs have no gap and nothing stands before its causes."""
        seen: dict[LogId, int] = {}
        keys = [history_key(message) for message in self.messages]
        if keys != sorted(keys):
            raise Violation("the history is not sorted by (stamp, log, seq)")
        for message in self.messages:
            needed = [Dot(message.log, message.seq - 1), *message.causes]
            if any(seen.get(log, 0) < seq for log, seq in needed):
                raise Violation(f"{message.dot} stands in the history before a cause of it")
            seen[message.log] = message.seq

    def compare(self, name: str, log: Log) -> None:
        """Demand of the store's tables what follows from its messages."""
        reader, kept = log.reader(), log.load()
        if kept.heads != self.heads:
            raise Violation(f"{name}: log heads are not those of the messages")
        for room, clock in self.clocks.items():
            if reader.clock(room) != VectorClock(clock):
                raise Violation(f"{name}: the clock of {room} is not that of its messages")
        if len(self.messages) <= FRONTIER_MESSAGES_MAX and kept.frontiers != self.frontiers():
            raise Violation(f"{name}: frontiers are not those of the messages")

    def frontiers(self) -> dict[str, dict[LogId, Edge]]:
        """{room: {log: edge}}, by whole vector clocks: what no other message has seen."""
        frontiers: dict[str, dict[LogId, Edge]] = {room: {} for room in self.clocks}
        pasts: dict[Dot, dict[LogId, int]] = {}
        last: dict[tuple[str, LogId], Dot] = {}
        for message in self.messages:
            past: dict[LogId, int] = {}
            for dot in (*message.causes, last.get((message.room, message.log))):
                for log, seq in pasts.get(dot, {}).items() if dot is not None else ():
                    past[log] = max(seq, past.get(log, 0))
            edges = frontiers[message.room]
            for log in [log for log, edge in edges.items() if past.get(log, 0) >= edge.seq]:
                del edges[log]
            edges[message.log] = Edge(message.seq, message.stamp)
            past[message.log] = message.seq
            pasts[message.dot] = past
            last[message.room, message.log] = message.dot
        return frontiers
