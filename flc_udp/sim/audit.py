"""What must hold when everything is quiet: the disks are read, and all in them is computed anew.

Rules. Every running node has, from its own floor on, everything that was ever said, byte for byte,
in an order that is a linear extension of causality. So from the highest floor on all nodes have the
same. The clocks, frontiers and heads that the store keeps beside the messages follow from
everything that was said, whatever was pruned and whatever bases were taken. What was lost with a
disk, so that no node knows of it, counts as never said.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from flc_udp.model.clocks import VectorClock
from flc_udp.model.dots import Dot, LogId
from flc_udp.model.history import NO_HEAD, Edge, Head, History
from flc_udp.model.message import Message, decode, history_key
from flc_udp.sim.checks import Checks
from flc_udp.sim.evidence import Found, Violation
from flc_udp.store.log import Log, Reader

FRONTIER_MESSAGES_MAX = 1_000
"""Computing frontiers from nothing takes quadratic time, so it is done for short histories only."""

PAGE = 500


def by_position(reader: Reader, position: int = 0) -> Iterator[tuple[int, Message]]:
    """(position, message) of everything that stands on a disk after a position."""
    while page := reader.after(position, None, PAGE):
        yield from ((at, decode(encoded)) for at, encoded in page)
        position = page[-1][0]


def found(log: Log) -> Found:
    """Read what stands on a disk."""
    reader = log.reader()
    return Found(by_position(reader), log.load(), reader.last_position())


def audit(checks: Checks, logs: Iterable[tuple[str, Log]]) -> None:
    """Compare the disks of all running nodes. Raises Violation."""
    said: Canon | None = None
    for name, log in logs:
        kept = log.load()
        if said is None:
            minted = (minted.message for minted in checks.minted.values())
            said = Canon([m for m in minted if m.seq <= kept.heads.get(m.log, NO_HEAD).seq])
            said.demand_causal()
        said.compare(name, log.reader(), kept)
    checks.demand_rest()


class Canon:
    """All messages that some disk ever took and the nodes know, and what follows from them."""

    def __init__(self, messages: list[Message]) -> None:
        self.messages = sorted(messages, key=history_key)
        self.heads: dict[LogId, Head] = {}
        self.clocks: dict[str, dict[LogId, int]] = {}
        for message in self.messages:
            self.heads[message.log] = Head(message.seq, message.hash, message.stamp)
            self.clocks.setdefault(message.room, {})[message.log] = message.seq

    def demand_causal(self) -> None:
        """In printed order no log has a gap, and nothing stands before its causes."""
        seen: dict[LogId, int] = {}
        for message in self.messages:
            needed = [Dot(message.log, message.seq - 1), *message.causes]
            if any(seen.get(log, 0) < seq for log, seq in needed):
                raise Violation(f"{message.dot} stands in the history before a cause of it")
            seen[message.log] = message.seq

    def compare(self, name: str, reader: Reader, kept: History) -> None:
        """Demand that a disk's tables and messages are what they have to be."""
        if kept.heads != self.heads:
            raise Violation(f"{name}: log heads are not those of the messages")
        for room, clock in self.clocks.items():
            if reader.clock(room) != VectorClock(clock):
                raise Violation(f"{name}: the clock of {room} is not that of its messages")
        if len(self.messages) <= FRONTIER_MESSAGES_MAX and kept.frontiers != self.frontiers():
            raise Violation(f"{name}: frontiers are not those of the messages")
        self._compare_history(name, reader, kept)

    def _compare_history(self, name: str, reader: Reader, kept: History) -> None:
        """Everything from the floor on is held, and below it what is above the base of its log."""
        bases = {log: head.seq for log, head in kept.bases.items()}
        held = [m for m in self.messages if m.seq > bases.get(m.log, 0)]
        early = next(
            (m for m in self.messages if m.stamp >= kept.floor and m.seq <= bases.get(m.log, 0)),
            None,
        )
        if early is not None:
            raise Violation(f"{name}: {early.dot} is not kept, and above the floor {kept.floor}")
        history = [encoded for _, encoded in reader.history(None)]
        if history != [message.encoded for message in held]:
            raise Violation(f"{name}: {_difference(history, held)}")

    def frontiers(self) -> dict[str, dict[LogId, Edge]]:
        """{room: {log: edge}}, from whole vector clocks: what no other message has seen."""
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


def _difference(history: list[bytes], held: list[Message]) -> str:
    pairs = enumerate(zip(history, held, strict=False))
    at = next((at for at, (a, b) in pairs if a != b.encoded), min(len(history), len(held)))
    return f"has another history from message {at} of {len(history)} and {len(held)} on"
