"""Birth: how a node begins its run, and what it remembers of other members for the next one.

Rules. A node keeps its id for life. Its incarnation begins above everything that was ever said of
that id: above what its former runs saved, and above the seconds of the wall clock, because a disk
may be older than what others heard. Remembered members are addresses to ask, never claims.
"""

from collections.abc import Callable
from random import Random

from flc_udp.config import ID_BYTES, Settings
from flc_udp.core.liveness.members import alive_row
from flc_udp.model.address import Address, parse_numeric
from flc_udp.model.dots import NodeId
from flc_udp.model.errors import StoreFailed
from flc_udp.model.tags import parse_tags
from flc_udp.waist.node import Node
from flc_udp.waist.notices import ClockDoubted, PeersUnreadable
from flc_udp.waist.ports import Ground, Keeps, Reads
from flc_udp.wire.seal import SESSION_BYTES, Seal


def give_birth(
    settings: Settings,
    name: str,
    address: Address,
    kept: Keeps,
    reader: Reads,
    seal_of: Callable[[bytes], Seal],
    ground: Ground,
    random: Random,
) -> Node:
    """Make the node of a new run. `seal_of` makes the seal of the session that it is given."""
    fresh_id, history = _fresh_id(random), kept.load()
    node_id = kept.identity() or fresh_id
    incarnation = max(kept.incarnation() + 1, ground.wall() // 1_000)
    kept.save_self(node_id, incarnation)
    boot, tags = random.getrandbits(63), parse_tags(settings.tags)
    me = alive_row(node_id, incarnation, address, name, boot, tags)
    seal = seal_of(ground.fresh_bytes(SESSION_BYTES))
    latest = kept.latest_arrival()
    node = Node(settings, me, history, reader, seal, ground, random, latest)
    if not node.knows_ages:
        ground.tell(ClockDoubted(latest, ground.wall()))
    return node


def remembered_addresses(kept: Keeps, ground: Ground) -> list[Address]:
    """Where members were at the end of former runs. They are a memory only: it may be lost."""
    try:
        peers = kept.peers()
    except StoreFailed as error:
        ground.tell(PeersUnreadable(str(error)))
        return []
    addresses = (parse_numeric(address) for _, _, address in peers)
    return [address for address in addresses if address is not None]


def _fresh_id(random: Random) -> NodeId:
    while not any(fresh := random.randbytes(ID_BYTES)):
        pass  # Zero is a visitor's id.
    return NodeId(fresh)
