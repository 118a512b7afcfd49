"""Nodes that hear one story in orders of their own, prune, and take each other's base: a model.

A node is a real log in memory, and beside it plain sets of messages that say what it must be.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from itertools import groupby
from typing import TypeVar

from flc_udp.model.dots import LogId
from flc_udp.model.errors import StoreFailed
from flc_udp.model.history import NO_HEAD, BaseLog, BaseRoom, Edge, Head
from flc_udp.model.message import Message, decode
from flc_udp.store.fsck.database import Fsck
from flc_udp.store.log import Log
from tests.model.stories import Story

Frontiers = dict[str, dict[LogId, Edge]]

How = TypeVar("How")

EVERYTHING = 1 << 20
"""More rooms than any base here has."""


class Node:
    """One log, and what it must be."""

    def __init__(self, story: Story) -> None:
        self.story = story
        self.disk = sqlite3.connect(":memory:")
        self.log = Log.over(self.disk)
        self.known: list[Message] = []
        """All that was decided, held or not."""
        self.held: list[Message] = []
        """By position."""
        self.base: list[Message] = []
        """All that the base covers: what is pruned, and what another's covered that was taken."""
        self.floor = 0
        self.deleted = 0

    def waiting(self) -> list[Message]:
        """What could be delivered now: all before it is known."""
        known = {m.dot for m in self.known}
        return [
            m for m in self.story.said if m.dot not in known and self.story.past[m.dot] <= known
        ]

    def deliver(self, *messages: Message) -> None:
        """Append messages."""
        self.log.append(messages)
        self.known += messages
        self.held += messages

    def catch_up(self) -> None:
        """Deliver all there is."""
        while waiting := self.waiting():
            self.deliver(waiting[0])

    def retain(self, count: int) -> None:
        """Prune about so many."""
        ended = self.log.retain(arrived_before_ms=None, bytes_max=0, messages_max=count)
        late = [m for m in self.held if m.stamp < self.floor]
        pruned: list[Message] = []
        by_stamp = sorted(late or self.held, key=lambda m: m.stamp)
        for stamp, messages in groupby(by_stamp, lambda m: m.stamp):
            pruned += messages
            self.floor = max(self.floor, stamp + 1)
            if len(pruned) >= count:
                break
        self.deleted += len(pruned)
        self.held = [m for m in self.held if m not in pruned]
        self.base += [m for m in pruned if m not in self.base]
        assert (self.floor, len(pruned), bool(pruned)) == ended

    def fail(self, instructions: int, act: Callable[[How], None], how: How) -> None:
        """The disk fails after so many of SQLite's instructions, if the act takes as many."""
        fates = iter((1,))
        self.disk.set_progress_handler(lambda: next(fates, 0), instructions)
        try:
            act(how)
        except StoreFailed:
            self.log.recover()
        finally:
            self.disk.set_progress_handler(None, 0)

    def adopt(self, other: Node) -> None:
        """Take the other's base."""
        reader = other.log.reader()
        history = self.log.adopt(reader.floor(), reader.base(b"", EVERYTHING))
        self._join(other)
        assert self.log.load() == history

    def _join(self, other: Node) -> None:
        ahead = [m for m in other.base if m not in self.known]
        logs = {m.log for m in ahead}
        self.deleted += sum(m.log in logs for m in self.held)
        self.held = [m for m in self.held if m.log not in logs]
        self.known += ahead
        self.base += [m for m in other.base if m not in self.base]
        self.floor = max(self.floor, other.floor)

    def reopen(self) -> None:
        """The process ends, and another begins."""
        self.log = Log.over(self.disk)

    def check(self) -> None:
        """Everything that can be read is as it must be, and nothing is found wrong."""
        history, reader = self.log.load(), self.log.reader()
        heads = {m.log: Head(m.seq, m.hash, m.stamp) for m in sorted(self.known, key=_seq)}
        pruned = [m for m in self.known if m not in self.held]
        assert heads == history.heads
        assert {m.log: m.origin for m in self.known if m.origin} == history.origins
        assert self.frontiers(self.known) == history.frontiers
        assert self.floor == history.floor == reader.floor()
        assert history.bases == {
            m.log: Head(m.seq, m.hash, m.stamp) for m in sorted(pruned, key=_seq)
        }
        assert [m for m in self.known if m.stamp >= self.floor and m not in self.held] == []
        assert [m.encoded for m in self.held] == [e for _, e in reader.after(0, None, 999)]
        assert (len(self.held), len(heads)) == reader.counts()
        assert len(self.held) + self.deleted == reader.last_position()
        bases = {log: head.seq for log, head in history.bases.items()}
        assert bases == reader.base_heads([*heads, b"nobodys!"])
        assert self.told() == reader.base(b"", EVERYTHING)
        assert list(Fsck(self.disk).findings()) == []
        self._check_rooms()

    def _check_rooms(self) -> None:
        reader = self.log.reader()
        rows = {row.room: row for row in reader.rooms()}
        assert set(rows) == {m.room for m in self.known}
        for room, row in rows.items():
            held = [m for m in self.held if m.room == room]
            known = [m for m in self.known if m.room == room]
            assert (len(held), max(m.stamp for m in known)) == (row.messages, row.last_stamp)
            assert [m.encoded for m in held] == [e for _, e in reader.after(0, room, 999)]
            for n in range(1, len(held) + 2):
                after = reader.before_last(room, n)
                assert [m.encoded for m in held][-n:] == [
                    e for _, e in reader.after(after, room, 999)
                ]
            assert {decode(e).dot for _, e in reader.history(room)} == {m.dot for m in held}

    def frontiers(self, messages: list[Message]) -> Frontiers:
        """Of each room, what nothing else among the messages comes after."""
        stamps = {m.dot: m.stamp for m in messages}
        return {
            room: {dot.log: Edge(dot.seq, stamps[dot]) for dot in self.story.maximal(stamps, room)}
            for room in {m.room for m in messages}
        }

    def told(self) -> list[BaseLog]:
        """The base as another is told it."""
        frontiers = self.frontiers(self.base)
        logs = []
        for log in sorted({m.log for m in self.base}):
            said = sorted((m for m in self.base if m.log == log), key=_seq)
            seqs = {m.room: m.seq for m in said}
            rooms = tuple(
                BaseRoom(room, seq, edge.stamp if edge else None)
                for room, seq in sorted(seqs.items())
                for edge in (frontiers[room].get(log),)
            )
            last = said[-1] if said else NO_HEAD
            head = Head(last.seq, last.hash, last.stamp)
            logs.append(BaseLog(log, head, said[0].origin, rooms))
        return logs


def _seq(message: Message) -> int:
    return message.seq
