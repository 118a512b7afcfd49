"""Each checker catches the bug it is there for: the code under test is broken on purpose."""

from collections.abc import Callable, Sequence

import pytest

from flc_udp.config import Settings
from flc_udp.core.causal import Arrival, Causal
from flc_udp.core.effects import Deliver, Effect
from flc_udp.core.liveness.detector import Detector
from flc_udp.core.liveness.members import MemberTable
from flc_udp.core.log_side import LogSide
from flc_udp.core.push.receipts import Receipts, Wait
from flc_udp.core.repair.anti_entropy import AntiEntropy
from flc_udp.core.repair.healing import Healing
from flc_udp.core.repair.wants import Wants
from flc_udp.core.replica import Replica
from flc_udp.model.block import Block, pack_body
from flc_udp.model.dots import Dot, LogId, NodeId
from flc_udp.model.errors import StoreFailed
from flc_udp.model.history import Head
from flc_udp.model.units import Micros
from flc_udp.sim.checks import Follower
from flc_udp.sim.claims import ClaimChecks
from flc_udp.sim.disk import Fate, put
from flc_udp.sim.network import CALM, Faults
from flc_udp.sim.plan import Plan
from flc_udp.sim.play import Play
from flc_udp.sim.violation import Violation
from flc_udp.sim.world import NotConverged, World
from flc_udp.store.log import Log, Retained
from flc_udp.store.once import find
from flc_udp.store.rot import Rot
from flc_udp.store.writer_memory import UPSERT_CLOCKS
from flc_udp.waist.posts import Posts, Say
from flc_udp.waist.says import Says
from flc_udp.wire.packets import Ack, Digest, Have, Packet, Ping, Ranges, Receipt

Patch = pytest.MonkeyPatch

WORDS = ("", "one", "two", "three")


def converse(faults: Faults = CALM) -> None:
    """Two talk while the third is cut off, then all are together again."""
    with World("abc", 1, faults) as world:
        world.settle()
        world.cut("a", "c")
        world.cut("b", "c")
        for number in range(4):
            world.say("ab"[number % 2], "ops", str(number))
            world.run(50)
        world.mend("b", "c")
        world.say("b", "ops", "last")
        world.heal()
        world.settle(20_000)


def speak_once_restored() -> None:
    """A node that spoke gets an old disk, and speaks again before it has looked around."""
    with World("abc", 1) as world:
        world.settle()
        world.machines["a"].disk.keep_snapshot()
        world.say("a", "ops", "one")
        world.settle()
        world.crash("a")
        world.machines["a"].put_back()
        world.restart("a")
        world.say("a", "ops", "another")
        world.settle()


def crash_and_return() -> None:
    """A node that spoke dies and comes back."""
    with World("abc", 1) as world:
        world.say("a", "ops", "one")
        world.run(100)
        world.crash("a")
        world.restart("a")
        world.settle()


def patch_effects(monkeypatch: Patch, change: Callable[[Effect], list[Effect]]) -> None:
    """Give the Node other effects than the Replica decided."""
    end_turn = Replica.end_turn

    def changed(replica: Replica, now: int) -> list[Effect]:
        return [other for effect in end_turn(replica, now) for other in change(effect)]

    monkeypatch.setattr(Replica, "end_turn", changed)


def test_the_unbroken_code_passes() -> None:
    """The plays by which the others are judged break no promise."""
    converse()
    converse(Faults(wall_offset_ms_max=3_600_000))
    speak_once_restored()
    crash_and_return()
    repeat_after_a_crash()
    talk_to_a_slow_disk()
    rot_and_heal()
    outlast_a_jump()


def test_causes_that_are_not_waited_for(monkeypatch: Patch) -> None:
    """A node that looks at a log's order alone writes a message before its causes."""

    def blocker(_: Causal, block: Block, head: Head) -> Dot | None:
        return None if head.seq == block.first - 1 else Dot(block.log, block.first - 1)

    monkeypatch.setattr(Causal, "_blocker", blocker)
    with pytest.raises(Violation, match="written before its causes"):
        converse()


def test_causes_that_are_not_named(monkeypatch: Patch) -> None:
    """An author that names no causes is found out by what it had been shown."""
    monkeypatch.setattr(Causal, "causes_of_next", lambda *_: {})
    with pytest.raises(Violation, match="which its author had been shown"):
        Play(Plan(nodes=5, loss=25, seconds=5, seed=1, rate=100)).run()


def test_showing_in_another_order(monkeypatch: Patch) -> None:
    """What is shown is what was written, in that order."""

    def backwards(effect: Effect) -> list[Effect]:
        if isinstance(effect, Deliver):
            return [Deliver(effect.position, tuple(reversed(effect.blocks)))]
        return [effect]

    patch_effects(monkeypatch, backwards)
    with pytest.raises(Violation, match="shown, and due was"):
        converse()


def test_showing_a_part_of_a_block(monkeypatch: Patch) -> None:
    """Each message of a block is shown."""

    def shortened(effect: Effect) -> list[Effect]:
        if isinstance(effect, Deliver):
            cut = [b._replace(bodies=b.bodies[:2], last=b.first + 1) for b in effect.blocks]
            return [Deliver(effect.position, tuple(cut))]
        return [effect]

    patch_effects(monkeypatch, shortened)
    with World("ab", 1) as world:
        world.settle()
        world.machines["a"].say("ops", "one", "two", "three")
        with pytest.raises(Violation, match="was never shown"):
            world.settle()


def test_not_showing(monkeypatch: Patch) -> None:
    """What was written and never shown is missed at the end."""
    patch_effects(monkeypatch, lambda effect: [] if isinstance(effect, Deliver) else [effect])
    with pytest.raises(Violation, match="was never shown"):
        converse()


def test_sending_before_the_commit(monkeypatch: Patch) -> None:
    """What is its own leaves a node only after its author's disk has it."""
    keep = LogSide._keep  # noqa: SLF001  # the bug is put where it would be

    def hastily(log_side: LogSide, decided: list[Arrival]) -> None:
        own = [arrival._replace(forward=True) for arrival in decided]
        keep(log_side, own)

    monkeypatch.setattr(LogSide, "_keep", hastily)
    with pytest.raises(Violation, match="has not committed it"):
        converse(Faults(commit_us_min=1_000, commit_us_max=60_000))


@pytest.mark.parametrize(
    ("kind", "problem"),
    [
        (Ping, "tells a root of what it does not hold"),
        (Ack, "tells a root of what it does not hold"),
        (Ranges, "tells ranges of what it does not hold"),
        (Digest, "tells a digest of what it does not hold"),
        (Have, "which it does not hold"),
        (Receipt, "gives a receipt for"),
    ],
)
def test_claiming_before_the_commit(monkeypatch: Patch, kind: type[Packet], problem: str) -> None:
    """Whatever says that a node holds something is sent after the commit."""
    keep, look = LogSide._keep, ClaimChecks._problem  # noqa: SLF001  # the bug is put where it would be

    def boastfully(log_side: LogSide, decided: list[Arrival]) -> None:
        keep(log_side, decided)
        blocks = [arrival.block for arrival in decided]
        log_side._standing.commit(blocks)  # noqa: SLF001
        log_side._send_receipts()  # noqa: SLF001
        for block in blocks:
            log_side.rumors.have(block, None, Micros(0))

    def look_at_one_kind(claims: ClaimChecks, follower: Follower, packet: Packet) -> str | None:
        return look(claims, follower, packet) if type(packet) is kind else None

    monkeypatch.setattr(LogSide, "_keep", boastfully)
    monkeypatch.setattr(ClaimChecks, "_problem", look_at_one_kind)
    monkeypatch.setattr("flc_udp.core.repair.exchange.DIGEST_ROWS_FEW", 0)
    with pytest.raises(Violation, match=problem):
        talk_to_a_slow_disk()


def talk_to_a_slow_disk() -> None:
    """People talk faster than the disks write, so that something is always decided only."""
    with World("abcd", 2, Faults(commit_us_min=20_000, commit_us_max=60_000, loss=0.3)) as world:
        for number in range(400):
            world.say("abc"[number % 3], "ops", str(number), receipt=True)
            world.run(25)


def test_acking_more_than_there_is(monkeypatch: Patch) -> None:
    """An ack speaks of the log that was asked about, as far as the disk has it."""
    ack = Detector.ack
    monkeypatch.setattr(Detector, "ack", lambda own, nonce, held: ack(own, nonce, held + 1))
    with World("ab", 1) as world:
        world.say("a", "ops", "hi")
        with pytest.raises(Violation, match=r"acks .* which it does not hold"):
            world.run(5_000)


@pytest.mark.parametrize("size", [10, 5_000])
def test_sending_what_has_changed_on_the_disk(monkeypatch: Patch, size: int) -> None:
    """What is read for others is what was said."""
    for module in ("rot", "read_replay"):
        monkeypatch.setattr(f"flc_udp.store.{module}.is_sound", lambda *_: True)
    with World("ab", 1, late="b") as world:
        world.say("a", "ops", "x" * size)
        world.run(100)
        world.machines["a"].rot()
        world.start("b")
        with pytest.raises(Violation, match=r"which has changed|has not committed it"):
            world.run(20_000)


def test_naming_holders_that_are_none(monkeypatch: Patch) -> None:
    """Who is told that others hold it can rely on that."""

    def trustingly(_: Receipts, wait: Wait, node: NodeId) -> None:
        if wait.waited_for.pop(node, 0) is None:
            wait.held_by.append(node)

    monkeypatch.setattr(Receipts, "_tell", trustingly)
    with World("abc", 1) as world:
        world.settle()
        world.partition("a")
        world.machines["a"].say("ops", "hi", wait="all")
        with pytest.raises(Violation, match="is said to be held by"):
            world.run(1_000)


def test_acknowledging_before_the_commit(monkeypatch: Patch) -> None:
    """What is answered as said is on the disk."""

    def rashly(
        posts: Posts, _now: int, _room: object, _behind: int, _why: object, say: Say
    ) -> None:
        waiting = posts.waiting
        while waiting:
            post = waiting.popleft()
            block = say(post.room, post.author, [pack_body(body) for body in post.bodies])
            post.log, post.low, post.high, post.durable = block.log, *[block.first] * 3
            post.places = [0]
            post.done()

    monkeypatch.setattr(Posts, "take", rashly)
    with pytest.raises(Violation, match="not on its disk"):
        converse()


def repeat_after_a_crash() -> None:
    """A client whose node crashes before it answers says the same again, and then more."""
    with World("ab", 1) as world:
        world.settle()
        world.fate("a", Fate.CRASH_AFTER)
        a = world.machines["a"]
        a.say("ops", "one", "two", once=("ann", 1))
        world.run(100)
        world.restart("a")
        for numbers in ((1, 2, 3), (2,)):
            said = a.say("ops", *(WORDS[n] for n in numbers), once=("ann", numbers[0]))
            world.settle()
            assert all(isinstance(utterance.answer, Dot) for utterance in said)
        assert world.history("b", "ops") == ["one", "two", "three"]


def test_a_client_that_is_forgotten(monkeypatch: Patch) -> None:
    """A number whose dot is not kept in the message's transaction is said twice."""
    monkeypatch.setattr("flc_udp.store.log.write_once", lambda *_: None)
    with pytest.raises(Violation, match="says number 1 of ann again"):
        repeat_after_a_crash()


def test_a_number_that_is_forgotten_too_early(monkeypatch: Patch) -> None:
    """A number that was said lately is answered with its dot."""
    monkeypatch.setattr("flc_udp.store.reader.find", lambda _said, _n, count: ([None] * count, 2))
    with pytest.raises(Violation, match="number 1 of ann is called forgotten"):
        repeat_after_a_crash()


def test_a_number_that_is_answered_with_another_dot(monkeypatch: Patch) -> None:
    """The dot that is answered to a repeat is that of the first time."""

    def off_by_one(said: bytes, n: int, count: int) -> tuple[list[Dot | None], int]:
        return find(said, n + 1, count)

    monkeypatch.setattr("flc_udp.store.reader.find", off_by_one)
    with pytest.raises(Violation, match="acknowledged and not on its disk"):
        repeat_after_a_crash()


def test_a_client_that_never_gets_an_answer(monkeypatch: Patch) -> None:
    """Once nothing fails any more, whoever repeats what has no answer gets one."""
    monkeypatch.setattr(Says, "_look_up", lambda *_: raise_forever())
    with pytest.raises(NotConverged, match="no answer within"):
        Play(Plan(nodes=3, seconds=2, seed=2, faults="all")).run()


def raise_forever() -> None:
    """A read that fails."""
    raise StoreFailed("read", "the disk is away")


def test_minting_a_dot_twice(monkeypatch: Patch) -> None:
    """With one log for all its lives, a node whose disk was put back mints a dot again."""
    monkeypatch.setattr(LogSide, "_log_for", lambda *_: LogId(b"for ever"))
    with pytest.raises(Violation, match="two contents"):
        speak_once_restored()


def test_stamps_that_do_not_rise(monkeypatch: Patch) -> None:
    """A stamp from the clock alone falls behind its causes where clocks are wrong."""

    def stamp(wall_ms: int, previous: int, _causes_greatest: int) -> int:
        return max(wall_ms << 16, previous + 1)

    monkeypatch.setattr("flc_udp.core.log_side.next_stamp", stamp)
    with pytest.raises(Violation, match="a stamp that is not above"):
        converse(Faults(wall_offset_ms_max=3_600_000))


def test_a_log_that_lies(monkeypatch: Patch) -> None:
    """What the disk was to hold is looked for when a node starts from it."""
    append = Log.append

    def forgetfully(log: Log, blocks: Sequence[Block], *_: object) -> int:
        connection = log.connection  # it is the disk
        before = connection.serialize()
        first = append(log, blocks)
        put(connection, before)
        return first

    monkeypatch.setattr(Log, "append", forgetfully)
    with pytest.raises(Violation, match="not as it was left"):
        crash_and_return()


def rot_and_heal() -> None:
    """Bits flip on a disk, and somebody reads all that is on it."""
    with World("ab", 1) as world:
        for number in range(10):
            world.say("a", "ops", str(number))
        world.settle()
        world.machines["b"].rot(3)
        world.machines["b"].read_all()
        world.run(1)
        world.settle(20_000)


def test_showing_what_has_changed(monkeypatch: Patch) -> None:
    """Whoever reads is shown what was said, or nothing."""
    monkeypatch.setattr("flc_udp.store.rot.is_sound", lambda *_: True)
    with pytest.raises(Violation, match="is shown, and has changed on the disk"):
        rot_and_heal()


def test_healing_that_does_nothing(monkeypatch: Patch) -> None:
    """What has changed is healed once somebody has met it and others have it."""
    monkeypatch.setattr(Healing, "_take", lambda *_: None)
    with pytest.raises(NotConverged, match="still heals"):
        rot_and_heal()


def test_rot_that_nobody_notices(monkeypatch: Patch) -> None:
    """At the end of a play no block is changed on any disk."""
    monkeypatch.setattr(Rot, "met", lambda *_: None)
    with pytest.raises(NotConverged, match="not healed within"):
        Play(Plan(nodes=3, seconds=2, rate=50, seed=6, faults="all")).run()


def outlast_a_jump() -> None:
    """A clock is set by two years while its node is off, and much later everything is gone."""
    with World("ab", 1, settings=Settings(retention_age_s=20)) as world:
        world.say("a", "ops", "hi")
        world.settle()
        world.crash("a")
        world.machines["a"].jump_clock(2)
        world.restart("a")
        world.run(10_000)
        assert world.history("a", "ops") == ["hi"]
        world.run(20_000)
        for name in "ab":
            world.machines[name].outlast(20)


def test_a_clock_that_makes_messages_old(monkeypatch: Patch) -> None:
    """Whatever clocks show, nothing is deleted before its time."""
    monkeypatch.setattr("flc_udp.waist.pruning.APART_MAX_MS", 1 << 60)
    with pytest.raises(Violation, match="pruned too early"):
        outlast_a_jump()


def test_keeping_what_is_too_old(monkeypatch: Patch) -> None:
    """What is to be kept for a while only is gone in the end."""
    monkeypatch.setattr(Log, "retain", lambda *_, **_how: Retained(0, 0, more=False))
    with pytest.raises(Violation, match="is kept for longer than it should be"):
        outlast_a_jump()


def test_holding_back_without_a_limit(monkeypatch: Patch) -> None:
    """What waits for its causes is bounded."""
    monkeypatch.setattr(Causal, "_drop_latest", lambda *_: None)
    with pytest.raises(Violation, match=r"holdback: .*, and the limit is 16"):
        # Low limits, and enough members that each of them may send its part.
        Play(Plan(nodes=5, loss=60, seconds=3, rate=300, seed=28, faults="all")).run()


@pytest.mark.parametrize(
    ("limit", "what"),
    [
        ("INBOX_MAX", "inbox"),
        ("WAITING_MAX", "replays"),
        ("PULLS_MAX", "pulls"),
        ("PARTIAL_BYTES_MAX", "bytes of pieces"),
        ("ROTTEN_MAX", "rotten blocks"),
    ],
)
def test_keeping_more_than_is_allowed(monkeypatch: Patch, limit: str, what: str) -> None:
    """Each queue is looked at. No play fills them, so here the limit is wrong, and not the code."""
    monkeypatch.setattr(f"flc_udp.sim.bounds.{limit}", -9)
    with pytest.raises(Violation, match=rf"{what}: .*, and the limit is -"):
        converse()


def test_clocks_that_are_not_kept(monkeypatch: Patch) -> None:
    """A room's vector clock in the store is compared with its messages."""
    monkeypatch.setattr(UPSERT_CLOCKS, "write", lambda *_: None)
    with pytest.raises(Violation, match="the clock of ops"):
        converse()


def test_repair_that_does_nothing(monkeypatch: Patch) -> None:
    """Without pulls, nodes that missed something never agree, and that is said."""
    monkeypatch.setattr(AntiEntropy, "receive_pull", lambda *_: None)
    with pytest.raises(NotConverged, match="not converged after 20000 ms"):
        converse()


def test_gaps_that_are_not_noticed(monkeypatch: Patch) -> None:
    """The same where nothing is ever wanted."""
    monkeypatch.setattr(Wants, "add", lambda *_, **__: None)
    with pytest.raises(NotConverged, match="histories differ"):
        converse()


def test_members_that_are_not_believed(monkeypatch: Patch) -> None:
    """Nodes that do not agree on who is alive are not at rest."""
    monkeypatch.setattr(MemberTable, "apply", lambda *_, **_how: False)
    with pytest.raises(NotConverged, match="does not see exactly"):
        converse()
