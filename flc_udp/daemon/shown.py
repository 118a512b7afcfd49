"""How far this node has shown its log: one cursor, moved by the ground, and read by many.

The log may hold more for a moment. Only what the node has shown may be printed, followed or handed
to a hook, because only then is it known who said it.
"""

from flc_udp.core.effects import Deliver


class ShownCursor:
    """The last position of the log that may be seen."""

    def __init__(self, position: int) -> None:
        self._position = position

    @property
    def position(self) -> int:
        """Everything up to this position was shown."""
        return self._position

    def move(self, deliver: Deliver) -> None:
        """These messages are shown now."""
        self._position = deliver.position + len(deliver.messages) - 1
