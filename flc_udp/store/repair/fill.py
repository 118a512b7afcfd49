"""Filling the new database from the old one, and what is gone then.

Rules. The end of a log that is lost is named as far as anything tells of it: its row, an index, or
blocks that lack what they come after.
"""

import sqlite3
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from flc_udp.model.dots import LogId
from flc_udp.model.history import NO_HEAD, BaseLog
from flc_udp.model.units import Millis
from flc_udp.store.base import adopt
from flc_udp.store.repair.base import Told
from flc_udp.store.repair.keep import facts, keep_arrivals, keep_node, keep_once
from flc_udp.store.repair.pages import Pages
from flc_udp.store.repair.proof import choose
from flc_udp.store.repair.rebuild import Lost, Rebuild
from flc_udp.store.repair.tables import find_blocks, is_count, is_whole, salvaged
from flc_udp.store.writer_memory import SAVE_FACT, WriterMemory

UNREAD = "it cannot be read, and nothing proves what it was"

UNTOLD = "where logs ended cannot be read: messages at their ends may be gone that nothing names"

COUNT_CHOSEN = "SELECT ifnull(sum(last - ifnull(first, last) + 1), 0) FROM scratch.chosen"
LAST_CHOSEN = "SELECT ifnull(max(position), 0) FROM scratch.chosen"
SELECT_ENDS = """
    SELECT log, max(last) FROM (
        SELECT log, last FROM scratch.chosen
        UNION SELECT log, last FROM scratch.found WHERE own IS NULL) GROUP BY log ORDER BY log
"""
SELECT_ROOMS = "SELECT name, position FROM room"


class Filled(NamedTuple):
    """What is not in the new database as it was in the old."""

    gone: Sequence[Lost]
    waiting: Sequence[Lost]
    """Blocks whose bytes are to be fetched from others."""
    forgotten: Sequence[str]
    """What else is gone, in words."""


def fill(old: sqlite3.Connection, new: sqlite3.Connection, pages: Pages) -> Filled:
    """Write what is sound of `old` into `new`, which is empty and has `scratch` attached."""
    find_blocks(old, pages, new)
    told = Told(old, new)
    choose(new, told.heads)
    known = facts(old)
    floor, base = told.base(known.get("floor"))
    rooms = {name: at for name, at in salvaged(old, SELECT_ROOMS, "no") if is_count(at)}
    pruned = 0
    if floor:
        adopt(WriterMemory(new), floor, base)
        pruned = _pruned(new, known.get("pruned"), rooms) if base else 0
        version = known.get("base", 0)
        below = known.get("pruned_below")
        counts = {
            "pruned_below": below if is_count(below) else 0,
            "pruned": pruned,
            "base": version + 1 if is_count(version) else 1,
        }
        new.executemany(SAVE_FACT, counts.items())
    rebuild = Rebuild(WriterMemory(new), pages, told, base, pruned)
    rebuild.write()
    rebuild.end(_last_room(base, rooms))
    forgotten = [*keep_node(old, new, known), *keep_once(old, new, rebuild.heads)]
    keep_arrivals(old, new, rebuild.moved, Millis(time.time_ns() // 1_000_000))
    if not is_whole(old, "block") and not is_whole(old, "log"):
        forgotten.append(UNTOLD)
    if not (rebuild.heads or is_count(known.get("incarnation"))):
        raise sqlite3.DatabaseError("nothing of it can be read")
    return Filled(list(_gone(new, told, rebuild)), rebuild.waiting, forgotten)


def _pruned(new: sqlite3.Connection, told: object, rooms: dict[str, int]) -> int:
    """How many messages were pruned: as the node noted, or as the positions tell."""
    last: int = max([new.execute(LAST_CHOSEN).fetchone()[0], *rooms.values()])
    if isinstance(told, int) and 0 <= told <= last:
        return told
    return max(last - int(new.execute(COUNT_CHOSEN).fetchone()[0]), 0)


def _last_room(base: Sequence[BaseLog], rooms: dict[str, int]) -> str | None:
    """The room of those with pruned messages to which something came last."""
    names = [room.room for log in base for room in log.rooms]
    return max(names, key=lambda name: rooms.get(name, 0), default=None)


def _gone(new: sqlite3.Connection, told: Told, rebuild: Rebuild) -> Iterator[Lost]:
    """Of each log all that anything tells of, beyond its new head."""
    ends: dict[LogId, int] = dict(new.execute(SELECT_ENDS))
    for log, (seq, digest, _) in told.heads.items():
        if is_count(seq) and digest != rebuild.heads.get(log, NO_HEAD).hash:
            ends[log] = max(ends.get(log, 0), seq)
    left_out = sorted(rebuild.left_out())
    for log, end in ends.items():
        reached = rebuild.heads.get(log, NO_HEAD).seq
        for lost in [lost for lost in left_out if lost.log == log and lost.last > reached]:
            if lost.first > reached + 1:
                yield Lost(log, reached + 1, lost.first - 1, None, UNREAD)
            yield lost
            reached = lost.last
        if end > reached:
            yield Lost(log, reached + 1, end, None, UNREAD)
