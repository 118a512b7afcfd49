"""Whose list or follow reads on when: all connections have their turns, and the node has its own.

Promise: however many clients ask for long lists at once, one of them reads at a time, for a few ms.
Then datagrams, timers, commits and says have their turn.

Rules. The turns go round among the connections, and not among what they ask for. So whoever asks
for a thousand lists has as much of the loop as whoever asks for one.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial

SLICE_S = 0.005
"""A turn lasts about so long. Who has more to read then asks for another one."""


class ReadTurns:
    """The lists and follows that wait for their turn, by their connections."""

    def __init__(self) -> None:
        self._waiting: dict[object, deque[Callable[[], None]]] = {}
        self._is_due = False

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def soon(self, owner: object, read: Callable[[], None]) -> None:
        """Call this when it is its turn. It raises nothing."""
        self._waiting.setdefault(owner, deque()).append(read)
        self._call()

    async def turn(self, owner: object) -> None:
        """Wait for a turn, and go on when it begins."""
        begun = asyncio.get_running_loop().create_future()
        self.soon(owner, partial(_begin, begun))
        await begun

    def forget(self, owner: object) -> None:
        """A connection has gone."""
        self._waiting.pop(owner, None)

    def _call(self) -> None:
        if self._waiting and not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._give)

    def _give(self) -> None:
        self._is_due = False
        if not self._waiting:
            return
        owner = next(iter(self._waiting))
        reads = self._waiting.pop(owner)
        read = reads.popleft()
        if reads:
            self._waiting[owner] = reads
        self._call()
        read()


def _begin(begun: asyncio.Future[None]) -> None:
    if not begun.done():
        begun.set_result(None)
