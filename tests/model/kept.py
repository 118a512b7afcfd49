"""Blocks in a list, read as a node reads its log."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from flc_udp.config import STAMP_LIMIT
from flc_udp.model.block import Block
from flc_udp.model.dots import Dot, LogId
from flc_udp.model.history import BaseLog, Head, History, PlacedBlock, RottenBlock, advance


def history_of(blocks: Iterable[Block]) -> History:
    """What a log with these blocks tells a newborn core."""
    history = History()
    for block in blocks:
        history.heads[block.log] = Head(block.last, block.hash, block.stamp)
        if block.origin is not None:
            history.origins[block.log] = block.origin
        advance(history.frontiers.setdefault(block.room, {}), block)
    return history


class KeptInList:
    """`waist.ports.Reads` over a list that others append to."""

    def __init__(self, blocks: list[Block]) -> None:
        self.blocks = blocks

    def replay(
        self,
        spans: Sequence[tuple[LogId, int, int]],
        bytes_max: int,
        after: int = 0,
        below: int = STAMP_LIMIT,
    ) -> tuple[list[bytes], int]:
        """At least one, else as many as the credit takes; and the stamp of the next."""
        found = [
            block
            for block in sorted(self.blocks, key=lambda b: (b.stamp, b.log, b.first))
            if block.stamp >= after
            and any(
                log == block.log and low <= block.last and block.first <= high
                for log, low, high in spans
            )
        ]
        chosen: list[bytes] = []
        size = 0
        for block in found:
            size += len(block.encoded)
            if block.stamp >= below or (chosen and size > bytes_max):
                return chosen, block.stamp
            chosen.append(block.encoded)
        return chosen, STAMP_LIMIT

    def position_of(self, dot: Dot) -> int | None:
        """Positions are those in the list."""
        of_log = ((at, block) for at, block in enumerate(self.blocks, 1) if block.log == dot.log)
        return next((at for at, block in of_log if block.last >= dot.seq), None)

    def met_rotten(self, positions: Sequence[int]) -> None:
        """Nothing changes here."""

    def take_rotten(self) -> tuple[list[RottenBlock], list[PlacedBlock]]:
        """Nothing ever changes."""
        return [], []

    def look_through(self, after: int) -> int:
        """Nothing ever changes."""
        return 0

    def floor(self) -> int:
        """Nothing is ever pruned."""
        return 0

    def base_heads(self, logs: Sequence[LogId]) -> dict[LogId, int]:
        """None."""
        return {}

    def base(self, after: LogId, rooms_max: int) -> list[BaseLog]:
        """None."""
        return []

    def base_version(self) -> int:
        """Always the same."""
        return 0

    def block(self, dot: Dot) -> bytes | None:
        """The encoded block with this message."""
        mine = (b for b in self.blocks if b.log == dot.log and b.first <= dot.seq <= b.last)
        return next((block.encoded for block in mine), None)
