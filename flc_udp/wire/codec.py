"""The codec: payloads to packets, and packets to what msgpack writes.

Every packet that comes in is checked here, once, and `read` raises Malformed and nothing else,
whatever the bytes. A datagram with one bad packet is dropped as a whole, because its sender holds
the key and is therefore either broken or of a later version.
"""

import msgpack

from flc_udp.model.dots import NodeId
from flc_udp.model.errors import Drop, Malformed
from flc_udp.wire.forms import Struct, Values, struct_of
from flc_udp.wire.packets import KIND_OF, Join, Leave, MemberDigest, Members, Packet, Update
from flc_udp.wire.rows import ID, MemberRow

FORMS: dict[int, Struct[Packet]] = {
    kind: struct_of(made, Drop.PACKET_TOO_SHORT) for made, kind in KIND_OF.items()
}
"""The form of each kind of packets."""


def read(payload: bytes) -> tuple[NodeId, list[Packet], int]:
    """Read an opened payload: (sender's node id, packets, number of packets of unknown kinds)."""
    try:
        parts = msgpack.unpackb(payload, use_list=False)
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise Malformed(Drop.PAYLOAD_NOT_MSGPACK) from error
    if type(parts) is not tuple or not parts:
        raise Malformed(Drop.ARRAY_EXPECTED)
    sender: NodeId = ID.read(parts[0])
    packets: list[Packet] = []
    unknown = 0
    for body in parts[1:]:
        if type(body) is not tuple or not body:
            raise Malformed(Drop.ARRAY_EXPECTED)
        kind = body[0]
        struct = FORMS.get(kind) if type(kind) is int else None
        if struct is None:
            unknown += 1
        else:
            packets.append(struct.read(body[1:]))
    return sender, packets, unknown


def fields_of(packet: Packet) -> Values:
    """Give `[kind, field, …]` as msgpack writes it."""
    match packet:
        case Join() | Leave():
            return (*head_of(packet), row_fields(packet.row))
        case Members() | Update() | MemberDigest():
            return (*head_of(packet), tuple(map(row_fields, packet.rows)))
        case _:
            return (KIND_OF[type(packet)], *packet)


def head_of(packet: Packet) -> Values:
    """Give `[kind, field, …]` without the last field."""
    return (KIND_OF[type(packet)], *packet[:-1])


def row_fields(row: MemberRow) -> Values:
    """Give a member's row as msgpack writes it, which is with the address as text."""
    return (*row[:3], str(row.address), *row[4:])
