"""A node that believes every sender at once: for tests of what lies behind the door of sessions."""

from flc_udp.model.address import Address
from flc_udp.model.dots import NodeId
from flc_udp.model.units import Micros
from flc_udp.waist.node import Node
from flc_udp.waist.sessions import Sessions
from flc_udp.wire import codec
from flc_udp.wire.packets import Packet


class Credulous(Sessions):
    """Takes every authentic datagram, wherever it comes from and however often."""

    def receive(
        self, datagram: bytes, source: Address, now: Micros
    ) -> tuple[NodeId, list[Packet], int]:
        """Open and read it, and ask for no proof."""
        return codec.read(self._seal.open(datagram).payload)


def believe_all(node: Node) -> Node:
    """Make this node believe every sender from now on."""
    node._sessions.__class__ = Credulous  # noqa: SLF001  # sessions have tests of their own
    return node


def believe_nobody(node: Node) -> Node:
    """Make it ask everybody for a proof again: nobody has given one so far."""
    node._sessions.__class__ = Sessions  # noqa: SLF001
    return node
