"""What must hold when everything is quiet: the disks are read, and all in them is computed anew.

Rules. Every running node has, from its own floor on, everything that was ever said, byte for byte,
in an order that is a linear extension of causality. So from the highest floor on all nodes have the
same. The clocks, frontiers and heads that the store keeps beside the messages follow from
everything that was said, whatever was pruned and whatever bases were taken. What was lost with a
disk, so that no node knows of it, counts as never said.
"""

from collections.abc import Iterable
from itertools import zip_longest

from flc_udp.model.block import Block
from flc_udp.model.clocks import VectorClock
from flc_udp.model.dots import Dot, LogId
from flc_udp.model.history import NO_HEAD, Edge, Head, History
from flc_udp.model.message import history_key
from flc_udp.model.past import Past
from flc_udp.sim.checks import Checks
from flc_udp.sim.violation import Violation
from flc_udp.store.log import Log, Reader


def audit(checks: Checks, logs: Iterable[tuple[str, Log]]) -> None:
    """Compare the disks of all running nodes. Raises Violation."""
    said: Canon | None = None
    for name, log in logs:
        kept = log.load()
        if said is None:
            blocks = {minted.block.dot: minted.block for minted in checks.minted.values()}
            known = (b for b in blocks.values() if b.last <= kept.heads.get(b.log, NO_HEAD).seq)
            said = Canon(list(known), has_pruned_rotten=checks.has_pruned_rotten)
            said.demand_causal()
        if (problem := said.problem(log.reader(), kept)) is not None:
            raise Violation(f"{name}: {problem}")
    checks.demand_rest()


class Canon:
    """All blocks that some disk ever took and the nodes know, and what follows from them."""

    def __init__(self, blocks: list[Block], *, has_pruned_rotten: bool) -> None:
        self.blocks = sorted(blocks, key=lambda block: (block.stamp, block.log, block.first))
        self.messages = [message for block in self.blocks for message in block.messages()]
        assert self.messages == sorted(self.messages, key=history_key)
        self.heads = {b.log: Head(b.last, b.hash, b.stamp) for b in self.blocks}
        self.clocks: dict[str, dict[LogId, int]] = {}
        for message in self.messages:
            self.clocks.setdefault(message.room, {})[message.log] = message.seq
        self.frontiers = self._frontiers()
        self._has_pruned_rotten = has_pruned_rotten

    def demand_causal(self) -> None:
        """In printed order no log has a gap, and nothing stands before its causes."""
        seen: dict[LogId, int] = {}
        for message in self.messages:
            needed = [Dot(message.log, message.seq - 1), *message.causes]
            if any(seen.get(log, 0) < seq for log, seq in needed):
                raise Violation(f"{message.dot} stands in the history before a cause of it")
            seen[message.log] = message.seq

    def problem(self, reader: Reader, kept: History) -> str | None:
        """Why a disk's tables and messages are not what they have to be, in words."""
        if kept.heads != self.heads:
            return "log heads are not those of the messages"
        for room, clock in self.clocks.items():
            if reader.clock(room) != VectorClock(clock):
                return f"the clock of {room} is not that of its messages"
        if kept.frontiers != self.frontiers and not self._may_be(kept.frontiers):
            return "frontiers are not those of the messages"
        # Everything from the floor on is held, and below it what is above the base of its log.
        held: list[bytes] = []
        for block in self.blocks:
            if block.log not in kept.bases or block.first > kept.bases[block.log].seq:
                held.append(block.encoded)
            elif block.stamp >= kept.floor:
                return f"{block.dot} is not kept, and above the floor {kept.floor}"
        history = [encoded for _, encoded in reader.blocks(None)]
        return None if history == held else _difference(history, held)

    def _may_be(self, frontiers: dict[str, dict[LogId, Edge]]) -> bool:
        """Whether these have more edges than they must, where blocks were pruned as they rotted.

        The causes of such a block are not known any more, so an edge that it had seen stays until
        a message names it. Whoever takes the base of such a node has these edges, too.
        """
        edges = {(room, *edge) for room, of in frontiers.items() for edge in of.items()}
        least = {(room, *edge) for room, of in self.frontiers.items() for edge in of.items()}
        said = {(m.room, m.log, Edge(m.seq, m.stamp)) for m in self.messages}
        return self._has_pruned_rotten and least <= edges <= said

    def _frontiers(self) -> dict[str, dict[LogId, Edge]]:
        """{room: {log: edge}}, from whole vector clocks: what no other message has seen."""
        frontiers: dict[str, dict[LogId, Edge]] = {room: {} for room in self.clocks}
        past = Past()
        for message in self.messages:
            seen, edges = past.pass_over(message), frontiers[message.room]
            for log in [log for log, edge in edges.items() if seen[log] >= edge.seq]:
                del edges[log]
            edges[message.log] = Edge(message.seq, message.stamp)
        return frontiers


def _difference(history: list[bytes], held: list[bytes]) -> str:
    pairs = enumerate(zip_longest(history, held))
    at = next(at for at, (found, expected) in pairs if found != expected)
    return f"has another history from block {at} of {len(history)} and {len(held)} on"
