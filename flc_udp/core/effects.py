"""The world as the core sees it: seven things a decision can ask for, as values.

The Node carries them out in one fixed order: commit, send, show. `Append` starts a commit,
`Deliver` comes out of a finished one; nothing here is done by the core itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from flc_udp.model.address import Address
from flc_udp.model.dots import LogId
from flc_udp.model.history import BaseLog
from flc_udp.model.message import Message
from flc_udp.wire.packets import BasePull, Packet, Pull


@dataclass(frozen=True, slots=True)
class Append:
    """Keep these: each one's predecessor and causes are held or stand before it."""

    messages: tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class Deliver:
    """Show these: they are durable now, in an order that respects causality."""

    messages: tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class Send:
    """Send these packets to each address: packed into datagrams once, sealed once."""

    to: tuple[Address, ...]
    packets: tuple[Packet, ...]


@dataclass(frozen=True, slots=True)
class Replay:
    """Read what was pulled from the log, in (stamp, log, seq) order, and stream it.

    Of the logs in `lacks` less is held than was wanted.
    """

    to: Address
    pull: Pull
    lacks: tuple[LogId, ...]


@dataclass(frozen=True, slots=True)
class ReadBase:
    """Read a page of the base that stands for all below this node's floor, and stream it."""

    to: Address
    pull: BasePull


@dataclass(frozen=True, slots=True)
class Adopt:
    """Take a floor and its base as this node's own: what is below is held by nobody.

    The core is reborn from what the log then is.
    """

    floor: int
    base: tuple[BaseLog, ...]


@dataclass(frozen=True, slots=True)
class Notice:
    """A fact for people: `name` is a short past-tense log name, `fields` its details."""

    name: str
    fields: Mapping[str, object] = field(default_factory=dict)


Effect = Append | Deliver | Send | Replay | ReadBase | Adopt | Notice
