"""A client of one room that outlasts its daemon: nothing is lost, and nothing said or shown twice.

    connected ── daemon gone ─▶ try again ─▶ say open lines again ─▶ follow from where it was
                                └─ in vain, for `retry_s` ─▶ DaemonGoneError

Rules. Every line is said under a rising number (`once`), so it is harmless to say it again: the
daemon answers with the first dot. Lines are said in order: no new line goes out before all open
lines were said again. What was said over a lost connection is known by its dot when it is shown.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

from flc_udp.client import Client, DaemonGoneError, Record, Said, Stream
from flc_udp.config import ONCE_REMEMBERED
from flc_udp.model.errors import FlcError

RETRY_S = 60.0
"""A daemon may be gone for this long: enough for a restart, and a script at night still ends."""

PAUSE_FIRST_S, PAUSE_MOST_S = 0.05, 1.0
"""The pause between two tries doubles from the first to the second of these."""

OPEN_MAX = ONCE_REMEMBERED
"""At most this many lines are said and not answered, because the daemon remembers as many."""

Heard = Callable[[asyncio.Future[Said]], None]


class ReconnectingClient:
    """Says lines in a room and follows it, over as many connections as it takes."""

    def __init__(self, client: Client, room: str, author: str | None, start: Record) -> None:
        self.retry_s = RETRY_S
        """For this long it tries to reach a daemon that is gone."""
        self.on_loss: Callable[[DaemonGoneError], None]
        """Called each time the daemon is lost."""
        self._client, self._room, self._author = client, room, author
        self._start = start
        self._name = f"nc-{secrets.token_hex(8)}"
        self._last_n = 0
        self._open: dict[int, tuple[str | bytes, Heard]] = {}
        self._mine: dict[str, int] = {}
        """Dots said here that the follow has not passed yet, with their positions."""
        self._progress = asyncio.Event()
        self._gone: DaemonGoneError | None = None
        """Why there is no connection now, if there is none."""
        self._reconnecting = asyncio.Lock()
        self._follow = self._begin_follow()

    @property
    def unanswered(self) -> int:
        """The number of lines that were given to `say` and are not answered yet."""
        return len(self._open)

    async def close(self) -> None:
        """End the present connection."""
        await self._client.close()

    async def to_go(self) -> int:
        """Ask how many messages the node knows to be missing; raises FlcError."""
        return int((await self._client.status())["catching_up"])

    # --- Saying -----------------------------------------------------------------------------

    def say(self, body: str | bytes, heard: Heard) -> None:
        """Say a line after all before it; `heard` is called with its answer, whenever it comes."""
        self._last_n += 1
        self._open[self._last_n] = (body, heard)
        if not self._reconnecting.locked():
            with suppress(DaemonGoneError):  # The line stays open, so it is said again.
                self._send(self._last_n)

    async def drain(self, open_max: int = OPEN_MAX - 1) -> None:
        """Wait until at most this many lines are open; raises DaemonGoneError if that fails."""
        while len(self._open) > open_max:
            if self._gone is not None:
                await self._reconnect(self._gone)
                continue
            self._progress.clear()
            await self._progress.wait()
        with suppress(DaemonGoneError):  # The follow finds that out, too.
            await self._client.drain(OPEN_MAX)

    def _send(self, n: int) -> asyncio.Future[Said]:
        body, _ = self._open[n]
        once = (self._name, n)
        said = self._client.say_nowait(self._room, body, author=self._author, once=once)
        said.add_done_callback(lambda answer: self._answered(n, answer))
        return said

    def _answered(self, n: int, answer: asyncio.Future[Said]) -> None:
        if answer.cancelled():
            return  # The wait was too long, or Ctrl-C ended it: the line stays open.
        self._progress.set()
        error = answer.exception()
        if isinstance(error, DaemonGoneError):  # The line stays open.
            self._gone = error
            return
        _, heard = self._open.pop(n)
        # A line that is said again may be pruned by now: it has no position and is never shown.
        if error is None and (position := answer.result().position) is not None:
            self._mine[answer.result().dot] = position
        heard(answer)

    # --- Following --------------------------------------------------------------------------

    async def batches(self) -> AsyncIterator[list[Record]]:
        """Give what the follow brings, without the messages that were said here.

        Raises FlcError if the follow is refused, DaemonGoneError if the daemon does not come back.
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
        self._mine = {dot: at for dot, at in self._mine.items() if at > last["position"]}
        return news

    def _is_mine(self, record: Record) -> bool:
        return "message" in record and (record["own"] or record["message"]["dot"] in self._mine)

    def _begin_follow(self) -> Stream:
        return self._client.stream("follow", room=self._room, **self._start)

    # --- Reconnecting -----------------------------------------------------------------------

    async def _reconnect(self, gone: DaemonGoneError) -> None:
        async with self._reconnecting:
            if self._gone is None:
                return  # Both the follow and a drain found out; the other one has reconnected.
            self.on_loss(gone)
            try:
                async with asyncio.timeout(self.retry_s):
                    await self._connect()
            except TimeoutError:
                raise gone from None
            self._gone = None
            self._progress.set()

    async def _connect(self) -> None:
        pause_s = PAUSE_FIRST_S
        while True:
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, PAUSE_MOST_S)
            with suppress(FlcError):  # The daemon is not up yet, or gone again.
                self._client = await Client.connect(self._client.path)
                await self._say_again()
                self._follow = self._begin_follow()
                return

    async def _say_again(self) -> None:
        """Say all open lines in order, and learn their dots before a follow can bring them."""
        n = 0
        while unsent := [open_n for open_n in self._open if open_n > n]:
            answers = [self._send(n) for n in unsent]
            n = unsent[-1]
            for answer in await asyncio.gather(*answers, return_exceptions=True):
                if isinstance(answer, DaemonGoneError):
                    raise answer
