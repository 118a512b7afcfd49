"""What `flc udp` reads and prints: lines of JSON become sealed datagrams, datagrams become records.

A line is one packet, or an array of packets for one datagram. A record is one datagram:

    {"from":"127.0.0.1:7352","sender":"9f2c61d0a47be813","packets":[{"kind":"ack",…}]}

So `jq -c .packets` turns a record into a line to type. A datagram that cannot be read has `error`
instead of `sender` and `packets`, with the place of the fault: byte `at` of the part that `in`
names, which is the datagram, or the payload that was sealed in it.
"""

from collections.abc import Sequence
from typing import NamedTuple

from flc_udp.client import Record
from flc_udp.config import DATAGRAM_BYTES_MAX, SEAL_BYTES
from flc_udp.model.dots import VISITOR
from flc_udp.model.errors import FlcError, Malformed
from flc_udp.model.json_lines import read_json
from flc_udp.wire import codec, dissect
from flc_udp.wire.packet_json import packet_record, read_packet
from flc_udp.wire.packets import TITLE_OF, Packet
from flc_udp.wire.seal import FOR_ONE_BYTES, NOT_OURS, Seal

LINE_BYTES_MAX = 1 << 20
"""A line is at most this many bytes: any datagram that is worth typing is shorter as JSON."""

KEY_HINT = "key or cluster name?"

SEVERAL_HINT = "type several lines, each a datagram"


def packets_of(line: bytes) -> list[Packet]:
    """Read the packets of a line; raises FlcError."""
    if len(line) > LINE_BYTES_MAX:
        raise FlcError(f"more than {LINE_BYTES_MAX} bytes", SEVERAL_HINT)
    try:
        value = read_json(line)
    except ValueError as error:
        hint = 'type a packet, as {"kind":"nack","nonce":1}, or an array of packets'
        raise FlcError(f"not JSON: {error}", hint) from error
    return list(map(read_packet, value if isinstance(value, list) else [value]))


def seal_packets(packets: Sequence[Packet], seal: Seal, receiver: bytes = b"") -> bytes:
    """Make one datagram of a visitor with just these packets; raises FlcError.

    It names its receiver, if that is known.
    """
    payload = dissect.payload_of(VISITOR, packets)
    size_bytes = len(payload) + SEAL_BYTES + FOR_ONE_BYTES
    if size_bytes > DATAGRAM_BYTES_MAX:
        problem = f"a datagram of {size_bytes} bytes, allowed are {DATAGRAM_BYTES_MAX}"
        raise FlcError(problem, SEVERAL_HINT)
    return seal.close(payload, receiver)


class Read(NamedTuple):
    """A datagram that came: its record, a summary for people, its packets, and who sent it.

    What is wrong with it is part of both texts. The record then has an `error`, and no packets are
    there.
    """

    record: Record
    summary: str
    packets: Sequence[Packet] = ()
    sender: bytes = b""


def read_datagram(datagram: bytes, seal: Seal, with_hex: bool) -> Read:
    """Open and decode one datagram."""
    extra: Record = {"hex": datagram.hex()} if with_hex else {}
    try:
        payload = seal.open(datagram).payload
    except Malformed as error:
        hint = {"hint": KEY_HINT} if error.reason in NOT_OURS else {}
        return _unread(error.reason, "datagram", error.at, {**hint, **extra})
    if with_hex:
        extra["payload"] = payload.hex()
    try:
        sender, packets, unknown = codec.read(payload)
    except Malformed:
        fault = dissect.fault_of(payload)
        assert fault is not None
        return _unread(str(fault), "payload", fault.at, extra)
    record: Record = {"sender": sender.hex(), "packets": list(map(packet_record, packets))}
    if unknown:
        record["unknown"] = unknown
    return Read({**record, **extra}, summary_of(packets), packets, sender)


def summary_of(packets: Sequence[Packet]) -> str:
    """Name the packets, as `ping, update`."""
    return ", ".join(TITLE_OF[type(packet)] for packet in packets) or "no packets"


def _unread(problem: str, part: str, at: int | None, more: Record) -> Read:
    hint = f"; {more['hint']}" if "hint" in more else ""
    summary = f"{problem}, at byte {at} of the {part}{hint}"
    return Read({"error": problem, "in": part, "at": at, **more}, summary)
