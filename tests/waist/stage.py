"""A node on a ground of lists and a peer that a test plays: what happened reads as a trace."""

from collections.abc import Iterable
from random import Random

from flc_udp.config import Settings
from flc_udp.core.effects import Deliver
from flc_udp.core.liveness.members import alive_row
from flc_udp.model.address import Address
from flc_udp.model.block import Block
from flc_udp.model.history import History
from flc_udp.waist.node import Node
from flc_udp.waist.ports import Batch, Once
from flc_udp.wire import codec
from flc_udp.wire.packets import Join, Packet
from flc_udp.wire.packing import pack
from flc_udp.wire.seal import Seal, keyring
from tests.model.kept import KeptInList, history_of
from tests.waist.credulous import believe_all
from tests.waist.ground import ListGround, Said

KEY = b"k" * 32
ANN = alive_row(b"ann-----", 1, Address("10.0.0.1", 7352), "ann", 1)
BOB = alive_row(b"bob-----", 1, Address("10.0.0.2", 7352), "bob", 1)


class Stage(ListGround):
    """A node on a ground made of lists; bob, a peer, is played by the test.

    `trace` is everything the node did, in order.
    """

    def __init__(self, **settings: int) -> None:
        super().__init__()
        self.disk = KeptInList([])
        self.trace: list[tuple[str, object]] = []
        self.packets: list[tuple[Packet, Address]] = []
        self.sizes: list[int] = []
        self.begun: list[Batch] = []
        """Every commit that was begun."""
        self.seal = Seal(keyring((KEY,), "flc"), b"bob's session 16")
        self.node = Node(
            Settings(**settings),
            ANN,
            History(),
            self.disk,
            Seal(keyring((KEY,), "flc"), b"ann's session 16"),
            self,
            Random(0),
        )
        believe_all(self.node)

    # --- The ground ---------------------------------------------------------------------------

    def transmit(self, datagram: bytes, to: Address) -> None:
        """Open and read a datagram, as a peer would."""
        sender, packets, unknown = codec.read(self.seal.open(datagram).payload)
        assert (sender, unknown) == (self.node.me.id, 0)
        self.sizes.append(len(datagram))
        self.packets += [(packet, to) for packet in packets]
        self.trace += [("sent", type(packet).__name__) for packet in packets]

    def commit(self, batch: Batch, *, at_once: bool) -> None:
        """Begin a commit, which is under way until `finish` or `fail`."""
        assert batch.blocks
        super().commit(batch, at_once=at_once)
        self.begun.append(batch)
        self.trace.append(("commit", bodies_of(batch.blocks)))

    def answered(self) -> None:
        """Each post was told already."""

    def show(self, deliver: Deliver) -> None:
        """Add it to the trace."""
        self.trace.append(("show", (deliver.position, *bodies_of(deliver.blocks))))

    # --- What a test does -------------------------------------------------------------------

    def meet(self) -> None:
        """Bob joins; what that took is not in the trace."""
        self.receive(Join(BOB))
        self.node.turn()
        self.trace.clear()
        self.packets.clear()

    def receive(self, *packets: Packet) -> None:
        """Bob sends packets."""
        for payload in pack(BOB.id, packets, 1_355):
            self.node.datagram_received(self.seal.close(payload), BOB.address)

    def say(
        self,
        *bodies: str | bytes,
        room: str = "lobby",
        author: str = "ann",
        receipt: bool = False,
        once: Once | None = None,
    ) -> Said:
        """Somebody says one message, or more at once; what becomes of it is seen in the post."""
        post = Said(*bodies, room=room, author=author, receipt=receipt, once=once)
        post.heard = self._heard
        self.node.post(post)
        return post

    def _heard(self, post: Said) -> None:
        self.trace.append(("answer", "durable" if post.error is None else "refused"))

    def turn(self, after_us: int = 0) -> None:
        """Some time passes, and the node has its turn."""
        self.time += after_us
        self.node.turn()

    def finish(self) -> None:
        """The commit under way is durable."""
        (batch,) = self.commits
        self.commits.clear()
        position = len(self.bodies()) + 1
        self.disk.blocks += batch.blocks
        self.node.committed(batch, position)

    def fail(self) -> None:
        """The commit under way failed, and the log was opened anew at once."""
        self.commits.clear()
        self.node.commit_failed("disk full")
        self.recover_now()

    def recover_now(self) -> None:
        """The log was opened anew, and read."""
        self.node.recovered(history_of(self.disk.blocks), len(self.bodies()))

    def finish_all(self) -> None:
        """Until nothing waits for the disk."""
        while self.commits or self.node.queued()["uncommitted"]:
            if self.commits:
                self.finish()
            self.turn(1_000_000)

    def of_kind(self, kind: type[Packet]) -> list[Packet]:
        """What was sent of one kind."""
        return [packet for packet, _ in self.packets if isinstance(packet, kind)]

    def bodies(self) -> list[str | bytes]:
        """What is durable."""
        return list(bodies_of(self.disk.blocks))


def bodies_of(blocks: Iterable[Block]) -> tuple[str | bytes, ...]:
    """All their bodies, in order."""
    return tuple(body for block in blocks for body in block.bodies)


def stage(**settings: int) -> Stage:
    """A node that knows bob."""
    made = Stage(**settings)
    made.meet()
    return made
