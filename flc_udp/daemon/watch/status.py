"""What `flc status` shows: whether this node is healthy, why not, and what it holds and drops."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from flc_udp import __version__
from flc_udp.config import Settings
from flc_udp.core.facts import CarriedRoom, Facts, HealthFacts
from flc_udp.core.offences import Offence
from flc_udp.daemon.ground import LoopGround
from flc_udp.daemon.keys import Keys
from flc_udp.daemon.next_start import obstacle
from flc_udp.daemon.records import plain
from flc_udp.daemon.watch.peers import peers_record
from flc_udp.daemon.watch.reasons import Code, Reason
from flc_udp.model.address import Address
from flc_udp.model.clocks import wall_of
from flc_udp.model.dots import NodeId
from flc_udp.model.errors import Drop, StoreFailed
from flc_udp.model.units import SECOND_US, Micros
from flc_udp.model.visible import some_of, visible
from flc_udp.store.directory import DataDirectory
from flc_udp.store.log import Reader
from flc_udp.waist.node import Pause
from flc_udp.wire.message_json import Record, rfc3339
from flc_udp.wire.rows import MemberRow, State

WAL_BYTES_MOST = 40 << 20
"""Without a reader that holds on to an old state the WAL is folded in long before this size."""

READY_ALL_THE_SAME = (
    Code.KEY_UNKNOWN,
    Code.KEY_NOT_SHARED,
    Code.SEAL_BROKEN,
    Code.START_REFUSED,
)
"""These reasons wake people, and send nobody elsewhere: else one member without a key, or anybody
who forges datagrams, would take the others out of their balancer. And a node whose next start would
fail serves well until then."""
SLOW_S = 2.0
"""A commit that takes so long is a reason, and so is a client that is not read for so long."""

FORK_TOLD_US = 60 * SECOND_US
"""A new fork is a reason for so long. What follows from it is that both sides go on, each with its
own, so it wakes somebody once."""

TOLD_S = 600.0
"""A read that failed is a reason for so long: most of a damaged log is read rarely."""


@dataclass(slots=True, eq=False)
class Status:
    """Asks every part of a running node for its figures."""

    settings: Settings
    ground: LoopGround
    directory: DataDirectory
    reader: Reader
    keys: Keys
    pages: Address | None
    """Where the pages for monitors are, if there are any."""
    more: dict[str, Callable[[], Mapping[str, object]]] = field(default_factory=dict)
    """What other parts of the daemon tell of themselves, by the key they have in the record."""
    slowed_s: Callable[[], float] = lambda: 0.0
    """For how long a client has not been read because its says wait."""
    started_s: float = field(default_factory=time.monotonic)

    @property
    def uptime_s(self) -> float:
        """How long this daemon has run."""
        return time.monotonic() - self.started_s

    def digest(self) -> Record:
        """The roots, and the number of logs and messages they stand for."""
        facts = self.ground.node.facts()
        return {
            "root": facts.root.hex(),
            "members_root": facts.members_root.hex(),
            "logs": facts.logs,
            "messages": facts.messages,
        }

    def record(self) -> Record:
        """Everything there is to tell."""
        node = self.ground.node
        facts = node.facts()
        disk, kept = self._disk(), self._read(lambda: self.reader.counts()[0])
        # After these: a read that failed is among them.
        reasons, repair = self.reasons(facts), facts.repair
        names = {member.row.id: member.row.name for member in facts.members}
        return {
            "healthy": not reasons,
            "reasons": [reason.text for reason in reasons],
            "advice": [reason.advice for reason in reasons],
            "node": self._node_record(facts.me),
            "members": members_by_state(facts),
            "peers": peers_record(facts),
            "health": _health(facts.health),
            "stood_still": _pause(node.last_pause, self.ground.now()),
            "flood": self._flood_record(),
            "messages": facts.messages,
            "logs": facts.logs,
            "rooms": facts.rooms,
            "root": facts.root.hex(),
            "members_root": facts.members_root.hex(),
            "messages_kept": kept,
            # The time from which messages are kept; null where nothing was pruned.
            "floor": rfc3339(wall_of(facts.floor)) if facts.floor else None,
            "catching_up": repair.to_go,
            "sync": {
                "agrees": {node.hex(): agrees for node, agrees in repair.synced.items()},
                "idle": repair.is_idle,
            },
            "holdback": {
                "messages": repair.holdback_messages,
                "bytes": repair.holdback_bytes,
                "dropped": facts.drops[Drop.HOLDBACK_OVERFLOW],
            },
            "queues": node.queued(),
            **{key: tell() for key, tell in self.more.items()},
            "drops": plain(self.drops()),
            "offenders": [_offender(offence, names) for offence in facts.offences],
            "carried": [_carried(room) for room in facts.carried],
            "strangers": list(map(str, node.strangers())),
            "failures": dict(self.ground.failures.counts),
            "disk": disk,
            "counts": plain(node.counts),
        }

    def unready(self) -> list[Reason]:
        """Why nobody should be sent here now. Empty: this node is as good as any."""
        facts = self.ground.node.facts()
        reasons = [
            reason for reason in self.reasons(facts) if reason.code not in READY_ALL_THE_SAME
        ]
        if facts.catching_up:
            reasons.append(Code.CATCHING_UP.because(to_go=facts.repair.to_go))
        if facts.is_leaving:
            reasons.append(Code.LEAVING.because())
        return reasons

    def line(self) -> str:
        """The first line of `flc status`, with all that is wrong in it."""
        facts = self.ground.node.facts()
        me, reasons = facts.me, self.reasons(facts)
        title = f"{visible(me.name)} ({me.id.hex()}) is {'NOT HEALTHY' if reasons else 'healthy'}"
        texts = "; ".join(reason.text for reason in reasons)
        return f"{title}: {texts}" if reasons else title

    def drops(self) -> Counter[Drop]:
        """What was not taken or not sent, by reason."""
        return self.ground.node.drops() + Counter({Drop.NOT_SENT: self.ground.datagrams.errors})

    # --- What is wrong ----------------------------------------------------------------------------

    def reasons(self, facts: Facts) -> list[Reason]:
        """What is wrong. There is nothing here while the node is healthy."""
        return [
            *self._disk_reasons(facts),
            *self._slow_reasons(),
            *self._own_reasons(facts),
            *self._key_reasons(),
            *self._reasons_of_others(facts),
        ]

    def _disk_reasons(self, facts: Facts) -> Iterator[Reason]:
        failing, failure = self.ground.node.failing, self.reader.failure
        if failing is not None:
            yield Code.LOG_NOT_WRITABLE.because(why=failing)
        if failure is not None and time.monotonic() - failure[1] < TOLD_S:
            yield Code.LOG_NOT_READABLE.because(why=failure[0])
        unhealed = self.ground.node.unhealed
        if unhealed is not None and self.ground.now() - unhealed[1] < TOLD_S * SECOND_US:
            yield Code.LOG_NOT_READABLE.because(why=unhealed[0])
        try:
            free = self.directory.free_bytes()
            if free < self.settings.disk_free_bytes_min:
                yield Code.DISK_NEARLY_FULL.because(free_mb=free / 1e6)
            wal_bytes = self.directory.file_bytes().get("wal", 0)
            if wal_bytes > WAL_BYTES_MOST:
                yield Code.WAL_PINNED.because(wal_mb=wal_bytes / 1e6)
            if (refusal := obstacle(self.directory.path)) is not None:
                yield Code.START_REFUSED.because(why=refusal)
            if failing is None and (missing := self.ground.missing()) is not None:
                yield Code.FILE_MISSING.because(why=missing)
        except OSError as error:
            yield Code.DATA_NOT_READABLE.because(why=error.strerror)
        if rotten := facts.repair.rotten:
            yield Code.LOG_ROTTEN.because(blocks=len(rotten), dot=rotten[0])

    def _slow_reasons(self) -> Iterator[Reason]:
        commit_s, slowed_s = self.ground.node.commit_lasts_us / 1e6, self.slowed_s()
        if commit_s >= SLOW_S:
            yield Code.DISK_SLOW.because(seconds=commit_s)
        if slowed_s >= SLOW_S:
            yield Code.QUEUE_FULL.because(seconds=slowed_s)

    def _own_reasons(self, facts: Facts) -> Iterator[Reason]:
        node, health = self.ground.node, facts.health
        if not node.clock_is_usable:
            yield Code.CLOCK_UNUSABLE.because()
        if self.settings.retention_age_s and not node.knows_ages:
            yield Code.CLOCK_DOUBTED.because()
        if node.hearing.seals_break(self.ground.now()):
            yield Code.SEAL_BROKEN.because()
        lately = [dot for dot, us in facts.repair.forks_for_us.items() if us < FORK_TOLD_US]
        if lately:
            yield Code.LOG_FORKED.because(dot=lately[-1])
        if health.score and 2 * health.score >= health.score_max:
            code = Code.LOCAL_HEALTH if facts.others else Code.LATE_ALONE
            yield code.because(score=health.score, score_max=health.score_max)

    def _key_reasons(self) -> Iterator[Reason]:
        names = {key.id: key.name for key in self.keys.ring.keys}
        by_key: dict[bytes | None, list[str]] = {}
        for row, key in self.ground.node.apart_by_key():
            by_key.setdefault(key, []).append(f"{row.name} at {row.address}")
        for found, them in by_key.items():
            who = some_of(them)
            if found is None:
                yield Code.KEY_UNKNOWN.because(who=who)
            else:
                theirs, ours = names.get(found, found.hex()), self.keys.ring.keys[0].name
                yield Code.KEY_NOT_SHARED.because(who=who, theirs=theirs, ours=ours)

    def _reasons_of_others(self, facts: Facts) -> Iterator[Reason]:
        gone = [m for m in facts.others if m.row.state in (State.SUSPECT, State.DEAD)]
        if gone and not facts.live:
            yield Code.NO_MEMBER_ALIVE.because(known=len(gone))
        if self.settings.join and not facts.others:
            yield Code.NO_SEED_ANSWERS.because(seeds=", ".join(self.settings.join))

    # --- Parts of the record ----------------------------------------------------------------------

    def _flood_record(self) -> Record | None:
        """What comes from nobody, and what of it the kernel drops. None: there is no flood."""
        flood = self.ground.node.flood
        if flood.door is None:
            return None
        return {
            "datagrams_a_second": flood.a_second,
            "only_members": flood.door.addresses is not None,
            "kernel_drops": self.ground.datagrams.is_filtered,
        }

    def _node_record(self, me: MemberRow) -> Record:
        return {
            "id": me.id.hex(),
            "name": me.name,
            "address": str(me.address),
            "cluster": self.settings.cluster,
            "sealed": not self.keys.ring.is_open,
            "version": __version__,
            "uptime_s": round(self.uptime_s, 1),
            "incarnation": me.incarnation,
            "metrics": None if self.pages is None else str(self.pages),
        }

    def _read(self, figure: Callable[[], int]) -> int | None:
        """A figure of the log: null while that cannot be read, and `reasons` says why."""
        try:
            return figure()
        except StoreFailed:
            return None

    def _disk(self) -> Record:
        """Sizes. While the disk cannot be read there are none, and `reasons` says why."""
        writable = self.ground.node.failing is None
        try:
            sizes = self.directory.file_bytes()
            return {
                "free_bytes": self.directory.free_bytes(),
                "used_bytes": self._read(self.reader.used_bytes),
                "database_bytes": sum(sizes.values()),
                "wal_bytes": sizes.get("wal", 0),
                "writable": writable,
            }
        except OSError:
            return {"writable": writable}


def members_by_state(facts: Facts) -> dict[str, int]:
    """How many members there are in each state."""
    states = Counter(member.row.state for member in facts.members)
    return {state.name.lower(): states[state] for state in State}


def _pause(pause: Pause | None, now: Micros) -> Record | None:
    """The last time that the node stood still for a second or more."""
    if pause is None:
        return None
    return {"ms": pause.ms, "s_ago": round((now - pause.ended_at) / 1e6, 1)}


def _health(health: HealthFacts) -> Record:
    """Local health (0 is well), how far it slows this node's probes, and what moved it when."""
    last = sorted(health.last_for_us.items())
    return {
        "score": health.score,
        "score_max": health.score_max,
        "multiplier": health.multiplier,
        "counts": plain(health.counts),
        "last_s_ago": {change.value: round(ago_us / 1e6, 1) for change, ago_us in last},
    }


def _offender(offence: Offence, names: Mapping[NodeId, str]) -> Record:
    """A node that did what no sound node does."""
    return {
        "id": offence.node.hex(),
        "name": names.get(offence.node),
        "address": None if offence.address is None else str(offence.address),
        "what": offence.what,
        "times": offence.times,
        "ago_s": round(offence.ago_us / SECOND_US, 1),
    }


def _carried(room: CarriedRoom) -> Record:
    """A room whose stamps were carried far ahead, and by whom."""
    origin = room.origin
    return {
        "room": room.room,
        "stamps_at": rfc3339(wall_of(room.stamp)),
        "id": None if origin is None else origin.node.hex(),
        "name": None if origin is None else origin.name,
        "log": room.log.hex(),
    }
