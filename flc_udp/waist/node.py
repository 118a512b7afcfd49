"""The Node: a small waist between the Replica, which decides, and the ground, which acts.

    datagram ─▶ open ─▶ replica ─▶ commit ─▶ send ─▶ show

It carries out what the Replica decided, in one fixed order. One *turn* takes everything that came
in since the last one: each datagram is opened once, one commit serves everything, and what goes to
many is sealed once. Around the Node stands what waits here: datagrams (`inbox`), posts (`posts`),
the disk (`commits`), answers to pulls (`replays`), deletion of old messages (`pruning`), and people
who wait for other nodes (`waits`).

What turns the Node is its *ground*: asyncio in the daemon, a heap of virtual time in the simulator.
Both run this same file.

"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import chain
from random import Random
from typing import NamedTuple, assert_never

from flc_udp.config import SEAL_BYTES, Settings
from flc_udp.core.effects import (
    Adopt,
    Append,
    Deliver,
    Effect,
    Heal,
    Send,
    StreamBase,
    StreamReplay,
)
from flc_udp.core.facts import Facts, MemberFacts
from flc_udp.core.replica import Replica
from flc_udp.model.address import Address
from flc_udp.model.block import Block
from flc_udp.model.clocks import is_usable
from flc_udp.model.dots import Dot, LogId, NodeId
from flc_udp.model.errors import Drop, FlcError, StoreFailed
from flc_udp.model.history import History
from flc_udp.model.notices import Notice
from flc_udp.model.tags import parse_tags
from flc_udp.model.units import EPOCH, MS_US, SECOND_US, Micros, Millis
from flc_udp.waist.commits import Commits
from flc_udp.waist.flood import Flood
from flc_udp.waist.inbox import Inbox
from flc_udp.waist.notices import (
    BaseFailed,
    BlockHealed,
    ClockUnusable,
    Flooded,
    FloodEnded,
    HealingFailed,
    RetentionFailed,
    StoodStill,
)
from flc_udp.waist.peer_memory import PEERS_MAX, PeerMemory
from flc_udp.waist.ports import Batch, Ground, Post, Reads
from flc_udp.waist.posts import PAUSE_US, Posts
from flc_udp.waist.pruning import AgeClock, PruningClock
from flc_udp.waist.replays import Replays
from flc_udp.waist.scrub import Scrub
from flc_udp.waist.sessions import Sessions
from flc_udp.waist.waits import WaitEnded, Waiting, Waits
from flc_udp.wire.packets import Packet
from flc_udp.wire.rows import MemberRow
from flc_udp.wire.seal import Seal

UNREAD_TURNS_MAX = 128
"""An inbox that is full of small messages is read in about this many turns. One that is not empty
for longer takes in more than it held when the first of these turns began."""

DISK_LOOK_US = SECOND_US
"""A node that takes posts looks this often how much of the disk is free. One that refuses them for
lack of space looks each time."""


PAUSE_LEAST_US = SECOND_US
"""A stall of this length is told to people."""


class Pause(NamedTuple):
    """The node stood still for so long, up to that moment."""

    ended_at: Micros
    ms: Millis


class Node:
    """One node on its ground. Every method runs to its end without waiting for anything."""

    def __init__(
        self,
        settings: Settings,
        me: MemberRow,
        history: History,
        reader: Reads,
        seal: Seal,
        ground: Ground,
        random: Random,
        latest_arrival: Millis = EPOCH,
    ) -> None:
        """`latest_arrival` is when the latest messages of the log arrived."""
        now = ground.now()
        self.counts: Counter[str] = Counter()
        self._drops: Counter[Drop] = Counter()
        self._replica = Replica(settings, me, history, random, now, ground.buffer_bytes)
        self._settings = settings
        self._seal = seal
        self._ground = ground
        self._payload_bytes_max = settings.packet_bytes_max - SEAL_BYTES
        self._sessions = Sessions(seal, me.id, ground.fresh_bytes, self._drops, now)
        self.flood = Flood(self._drops, now)
        self._inbox = Inbox(self._sessions, self._drops, self.counts, self.flood)
        self.hearing = self._inbox.hearing
        self._posts = Posts(settings, now)
        self._commits = Commits(settings, ground, self._drops)
        self._reader = reader
        self._replays = Replays(reader, settings.pull_credit_bytes, self._drops, self.counts)
        self._pruning = PruningClock(settings, now)
        self._scrub = Scrub(reader, now)
        self._ages = AgeClock(latest_arrival, ground.wall(), now)
        self._peers = PeerMemory(now)
        self.waits = Waits()
        """Says that are durable here, and wait for other nodes' disks."""
        self._saved = me
        self._adopt: Adopt | None = None
        self._is_adopting = False
        self._turned_at = self._read_until = now
        self._unread_turns = 0
        self._stood_still = False
        self.clock_is_usable = True
        """Whether the wall clock showed a time that makes stamps, as of the last turn."""
        self.last_pause: Pause | None = None
        self.unhealed: tuple[str, Micros] | None = None
        """Why rows that had changed on the disk could not be written anew, and when, in µs."""
        self._look_at, self._free_bytes = 0, 0
        self.wake_at = now
        """When a turn is due even if nothing comes in, as of the last one, in µs."""

    # --- What comes in ----------------------------------------------------------------------------

    def datagram_received(self, datagram: bytes, source: Address) -> None:
        """Take one datagram for the next turn."""
        self._inbox.add(datagram, source)

    def post(self, post: Post) -> None:
        """Take one post for the next turn."""
        self._posts.waiting.append(post)

    def join(self, addresses: Iterable[Address]) -> None:
        """Ask these addresses to be let into the cluster."""
        self._replica.join(addresses, self._ground.now())

    def leave(self) -> None:
        """Go in order. `has_left` tells when the node may stop."""
        self._replica.leave(self._ground.now())

    def forget(self, node: NodeId) -> bool:
        """Take a member that is suspect or dead for one that left. False: it is neither."""
        return self._replica.forget(node, self._ground.now())

    def sync(self, nodes: Sequence[NodeId]) -> list[NodeId]:
        """Compare histories now with these members, or with a few; return those it asks."""
        return self._replica.sync(nodes, self._ground.now())

    def wait(
        self, dot: Dot, needed: int | None, timeout_us: int, done: Callable[[WaitEnded], None]
    ) -> Waiting:
        """Wait until `needed` other nodes durably hold a message of this run.

        None means all that are alive or suspect now. `done` is called once, with how it ended.
        """
        now = self._ground.now()
        watched = self._replica.watch(dot, needed, now, self.waits.done)
        return self.waits.add(Waiting(watched, needed is None, now + timeout_us, done))

    def acquaint(self, rows: Iterable[MemberRow]) -> None:
        """Know all these members already: a simulated cluster begins grown up."""
        self._replica.acquaint(rows, self._ground.now())

    def reload(self, settings: Settings) -> None:
        """Go on with these settings, which differ in `config.RELOADED_NAMES` alone."""
        now = self._ground.now()
        self._settings = settings
        self._replica.retag(parse_tags(settings.tags), now)
        self._posts.body_bytes_max = settings.body_bytes_max
        self._pruning.limit(settings, now)

    def stop(self) -> None:
        """The node is about to end: save what it knows of others."""
        self._save_peers(self._ground.now(), at_once=True)

    # --- The turn ---------------------------------------------------------------------------------

    def turn(self) -> None:
        """Take everything that came in, decide, and carry it out."""
        now, wall = self._ground.now(), self._ground.wall()
        is_late, is_news = self._notice_stall(now), bool(self._inbox)
        self._look_at_clock(wall)
        self._sessions.wake(now)
        for packets, sender, source, _ in self._inbox.take(now):
            try:
                self._replica.receive(packets, sender, source, wall, now)
            except AssertionError:
                raise  # This node's own state is broken.
            except Exception as error:  # noqa: BLE001  # a datagram fails alone
                self._drops[Drop.DATAGRAM_FAILED] += 1
                self._ground.failed("a datagram", error)
        self._note_reading(is_late=is_late, is_news=is_news)
        if now >= self.flood.wake_at:
            self._look_at_flood(now)
        if self._has_posts:
            self._take_posts(wall, now)
        self._commits.wake(now)
        if self.wake_at <= now:
            self._replica.wake(now)
        self._carry_out(now)
        self._turned_at = now

    def _notice_stall(self, now: Micros) -> bool:
        if now - self.wake_at < self._settings.stall_ms * MS_US:
            return False
        self.counts["stalls"] += 1
        if now - self.wake_at >= PAUSE_LEAST_US:
            self.last_pause = Pause(now, Millis((now - self.wake_at) // MS_US))
            self._ground.tell(StoodStill(self.last_pause.ms))
        # It may have begun right after the last turn, long before anything was due.
        self._replica.stalled(now - self._turned_at, now)
        return True

    def _look_at_clock(self, wall: Millis) -> None:
        was_usable, self.clock_is_usable = self.clock_is_usable, is_usable(wall)
        if was_usable and not self.clock_is_usable:
            self._ground.tell(ClockUnusable(wall))

    def _look_at_flood(self, now: Micros) -> None:
        was = self.flood.door

        def known() -> Iterator[Address]:
            return chain(self._replica.addresses(), sorted(self._sessions.addresses()))

        if not self.flood.look(self._sessions.key_ids, known, now):
            return
        door = self.flood.door
        self._ground.narrow(door)
        if door is None:
            self._ground.tell(FloodEnded())
        elif was is None or (was.addresses is None) != (door.addresses is None):
            self._ground.tell(Flooded(self.flood.a_second, door.addresses is not None))

    def _note_reading(self, *, is_late: bool, is_news: bool) -> None:
        """Note up to which moment everything was read that came in.

        That is when the last turn began, because the ground has read its socket since then. But
        after a stall much may wait in the socket, and a ground reads only some of it before each
        turn. Then everything was read once a turn finds nothing new.
        """
        self._stood_still |= is_late
        is_unread = bool(self._inbox) or (self._stood_still and is_news)
        self._stood_still = is_late or (self._stood_still and is_unread)
        self._unread_turns = self._unread_turns + 1 if is_unread else 0
        if self._unread_turns == 0 or self._unread_turns > UNREAD_TURNS_MAX:
            self._read_until = self._turned_at

    @property
    def _has_posts(self) -> bool:
        """Whether posts are to be taken. None is while a base is taken."""
        return self._adopt is None and (self._posts.is_under_way or bool(self._posts.waiting))

    def _take_posts(self, wall: Millis, now: Micros) -> None:
        say = partial(self._replica.post, wall=self._replica.held_wall(wall, now))
        room_bytes = self._replica.push_room(now)
        behind = self._replica.behind + len(self._inbox)
        self._posts.take(now, room_bytes, behind, self._refusal(now), say)

    def _refusal(self, now: Micros) -> FlcError | None:
        """Why no post can be taken now."""
        if not self.clock_is_usable:
            return FlcError(
                "not said: the clock of this node shows a time before 1970 or after 2199",
                "set the clock of its machine: `timedatectl`",
            )
        if (refusal := self._commits.refusal) is not None:
            return refusal
        least = self._settings.disk_free_bytes_min
        if now >= self._look_at or self._free_bytes < least:
            self._look_at, self._free_bytes = now + DISK_LOOK_US, self._ground.free_bytes()
        if self._free_bytes >= least:
            return None
        return FlcError(
            f"not said: {self._free_bytes} bytes of disk are free, {least} are kept free",
            "make room on the disk of the data directory; reading and repair go on meanwhile",
        )

    def _next_wake(self, now: Micros) -> int:
        if self._replays or self._inbox:
            return now
        times = [self._replica.wake_at, self._commits.wake_at, self._pruning.wake_at]
        # A turn a second, so that a node that has nothing to do can tell that it stood still.
        times += [self._scrub.wake_at, now + PAUSE_LEAST_US]
        # A wait that is late already ends with the next turn, and is no sign of a stall.
        times.append(max(self.waits.next_deadline, now))
        if self._has_posts:
            times.append(now if self._posts.is_under_way else now + PAUSE_US)
        return min(at for at in times if at is not None)

    # --- What goes out ----------------------------------------------------------------------------

    def _carry_out(self, now: Micros) -> None:
        """Commit, send, show: the one order, whatever order it was decided in."""
        shows: list[Deliver] = []
        if self.flood.await_answers(self._sessions.drew_cookies(), now):
            self._ground.narrow(self.flood.door)
        self._transmit(self._sessions.answers(self._payload_bytes_max))
        for effect in self._replica.end_turn(now):
            self._do(effect, shows)
        time, catching_up = self._ages.time(now), self._replica.catching_up
        self._commits.start(now, time, self._posts.once_of, catching_up=catching_up)
        for to, packets in self._replays.answers():
            self._send((to,), packets)
        self._keep_log(now)
        for deliver in shows:
            self._ground.show(deliver)
        for wait in self.waits.take_ended(self._read_until):
            wait.done(wait.outcome())
        self._scrub.wake(now)
        if self._scrub.rows_are_due(now):
            self._ground.heal(())
        self._tell_rotten(now)
        self._save_self()
        self._save_peers(now)
        self.wake_at = Micros(self._next_wake(now))

    def _do(self, effect: Effect, shows: list[Deliver]) -> None:
        match effect:
            case Append(blocks):
                self._commits.append(blocks)
            case Send(to, packets):
                self._send(to, packets)
            case StreamReplay() | StreamBase():
                self._replays.add(effect)
            case Heal(rows):
                self._ground.heal(rows)
            case Adopt():
                # No message is taken in until the base is: what was decided before is kept.
                self._adopt = effect
                self._replica.pause()
            case Deliver():
                shows.append(effect)
            case Notice():
                self._peers.heard(effect)
                self._ground.tell(effect)
            case _:
                assert_never(effect)

    def _send(self, to: tuple[Address, ...], packets: Sequence[Packet]) -> None:
        self._transmit(self._sessions.sealed(to, tuple(packets), self._payload_bytes_max))

    def _transmit(self, sealed: Iterable[tuple[bytes, tuple[Address, ...]]]) -> None:
        for datagram, ends in sealed:
            self.counts["datagrams sent"] += len(ends)
            self.counts["bytes sent"] += len(datagram) * len(ends)
            for address in ends:
                self._ground.transmit(datagram, address)

    def _keep_log(self, now: Micros) -> None:
        """Take a base once everything that was decided is durable; delete what is too old."""
        if self._adopt is not None and not self._is_adopting and self._commits.is_idle:
            self._is_adopting = True
            self._ground.adopt(self._adopt.floor, self._adopt.base)
        limits = self._pruning.take_due(now, self._ages.time(now))
        if limits is not None:
            self._ground.retain(*limits, self.stamp_limit())

    def _tell_rotten(self, now: Micros) -> None:
        rotten, crooked = self._reader.take_rotten()
        if rotten:
            self._replica.rotten(rotten, now)
        if crooked:
            self._ground.heal(crooked)

    def _save_self(self) -> None:
        me, saved = self.me, self._saved
        self._saved = me
        if (me.id, me.incarnation) != (saved.id, saved.incarnation):
            self._ground.save_self(me.id, me.incarnation)
        if me.id != saved.id:
            self._sessions.is_now(me.id)
            self._sessions.renew(self._ground.now())

    def _save_peers(self, now: Micros, *, at_once: bool = False) -> None:
        if self._peers.is_due(now, at_once=at_once):
            rows = self._replica.live_rows()[:PEERS_MAX]
            if rows:
                self._ground.save_peers([(row.id, row.name, str(row.address)) for row in rows])

    def peers_not_saved(self) -> None:
        """The members could not be written down: it is tried again after a pause."""
        self._peers.not_written()

    # --- How a commit ended -----------------------------------------------------------------------

    def committed(self, batch: Batch, first_position: int) -> None:
        """The commit under way is durable."""
        now = self._ground.now()
        self.counts["commits"] += 1
        self.counts["blocks committed"] += len(batch.blocks)
        self.counts["messages committed"] += sum(len(block.bodies) for block in batch.blocks)
        if self._commits.committed(batch, now):
            self._replica.slow_commit(now)
        # Whoever waits for an answer gets it before anything else is done.
        for post in self._posts.answers(batch, first_position):
            post.done()
        self._ground.answered()
        self._replica.committed(batch.blocks, first_position, now)
        self._carry_out(now)

    def commit_failed(self, reason: str) -> None:
        """The commit under way failed, and nobody knows yet what the log really holds."""
        self.counts["failed commits"] += 1
        self._posts.refuse_taken(self._commits.failed(reason, self._ground.now()))
        self._ground.recover()

    def recovery_failed(self, reason: str) -> None:
        """The log cannot even be read. It is tried again."""
        now = self._ground.now()
        self._posts.refuse_taken(self._commits.recovery_failed(reason, now))
        self._carry_out(now)

    def recovered(self, history: History, last_position: int) -> None:
        """The log was opened anew after a failure. It holds `history`, up to `last_position`."""
        now = self._ground.now()
        if self._commits.failing is not None or not self._is_adopting:
            self._commits.recovered(now)
        if self._is_adopting:
            assert self._adopt is not None
            # The base may be on the disk although its writing was reported as failed.
            self._end_adoption(history if history.floor >= self._adopt.floor else None)
        else:
            self._replica.rebuild(history, now)
        self._carry_out(now)
        # So may messages whose commit was reported as failed: they are shown now.
        self._ground.show(Deliver(last_position + 1, ()))

    def disk_is_well(self) -> None:
        """Something was written after a failure."""
        self._commits.disk_is_well()

    def disk_failed(self) -> None:
        """Nothing could be written after a failure. It is tried again."""
        now = self._ground.now()
        self._commits.disk_failed(now)
        self._carry_out(now)

    # --- How a base was taken, and old messages deleted -------------------------------------------

    def adopted(self, history: History) -> None:
        """The log took the base, and holds this now."""
        self._end_adoption(history)
        self._carry_out(self._ground.now())

    def adoption_failed(self, reason: str) -> None:
        """The log could not take the base, as far as is known: what it really holds decides."""
        self._ground.tell(BaseFailed(reason))
        self._commits.base_failed(reason)
        self._ground.recover()

    def _end_adoption(self, history: History | None) -> None:
        self._adopt, self._is_adopting = None, False
        self.counts["bases taken"] += history is not None
        self._replica.adopted(history, self._ground.now())

    def retained(self, floor: int, pruned: int, *, more: bool, rotten: Sequence[int] = ()) -> None:
        """The log deleted this many messages. `more`: there are others to delete.

        It waits until the blocks at the positions `rotten` are healed.
        """
        now = self._ground.now()
        self._reader.met_rotten(rotten)
        self.counts["messages pruned"] += pruned
        self._replica.floor_moved(floor)
        self._pruning.done(now, more=more)
        self._carry_out(now)

    def healed(self, blocks: Sequence[Block], gone: Sequence[Block] = ()) -> None:
        """These blocks were written anew. The one before each may wait for the proof it gives.

        Those that are `gone` were deleted meanwhile.
        """
        now = self._ground.now()
        self.counts["blocks healed"] += len(blocks)
        self._replica.healed([*blocks, *gone])
        for block in blocks:
            self._ground.tell(BlockHealed(block.dot))
            with suppress(StoreFailed):
                self._reader.block(Dot(block.log, block.first - 1))
        self._carry_out(now)

    def healing_failed(self, blocks: Sequence[Block], reason: str) -> None:
        """These blocks could not be written anew: fetch them again."""
        now = self._ground.now()
        self.unhealed = reason, now
        self._ground.tell(HealingFailed(reason))
        self._replica.healing_failed(blocks, now)
        self._carry_out(now)

    def retention_failed(self, reason: str) -> None:
        """The log could not delete anything."""
        now = self._ground.now()
        self._ground.tell(RetentionFailed(reason))
        self._pruning.done(now, more=False)
        self._carry_out(now)

    # --- What may be seen of it -------------------------------------------------------------------

    @property
    def me(self) -> MemberRow:
        """This node's own row."""
        return self._replica.me

    @property
    def root(self) -> bytes:
        """The root of all durable logs: equal for nodes with the same history."""
        return self._replica.root

    @property
    def has_left(self) -> bool:
        """Whether the node was told to leave, and may stop now."""
        return self._replica.has_left(self._ground.now())

    @property
    def failing(self) -> str | None:
        """Why the log cannot be written; None while it can."""
        return self._commits.failing

    @property
    def commit_lasts_us(self) -> int:
        """How long the commit under way has lasted, or one that ended lately, if that is more."""
        return self._commits.lasts_us(self._ground.now())

    @property
    def knows_ages(self) -> bool:
        """Whether the wall clock was believed at the start, so that ages are what they seem."""
        return self._ages.is_sure

    @property
    def sessions(self) -> int:
        """How many sessions of others are proved."""
        return len(self._sessions)

    @property
    def catching_up(self) -> bool:
        """Whether so much is missing that nobody should be sent here to read."""
        return self._replica.catching_up

    def stamp_limit(self) -> int:
        """The stamp from which on nothing is deleted, because it is far ahead of the clock."""
        return self._replica.stamp_limit(self._ground.wall(), self._ground.now())

    @property
    def log(self) -> LogId:
        """The log that this run spoke in last."""
        return self._replica.log

    def is_own(self, log: LogId) -> bool:
        """Whether a log is one of this run."""
        return self._replica.is_own(log)

    def live_rows(self) -> list[MemberRow]:
        """The rows of the other members that are alive or suspect."""
        return self._replica.live_rows()

    def apart_by_key(self) -> list[tuple[MemberRow, bytes | None]]:
        """The members that are lost for want of a key, and the one each seals under, if known."""
        now = self._ground.now()
        return self.hearing.apart(self._replica.facts(now).others, self._seal.key_id, now)

    def strangers(self) -> list[Address]:
        """The addresses that go on sending under a key or cluster name that this node has not."""
        return self.hearing.strangers(self._ground.now())

    def member(self, node: NodeId) -> MemberFacts | None:
        """What is known of one other member."""
        return self._replica.member(node, self._ground.now())

    def facts(self) -> Facts:
        """What may be seen of the Replica. It costs a few microseconds for each member."""
        return self._replica.facts(self._ground.now())

    def drops(self) -> Counter[Drop]:
        """What was not taken, by reason."""
        return self._drops + self._replica.drops()

    def queued(self) -> dict[str, int]:
        """How much waits in each place."""
        repair = self._replica.repair_facts(self._ground.now())
        return {
            "inbox": len(self._inbox),
            "posts": len(self._posts),
            "uncommitted": self._replica.uncommitted,
            "holdback": repair.holdback_messages,
            "wanted": repair.to_go,
            "pulls": repair.pulls,
            "replays": len(self._replays),
        }
