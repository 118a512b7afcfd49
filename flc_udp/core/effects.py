"""Effects: what a decision asks for, as values.

The Node carries effects out in one fixed order: commit, send, show. `Append` starts a commit and
`Deliver` comes out of a finished one. The core itself does none of it.
"""

from typing import NamedTuple

from flc_udp.model.address import Address
from flc_udp.model.block import Block
from flc_udp.model.dots import LogId
from flc_udp.model.history import BaseLog, PlacedBlock
from flc_udp.model.notices import Notice
from flc_udp.wire.packets import BasePull, Packet, Pull


class Append(NamedTuple):
    """Commit these blocks.

    The predecessor and the causes of each are held, or stand before it.
    """

    blocks: tuple[Block, ...]


class Deliver(NamedTuple):
    """Show these blocks: they are durable, and their order respects causality."""

    position: int
    """The first message's position in this node's local order. All others follow without gaps."""
    blocks: tuple[Block, ...]

    @property
    def last(self) -> int:
        """The last message's position."""
        return self.position + sum(len(block.bodies) for block in self.blocks) - 1


class Send(NamedTuple):
    """Send these packets to each address. They are packed once and sealed once for all of them."""

    to: tuple[Address, ...]
    packets: tuple[Packet, ...]


class StreamReplay(NamedTuple):
    """Read what a peer pulled from the log, in (stamp, log, seq) order, and stream it there."""

    to: Address
    pull: Pull
    lacks: tuple[LogId, ...]
    """Logs of which this node holds less than the peer wants."""


class StreamBase(NamedTuple):
    """Read a page of the base, which stands for all below this node's floor, and stream it."""

    to: Address
    pull: BasePull


class Adopt(NamedTuple):
    """Take another node's floor and base as our own, because nobody holds what is below that floor.

    The core is built anew from what the log holds afterwards.
    """

    floor: int
    base: tuple[BaseLog, ...]


class Heal(NamedTuple):
    """Write these blocks anew, whose rows have changed on the disk."""

    rows: tuple[PlacedBlock, ...]


Effect = Append | Deliver | Send | StreamReplay | StreamBase | Adopt | Heal | Notice


class Outbox(list[Effect]):
    """The effects of a turn that is not over, in the order in which they are to be carried out."""

    def send(self, to: Address, *packets: Packet) -> None:
        """Send these packets, if there are any."""
        if packets:
            self.append(Send((to,), packets))
