"""A proof of a session and an address, as each sender gives it: then a node listens to a test."""

import socket

from flc_udp.config import HASH_BYTES
from flc_udp.model.dots import VISITOR, NodeId
from flc_udp.wire import codec
from flc_udp.wire.dissect import payload_of
from flc_udp.wire.packets import Cookie, Hello
from flc_udp.wire.seal import Seal, receiver_of

SENT = 2
"""So many datagrams a proof takes, if none is lost."""


def prove(sock: socket.socket, seal: Seal, to: tuple[str, int], node: NodeId = VISITOR) -> bytes:
    """Prove the session and the socket's address to a node; return what names it as a receiver."""
    sock.settimeout(20)
    asks = payload_of(node, [Hello(bytes(HASH_BYTES), bytes(32))])
    sock.sendto(seal.close(asks), to)
    while True:
        sender, packets, _ = codec.read(seal.open(sock.recv(65_536)).payload)
        for packet in packets:
            if isinstance(packet, Cookie):
                receiver = receiver_of(sender)
                hello = payload_of(node, [Hello(packet.mac)])
                sock.sendto(seal.close(hello, receiver), to)
                return receiver
