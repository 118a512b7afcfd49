"""What the daemon tells people besides its node: start and end, settings, keys and hooks."""

from collections.abc import Sequence
from pathlib import Path

from flc_udp.model.address import Address
from flc_udp.model.dots import NodeId
from flc_udp.model.notices import Level, Notice


class NodeStarted(Notice):
    """The node runs and can be seen by others."""

    id: NodeId
    address: Address
    data: Path
    cluster: str
    sealed: bool
    messages: int
    metrics: Address | None
    """Where the pages for monitors are, if there are any."""
    version: str


class NodeLeaving(Notice):
    """The node was told to leave, and tells the others."""


class NodeStopped(Notice):
    """Everything is written and closed. This is the last line."""


class VariableUnknown(Notice, level=Level.WARNING):
    """An environment variable looks like a setting and is none."""

    variable: str
    hint: str


class OpenToOthers(Notice, level=Level.WARNING):
    """Other users of this machine can use a key file or the data directory."""

    path: Path
    mode: str
    hint: str


class LoopReplaced(Notice, level=Level.WARNING):
    """The event loop uvloop cannot be used, so the node runs on Python's own, which is slower."""

    error: str


class SettingsReloaded(Notice):
    """The settings were read again after a SIGHUP."""

    changed: Sequence[str]


class SettingsNotReloaded(Notice, level=Level.WARNING):
    """The settings could not be read again. The node goes on as before."""

    error: str
    hint: str


class RestartNeeded(Notice, level=Level.WARNING):
    """These settings changed, and take effect only at the next start."""

    settings: Sequence[str]


class WriteFailed(Notice, level=Level.WARNING):
    """A small write failed, such as that of the incarnation. The next one may work."""

    reason: str


class SocketMadeAgain(Notice, level=Level.WARNING):
    """`control.sock` was deleted or replaced under the running node. It is there again."""

    data: Path


class SeedUnresolved(Notice, level=Level.WARNING):
    """The name of a seed has no address now. It is looked up again."""

    seed: str
    error: str


class KeysChanged(Notice):
    """The ring of keys changed."""

    change: str
    key: str | None
    """The key it is about, where it is about one."""
    seals: str
    opens: Sequence[str]


class KeyFileOutdated(Notice, level=Level.WARNING):
    """The ring was changed since the key file was last followed, so the ring stands."""

    path: Path


class HookFailed(Notice, level=Level.WARNING):
    """A command that runs on news failed."""

    hook: str
    about: str
    """The message or the member it ran for."""
    reason: str
    unlogged: int
    """Failures of this hook since the last line, which were not logged."""


class HookOutput(Notice):
    """A command of a hook wrote this line. A terminal is shown the line alone."""

    line: str


class LinesLeftOut(Notice, level=Level.WARNING):
    """So many lines of one event were left out of the log, because there were too many of them."""

    of: str
    lines: int


class RequestFailed(Notice, level=Level.ERROR):
    """A request of a client failed in a way that nobody expected. Everything else goes on."""

    kind: str
    error: str
    traceback: str
    unlogged: int = 0
    """Failures of this kind since the last line, which were not logged."""


class PartFailed(Notice, level=Level.ERROR):
    """A part of the daemon failed in a way that nobody expected. Everything else goes on."""

    kind: str
    error: str
    traceback: str
    unlogged: int = 0
    """Failures of this kind since the last line, which were not logged."""
