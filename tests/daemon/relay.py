"""A UDP relay between daemons, so that real processes can be cut apart without privileges.

Each node listens on a loopback address of its own and advertises its *door*: a socket of the relay.
What comes in at a door leaves by its sender's door, so nodes know each other by doors alone, and
every datagram passes here, where it may be lost, doubled, overtaken, or find its way cut.
"""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from random import Random
from typing import cast

LATE_S_MAX = 0.02
"""How far behind its turn an overtaken datagram arrives at most."""

BUFFER_BYTES = 4 << 20


@dataclass
class Faults:
    """Probabilities, for each datagram alone, and a delay for all."""

    loss: float = 0.0
    duplication: float = 0.0
    reordering: float = 0.0
    delay_s: float = 0.0


class Door(asyncio.DatagramProtocol):
    """The address at which the others know one node."""

    def __init__(self, relay: Relay, name: str, host: str) -> None:
        self.name = name
        self.host = host
        """Where the node listens: by it the relay knows whose datagram it is."""
        self.home: tuple[str, int] | None = None
        """Its host and port, from its last datagram."""
        self.transport: asyncio.DatagramTransport
        self._relay = relay

    @property
    def address(self) -> str:
        """What the node advertises."""
        host, port = self.transport.get_extra_info("sockname")
        return f"{host}:{port}"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is open."""
        self.transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Somebody calls on the node behind this door."""
        self._relay.carry(data, addr, self)

    def send(self, data: bytes, to: Door) -> None:
        """Hand a datagram of this door's node over to another node."""
        if to.home is not None and not self.transport.is_closing():
            self._relay.carried += 1
            self.transport.sendto(data, to.home)


class Relay:
    """All doors of one cluster, and the faults between them, which may be set at any time."""

    def __init__(self, seed: int) -> None:
        self.faults = Faults()
        self.carried = 0
        self.lost = 0
        self._random = Random(seed)
        self._doors: dict[str, Door] = {}
        self._cuts: set[tuple[str, str]] = set()

    async def open(self, name: str, host: str) -> Door:
        """Make the door of the node that will listen at `host`."""
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        sock.bind(("127.0.0.1", 0))
        door = self._doors[host] = Door(self, name, host)
        loop = asyncio.get_running_loop()
        await loop.create_datagram_endpoint(lambda: door, sock=sock)
        return door

    def cut(self, sender: str, to: str) -> None:
        """Nothing of `sender` reaches `to` any more; the other direction stays."""
        self._cuts.add((sender, to))

    def isolate(self, name: str) -> None:
        """Cut all ways from and to a node."""
        for door in self._doors.values():
            self._cuts |= {(name, door.name), (door.name, name)}

    def heal(self) -> None:
        """No cuts and no faults."""
        self._cuts.clear()
        self.faults = Faults()

    def carry(self, data: bytes, source: tuple[str, int], to: Door) -> None:
        """Take a datagram to the node behind `to`, or not."""
        sender = self._doors.get(source[0])
        if sender is None:
            return
        sender.home = source
        if (sender.name, to.name) in self._cuts or self._happens(self.faults.loss):
            self.lost += 1
            return
        for _ in range(2 if self._happens(self.faults.duplication) else 1):
            late = self.faults.delay_s
            if self._happens(self.faults.reordering):
                late += self._random.uniform(0, LATE_S_MAX)
            if late:
                asyncio.get_running_loop().call_later(late, sender.send, data, to)
            else:
                sender.send(data, to)

    def close(self) -> None:
        """Every door."""
        for door in self._doors.values():
            door.transport.close()

    def _happens(self, probability: float) -> bool:
        return self._random.random() < probability
