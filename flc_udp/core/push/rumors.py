"""Rumors: what a node tells its peers at the end of a turn, or lazy links soon after.

Rules. Only new blocks are forwarded, and never back to the node that told of them nor to the one
that wrote them. Where a link's window has no room, a rumor waits, or the peer is only told what
there is, and pulls. Blocks above ANNOUNCE_BYTES are announced over all links and pulled.
"""

from collections.abc import Iterator

from flc_udp.core.effects import Send
from flc_udp.core.push.links import Links
from flc_udp.model.block import Block
from flc_udp.model.dots import Dot, LogId, NodeId
from flc_udp.model.units import MS_US, NEVER, Micros
from flc_udp.wire.packets import Have

PART_BYTES = 4_096
"""Blocks go into a link's window in parts of about this size, which is a few datagrams."""

WAITING_LOOK_US = 50 * MS_US
"""What waits for a window to open is looked at this often."""

HAVE_PAUSE_US = 20 * MS_US
"""Heads for lazy links are collected for this long: one dot of each log then says it all."""


class Rumors:
    """What waits to be told."""

    def __init__(self) -> None:
        self._small: dict[tuple[NodeId | None, NodeId | None, bool], list[bytes]] = {}
        self._large: dict[NodeId | None, list[Dot]] = {}
        self._heads: dict[LogId, tuple[int, NodeId | None]] = {}
        self.wake_at: int = NEVER
        """When lazy links are told, in µs."""

    def push(
        self, block: Block, teller: NodeId | None, writer: NodeId | None, *, receipt: bool
    ) -> None:
        """Send a block as a whole. `teller` and `writer` have it already."""
        self._small.setdefault((teller, writer, receipt), []).append(block.encoded)

    def announce(self, block: Block, writer: NodeId | None) -> None:
        """Tell of a large block that is durable here."""
        self._large.setdefault(writer, []).append(Dot(block.log, block.last))

    def have(self, block: Block, writer: NodeId | None, now: Micros) -> None:
        """Tell lazy links of a block that is durable here, as is all before it in its log."""
        self._heads[block.log] = (block.last, writer)
        self.wake_at = min(self.wake_at, now + HAVE_PAUSE_US)

    def take(self, links: Links, now: Micros) -> list[Send]:
        """What is due, one Send for each set of receivers."""
        sends = links.take_waiting(now)
        for (teller, writer, receipt), blocks in self._small.items():
            for part in _parts(blocks):
                sends.append(links.push(part, (teller, writer), now, receipt=receipt))
        for writer, dots in self._large.items():
            sends.append(Send(links.all(writer), (Have(True, tuple(dots)),)))
        self._small.clear()
        self._large.clear()
        if self.wake_at <= now:
            self.wake_at = NEVER
            sends += self._take_heads(links, now)
        if links.is_waiting:  # It is looked at again although an acknowledgment may be lost.
            self.wake_at = min(self.wake_at, now + WAITING_LOOK_US)
        return [send for send in sends if send.to]

    def _take_heads(self, links: Links, now: Micros) -> list[Send]:
        by_writer: dict[NodeId | None, list[Dot]] = {}
        for log, (seq, writer) in self._heads.items():
            by_writer.setdefault(writer, []).append(Dot(log, seq))
        self._heads.clear()
        return [
            Send(links.told(writer, now), (Have(False, tuple(dots)),))
            for writer, dots in by_writer.items()
        ]


def _parts(blocks: list[bytes]) -> Iterator[tuple[bytes, ...]]:
    """Blocks in parts of about PART_BYTES. A window ends between two parts."""
    part: list[bytes] = []
    size = 0
    for encoded in blocks:
        part.append(encoded)
        size += len(encoded)
        if size >= PART_BYTES:
            yield tuple(part)
            part, size = [], 0
    if part:
        yield tuple(part)
