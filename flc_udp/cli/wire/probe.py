"""A probe from outside: a visitor's sealed ping, which a node answers and takes for no member's."""

from __future__ import annotations

import secrets
import socket
import time
from collections.abc import Sequence
from typing import NamedTuple

from flc_udp.model.address import NO_HOST, Address, fold, split_host_port
from flc_udp.model.dots import VISITOR
from flc_udp.model.errors import FlcError, Malformed
from flc_udp.wire import codec
from flc_udp.wire.packets import Ack, Packet, Ping
from flc_udp.wire.packing import pack
from flc_udp.wire.seal import SESSION_BYTES, Keyring, Seal


class Answer(NamedTuple):
    """An ack, the node that sent it and from where."""

    ack: Ack
    node: bytes
    source: Address


class Probe:
    """One socket and one session to one address."""

    def __init__(self, address: str, ring: Keyring) -> None:
        family, self.target = resolve(address)
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        self._seal = Seal(ring, secrets.token_bytes(SESSION_BYTES))

    def ping(self, payload_bytes_max: int, padding: Sequence[Packet] = ()) -> int:
        """Send one datagram with a ping in it and return its nonce; raises OSError."""
        # A nonce is never 0, by which an ack says that nobody asked.
        nonce = secrets.randbelow((1 << 64) - 1) + 1
        probe = Ping(nonce, bytes(8), bytes(8), catching_up=False, log=bytes(8))
        (payload,) = pack(VISITOR, [probe, *padding], payload_bytes_max)
        self.socket.sendto(self._seal.close(payload), self.target)
        return nonce

    def answer(self, nonce: int, patience_s: float) -> Answer | None:
        """The answer to that ping, if it comes in time; what else comes is passed over."""
        due = time.perf_counter() + patience_s
        while (left := due - time.perf_counter()) > 0:
            self.socket.settimeout(left)
            try:
                datagram, source = self.socket.recvfrom(65_535)
                sender, packets, _ = codec.read(self._seal.open(datagram).payload)
            except (OSError, Malformed):
                continue
            for packet in packets:
                if isinstance(packet, Ack) and packet.nonce == nonce:
                    return Answer(packet, sender, fold(source[0].partition("%")[0], source[1]))
        return None


def resolve(text: str) -> tuple[socket.AddressFamily, tuple[str, int]]:
    """The first address of HOST:PORT; raises FlcError where it has none."""
    host, port = split_host_port(text)
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or NO_HOST
        raise FlcError(
            f"{text!r} has no address: {reason}", "write HOST:PORT of a host that resolves"
        ) from error
    return family, (str(address[0]), int(address[1]))
