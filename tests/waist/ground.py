"""A ground made of lists: it does nothing by itself, and each thing a node asks of it can be read.

A test is the other half of this ground: it lets time pass, gives the node its turns, and says how
each commit, each recovery and each attempt at the disk ended.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from random import Random

from flc_udp.core.effects import Deliver
from flc_udp.core.push.window import BUFFER_BYTES
from flc_udp.model.address import Address
from flc_udp.model.block import Block
from flc_udp.model.dots import Dot, NodeId
from flc_udp.model.errors import FlcError
from flc_udp.model.history import BaseLog
from flc_udp.model.notices import Notice
from flc_udp.waist.flood import Door
from flc_udp.waist.ports import Batch, Once, PeerRow, Post

RUNS = count()
"""Each ground has other bytes that nobody can guess."""

WALL = 1_700_000_000_000


class Said(Post):
    """A post that remembers its answers, of which there is to be one."""

    __slots__ = ("answers", "heard")

    def __init__(
        self,
        *bodies: str | bytes,
        room: str = "lobby",
        author: str = "ann",
        receipt: bool = False,
        once: Once | None = None,
        heard: Callable[[Said], None] = lambda _: None,
    ) -> None:
        """`heard` is called when it is done."""
        super().__init__(room, author, bodies, receipt=receipt, once=once)
        self.answers: list[FlcError | None] = []
        """The error, or None, of each time that it was done."""
        self.heard = heard

    def done(self) -> None:
        """Remember how it ended, and tell."""
        self.answers.append(self.error)
        self.heard(self)

    @property
    def is_durable(self) -> bool:
        """Whether it was answered once, and all of it is durable."""
        return self.answers == [None] and self.refused == []

    @property
    def is_refused(self) -> bool:
        """Whether it was answered once, and none of it is durable."""
        places = list(range(len(self.bodies)))
        return len(self.answers) == 1 and self.error is not None and self.refused == places

    def dots(self) -> dict[int, Dot]:
        """{place: dot} of what is durable."""
        seqs = range(self.low, self.durable + 1)
        return {self.places[seq - self.low]: Dot(self.log, seq) for seq in seqs}


class ListGround:
    """`waist.ports.Ground` over lists."""

    def __init__(self) -> None:
        self.time = 0
        """Virtual µs."""
        self._wall_at_0 = WALL
        self._random = Random(next(RUNS))
        self.free = 1 << 40
        self.buffer_bytes = BUFFER_BYTES
        self.sent: list[tuple[bytes, Address]] = []
        self.doors: list[Door | None] = []
        self.commits: list[Batch] = []
        """Commits under way; a test takes them out as they end."""
        self.at_once: list[bool] = []
        """Of each commit that was begun, whether it was to be made at once."""
        self.recoveries = 0
        self.attempts = 0
        """How often the disk was to be tried."""
        self.retains: list[tuple[int | None, int | None]] = []
        self.adopts: list[tuple[int, Sequence[BaseLog]]] = []
        self.selves: list[tuple[NodeId, int]] = []
        self.peers: list[Sequence[PeerRow]] = []
        self.shown: list[Deliver] = []
        self.notices: list[Notice] = []

    def now(self) -> int:
        """Virtual µs."""
        return self.time

    def wall(self) -> int:
        """Virtual ms since 1970."""
        return self._wall_at_0 + self.time // 1_000

    def set_clock(self, wall: int) -> None:
        """Somebody sets the wall clock, in ms since 1970. It goes on from there."""
        self._wall_at_0 = wall - self.time // 1_000

    def fresh_bytes(self, count: int) -> bytes:
        """The same for each test."""
        return self._random.randbytes(count)

    def narrow(self, door: Door | None) -> None:
        """Add the door to the list."""
        self.doors.append(door)

    def transmit(self, datagram: bytes, to: Address) -> None:
        """Add a datagram to the list."""
        self.sent.append((datagram, to))

    def commit(self, batch: Batch, *, at_once: bool) -> None:
        """Begin a commit."""
        self.commits.append(batch)
        self.at_once.append(at_once)

    def recover(self) -> None:
        """Count it."""
        self.recoveries += 1

    def try_disk(self) -> None:
        """Count it."""
        self.attempts += 1

    def retain(
        self, arrived_before_ms: int | None, bytes_max: int | None, stamp_limit: int
    ) -> None:
        """Add the limits to the list."""
        self.retains.append((arrived_before_ms, bytes_max))

    def adopt(self, floor: int, base: Sequence[BaseLog]) -> None:
        """Add the base to the list."""
        self.adopts.append((floor, base))

    def heal(self, blocks: Sequence[Block]) -> None:
        """Nothing ever changes."""
        assert not blocks

    def save_self(self, node: NodeId, incarnation: int) -> None:
        """Add it to the list."""
        self.selves.append((node, incarnation))

    def save_peers(self, rows: Sequence[PeerRow]) -> None:
        """Add the members to the list."""
        self.peers.append(rows)

    def free_bytes(self) -> int:
        """As the test says."""
        return self.free

    def show(self, deliver: Deliver) -> None:
        """Add it to the list."""
        self.shown.append(deliver)

    def failed(self, part: str, error: Exception) -> None:
        """Nothing that a test does may lead here."""
        raise AssertionError(part) from error

    def tell(self, notice: Notice) -> None:
        """Add it to the list."""
        self.notices.append(notice)
