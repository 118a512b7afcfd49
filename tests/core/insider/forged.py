"""Blocks that an insider forges: any stamp, any causes, any parent, in the name of any node."""

from flc_udp.core.liveness.members import alive_row
from flc_udp.model.address import Address
from flc_udp.model.block import NO_PARENT, Block, Origin, pack_body, write
from flc_udp.model.dots import Dot, LogId, NodeId
from flc_udp.model.units import Millis
from flc_udp.wire.packets import Rumor
from flc_udp.wire.rows import MemberRow
from tests.core.dialogue import WALL, Party

EVE = NodeId(b"insider!")
AT = Address("10.0.0.66", 6666)
LOG = LogId(b"forged!!")


def forge(
    body: str = "forged",
    *,
    log: LogId = LOG,
    after: Block | None = None,
    room: str = "lobby",
    stamp: int = WALL << 16,
    causes: tuple[Dot, ...] = (),
) -> Block:
    """One block; it follows `after` in its log, or begins it."""
    return write(
        log=log,
        first=1 if after is None else after.last + 1,
        room=room,
        author="eve",
        wall=Millis(min(stamp >> 16, WALL)),
        stamp=stamp,
        causes=causes,
        parent=NO_PARENT if after is None else after.hash,
        bodies=[pack_body(body)],
        origin=Origin(EVE, "eve") if after is None else None,
    )


def push(to: Party, *blocks: Block, sender: NodeId = EVE) -> None:
    """The insider sends these blocks as new ones, and they are carried out."""
    rumor = Rumor(False, 0, tuple(block.encoded for block in blocks))
    to.replica.receive([rumor], sender, AT, to.talk.wall, to.talk.now)
    to.carry_out()


def member(number: int, **changes: object) -> MemberRow:
    """A member that was made up: nobody is at its address."""
    node = NodeId(b"madeup" + number.to_bytes(2, "big"))
    address = Address(f"10.9.{number >> 8}.{number & 255}", 9)
    return alive_row(node, 1_000, address, f"n{number}", number)._replace(**changes)
