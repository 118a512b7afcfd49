"""A conversation that outlasts its daemon: nothing is lost and nothing said or shown twice.

    connected ── daemon gone ─▶ tried again ─▶ open lines said again ─▶ followed from where it was
                                └─ for so long, in vain ─▶ DaemonGoneError

Rules. Every line is said under a rising number (`once`), so to say it again is harmless: the daemon
answers with the first dot. Lines are said in order, so none goes before all that are open were said
again. What was said over a connection that is lost is told apart from what others say by its dot.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path

from flc_udp.client import Client, DaemonGoneError, Record, Said, Stream
from flc_udp.config import ONCE_REMEMBERED
from flc_udp.model.errors import FlcError

RETRY_S = 60.0
"""So long a daemon may be gone: time for a restart, and not for ever in a script at night."""

PAUSE_FIRST_S, PAUSE_MOST_S = 0.05, 1.0
"""Between two tries; it doubles."""

OPEN_MAX = ONCE_REMEMBERED
"""Lines said and not answered: as many as the daemon finds again."""

Heard = Callable[[asyncio.Future[Said]], None]


class Lasting:
    """Says and one follow of a room, over as many connections as it takes."""

    def __init__(
        self, client: Client, room: str, author: str | None, start: Record, retry_s: float = RETRY_S
    ) -> None:
        self.retry_s = retry_s
        """How long a daemon that is gone is waited for."""
        self.on_loss: Callable[[DaemonGoneError], None] = lambda _error: None
        """Called each time it is lost."""
        self._client, self._room, self._author = client, room, author
        self._path = Path(client.path)
        self._start = start
        self._name = f"nc-{secrets.token_hex(8)}"
        self._last_n = 0
        self._open: dict[int, tuple[str | bytes, Heard]] = {}
        self._mine: dict[str, None] = {}
        self._mine_by_position: deque[tuple[int, str]] = deque()
        self._connected = asyncio.Event()
        self._progress = asyncio.Event()
        self._gone: DaemonGoneError | None = None
        """Why there is no connection now, if there is none."""
        self._mending = asyncio.Lock()
        self._follow = self._begin_follow()
        self._connected.set()

    async def close(self) -> None:
        """End the connection that there is now."""
        await self._client.close()

    async def to_go(self) -> int:
        """Messages that the node knows it lacks; raises FlcError."""
        return int((await self._client.status()).get("catching_up", 0))

    # --- Saying -----------------------------------------------------------------------------

    async def say(self, body: str | bytes, heard: Heard) -> None:
        """Say a line after all before it; `heard` is called with its answer, whenever it comes."""
        await self._connected.wait()
        self._last_n += 1
        self._open[self._last_n] = (body, heard)
        with suppress(DaemonGoneError):  # It is said again.
            self._send(self._last_n)

    async def drain(self, open_max: int = OPEN_MAX - 1) -> None:
        """Wait until no more lines than that are open; raises DaemonGoneError if they stay so."""
        while len(self._open) > open_max:
            if self._gone is not None:
                await self._reconnect(self._gone)
                continue
            self._progress.clear()
            await self._progress.wait()
        with suppress(DaemonGoneError):  # Whoever follows finds out.
            await self._client.drain(OPEN_MAX)

    def _send(self, n: int) -> asyncio.Future[Said]:
        body, _ = self._open[n]
        once = (self._name, n)
        said = self._client.say_nowait(self._room, body, author=self._author, once=once)
        said.add_done_callback(lambda answer: self._answered(n, answer))
        return said

    def _answered(self, n: int, answer: asyncio.Future[Said]) -> None:
        if answer.cancelled():
            return  # It was waited for too long, or until a Ctrl-C; it stays open.
        error = answer.exception()
        if isinstance(error, DaemonGoneError):  # It stays open, too.
            self._gone = error
            self._progress.set()
            return
        _, heard = self._open.pop(n)
        if error is None:
            self._remember(answer.result())
        heard(answer)
        self._progress.set()

    def _remember(self, said: Said) -> None:
        if said.position is not None:  # Said again, it may be pruned by now, and is never shown.
            self._mine[said.dot] = None
            self._mine_by_position.append((said.position, said.dot))

    # --- Following --------------------------------------------------------------------------

    async def batches(self) -> AsyncIterator[list[Record]]:
        """What the follow brings, the first begun as told, without messages that were said here.

        Raises FlcError where it is refused, DaemonGoneError where the daemon does not come back.
        """
        while True:
            try:
                while batch := await self._follow.batch():
                    yield self._news(batch)
            except DaemonGoneError as error:
                self._gone = error
                await self._reconnect(error)
            else:
                return

    def _news(self, batch: list[Record]) -> list[Record]:
        news = [record for record in batch if not self._is_mine(record)]
        last = batch[-1]
        self._start = {"from": last["position"]}
        if "message" in last:
            self._start["dot"] = last["message"]["dot"]
        while self._mine_by_position and self._mine_by_position[0][0] <= last["position"]:
            del self._mine[self._mine_by_position.popleft()[1]]
        return news

    def _is_mine(self, record: Record) -> bool:
        return "message" in record and (record["own"] or record["message"]["dot"] in self._mine)

    def _begin_follow(self) -> Stream:
        return self._client.stream("follow", room=self._room, **self._start)

    # --- Reconnecting -----------------------------------------------------------------------

    async def _reconnect(self, gone: DaemonGoneError) -> None:
        async with self._mending:
            if self._gone is None:
                return  # Who followed and who waited for answers both found out.
            self._connected.clear()
            self.on_loss(gone)
            try:
                async with asyncio.timeout(self.retry_s):
                    await self._connect()
            except TimeoutError:
                raise gone from None
            self._gone = None
            self._connected.set()
            self._progress.set()

    async def _connect(self) -> None:
        pause = PAUSE_FIRST_S
        while True:
            await asyncio.sleep(pause)
            pause = min(2 * pause, PAUSE_MOST_S)
            with suppress(FlcError):  # Not up yet, or gone again.
                self._client = await Client.connect(self._path)
                await self._say_again()
                self._follow = self._begin_follow()
                return

    async def _say_again(self) -> None:
        """All open lines, in order; their dots are known before the follow can bring them."""
        answers = [self._send(n) for n in list(self._open)]
        for answer in await asyncio.gather(*answers, return_exceptions=True):
            if isinstance(answer, DaemonGoneError):
                raise answer
