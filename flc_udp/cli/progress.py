"""How fast a node catches up: figures from several looks at its status.

Rules. The rate is that of messages that became durable, whoever said them, over the last seconds.
Before there are looks enough, or while nothing comes, the time left is not known, and is not
guessed.
"""

from __future__ import annotations

import math
from collections import deque
from typing import NamedTuple

from flc_udp.cli.text import duration_text
from flc_udp.client import Record

WINDOW_S = 5.0
"""The rate is that of so long."""

WINDOW_LEAST_S = 0.9
"""Over less than that it is not known: replays come in bursts."""

FEW = 10
"""Below it a rate is told with a decimal."""


def to_go_text(count: int) -> str:
    """How many are known to be missing."""
    return f"{count} {'message' if count == 1 else 'messages'} to go"


class CatchUpFigures(NamedTuple):
    """Messages known to be missing, messages held, messages/s and seconds left; None: not known."""

    to_go: int
    messages: int
    rate: float | None
    left_s: float | None

    def text(self) -> str:
        """For people, a dash where it is not known."""
        left = "-" if self.left_s is None else duration_text(math.ceil(self.left_s))
        return f"{to_go_text(self.to_go)}, {self._rate_text()} messages/s, time left {left}"

    def record(self) -> Record:
        """For scripts, null where it is not known."""
        rounded = {
            name: None if value is None else round(value, 1)
            for name, value in (("rate", self.rate), ("left_s", self.left_s))
        }
        return {"to_go": self.to_go, "messages": self.messages, **rounded}

    def _rate_text(self) -> str:
        if self.rate is None:
            return "-"
        return f"{self.rate:.1f}" if round(self.rate, 1) < FEW else f"{self.rate:.0f}"


class Progress:
    """Looks at one node's status, those of the last WINDOW_S seconds."""

    def __init__(self) -> None:
        self._looks: deque[tuple[float, int]] = deque()

    def look(self, status: Record, at: float) -> CatchUpFigures:
        """What a status, read at `at` seconds of any clock, says with those before it."""
        to_go, messages = status.get("catching_up", 0), status.get("messages", 0)
        looks = self._looks
        looks.append((at, messages))
        while at - looks[0][0] > WINDOW_S and at - looks[1][0] >= WINDOW_LEAST_S:
            looks.popleft()
        began, before = looks[0]
        enough = at - began >= WINDOW_LEAST_S
        rate = max(messages - before, 0) / (at - began) if enough else None
        left_s = to_go / rate if rate else None
        return CatchUpFigures(to_go, messages, rate, left_s if to_go else 0.0)
