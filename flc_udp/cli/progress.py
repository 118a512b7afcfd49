"""How fast a node catches up: figures from several looks at its status.

Rules. The rate counts the messages that became durable in the last seconds, whoever said them. The
time that is left is not guessed: it is unknown after the first look, and while nothing comes.
"""

import math
from collections import deque
from typing import NamedTuple

from flc_udp.cli.text import count_text, duration_text
from flc_udp.client import Record

WINDOW_S = 5.0
"""The rate is taken over this time."""

WINDOW_LEAST_S = 0.9
"""No rate is given over a shorter time, because replays come in bursts."""

FEW_A_SECOND = 10
"""A rate below this is shown with a decimal."""


def to_go_text(count: int) -> str:
    """Return how many messages are known to be missing."""
    return f"{count_text(count, 'message')} to go"


class CatchUpFigures(NamedTuple):
    """How far a node has caught up. None stands for what is not known yet."""

    to_go: int
    """The number of messages that are known to be missing."""
    messages: int
    """The number of messages that the node holds."""
    rate: float | None
    """The number of messages that become durable in a second."""
    left_s: float | None

    def text(self) -> str:
        """Return the figures for people, with a dash for what is not known."""
        rate, left = "-", "-"
        if self.rate is not None:
            rate = f"{self.rate:.{1 if round(self.rate, 1) < FEW_A_SECOND else 0}f}"
        if self.left_s is not None:
            left = duration_text(math.ceil(self.left_s))
        return f"{to_go_text(self.to_go)}, {rate} messages/s, time left {left}"

    def record(self) -> Record:
        """Return the figures for scripts, with null for what is not known."""
        return {
            name: round(value, 1) if isinstance(value, float) else value
            for name, value in self._asdict().items()
        }


class Progress:
    """Keeps what the status of one node said in the last WINDOW_S seconds."""

    def __init__(self) -> None:
        self._looks: deque[tuple[float, int]] = deque()

    def look(self, status: Record, at_s: float) -> CatchUpFigures:
        """Take a status that was read at `at_s` (of any clock), and return the new figures."""
        to_go, messages = status.get("catching_up", 0), status.get("messages", 0)
        looks = self._looks
        looks.append((at_s, messages))
        while at_s - looks[0][0] > WINDOW_S and at_s - looks[1][0] >= WINDOW_LEAST_S:
            looks.popleft()
        began_s, before = looks[0]
        took_s = at_s - began_s
        rate = max(messages - before, 0) / took_s if took_s >= WINDOW_LEAST_S else None
        left_s = to_go / rate if rate else None
        return CatchUpFigures(to_go, messages, rate, left_s if to_go else 0.0)
