"""What the clients of a node cost it and wait for, added up: for `flc status` and the metrics."""

from __future__ import annotations

from typing import NamedTuple

from flc_udp.daemon.control.server import Control
from flc_udp.waist.node import Node


class Clients(NamedTuple):
    """All clients of the control socket, as they are now."""

    connections: int
    blocked: int
    """Clients that do not read what they asked for: nothing more is written for them."""
    paused: int
    """Clients that say faster than it is taken: they are not read from until it is."""
    unread_bytes: int
    """Answers and messages in memory that clients have not taken yet."""
    follows: int
    lagging: int
    """Follows that have not seen all that is shown: they read on from the log."""
    lag_max: int
    """Messages that the furthest of them is behind, of all rooms, pruned ones included."""
    waiting_for_others: int
    """Says that are durable here and wait for other nodes' disks."""
    turned_away: int
    """Clients that were one too many, since the daemon began."""


def clients_of(control: Control, node: Node) -> Clients:
    """Asks every connection: a few hundred at most."""
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
