"""Nodes that hear one story in orders of their own, prune, and take each other's base: a model.

A node is a real log in memory, and beside it plain sets of blocks that say what it must be.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from itertools import groupby
from typing import TypeVar

from flc_udp.model.block import Block
from flc_udp.model.dots import Dot, LogId
from flc_udp.model.errors import StoreFailed
from flc_udp.model.history import BaseLog, BaseRoom, Edge, Head
from flc_udp.model.message import history_key
from flc_udp.store.fsck.database import Fsck
from flc_udp.store.log import Log
from flc_udp.store.reader import messages_of
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
        self.known: list[Block] = []
        """All that was decided, held or not."""
        self.held: list[Block] = []
        """By position."""
        self.positions: dict[Dot, int] = {}
        """Where each message was appended."""
        self.base: list[Block] = []
        """All that the base covers: what is pruned, and what another's covered that was taken."""
        self.floor = self.pruned_below = 0
        self.deleted = 0

    def waiting(self) -> list[Block]:
        """What could be delivered now: all before it is known."""
        known = {m.dot for b in self.known for m in b.messages()}
        return [
            b for b in self.story.said if b.dot not in known and self.story.past[b.dot] <= known
        ]

    def deliver(self, *blocks: Block) -> None:
        """Append blocks."""
        messages = (message for block in blocks for message in block.messages())
        for position, message in enumerate(messages, self.log.append(blocks)):
            self.positions[message.dot] = position
        self.known += blocks
        self.held += blocks

    def catch_up(self) -> None:
        """Deliver all there is."""
        while waiting := self.waiting():
            self.deliver(waiting[0])

    def retain(self, count: int) -> None:
        """Prune about so many."""
        ended = self.log.retain(arrived_before_ms=None, bytes_max=0, messages_max=count)
        late = [b for b in self.held if b.stamp < self.pruned_below]
        pruned: list[Block] = []
        by_stamp = sorted(late or self.held, key=lambda b: b.stamp)
        for stamp, blocks in groupby(by_stamp, lambda b: b.stamp):
            pruned += blocks
            self.pruned_below = max(self.pruned_below, stamp + 1)
            if size(pruned) >= count:
                break
        self.floor = max(self.floor, self.pruned_below)
        self.deleted += size(pruned)
        self.held = [b for b in self.held if b not in pruned]
        self.base += [b for b in pruned if b not in self.base]
        assert (self.pruned_below, size(pruned), bool(pruned), ()) == ended

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
        ahead = [b for b in other.base if b not in self.known]
        logs = {b.log for b in ahead}
        self.deleted += size(b for b in self.held if b.log in logs)
        self.held = [b for b in self.held if b.log not in logs]
        self.known += ahead
        self.base += [b for b in other.base if b not in self.base]
        self.floor = max(self.floor, other.floor)

    def reopen(self) -> None:
        """The process ends, and another begins."""
        self.log = Log.over(self.disk)

    def check(self) -> None:
        """Everything that can be read is as it must be, and nothing is found wrong."""
        history, reader = self.log.load(), self.log.reader()
        heads = {b.log: Head(b.last, b.hash, b.stamp) for b in sorted(self.known, key=_last)}
        pruned = [b for b in self.known if b not in self.held]
        assert heads == history.heads
        assert {b.log: b.origin for b in self.known if b.origin} == history.origins
        assert self.frontiers(self.known) == history.frontiers
        assert self.floor == history.floor == reader.floor()
        assert self.pruned_below == history.pruned_below
        assert history.bases == {
            b.log: Head(b.last, b.hash, b.stamp) for b in sorted(pruned, key=_last)
        }
        assert [b for b in self.known if b.stamp >= self.floor and b not in self.held] == []
        assert [b.encoded for b in self.held] == [e for _, e in reader.after(0, None, 999)]
        assert (size(self.held), len(heads)) == reader.counts()
        assert size(self.held) + self.deleted == reader.last_position()
        bases = {log: head.seq for log, head in history.bases.items()}
        assert bases == reader.base_heads([*heads, b"nobodys!"])
        assert self.told() == reader.base(b"", EVERYTHING)
        assert list(Fsck(self.disk).findings()) == []
        self._check_rooms()

    def _check_rooms(self) -> None:
        reader = self.log.reader()
        rows = {row.room: row for row in reader.rooms()}
        assert set(rows) == {b.room for b in self.known}
        for room, row in rows.items():
            held = [b for b in self.held if b.room == room]
            known = [b for b in self.known if b.room == room]
            assert (size(held), max(b.stamp for b in known)) == (row.messages, row.last_stamp)
            assert [b.encoded for b in held] == [e for _, e in reader.after(0, room, 999)]
            said = [message for block in held for message in block.messages()]
            for n in range(1, len(said) + 2):
                after = reader.before_last(room, n)
                rows_after = reader.after(after, room, 999)
                assert said[-n:] == [message for _, message in messages_of(rows_after, after)]
            shown = [message for _, message in reader.history(room)]
            assert sorted(said, key=history_key) == shown

    def frontiers(self, blocks: list[Block]) -> Frontiers:
        """Of each room, what nothing else among the blocks' messages comes after."""
        stamps = {m.dot: m.stamp for block in blocks for m in block.messages()}
        return {
            room: {dot.log: Edge(dot.seq, stamps[dot]) for dot in self.story.maximal(stamps, room)}
            for room in {b.room for b in blocks}
        }

    def told(self) -> list[BaseLog]:
        """The base as another is told it."""
        frontiers = self.frontiers(self.base)
        logs = []
        for log in sorted({b.log for b in self.base}):
            said = sorted((b for b in self.base if b.log == log), key=_last)
            seqs = {b.room: b.last for b in said}
            rooms = tuple(
                BaseRoom(room, seq, edge.stamp if edge else None)
                for room, seq in sorted(seqs.items())
                for edge in (frontiers[room].get(log),)
            )
            head = Head(said[-1].last, said[-1].hash, said[-1].stamp)
            logs.append(BaseLog(log, head, said[0].origin, rooms))
        return logs


def size(blocks: Iterable[Block]) -> int:
    """How many messages these blocks have."""
    return sum(len(block.bodies) for block in blocks)


def _last(block: Block) -> int:
    return block.last
