"""What `flc status` shows: is this node healthy, why not, and what it holds, awaits and drops."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

from flc_udp import __version__
from flc_udp.config import Settings
from flc_udp.core.liveness.health import Health
from flc_udp.daemon.ground import LoopGround
from flc_udp.daemon.keys import Keys
from flc_udp.daemon.records import Record, plain
from flc_udp.daemon.watch.peers import peers_record
from flc_udp.daemon.watch.reasons import advice
from flc_udp.model.address import Address
from flc_udp.model.clocks import STAMP_WALL_SHIFT
from flc_udp.model.drops import Drop
from flc_udp.store.directory import DataDirectory
from flc_udp.store.log import Reader
from flc_udp.waist.node import Node
from flc_udp.wire.message_json import rfc3339
from flc_udp.wire.packets import State


class Status:
    """Asks every part of a running node for its figures."""

    def __init__(
        self,
        settings: Settings,
        ground: LoopGround,
        directory: DataDirectory,
        reader: Reader,
        keys: Keys,
        *,
        metrics: Address | None = None,
    ) -> None:
        self.settings = settings
        self._ground = ground
        self._directory = directory
        self._reader = reader
        self.keys = keys
        self._metrics = metrics
        self._started = time.monotonic()
        self.more: dict[str, Callable[[], Record]] = {}
        """What other parts of the daemon tell of themselves, by the key they have in the record."""

    @property
    def _node(self) -> Node:
        return self._ground.node

    @property
    def uptime_s(self) -> float:
        """Since this daemon was made."""
        return time.monotonic() - self._started

    def digest(self) -> Record:
        """Roots, and the number of logs and messages they stand for."""
        standing = self._node.replica.standing
        return {
            "root": standing.root.value().hex(),
            "members_root": self._node.replica.liveness.members.root.value().hex(),
            "logs": standing.logs,
            "messages": standing.messages,
        }

    def record(self) -> Record:
        """The whole of it."""
        node = self._node
        reasons = self.reasons()
        digest = self.digest()
        return {
            "healthy": not reasons,
            "reasons": reasons,
            "advice": [advice(reason) for reason in reasons],
            "node": self._node_record(),
            "members": self.members(),
            "peers": peers_record(node, self._ground.now()),
            "health": self._health(),
            "messages": digest["messages"],
            "logs": digest["logs"],
            "rooms": len(node.replica.causal.frontiers),
            "root": digest["root"],
            "members_root": digest["members_root"],
            "messages_kept": self._reader.counts()[0],
            "floor": _floor(node.replica.standing.floor),
            "catching_up": node.replica.anti_entropy.wants.to_go,
            "sync": self._sync(),
            "holdback": {
                "messages": len(node.replica.causal.held),
                "bytes": node.replica.causal.held_bytes,
                "dropped": node.replica.causal.dropped,
            },
            "queues": node.queued,
            **{key: tell() for key, tell in self.more.items()},
            "drops": plain(self.drops()),
            "disk": self._disk(),
            "counts": plain(node.counts),
        }

    def reasons(self) -> list[str]:
        """What is wrong, in words; empty when the node is healthy."""
        node = self._node
        reasons = []
        if node.failing is not None:
            reasons.append(f"the log cannot be written: {node.failing}")
        reasons += self._disk_reasons()
        if node.drops[Drop.SEAL_BROKEN]:
            reasons.append("datagrams of this key and cluster do not open: is a peer misbehaving?")
        if node.replica.anti_entropy.exchange.forks:
            reasons.append("a log was forked: two messages with one name")
        health = self._local_health
        if health.score and 2 * health.score >= health.score_max:
            reasons.append(
                f"this node hears others late or not at all: local health {health.score} of "
                f"{health.score_max}, 0 is well (a busy machine, a slow disk, a bad link?)"
            )
        members = node.replica.liveness.members
        if not members.live():  # Which is at hand; all rows are read only where that is so.
            gone = [m for m in members if m.row.state in (State.SUSPECT, State.DEAD)]
            if gone:
                reasons.append(f"no other member is alive, of {len(gone)} known")
        if self.settings.join and not list(members)[1:]:
            seeds = ", ".join(self.settings.join)
            reasons.append(f"no seed has answered: {seeds} (key or cluster name?)")
        return reasons

    def line(self) -> str:
        """The first line of `flc status`, with all that is wrong in it."""
        me, reasons = self._node.replica.liveness.me, self.reasons()
        title = f"{me.name} ({me.id.hex()}) is {'NOT HEALTHY' if reasons else 'healthy'}"
        return ": ".join((title, "; ".join(reasons))) if reasons else title

    def unready(self) -> list[str]:
        """Why nobody should be sent here now; empty when this node is as good as any."""
        reasons, replica = self.reasons(), self._node.replica
        if replica.standing.catching_up:
            to_go = replica.anti_entropy.wants.to_go
            reasons.append(f"catching up, {to_go} messages to go")
        if replica.liveness.is_leaving:
            reasons.append("leaving")
        return reasons

    def _disk_reasons(self) -> list[str]:
        try:
            free = self._directory.free_bytes()
        except OSError as error:
            return [f"the data directory cannot be looked at: {error.strerror}"]
        if free < self.settings.disk_free_bytes_min:
            return [f"{free / 1e6:.1f} MB of disk are free: posts are refused"]
        return []

    @property
    def _local_health(self) -> Health:
        return self._node.replica.liveness.detector.health

    def _node_record(self) -> Record:
        me = self._node.replica.liveness.me
        return {
            "id": me.id.hex(),
            "name": me.name,
            "address": str(me.address),
            "cluster": self.settings.cluster,
            "sealed": not self.keys.ring.is_open,
            "version": __version__,
            "uptime_s": round(self.uptime_s, 1),
            "incarnation": me.incarnation,
            "metrics": None if self._metrics is None else str(self._metrics),
        }

    def members(self) -> dict[str, int]:
        """How many there are, by state."""
        states = Counter(m.row.state for m in self._node.replica.liveness.members)
        return {state.name.lower(): states[state] for state in State}

    def _health(self) -> Record:
        """Local health (0 is well), how far it slows this node's probes, and what moved it when."""
        health, now = self._local_health, self._ground.now()
        return {
            "score": health.score,
            "score_max": health.score_max,
            "multiplier": health.multiplier,
            "counts": plain(health.counts),
            "last_s_ago": {
                change: round((now - at) / 1e6, 1) for change, at in sorted(health.last.items())
            },
        }

    def _sync(self) -> Record:
        """Whom the last sync asked, and by the root it told last whether it agrees (null: silent).

        `idle`: nothing is wanted of anybody, is held back or waits for the disk.
        """
        replica = self._node.replica
        repair, waiting = replica.anti_entropy, replica.causal.held or replica.uncommitted
        agrees = {node.hex(): agrees for node, agrees in repair.exchange.last_sync.agrees.items()}
        return {"agrees": agrees, "idle": repair.is_idle and not waiting}

    def drops(self) -> Counter[Drop]:
        """What was not taken or not sent, by a fixed phrase each."""
        replica = self._node.replica
        others = {
            Drop.HOLDBACK_OVERFLOW: replica.causal.dropped,
            Drop.BROKEN_CHAIN: replica.causal.refused,
            Drop.MEMBER_TABLE_FULL: replica.liveness.members.refused,
            Drop.PIECES_OVERFLOW: replica.anti_entropy.pieces.dropped,
            Drop.FORKED_LOG: replica.anti_entropy.exchange.forks,
            Drop.WANT_GIVEN_UP: replica.anti_entropy.wants.abandoned,
            Drop.NOT_SENT: self._ground.send_errors,
        }
        return self._node.drops + replica.drops + Counter(others)

    def _disk(self) -> Record:
        """Sizes; while the disk cannot be read, only that, which `reasons` tells too."""
        writable = self._node.failing is None
        try:
            sizes = self._directory.file_bytes()
            return {
                "free_bytes": self._directory.free_bytes(),
                "used_bytes": self._reader.used_bytes(),
                "database_bytes": sum(sizes.values()),
                "wal_bytes": sizes.get("wal", 0),
                "writable": writable,
            }
        except OSError:
            return {"writable": writable}


def _floor(stamp: int) -> str | None:
    """When what was said is kept from, None where nothing was pruned."""
    return rfc3339(stamp >> STAMP_WALL_SHIFT) if stamp else None
