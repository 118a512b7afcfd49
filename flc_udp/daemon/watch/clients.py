"""What the clients of a node cost it, and what they wait for, added up over all of them."""

from __future__ import annotations

from typing import NamedTuple

from flc_udp.daemon.control.server import Control
from flc_udp.waist.node import Node


class Clients(NamedTuple):
    """All clients of the control socket, at one moment."""

    connections: int
    blocked: int
    """Clients that do not read what they asked for. The node writes nothing more for them."""
    paused: int
    """Clients that ask faster than the node can do it. It does not read from them meanwhile."""
    unread_bytes: int
    """Bytes of answers and messages in memory that clients have not read yet."""
    follows: int
    lagging: int
    """Follows that have not seen everything that is shown. They read on from the log."""
    lag_max: int
    """How many messages the furthest is behind, over all rooms and with pruned messages."""
    waiting_for_others: int
    """Says that are durable here, and wait for the disks of other nodes."""
    turned_away: int
    """Clients that were refused because there were too many, since the daemon began."""


def clients_of(control: Control, node: Node) -> Clients:
    """Ask every connection. There are a few hundred at most."""
    here = control.connections
    lags = [lag for client in here for lag in client.lags()]
    return Clients(
        connections=len(here),
        blocked=sum(client.is_full for client in here),
        paused=sum(client.is_paused for client in here),
        unread_bytes=sum(client.unread_bytes for client in here),
        follows=len(lags),
        lagging=sum(lag > 0 for lag in lags),
        lag_max=max(lags, default=0),
        waiting_for_others=node.waits,
        turned_away=control.turned_away.count,
    )
