"""The control socket: NDJSON on a Unix socket, fit for `nc -U`. The CLI and bots talk here.

A request is one line with one JSON object. Its answer is one or more lines, each with the request's
`id`. Requests may be pipelined. Answers come in order for each op: says among says, lists among
lists.

Rules. All clients share what they cost: turns at their lines (`turns`) and at the log (`reads`),
the bytes of their requests (`held`) and of what they have not read (`output`).
"""

import asyncio
import resource
import socket
import time
from dataclasses import dataclass
from functools import partial

from flc_udp.core.effects import Deliver
from flc_udp.daemon.control.connection import ControlConnection
from flc_udp.daemon.control.follow import NewLines
from flc_udp.daemon.control.held import HELD_BYTES_MAX, LINE_BYTES_FREE
from flc_udp.daemon.control.operations import Operations
from flc_udp.daemon.control.output import OUTPUT_BYTES_HIGH, share_bytes
from flc_udp.daemon.control.reads import ReadTurns
from flc_udp.daemon.control.says import SayRequests
from flc_udp.daemon.control.surplus import LINGERING_MAX, TurnedAway
from flc_udp.daemon.control.turns import Turns
from flc_udp.model.errors import FlcError, StoreFailed

CONNECTIONS_MAX = 512
"""At most this many clients are served at a time."""

DESCRIPTORS_KEPT = 32
"""So many of the descriptors that the process may have are for the node itself, its database, its
hooks, and clients that are told that there are too many."""

CLIENTS_LEAST = 8
"""A node that could serve fewer clients at a time does not begin."""

DESCRIPTORS_LEAST = DESCRIPTORS_KEPT + CLIENTS_LEAST

SAYS_MAX = 2_048
"""When this many messages of one connection wait for their commit, its lines wait."""


@dataclass(eq=False)
class Control:
    """The server and its connections."""

    operations: Operations
    says: SayRequests
    says_max: int
    """How many messages of all clients may wait for their commit before clients are slowed."""

    def __post_init__(self) -> None:
        """Nobody is here yet."""
        ground = self.operations.ground
        self._failures = ground.failures
        self.turns = Turns(ground.failures.of_part)
        self.reads = ReadTurns()
        self._share_bytes = OUTPUT_BYTES_HIGH
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        spare = CONNECTIONS_MAX if limit == resource.RLIM_INFINITY else limit - DESCRIPTORS_KEPT
        self._connections_max = max(min(spare, CONNECTIONS_MAX), CLIENTS_LEAST)
        self.turned_away = TurnedAway(min(self._connections_max // 8, LINGERING_MAX))
        self._connections: dict[ControlConnection, None] = {}
        self._to_flush: dict[ControlConnection, None] = {}
        self._server: asyncio.Server | None = None

    def failed(self, op: str, error: Exception) -> FlcError | StoreFailed:
        """A request failed. Return what its client is told."""
        return self._failures.of_request(op, error)

    async def listen(self, bound: socket.socket) -> None:
        """Serve on a Unix socket, and no more on the one before."""
        before = self._server
        loop, make = asyncio.get_running_loop(), partial(ControlConnection, self)
        self._server = await loop.create_unix_server(make, sock=bound, backlog=CONNECTIONS_MAX)
        if before is not None:
            before.close()

    async def close(self) -> None:
        """Take no more clients. Those that are here see the end of their stream."""
        if self._server is not None:
            self._server.close()
        self.turns.stop()
        for connection in tuple(self._connections):
            connection.close()

    def says_few(self, messages: int, size_bytes: int, part: int) -> bool:
        """Whether so much of one connection may wait, so that many are slowed as one is.

        It may be as much as its share, or a `part` of that.
        """
        share = max(len(self._connections), 1) * part
        return messages <= min(SAYS_MAX // part, self.says_max // share) and (
            size_bytes <= max(HELD_BYTES_MAX // share, LINE_BYTES_FREE)
        )

    def slowed_s(self) -> float:
        """For how long a client has not been read because its says wait; 0 where there is none."""
        waiting = (client for client in self._connections if not (client.reads or client.is_full))
        began_s = min((client.paused_at_s for client in waiting), default=None)
        return 0.0 if began_s is None else time.monotonic() - began_s

    def figures(self) -> dict[str, int]:
        """What the clients cost, and what they wait for, added up over all of them."""
        here, node = self._connections, self.operations.ground.node
        lags = [follow.lag for client in here for follow in client.follows]
        return {
            "connections": len(here),
            # Clients that do not read what they asked for. The node writes nothing more for them.
            "blocked": sum(client.is_full for client in here),
            # Clients that ask faster than the node can do it. It does not read from them meanwhile.
            "paused": sum(not client.reads for client in here),
            # Bytes of answers and messages in memory that clients have not read yet.
            "unread_bytes": sum(client.unread_bytes for client in here),
            # Lists that are read or wait for their turn. Each client is read one at a time.
            "lists": sum(len(client.lists) for client in here),
            # Lists and follows that want to read on from the log. One after the other does.
            "reads_waiting": len(self.reads),
            # Bytes of requests in memory: parts of lines, and says that are not answered.
            "held_bytes": self.says.held.used_bytes,
            # Lines and says that were refused because too much was held, since the daemon began.
            "held_refused": self.says.held.refused,
            "follows": len(lags),
            # Follows that have not seen everything that is shown. They read on from the log.
            "lagging": sum(lag > 0 for lag in lags),
            # How many messages the furthest is behind, over all rooms and with pruned messages.
            "lag_max": max(lags, default=0),
            # Says that are durable here, and wait for the disks of other nodes.
            "waiting_for_others": len(node.waits),
            # Clients that were refused because there were too many, since the daemon began.
            "turned_away": self.turned_away.count,
        }

    def show(self, deliver: Deliver) -> None:
        """Show new messages to all who follow. Without any, followers read on from the log."""
        new = NewLines(deliver)
        for connection in tuple(self._connections):
            connection.show(new)

    def admit(self, connection: ControlConnection, transport: asyncio.Transport) -> None:
        """Take one more connection, or turn it away."""
        if len(self._connections) >= self._connections_max:
            self.turned_away.add(transport)
        else:
            self._connections[connection] = None
            connection.limit(self._share_bytes)
            self._share_out()

    def dismiss(self, connection: ControlConnection) -> None:
        """A connection ended."""
        self._connections.pop(connection, None)
        self._to_flush.pop(connection, None)
        self._share_out()

    def _share_out(self) -> None:
        """Give each connection its share of what may be unread."""
        share = share_bytes(len(self._connections))
        if share != self._share_bytes:
            self._share_bytes = share
            for connection in self._connections:
                connection.limit(share)

    def flush_soon(self, connection: ControlConnection) -> None:
        """Write what a connection has gathered, once, when this turn of the loop is done."""
        if not self._to_flush:
            asyncio.get_running_loop().call_soon(self.flush_all)
        self._to_flush[connection] = None

    def flush_all(self) -> None:
        """Write what all connections have gathered."""
        connections, self._to_flush = self._to_flush, {}
        for connection in connections:
            try:
                connection.settle()
            except Exception as error:  # noqa: BLE001  # a client fails alone
                self._failures.of_part("a client", error)
                connection.abort()
