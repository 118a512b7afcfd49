"""One hook: a command, and the workers that run it for the news of one kind."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import NamedTuple

from flc_udp.daemon.hooks.environment import Run
from flc_udp.daemon.hooks.news import NewsSource
from flc_udp.daemon.hooks.shell import How, Shell
from flc_udp.daemon.notices import HookFailed
from flc_udp.daemon.records import encode
from flc_udp.daemon.stderr import tell
from flc_udp.model.errors import StoreFailed
from flc_udp.wire.message_json import Record

READ_AGAIN_S = 1.0
"""If the log cannot be read, the hook tries again after this time."""

QUIET_S = 10.0
"""At most one failure of a hook is logged in this time."""


class Failure(NamedTuple):
    """Why a command failed, for which message or member, and when (monotonic clock, seconds)."""

    about: str
    reason: str
    at: float


class HookFigures(NamedTuple):
    """How one hook is doing."""

    running: int
    waiting: int
    """Messages in the log, or members, for which no command has begun."""
    passed_over: int
    """Messages that retention removed first; changes of a member that a later one replaced."""
    ended: Mapping[How, int]
    last_failure: Failure | None

    def record(self) -> Record:
        """The figures for people and scripts."""
        failure = self.last_failure
        return {
            "running": self.running,
            "waiting": self.waiting,
            "passed_over": self.passed_over,
            "ended": {how.value: self.ended.get(how, 0) for how in How},
            "last_failure": failure
            and {
                "about": failure.about,
                "reason": failure.reason,
                "s_ago": round(time.monotonic() - failure.at, 1),
            },
        }


class Hook:
    """A command and its workers. Each worker runs the command for the next piece of news."""

    def __init__(self, name: str, news: NewsSource, shell: Shell, environ: dict[str, str]) -> None:
        self.name = name
        self._news = news
        self._shell = shell
        self._environ = environ
        self._command = ""
        self._timeout_s = 0.0
        self._has_news = asyncio.Event()
        self._is_finishing = False
        self._workers: list[asyncio.Task[None]] = []
        self._running = 0
        self._counts: Counter[How] = Counter()
        self._last_failure: Failure | None = None
        self._quiet_until = 0.0
        self._unlogged = 0

    def start(self, workers: int, broke: Callable[[BaseException | None], None]) -> None:
        """Start the workers; at most this many commands run at a time."""

        def ended(worker: asyncio.Task[None]) -> None:
            if not worker.cancelled() and worker.exception() is not None:
                broke(worker.exception())

        for _ in range(workers):
            worker = asyncio.get_running_loop().create_task(self._work())
            worker.add_done_callback(ended)
            self._workers.append(worker)

    def follow(self, command: str, timeout_s: float) -> None:
        """Run this command from now on. An empty command runs nothing."""
        if not self._command or not command:
            self._news.skip()
        self._command, self._timeout_s = command, timeout_s

    @property
    def has_command(self) -> bool:
        """Whether the settings give this hook a command now."""
        return bool(self._command)

    @property
    def is_used(self) -> bool:
        """Whether this hook has a command, or has had one that ran."""
        return bool(self._command or self._counts or self._running)

    def figures(self) -> HookFigures:
        """What runs and waits, how many ended in which way, and what failed last."""
        waiting = self._news.waiting if self._command else 0
        counts, failure = self._counts, self._last_failure
        return HookFigures(self._running, waiting, self._news.passed_over, counts, failure)

    def wake(self) -> None:
        """There may be news."""
        self._has_news.set()

    def finish(self) -> list[asyncio.Task[None]]:
        """Begin nothing more. The tasks end when the commands that run now have ended."""
        self._is_finishing = True
        self._has_news.set()
        return self._workers

    async def _work(self) -> None:
        while not self._is_finishing:
            run = self._next()
            if run is None:
                self._has_news.clear()
                await self._has_news.wait()
                continue
            environ = {**self._environ, **run.environ}
            line = encode(run.record) + "\n"
            self._running += 1
            try:
                ended = await self._shell.run(self._command, environ, line, self._timeout_s)
            finally:
                self._running -= 1
            self._counts[ended.how] += 1
            if ended.how is not How.WELL:
                self._failed(run, ended.reason)

    def _next(self) -> Run | None:
        if not self._command:
            return None
        try:
            return self._news.take()
        except StoreFailed:
            asyncio.get_running_loop().call_later(READ_AGAIN_S, self.wake)
            return None

    def _failed(self, run: Run, reason: str) -> None:
        now = time.monotonic()
        self._last_failure = Failure(run.about, reason, now)
        if now < self._quiet_until:
            self._unlogged += 1
            return
        tell(HookFailed(self.name, run.about, reason, self._unlogged))
        self._quiet_until, self._unlogged = now + QUIET_S, 0
