"""The Replica: every decision of one node, behind one door.

Three things drive it, and nothing else ever moves it: people (`join`, `post`, `leave` and their
like), the network (`receive`) and the timer (`wake`, due at `wake_at`). The Node also tells it what
became of its decisions and how the machine does (`committed`, `rebuild`, `stalled` and their like).
What it decides gathers until `end_turn` hands it out as effects, so that whatever came in one turn
is sent, kept and forwarded in batches. What may be seen of it are its frozen `facts`.

Inside, this is the only file that sees all the machines at once. It has two sides. The log side
(`log_side`) decides about messages; after a failed commit it is built anew from the log. Members
and probes (`liveness`), links and receipts (`push`) stay.

Rules. Outside of `core/` nobody looks behind this door. Two sets of heads are kept apart: the
decided ones (`Causal`) and the durable ones (`Standing`), and only `committed` moves the second.
After a failed commit a new log begins: a dot that was minted and may have reached the disk is never
minted again.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from random import Random

from flc_udp.config import Settings
from flc_udp.core.budget import Budget
from flc_udp.core.effects import Effect, StreamBase
from flc_udp.core.facts import (
    Facts,
    MemberFacts,
    RepairFacts,
    carried_rooms,
    health_facts,
    peer_facts,
    repair_facts,
)
from flc_udp.core.liveness.health import Change
from flc_udp.core.liveness.membership import Membership
from flc_udp.core.log_side import LogSide
from flc_udp.core.push.links import Links
from flc_udp.core.push.receipts import Receipts, Wait
from flc_udp.core.push.window import BUFFER_BYTES
from flc_udp.core.repair.healing import Healing
from flc_udp.core.shared import Shared
from flc_udp.core.standing import Standing
from flc_udp.model.address import Address
from flc_udp.model.block import Block
from flc_udp.model.dots import Dot, LogId, NodeId
from flc_udp.model.errors import Drop
from flc_udp.model.history import History, RottenBlock
from flc_udp.model.tags import Tags
from flc_udp.model.units import Micros, Millis
from flc_udp.wire import packets as wire
from flc_udp.wire.packets import Ack, Packet, Ping
from flc_udp.wire.rows import MemberRow


class Replica:
    """Decides, and carries nothing out. Times are whole µs of one monotonic clock."""

    def __init__(
        self,
        settings: Settings,
        me: MemberRow,
        history: History,
        random: Random,
        now: Micros,
        buffer_bytes: int = BUFFER_BYTES,
    ) -> None:
        """So many `buffer_bytes` of datagrams may wait for this node."""
        self._standing = Standing(history.heads, history.floor, history.pruned_below)
        self._shared = Shared(settings, self._standing, random)
        self._membership = Membership(self._shared, me, now)
        self._members = self._membership.members
        self._links = Links(settings.links_max, buffer_bytes)
        self._budget = Budget()
        self._receipts_of: dict[LogId, Receipts] = {}
        """Of each log of this run."""
        self._healing = Healing(self._shared, self._members)
        self._id = me.id
        self._runs_then: list[tuple[NodeId, int]] = []
        """The live members and their boot nonces, as the links last followed them."""
        self._log_side = LogSide(self._shared, history, self._members, self._links, now)

    # --- People -----------------------------------------------------------------------------------

    def join(self, seeds: Iterable[Address], now: Micros) -> None:
        """Ask all these addresses at once to be let into the cluster, and silent ones again."""
        self._membership.join(seeds, now)

    def acquaint(self, rows: Iterable[MemberRow], now: Micros) -> None:
        """Know all these members already, with nothing to tell: a simulated cluster begins so."""
        for row in rows:
            if row is not self.me:
                self._members.apply(row, now)
        self._members.news.clear()

    def leave(self, now: Micros) -> None:
        """Go in order. `has_left` tells when the node may stop."""
        self._membership.leave(now)

    def has_left(self, now: Micros) -> bool:
        """Whether enough members know that this node leaves, or it has waited long enough."""
        return self._membership.has_left(now)

    def forget(self, node: NodeId, now: Micros) -> bool:
        """Take a member that is suspect or dead for one that left. False: it is neither."""
        return self._membership.forget(node, now)

    def retag(self, tags: Tags, now: Micros) -> None:
        """This node has these tags from now on."""
        self._membership.claims.retag(tags, now)

    def held_wall(self, wall: Millis, now: Micros) -> Millis:
        """The wall that posts go by: this node's, held to those of the members it hears."""
        return self._shared.walls.held(wall, now)

    def stamp_limit(self, wall: Millis, now: Micros) -> int:
        """The stamp from which on nothing may be deleted: it is too far ahead of the clock."""
        self._shared.walls.own = wall
        return self._shared.walls.stamp_limit(now)

    def post(
        self,
        room: str,
        author: str,
        bodies: Sequence[bytes],
        wall: Millis,
        *,
        receipt: bool = False,
    ) -> Block:
        """Decide a block of this node's own: as many of these messages as fit into one, in order.

        It is sent after its commit. `bodies` are packed (`block.pack_body`), `wall` is in ms since
        1970, and `receipt` asks every member to say when it holds the block. Raises FlcError; a
        refusal leaves no gap in the log.
        """
        return self._log_side.post(room, author, bodies, wall, receipt=receipt)

    def watch(self, dot: Dot, needed: int | None, now: Micros, ended: list[Wait]) -> Wait:
        """Wait until others durably hold a message of this run. Then it comes into `ended`.

        `needed` is the number of others; None means all that are alive or suspect now.
        """
        live = self._members.live_by_id()
        needed = len(live) if needed is None else needed
        return self._receipts(dot.log).watch(dot.seq, needed, live, now, ended)

    def sync(self, nodes: Sequence[NodeId], now: Micros) -> list[NodeId]:
        """Compare histories now with these members, or with a few; return those it asks."""
        exchange = self._log_side.repair.exchange
        asked = exchange.sync(nodes, now)
        for node in asked:
            self._membership.detector.probe(node, now)
        return asked

    # --- The timer --------------------------------------------------------------------------------

    @property
    def wake_at(self) -> int:
        """When `wake` is due, in µs. A time in the past is due at once."""
        machines = (self._membership, self._log_side, self._healing)
        receipts = (receipts.wake_at for receipts in self._receipts_of.values())
        return min(*(machine.wake_at for machine in machines), *receipts)

    def wake(self, now: Micros) -> None:
        """Do what is due at `now`."""
        self._membership.wake(now)
        self._log_side.wake(now)
        self._healing.wake(now)
        for receipts in self._receipts_of.values():
            for node in receipts.take_due(now):
                self._membership.detector.probe(node, now)

    # --- The network ------------------------------------------------------------------------------

    def receive(
        self,
        packets: Sequence[Packet],
        sender: NodeId,
        source: Address,
        wall: Millis,
        now: Micros,
    ) -> None:
        """Take the packets of one opened datagram.

        They come from the node `sender` at the address `source`. `wall` is this node's clock, in ms
        since 1970, which visitors ask for.
        """
        self._shared.walls.own = wall
        if sender == self.me.id:
            self._shared.drops[Drop.OWN_DATAGRAM] += 1
            self._membership.receive_own(packets, source, now)
            return
        out, offences = self._shared.out, self._shared.offences
        offences.begin()
        for packet in packets:
            if not self._budget.allows(source, packet, now):
                self._shared.drops[Drop.REPLY_BUDGET] += 1
                continue
            before = len(out)
            self._receive(packet, sender, source, wall, now)
            if len(out) > before:
                self._budget.drew(source, packet, out[before:], now)
        offences.end(sender, source, now)

    def _receive(  # noqa: C901, PLR0912  # which machine hears of what, on one screen
        self, packet: Packet, sender: NodeId, source: Address, wall: Millis, now: Micros
    ) -> None:
        log_side, repair = self._log_side, self._log_side.repair
        match packet:
            case wire.Rumor():
                log_side.receive_rumor(packet, sender, source, now)
            case wire.Replay(nonce) if self._healing.is_answer(nonce):
                self._healing.receive_replay(packet, now)
            case wire.Replay():
                log_side.receive_replay(packet, sender, now)
            case wire.Piece() if not self._healing.receive_piece(packet, now):
                log_side.receive_piece(packet, sender, now)
            case wire.Piece():
                pass
            case Ping() | Ack():
                self._receive_probe(packet, sender, source, wall, now)
            case wire.Prune():
                self._links.prune(sender)
            case wire.Pull():
                if packet.graft:
                    self._links.graft(sender)
                repair.receive_pull(packet, source)
            case wire.Have():
                repair.receive_have(packet, sender, now)
            case wire.Ranges():
                repair.exchange.receive_ranges(packet, source)
            case wire.Digest():
                repair.exchange.receive_digest(packet, sender, source, now)
            case wire.ReplayEnd():
                if not self._healing.is_answer(packet.nonce):
                    repair.receive_end(packet, sender, now)
            case wire.BasePull():
                self._shared.out.append(StreamBase(source, packet))
            case wire.Base():
                repair.adoption.take.heard(packet, sender, now)
            case wire.BaseEnd():
                repair.adoption.receive_end(packet, sender, source, now)
            case wire.Taken():
                self._links.taken(sender, packet, now)
            case wire.Receipt(log, seq):
                self._receive_held(log, sender, seq, now)
            case wire.Hello() | wire.Cookie():
                pass  # They concern sessions, which the Node has (`waist/sessions`).
            case _:  # All that is left is about liveness.
                self._membership.receive(packet, sender, source, wall, now)

    def _receive_probe(
        self,
        probe: Ping | Ack,
        sender: NodeId,
        source: Address,
        wall: Millis,
        now: Micros,
    ) -> None:
        self._membership.receive(probe, sender, source, wall, now)
        if isinstance(probe, Ack):
            # An ack that this node did not ask for, or not about one log, may be of a former run.
            asked = self._membership.detector.asked_about(probe.nonce)
            self._receive_held(asked, sender, probe.held, now)
        exchange = self._log_side.repair.exchange
        exchange.compare(probe.root, probe.catching_up, sender, source, now)

    def _receive_held(self, log: LogId, sender: NodeId, seq: int, now: Micros) -> None:
        # Nobody is believed to hold more than what is durable here.
        head = self._standing.held(log)
        if self.is_own(log) and sender in self._members.live_by_id() and seq <= head:
            self._receipts(log).receive(sender, seq, head, now)

    def _receipts(self, log: LogId) -> Receipts:
        found = self._receipts_of.get(log)
        if found is None:
            # Those of a log that this run no longer goes on with are forgotten.
            self._receipts_of = {at: r for at, r in self._receipts_of.items() if self.is_own(at)}
            found = self._receipts_of[log] = Receipts()
        return found

    # --- What became of its decisions, and how the machine does -----------------------------------

    def committed(self, blocks: Sequence[Block], first_position: int, now: Micros) -> None:
        """These blocks are durable, their messages at the positions from `first_position` on."""
        self._log_side.committed(blocks, first_position, now)

    def rebuild(self, history: History, now: Micros) -> None:
        """A commit failed, and `history` is what the log really holds: begin anew from that."""
        is_paused = self._log_side.is_paused
        self._receipts_of.clear()
        self._rebuild_log_side(history, now)
        self._log_side.begin_log()
        self._log_side.is_paused = is_paused

    def pause(self) -> None:
        """Take in no message until `adopted`, because another node's base is being taken."""
        self._log_side.is_paused = True

    def adopted(self, history: History | None, now: Micros) -> None:
        """The log took the base and is this now. None: it could not, and nothing changed."""
        self._log_side.is_paused = False
        if history is not None:
            self._rebuild_log_side(history, now)

    def _rebuild_log_side(self, history: History, now: Micros) -> None:
        self._standing.reset(history.heads, history.floor, history.pruned_below)
        self._healing.rebuilt(history)
        self._log_side = LogSide(self._shared, history, self._members, self._links, now)

    def rotten(self, blocks: list[RottenBlock], now: Micros) -> None:
        """These blocks have changed on the disk: fetch them anew."""
        self._healing.found(blocks, now)

    def healed(self, blocks: Sequence[Block]) -> None:
        """These blocks were written anew."""
        self._healing.healed(blocks)

    def healing_failed(self, blocks: Sequence[Block], now: Micros) -> None:
        """These blocks could not be written anew."""
        self._healing.failed(blocks, now)

    def floor_moved(self, floor: int) -> None:
        """The log deleted all messages below the stamp `floor`."""
        self._standing.pruned_below = floor
        self._standing.floor = max(self._standing.floor, floor)
        self._healing.floor_moved(floor)

    def stalled(self, lag_us: int, now: Micros) -> None:
        """This node did not run for as long as that, at most. It doubts itself first."""
        self._membership.stalled(lag_us, now)

    def slow_commit(self, now: Micros) -> None:
        """A commit took so long that this node may be the slow one."""
        health = self._membership.detector.health
        health.note(Change.SLOW_COMMIT, now)

    # --- The end of a turn ------------------------------------------------------------------------

    def end_turn(self, now: Micros) -> list[Effect]:
        """Everything that was decided since the last turn, in the order it is to be carried out."""
        self._follow_members()
        self._follow_identity()
        effects = self._log_side.end_turn(now)
        self._membership.push_news(now)
        effects += self._shared.out
        effects += self._log_side.rumors.take(self._links, now)
        self._shared.out.clear()
        return effects

    def _follow_members(self) -> None:
        live = self._members.live_by_id()
        runs = [(node, member.row.boot) for node, member in live.items()]
        if not self._membership.claims.changed or runs == self._runs_then:
            return
        self._links.refill(self.me.id, self._members.live())
        for node, _ in self._runs_then:
            if node not in live:
                for receipts in self._receipts_of.values():
                    receipts.drop(node)
        self._runs_then = runs

    def _follow_identity(self) -> None:
        """Under a new id a new log begins, whose first message says whose it is."""
        if self.me.id != self._id:
            self._id = self.me.id
            self._log_side.begin_log()
            self._receipts_of.clear()

    # --- What may be seen of it -------------------------------------------------------------------

    @property
    def me(self) -> MemberRow:
        """This node's own row."""
        return self._members.me.row

    @property
    def root(self) -> bytes:
        """The root of all durable logs."""
        return self._standing.table.root

    @property
    def uncommitted(self) -> int:
        """Blocks that are decided and not durable yet."""
        return self._log_side.uncommitted

    @property
    def catching_up(self) -> bool:
        """Whether so much is missing that nobody should be sent here to read."""
        return self._standing.catching_up

    @property
    def behind(self) -> int:
        """About how many messages of others are still to be taken in."""
        log_side = self._log_side
        for_disk = max(log_side.uncommitted - self._shared.settings.commit_blocks_max, 0)
        return log_side.repair.wants.to_go + log_side.causal.held_messages + for_disk

    def push_room(self, now: Micros) -> int | None:
        """How many bytes of posts most peers have room for. None: there is no limit."""
        return self._links.room(now)

    @property
    def log(self) -> LogId:
        """The log that this run spoke in last. It is all zeros before this run's first post."""
        return self._standing.log

    def is_own(self, log: LogId) -> bool:
        """Whether a log is one of this run, which goes on."""
        return log in self._standing.own

    def addresses(self) -> Iterator[Address]:
        """The addresses of all members, those that live first."""
        for is_live in (True, False):
            yield from (m.row.address for m in self._members if m.is_live == is_live)

    def live_rows(self) -> list[MemberRow]:
        """The rows of the other members that are alive or suspect."""
        return [member.row for member in self._members.live()]

    def member(self, node: NodeId, now: Micros) -> MemberFacts | None:
        """What is known of one other member. None: there is none with this id."""
        found = None if node == self.me.id else self._members.get(node)
        if found is None:
            return None
        receipts = self._receipts(self._standing.log)
        return peer_facts(found, self._standing, self._links, receipts, now)

    def repair_facts(self, now: Micros) -> RepairFacts:
        """What is missing here. It costs the same however many members there are."""
        return repair_facts(self._log_side, self._healing, now)

    def drops(self) -> Counter[Drop]:
        """What was not taken, by reason."""
        return self._shared.drops.copy()

    def facts(self, now: Micros) -> Facts:
        """All that status, metrics, hooks, the simulator and tests may look at."""
        standing, me, health = self._standing, self._members.me, self._membership.detector.health
        receipts = self._receipts(standing.log)
        own = MemberFacts(me.row, now - me.since, None, health.score, standing.catching_up)
        others = (
            peer_facts(member, standing, self._links, receipts, now)
            for member in self._members
            if member is not me
        )
        return Facts(
            me=me.row,
            log=standing.log,
            members=(own, *others),
            members_root=self._members.table.root,
            health=health_facts(health, now),
            root=self.root,
            logs=len(standing.table),
            messages=standing.messages,
            rooms=len(self._log_side.causal.frontiers),
            floor=standing.floor,
            repair=self.repair_facts(now),
            uncommitted=self.uncommitted,
            catching_up=standing.catching_up,
            is_leaving=self._membership.is_leaving,
            drops=self.drops(),
            offences=self._shared.offences.lately(now),
            carried=carried_rooms(
                self._log_side.causal, self._log_side.carried_by, self._shared.walls.far_stamp
            ),
        )
