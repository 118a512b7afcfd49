"""A disk: one SQLite database in memory, which outlives the node that writes to it.

A write takes time and has a fate. It can fail in the middle of its transaction: SQLite is
interrupted after some of its instructions, so the log's own way of undoing is tested. The machine
can crash before the write or right after it. A disk can be put back to an earlier state.
"""

import sqlite3
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from enum import Enum
from itertools import chain, repeat
from random import Random
from typing import NamedTuple, TypeVar

from flc_udp.model.block import Block, decode
from flc_udp.model.dots import Dot
from flc_udp.model.errors import StoreFailed
from flc_udp.model.units import MS_US, Millis
from flc_udp.sim.network import Faults
from flc_udp.store.log import Log
from flc_udp.store.queries import used_bytes
from flc_udp.store.reader import Reader
from flc_udp.store.retention import HYSTERESIS

Result = TypeVar("Result")

SNAPSHOTS_KEPT = 3


def put(connection: sqlite3.Connection, content: bytes) -> None:
    """Let a database in memory be another one, of which this is the serialized content.

    To deserialize it there would crash the process, because the connection has triggers.
    """
    with closing(sqlite3.connect(":memory:")) as other:
        other.deserialize(content)
        other.backup(connection)


class Operation(NamedTuple):
    """A kind of write, and how the trace speaks of its failures."""

    verb: str
    noun: str
    right_after: str
    instructions_max: int
    """A write that is to fail does so within this many of SQLite's instructions, or not at all."""


OPERATIONS = {
    "append": Operation("commit", "commit", "between commit and send", 60),
    "retain": Operation("prune", "pruning", "right after it pruned", 600),
    "heal": Operation("heal", "healing", "right after it healed", 60),
    "adopt": Operation(
        "take a base", "the base that is taken", "right after it took a base", 3_000
    ),
}

PAGE = 500

WALL_STRETCH = 1_000
"""The log is told that a second is this many seconds. It keeps times of arrival by the minute, and
a play in which messages are pruned by age lasts only seconds."""


class Fate(Enum):
    """What becomes of a transaction."""

    DONE = "done"
    FAILED = "failed"
    """Nothing is written, and the node is told so."""
    DOUBTED = "doubted"
    """The node is told that it failed, but all is written, as when only the last sync fails."""
    CRASH_BEFORE = "crash before"
    """Nothing is written."""
    CRASH_AFTER = "crash after"
    """All is written, and the node never hears of it."""


class DiskLog(Log):
    """A log on such a disk."""

    def latest_arrival(self) -> Millis:
        """When the latest messages arrived, by the clock of the machine."""
        return Millis(super().latest_arrival() // WALL_STRETCH)


class DiskReader(Reader):
    """What a node reads by."""

    def __init__(self, disk: "Disk") -> None:
        super().__init__(disk.connection, lent=True)
        self._disk = disk

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Raise StoreFailed while the disk cannot be read."""
        if not self._disk.is_readable:
            raise StoreFailed("read", "disk I/O error")
        with super().reading():
            yield


class Disk:
    """The connection is the disk. A `DiskLog` stands on it, for one run of a node after another."""

    def __init__(self, random: Random) -> None:
        self.connection = sqlite3.connect(":memory:", isolation_level=None)
        self.free_bytes = 1 << 40
        self.is_away = False
        """Whether its directory has moved away, so that everything that is written fails."""
        self.is_readable = True
        """Whether a node that runs can read. Writing is another matter: see `fates`."""
        self.snapshots: deque[bytes] = deque(maxlen=SNAPSHOTS_KEPT)
        self.fates: defaultdict[str, deque[Fate]] = defaultdict(deque)
        """The fates of the next writes of each kind, where a play wants them. Else chance decides.
        """
        self._random = random
        self._is_over = False

    def log(self) -> DiskLog:
        """The log of one more run."""
        return DiskLog.over(self.connection)

    def rot(self, blocks: int) -> list[Dot]:
        """Flip a bit of so many blocks, or of all; return the dots of their last messages."""
        rows = list(stored(self.connection))
        chosen = self._random.sample(rows, min(blocks, len(rows)))
        for _, position, encoded in chosen:
            changed = bytearray(encoded)
            changed[self._random.randrange(len(changed))] ^= 1 << self._random.randrange(8)
            row = (bytes(changed), position)
            self.connection.execute("UPDATE block SET encoded = ? WHERE position = ?", row)
        return [dot for dot, _, _ in chosen]

    def bring(self, block: Block) -> None:
        """Write a block as it was, from a copy that is kept elsewhere."""
        sql = """UPDATE block SET encoded = ?
            WHERE log_no = (SELECT no FROM log WHERE id = ?) AND seq = ?"""
        self.connection.execute(sql, (block.encoded, block.log, block.last))

    def keep_snapshot(self) -> None:
        """Remember the disk as it is now. Only the latest snapshots are kept."""
        self.snapshots.append(self.connection.serialize())

    def put_back(self) -> None:
        """Be as the oldest snapshot that is kept."""
        put(self.connection, self.snapshots[0])

    def positions(self) -> set[int]:
        """The positions at which messages stand."""
        rows = self.connection.execute("SELECT position, count FROM block")
        return {at for last, count in rows for at in range(last - count + 1, last + 1)}

    def excess(self, bytes_max: int) -> int:
        """How many bytes may be deleted where `bytes_max` are allowed. A limit of 0 is none.

        Above the limit as much may be deleted as leaves a part of it free.
        """
        if not bytes_max:
            return 0
        used, low = used_bytes(self.connection), bytes_max - bytes_max // HYSTERESIS
        self._is_over = used > (low if self._is_over else bytes_max)
        return used - low if self._is_over else 0

    def write_us(self, faults: Faults) -> int:
        """How long the next write takes, in µs."""
        chance = self._random.random
        spread = faults.commit_us_max - faults.commit_us_min
        duration = faults.commit_us_min + int(spread * chance())
        if chance() < faults.commit_stall:
            duration += int(faults.commit_stall_ms_max * MS_US * chance())
        return duration

    def next_fate(self, faults: Faults, operation: str) -> Fate:
        """The fate of the next write."""
        if self.fates[operation]:
            return self.fates[operation].popleft()
        chance = self._random.random()
        for fate, share in (
            (Fate.CRASH_BEFORE, faults.crash_before_commit),
            (Fate.CRASH_AFTER, faults.crash_after_commit),
            (Fate.FAILED, faults.commit_failure),
            (Fate.DOUBTED, faults.commit_doubt),
        ):
            if chance < share:
                return fate
            chance -= share
        return Fate.DONE

    def fails(self, operation: str) -> bool:
        """Whether the next attempt of this kind fails: a play wants it, or the disk is away."""
        fates = self.fates[operation]
        return self.is_away or (bool(fates) and fates.popleft() is Fate.FAILED)

    def save_fails(self, faults: Faults) -> bool:
        """Whether a small write fails."""
        return self.is_away or self._random.random() < faults.save_failure

    def write(
        self, operation: str, fate: Fate, write: Callable[[], Result]
    ) -> Result | StoreFailed:
        """Let what the log writes have this fate. Return its result, or why it failed."""
        if self.is_away:
            return StoreFailed(operation, "the directory is not where it was")
        if fate is Fate.FAILED:
            # SQLite is told to stop when it first asks, and to go on from then on.
            answers = chain((1,), repeat(0))
            instructions = self._random.randint(1, OPERATIONS[operation].instructions_max)
            self.connection.set_progress_handler(lambda: next(answers), instructions)
        try:
            result = write()
        except StoreFailed as error:
            return error
        finally:
            self.connection.set_progress_handler(None, 0)
        return StoreFailed(operation, "the last sync failed") if fate is Fate.DOUBTED else result


def stored(connection: sqlite3.Connection) -> Iterator[tuple[Dot, int, bytes]]:
    """(last message, its position, encoded) of all blocks on a disk, whatever has changed."""
    sql = "SELECT log.id, block.seq, position, encoded FROM block JOIN log ON log.no = log_no"
    for log, seq, position, encoded in connection.execute(f"{sql} ORDER BY position"):
        yield Dot(log, seq), position, encoded


def by_position(reader: Reader, position: int = 0) -> Iterator[tuple[int, Block]]:
    """(position of its first message, block) of what stands on a disk after a position."""
    while page := reader.after(position, None, PAGE):
        for last, encoded in page:
            block = decode(encoded)
            yield last - len(block.bodies) + 1, block
        position = page[-1][0]
