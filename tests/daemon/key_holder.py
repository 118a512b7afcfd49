"""Somebody who holds the cluster's key: a member that answers rightly or nearly so, and sends junk.

Its addresses are on loopback, and it answers probes, so nodes take it for a member like any other.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from random import Random

from flc_udp.core.liveness.members import alive_row
from flc_udp.model.address import Address
from flc_udp.model.dots import LogId, NodeId
from flc_udp.model.errors import Malformed
from flc_udp.wire import codec
from flc_udp.wire.packets import (
    Ack,
    BaseEnd,
    BasePull,
    Cookie,
    Hello,
    Packet,
    Ping,
    Pull,
    ReplayEnd,
)
from flc_udp.wire.packing import pack
from flc_udp.wire.seal import SESSION_BYTES, Seal, keyring, receiver_of
from tests.daemon.mutations import Payloads, flipped

ANSWER_S = 0.25
"""A node that reads its socket answers a ping in less, also on a busy machine."""

PAYLOAD_BYTES = 1_355

NOTHING = LogId(bytes(8))
"""The root of nothing, and the log of who said nothing."""


class KeyHolder:
    """One socket, and one member, or a visitor."""

    def __init__(self, key: bytes, random: Random, node: NodeId, incarnation: int = 1) -> None:
        self.random = random
        self._ring = keyring((key,), "flc")
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.setblocking(False)
        address = Address(*self._socket.getsockname())
        boot = random.getrandbits(60)
        self.row = alive_row(node, incarnation, address, "eve", boot)
        self.renew()

    def renew(self) -> None:
        """Go on in another session, as after a restart."""
        self._seal = Seal(self._ring, self.random.randbytes(SESSION_BYTES))
        self._receivers: dict[tuple[str, int], bytes] = {}
        """Which node is where, by the cookies that came from there."""

    def shoot(self, payload: bytes, to: tuple[str, int]) -> None:
        """Send one payload; now and then with a broken seal."""
        datagram = self._seal.close(payload, self._receivers.get(to, b""))
        if self.random.random() < 1 / 64:
            datagram = flipped(self.random, datagram)[: self.random.randrange(1, 10_000)]
        # A send fails at an address where nobody is, and while its buffer is full.
        with suppress(OSError):
            self._socket.sendto(datagram, to)

    def say(self, packet: Packet, to: tuple[str, int]) -> None:
        """Send one packet as it is."""
        self.shoot(pack(self.row.id, [packet], PAYLOAD_BYTES)[0], to)

    def listen(self, payloads: Payloads) -> None:
        """Take what came: learn from it, and answer it rightly or nearly so."""
        with suppress(BlockingIOError):
            while True:
                datagram, source = self._socket.recvfrom(65_536)
                with suppress(Malformed):  # What was changed may come back.
                    payload = self._seal.open(datagram).payload
                    payloads.hear(payload)
                    node, packets, _ = codec.read(payload)
                    for packet in packets:
                        self._prove(packet, node, source)
                        self._answer(packet, source, payloads)

    def _prove(self, packet: Packet, node: NodeId, to: tuple[str, int]) -> None:
        """Answer a cookie."""
        if isinstance(packet, Cookie):
            self._receivers[to] = receiver_of(node)
            self.say(Hello(packet.mac), to)

    def _answer(self, packet: Packet, to: tuple[str, int], payloads: Payloads) -> None:
        answer: Packet
        match packet:
            case Ping(nonce, root, members_root):
                answer = Ack(nonce, root, members_root, catching_up=False, held=0)
            case Pull(nonce):
                answer = ReplayEnd(nonce, 0, packet.below, 0, ())
            case BasePull(nonce):
                answer = BaseEnd(nonce, 0, 0, 0, packet.after)
            case _:
                return
        is_true = self.random.random() < (3 / 4 if isinstance(packet, Ping) else 1 / 4)
        if is_true:
            self.say(answer, to)
        else:
            self.shoot(payloads.near(answer), to)

    async def is_read(self, to: tuple[str, int]) -> bool:
        """Whether a node soon answers a ping, for which it reads all that came before."""
        nonce = self.random.getrandbits(63)
        ping = Ping(nonce, NOTHING, NOTHING, catching_up=False, log=NOTHING)
        self.say(ping, to)
        with suppress(TimeoutError):
            async with asyncio.timeout(ANSWER_S):
                while True:
                    datagram = await asyncio.get_running_loop().sock_recv(self._socket, 65_536)
                    with suppress(Malformed):
                        node, packets, _ = codec.read(self._seal.open(datagram).payload)
                        for packet in packets:
                            self._prove(packet, node, to)
                            if isinstance(packet, Cookie):
                                self.say(ping, to)
                            if isinstance(packet, Ack) and packet.nonce == nonce:
                                return True
        return False

    def close(self) -> None:
        """Fall silent."""
        self._socket.close()
