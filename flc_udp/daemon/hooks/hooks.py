"""Commands that the node runs on news, by `/bin/sh -c`: `--on-message CMD` and `--on-member CMD`.

The command gets one JSON line on standard input, as `flc log --json` or `flc members --json` prints
it. What the command prints goes to the node's standard error. Its environment holds the same facts,
for `case` and `test`. Nothing of a message ever becomes part of the command, so no message can
decide what is run:

    FLC_EVENT    message                          FLC_EVENT        member
    FLC_DOT      the message's name               FLC_MEMBER       the member's id
    FLC_ROOM     the room it was said in          FLC_MEMBER_NAME  the member's name
    FLC_AUTHOR   who said it                      FLC_STATE        alive, suspect, dead or left
    FLC_OWN      1 if this run of the node        FLC_ADDRESS      where the member is
                 said it, else 0                  FLC_MEMBER_TAGS  its tags, one K=V on each line

    FLC_DATA     the data directory, so that `flc say` in a command reaches this node
    and those variables of the node's own environment that INHERITED lists

Rules. The command runs for each message that this node shows, beginning with the node's start or
with the reload that gave the command; messages that the node catches up with are shown too. A
command that says something runs for its own message too, unless it looks at FLC_OWN. The position
in the log moves on before the command begins. So a command runs at most once for a message, and it
never runs for a message whose turn had not come when the node ended. There is no queue: a hook that
is behind reads on from the log, one message at a time, and passes over what retention removed. For
a member only the latest state counts, however often it changed while other commands ran. A failure
is logged and not repeated. When the node stops, the commands that run have STOP_S to end, and are
killed after that. A node that is itself killed kills no command.
"""

import asyncio
import os
import time
from collections import Counter
from pathlib import Path

from flc_udp.config import Settings
from flc_udp.core.effects import Deliver
from flc_udp.core.notices import MemberChanged
from flc_udp.daemon.failures import Failures
from flc_udp.daemon.ground import LoopGround
from flc_udp.daemon.hooks.environment import Run
from flc_udp.daemon.hooks.news import ChangedMembers, NewMessages
from flc_udp.daemon.hooks.shell import How, Shell
from flc_udp.daemon.notices import HookFailed
from flc_udp.daemon.stderr import tell
from flc_udp.model.errors import StoreFailed
from flc_udp.model.json_lines import compact
from flc_udp.model.notices import Notice
from flc_udp.store.log import Reader
from flc_udp.wire.message_json import Record

INHERITED = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "TZ", "TMPDIR")

STOP_S = 2.0
"""When the node stops, the commands that run have this long to end by themselves."""

KILLED_S = 1.0
"""After a kill the node waits this long. A process that hangs in the kernel is left behind."""

READ_AGAIN_S = 1.0
"""If the log cannot be read, the hook tries again after this time."""

QUIET_S = 10.0
"""At most one failure of a hook is logged in this time."""


class Hook:
    """A command and its workers. Each worker runs the command for the next piece of news."""

    def __init__(
        self, name: str, news: NewMessages | ChangedMembers, shell: Shell, environ: dict[str, str]
    ) -> None:
        self.name = name
        self.command = ""
        """What the settings give this hook to run now; it is empty where they give nothing."""
        self.running = 0
        self.ended: Counter[How] = Counter()
        """How many commands ended, by how."""
        self.news = news
        self._shell = shell
        self._environ = environ
        self._timeout_s = 0.0
        self._has_news = asyncio.Event()
        self._is_finishing = False
        self._workers: list[asyncio.Task[None]] = []
        self._last_failure: HookFailed | None = None
        self._failed_at_s = 0.0
        self._quiet_until_s = 0.0
        self._unlogged = 0

    def start(self, workers: int, failures: Failures) -> None:
        """Start the workers; at most this many commands run at a time."""
        work = (self._keep_working(failures) for _ in range(workers))
        self._workers = list(map(asyncio.create_task, work))

    def follow(self, command: str, timeout_s: float) -> None:
        """Run this command from now on. An empty command runs nothing."""
        if not self.command or not command:
            self.news.skip()
        self.command, self._timeout_s = command, timeout_s

    @property
    def is_used(self) -> bool:
        """Whether this hook has a command, or has had one that ran."""
        return bool(self.command or self.ended or self.running)

    @property
    def waiting(self) -> int:
        """Messages in the log, or members, for which no command has begun."""
        return self.news.waiting if self.command else 0

    def record(self) -> Record:
        """How this hook is doing, for people and scripts."""
        failure, s_ago = self._last_failure, round(time.monotonic() - self._failed_at_s, 1)
        return {
            "running": self.running,
            "waiting": self.waiting,
            "passed_over": self.news.passed_over,
            "ended": {how.value: self.ended[how] for how in How},
            "last_failure": failure
            and {"about": failure.about, "reason": failure.reason, "s_ago": s_ago},
        }

    def wake(self) -> None:
        """There may be news."""
        self._has_news.set()

    def finish(self) -> list[asyncio.Task[None]]:
        """Begin nothing more. The tasks end when the commands that run now have ended."""
        self._is_finishing = True
        self._has_news.set()
        return self._workers

    async def _keep_working(self, failures: Failures) -> None:
        while not self._is_finishing:
            try:
                await self._work()
            except Exception as error:  # noqa: BLE001  # a run fails alone
                failures.of_part("a hook", error)
                await asyncio.sleep(READ_AGAIN_S)

    async def _work(self) -> None:
        while not self._is_finishing:
            run = self._next()
            if run is None:
                self._has_news.clear()
                await self._has_news.wait()
                continue
            environ = {**self._environ, **run.environ}
            line = compact(run.record) + b"\n"
            self.running += 1
            try:
                ended = await self._shell.run(self.command, environ, line, self._timeout_s)
            finally:
                self.running -= 1
            self.ended[ended.how] += 1
            if ended.how is not How.WELL:
                self._failed(run, ended.reason)

    def _next(self) -> Run | None:
        if not self.command:
            return None
        try:
            return self.news.take()
        except StoreFailed:
            asyncio.get_running_loop().call_later(READ_AGAIN_S, self.wake)
            return None

    def _failed(self, run: Run, reason: str) -> None:
        now_s = time.monotonic()
        failure = HookFailed(self.name, run.about, reason, self._unlogged)
        self._last_failure, self._failed_at_s = failure, now_s
        if now_s < self._quiet_until_s:
            self._unlogged += 1
            return
        tell(failure)
        self._quiet_until_s, self._unlogged = now_s + QUIET_S, 0


class Hooks:
    """The two hooks of a node, and the shell that they share."""

    def __init__(
        self,
        settings: Settings,
        ground: LoopGround,
        reader: Reader,
        data: Path,
    ) -> None:
        kept = {name: os.environ[name] for name in INHERITED if name in os.environ}
        environ = {**kept, "FLC_DATA": str(data.absolute())}
        shell = self._shell = Shell()
        self._members = ChangedMembers(ground)
        self._on_message = Hook("on_message", NewMessages(ground, reader), shell, environ)
        self._on_member = Hook("on_member", self._members, shell, environ)
        self.reload(settings)
        ground.on_notice.append(self._told)
        ground.on_show.append(self._shown)

    def start(self, processes: int, failures: Failures) -> None:
        """Run the commands for everything that has become news since this object was made."""
        self._on_message.start(processes, failures)
        self._on_member.start(1, failures)

    def reload(self, settings: Settings) -> None:
        """Use the commands of these settings, from the next run on."""
        self._on_message.follow(settings.on_message, settings.hook_timeout_s)
        self._on_member.follow(settings.on_member, settings.hook_timeout_s)

    @property
    def dropped_bytes(self) -> int:
        """What commands wrote beyond what is passed on."""
        return self._shell.dropped_bytes

    def used(self) -> list[Hook]:
        """The hooks that have a command or have run one."""
        return [hook for hook in (self._on_message, self._on_member) if hook.is_used]

    def record(self) -> Record:
        """How each of these is doing, by its name."""
        return {hook.name: hook.record() for hook in self.used()}

    async def stop(self) -> None:
        """Begin nothing more, and end what runs."""
        tasks = [*self._on_message.finish(), *self._on_member.finish()]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=STOP_S)
            if late:
                self._shell.kill()
                await asyncio.wait(late, timeout=KILLED_S)
        self._shell.close()

    def _shown(self, _deliver: Deliver) -> None:
        self._on_message.wake()

    def _told(self, notice: Notice) -> None:
        if self._on_member.command and isinstance(notice, MemberChanged):
            self._members.add(notice.id)
            self._on_member.wake()
