"""The log: what is appended here survives power loss, in one transaction with all it implies.

Rules. One writer, called from one thread at a time; any number of readers, each on its own
connection. A transaction moves everything together: messages, log heads, room clocks, frontiers,
`once` rows; so what `load` finds is always a causally closed whole, above a base that is one, too.
The work is done per batch, not per message: heads, clocks and rooms are written once for each that
a batch touched.

The writer keeps what it last wrote (heads, rooms, frontiers) in memory, to read nothing back. A
failure throws that memory away; the next call reads the truth from the database.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from flc_udp.model.dots import Dot, NodeId
from flc_udp.model.errors import FlcError, StoreFailed
from flc_udp.model.history import BaseLog, History
from flc_udp.model.message import Message
from flc_udp.store.base import adopt
from flc_udp.store.once import write_once
from flc_udp.store.pruning import Retained, Retention
from flc_udp.store.reader import Reader, RoomRow
from flc_udp.store.schema import (
    atomic,
    failing,
    let_shrink,
    migrate,
    open_reader,
    open_writer,
)
from flc_udp.store.tables import Kept

__all__ = ["Log", "Reader", "Retained", "RoomRow"]


class Log:
    """The writer of one database. Failures are `StoreFailed`; after one, call `recover`."""

    def __init__(self, connection: sqlite3.Connection, path: Path | None) -> None:
        self._connection = connection
        self._path = path  # None: the connection was lent, and is the disk itself
        self._kept: Kept | None = None
        self._retention = Retention()

    @classmethod
    def open(cls, path: str | Path) -> Log:
        """Open or create the database file; raises FlcError where it cannot be ours."""
        path = Path(path)
        try:
            return cls(open_writer(path, create=True), path)
        except (sqlite3.Error, OSError) as error:
            raise FlcError(
                f"{path} cannot be opened: {error}",
                "check free space, and that the directory belongs to the user that runs flc",
            ) from error

    @classmethod
    def over(cls, connection: sqlite3.Connection) -> Log:
        """Use a connection that is itself the disk (the simulator's, in memory).

        What a crashed predecessor left open is rolled back; the connection is never closed here.
        """
        # In this order: sqlite3 commits what is open when isolation_level becomes None.
        connection.rollback()
        connection.isolation_level = None
        migrate(connection, "the database in memory")
        let_shrink(connection)
        return cls(connection, None)

    def load(self) -> History:
        """Read heads, origins, frontiers, the base's heads: all a restart needs, and no message."""
        with failing("load"):
            self._kept = Kept(self._connection)
            return self._kept.history()

    def last_position(self) -> int:
        """The greatest position that was ever given, or 0."""
        with failing("read"):
            return (self._kept or Kept(self._connection)).position

    def append(
        self,
        messages: Sequence[Message],
        once: Sequence[tuple[str, int, Dot]] = (),
        now_ms: int = 0,
    ) -> int:
        """Commit `messages` in their order, each its log's next; return the first one's position.

        Positions are consecutive. `once` is (client, n, dot), n rising for each client; `now_ms` is
        the wall clock they arrive by. Raises StoreFailed, with nothing kept.
        """
        with failing("append"):
            kept = self._take_kept()
            first = kept.position + 1
            with atomic(self._connection):
                kept.append(messages, now_ms)
                write_once(self._connection, once)
            self._kept = kept
        return first

    def retain(
        self, *, arrived_before_ms: int | None, bytes_max: int | None, messages_max: int = 512
    ) -> Retained:
        """Prune a slice of what is below the floor, arrived before, or is above `bytes_max`.

        About `messages_max` messages, or else, give back some free pages; call it again while there
        is more. None is no limit. Raises StoreFailed, with nothing pruned.
        """
        with failing("retain"):
            kept = self._take_kept()
            ended = self._retention.step(
                self._connection, kept, arrived_before_ms, bytes_max, messages_max
            )
            self._kept = kept
        return ended

    def adopt(self, floor: int, base: Sequence[BaseLog]) -> History:
        """Take another's floor and base as our own, and return what is held then, as `load` does.

        The whole base, of one moment. Of logs it is ahead in, what is held is pruned. Raises
        StoreFailed, with nothing changed.
        """
        with failing("adopt"):
            kept = self._take_kept()
            with atomic(self._connection):
                adopt(self._connection, kept, floor, base)
                kept = Kept(self._connection)
                history = kept.history()
            self._kept = kept
        return history

    def _take_kept(self) -> Kept:
        # Out of the way until the commit: a failure of any kind leaves no memory behind.
        kept, self._kept = self._kept or Kept(self._connection), None
        return kept

    def recover(self) -> None:
        """Open the writer anew after a failure, so that what it then reads is the truth.

        Raises StoreFailed while the disk still fails; call it again later.
        """
        self._kept = None
        try:
            if self._path is None:
                self._connection.rollback()
                return
            self._connection.close()
            self._connection = open_writer(self._path, create=False)
        except (sqlite3.Error, OSError, FlcError) as error:
            raise StoreFailed("recover", str(error)) from error

    def reader(self) -> Reader:
        """One more connection, for another thread; of a lent connection, that one itself."""
        if self._path is None:
            return Reader(self._connection, lent=True)
        return Reader(open_reader(self._path))

    def close(self) -> None:
        """Fold the WAL into the database and close it; a lent connection stays as it is."""
        if self._path is None:
            return
        # What cannot be folded in now is safe in the WAL, which the next open reads.
        with suppress(sqlite3.Error):
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._connection.close()

    # This node's own facts.

    def identity(self, fresh: NodeId) -> NodeId:
        """The node's id: `fresh` at first use, and the same ever after."""
        kept = self._fact("id")
        if isinstance(kept, bytes):
            return kept
        self.save_identity(fresh)
        return fresh

    def save_identity(self, node: NodeId) -> None:
        """Take another id: this node was found to be a live clone's double."""
        self._save("identity", ("INSERT OR REPLACE INTO node VALUES ('id', ?)", [(node,)]))

    def incarnation(self) -> int:
        """The greatest incarnation ever saved, or 0."""
        kept = self._fact("incarnation")
        return kept if isinstance(kept, int) else 0

    def save_incarnation(self, n: int) -> None:
        """Remember the incarnation; a lower one than is known changes nothing."""
        upsert = """INSERT INTO node VALUES ('incarnation', ?)
                    ON CONFLICT DO UPDATE SET value = max(value, excluded.value)"""
        self._save("incarnation", (upsert, [(n,)]))

    def peers(self) -> list[tuple[NodeId, str, str]]:
        """Remembered members: (node id, name, address), by id."""
        return self._read("SELECT id, name, address FROM peer ORDER BY id")

    def save_peers(self, rows: Sequence[tuple[NodeId, str, str]]) -> None:
        """Replace the remembered members, as a whole; their number is the caller's to bound."""
        self._save("peers", ("DELETE FROM peer", [()]), ("INSERT INTO peer VALUES (?, ?, ?)", rows))

    def _fact(self, key: str) -> object:
        rows = self._read("SELECT value FROM node WHERE key = ?", key)
        return rows[0][0] if rows else None

    def _read(self, sql: str, *values: object) -> list[tuple[bytes, str, str]]:
        with failing("read"):
            return self._connection.execute(sql, values).fetchall()

    def _save(self, what: str, *steps: tuple[str, Sequence[tuple[object, ...]]]) -> None:
        with failing(f"save {what}"), atomic(self._connection):
            for sql, rows in steps:
                self._connection.executemany(sql, rows)
