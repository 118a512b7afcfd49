"""The many records that answer one request: a list, which ends, or a follow, which does not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from flc_udp.client.lines import Record, refusal
from flc_udp.model.errors import FlcError


class Stream:
    """The records of one list or follow, in order. It has one reader at a time."""

    def __init__(self, on_taken: Callable[[], None]) -> None:
        self.end: Record = {}
        """The record that closed the list."""
        self.has_ended = False
        self.unread_chars = 0
        self._on_taken = on_taken
        self._records: list[Record] = []
        self._error: FlcError | None = None
        self._arrived = asyncio.Event()

    async def batch(self) -> list[Record]:
        """Wait for a record and return all that are here; [] means that the list has ended.

        Raises FlcError if the daemon refused or has gone away.
        """
        while not self._records and not self.has_ended:
            self._arrived.clear()
            await self._arrived.wait()
        records, self._records, self.unread_chars = self._records, [], 0
        self._on_taken()
        if not records and self._error is not None:
            raise self._error
        return records

    async def __aiter__(self) -> AsyncIterator[Record]:
        while batch := await self.batch():
            for record in batch:
                yield record

    def feed(self, record: Record, chars: int) -> None:
        """Take one record, whose line had `chars` characters."""
        if record.get("ok") is False:
            self.close(refusal(record))
        elif record.get("end"):
            self.end = record
            self.close()
        else:
            self._records.append(record)
            self.unread_chars += chars
            self._arrived.set()

    def close(self, error: FlcError | None = None) -> None:
        """End it: no more records will come."""
        self.has_ended, self._error = True, error
        self._arrived.set()
