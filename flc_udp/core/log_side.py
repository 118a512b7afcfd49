"""The log side of a Replica: the way of a block from its arrival to its being durable and shown.

    offered ─▶ decided ─▶ (the Node commits) ─▶ committed ─▶ told to others, shown here
            └─▶ held back until its causes are here ─▲

A failed commit throws this side away and builds it anew from what the log really holds. Members and
probes are the other side, and stay.

Rules. A block of this node's own leaves after its commit. A foreign block is forwarded as soon as
it is decided, because its author holds it. Any claim to hold a message waits for the commit.
"""

from collections.abc import Sequence

from flc_udp.config import CLOCK_STAMP_LIMIT, ID_BYTES, LEAD_MS_MAX
from flc_udp.core.causal import Arrival, Causal, Outcome
from flc_udp.core.effects import Append, Deliver, Effect
from flc_udp.core.liveness.members import MemberTable
from flc_udp.core.push.links import ANNOUNCE_BYTES, Links
from flc_udp.core.push.rumors import Rumors
from flc_udp.core.repair.anti_entropy import AntiEntropy
from flc_udp.core.repair.wants import REPAIR_MESSAGES_MAX
from flc_udp.core.shared import CoreMachine, Shared
from flc_udp.core.standing import NO_LOG
from flc_udp.model.address import Address
from flc_udp.model.block import Block, Origin, decode, peek_dot, write
from flc_udp.model.clocks import STAMP_WALL_SHIFT, next_stamp
from flc_udp.model.dots import Dot, LogId, NodeId
from flc_udp.model.errors import Drop, Malformed
from flc_udp.model.history import History
from flc_udp.model.units import Micros, Millis
from flc_udp.wire.packets import Piece, Prune, Receipt, Replay, Rumor

OWN_LOGS_MAX = 16
"""A run goes on with at most this many logs at once: rooms would have to be carried ahead by as
many different leads."""

CARRIED_MAX = 1_024
"""So many rooms are noted that were carried ahead."""

_new = tuple.__new__
"""A named tuple's own constructor costs two to four times as much."""


class LogSide(CoreMachine):
    """Decides about messages."""

    def __init__(
        self, shared: Shared, history: History, members: MemberTable, links: Links, now: Micros
    ) -> None:
        super().__init__(shared)
        limits = (self._settings.holdback_blocks_max, self._settings.holdback_bytes_max)
        self.causal = Causal(history, *limits, self._drops)
        self.repair = AntiEntropy(shared, self.causal, members, links, now)
        self.uncommitted = 0
        """Blocks that are decided and not durable yet."""
        self.is_paused = False
        """Whether no message is taken in, because another node's base is being taken."""
        self._members = members
        self._links = links
        self.rumors = Rumors()
        self._decided: list[Block] = []
        self._receipts_due: dict[LogId, None] = {}
        self._own_receipts: set[Dot] = set()
        self._walls = shared.walls
        self.carried_by: dict[str, LogId] = {}
        """The rooms whose stamps were carried far ahead, and the log that did it first."""

    # --- People -----------------------------------------------------------------------------------

    def post(
        self, room: str, author: str, bodies: Sequence[bytes], wall: Millis, *, receipt: bool
    ) -> Block:
        """Decide a block of this node's own. Raises FlcError; a refusal leaves no gap.

        It follows the head of a log of this run. Its causes are the frontier of its room, and its
        stamp is higher than theirs and than those that were deleted here, or it would be, too.
        """
        causes = self.causal.causes_of_next(room)
        log = self._log_for(max(causes.values(), default=0), wall)
        me, head = self._members.me.row, self.causal.head(log)
        causes = {dot: stamp for dot, stamp in causes.items() if dot.log != log}
        least = max(causes.values(), default=0)
        block = write(
            log=log,
            first=head.seq + 1,
            room=room,
            author=author,
            wall=wall,
            stamp=next_stamp(wall, head.stamp, max(least, self._standing.pruned_below)),
            causes=tuple(causes),
            parent=head.hash,
            bodies=bodies,
            origin=Origin(me.id, me.name) if head.seq == 0 else None,
        )
        self._standing.log = log
        self._standing.own[log] = block.stamp
        if len(self._standing.own) > OWN_LOGS_MAX:
            del self._standing.own[next(iter(self._standing.own))]
        outcome, decided = self.causal.offer(Arrival(block))
        assert outcome is Outcome.DECIDED
        if receipt:
            self._own_receipts.add(block.dot)
        self._keep(decided)
        return block

    def _log_for(self, frontier: int, wall: Millis) -> LogId:
        """The log of this run that a post goes into, in a room whose last stamp is `frontier`.

        If the stamps of some room were carried far ahead, the log that spoke there has such stamps,
        too. It would carry other rooms along, so it speaks in rooms that are as far ahead alone.
        """
        least = max(wall << STAMP_WALL_SHIFT, frontier)
        most = min(least + (LEAD_MS_MAX << STAMP_WALL_SHIFT), CLOCK_STAMP_LIMIT - 2)
        last = self._standing.own.get(self._standing.log, most + 1)
        if len(self._standing.own) == 1 and last <= most:
            return self._standing.log
        fitting = [(at, log) for log, at in self._standing.own.items() if at <= most]
        return max(fitting)[1] if fitting else LogId(self._random.randbytes(ID_BYTES))

    def begin_log(self) -> None:
        """The next post begins a new log."""
        self._standing.log = NO_LOG
        self._standing.own.clear()
        self._own_receipts.clear()

    # --- The network ------------------------------------------------------------------------------

    def receive_rumor(self, rumor: Rumor, sender: NodeId, source: Address, now: Micros) -> None:
        """New blocks came over a link: take them, and tell how far this node has read."""
        self.take_history(now)  # It came before the rumor, which may be caused by it.
        is_new = False
        for encoded in rumor.blocks:
            is_new |= self._offer(encoded, sender, now, forward=True, receipt=rumor.receipt)
        taken = self._links.came(sender, rumor.at, sum(map(len, rumor.blocks)))
        if taken is not None:
            self._out.send(source, taken)
        if self._links.brought(sender, rumor.blocks, now, is_new=is_new):
            self._out.send(source, Prune())

    def receive_replay(self, replay: Replay, sender: NodeId, now: Micros) -> None:
        """Blocks came that were pulled. Catch-up keeps its own until it is their turn."""
        asked = self.repair.heard(replay, sender, now)
        if asked is None:
            self._drops[Drop.REPLAY_NOT_ASKED_FOR] += 1
            return
        for encoded in replay.blocks if asked else ():
            forward = asked <= REPAIR_MESSAGES_MAX
            self._offer(encoded, sender, now, forward=forward, asked=True)

    def receive_piece(self, piece: Piece, sender: NodeId, now: Micros) -> None:
        """A part of a large block came."""
        self._links.came_in_pieces(sender, len(piece.data))
        if self.causal.knows(Dot(piece.log, piece.seq)):
            self._drops[Drop.DUPLICATE_PIECE] += 1
            return
        whole, asked = self.repair.receive_piece(piece, sender, now)
        if whole is not None:
            forward = asked <= REPAIR_MESSAGES_MAX
            self._offer(whole, sender, now, forward=forward, asked=asked > 0)

    # --- The timer --------------------------------------------------------------------------------

    @property
    def wake_at(self) -> int:
        """When `wake` is due, in µs."""
        return min(self.repair.wake_at, self.rumors.wake_at)

    def wake(self, now: Micros) -> None:
        """Take what catch-up brought, and ask for what is due."""
        self.take_history(now)
        is_busy = self.uncommitted >= 2 * self._settings.commit_blocks_max
        self.repair.wake(now, is_busy)

    def take_history(self, now: Micros) -> None:
        """Take what catch-up asked for, where it is its turn. It may be thousands of blocks."""
        if self._is_full:
            return  # It stays laid aside: everything after a dropped message would wait for it.
        me = self._members.me.row
        for encoded in self.repair.catch_up.take_ready(now):
            block = self._read(encoded)
            if block is not None:
                self._take(Arrival(block, me.id, asked=True), now)

    # --- Messages ---------------------------------------------------------------------------------

    def _offer(  # what came, from whom and how
        self,
        encoded: bytes,
        sender: NodeId,
        now: Micros,
        *,
        forward: bool,
        receipt: bool = False,
        asked: bool = False,
    ) -> bool:
        """Take a block that came. Return whether it is not known already."""
        dot = peek_dot(encoded)
        if dot and self.causal.knows(dot) and not self.causal.contradicts(dot, encoded):
            self._drops[Drop.DUPLICATE_BLOCK] += 1
            if receipt and dot.seq <= self._standing.held(dot.log):  # It is due now.
                self._receipts_due[dot.log] = None
                self._send_receipts()
            return False
        block = self._read(encoded)
        if block is not None and self._is_full:
            self._drops[Drop.WAITING_FOR_THE_DISK] += 1
            self.repair.not_taken(Dot(block.log, block.last), sender, now)
        elif block is not None:
            self._links.heard(block, sender, now)
            may_wait = sender in self._members.live_by_id()
            arrival = _new(Arrival, (block, sender, forward, receipt, asked, may_wait))
            self._take(arrival, now)
        return True

    def _read(self, encoded: bytes) -> Block | None:
        try:
            return decode(encoded)
        except Malformed as error:
            self._drops[error.reason] += 1
            return None

    @property
    def _is_full(self) -> bool:
        return self.is_paused or self.uncommitted >= self._settings.holdback_blocks_max

    def _take(self, arrival: Arrival, now: Micros) -> None:
        """Take in what seems new. Blocks of catch-up are those that are not to be forwarded."""
        block, sender = arrival.block, arrival.teller
        assert sender is not None
        outcome, decided = self.causal.offer(arrival)
        match outcome:
            case Outcome.DECIDED:
                if arrival.forward:
                    self.repair.wants.flowed(block.log, now)
                self._keep(decided)
            case Outcome.HELD if arrival.forward:  # Catch-up itself asks for all that is missing.
                self.repair.held_back(block, sender, now)
            case Outcome.DUPLICATE:
                self._drops[Drop.DUPLICATE_BLOCK] += 1
            case Outcome.FORKED:
                self.repair.exchange.tell_fork(block.dot, now)
                self._keep(decided)

    def _keep(self, decided: list[Arrival]) -> None:
        self.uncommitted += len(decided)
        limit = self._walls.far_stamp
        for arrival in decided:
            block = arrival.block
            if block.stamp >= limit and len(self.carried_by) < CARRIED_MAX:
                self.carried_by.setdefault(block.room, block.log)
            self._decided.append(block)
            if arrival.receipt:
                self._receipts_due[block.log] = None
            if arrival.forward and len(block.encoded) <= ANNOUNCE_BYTES:
                writer = self._writer(block.log)
                self.rumors.push(block, arrival.teller, writer, receipt=arrival.receipt)

    def committed(self, blocks: Sequence[Block], first_position: int, now: Micros) -> None:
        """These blocks are durable. Send our own, say what is held, and show them all."""
        self.uncommitted -= len(blocks)
        self._standing.commit(blocks)
        own = self._standing.own
        announces = not self._standing.catching_up  # Others hold what this node catches up on.
        for block in blocks:
            is_small = len(block.encoded) <= ANNOUNCE_BYTES
            if block.log in own:
                self._links.heard(block, None, now)
                asks = block.dot in self._own_receipts
                self._own_receipts.discard(block.dot)
                if is_small:
                    self.rumors.push(block, None, None, receipt=asks)
            if not is_small and (announces or block.log in own):
                # Others pull it. A pull asks for no receipt: probes bring the receipts.
                self.rumors.announce(block, self._writer(block.log))
        if announces:
            for block in {block.log: block for block in blocks}.values():
                self.rumors.have(block, self._writer(block.log), now)
        self._send_receipts()
        self.repair.look_again(now)
        self._out.append(Deliver(first_position, tuple(blocks)))

    def _send_receipts(self) -> None:
        for log in self._receipts_due:
            writer = self._writer(log)
            member = None if writer is None else self._members.get(writer)
            held = self._standing.held(log)
            if member is not None and held:
                self._out.send(member.row.address, Receipt(log, held))
        self._receipts_due.clear()

    def _writer(self, log: LogId) -> NodeId | None:
        origin = self.causal.origins.get(log)
        return None if origin is None else origin.node

    # --- The end of a turn ------------------------------------------------------------------------

    def end_turn(self, now: Micros) -> list[Effect]:
        """Do what has become due in this turn. What was decided in it is committed as one."""
        if self.repair.wake_at <= now:
            self.wake(now)
        self.take_history(now)
        decided, self._decided = self._decided, []
        return [Append(tuple(decided))] if decided else []
