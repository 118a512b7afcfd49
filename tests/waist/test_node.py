"""A node on a ground of lists: its one order, its batches, and what it does when the disk fails."""

from collections.abc import Sequence

import msgpack
import pytest

from flc_udp.config import PULL_BYTES_LEAST, SEAL_BYTES, STAMP_LIMIT
from flc_udp.core.push.window import ANSWERS_WITHIN_US
from flc_udp.model.block import decode
from flc_udp.model.dots import BEGINNING, Dot
from flc_udp.model.errors import Drop, StoreFailed
from flc_udp.waist.commits import RETRY_US
from flc_udp.waist.inbox import INBOX_MAX, OPENED_A_TURN
from flc_udp.waist.node import DISK_LOOK_US
from flc_udp.waist.notices import CommitFailed
from flc_udp.wire.packets import (
    BasePull,
    Piece,
    Ping,
    Pull,
    Replay,
    ReplayEnd,
    Rumor,
    Taken,
    Update,
)
from flc_udp.wire.packing import pack
from flc_udp.wire.rows import State, Want
from flc_udp.wire.seal import Seal, keyring
from tests.model.stories import Story
from tests.waist.stage import BOB, Stage, stage


class TestOrder:
    def test_commit_send_show(self) -> None:
        """What is said is durable first, then its author is told, then others, then it is shown."""
        ann = stage()
        ann.say("hi")
        ann.turn()

        assert ann.trace == [("commit", ("hi",))]

        ann.finish()

        assert ann.trace == [
            ("commit", ("hi",)),
            ("answer", "durable"),
            ("sent", "Rumor"),
            ("show", (1, "hi")),
        ]

    def test_a_said_names_the_dot_and_the_position(self) -> None:
        """Of each message of a batch its own."""
        ann = stage()
        posts = [ann.say(f"{n}") for n in range(3)]
        ann.turn()
        ann.finish()

        (block,) = ann.disk.blocks
        assert [post.dots() for post in posts] == [{0: message.dot} for message in block.messages()]
        assert [post.position for post in posts] == [1, 2, 3]

    def test_a_foreign_message_is_shown_after_its_commit(self) -> None:
        """Receiving starts a commit; nothing is shown before its end."""
        ann = stage()
        ann.receive(Rumor(False, 0, (Story().say("bob", body="hi").encoded,)))
        ann.turn()

        assert ann.trace == [("commit", ("hi",))]

        ann.finish()

        assert ann.trace[-1] == ("show", (1, "hi"))

    def test_a_ping_is_answered_while_a_commit_is_under_way(self) -> None:
        """Membership waits for nothing."""
        ann = stage()
        ann.say("hi")
        ann.turn()
        ann.receive(Ping(1, bytes(8), bytes(8), False, bytes(8)))
        ann.turn()

        assert ("sent", "Ack") in ann.trace

    def test_a_new_incarnation_is_saved(self) -> None:
        """A refutation outlives a restart."""
        ann = stage()
        me = ann.node.me
        ann.receive(Update((me._replace(state=State.SUSPECT),)))
        ann.turn()

        assert [(me.id, me.incarnation + 1)] == ann.selves

        ann.turn(1_000)

        assert [(me.id, me.incarnation + 1)] == ann.selves


class TestBatches:
    def test_at_most_one_commit_is_under_way(self) -> None:
        """What is said meanwhile is one batch, the next."""
        ann = stage(commit_pause_ms=0)
        ann.say("0")
        ann.turn()
        for number in range(1, 10):
            ann.say(f"{number}")
            ann.turn(1_000)

        assert ann.trace == [("commit", ("0",))]

        ann.finish()

        assert ("commit", tuple(f"{n}" for n in range(1, 10))) in ann.trace
        assert len(ann.commits) == 1

    def test_a_batch_is_bounded_in_messages(self) -> None:
        """What does not fit goes into the next, in order."""
        ann = stage(commit_blocks_max=4)
        for number in range(10):
            ann.say(f"{number}", room=f"{number}")
        ann.turn()
        ann.finish_all()

        assert [len(what) for verb, what in ann.trace if verb == "commit"] == [4, 4, 2]
        assert [f"{n}" for n in range(10)] == ann.bodies()

    def test_between_two_commits_is_a_pause(self) -> None:
        """The first starts at once; the next when the pause is over, and a turn is due then."""
        ann = stage(commit_pause_ms=2)
        ann.say("0")
        ann.turn()
        ann.say("1")
        ann.finish()
        ann.turn(1_000)

        assert ann.commits == []
        assert ann.node.wake_at == 2_000

        ann.turn(1_000)

        assert len(ann.commits) == 1

    def test_a_refused_post_is_answered_at_once_and_stops_no_other(self) -> None:
        """Its neighbours are said."""
        ann = stage()
        good, bad, after = ann.say("a"), ann.say("x" * 65_537), ann.say("b")
        ann.turn()

        assert (good.answers, bad.is_refused, after.answers) == ([], True, [])

        ann.finish()

        assert ann.bodies() == ["a", "b"]
        assert (good.is_durable, bad.is_refused, after.is_durable) == (True, True, True)

    def test_once_keys_travel_with_their_messages(self) -> None:
        """In the batch of the message itself, with its dot."""
        ann = stage()
        ann.say("a")
        ann.say("b", once=("client", 7))
        ann.turn()
        (batch,) = ann.commits

        (block,) = batch.blocks
        assert (("client", 7, Dot(block.log, block.last)),) == batch.once


class TestFailedCommits:
    def failed(self) -> Stage:
        """A stage on which a commit has just failed."""
        ann = stage()
        ann.say("lost")
        ann.turn()
        ann.fail()
        return ann

    def test_every_waiting_post_is_answered_with_an_error_once(self) -> None:
        """Those of the batch and those decided after it."""
        ann = stage()
        first = ann.say("in the batch")
        ann.turn()
        second = ann.say("decided meanwhile")
        ann.turn()
        ann.fail()

        for post in (first, second):
            assert post.is_refused
            assert post.error is not None
            assert "disk full" in str(post.error)
            assert post.error.hint
        ann.turn(2 * RETRY_US)
        assert ann.commits == []
        assert ann.of_kind(Rumor) == []
        assert [len(first.answers), len(second.answers)] == [1, 1]

    def test_it_is_told_once(self) -> None:
        """A notice when it begins, not one for every attempt."""
        ann = self.failed()
        for _ in range(3):
            ann.turn(RETRY_US)
            ann.say("again")
            ann.turn(1)
            ann.fail()

        assert [n for n in ann.notices if isinstance(n, CommitFailed)] == [
            CommitFailed("disk full")
        ]
        assert ann.node.failing == "disk full"

    def test_the_node_is_read_only_and_alive_until_it_tries_again(self) -> None:
        """Posts are refused at once, pings answered."""
        ann = self.failed()
        post = ann.say("no")
        ann.receive(Ping(1, bytes(8), bytes(8), False, bytes(8)))
        ann.turn(RETRY_US // 2)

        assert post.is_refused
        assert ("sent", "Ack") in ann.trace
        assert ann.commits == []

    def test_it_recovers_by_itself(self) -> None:
        """After a second posts are taken again, in a new log, and a success ends the failing."""
        ann = self.failed()
        ann.turn(RETRY_US)
        post = ann.say("back")
        ann.turn(1)
        (batch,) = ann.commits
        ann.finish()

        assert post.is_durable
        assert batch.blocks[0].first == 1
        assert ann.node.failing is None
        assert ann.bodies() == ["back"]

    def test_what_others_say_meanwhile_is_committed_by_the_retry(self) -> None:
        """Without anybody posting: the retry is a deadline of the node's own."""
        ann = self.failed()
        ann.receive(Rumor(False, 0, (Story().say("bob", body="hi").encoded,)))
        ann.turn(1_000)

        assert ann.commits == []
        assert ann.node.wake_at <= ann.time + RETRY_US

        ann.turn(RETRY_US)
        ann.finish()

        assert ann.bodies() == ["hi"]

    def test_while_it_waits_to_retry_no_turn_is_due_at_once(self) -> None:
        """What is decided and may not be committed yet does not make the node spin."""
        ann = self.failed()
        ann.receive(Rumor(False, 0, (Story().say("bob", body="hi").encoded,)))
        for _ in range(20):
            ann.turn(1_000)

            assert ann.time < ann.node.wake_at

    def test_while_the_log_cannot_be_read_it_stays_read_only(self) -> None:
        """However long that lasts posts are refused at once, nothing is begun, nothing spins."""
        ann = stage()
        ann.say("lost")
        ann.turn()
        ann.node.commit_failed("disk full")
        for attempt in range(1, 6):
            assert ann.recoveries == attempt

            ann.node.recovery_failed("no such file")
            post = ann.say("no")
            ann.turn(RETRY_US // 2)

            assert post.is_refused
            assert "disk full; no such file" in str(post.error)
            assert len(ann.commits) == 1
            assert ann.time < ann.node.wake_at

            ann.turn(RETRY_US // 2)

        ann.commits.clear()
        ann.recover_now()
        ann.turn(RETRY_US)
        ann.say("back")
        ann.turn(1)
        ann.finish()

        assert ann.bodies() == ["back"]

    def test_what_was_undone_is_counted(self) -> None:
        """Messages of the failed batch, and those decided after it."""
        ann = stage()
        ann.say("in the batch")
        ann.turn()
        ann.say("decided meanwhile")
        ann.turn()
        ann.fail()

        assert ann.node.drops()[Drop.UNDONE_BY_FAILED_COMMIT] == 2
        assert ann.node.queued()["uncommitted"] == 0


class TestFloor:
    def test_posts_are_refused_before_the_disk_is_full(self) -> None:
        """With the numbers in the error, and within a second after there is room they are taken."""
        ann = stage(disk_free_bytes_min=1_000)
        ann.free = 999
        post = ann.say("no")
        ann.turn()

        assert post.is_refused
        assert post.error is not None
        assert "999" in str(post.error)
        assert "1000" in str(post.error)
        assert post.error.hint

        ann.free = 1_000
        ann.say("yes")
        ann.turn(DISK_LOOK_US)
        ann.finish()

        assert ann.bodies() == ["yes"]

    def test_repair_goes_on(self) -> None:
        """What others said is still taken."""
        ann = stage(disk_free_bytes_min=1_000)
        ann.free = 0
        ann.receive(Rumor(False, 0, (Story().say("bob", body="hi").encoded,)))
        ann.turn()
        ann.finish()

        assert ann.bodies() == ["hi"]


class TestWindow:
    """Posts wait for the room that a peer has for what is pushed to it."""

    WINDOW = 65_536

    def fill(self) -> Stage:
        """Bob answers, then reads no more; posts of twice a window were said."""
        ann = stage()
        ann.say("x" * 8_000)
        ann.turn()
        ann.finish()
        ann.receive(Taken(0, 0, self.WINDOW))
        for _ in range(2 * self.WINDOW // 1_000):
            ann.say("x" * 1_000)
        for _ in range(3):
            ann.turn(20_000)
            if ann.commits:
                ann.finish()
        return ann

    def test_what_he_has_no_room_for_is_not_taken_yet(self) -> None:
        """Whatever is taken fits: he is not made to pull."""
        ann = self.fill()
        pushed = sum(len(b) for rumor in ann.of_kind(Rumor) for b in rumor.blocks)  # type: ignore[attr-defined]

        assert pushed <= self.WINDOW
        assert ann.node.queued()["posts"]

    def test_it_is_taken_when_he_has_read_some(self) -> None:
        """As much as he has read, in order."""
        ann = self.fill()
        held = len(ann.bodies())
        ann.receive(Taken(self.WINDOW // 2, self.WINDOW // 2, self.WINDOW))
        ann.turn(20_000)
        ann.finish()

        assert self.WINDOW // 4 < 1_000 * (len(ann.bodies()) - held) <= self.WINDOW // 2 + 8_192

    def test_for_one_who_stands_still_nobody_waits(self) -> None:
        """He does not say how far he has read; what he lacks he will pull."""
        ann = self.fill()
        ann.turn(ANSWERS_WITHIN_US)
        ann.finish()

        assert not ann.node.queued()["posts"]


class TestJunk:
    def test_the_inbox_is_bounded(self) -> None:
        """Beyond it datagrams are dropped and counted; a few turns empty it, each due at once."""
        ann = stage()
        for _ in range(INBOX_MAX + 7):
            ann.node.datagram_received(b"junk", BOB.address)

        assert ann.node.drops()[Drop.INBOX_FULL] == 7
        assert ann.node.queued()["inbox"] == INBOX_MAX

        for turn in range(1, INBOX_MAX // OPENED_A_TURN + 1):
            ann.turn()
            left = INBOX_MAX - turn * OPENED_A_TURN
            assert ann.node.queued()["inbox"] == left
            assert (ann.node.wake_at <= ann.now()) == (left > 0)

    def test_every_drop_is_counted_by_its_reason(self) -> None:
        """Junk changes nothing, is answered by nothing, and can be seen."""
        ann = stage()
        other_key = Seal(keyring((b"o" * 32,), "flc"), b"eve's session 16")
        sealed = ann.seal.close(b"x")
        for datagram in (
            b"",
            b"\x09" + sealed[1:],
            other_key.close(b"x"),
            sealed[:-1] + bytes([sealed[-1] ^ 1]),
            ann.seal.close(b"\xc1"),
            ann.seal.close(msgpack.packb((BOB.id, (3,)))),
            ann.seal.close(msgpack.packb((BOB.id, (99,), (98, 1)))),
        ):
            ann.node.datagram_received(datagram, BOB.address)
        before = ann.node.root
        ann.turn()

        assert dict(ann.node.drops()) == {
            Drop.DATAGRAM_SIZE: 1,
            Drop.WIRE_VERSION_UNKNOWN: 1,
            Drop.KEY_UNKNOWN: 1,
            Drop.SEAL_BROKEN: 1,
            Drop.PAYLOAD_NOT_MSGPACK: 1,
            Drop.PACKET_TOO_SHORT: 1,
            Drop.KIND_UNKNOWN: 2,
        }
        assert ann.trace == []
        assert before == ann.node.root
        assert ann.node.counts["datagrams received"] == 7 + 1

    def test_a_datagram_of_its_own_is_not_heard(self) -> None:
        """Reflected to it, or of a clone."""
        ann = stage()
        payload = pack(b"ann-----", [Ping(1, bytes(8), bytes(8), False, bytes(8))], 1_355)[0]
        ann.node.datagram_received(ann.seal.close(payload), BOB.address)
        ann.turn()

        assert ann.trace == []


class TestReplays:
    def full(self, bodies: Sequence[str | bytes]) -> Stage:
        """A node that holds these."""
        ann = stage(body_bytes_max=1 << 20)
        for body in bodies:
            ann.say(body)
            ann.turn(1_000)
        ann.finish_all()
        ann.packets.clear()
        return ann

    def test_a_pull_is_answered_with_what_is_held_and_an_end(self) -> None:
        """In order, to who asked, under the nonce of the pull."""
        ann = self.full(["a", "b", "c"])
        log = ann.disk.blocks[0].log
        ann.receive(Pull(7, 10_000, False, 0, STAMP_LIMIT, (Want(log, 2, 9),)))
        ann.turn()
        replays = [p for p in ann.of_kind(Replay) if isinstance(p, Replay)]

        assert [decode(e).bodies for p in replays for e in p.blocks] == [("b",), ("c",)]
        assert [ReplayEnd(7, 2, STAMP_LIMIT, 0, (log,))] == ann.of_kind(ReplayEnd)
        assert {BOB.address} == {to for _, to in ann.packets}

    def test_a_log_that_cannot_be_read_answers_with_an_end(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Who pulled is not left waiting, and goes on where it was; a base has no such end."""

        def fail(*_: object) -> None:
            raise StoreFailed("read", "disk I/O error")

        ann = self.full(["a", "b"])
        log = ann.disk.blocks[0].log
        monkeypatch.setattr(ann.disk, "floor", fail)
        monkeypatch.setattr(ann.disk, "base_version", fail, raising=False)
        ann.receive(Pull(7, 10_000, False, 5, STAMP_LIMIT, (Want(log, 2, 9),)))
        ann.receive(BasePull(8, BEGINNING))
        ann.turn()

        assert [packet for packet, _ in ann.packets] == [ReplayEnd(7, 0, 5, 0, (log,))]
        assert ann.node.drops()[Drop.LOG_UNREADABLE] == 2

    def test_a_credit_is_kept_and_said_to_be_short(self) -> None:
        """No more than asked, except for one block where the credit is too small for any."""
        ann = self.full(["x" * 500] * 10)
        log = ann.disk.blocks[0].log
        ann.receive(Pull(7, 1_700, False, 0, STAMP_LIMIT, (Want(log, 1, 10),)))
        ann.turn()

        assert sum(len(p.blocks) for p in ann.of_kind(Replay) if isinstance(p, Replay)) == 3
        assert ann.of_kind(ReplayEnd) == [ReplayEnd(7, 3, ann.disk.blocks[3].stamp, 0, ())]

    def test_a_greedy_credit_is_bounded_by_our_own(self) -> None:
        """A puller cannot ask for everything at once."""
        ann = stage(pull_bytes_max=PULL_BYTES_LEAST)
        for _ in range(50):
            ann.say("x" * 4_000)
        ann.turn()
        ann.finish_all()
        ann.packets.clear()
        ann.receive(
            Pull(7, (1 << 64) - 1, False, 0, STAMP_LIMIT, (Want(ann.disk.blocks[0].log, 1, 50),))
        )
        ann.turn()

        assert sum(len(p.blocks) for p in ann.of_kind(Replay) if isinstance(p, Replay)) < 5

    def test_a_pull_of_nothing_held_is_ended(self) -> None:
        """So that another is asked."""
        ann = stage()
        ann.receive(
            Pull(
                7,
                10_000,
                False,
                0,
                STAMP_LIMIT,
                (Want(b"unknown-", 1, 9), Want(b"unknown-", 1, 1, (0, 3))),
            )
        )
        ann.turn()

        assert [ReplayEnd(7, 0, STAMP_LIMIT, 0, (b"unknown-",))] == ann.of_kind(ReplayEnd)

    def test_pieces_are_sent_by_number(self) -> None:
        """Those that were asked for and no others."""
        ann = self.full([b"x" * 20_000])
        log = ann.disk.blocks[0].log
        ann.receive(Pull(7, 100_000, False, 0, STAMP_LIMIT, (Want(log, 1, 1, (2, 3, 7, 7)),)))
        ann.turn()

        assert [p.number for p in ann.of_kind(Piece) if isinstance(p, Piece)] == [2, 3, 7]

    @pytest.mark.parametrize("budget", [1_200, 1_400, 8_192])
    def test_no_datagram_outgrows_its_budget(self, budget: int) -> None:
        """Seal included, whatever is sent."""
        ann = stage(packet_bytes_max=budget, body_bytes_max=1 << 20)
        for size in (1, 100, 1_000, 1_300, 5_000, 100_000):
            ann.say(b"x" * size)
        ann.turn()
        ann.finish_all()
        ann.receive(Pull(7, 1 << 20, False, 0, STAMP_LIMIT, (Want(ann.disk.blocks[0].log, 1, 6),)))
        ann.turn()

        assert budget >= max(ann.sizes)
        assert min(ann.sizes) > SEAL_BYTES


def test_a_turn_is_due_when_something_is() -> None:
    """Woken at every deadline, a node that has nothing to do sleeps until the next probe."""
    ann = stage()
    turns = 0
    while ann.time < 10_000_000:
        ann.turn(max(ann.node.wake_at - ann.time, 0))
        turns += 1

        assert ann.time < ann.node.wake_at

    assert turns < 100
