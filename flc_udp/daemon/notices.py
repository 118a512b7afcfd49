"""What the daemon tells people besides its node: start and end, settings, keys and hooks."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flc_udp.model.address import Address
from flc_udp.model.dots import NodeId
from flc_udp.model.notices import Notice, WarningNotice


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
class NodeLeaving(Notice):
    """The node was told to leave, and tells the others."""


@dataclass(frozen=True, slots=True)
class NodeStopped(Notice):
    """Everything is written and closed. This is the last line."""


@dataclass(frozen=True, slots=True)
class VariableUnknown(WarningNotice):
    """An environment variable looks like a setting and is none."""

    variable: str
    hint: str


@dataclass(frozen=True, slots=True)
class SettingsReloaded(Notice):
    """The settings were read again after a SIGHUP."""

    changed: Sequence[str]


@dataclass(frozen=True, slots=True)
class SettingsNotReloaded(WarningNotice):
    """The settings could not be read again. The node goes on as before."""

    error: str
    hint: str


@dataclass(frozen=True, slots=True)
class RestartNeeded(WarningNotice):
    """These settings changed, and take effect only at the next start."""

    settings: Sequence[str]


@dataclass(frozen=True, slots=True)
class WriteFailed(WarningNotice):
    """A small write failed, such as that of the incarnation. The next one may work."""

    reason: str


@dataclass(frozen=True, slots=True)
class SeedUnresolved(WarningNotice):
    """The name of a seed has no address now. It is looked up again."""

    seed: str
    error: str


@dataclass(frozen=True, slots=True)
class KeysChanged(Notice):
    """The ring of keys changed."""

    change: str
    key: str | None
    """The key it is about, where it is about one."""
    seals: str
    opens: Sequence[str]


@dataclass(frozen=True, slots=True)
class KeyFileOutdated(WarningNotice):
    """The ring was changed since the key file was last followed, so the ring stands."""

    path: Path


@dataclass(frozen=True, slots=True)
class HookFailed(WarningNotice):
    """A command that runs on news failed."""

    hook: str
    about: str
    """The message or the member it ran for."""
    reason: str
    unlogged: int
    """Failures of this hook since the last line, which were not logged."""
