"""The lists of one connection: one after the other, in turns, while the other end reads them.

Rules. A list that waits for its turn or for its reader holds the page of the log that it is at, and
nothing else.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol

from flc_udp.daemon.control.reads import SLICE_S, ReadTurns
from flc_udp.wire.message_json import Record

LISTS_MAX = 64
"""When this many lists of one connection wait for their turn, its lines wait."""

Pause = Callable[[], Awaitable[None]]
"""Lets others have a turn, in the middle of what takes long and lists nothing meanwhile."""

Listing = Callable[[Pause], AsyncIterator[Record]]
"""A list that was asked for and has not begun."""


class ListReader(Protocol):
    """Where items go: a connection."""

    def answer(self, record: Record, tag: bytes) -> None:
        """Send one line of the list."""

    def list_failed(self, op: str, error: Exception, tag: bytes) -> None:
        """The list ends with this."""

    @property
    def is_full(self) -> bool:
        """Whether the other end has not read enough."""

    async def has_room(self) -> None:
        """Wait until it has."""

    def listed(self) -> None:
        """A list has ended."""


class Lists:
    """The list that is read, and those that wait for it."""

    def __init__(self, reader: ListReader, turns: ReadTurns) -> None:
        self._reader, self._turns = reader, turns
        self._waiting: deque[tuple[str, Listing, bytes]] = deque()
        """(op, list, tag)."""
        self._reading: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._waiting) + (self._reading is not None)

    @property
    def are_many(self) -> bool:
        """Whether no more are taken."""
        return len(self._waiting) >= LISTS_MAX

    def add(self, op: str, listing: Listing, tag: bytes) -> None:
        """Read it after the others."""
        self._waiting.append((op, listing, tag))
        if self._reading is None:
            self._reading = asyncio.get_running_loop().create_task(self._read_all())

    def stop(self) -> None:
        """Nobody is there for them."""
        self._waiting.clear()
        if self._reading is not None:
            self._reading.cancel()

    async def _read_all(self) -> None:
        while True:
            op, listing, tag = self._waiting.popleft()
            try:
                await self._read(listing(self._pause), tag)
            except Exception as error:  # noqa: BLE001  # a request fails alone
                self._reader.list_failed(op, error, tag)
            if is_last := not self._waiting:
                self._reading = None  # A list that comes from here on begins another task.
            self._reader.listed()
            if is_last:
                return

    async def _read(self, items: AsyncIterator[Record], tag: bytes) -> None:
        over_s = await self._turn()
        async for item in items:
            self._reader.answer({"ok": True, **item} if "end" in item else {"item": item}, tag)
            if time.monotonic() >= over_s or self._reader.is_full:
                over_s = await self._turn()

    async def _turn(self) -> float:
        """Wait for the other end and then for a turn; return when that is over."""
        await self._reader.has_room()
        await self._pause()
        return time.monotonic() + SLICE_S

    async def _pause(self) -> None:
        await self._turns.turn(self._reader)
