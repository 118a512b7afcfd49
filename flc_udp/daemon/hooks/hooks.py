"""Commands that run on news, by `/bin/sh -c`: `--on-message CMD` and `--on-member CMD`.

On standard input is one JSON line, as `flc log --json` or `flc members --json` prints it. What the
command prints goes to the node's standard error. The same is in its environment, for `case` and
`test`; none of it is ever put into the command, so a message cannot say what is run:

    FLC_EVENT    message                          FLC_EVENT        member
    FLC_DOT      the message's name               FLC_MEMBER       the member's id
    FLC_ROOM     where it was said                FLC_MEMBER_NAME  what people call it
    FLC_AUTHOR   who said it                      FLC_STATE        alive, suspect, dead or left
    FLC_OWN      1 if this run of the node        FLC_ADDRESS      where it is
                 said it, else 0                  FLC_MEMBER_TAGS  its tags, one K=V a line

    FLC_DATA     the data directory, so that `flc say` in a command reaches this node
    and of the node's own environment what INHERITED names, no more

Rules. A message is run for when this node shows it, from its start on or from the reload that gave
the command; what it catches up with is shown too. A command that says something is run for that
too, unless it looks at FLC_OWN. Its position moves before the command begins: at
most once, and what had not begun when a node ended is not run for later. Nothing is queued: who is
behind reads on from the log, message by message, and passes over what retention took. Of a member
the latest state counts, however often it changed while other commands ran. A failure is logged and
not repeated. At the end of a node what runs has STOP_S, and is killed then; a node that is killed
itself kills nobody.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from flc_udp.config import Settings
from flc_udp.core.effects import Deliver
from flc_udp.core.notices import MemberChanged
from flc_udp.daemon.ground import LoopGround
from flc_udp.daemon.hooks.shell import OUTCOMES, Shell, outcome
from flc_udp.daemon.notices import HookFailed
from flc_udp.daemon.records import Record, encode, member_record
from flc_udp.daemon.stderr import tell
from flc_udp.model.dots import NodeId
from flc_udp.model.errors import StoreFailed
from flc_udp.model.message import decode
from flc_udp.model.notices import Notice
from flc_udp.store.log import Reader
from flc_udp.wire.message_json import message_record

INHERITED = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "TZ", "TMPDIR")

STOP_S = 2.0
"""Commands that run when the node stops have so long to end by themselves."""

KILLED_S = 1.0
"""After a kill the end is awaited so long; what hangs in the kernel is left behind."""

READ_AGAIN_S = 1.0
"""A log that could not be read is tried again after so long."""

QUIET_S = 10.0
"""Of one hook's failures one is logged in so long."""


class Run(NamedTuple):
    """What one run of a command is told."""

    environ: dict[str, str]
    record: Record

    @property
    def about(self) -> str:
        """The message or the member, for the log."""
        return self.environ.get("FLC_DOT") or self.environ["FLC_MEMBER"]


class Failure(NamedTuple):
    """What a command failed of, and when, on the monotonic clock in seconds."""

    about: str
    reason: str
    at: float


class Figures(NamedTuple):
    """How one hook does."""

    running: int
    waiting: int
    """Messages, in the log, or members: no command has begun for them."""
    passed_over: int
    """Messages that retention took first; changes of a member that a newer one followed."""
    ended: Mapping[str, int]
    """By how, one of OUTCOMES."""
    last_failure: Failure | None

    def record(self) -> Record:
        """For people and scripts."""
        failure = self.last_failure
        return {
            "running": self.running,
            "waiting": self.waiting,
            "passed_over": self.passed_over,
            "ended": {how: self.ended.get(how, 0) for how in OUTCOMES},
            "last_failure": failure
            and {
                "about": failure.about,
                "reason": failure.reason,
                "s_ago": round(time.monotonic() - failure.at, 1),
            },
        }


class Hooks:
    """The hooks of a node, and the shell they share."""

    def __init__(
        self,
        settings: Settings,
        ground: LoopGround,
        reader: Reader,
        data: Path,
        broke: Callable[[BaseException | None], None],
    ) -> None:
        kept = {name: os.environ[name] for name in INHERITED if name in os.environ}
        environ = {**kept, "FLC_DATA": str(data.absolute())}
        shell = self._shell = Shell()
        self._messages = NewMessages(ground, reader)
        self._members = ChangedMembers(ground)
        self._on_message = Hook("on_message", self._messages.take, shell, environ)
        self._on_member = Hook("on_member", self._members.take, shell, environ)
        self._settings = settings
        self._broke = broke
        self._follow()
        ground.on_notice.append(self._told)
        ground.on_show.append(self._shown)

    def start(self) -> None:
        """Run for what is news since this was made."""
        self._on_message.start(self._settings.hook_processes, self._broke)
        self._on_member.start(1, self._broke)

    def reload(self, settings: Settings) -> None:
        """Other commands, or none, from the next run on."""
        if not self._settings.on_message:
            self._messages.skip()
        if not settings.on_member:
            self._members.skip()
        self._settings = settings
        self._follow()

    def figures(self) -> dict[str, Figures]:
        """{hook: its figures}, of those that have a command or had one."""
        hooks = ((self._on_message, self._messages), (self._on_member, self._members))
        return {
            hook.name: hook.figures(news.waiting, news.passed_over)
            for hook, news in hooks
            if hook.is_used
        }

    async def stop(self) -> None:
        """Begin nothing more, and end what runs."""
        tasks = [*self._on_message.finish(), *self._on_member.finish()]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=STOP_S)
            if late:
                self._shell.kill()
                await asyncio.wait(late, timeout=KILLED_S)
        self._shell.close()

    def _follow(self) -> None:
        settings = self._settings
        self._on_message.follow(settings.on_message, settings.hook_timeout_s)
        self._on_member.follow(settings.on_member, settings.hook_timeout_s)

    def _shown(self, _deliver: Deliver) -> None:
        self._on_message.wake()

    def _told(self, notice: Notice) -> None:
        if self._settings.on_member and isinstance(notice, MemberChanged):
            self._members.add(notice.id)
            self._on_member.wake()


class NewMessages:
    """A position in the log, moved on by whoever is free to run the command."""

    def __init__(self, ground: LoopGround, reader: Reader) -> None:
        self._ground = ground
        self._reader = reader
        self._position = ground.shown.position
        self.passed_over = 0
        """Messages that retention took before a command could run for them."""

    @property
    def waiting(self) -> int:
        """Messages that are shown and that no command has begun for; they are in the log."""
        return self._ground.shown.position - self._position

    def skip(self) -> None:
        """What is shown by now is history."""
        self._position = self._ground.shown.position

    def take(self) -> Run | None:
        """The next message that is shown; raises StoreFailed."""
        shown = self._ground.shown.position
        if self._position >= shown:
            return None
        page = self._reader.after(self._position, None, 1)
        if not page or page[0][0] > shown:
            self.passed_over += shown - self._position
            self._position = shown
            return None
        self.passed_over += page[0][0] - self._position - 1
        self._position, encoded = page[0]
        message = decode(encoded)
        own = message.log == self._ground.node.log
        environ = {
            "FLC_EVENT": "message",
            "FLC_DOT": str(message.dot),
            "FLC_ROOM": message.room,
            "FLC_AUTHOR": message.author,
            "FLC_OWN": "1" if own else "0",
        }
        return Run(environ, message_record(message))


class ChangedMembers:
    """Members whose state changed, each once, the first to change first."""

    def __init__(self, ground: LoopGround) -> None:
        self._ground = ground
        self._changed: dict[NodeId, None] = {}
        self.passed_over = 0
        """Changes that another one of the same member followed before a command could run."""

    @property
    def waiting(self) -> int:
        """Members that changed and that no command has begun for."""
        return len(self._changed)

    def skip(self) -> None:
        """What changed by now is history."""
        self._changed.clear()

    def add(self, node: NodeId) -> None:
        """Its state is another."""
        self.passed_over += node in self._changed
        self._changed[node] = None

    def take(self) -> Run | None:
        """The next one as it is now; one that is no longer in the table is passed over."""
        while self._changed:
            node = next(iter(self._changed))
            del self._changed[node]
            members = self._ground.node.facts().members
            member = next((m for m in members if m.row.id == node), None)
            if member is None:
                self.passed_over += 1
                continue
            environ = {
                "FLC_EVENT": "member",
                "FLC_MEMBER": node.hex(),
                "FLC_MEMBER_NAME": member.row.name,
                "FLC_ADDRESS": str(member.row.address),
                "FLC_STATE": member.row.state.name.lower(),
                "FLC_MEMBER_TAGS": "\n".join(map(str, member.row.tags)),
            }
            return Run(environ, member_record(member, self._ground.wall(), is_self=False))
        return None


class Hook:
    """A command and some workers, each of which runs it for the next piece of news."""

    def __init__(
        self, name: str, take: Callable[[], Run | None], shell: Shell, environ: dict[str, str]
    ) -> None:
        self.name = name
        self._take = take
        self._shell = shell
        self._environ = environ
        self._command = ""
        self._timeout_s = 0.0
        self._news = asyncio.Event()
        self._is_finishing = False
        self._workers: list[asyncio.Task[None]] = []
        self._running = 0
        self._counts: Counter[str] = Counter()
        self._last_failure: Failure | None = None
        self._quiet_until = 0.0
        self._unlogged = 0

    def start(self, workers: int, broke: Callable[[BaseException | None], None]) -> None:
        """So many processes at a time."""

        def ended(worker: asyncio.Task[None]) -> None:
            if not worker.cancelled() and worker.exception() is not None:
                broke(worker.exception())

        for _ in range(workers):
            worker = asyncio.get_running_loop().create_task(self._work())
            worker.add_done_callback(ended)
            self._workers.append(worker)

    def follow(self, command: str, timeout_s: float) -> None:
        """Run this from now on; with no command nothing is run."""
        self._command, self._timeout_s = command, timeout_s

    @property
    def is_used(self) -> bool:
        """Whether there is a command, or one has run."""
        return bool(self._command or self._counts or self._running)

    def figures(self, waiting: int, passed_over: int) -> Figures:
        """What runs, how many ended how, and what failed last."""
        if not self._command:
            waiting = 0  # It is for nobody.
        return Figures(self._running, waiting, passed_over, self._counts, self._last_failure)

    def wake(self) -> None:
        """There may be something to take."""
        self._news.set()

    def finish(self) -> list[asyncio.Task[None]]:
        """Take nothing more; the tasks end with the processes that run."""
        self._is_finishing = True
        self._news.set()
        return self._workers

    async def _work(self) -> None:
        while not self._is_finishing:
            run = self._next()
            if run is None:
                self._news.clear()
                await self._news.wait()
                continue
            environ = {**self._environ, **run.environ}
            line = encode(run.record) + "\n"
            self._running += 1
            try:
                reason = await self._shell.run(self._command, environ, line, self._timeout_s)
            finally:
                self._running -= 1
            self._counts[outcome(reason)] += 1
            if reason:
                self._failed(run, reason)

    def _next(self) -> Run | None:
        if not self._command:
            return None
        try:
            return self._take()
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
