"""What a node stands on, and what passes between the two: clocks, a socket, a disk, people.

The daemon's ground is asyncio and a writer thread (`daemon.ground`), the simulator's a heap of
virtual time (`sim.machine`). A Node knows neither; it knows this.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from flc_udp.core.effects import Notice
from flc_udp.model.address import Address
from flc_udp.model.dots import Dot, LogId, NodeId
from flc_udp.model.errors import FlcError
from flc_udp.model.history import BaseLog
from flc_udp.model.message import Message

Once = tuple[str, int]
"""(client, n): makes a repeated say return the first dot."""


@dataclass(frozen=True, slots=True)
class Said:
    """A post is durable: its dot, and its position in this node's local order."""

    dot: Dot
    position: int


@dataclass(frozen=True, slots=True)
class Post:
    """What somebody says; `done` is called once, with Said or with why not."""

    room: str
    author: str
    body: str | bytes
    done: Callable[[Said | FlcError], None]
    receipt: bool = False
    once: Once | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """One transaction: messages in causal order, and the once-keys of those that had one."""

    messages: tuple[Message, ...]
    once: tuple[tuple[str, int, Dot], ...]
    wall: int = 0
    """When, in ms since 1970."""


class Reads(Protocol):
    """What the Node reads from the log; `store.log.Reader` is one."""

    def replay(
        self, spans: Sequence[tuple[LogId, int, int]], bytes_max: int, after: int, below: int
    ) -> tuple[list[bytes], int]:
        """Messages of the spans in (stamp, log, seq) order, and the next one's stamp."""

    def message(self, dot: Dot) -> bytes | None:
        """One encoded message."""

    def floor(self) -> int:
        """Stamp from which on every message is kept; 0 where nothing was ever pruned."""

    def base_heads(self, logs: Sequence[LogId]) -> dict[LogId, int]:
        """{log: its last message below the floor}, of those of `logs` that lost any."""

    def base(self, after: LogId, rooms_max: int) -> list[BaseLog]:
        """Logs of the base with ids above `after`, of about so many rooms."""

    def base_version(self) -> int:
        """Another number whenever the base is another."""


class Ground(Protocol):
    """What a node stands on: clocks, a socket, a disk, and somebody to tell."""

    def now(self) -> int:
        """Monotonic time in µs."""

    def wall(self) -> int:
        """Milliseconds since 1970."""

    def transmit(self, datagram: bytes, to: Address) -> None:
        """Send one datagram; it may be lost."""

    def commit(self, batch: Batch) -> None:
        """Start one commit; ends in `Node.committed` or `Node.commit_failed`."""

    def retain(self, arrived_before_ms: int | None, bytes_max: int | None) -> None:
        """Let go of a few messages that came earlier, or beyond so many bytes.

        Ends in `Node.retained`.
        """

    def adopt(self, floor: int, base: Sequence[BaseLog]) -> None:
        """Take a floor and its base as the log's own; ends in `Node.adopted`."""

    def save_incarnation(self, incarnation: int) -> None:
        """Remember it for the next start, soon."""

    def save_identity(self, node: NodeId) -> None:
        """This node has another id: remember it for the next start, soon."""

    def free_bytes(self) -> int:
        """Free space where the log lives."""

    def show(self, first_position: int, messages: Sequence[Message]) -> None:
        """These are durable, at consecutive positions."""

    def tell(self, notice: Notice) -> None:
        """A fact for people."""
