"""How far this node has shown its log: one cursor, moved by the ground, and read by many.

The log may hold more for a moment. Only what the node has shown may be printed, followed or handed
to a hook, because only then is it known who said it.
"""

from dataclasses import dataclass

from flc_udp.core.effects import Deliver


@dataclass(slots=True)
class ShownCursor:
    """The last position of the log that may be seen."""

    position: int
    """Everything up to this position was shown."""

    def move(self, deliver: Deliver) -> None:
        """These blocks are shown now."""
        self.position = deliver.last
