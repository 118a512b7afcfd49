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

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

from flc_udp.config import Settings
from flc_udp.core.effects import Deliver
from flc_udp.core.notices import MemberChanged
from flc_udp.daemon.ground import LoopGround
from flc_udp.daemon.hooks.hook import Hook, HookFigures
from flc_udp.daemon.hooks.news import ChangedMembers, NewMessages
from flc_udp.daemon.hooks.shell import Shell
from flc_udp.model.notices import Notice
from flc_udp.store.log import Reader

INHERITED = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "TZ", "TMPDIR")

STOP_S = 2.0
"""When the node stops, the commands that run have this long to end by themselves."""

KILLED_S = 1.0
"""After a kill the node waits this long. A process that hangs in the kernel is left behind."""


class Hooks:
    """The two hooks of a node, and the shell that they share."""

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
        self._members = ChangedMembers(ground)
        self._on_message = Hook("on_message", NewMessages(ground, reader), shell, environ)
        self._on_member = Hook("on_member", self._members, shell, environ)
        self._processes = settings.hook_processes
        self._broke = broke
        self.reload(settings)
        ground.on_notice.append(self._told)
        ground.on_show.append(self._shown)

    def start(self) -> None:
        """Run the commands for everything that has become news since this object was made."""
        self._on_message.start(self._processes, self._broke)
        self._on_member.start(1, self._broke)

    def reload(self, settings: Settings) -> None:
        """Use the commands of these settings, from the next run on."""
        self._on_message.follow(settings.on_message, settings.hook_timeout_s)
        self._on_member.follow(settings.on_member, settings.hook_timeout_s)

    def figures(self) -> dict[str, HookFigures]:
        """{hook: its figures}, for the hooks that have a command or have run one."""
        hooks = (self._on_message, self._on_member)
        return {hook.name: hook.figures() for hook in hooks if hook.is_used}

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
        if self._on_member.has_command and isinstance(notice, MemberChanged):
            self._members.add(notice.id)
            self._on_member.wake()
