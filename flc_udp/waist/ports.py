"""Ports: what a node stands on, and what passes between the two: clocks, a socket, a disk, people.

What turns a node is its *ground*: asyncio and a writer thread in the daemon (`daemon.ground`), a
heap of virtual time in the simulator (`sim.machine`). A ground does what it is told and decides
nothing.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from flc_udp.core.effects import Deliver
from flc_udp.core.standing import NO_LOG
from flc_udp.model.address import Address
from flc_udp.model.block import Block
from flc_udp.model.dots import Dot, LogId, NodeId
from flc_udp.model.errors import FlcError
from flc_udp.model.history import BaseLog, History, PlacedBlock, RottenBlock
from flc_udp.model.notices import Notice
from flc_udp.model.units import EPOCH, Micros, Millis
from flc_udp.waist.flood import Door

Once = tuple[str, int]
"""(client, n): a say that is repeated under the same pair is not said again."""

PeerRow = tuple[NodeId, str, str]
"""(node id, name, address): a member as it is remembered between two runs."""


class Post:
    """What somebody says: one message or many, in their order, and what becomes of them.

    Its messages get the numbers `low` to `high` of a log, and are durable up to `durable`, which is
    at `position`. `went_on` is called after each commit of a part of it, and `done` once, when each
    of them is durable or refused.
    """

    __slots__ = (
        "author", "bodies", "durable", "errors", "high", "log", "looked", "low", "once", "places",
        "position", "receipt", "room", "taken",
    )  # fmt: skip

    def __init__(
        self,
        room: str,
        author: str,
        bodies: Sequence[str | bytes],
        *,
        receipt: bool = False,
        once: Once | None = None,
    ) -> None:
        """`receipt`: the other members are asked to say when they hold it.

        `once` has the number of the first message; the others count on.
        """
        self.room, self.author, self.bodies = room, author, bodies
        self.receipt, self.once = receipt, once
        self.log, self.low, self.high = NO_LOG, 1, 0
        self.durable = self.position = 0
        self.errors: dict[int, FlcError] = {}
        """Why messages were refused, by their places in `bodies`."""
        self.looked = 0
        """How many of the bodies were looked at: the others wait for a later turn."""
        self.places: list[int] = []
        """Where those of them stand in `bodies` that may be said."""
        self.taken = 0
        """How many of these were said. They are the messages `low` to `high`."""

    def went_on(self) -> None:
        """More of it is durable, and will be shown; the rest is still to come."""

    def done(self) -> None:
        """All of it is durable or refused."""
        raise NotImplementedError

    def refuse_rest(self, error: FlcError) -> None:
        """What is not durable is refused."""
        self.refuse_after(max(self.durable - self.low + 1, 0), error)
        self.done()

    def refuse_after(self, count: int, error: FlcError) -> None:
        """All that may be said is refused, but for the first so many messages."""
        self.errors |= dict.fromkeys(self.places[count:], error)
        self.errors |= dict.fromkeys(range(self.looked, len(self.bodies)), error)
        del self.places[count:]
        self.looked = len(self.bodies)

    @property
    def is_taken(self) -> bool:
        """Whether each of its messages was said or refused."""
        return self.looked == len(self.bodies) and self.taken == len(self.places)

    @property
    def error(self) -> FlcError | None:
        """Why the first of those that were refused was refused."""
        return self.errors[min(self.errors)] if self.errors else None

    @property
    def refused(self) -> list[int]:
        """The places of the messages that were refused, from 0."""
        return sorted(self.errors)

    @property
    def dot(self) -> Dot:
        """The name of its last durable message."""
        return Dot(self.log, self.durable)


class Batch(NamedTuple):
    """One transaction: blocks in causal order, and the once-keys of messages that have one."""

    blocks: tuple[Block, ...]
    once: tuple[tuple[str, int, Dot], ...]
    arrived: Millis = EPOCH
    """When the commit began, in ms, by the clock that ages go by (`pruning.AgeClock`)."""


class Reads(Protocol):
    """What the Node reads from the log. `store.reader.Reader` is one."""

    def replay(
        self, spans: Sequence[tuple[LogId, int, int]], bytes_max: int, after: int, below: int
    ) -> tuple[list[bytes], int]:
        """Blocks of the spans in (stamp, log, seq) order, and the stamp of the next one."""

    def block(self, dot: Dot) -> bytes | None:
        """The encoded block with this message, if it is held."""

    def position_of(self, dot: Dot) -> int | None:
        """The position of a message, if it is held, whether its block is sound or not."""

    def met_rotten(self, positions: Sequence[int]) -> None:
        """The blocks at these positions have changed on the disk, as the writer found."""

    def take_rotten(self) -> tuple[list[RottenBlock], list[PlacedBlock]]:
        """Blocks that were met since the last call and have changed on the disk.

        The second list has sound blocks whose rows have changed.
        """

    def look_through(self, after: int) -> int:
        """Look for such blocks after a position; return how far that went, 0 at the end."""

    def floor(self) -> int:
        """The stamp from which every message is kept. 0 where nothing was ever pruned."""

    def base_heads(self, logs: Sequence[LogId]) -> dict[LogId, int]:
        """{log: seq of its last message below the floor}, for those of `logs` that lost any."""

    def base(self, after: LogId, rooms_max: int) -> list[BaseLog]:
        """Logs of the base with ids above `after`, with about `rooms_max` rooms altogether."""

    def base_version(self) -> int:
        """A number that changes whenever the base does."""


class RemembersSays(Protocol):
    """What is known of says that had a number. `store.reader.Reader` is one."""

    def once(self, client: str, n: int, count: int) -> tuple[list[Dot | None], int]:
        """The dots that a client said under `count` numbers from `n` on, and its greatest number.

        None stands for a number that is not remembered. Raises StoreFailed.
        """

    def position_of(self, dot: Dot) -> int | None:
        """The position of a message, if it is held."""


class Keeps(Protocol):
    """What a node finds at its start, and what it keeps for the next one.

    `store.log.Log` is one.
    """

    def identity(self) -> NodeId | None:
        """The node's id. None: this is its first start."""

    def incarnation(self) -> int:
        """The greatest incarnation that was ever saved, or 0."""

    def save_self(self, node: NodeId, incarnation: int) -> None:
        """Remember the node's id, and its incarnation."""

    def peers(self) -> list[PeerRow]:
        """The members that were remembered."""

    def load(self) -> History:
        """What the log holds."""

    def latest_arrival(self) -> Millis:
        """When the latest messages arrived, as their batch was dated. 0 where there are none."""


class Ground(Protocol):
    """What a node stands on. Every method returns at once; what takes time ends in a call back."""

    @property
    def buffer_bytes(self) -> int:
        """How many bytes of datagrams may wait until the node takes them."""

    def now(self) -> Micros:
        """A clock that only goes forward, in µs."""

    def wall(self) -> Millis:
        """The wall clock, in ms since 1970."""

    def fresh_bytes(self, count: int) -> bytes:
        """Give so many bytes that nobody can guess."""

    def transmit(self, datagram: bytes, to: Address) -> None:
        """Send one datagram. It may be lost."""

    def narrow(self, door: Door | None) -> None:
        """Drop what does not pass this door before the node has to read it, as far as can be.

        None: nothing is dropped any more.
        """

    def commit(self, batch: Batch, *, at_once: bool) -> None:
        """Start one commit. It ends in `Node.committed` or `Node.commit_failed`.

        With `at_once` it may be made now, and the node does nothing else meanwhile.
        """

    def recover(self) -> None:
        """Open the log anew and read what it holds, after a failure.

        It ends in `Node.recovered` or `Node.recovery_failed`.
        """

    def try_disk(self) -> None:
        """Write a little. It ends in `Node.disk_is_well` or `Node.disk_failed`."""

    def retain(
        self, arrived_before_ms: Millis | None, bytes_max: int | None, stamp_limit: int
    ) -> None:
        """Delete a few messages that arrived earlier, or that are beyond this many bytes.

        None of them has a stamp from `stamp_limit` on.
        It ends in `Node.retained` or `Node.retention_failed`.
        """

    def adopt(self, floor: int, base: Sequence[BaseLog]) -> None:
        """Take a floor and its base as the log's own.

        It ends in `Node.adopted` or `Node.adoption_failed`.
        """

    def heal(self, rows: Sequence[PlacedBlock]) -> None:
        """Write these blocks in the places of those that have changed on the disk.

        Without any, rows of small tables that have changed are set right. It ends in `Node.healed`
        or `Node.healing_failed`.
        """

    def save_self(self, node: NodeId, incarnation: int) -> None:
        """Remember this node's id and incarnation for the next start, soon."""

    def save_peers(self, rows: Sequence[PeerRow]) -> None:
        """Remember these members for the next start, soon.

        If that fails it ends in `Node.peers_not_saved`.
        """

    def free_bytes(self) -> int:
        """Free space where the log lives."""

    def answered(self) -> None:
        """Posts of a commit have their answers, which may go to whoever waits for them."""

    def show(self, deliver: Deliver) -> None:
        """These blocks are durable. Without blocks: everything below the position is."""

    def tell(self, notice: Notice) -> None:
        """Tell people a fact."""

    def failed(self, part: str, error: Exception) -> None:
        """Something failed alone that nobody expected to fail."""
