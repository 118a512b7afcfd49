"""A client of one room that outlasts its daemon: nothing is lost, and nothing said or shown twice.

    connected ── daemon gone ─▶ try again ─▶ say open lines again ─▶ follow from where it was
                                └─ in vain, for `retry_s` ─▶ DaemonGoneError

Rules. Every line has a rising number (`once`), so it is harmless to say it again: the daemon
answers with the first dot. Lines are said in order, some of them together: no new line goes out
before all open lines were said again. What was said over a lost connection is known by its dot when
it is shown.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from typing import cast

from flc_udp.client import BodiesRefusedError, Client, DaemonGoneError, Record, SaidMany
from flc_udp.config import ONCE_REMEMBERED
from flc_udp.model.errors import FlcError

RETRY_S = 60.0
"""A daemon may be gone for this long: enough for a restart, and a script at night still ends."""

PAUSE_FIRST_S, PAUSE_MOST_S = 0.05, 1.0
"""The pause between two tries doubles from the first to the second of these."""

OPEN_MAX = ONCE_REMEMBERED
"""At most this many lines are said and not answered, because the daemon remembers as many."""

Bodies = Sequence[str | bytes]

Heard = Callable[[FlcError | None], None]


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
        self.unanswered = 0
        """The number of lines that were given to `say` and are not answered yet."""
        self._last_n = 0
        self._open: dict[int, tuple[Bodies, Heard]] = {}
        """Lines that are not answered, by the number of the first of those said together."""
        self._mine: list[SaidMany] = []
        """What was said here, and the follow has not passed yet."""
        self._lost: frozenset[str] = frozenset()
        """The dots of that part of it which was answered before the follow began."""
        self._progress = asyncio.Event()
        self._failure: FlcError | None = None
        """Why the follow has ended, if it has."""

    async def close(self) -> None:
        """End the present connection."""
        await self._client.close()

    async def to_go(self) -> int:
        """Ask how many messages the node knows to be missing; raises FlcError."""
        return int((await self._client.status())["catching_up"])

    # --- Saying -----------------------------------------------------------------------------

    def say(self, bodies: Bodies, heard: Heard) -> None:
        """Say lines after all before them; `heard` is called when they are durable or refused."""
        n = self._last_n + 1
        self._last_n += len(bodies)
        self.unanswered += len(bodies)
        self._open[n] = (bodies, heard)
        with suppress(DaemonGoneError):  # The lines stay open, so they are said again.
            self._send(self._client, n)

    async def drain(self, open_max: int) -> None:
        """Wait until at most this many lines are open; raises the error of `batches` if it ended.

        Somebody must take the batches meanwhile, because only `batches` reconnects.
        """
        while self.unanswered > open_max:
            if self._failure is not None:
                raise self._failure
            self._progress.clear()
            await self._progress.wait()
        with suppress(DaemonGoneError):  # The follow finds that out, too.
            await self._client.drain(OPEN_MAX)

    def _send(self, client: Client, n: int) -> asyncio.Future[SaidMany]:
        bodies, _ = self._open[n]
        once = (self._name, n)
        said = client.say_many_nowait(self._room, bodies, author=self._author, once=once)
        said.add_done_callback(lambda answer: self._answered(n, answer))
        return said

    def _answered(self, n: int, answer: asyncio.Future[SaidMany]) -> None:
        if answer.cancelled():
            return  # The wait was too long, or Ctrl-C ended it: the lines stay open.
        error = cast("FlcError | None", answer.exception())
        if isinstance(error, DaemonGoneError):
            return  # The lines stay open.
        self._progress.set()
        bodies, heard = self._open.pop(n)
        self.unanswered -= len(bodies)
        if isinstance(error, BodiesRefusedError):
            self._mine.append(error.said)
        elif error is None:
            self._mine.append(answer.result())
        heard(error)

    # --- Following --------------------------------------------------------------------------

    async def batches(self) -> AsyncIterator[list[Record]]:
        """Give what the follow brings, without the messages that were said here.

        Raises FlcError if the follow is refused, DaemonGoneError if the daemon does not come back.
        """
        try:
            while True:
                try:
                    follow = self._client.stream("follow", room=self._room, **self._start)
                    while batch := await follow.batch():
                        yield self._news(batch)
                except DaemonGoneError as error:
                    await self._reconnect(error)
        except FlcError as error:
            self._failure = error
            self._progress.set()
            raise

    def _news(self, batch: list[Record]) -> list[Record]:
        news = [record for record in batch if not self._is_mine(record)]
        last = batch[-1]
        self._start = {"from": last["position"]}
        if "message" in last:
            self._start["dot"] = last["message"]["dot"]
        # What is said again may be pruned by now: it has no position and is never shown.
        self._mine = [said for said in self._mine if (said.position or 0) > last["position"]]
        return news

    def _is_mine(self, record: Record) -> bool:
        return "message" in record and (record["own"] or record["message"]["dot"] in self._lost)

    # --- Reconnecting -----------------------------------------------------------------------

    async def _reconnect(self, gone: DaemonGoneError) -> None:
        self.on_loss(gone)
        pause_s = PAUSE_FIRST_S
        try:
            async with asyncio.timeout(self.retry_s):
                while True:
                    await asyncio.sleep(pause_s)
                    pause_s = min(2 * pause_s, PAUSE_MOST_S)
                    with suppress(FlcError):  # The daemon is not up yet, or gone again.
                        self._client = await self._connect()
                        self._lost = frozenset(dot for said in self._mine for dot in said.dots)
                        return
        except TimeoutError:
            raise gone from None

    async def _connect(self) -> Client:
        """Connect, and say all open lines in order before any new line goes out.

        So their dots are known before a follow can bring them.
        """
        client, n = await Client.connect(self._client.path), 0
        while unsent := [open_n for open_n in self._open if open_n > n]:
            answers = [self._send(client, n) for n in unsent]
            n = unsent[-1]
            for answer in await asyncio.gather(*answers, return_exceptions=True):
                if isinstance(answer, DaemonGoneError):
                    raise answer
        return client
