"""The world as the core sees it: five things a decision can ask for, as values.

The Node carries them out in one fixed order: commit, send, show. `Append` starts a commit,
`Deliver` comes out of a finished one; nothing here is done by the core itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from flc_udp.model.address import Address
from flc_udp.model.message import Message
from flc_udp.wire.packets import Packet, Want


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
    """Read `wants` from the log, in (stamp, log, seq) order, and stream up to `credit` bytes."""

    to: Address
    nonce: int
    wants: tuple[Want, ...]
    credit: int


@dataclass(frozen=True, slots=True)
class Notice:
    """A fact for people: `name` is a short past-tense log name, `fields` its details."""

    name: str
    fields: Mapping[str, object] = field(default_factory=dict)


Effect = Append | Deliver | Send | Replay | Notice
