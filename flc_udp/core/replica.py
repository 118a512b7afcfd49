"""The Replica: one node's every decision, and the only file that sees all the machines at once.

Three things drive it, and nothing else ever moves it: people (`post`, `join`, `leave`), the network
(`receive`) and the timer (`wake`, due at `wake_at`). What it decides accumulates until the end of
the turn and is taken as effects, so that whatever came in one turn is sent, kept and forwarded in
batches. Two sets of heads are kept apart: *decided* (`Causal`) and *durable* (`Standing`); the
second moves in `committed` alone.

Rules. Nothing of this node's own leaves before its commit. A foreign message is forwarded once it
is decided, for its author holds it; any claim to hold it waits for the commit. After a failed
commit the log side is reborn from the log (`rebuild`), under a new log id: a dot that was minted
and may or may not have reached the disk is never minted again. Members and probes stay.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from random import Random
from typing import assert_never

from flc_udp.config import ID_BYTES, Settings
from flc_udp.core.anti_entropy import AntiEntropy
from flc_udp.core.author import check_size, compose
from flc_udp.core.causal import Arrival, Causal, Verdict
from flc_udp.core.effects import Append, Deliver, Effect, Notice, Send
from flc_udp.core.liveness import Liveness
from flc_udp.core.receipts import Receipts, Wait
from flc_udp.core.rumors import ANNOUNCE_BYTES, Links, Rumors
from flc_udp.core.standing import NO_LOG, Standing
from flc_udp.core.wants import REPAIR_MESSAGES_MAX
from flc_udp.model.address import Address
from flc_udp.model.dots import Dot, LogId, NodeId
from flc_udp.model.errors import Malformed
from flc_udp.model.history import History
from flc_udp.model.message import Message, decode, peek_dot
from flc_udp.wire.packets import (
    Ack,
    Digest,
    Have,
    Join,
    Leave,
    MemberDigest,
    MemberRanges,
    MemberRow,
    Members,
    Nack,
    Packet,
    Piece,
    Ping,
    PingReq,
    Prune,
    Pull,
    Ranges,
    Receipt,
    Relayed,
    Replay,
    ReplayEnd,
    Rumor,
    Update,
)


class Replica:
    """Decides; carries nothing out. Times are integers, µs of one monotonic clock."""

    def __init__(
        self, settings: Settings, me: MemberRow, history: History, random: Random, now: int
    ) -> None:
        self.drops: Counter[str] = Counter()
        self.receipts = Receipts()
        self._settings = settings
        self._random = random
        self._out: list[Effect] = []
        self._links = Links(settings.links_max)
        self._me = me.id
        self._live_then: tuple[NodeId, ...] = ()
        self.standing = Standing(history.heads)
        self.liveness = Liveness(settings, me, self.standing, random, self._out, now)
        self._begin_log_side(history, now)

    def _begin_log_side(self, history: History, now: int) -> None:
        settings = self._settings
        self.causal = Causal(history, settings.holdback_messages_max, settings.holdback_bytes_max)
        members = self.liveness.members
        self.anti_entropy = AntiEntropy(
            settings, self.standing, self._links, self.causal, members, self._random, self._out, now
        )
        self.uncommitted = 0
        self._rumors = Rumors()
        self._decided: list[Message] = []
        self._receipts_due: dict[LogId, None] = {}
        self._own_receipts: set[int] = set()

    def rebuild(self, history: History, now: int) -> None:
        """After a failed commit: heads, hold-back and rumors from what the log really holds."""
        self.standing = self.liveness.detector.standing = Standing(history.heads)
        self.receipts.restart()
        self._begin_log_side(history, now)

    # --- The user ---------------------------------------------------------------------------

    def join(self, seeds: Iterable[Address], now: int) -> None:
        """Ask all seeds at once for the member table."""
        self.liveness.join(seeds, now)

    def leave(self, now: int) -> None:
        """Go in order; `liveness.has_left` tells when."""
        self.liveness.leave(now)

    def post(
        self, room: str, author: str, body: str | bytes, wall: int, *, receipt: bool = False
    ) -> Message:
        """Say something: decided now, sent after its commit. `wall` in ms since 1970.

        `receipt` asks every member for a receipt. Raises FlcError; a refusal leaves no gap.
        """
        check_size(body, self._settings.body_bytes_max)
        log = self.standing.log
        if log == NO_LOG:
            log = self._random.randbytes(ID_BYTES)
        message = compose(self.causal, log, self.liveness.me, room, author, body, wall)
        self.standing.log = log
        verdict, decided = self.causal.offer(Arrival(message))
        assert verdict is Verdict.DECIDED
        if receipt:
            self._own_receipts.add(message.seq)
        self._keep(decided)
        return message

    def watch(self, seq: int, needed: int | None, now: int) -> Wait:
        """Wait until others durably hold this run's `seq`: so many, or all that live now."""
        live = [member.row.id for member in self.liveness.members.live()]
        return self.receipts.watch(seq, len(live) if needed is None else needed, live, now)

    def sync(self, nodes: Sequence[NodeId], now: int) -> list[NodeId]:
        """Compare histories now with those of these that are alive, or with a few: whom it asks."""
        asked = self.anti_entropy.sync(nodes, now)
        for node in asked:
            self.liveness.detector.probe(node, now)
        return asked

    # --- The timer --------------------------------------------------------------------------

    @property
    def wake_at(self) -> int:
        """When `wake` is due; a time in the past is due at once."""
        times = (
            self.liveness.wake_at,
            self.anti_entropy.wake_at,
            self._rumors.wake_at,
            self.receipts.wake_at,
        )
        return min(at for at in times if at is not None)

    def wake(self, now: int) -> None:
        """Do what is due at `now`."""
        self.liveness.wake(now)
        self.anti_entropy.wake(now, self._is_busy)
        for node in self.receipts.take_due(now):
            self.liveness.detector.probe(node, now)

    def stalled(self, lag: int, now: int) -> None:
        """This node turned so much later than it was due: it doubts itself first."""
        self.liveness.stalled(lag, now)

    # --- The network ------------------------------------------------------------------------

    def receive(self, packets: Sequence[Packet], sender: NodeId, source: Address, now: int) -> None:
        """Packets of one opened datagram, from the node `sender` at the address `source`."""
        if sender == self.liveness.me.id:
            self.drops["own datagram"] += 1
            self.liveness.receive_own(packets, source, now)
            return
        for packet in packets:
            self._receive(packet, sender, source, now)

    def _receive(  # noqa: C901, PLR0912  # one arm a packet kind: the protocol on one screen
        self, packet: Packet, sender: NodeId, source: Address, now: int
    ) -> None:
        match packet:
            case Rumor():
                self._receive_rumor(packet, sender, source, now)
            case Replay():
                self._receive_replay(packet, sender, now)
            case Piece():
                self._receive_piece(packet, sender, now)
            case Ping() | Ack():
                self._receive_probe(packet, sender, source, now)
            case PingReq():
                self.liveness.detector.receive_ping_req(packet, source, now)
            case Nack():
                self.liveness.detector.receive_nack(packet, sender)
            case Relayed():
                self.liveness.detector.receive_relayed(packet, now)
            case Join():
                self.liveness.receive_join(packet, sender, source, now)
            case Members(rows):
                self.liveness.receive_table(rows, sender, source, now)
            case MemberRanges():
                self.liveness.roster.receive_ranges(packet, source)
            case MemberDigest():
                self.liveness.receive_digest(packet, sender, source, now)
            case Update(rows):
                self.liveness.receive_rows(rows, sender, source, now)
            case Leave():
                self.liveness.receive_leave(packet, sender, source, now)
            case Prune():
                self._links.prune(sender)
            case Have():
                self.anti_entropy.receive_have(packet, sender, now)
            case Ranges():
                self.anti_entropy.receive_ranges(packet, source)
            case Digest():
                self.anti_entropy.receive_digest(packet, sender, source, now)
            case Pull():
                if packet.graft:
                    self._links.graft(sender)
                self.anti_entropy.receive_pull(packet, source)
            case ReplayEnd():
                self.anti_entropy.receive_end(packet, sender, now)
            case Receipt(log, seq):
                if log == self.standing.log:
                    self._receive_held(sender, seq)
            case _:
                assert_never(packet)

    def _receive_probe(self, probe: Ping | Ack, sender: NodeId, source: Address, now: int) -> None:
        self.liveness.receive_probe(probe, sender, source, now)
        if isinstance(probe, Ack):
            self._receive_held(sender, probe.held)
        self.anti_entropy.compare(probe.root, probe.catching_up, sender, source, now)

    def _receive_held(self, sender: NodeId, seq: int) -> None:
        # An ack may speak of the log of a former life of ours, but never above what is durable.
        is_member = self.liveness.members.get(sender) is not None
        if is_member and 0 < seq <= self.standing.held(self.standing.log):
            self.receipts.receive(sender, seq)

    def _receive_rumor(self, rumor: Rumor, sender: NodeId, source: Address, now: int) -> None:
        duplicates = self.drops["duplicate message"]
        for encoded in rumor.messages:
            self._offer(encoded, sender, now, forward=True, receipt=rumor.receipt)
        is_new = self.drops["duplicate message"] - duplicates < len(rumor.messages)
        if self._links.brought(sender, is_new=is_new, now=now):
            self._out.append(Send((source,), (Prune(),)))

    def _receive_replay(self, replay: Replay, sender: NodeId, now: int) -> None:
        wants = self.anti_entropy.wants
        if not wants.heard(replay.nonce, sender, now):
            self.drops["replay not asked for"] += 1
            return
        asked = sum(wants.pulls[replay.nonce].missing.values())
        for encoded in replay.messages:
            self._offer(encoded, sender, now, forward=asked <= REPAIR_MESSAGES_MAX, receipt=False)

    def _receive_piece(self, piece: Piece, sender: NodeId, now: int) -> None:
        if self.causal.knows(Dot(piece.log, piece.seq)):
            self.drops["duplicate piece"] += 1
            return
        whole = self.anti_entropy.pieces.add(piece)
        asked = self.anti_entropy.wants.heard_any(sender, now)
        if whole is not None:
            self._offer(whole, sender, now, forward=asked <= REPAIR_MESSAGES_MAX, receipt=False)
        else:
            self.anti_entropy.not_taken(piece.log, piece.seq, sender, now)

    # --- Messages ---------------------------------------------------------------------------

    def _offer(
        self, encoded: bytes, sender: NodeId, now: int, *, forward: bool, receipt: bool
    ) -> None:
        dot = peek_dot(encoded)
        if dot is not None and self.causal.knows(dot):
            if self.causal.contradicts(dot, encoded):
                self._tell_fork(dot)
                return
            self.drops["duplicate message"] += 1
            self._owe_receipt(dot, receipt)
            return
        try:
            message = decode(encoded)
        except Malformed as error:
            self.drops[error.reason] += 1
            return
        if self.uncommitted >= self._settings.holdback_messages_max:
            self.drops["waiting for the disk"] += 1
            self.anti_entropy.not_taken(message.log, message.seq, sender, now)
            return
        verdict, decided = self.causal.offer(Arrival(message, sender, forward, receipt))
        match verdict:
            case Verdict.DECIDED:
                self._keep(decided)
            case Verdict.HELD:
                self.anti_entropy.held_back(message.log, message.seq, sender, now)
            case Verdict.DUPLICATE:
                self.drops["duplicate message"] += 1
            case Verdict.FORKED:
                self._tell_fork(message.dot)
            case _:
                assert_never(verdict)

    def _tell_fork(self, dot: Dot) -> None:
        self.drops["forked log"] += 1
        self._out.append(Notice("log_forked", {"dot": str(dot)}))

    def _keep(self, decided: list[Arrival]) -> None:
        self.uncommitted += len(decided)
        for arrival in decided:
            message = arrival.message
            self._decided.append(message)
            if arrival.receipt:
                self._receipts_due[message.log] = None
            if arrival.forward and len(message.encoded) <= ANNOUNCE_BYTES:
                writer = self._writer(message.log)
                self._rumors.push(message, arrival.teller, writer, receipt=arrival.receipt)

    def committed(self, messages: Sequence[Message], now: int) -> None:
        """These are durable: send what is ours, say what we hold, show them all."""
        self.uncommitted -= len(messages)
        self.standing.commit(messages)
        own = self.standing.log
        for message in messages:
            asks = message.log == own and message.seq in self._own_receipts
            if asks:
                self._own_receipts.discard(message.seq)
            if len(message.encoded) > ANNOUNCE_BYTES:
                # It is pulled, which asks for no receipt: probes bring them.
                self._rumors.announce(message, self._writer(message.log))
            elif message.log == own:
                self._rumors.push(message, None, None, receipt=asks)
        for message in {message.log: message for message in messages}.values():
            self._rumors.have(message, self._writer(message.log), now)
        self._send_receipts()
        self.anti_entropy.wants.look_again(now)
        self._out.append(Deliver(tuple(messages)))

    def _owe_receipt(self, dot: Dot, receipt: bool) -> None:
        """A copy of what is held already asks for a receipt: it is due now if it is durable."""
        if receipt and dot.seq <= self.standing.held(dot.log):
            self._receipts_due[dot.log] = None
            self._send_receipts()

    def _send_receipts(self) -> None:
        for log in self._receipts_due:
            writer = self._writer(log)
            member = None if writer is None else self.liveness.members.get(writer)
            held = self.standing.held(log)
            if member is not None and held:
                self._out.append(Send((member.row.address,), (Receipt(log, held),)))
        self._receipts_due.clear()

    def _writer(self, log: LogId) -> NodeId | None:
        origin = self.causal.origins.get(log)
        return None if origin is None else origin.node

    # --- The end of a turn ------------------------------------------------------------------

    def take(self, now: int) -> list[Effect]:
        """Everything decided since the last time, in the order it is to be carried out."""
        self._follow_members()
        self._follow_identity()
        if self._wants_due(now):
            self.anti_entropy.wake(now, self._is_busy)
        self.liveness.push_news(now)
        effects: list[Effect] = [Append(tuple(self._decided))] if self._decided else []
        effects += self._out
        effects += self._rumors.take(self._links, now)
        self._out.clear()
        self._decided = []
        return effects

    def _wants_due(self, now: int) -> bool:
        due = self.anti_entropy.wake_at
        return due is not None and due <= now

    def _follow_members(self) -> None:
        if not self.liveness.claims.changed:
            return
        live = self.liveness.members.live_by_id()
        ids = tuple(live)
        if ids == self._live_then:
            return
        self._links.refill(self.liveness.me.id, self.liveness.members.live())
        for node in self._live_then:
            if node not in live:
                self.receipts.drop(node)
        self._live_then = ids

    def _follow_identity(self) -> None:
        """Under a new id a new log begins: its first message says whose it is."""
        if self.liveness.me.id != self._me:
            self._me = self.liveness.me.id
            self.standing.log = NO_LOG
            self._own_receipts.clear()
            self.receipts.restart()

    @property
    def _is_busy(self) -> bool:
        return self.uncommitted >= 2 * self._settings.commit_messages_max
