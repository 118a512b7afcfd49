"""Anti-entropy: finds what is missing here, whatever was lost, and fetches it.

    probes carry roots ─▶ unequal ─▶ ranges ⇄ digest ─▶ wants ─▶ pull ─▶ replay … end ─▶ pull …
    held-back messages and `have` tell of live gaps ─────▲ └─ many ─▶ catch-up ─▶ pulls …

Rules. `exchange` finds what is missing, `wants` asks for it, and `catch_up` does so where much is
missing, so that the repair of a few messages stays quick. What no member keeps is given up for a
base (`base`). Here these machines meet: each packet about repair is handed to those that it
concerns, and what they ask for is sent. A gap is asked for only after a grace, because a message
may just have been overtaken on its way.
"""

from collections.abc import Collection

from flc_udp.config import CATCHING_UP_MESSAGES, CLOCK_STAMP_LIMIT, STAMP_LIMIT
from flc_udp.core.causal import Causal
from flc_udp.core.effects import StreamReplay
from flc_udp.core.liveness.members import MemberTable
from flc_udp.core.push.links import Links
from flc_udp.core.repair.base import Adoption
from flc_udp.core.repair.catch_up import PEERS_MAX, CatchUp
from flc_udp.core.repair.exchange import Exchange
from flc_udp.core.repair.pieces import Pieces
from flc_udp.core.repair.pull_packets import (
    LOGS_PER_PULL,
    WANTS_PER_PULL,
    Missing,
    PullWriter,
)
from flc_udp.core.repair.wants import REPAIR_MESSAGES_MAX, Wants
from flc_udp.core.repair.windows import StampWindow
from flc_udp.core.shared import CoreMachine, Shared
from flc_udp.model.address import Address
from flc_udp.model.block import Block
from flc_udp.model.dots import Dot, LogId, NodeId
from flc_udp.model.errors import Drop
from flc_udp.model.units import MS_US, Micros
from flc_udp.wire.packets import Have, Piece, Pull, Replay, ReplayEnd


class AntiEntropy(CoreMachine):
    """All machines of repair."""

    def __init__(
        self, shared: Shared, causal: Causal, members: MemberTable, links: Links, now: Micros
    ) -> None:
        super().__init__(shared)
        settings = self._settings
        pull_timeout_us = settings.pull_timeout_ms * MS_US
        repair_timeout_us = settings.repair_timeout_ms * MS_US
        self.pieces = Pieces(self._drops)
        self.wants = Wants(causal.gaps, pull_timeout_us, repair_timeout_us, self._drops)
        self.catch_up = CatchUp(pull_timeout_us, settings.pull_credit_bytes)
        self.adoption = Adoption(shared, causal, self.wants, members)
        self.exchange = Exchange(shared, causal, members, self.wants, now)
        self._writer = PullWriter(self.pieces, settings.packet_bytes_max)
        self._links = links
        self._causal = causal
        self._members = members
        self._helpers: list[NodeId] = []
        """Members that are asked by catch-up, besides those that told of a log."""
        self._ended: dict[LogId, bool] = {}
        """Logs of windows that came to their end, and whether who answered holds them as wanted.

        What is missing of them is to be counted."""

    @property
    def wake_at(self) -> int:
        """When something is due to be asked for, or an answer has been silent for too long."""
        return min(self.wants.wake_at, self.catch_up.wake_at, self.adoption.take.deadline)

    @property
    def is_idle(self) -> bool:
        """Whether nothing is wanted of anybody, and this has been counted."""
        return self.wants.is_idle and not self.catch_up.logs and not self.adoption.take.is_on

    @property
    def pulls(self) -> int:
        """How many pulls are under way."""
        return len(self.wants.pulls) + len(self.catch_up.pulls)

    def look_again(self, now: Micros) -> None:
        """A commit has ended, so what waited for the disk may be asked for."""
        self.wants.look_again(now)
        self.catch_up.look_again(now)

    # --- What was found missing -------------------------------------------------------------------

    def held_back(self, block: Block, teller: NodeId, now: Micros) -> None:
        """A block came before its causes. Its teller holds them all."""
        self.not_taken(Dot(block.log, block.last), teller, now)
        if block.dot in self._causal.held:  # There was room for it.
            for dot in self._causal.missing(block):
                self.not_taken(dot, teller, now)

    def not_taken(self, dot: Dot, teller: NodeId, now: Micros) -> None:
        """`teller` holds this message, and there was no room for it, or a part of it is missing."""
        due_at = now + self._settings.pull_grace_ms * MS_US
        if teller in self._members.live_by_id():
            self.wants.add(dot.log, dot.seq, teller, due_at)

    # --- The timer --------------------------------------------------------------------------------

    def wake(self, now: Micros, is_busy: bool) -> None:
        """Ask for what is due. `is_busy`: too much of what came waits for the disk already."""
        if self.is_idle:
            return
        self.wants.recount(self._ended)
        self._ended.clear()
        self.wants.close_silent(now)
        self.catch_up.close_silent(now)
        self.wants.ripen(now)
        live = self._members.live_by_id()
        self._catch_up(live, now, is_busy)
        for peer, logs in self.wants.take_due(now, live, is_busy=is_busy).items():
            self._pull(peer, logs, now)
        self.adoption.wake(live, now)
        for log in self.wants.take_given_up():
            self._causal.give_up(log)
        self._standing.catching_up = self.wants.backed >= CATCHING_UP_MESSAGES

    def _catch_up(self, live: Collection[NodeId], now: Micros, is_busy: bool) -> None:
        """Begin catch-up or go on with it."""
        catch_up, wants = self.catch_up, self.wants
        missing = wants.take_many(has_begun=bool(catch_up.logs))
        if missing:
            if not catch_up.logs:
                self._helpers = self._random.sample(list(live), min(PEERS_MAX, len(live)))
            catch_up.take_over(missing, now)

        def peers_of(log: LogId) -> list[NodeId]:
            """Whom to ask for a log: first its tellers, then the other helpers of this catch-up."""
            asked = (*wants.tellers(log), *self._helpers)
            return [peer for peer in dict.fromkeys(asked) if peer in live]

        is_full = self._causal.is_half_full
        while window := catch_up.take(now, peers_of, is_busy=is_busy, is_full=is_full):
            self._pull_window(window, now)
        for log, before in catch_up.take_released().items():
            wants.give_back(log, before, now)

    def _pull(self, peer: NodeId, logs: Missing, now: Micros) -> None:
        """Ask a peer for what is missing of some logs. What the pull cannot name stays due."""
        nonce = self._random.getrandbits(64)
        wants, named = self._writer.name_some(logs)
        for_pieces = any(want.pieces for want in wants)
        messages = self.wants.asked(nonce, peer, named, now, for_pieces=for_pieces)
        # A few messages are live traffic that the tree did not bring. If that happens again, a
        # branch of the tree is broken.
        graft = messages <= REPAIR_MESSAGES_MAX and self._links.missed(peer, now)
        credit_bytes = self._settings.pull_credit_bytes
        self._send(peer, Pull(nonce, credit_bytes, graft, 0, STAMP_LIMIT, tuple(wants)))

    def _pull_window(self, window: StampWindow, now: Micros) -> None:
        """Ask the window's peer for what is missing in it."""
        named = self._writer.name_all([(log, self.wants.missing(log)) for log in window.logs])
        if not named:
            self.catch_up.stretches.nothing_missing(window)
            return
        nonce = self._random.getrandbits(64)
        self.catch_up.asked(nonce, window, now, in_pieces=any(want.pieces for want in named))
        credit_bytes = self.catch_up.pace.credit_bytes
        pull = Pull(nonce, credit_bytes, False, window.after, window.below, tuple(named))
        self._send(window.peer, pull)

    def _send(self, peer: NodeId, pull: Pull) -> None:
        self._out.send(self._members[peer].row.address, pull)

    # --- The network ------------------------------------------------------------------------------

    def receive_have(self, have: Have, sender: NodeId, now: Micros) -> None:
        """A peer durably holds these. Ask for what is unknown here if nobody pushes it in time."""
        if sender not in self._members.live_by_id():
            return  # It could not be asked for them. Who can be will tell of them, too.
        due_at = now if have.pull else now + self._settings.have_grace_ms * MS_US
        for dot in have.dots:
            if not self._causal.knows(dot):
                self.wants.add(dot.log, dot.seq, sender, due_at)

    def receive_pull(self, pull: Pull, source: Address) -> None:
        """A peer asks for messages: the Node reads them from the log and streams them.

        No node of ours names more than fits a datagram, and the answer names what is lacking.
        """
        if (
            len({want.log for want in pull.wants}) > LOGS_PER_PULL
            or len(pull.wants) > WANTS_PER_PULL
        ):
            self._drops[Drop.PULL_TOO_MANY] += 1
            return
        heads = ((want.log, want.high, self._standing.head(want.log)) for want in pull.wants)
        # Stamps rise along a log, so in stamps below that of its head nothing can be lacking here.
        lacks = (log for log, high, head in heads if head.seq < high and head.stamp < pull.below)
        self._out.append(StreamReplay(source, pull, tuple(dict.fromkeys(lacks))))

    def heard(self, replay: Replay, sender: NodeId, now: Micros) -> int | None:
        """A part of a replay came: how many messages were asked for. None: nobody asked for it.

        0: catch-up asked for it, and keeps its blocks until nothing before them is to come.
        """
        if self.catch_up.heard(replay, sender, now):
            return 0
        return self.wants.heard(replay.nonce, sender, now)

    def receive_piece(self, piece: Piece, sender: NodeId, now: Micros) -> tuple[bytes | None, int]:
        """A piece came. Return the whole block, if this was the last piece missing.

        Also return how many messages were asked for together with it.
        """
        whole = self.pieces.add(piece)
        if self.catch_up.heard_piece(sender, now):
            return whole, self.wants.to_go
        asked = self.wants.heard_piece(sender, now)
        if whole is None:
            self.not_taken(Dot(piece.log, piece.seq), sender, now)
        return whole, asked

    def receive_end(self, end: ReplayEnd, sender: NodeId, now: Micros) -> None:
        """A replay came to its end. What it did not bring is asked for again.

        An answer with an impossible floor is none, so its sender counts as silent.
        """
        if end.floor > CLOCK_STAMP_LIMIT:
            self._drops[Drop.FLOOR_BEYOND_CLOCKS] += 1
            return
        window = self.catch_up.ended(end, sender, now)
        if end.floor:
            asked = window.logs if window else self.wants.asked_of(end.nonce, sender)
            deleted = [log for log in end.lacks if log in asked]
            self.wants.below_floor(deleted, sender, end.floor)
        if window is None:
            is_empty = not end.sent and end.next >= STAMP_LIMIT
            self.wants.ended(end.nonce, sender, now, is_empty=is_empty, lacks=end.lacks)
        else:
            self._ended.update((log, log not in end.lacks) for log in window.logs)
