"""Writing the new database: what was chosen, in the order of its positions, as the writer does.

Promise. What is written is causally closed. A block follows the one before it in its log, and its
causes are there or were pruned. What lacks one of these is left out, and so is all that comes after
it. Positions stay as they were, unless something before them is left out.
"""

from bisect import bisect
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from flc_udp.config import BODIES_MAX
from flc_udp.model.block import Block, decode
from flc_udp.model.dots import Dot, LogId
from flc_udp.model.history import NO_HEAD, BaseLog, Edge, Head
from flc_udp.model.units import EPOCH
from flc_udp.store.base import JOIN_CLOCK
from flc_udp.store.repair.base import Told
from flc_udp.store.repair.pages import Pages
from flc_udp.store.writer_memory import WriterMemory

SELECT_CHOSEN = """
    SELECT log, last, position, stamp, room, hash, at,
        coalesce(first - 1, lag(last) OVER of_log, 0), ifnull(lead(stamp) OVER of_log, 1 << 62)
    FROM scratch.chosen WINDOW of_log AS (PARTITION BY log ORDER BY last) ORDER BY position
"""
FORGET_EDGE = "UPDATE clock SET edge_stamp = NULL WHERE room_no = ? AND log_no = ?"
GIVE_EDGES = """
    UPDATE clock SET base_edge_stamp = (SELECT base_stamp FROM log WHERE no = log_no)
    WHERE base_seq > 0
        AND room_no NOT IN (SELECT room_no FROM clock WHERE base_edge_stamp IS NOT NULL)
"""
"""A base that only causes tell of has an edge where it ends. It is no edge of the whole room."""
END_ROOM = "UPDATE room SET position = ?1, base_position = ?1 WHERE name = ?2"
WAITING = "its bytes have changed on the disk: the other members are asked for them"

BATCH_BLOCKS = 512
BATCH_BYTES = 4 << 20


class Chosen(NamedTuple):
    """A block that is to be written. `at` is None if its bytes are waited for."""

    log: LogId
    last: int
    position: int
    stamp: int
    room: str
    hash: bytes
    at: int | None
    before: int
    """The last message before it in its log that was chosen."""
    stamp_after: int


class Lost(NamedTuple):
    """Messages of a log that are no longer held, or not yet again."""

    log: LogId
    first: int
    last: int
    room: str | None
    why: str


class Rebuild:
    """The blocks of one new database. Afterwards it says what was not written, and what waits."""

    def __init__(
        self, memory: WriterMemory, pages: Pages, told: Told, base: Iterable[BaseLog], pruned: int
    ) -> None:
        self.heads: dict[LogId, Head] = {log.log: log.head for log in base}
        self.waiting: list[Lost] = []
        """Blocks whose bytes are to be fetched from others."""
        self._memory = memory
        self._pages = pages
        self._told = told
        self._bases = dict(self.heads)
        self._covered = {(r.room, log.log): r.seq for log in base for r in log.rooms}
        self._lacking: defaultdict[LogId, list[tuple[Dot, Chosen]]] = defaultdict(list)
        self._batch: list[Block] = []
        self._batch_bytes = 0
        self._waiting_stamps: dict[str, int] = {}
        """{room: the greatest stamp of what waits there}."""
        self._position = self._reached = 0
        """The last position in the new database, and the one in the old that was come to."""
        self._gaps_left = pruned
        self._shifts: list[tuple[int, int]] = [(0, 0)]
        """(old position, how many messages less are before it), where that changes."""

    def write(self) -> None:
        """Write all blocks that can be."""
        for row in self._memory.connection.execute(SELECT_CHOSEN):
            first = Chosen(*row)
            self._reached = first.position
            late = deque(self._offer(first, is_late=False))
            while late:
                late.extend(self._offer(late.popleft(), is_late=True))
        self._flush()
        self._memory.connection.execute(GIVE_EDGES)
        for room, stamp in self._waiting_stamps.items():
            for log, edge in self._memory.rooms[room].frontier.items():
                if edge.stamp < stamp:
                    self._cover_edge(room, log, edge)

    def left_out(self) -> Iterator[Lost]:
        """What was chosen, but lacks something that it comes after."""
        for lacking in self._lacking.values():
            for dot, chosen in lacking:
                why = f"it comes after {dot}, which is gone"
                yield Lost(chosen.log, self._first(chosen), chosen.last, chosen.room, why)

    def moved(self, position: int) -> int:
        """Where that stands now which stood at a position."""
        index = bisect(self._shifts, (position, 1 << 62)) - 1
        return position - self._shifts[max(index, 0)][1]

    def end(self, room: str | None) -> None:
        """Count the pruned messages that stood after all others, the last one in this room."""
        if self._gaps_left and room is not None:
            self._position += self._gaps_left
            self._memory.connection.execute(END_ROOM, (self._position, room))

    # --- Inside -----------------------------------------------------------------------------------

    def _first(self, chosen: Chosen) -> int:
        return max(chosen.before, self._bases.get(chosen.log, NO_HEAD).seq) + 1

    def _offer(self, chosen: Chosen, *, is_late: bool) -> list[Chosen]:
        """Write a block, or keep it until what it lacks was written; return what goes next."""
        if chosen.last <= self._bases.get(chosen.log, NO_HEAD).seq:
            return []
        block = self._block(chosen)
        lack = self._lack(block)
        if lack is not None:
            self._lacking[lack.log].append((lack, chosen))
            self._shift(0 if is_late else len(block.bodies))
            return []
        self._place(chosen, block, self._gap(chosen, len(block.bodies), is_late=is_late))
        lacking = self._lacking.pop(block.log, [])
        self._lacking[block.log] = [pair for pair in lacking if pair[0].seq > block.last]
        return [other for dot, other in lacking if dot.seq <= block.last]

    def _gap(self, chosen: Chosen, count: int, *, is_late: bool) -> int:
        """How many positions before a block stay free, because what stood there was pruned."""
        gap = chosen.position - self._shifts[-1][1] - count - self._position
        if is_late:
            self._shift(-count)
        elif 0 <= gap <= self._gaps_left:
            return gap
        else:
            self._shift(gap)
        return 0

    def _block(self, chosen: Chosen) -> Block:
        if chosen.at is not None:
            return decode(self._pages.encoded(chosen.at))
        first, head = self._first(chosen), self.heads.get(chosen.log, NO_HEAD)
        stamp = chosen.stamp if head.stamp < chosen.stamp < chosen.stamp_after else head.stamp + 1
        count = min(chosen.last - first + 1, BODIES_MAX)
        first, bodies = chosen.last - count + 1, ("",) * count
        numbers = (chosen.log, first, chosen.last, chosen.room, "", EPOCH, stamp)
        return Block(*numbers, (), b"", bodies, None, b"", chosen.hash)

    def _lack(self, block: Block) -> Dot | None:
        """What has to be written before this block."""
        held = self.heads
        head = held.get(block.log, NO_HEAD)
        is_chained = block.parent == head.hash or b"" in (block.parent, head.hash)
        if block.first != head.seq + 1 or not is_chained:
            return Dot(block.log, block.first - 1)
        return next((dot for dot in block.causes if held.get(dot.log, NO_HEAD).seq < dot.seq), None)

    def _place(self, chosen: Chosen, block: Block, gap: int) -> None:
        memory = self._memory
        if gap or self._batch_bytes >= BATCH_BYTES or len(self._batch) >= BATCH_BLOCKS:
            self._flush()
            memory.position += gap
        self._gaps_left -= gap
        self._position += gap + len(block.bodies)
        memory.log(block.log, block.origin or self._told.origins.get(block.log))
        for dot in block.causes:
            self._cover(block.room, dot)
        self.heads[block.log] = Head(block.last, block.hash, block.stamp)
        self._batch.append(block)
        self._batch_bytes += len(block.encoded)
        if chosen.at is None:
            self.waiting.append(Lost(block.log, block.first, block.last, block.room, WAITING))
            latest = self._waiting_stamps.get(block.room, 0)
            self._waiting_stamps[block.room] = max(latest, block.stamp)

    def _cover(self, room: str, dot: Dot) -> None:
        """A cause that was pruned was said in the block's room."""
        if self._covered.get((room, dot.log), 0) < dot.seq <= self._bases.get(dot.log, NO_HEAD).seq:
            self._covered[room, dot.log] = dot.seq
            memory = self._memory
            row = (memory.room(room).no, memory.logs[dot.log].no, dot.seq, None)
            memory.connection.execute(JOIN_CLOCK, row)

    def _cover_edge(self, room: str, log: LogId, edge: Edge) -> None:
        """An edge is none if the old clock said so: a block that is waited for comes after it."""
        told, memory = self._told.clocks[log].get(room), self._memory
        if told is not None and told.edge is None and told.seq == edge.seq:
            row = (memory.rooms[room].no, memory.logs[log].no)
            memory.connection.execute(FORGET_EDGE, row)

    def _shift(self, by: int) -> None:
        if by:
            self._shifts.append((self._reached, self._shifts[-1][1] + by))

    def _flush(self) -> None:
        if self._batch:
            self._memory.append(self._batch, EPOCH)
            self._batch, self._batch_bytes = [], 0
