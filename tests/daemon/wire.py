"""The control socket by hand: lines of JSON in, lines of JSON out."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Self, cast

from tests.daemon.cluster import Node
from tests.daemon.process import DEADLINE_S

LINE_BYTES_MAX = 64 << 20


class Wire:
    """One connection, as a bot in any language would make it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def to(cls, node: Node, opened: list[Wire]) -> Self:
        """Connect; `opened` is the fixture that closes it."""
        path = str(node.data / "control.sock")
        wire = cls(*await asyncio.open_unix_connection(path, limit=LINE_BYTES_MAX))
        opened.append(wire)
        return wire

    async def send(self, *requests: dict[str, Any] | bytes) -> None:
        """Write them all at once, an object as a line, bytes as they are."""
        lines = (r if isinstance(r, bytes) else json.dumps(r).encode() + b"\n" for r in requests)
        self._writer.write(b"".join(lines))
        await self._writer.drain()

    async def read(self) -> dict[str, Any]:
        """One line, before the deadline."""
        line = await asyncio.wait_for(self._reader.readline(), DEADLINE_S)
        assert line.endswith(b"\n"), "the daemon closed the connection"
        record: dict[str, Any] = json.loads(line)
        return record

    async def ask(self, request: dict[str, Any] | bytes) -> dict[str, Any]:
        """One request, one line of answer."""
        await self.send(request)
        return await self.read()

    async def read_list(self) -> list[Any]:
        """The items of one list, to its end."""
        items = []
        while "item" in (record := await self.read()):
            items.append(record["item"])
        assert record["ok"], record
        return items

    async def at_end(self) -> bool:
        """Whether the daemon says no more."""
        return await asyncio.wait_for(self._reader.read(1), DEADLINE_S) == b""

    def pause(self) -> None:
        """Take nothing out of the socket any more."""
        self._read_transport.pause_reading()

    def go_on(self) -> None:
        """Read again."""
        self._read_transport.resume_reading()

    @property
    def _read_transport(self) -> asyncio.ReadTransport:
        return cast("asyncio.ReadTransport", self._writer.transport)

    async def close(self) -> None:
        """End it."""
        self._writer.close()
