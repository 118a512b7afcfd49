"""The log: what is appended here survives power loss, in one transaction with all that follows.

Rules. There is one writer, called from one thread at a time, and any number of readers, each on a
connection of its own. A transaction changes everything together: blocks, heads of logs, clocks of
rooms, frontiers and `once` rows. So what `load` finds is always a causally closed whole, above a
base that is one, too. Work is done for a batch and not for each block: a head, a clock or a room
that a batch touched is written once.

The writer keeps what it last wrote in memory (`WriterMemory`), so it reads nothing back. A failure
throws that memory away, and the next call reads the truth from the database.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from flc_udp.config import CLOCK_STAMP_LIMIT
from flc_udp.model.block import Block
from flc_udp.model.dots import Dot, NodeId
from flc_udp.model.errors import FlcError, StoreFailed
from flc_udp.model.history import BaseLog, History, PlacedBlock
from flc_udp.model.units import EPOCH, Millis
from flc_udp.store.arrivals import Arrivals
from flc_udp.store.base import adopt
from flc_udp.store.connections import BUSY_TIMEOUT_MS, connect, open_writer
from flc_udp.store.files import DatabaseFiles
from flc_udp.store.mending import MENDED, mend_rows
from flc_udp.store.once import write_once
from flc_udp.store.queries import Queries, atomic, failing
from flc_udp.store.reader import Reader
from flc_udp.store.repair.keep import SAVE_PEER
from flc_udp.store.retention import Retained, retain
from flc_udp.store.rooms import RoomRow
from flc_udp.store.rot import stands
from flc_udp.store.sanity import changed_words, check_rows, is_peer
from flc_udp.store.schema import BLOCK_INDEXES, migrate
from flc_udp.store.sums import changed_rows
from flc_udp.store.way_out import way_out
from flc_udp.store.writer_memory import WriterMemory

__all__ = ["Log", "Reader", "Retained", "RoomRow"]

SAVE_ID = "INSERT OR REPLACE INTO node (key, value) VALUES ('id', ?)"
RAISE_FACT = """
    INSERT INTO node (key, value) VALUES (?, ?)
    ON CONFLICT DO UPDATE SET value = max(value, excluded.value)
"""
SELECT_ROW = "SELECT 1 FROM block WHERE position = ?"
SELECT_WRITTEN = "SELECT count(*) FROM block WHERE position = ? AND encoded = ? AND hash = ?"
HEAL = """
    UPDATE block SET hash = ?, encoded = ?, count = ?, stamp = ?, room_no = ?, log_no = ?, seq = ?
    WHERE position = ?
"""


class Log(Queries):
    """The writer of one database. Failures are `StoreFailed`; after one, call `recover`."""

    def __init__(self, connection: sqlite3.Connection, files: DatabaseFiles | None) -> None:
        super().__init__(connection)
        self._files = files  # None: the connection was lent, and is the disk itself.
        self._memory: WriterMemory | None = None

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Open or create the database file; raises FlcError if it cannot be ours."""
        files = DatabaseFiles(Path(path))
        try:
            return cls(open_writer(files), files)
        except (sqlite3.OperationalError, OSError) as error:
            raise FlcError(
                f"{path} cannot be opened: {error}",
                way_out(files.path.absolute().parent, error),
            ) from error
        except sqlite3.DatabaseError as error:
            raise FlcError(
                f"{path} is damaged: {error}",
                f"`flc fsck --data {files.path.parent}` tells what is wrong with it",
            ) from error

    @classmethod
    def over(cls, connection: sqlite3.Connection) -> Self:
        """Use a connection that is itself the disk (the simulator's, in memory).

        What a crashed predecessor left open is rolled back. The connection is never closed here.
        """
        # In this order: sqlite3 commits what is open when isolation_level becomes None.
        connection.rollback()
        connection.isolation_level = None
        migrate(connection, "the database in memory")
        return cls(connection, None)

    def load(self) -> History:
        """Read heads, origins, frontiers and the base's heads: a restart needs this, no message.

        Rows of small tables that have changed on the disk are set right first. Raises StoreFailed,
        also where these are not what the blocks say.
        """
        with failing("load"):
            mend_rows(self.connection)
            check_rows(self.connection)
            memory = WriterMemory(self.connection)
            memory.check()
            self._memory = memory
            return memory.history()

    def latest_arrival(self) -> Millis:
        """When the latest messages arrived, as `append` was told. 0 where there are none."""
        sql = "SELECT wall_ms FROM arrival ORDER BY position DESC LIMIT 1"
        return Millis(self.value(sql) or 0)

    def append(
        self,
        blocks: Sequence[Block],
        once: Sequence[tuple[str, int, Dot]] = (),
        wall: Millis = EPOCH,
        *,
        waits: bool = True,
    ) -> int:
        """Commit `blocks` in their order, each its log's next.

        Return the position of the first message; all others follow without gaps. `once` is
        (client, n, dot), with n rising for each client. The blocks arrive at `wall`. Raises
        StoreFailed, and then nothing is kept. Without `waits` that is at once if another process
        is writing, and the failure says so.
        """
        if not waits:
            self.connection.execute("PRAGMA busy_timeout = 0")
        try:
            with self._writing("append") as memory, atomic(self.connection):
                first = memory.position + 1
                memory.append(blocks, wall)
                write_once(self.connection, once)
        finally:
            if not waits:
                self.connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        return first

    def retain(
        self,
        *,
        arrived_before_ms: Millis | None,
        bytes_max: int | None,
        messages_max: int = 512,
        stamp_limit: int = CLOCK_STAMP_LIMIT,
    ) -> Retained:
        """Prune a slice of what arrived before, is below the floor, or is above `bytes_max`.

        That is about `messages_max` messages, with stamps below `stamp_limit`. If there are none,
        some free pages are given back. Call it again while there is more. None is no limit. Raises
        StoreFailed, and then nothing is pruned.
        """
        with self._writing("retain") as memory:
            return retain(memory, arrived_before_ms, bytes_max, messages_max, stamp_limit)

    def adopt(self, floor: int, base: Sequence[BaseLog]) -> History:
        """Take another node's floor and base, and return what is held then, as `load` does.

        It has to be a whole base, of one moment. Messages of a log are pruned if the base is ahead
        in it. Raises StoreFailed, and then nothing is changed.
        """
        with self._writing("adopt") as memory, atomic(self.connection):
            adopt(memory, floor, base)
            joined = WriterMemory(self.connection)
            history = joined.history()
        self._memory = joined
        return history

    def heal(self, rows: Sequence[PlacedBlock]) -> list[Block]:
        """Write blocks in the places of those that have changed on the disk; return these.

        A block that was deleted after it was asked for has no row any more, and is left out.
        Without any blocks, set rows of small tables right. Raises StoreFailed, also if that cannot
        be, and then no block is changed.
        """
        if not rows or not all(stands(self, *row) for row in rows):
            left = self._mend_rows()
            if left and not rows:
                raise StoreFailed("heal", changed_words(left))
        with self._writing("heal") as memory, atomic(self.connection):
            rows = [row for row in rows if self.value(SELECT_ROW, (row.position,))]
            for _, block in rows:
                if block.room not in memory.rooms or block.log not in memory.logs:
                    raise StoreFailed("heal", f"no row names the room or the log of {block.dot}")
            # SQLite changes no row that it does not find in its indexes. And where nothing is wrong
            # with a row, an index led to it instead of another.
            is_straight = all(stands(self, *row) and not self._is_written(*row) for row in rows)
            indexes = {} if is_straight else BLOCK_INDEXES
            for name in indexes:
                self.connection.execute(f"DROP INDEX {name}")
            for position, block in rows:
                row = (block.hash, block.encoded, len(block.bodies), block.stamp)
                room, log = memory.rooms[block.room].no, memory.logs[block.log].no
                self.connection.execute(HEAL, (*row, room, log, block.last, position))
            for statement in indexes.values():
                self.connection.execute(statement)
            for position, block in rows:
                if not stands(self, position, block):
                    raise StoreFailed("heal", f"the row of {block.dot} cannot be set right")
        return [block for _, block in rows]

    def _is_written(self, position: int, block: Block) -> bool:
        return bool(self.value(SELECT_WRITTEN, (position, block.encoded, block.hash)))

    def _mend_rows(self) -> dict[str, int]:
        """Set rows of small tables right; return how many cannot be, by table."""
        with failing("heal"):
            if not changed_rows(self.connection, MENDED):
                return {}
        with self._writing("heal") as memory:
            left = mend_rows(self.connection)
            memory.arrivals = Arrivals(self.connection)
        return left

    @contextmanager
    def _writing(self, operation: str) -> Iterator[WriterMemory]:
        """Lend the memory to a block that writes. A failure of any kind leaves none behind."""
        if self._files is not None:
            self._files.check(operation)
        with failing(operation):
            memory, self._memory = self._memory or WriterMemory(self.connection), None
            yield memory
            self._memory = memory

    def recover(self) -> None:
        """Open the writer anew after a failure, so that what it then reads is the truth.

        Raises StoreFailed while the disk still fails; call it again later.
        """
        self._memory = None
        try:
            if self._files is None:
                self.connection.rollback()
                return
            self._files.check("recover")
            self.connection.close()
            self._files.closed()
            self.connection = open_writer(self._files, again=True)
        except (sqlite3.Error, OSError, FlcError) as error:
            raise StoreFailed("recover", str(error)) from error

    def missing(self) -> str | None:
        """Say which file is no longer under its name; None where all are."""
        try:
            if self._files is not None:
                self._files.check_names("look")
        except StoreFailed as gone:
            return gone.problem
        return None

    def reader(self) -> Reader:
        """One more connection, for another thread; of a lent connection, that one itself."""
        if self._files is None:
            return Reader(self.connection, lent=True)
        return Reader(connect(self._files.path, "mode=ro"))

    def close(self) -> None:
        """Fold the WAL into the database and close it. A lent connection stays as it is."""
        if self._files is None:
            return
        # What cannot be folded in now is safe in the WAL, which the next open reads.
        with suppress(sqlite3.Error):
            self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self.connection.close()
        self._files.closed(for_good=True)

    # --- What the node keeps about itself and its peers -------------------------------------------

    def identity(self) -> NodeId | None:
        """The node's id. None: it has not been saved yet."""
        node = self.fact("id")
        return NodeId(node) if isinstance(node, bytes) else None

    def incarnation(self) -> int:
        """The greatest incarnation that was ever saved, or 0."""
        incarnation = self.fact("incarnation")
        return incarnation if isinstance(incarnation, int) else 0

    def save_self(self, node: NodeId, incarnation: int) -> None:
        """Remember id and incarnation. An incarnation lower than is known changes nothing."""
        with self._saving("self"):
            self.connection.execute(SAVE_ID, (node,))
            self.connection.execute(RAISE_FACT, ("incarnation", incarnation))

    def peers(self) -> list[tuple[NodeId, str, str]]:
        """Remembered members: (node id, name, address), by id. What cannot be one is left out."""
        rows = self.rows("SELECT id, name, address FROM peer ORDER BY id")
        return [row for row in rows if is_peer(*row)]

    def save_peers(self, rows: Sequence[tuple[NodeId, str, str]]) -> None:
        """Replace the remembered members, as a whole. The caller limits their number."""
        with self._saving("peers"):
            self.connection.execute("DELETE FROM peer")
            self.connection.executemany(SAVE_PEER, rows)

    @contextmanager
    def _saving(self, what: str) -> Iterator[None]:
        if self._files is not None:
            self._files.check(f"save {what}")
        with failing(f"save {what}"), atomic(self.connection):
            yield
