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
from flc_udp.core.author import check_size, compose
from flc_udp.core.causal import Arrival, Causal, Verdict
from flc_udp.core.effects import Append, Deliver, Effect, Send
from flc_udp.core.liveness.membership import Liveness
from flc_udp.core.push.receipts import Receipts, Wait
from flc_udp.core.push.rumors import ANNOUNCE_BYTES, Links, Rumors
from flc_udp.core.repair.anti_entropy import AntiEntropy
from flc_udp.core.repair.pulls import REPAIR_MESSAGES_MAX
from flc_udp.core.standing import NO_LOG, Standing
from flc_udp.model.address import Address
from flc_udp.model.dots import Dot, LogId, NodeId
from flc_udp.model.drops import Drop
from flc_udp.model.errors import Malformed
from flc_udp.model.history import History
from flc_udp.model.message import Message, decode, peek_dot
from flc_udp.wire import packets as p


class Replica:
    """Decides; carries nothing out. Times are integers, µs of one monotonic clock."""

    def __init__(
        self, settings: Settings, me: p.MemberRow, history: History, random: Random, now: int
    ) -> None:
        self.drops: Counter[Drop] = Counter()
        self.is_paused = False  # While another's base is taken, no message is taken in.
        self.receipts = Receipts()
        self.settings = settings
        self._random = random
        self._out: list[Effect] = []
        self.links = Links(settings.links_max, settings.push_window_bytes)
        self._me = me.id
        self._live_then: tuple[NodeId, ...] = ()
        self.standing = Standing(history.heads, history.floor)
        self.liveness = Liveness(settings, me, self.standing, random, self._out, now)
        self._begin_log_side(history, now)

    def _begin_log_side(self, history: History, now: int) -> None:
        settings = self.settings
        self.causal = Causal(history, settings.holdback_messages_max, settings.holdback_bytes_max)
        members = self.liveness.members
        self.anti_entropy = AntiEntropy(
            settings, self.standing, self.links, self.causal, members, self._random, self._out, now
        )
        self.uncommitted = 0
        self._rumors = Rumors()
        self._decided: list[Message] = []
        self._receipts_due: dict[LogId, None] = {}
        self._own_receipts: set[int] = set()

    def rebuild(self, history: History, now: int) -> None:
        """After a failed commit: heads, hold-back and rumors from what the log really holds."""
        self.receipts.restart()
        self.adopted(history, now, log=NO_LOG)

    def adopted(self, history: History, now: int, *, log: LogId | None = None) -> None:
        """The log took another node's base; nothing was lost by it, and this run's log goes on."""
        own = self.standing.log if log is None else log
        self.standing = Standing(history.heads, history.floor, own)
        self.liveness.detector.standing = self.standing
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
        check_size(body, self.settings.body_bytes_max)
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
        asked = self.anti_entropy.exchange.sync(nodes, now)
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
        self._wake_repair(now)
        for node in self.receipts.take_due(now):
            self.liveness.detector.probe(node, now)

    def _wake_repair(self, now: int) -> None:
        self._take_history(now)
        self.anti_entropy.wake(now, self.uncommitted >= 2 * self.settings.commit_messages_max)

    def stalled(self, lag: int, now: int) -> None:
        """This node turned so much later than it was due: it doubts itself first."""
        self.liveness.stalled(lag, now)

    # --- The network ------------------------------------------------------------------------

    def receive(
        self, packets: Sequence[p.Packet], sender: NodeId, source: Address, now: int
    ) -> None:
        """Packets of one opened datagram, from the node `sender` at the address `source`."""
        if sender == self.liveness.me.id:
            self.drops[Drop.OWN_DATAGRAM] += 1
            self.liveness.receive_own(packets, source, now)
            return
        for packet in packets:
            self._receive(packet, sender, source, now)

    def _receive(  # noqa: C901, PLR0912  # which machine hears of what, on one screen
        self, packet: p.Packet, sender: NodeId, source: Address, now: int
    ) -> None:
        match packet:
            case p.Rumor():
                self._receive_rumor(packet, sender, source, now)
            case p.Replay():
                self._receive_replay(packet, sender, now)
            case p.Piece():
                self._receive_piece(packet, sender, now)
            case p.Ping() | p.Ack():
                self._receive_probe(packet, sender, source, now)
            case p.PingReq() | p.Nack() | p.Relayed() | p.Join() | p.Leave() | p.Update():
                self.liveness.receive(packet, sender, source, now)
            case p.Members() | p.MemberRanges() | p.MemberDigest():
                self.liveness.receive_table_packet(packet, sender, source, now)
            case p.Prune():
                self.links.prune(sender)
            case p.Pull():
                if packet.graft:
                    self.links.graft(sender)
                self.anti_entropy.receive_pull(packet, source)
            case (
                p.Have()
                | p.Ranges()
                | p.Digest()
                | p.ReplayEnd()
                | p.BasePull()
                | p.Base()
                | p.BaseEnd()
            ):
                self.anti_entropy.receive(packet, sender, source, now)
            case p.Taken(at):
                self.links.taken(sender, at, now)
            case p.Receipt(log, seq):
                if log == self.standing.log:
                    self._receive_held(sender, seq, now)
            case _:
                assert_never(packet)

    def _receive_probe(
        self, probe: p.Ping | p.Ack, sender: NodeId, source: Address, now: int
    ) -> None:
        self.liveness.receive_probe(probe, sender, source, now)
        if isinstance(probe, p.Ack) and probe.nonce:  # Who answers a join tells of no log.
            self._receive_held(sender, probe.held, now)
        self.anti_entropy.exchange.compare(probe.root, probe.catching_up, sender, source, now)

    def _receive_held(self, sender: NodeId, seq: int, now: int) -> None:
        # An ack may speak of the log of a former life of ours, but never above what is durable.
        head = self.standing.held(self.standing.log)
        if sender in self.liveness.members.live_by_id() and seq <= head:
            self.receipts.receive(sender, seq, head, now)

    def _receive_rumor(self, rumor: p.Rumor, sender: NodeId, source: Address, now: int) -> None:
        self._take_history(now)  # It came before, and the rumor may be caused by it.
        duplicates = self.drops[Drop.DUPLICATE_MESSAGE]
        for encoded in rumor.messages:
            self._offer(encoded, sender, now, forward=True, receipt=rumor.receipt)
        if self.links.came(sender, sum(map(len, rumor.messages))):
            self._out.append(Send((source,), (p.Taken(rumor.at),)))
        is_new = self.drops[Drop.DUPLICATE_MESSAGE] - duplicates < len(rumor.messages)
        first = peek_dot(rumor.messages[0]) if rumor.messages else None
        if self.links.brought(sender, first, is_new=is_new, now=now):
            self._out.append(Send((source,), (p.Prune(),)))

    def _receive_replay(self, replay: p.Replay, sender: NodeId, now: int) -> None:
        asked = self.anti_entropy.heard(replay, sender, now)
        if asked is None:
            self.drops[Drop.REPLAY_NOT_ASKED_FOR] += 1
            return
        for encoded in replay.messages if asked else ():
            self._offer(encoded, sender, now, forward=asked <= REPAIR_MESSAGES_MAX, receipt=False)

    def _take_history(self, now: int) -> None:
        """What catch-up asked for, once it is its turn: once a turn, for it may be thousands."""
        if self._is_full:
            return  # It stays laid aside: all that comes after what is dropped would wait for that.
        extended = 0
        for encoded in self.anti_entropy.catch_up.take_ready(now):
            message = self._read(encoded)
            if message is None:
                continue
            if self.causal.extend(message):
                self._decided.append(message)
                extended += 1
            else:
                self._take(Arrival(message, self.liveness.me.id), now)
        self.uncommitted += extended

    def _receive_piece(self, piece: p.Piece, sender: NodeId, now: int) -> None:
        if self.causal.knows(Dot(piece.log, piece.seq)):
            self.drops[Drop.DUPLICATE_PIECE] += 1
            return
        whole, asked = self.anti_entropy.receive_piece(piece, sender, now)
        if whole is not None:
            self._offer(whole, sender, now, forward=asked <= REPAIR_MESSAGES_MAX, receipt=False)

    # --- Messages ---------------------------------------------------------------------------

    def _offer(
        self, encoded: bytes, sender: NodeId, now: int, *, forward: bool, receipt: bool
    ) -> None:
        dot = peek_dot(encoded)
        if dot is not None and self.causal.knows(dot):
            if self.causal.contradicts(dot, encoded):
                self.anti_entropy.exchange.tell_fork(dot)
                return
            self.drops[Drop.DUPLICATE_MESSAGE] += 1
            if receipt and dot.seq <= self.standing.held(dot.log):  # It is due now.
                self._receipts_due[dot.log] = None
                self._send_receipts()
            return
        if (message := self._read(encoded)) is not None:
            self._take(Arrival(message, sender, forward, receipt), now)

    def _read(self, encoded: bytes) -> Message | None:
        try:
            return decode(encoded)
        except Malformed as error:
            self.drops[error.reason] += 1
            return None

    @property
    def _is_full(self) -> bool:
        return self.is_paused or self.uncommitted >= self.settings.holdback_messages_max

    def _take(self, arrival: Arrival, now: int) -> None:
        """Take in what seems new; catch-up asks to forward none."""
        message, sender = arrival.message, arrival.teller
        assert sender is not None
        if self._is_full:
            self.drops[Drop.WAITING_FOR_THE_DISK] += 1
            self.anti_entropy.not_taken(message.log, message.seq, sender, now)
            return
        verdict, decided = self.causal.offer(arrival)
        match verdict:
            case Verdict.DECIDED:
                self._keep(decided)
            case Verdict.HELD if not arrival.forward:
                pass  # Catch-up asks for all that is missing, in order.
            case Verdict.HELD:
                self.anti_entropy.held_back(message.log, message.seq, sender, now)
            case Verdict.DUPLICATE:
                self.drops[Drop.DUPLICATE_MESSAGE] += 1
            case Verdict.FORKED:
                self.anti_entropy.exchange.tell_fork(message.dot)
            case _:
                assert_never(verdict)

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
        announces = not self.standing.catching_up  # What it catches up on others hold.
        for message in messages:
            is_small = len(message.encoded) <= ANNOUNCE_BYTES
            if message.log == own:
                asks = message.seq in self._own_receipts
                self._own_receipts.discard(message.seq)
                if is_small:
                    self._rumors.push(message, None, None, receipt=asks)
            if not is_small and (announces or message.log == own):
                # It is pulled, which asks for no receipt: probes bring them.
                self._rumors.announce(message, self._writer(message.log))
        if announces:
            for message in {message.log: message for message in messages}.values():
                self._rumors.have(message, self._writer(message.log), now)
        self._send_receipts()
        self.anti_entropy.look_again(now)
        self._out.append(Deliver(tuple(messages)))

    def _send_receipts(self) -> None:
        for log in self._receipts_due:
            writer = self._writer(log)
            member = None if writer is None else self.liveness.members.get(writer)
            held = self.standing.held(log)
            if member is not None and held:
                self._out.append(Send((member.row.address,), (p.Receipt(log, held),)))
        self._receipts_due.clear()

    def _writer(self, log: LogId) -> NodeId | None:
        origin = self.causal.origins.get(log)
        return None if origin is None else origin.node

    # --- The end of a turn ------------------------------------------------------------------

    def take(self, now: int) -> list[Effect]:
        """Everything decided since the last time, in the order it is to be carried out."""
        self._follow_members()
        self._follow_identity()
        if self.anti_entropy.is_due(now):
            self._wake_repair(now)
        self._take_history(now)
        self.liveness.push_news(now)
        effects: list[Effect] = [Append(tuple(self._decided))] if self._decided else []
        effects += self._out
        effects += self._rumors.take(self.links, now)
        self._out.clear()
        self._decided = []
        return effects

    def _follow_members(self) -> None:
        if not self.liveness.claims.changed:
            return
        live = self.liveness.members.live_by_id()
        ids = tuple(live)
        if ids == self._live_then:
            return
        self.links.refill(self.liveness.me.id, self.liveness.members.live())
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
