"""The control socket: NDJSON on a Unix socket, fit for `nc -U`. The CLI and bots talk here.

A request is one line with one JSON object. Its answer is one or more lines, each with the request's
`id`. Requests may be pipelined. Answers come in order for each op: says among says, lists among
lists.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

from flc_udp.core.effects import Deliver
from flc_udp.daemon.control.connection import ControlConnection
from flc_udp.daemon.control.follow import Line
from flc_udp.daemon.control.operations import Operations
from flc_udp.daemon.control.says import Says
from flc_udp.daemon.control.surplus import TurnedAway
from flc_udp.daemon.shown import ShownCursor
from flc_udp.store.directory import give_to

CONNECTIONS_MAX = 512
"""At most this many clients are served at a time."""


class Control:
    """The server and its connections."""

    def __init__(
        self,
        operations: Operations,
        says: Says,
        shown: ShownCursor,
        says_max: int,
        broke: Callable[[BaseException | None], None],
    ) -> None:
        self.operations = operations
        self.says = says
        self.shown = shown
        self.turned_away = TurnedAway()
        self._says_max = says_max
        self._broke = broke
        self._connections: dict[ControlConnection, None] = {}
        self._to_flush: dict[ControlConnection, None] = {}
        self._server: asyncio.Server | None = None

    async def listen(self, path: Path, group: str) -> None:
        """Serve on a Unix socket that only its owner may use, and `group` if it is given."""
        loop = asyncio.get_running_loop()
        # It is made without rights for others: a moment between bind and chmod would be enough.
        before = os.umask(0o177)
        try:
            make = partial(ControlConnection, self)
            self._server = await loop.create_unix_server(make, str(path), backlog=CONNECTIONS_MAX)
        finally:
            os.umask(before)
        if group:
            give_to(path, group)

    async def close(self) -> None:
        """Take no more clients. Those that are here see the end of their stream."""
        if self._server is not None:
            self._server.close()
        for connection in self.connections:
            connection.close()

    @property
    def says_max_each(self) -> int:
        """How many says of one connection may wait, so that many clients are slowed as one is."""
        return self._says_max // max(len(self._connections), 1)

    @property
    def connections(self) -> tuple[ControlConnection, ...]:
        """All clients that are here now."""
        return tuple(self._connections)

    def show(self, deliver: Deliver) -> None:
        """Show new messages to all who follow. Without any, followers read on from the log."""
        following = [connection for connection in self._connections if connection.follows]
        if not following:
            return
        lines = [Line(at, message) for at, message in enumerate(deliver.messages, deliver.position)]
        for connection in following:
            connection.show(lines)

    def admit(self, connection: ControlConnection) -> bool:
        """Whether one more connection is taken."""
        if len(self._connections) >= CONNECTIONS_MAX:
            return False
        self._connections[connection] = None
        return True

    def dismiss(self, connection: ControlConnection) -> None:
        """A connection ended."""
        self._connections.pop(connection, None)
        self._to_flush.pop(connection, None)

    def broke(self, error: BaseException | None) -> None:
        """Something happened that must not happen: the daemon ends."""
        self._broke(error)

    def flush_soon(self, connection: ControlConnection) -> None:
        """Write what a connection has gathered, once, when this turn of the loop is done."""
        if not self._to_flush:
            asyncio.get_running_loop().call_soon(self._flush_all)
        self._to_flush[connection] = None

    def _flush_all(self) -> None:
        connections, self._to_flush = self._to_flush, {}
        for connection in connections:
            connection.flush()
