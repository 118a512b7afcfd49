"""A node that believes every sender at once: for tests of what lies behind the door of sessions."""

from collections.abc import Sequence

from flc_udp.model.address import Address
from flc_udp.model.dots import NodeId
from flc_udp.model.units import Micros
from flc_udp.waist.node import Node
from flc_udp.waist.sessions import Proved, Sessions
from flc_udp.wire.packets import Packet
from flc_udp.wire.seal import Opened


class Credulous(Sessions):
    """Takes every authentic datagram, wherever it comes from and however often."""

    def open(self, datagram: bytes, source: Address, now: Micros) -> tuple[Opened, Proved | None]:
        """Open it, and ask for no proof."""
        return self._seal.open(datagram), None

    def admit(
        self,
        opened: Opened,
        sender: NodeId,
        packets: Sequence[Packet],
        source: Address,
        size_bytes: int,
        proved: Proved | None,
        now: Micros,
    ) -> list[Packet]:
        """Take all of it."""
        return list(packets)


def believe_all(node: Node) -> Node:
    """Make this node believe every sender from now on."""
    node._sessions.__class__ = Credulous  # noqa: SLF001  # sessions have tests of their own
    return node
