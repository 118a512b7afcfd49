"""The message: what people say and see. It is one body of a block, with a name of its own."""

from typing import NamedTuple

from flc_udp.model.dots import Dot, LogId
from flc_udp.model.units import Millis


class Message(NamedTuple):
    """One message, with what it has from its block.

    `causes` is empty unless it is the first one of its block. The others have no cause but the
    message before them in their log, which is never named.
    """

    log: LogId
    seq: int
    room: str
    author: str
    body: str | bytes
    wall: Millis
    stamp: int
    causes: tuple[Dot, ...]

    @property
    def dot(self) -> Dot:
        """The message's name."""
        return Dot(self.log, self.seq)


def history_key(message: Message) -> tuple[int, LogId, int]:
    """Where a message stands in the converged history: (stamp, log, seq)."""
    return (message.stamp, message.log, message.seq)
