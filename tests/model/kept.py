"""Messages in a list, read as a node reads its log."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from flc_udp.config import STAMP_LIMIT
from flc_udp.model.dots import Dot, LogId
from flc_udp.model.history import BaseLog, Head, History, advance
from flc_udp.model.message import Message, history_key


def history_of(messages: Iterable[Message]) -> History:
    """What a log with these messages tells a newborn core."""
    history = History()
    for message in messages:
        history.heads[message.log] = Head(message.seq, message.hash, message.stamp)
        if message.origin is not None:
            history.origins[message.log] = message.origin
        advance(history.frontiers.setdefault(message.room, {}), message)
    return history


class KeptInList:
    """`waist.ports.Reads` over a list that others append to."""

    def __init__(self, messages: list[Message]) -> None:
        self.messages = messages

    def replay(
        self,
        spans: Sequence[tuple[LogId, int, int]],
        bytes_max: int,
        after: int = 0,
        below: int = STAMP_LIMIT,
    ) -> tuple[list[bytes], int]:
        """At least one, else as many as the credit takes; and the stamp of the next."""
        found = [
            message
            for message in sorted(self.messages, key=history_key)
            if message.stamp >= after
            and any(message.log == log and low <= message.seq <= high for log, low, high in spans)
        ]
        chosen: list[bytes] = []
        size = 0
        for message in found:
            size += len(message.encoded)
            if message.stamp >= below or (chosen and size > bytes_max):
                return chosen, message.stamp
            chosen.append(message.encoded)
        return chosen, STAMP_LIMIT

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

    def message(self, dot: Dot) -> bytes | None:
        """One encoded message."""
        return next((m.encoded for m in self.messages if m.dot == dot), None)
