"""The Node: a small waist between the Replica, which decides, and the ground, which acts.

    datagram ─▶ open ─▶ replica ─▶ commit ─▶ send ─▶ show

It carries out what the Replica decided in one fixed order. One *turn* takes all that came in since
the last: one opening of each datagram, one commit for everything, one sealing of what goes to
many. At most one commit is under way; what is decided meanwhile goes into the next, so the slower
the disk the larger the batches.

What turns the node is its *ground*: asyncio in the daemon, a heap of virtual time in the simulator.
Both run this same file.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from random import Random
from typing import assert_never

from flc_udp.config import SEAL_BYTES, Settings
from flc_udp.core.effects import Adopt, Append, Deliver, Effect, Notice, ReadBase, Replay, Send
from flc_udp.core.push.rumors import pushed_bytes
from flc_udp.core.replica import Replica
from flc_udp.model.address import Address
from flc_udp.model.dots import Dot
from flc_udp.model.drops import Drop
from flc_udp.model.errors import FlcError
from flc_udp.model.history import History
from flc_udp.model.message import Message
from flc_udp.model.tags import parse_tags
from flc_udp.waist.admission import Admission
from flc_udp.waist.inbox import Inbox
from flc_udp.waist.ports import Batch, Ground, Post, Reads, Said
from flc_udp.waist.pruning import Retention
from flc_udp.waist.replays import Replays
from flc_udp.wire.packets import MemberRow, Packet
from flc_udp.wire.packing import pack
from flc_udp.wire.seal import Seal

CATCH_UP_PAUSE = 50_000
"""Between the starts of two commits of a node that catches up, in µs: large ones cost it a third
less a message than small ones."""

POSTS_PAUSE = 5_000
"""Posts that were not admitted are looked at again after so long, in µs."""

POST_BYTES = 64
"""What a message has besides its body, about."""

RETRY_US = 1_000_000
"""After a failed commit the disk is left alone for so long, and posts are refused."""


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
    ) -> None:
        self.replica = Replica(settings, me, history, random, ground.now())
        self.drops: Counter[Drop] = Counter()
        self.counts: Counter[str] = Counter()
        self.failing: str | None = None
        self._settings = settings
        self._replays = Replays(reader, settings.pull_bytes_max, self.drops, self.counts)
        self._seal = seal
        self._ground = ground
        self._payload_max = settings.packet_bytes_max - SEAL_BYTES
        self._inbox = Inbox(seal, self.drops, self.counts)
        self.heard_under = self._inbox.heard_under
        self._admission = Admission(ground.now())
        self._posts: deque[Post] = deque()
        self._said: dict[Dot, Post] = {}
        self._unpushed = 0  # Of them, bytes that are to be pushed.
        self._decided: deque[Message] = deque()
        self._committing: Batch | None = None
        self._retry_at: int | None = None
        self._commit_pause = settings.commit_pause_ms * 1_000
        self._next_commit = ground.now()
        self._saved = me
        self._retention = Retention(settings, ground.now())
        self._adopt: Adopt | None = None
        self._is_adopting = False
        self._turned_at = self._commit_began = ground.now()
        self.wake_at = self._turned_at
        """When a turn is due even if nothing comes in, as of the last one, in µs."""

    def reload(self, settings: Settings) -> None:
        """Go on with these, which differ in `config.RELOADED_NAMES` alone."""
        now = self._ground.now()
        self._settings = self.replica.settings = settings
        self.replica.liveness.claims.retag(parse_tags(settings.tags), now)
        self._retention.limit(settings, now)

    # --- What comes in ----------------------------------------------------------------------

    def datagram_received(self, datagram: bytes, source: Address) -> None:
        """One datagram for the next turn."""
        self._inbox.add(datagram, source)

    def post(self, post: Post) -> None:
        """One post for the next turn."""
        self._posts.append(post)

    def committed(self, batch: Batch, first_position: int) -> None:
        """The commit under way is durable."""
        assert batch is self._committing
        self._committing = None
        self.failing = None
        self.counts["commits"] += 1
        self.counts["messages committed"] += len(batch.messages)
        now = self._ground.now()
        if now - self._commit_began >= self._settings.slow_commit_ms * 1_000:
            self.replica.liveness.detector.health.note("slow commit", now)
        self.replica.committed(batch.messages, now)
        self._carry_out(now, first_position, self._answers(batch, first_position))

    def _answers(self, batch: Batch, first_position: int) -> list[tuple[Post, Said]]:
        answers = []
        for at, message in enumerate(batch.messages if self._said else ()):
            post = self._said.pop(message.dot, None)
            if post is not None:
                self._unpushed -= pushed_bytes(len(message.encoded))
                answers.append((post, Said(message.dot, first_position + at)))
        return answers

    def commit_failed(self, reason: str, history: History | None) -> None:
        """The commit under way failed; `history` is what the log really holds.

        None where even that cannot be read yet: then this is called again when it can. Posts that
        wait are refused at once either way, and those that come while it lasts.
        """
        assert self._committing is not None
        now = self._ground.now()
        self._retry_at = now + RETRY_US
        if self.failing is None:
            self._ground.tell(Notice("commit_failed", {"reason": reason}))
        self.failing = reason
        self.counts["failed commits"] += 1
        waiting, self._said = list(self._said.values()), {}
        self._unpushed = 0
        for post in waiting:
            post.done(self._refusal())
        if history is None:
            return
        lost = len(self._committing.messages) + len(self._decided)
        self.drops[Drop.UNDONE_BY_FAILED_COMMIT] += lost
        self._committing = None
        self._decided.clear()
        self.replica.rebuild(history, now)
        self._carry_out(now)

    def disk_is_well(self) -> None:
        """Something was written after a failure: posts are taken again."""
        self.failing = None

    # --- The turn ---------------------------------------------------------------------------

    def _next_wake(self, now: int) -> int:
        due = now if self._replays or self._inbox else self.replica.wake_at
        if self._posts and self._adopt is None:
            due = min(due, now + POSTS_PAUSE)
        if self._retention.wake_at is not None:
            due = min(due, self._retention.wake_at)
        if self._committing is not None:
            return due  # Its end looks at what waits for the disk.
        if self._retry_at is not None:
            return min(due, self._retry_at)
        return min(due, self._next_commit) if self._decided else due

    @property
    def queued(self) -> dict[str, int]:
        """Depths of everything that waits here."""
        replica = self.replica
        return {
            "inbox": len(self._inbox),
            "posts": len(self._posts) + len(self._said),
            "uncommitted": replica.uncommitted,
            "holdback": len(replica.causal.held),
            "wanted": replica.anti_entropy.wants.to_go,
            "pulls": replica.anti_entropy.pulls,
            "replays": len(self._replays),
        }

    def turn(self) -> None:
        """Take all that came in, decide, and carry it out."""
        now = self._ground.now()
        self._notice_stall(now)
        self.replica.liveness.detector.wall = self._ground.wall()
        for packets, sender, source in self._inbox.take():
            self.replica.receive(packets, sender, source, now)
        if self._posts and self._adopt is None:
            self._decide_posts(now)
        if self._retry_at is not None and self._retry_at <= now and self._committing is None:
            self._retry_at = None
        if self.wake_at <= now:
            self.replica.wake(now)
        self._carry_out(now)
        self._turned_at = now

    def _notice_stall(self, now: int) -> None:
        if now - self.wake_at >= self._settings.stall_ms * 1_000:
            self.counts["stalls"] += 1
            # It may have begun right after the last turn, long before anything was due.
            self.replica.stalled(now - self._turned_at, now)

    def _decide_posts(self, now: int) -> None:
        fitting = self._fitting(now)
        count = self._admission.allows(now, fitting, self._behind)
        self._admission.took(count)
        refusal = self._refusal_now()
        wall = self._ground.wall()
        for post in [self._posts.popleft() for _ in range(count)]:
            if refusal is not None:
                post.done(refusal)
                continue
            try:
                message = self.replica.post(
                    post.room, post.author, post.body, wall, receipt=post.receipt
                )
            except FlcError as error:
                post.done(error)
            else:
                self._said[message.dot] = post
                self._unpushed += pushed_bytes(len(message.encoded))

    def _fitting(self, now: int) -> int:
        """How many of the posts that wait most peers have room for; one at least.

        So nobody takes more than its peers can, and those that fell back have a share.
        """
        room = self.replica.links.room(now)
        if room is None:
            return len(self._posts)
        room -= self._unpushed
        for count, post in enumerate(self._posts):
            room -= pushed_bytes(len(post.body) + POST_BYTES)
            if room < 0:
                return max(count, 1)
        return len(self._posts)

    @property
    def _behind(self) -> int:
        """Messages of others that are still to be taken in, about."""
        replica = self.replica
        for_disk = max(replica.uncommitted - self._settings.commit_messages_max, 0)
        missing = replica.anti_entropy.wants.to_go + len(replica.causal.held)
        return missing + len(self._inbox) + for_disk

    def _refusal_now(self) -> FlcError | None:
        if self._retry_at is not None:
            return self._refusal()
        free, least = self._ground.free_bytes(), self._settings.disk_free_bytes_min
        if free >= least:
            return None
        return FlcError(
            f"not said: {free} bytes of disk are free, {least} are kept free",
            "make room on the disk of the data directory; reading and repair go on meanwhile",
        )

    def _refusal(self) -> FlcError:
        return FlcError(
            f"not said: the log cannot be written ({self.failing})",
            "see `flc status`; the node goes on read-only and tries again by itself",
        )

    # --- What goes out ----------------------------------------------------------------------

    def _carry_out(
        self,
        now: int,
        first_position: int = 0,
        answers: Iterable[tuple[Post, Said]] = (),
    ) -> None:
        """Commit, send, show: the one order, whatever order it was decided in."""
        effects = self.replica.take(now)
        shows: list[Deliver] = []
        for effect in effects:
            self._do(effect, shows)
        self._start_commit(now)
        self._answer_pulls()
        self._keep(now)
        for post, said in answers:
            post.done(said)
        for show in shows:
            self._ground.show(first_position, show.messages)
        self._save_self()
        self.wake_at = self._next_wake(now)

    def _save_self(self) -> None:
        me, saved = self.replica.liveness.me, self._saved
        if me is saved:
            return
        self._saved = me
        if me.id != saved.id:
            self._ground.save_identity(me.id)
        if me.incarnation != saved.incarnation:
            self._ground.save_incarnation(me.incarnation)

    def _do(self, effect: Effect, shows: list[Deliver]) -> None:
        match effect:
            case Append(messages):
                self._decided.extend(messages)
            case Send(to, packets):
                self._send(to, packets)
            case Replay() | ReadBase():
                self._replays.add(effect)
            case Adopt():
                # No message is taken in until it is done: what is decided before is kept.
                self._adopt, self.replica.is_paused = effect, True
            case Deliver():
                shows.append(effect)
            case Notice():
                self._ground.tell(effect)
            case _:
                assert_never(effect)

    def _start_commit(self, now: int) -> None:
        """Commit what is decided: at once after a quiet moment, else a pause after the last start.

        So a lone message waits for nothing, and under load a disk that syncs quickly is not made
        to sync for every datagram.
        """
        if self._committing is not None or not self._decided or self._retry_at is not None:
            return
        if now < self._next_commit:
            return
        is_behind = self.replica.standing.catching_up
        self._next_commit = now + (CATCH_UP_PAUSE if is_behind else self._commit_pause)
        self._commit_began = now
        messages = self._next_batch()
        self._committing = Batch(messages, self._once_of(messages), self._ground.wall())
        self._ground.commit(self._committing)

    def _next_batch(self) -> tuple[Message, ...]:
        """At least one message, at most what one transaction may hold in number and bytes."""
        settings = self._settings
        messages: list[Message] = []
        size = 0
        while self._decided and len(messages) < settings.commit_messages_max:
            size += len(self._decided[0].encoded)
            if messages and size > settings.commit_bytes_max:
                break
            messages.append(self._decided.popleft())
        return tuple(messages)

    def _once_of(self, messages: tuple[Message, ...]) -> tuple[tuple[str, int, Dot], ...]:
        if not self._said:
            return ()
        posts = ((message.dot, self._said.get(message.dot)) for message in messages)
        return tuple((*post.once, dot) for dot, post in posts if post is not None and post.once)

    def _send(self, to: tuple[Address, ...], packets: Sequence[Packet]) -> None:
        for payload in pack(self.replica.liveness.me.id, packets, self._payload_max):
            datagram = self._seal.close(payload)
            self.counts["datagrams sent"] += len(to)
            self.counts["bytes sent"] += len(datagram) * len(to)
            for address in to:
                self._ground.transmit(datagram, address)

    def _answer_pulls(self) -> None:
        for to, packets in self._replays.answers():
            self._send((to,), packets)

    # --- What is kept -----------------------------------------------------------------------

    def _keep(self, now: int) -> None:
        """Take a base as our own once all that was decided is durable; let go of what is old."""
        is_quiet = self._committing is None and not self._decided and self._retry_at is None
        if self._adopt is not None and not self._is_adopting and is_quiet:
            self._is_adopting = True
            self._ground.adopt(self._adopt.floor, self._adopt.base)
        limits = self._retention.take_due(now, self._ground.wall())
        if limits is not None:
            self._ground.retain(*limits)

    def adopted(self, history: History | None) -> None:
        """The log took the base, and is this now; None if it could not."""
        now = self._ground.now()
        self._adopt, self._is_adopting, self.replica.is_paused = None, False, False
        if history is not None:
            self.counts["bases taken"] += 1
            self.replica.adopted(history, now)
        self._carry_out(now)

    def retained(self, floor: int, pruned: int, *, more: bool) -> None:
        """The log let go of some messages; `more` if it has to let go of others."""
        now = self._ground.now()
        self.counts["messages pruned"] += pruned
        self.replica.standing.floor = floor
        self._retention.done(now, more=more)
        self._carry_out(now)
