"""Commits: when one starts, what is in it, and the way back after the disk failed."""

from __future__ import annotations

from collections import Counter

import pytest

from flc_udp.config import Settings
from flc_udp.core.effects import Adopt, Effect
from flc_udp.core.liveness.health import Change
from flc_udp.core.replica import Replica
from flc_udp.model.block import Block
from flc_udp.model.errors import Drop
from flc_udp.model.units import MS_US
from flc_udp.waist import commits as module
from flc_udp.waist.commits import (
    AT_ONCE_BYTES_MAX,
    AT_ONCE_US_MAX,
    CATCH_UP_PAUSE_US,
    RETRY_US,
    Commits,
)
from flc_udp.waist.notices import BaseFailed, CommitFailed, RetentionFailed
from flc_udp.waist.ports import Batch
from flc_udp.waist.pruning import LOOK_PAUSE_US
from flc_udp.wire.packets import Ping, Rumor
from tests.model.kept import history_of
from tests.model.stories import Story
from tests.waist.ground import WALL, ListGround
from tests.waist.stage import BOB, Stage, stage

PAUSE_US = 2 * MS_US


class Bench:
    """Commits on a ground of lists, and blocks of a story to give them."""

    def __init__(self, **settings: int) -> None:
        self.ground = ListGround()
        self.drops: Counter[Drop] = Counter()
        settings = {"commit_pause_ms": PAUSE_US // MS_US, **settings}
        self.commits = Commits(Settings(**settings), self.ground, self.drops)
        self._story = Story()

    def decide(self, count: int = 1, *bodies: str) -> list[Block]:
        """So many blocks are decided, at once."""
        blocks = [self._story.say("ann", "lobby", *(bodies or ("hi",))) for _ in range(count)]
        self.commits.append(blocks)
        return blocks

    def turn(self, after_us: int = 0, *, catching_up: bool = False) -> None:
        """Time passes; what is due is done, and a commit starts if it may."""
        self.ground.time += after_us
        self.commits.wake(self.ground.time)
        self.commits.start(self.ground.time, WALL, lambda _: (), catching_up=catching_up)

    def under_way(self) -> Batch:
        """The only commit that was started and has not ended."""
        (batch,) = self.ground.commits
        return batch

    def finish(self) -> bool:
        """It is durable; whether it was slow."""
        return self.commits.committed(self.ground.commits.pop(), self.ground.time)

    def fail(self, reason: str = "disk full") -> None:
        """It failed."""
        self.ground.commits.pop()
        self.commits.failed(reason, self.ground.time)

    @property
    def due_in(self) -> int | None:
        """After how many µs there is something to do."""
        at = self.commits.wake_at
        return None if at is None else at - self.ground.time


class TestStart:
    def test_after_a_quiet_moment_a_lone_message_waits_for_nothing(self) -> None:
        """It is committed in the turn in which it was decided, with that turn's wall clock."""
        bench = Bench()
        said = bench.decide()
        bench.turn(RETRY_US)

        assert bench.under_way() == Batch(tuple(said), (), WALL)
        assert bench.due_in is None

    @pytest.mark.parametrize(
        ("catching_up", "pause_us"), [(False, PAUSE_US), (True, CATCH_UP_PAUSE_US)]
    )
    def test_under_load_a_pause_lies_between_two_starts(
        self, *, catching_up: bool, pause_us: int
    ) -> None:
        """What is decided meanwhile goes together; a node that catches up makes large commits."""
        bench = Bench()
        bench.decide()
        bench.turn(catching_up=catching_up)
        bench.finish()
        bench.decide(3)
        bench.turn(catching_up=catching_up)

        assert bench.ground.commits == []
        assert bench.due_in == pause_us

        bench.turn(pause_us - 1, catching_up=catching_up)
        assert bench.ground.commits == []
        bench.turn(1, catching_up=catching_up)
        assert len(bench.under_way().blocks) == 3

    def test_one_at_a_time(self) -> None:
        """However slow the disk is: the slower, the larger the next."""
        bench = Bench()
        bench.decide()
        bench.turn()
        for _ in range(10):
            bench.decide()
            bench.turn(PAUSE_US)
            assert len(bench.under_way().blocks) == 1
        bench.finish()
        bench.turn()

        assert len(bench.under_way().blocks) == 10

    def test_nothing_decided_starts_nothing(self) -> None:
        """And there is nothing to wake for."""
        bench = Bench()
        bench.turn()

        assert (bench.ground.commits, bench.due_in) == ([], None)
        assert bench.commits.is_idle

    @pytest.mark.parametrize(
        ("sizes", "batches"),
        [
            ([[100]] * 7, [3, 3, 1]),
            ([[400], [400], [400]], [2, 1]),
            ([[900], [900], [300]], [1, 1, 1]),
            ([[10, 10], [10], [10], [10, 10]], [3, 1]),
            # One that is larger than a transaction may be goes alone, and never not at all.
            ([[5_000], [100], [100]], [1, 2]),
            ([[100], [5_000], [100]], [1, 1, 1]),
            ([[10] * 9, [10], [10] * 4], [3]),
        ],
    )
    def test_a_batch_is_bounded_in_blocks_and_bytes(
        self, monkeypatch: pytest.MonkeyPatch, sizes: list[list[int]], batches: list[int]
    ) -> None:
        """Three blocks, and about a thousand bytes; the order is kept."""
        monkeypatch.setattr(module, "BATCH_BYTES_MAX", 1_100)
        bench = Bench(commit_blocks_max=3, commit_pause_ms=0)
        decided = [b for block in sizes for b in bench.decide(1, *("x" * size for size in block))]
        found = []
        while not bench.commits.is_idle:
            bench.turn()
            found.append(bench.under_way().blocks)
            bench.finish()

        assert list(map(len, found)) == batches
        assert [block for blocks in found for block in blocks] == decided

    @pytest.mark.parametrize(("took_ms", "is_slow"), [(0, False), (249, False), (250, True)])
    def test_a_slow_one_is_told(self, took_ms: int, *, is_slow: bool) -> None:
        """From its start to its end, whatever else happened meanwhile."""
        bench = Bench(slow_commit_ms=250)
        bench.decide()
        bench.turn(RETRY_US)
        bench.ground.time += took_ms * MS_US

        assert bench.finish() == is_slow


class TestAtOnce:
    """A small commit on a quick disk is made at once, while the node stands still."""

    def learn(self, bench: Bench, took_us: int, commits: int) -> None:
        """So many commits take so long."""
        for _ in range(commits):
            bench.decide()
            bench.turn(PAUSE_US)
            bench.ground.time += took_us
            bench.finish()

    @pytest.mark.parametrize(
        ("took_us", "size", "at_once"),
        [
            (0, 10, True),
            (AT_ONCE_US_MAX, AT_ONCE_BYTES_MAX - 200, True),
            (0, AT_ONCE_BYTES_MAX, False),  # With its head it is larger.
            (AT_ONCE_US_MAX + 1, 10, False),
        ],
    )
    def test_a_small_one_on_a_quick_disk(self, took_us: int, size: int, *, at_once: bool) -> None:
        """Both are needed: anything else would keep probes waiting."""
        bench = Bench()
        self.learn(bench, took_us, 100)
        bench.decide(1, "x" * size)
        bench.turn(PAUSE_US)

        assert bench.ground.at_once[-1] == at_once

    def test_a_disk_is_slow_until_it_was_quick_for_a_while(self) -> None:
        """A new node knows nothing; after one slow commit many more have to be quick."""
        bench = Bench()
        self.learn(bench, 100, 40)
        begun = bench.ground.at_once.index(True)
        assert bench.ground.at_once == [False] * begun + [True] * (40 - begun)
        assert 5 <= begun <= 20

        self.learn(bench, 500 * MS_US, 1)
        self.learn(bench, 100, 300)
        again = bench.ground.at_once[41:].index(True)
        assert 200 <= again <= 280


class TestFailure:
    """disk full ─▶ recover ─▶ … ─▶ recovered ─▶ a second later: posts, and a try of the disk."""

    def failed(self) -> Bench:
        """Two commits' worth was decided, and the first of them failed."""
        bench = Bench(commit_blocks_max=1)
        bench.decide(2)
        bench.turn()
        bench.fail()
        return bench

    def test_it_is_told_once_until_a_success(self) -> None:
        """The reason is the latest; the notice is of the first."""
        bench = self.failed()
        for reason in ("disk full", "read only"):
            bench.commits.recovered(bench.ground.time)
            bench.turn(RETRY_US)
            bench.decide()
            bench.turn()
            bench.fail(reason)

        assert bench.commits.failing == "read only"
        assert bench.ground.notices == [CommitFailed("disk full")]

        bench.commits.recovered(bench.ground.time)
        bench.turn(RETRY_US)
        bench.decide()
        bench.turn()
        bench.finish()
        assert bench.commits.failing is None
        bench.decide()
        bench.turn(PAUSE_US)
        bench.fail("disk full again")

        assert bench.ground.notices[1:] == [CommitFailed("disk full again")]

    def test_until_it_is_recovered_nothing_starts_and_posts_are_refused(self) -> None:
        """However long that takes; there is nothing to wake for but the end of it."""
        bench = self.failed()
        bench.decide()
        bench.turn(100 * RETRY_US)

        assert bench.ground.commits == []
        assert bench.due_in is None
        assert not bench.commits.is_idle
        assert bench.commits.refusal is not None
        assert "disk full" in str(bench.commits.refusal)
        assert bench.commits.refusal.hint

    def test_what_is_not_in_the_log_is_undone(self) -> None:
        """What was under way, and what was decided since: counted, and never committed."""
        bench = self.failed()
        bench.decide(1, "a", "b")
        bench.commits.recovered(bench.ground.time)
        bench.turn(10 * RETRY_US)

        assert bench.drops == {Drop.UNDONE_BY_FAILED_COMMIT: 4}
        assert bench.ground.commits == []
        assert bench.commits.is_idle

    def test_posts_are_refused_for_a_second_more(self) -> None:
        """The disk is left alone; what others say waits for the same moment."""
        bench = self.failed()
        bench.commits.recovered(bench.ground.time)
        (block,) = bench.decide()
        assert bench.due_in == RETRY_US
        bench.turn(RETRY_US - 1)
        assert bench.commits.refusal is not None
        assert bench.ground.commits == []

        bench.turn(1)

        assert bench.commits.refusal is None
        assert bench.under_way().blocks == (block,)

    def test_a_log_that_cannot_be_read_is_tried_every_second(self) -> None:
        """Both reasons are told, the first one and the latest, and never a heap of them."""
        bench = self.failed()
        for attempt in range(1, 5):
            bench.commits.recovery_failed(f"attempt {attempt}", bench.ground.time)
            assert bench.commits.failing == f"disk full; attempt {attempt}"
            assert bench.due_in == RETRY_US
            bench.turn(RETRY_US - 1)
            assert bench.ground.recoveries == attempt - 1
            bench.turn(1)
            assert bench.ground.recoveries == attempt
            assert bench.commits.refusal is not None
            bench.turn(10 * RETRY_US)
            assert bench.ground.recoveries == attempt  # That one has not ended.

    def test_a_disk_that_nobody_writes_to_is_tried(self) -> None:
        """Again and again, until a little was written: a node that is read-only says so no more."""
        bench = self.failed()
        bench.commits.recovered(bench.ground.time)
        for attempt in range(1, 5):
            bench.turn(RETRY_US)
            assert bench.ground.attempts == attempt
            assert bench.due_in is None
            bench.commits.disk_failed(bench.ground.time)
            assert bench.due_in == RETRY_US
            assert bench.commits.failing == "disk full"
        bench.turn(RETRY_US)
        bench.commits.disk_is_well()

        assert bench.commits.failing is None
        assert bench.due_in is None

    def test_a_commit_is_a_try_as_good_as_any(self) -> None:
        """While one is under way the disk is not tried, and a success needs no further one."""
        for ends_after_us in (RETRY_US // 2, 2 * RETRY_US):
            bench = self.failed()
            bench.commits.recovered(bench.ground.time)
            bench.turn(RETRY_US)
            bench.commits.disk_failed(bench.ground.time)
            assert bench.ground.attempts == 1
            bench.decide()
            bench.turn()
            bench.turn(ends_after_us)
            bench.finish()
            bench.turn(10 * RETRY_US)

            assert bench.ground.attempts == 1
            assert bench.commits.failing is None


# --- The whole node -----------------------------------------------------------------------------


def failed() -> Stage:
    """Ann, whose first commit has just failed; the log was not opened anew yet."""
    ann = stage()
    ann.say("lost")
    ann.turn()
    ann.commits.clear()
    ann.node.commit_failed("disk full")
    return ann


class TestRecovery:
    def test_while_the_log_is_opened_anew_the_node_is_alive(self) -> None:
        """It answers probes and takes what others say, which is undone with the rest."""
        ann = failed()
        ann.receive(Ping(1, bytes(8), bytes(8), False, bytes(8)))
        ann.receive(Rumor(False, 0, (Story().say("bob", body="hi").encoded,)))
        ann.turn(1_000)
        assert ("sent", "Ack") in ann.trace
        assert ann.node.queued()["uncommitted"] == 2

        ann.recover_now()

        assert ann.node.queued()["uncommitted"] == 0
        assert ann.node.drops()[Drop.UNDONE_BY_FAILED_COMMIT] == 2
        assert (ann.recoveries, ann.commits) == (1, [])

    def test_what_was_written_all_the_same_is_shown_and_told(self) -> None:
        """Followers read on from the log, and the node holds what that holds."""
        ann = stage()
        refused = ann.say("in doubt")
        ann.turn()
        (batch,) = ann.commits
        ann.disk.blocks += batch.blocks
        ann.fail()

        assert refused.is_refused
        assert ann.trace[-1] == ("show", (2,))
        facts = ann.node.facts()
        assert (facts.messages, facts.logs, facts.log) == (1, 1, bytes(8))

        ann.turn(RETRY_US)
        ann.say("after")
        ann.turn(1)
        ann.finish()

        assert ann.bodies() == ["in doubt", "after"]
        assert ann.disk.blocks[1].causes == (batch.blocks[0].dot,)
        assert ann.trace[-1] == ("show", (2, "after"))

    def test_from_the_failure_to_the_first_word_after_it(self) -> None:
        """The log cannot be read twice, then the disk cannot be written twice, then all is well."""
        ann = failed()
        for _ in range(2):
            ann.node.recovery_failed("no such file")
            ann.turn(RETRY_US)
        assert ann.recoveries == 3
        ann.recover_now()
        for _ in range(2):
            ann.turn(RETRY_US)
            ann.node.disk_failed()
        assert ann.attempts == 2
        assert ann.node.failing == "disk full; no such file"
        ann.turn(RETRY_US)
        ann.node.disk_is_well()
        assert ann.node.failing is None

        post = ann.say("back")
        ann.turn(1)
        ann.finish()

        assert post.is_durable
        assert [type(notice) for notice in ann.notices].count(CommitFailed) == 1
        assert ann.node.counts["failed commits"] == 1

    def test_members_and_probes_stay(self) -> None:
        """Only what is about messages is built anew."""
        ann = failed()
        before = ann.node.live_rows()
        ann.recover_now()

        assert ann.node.live_rows() == before == [BOB]


@pytest.mark.parametrize(("took_ms", "noted"), [(10, 0), (2_000, 1)])
def test_a_slow_commit_is_evidence_against_the_node(took_ms: int, noted: int) -> None:
    """It may be the slow one, so it doubts itself before it accuses others."""
    ann = stage()
    ann.say("hi")
    ann.turn()
    ann.time += took_ms * MS_US
    ann.finish()

    assert ann.node.facts().health.counts.get(Change.SLOW_COMMIT, 0) == noted


class TestBase:
    """Another node's base is taken; what the core decided about it is put in its mouth."""

    FLOOR = 1_000

    def adopting(self, monkeypatch: pytest.MonkeyPatch) -> Stage:
        """A node whose core has decided to take a base; the ground has begun to write it."""
        end_turn = Replica.end_turn
        decided: list[Effect] = [Adopt(self.FLOOR, ())]

        def and_adopt(replica: Replica, now: int) -> list[Effect]:
            return [*end_turn(replica, now), *(decided.pop() for _ in list(decided))]

        ann = stage()
        monkeypatch.setattr(Replica, "end_turn", and_adopt)
        ann.turn()
        assert ann.adopts == [(self.FLOOR, ())]
        return ann

    def is_idle(self, ann: Stage) -> bool:
        """Whether it takes posts, and so takes no base."""
        post = ann.say("hi")
        ann.turn(1_000)
        if ann.commits:
            ann.finish()
        return bool(post.answers)

    def test_posts_wait_until_it_is_taken(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """They are said afterwards."""
        ann = self.adopting(monkeypatch)
        assert not self.is_idle(ann)
        ann.node.adopted(history_of([]))

        assert self.is_idle(ann)
        assert ann.bodies() == ["hi", "hi"]
        assert ann.node.counts["bases taken"] == 1

    @pytest.mark.parametrize(("floor", "taken"), [(0, 0), (FLOOR - 1, 0), (FLOOR, 1)])
    def test_a_failure_is_followed_by_a_look_at_what_the_log_holds(
        self, monkeypatch: pytest.MonkeyPatch, floor: int, taken: int
    ) -> None:
        """It may be on the disk all the same: its floor tells."""
        ann = self.adopting(monkeypatch)
        ann.node.adoption_failed("disk full")
        assert ann.recoveries == 1
        assert ann.notices[-1] == BaseFailed("disk full")
        assert not self.is_idle(ann)

        history = history_of([])
        history.floor = floor
        ann.node.recovered(history, 0)

        assert ann.node.counts["bases taken"] == taken
        assert ann.node.facts().floor == (floor if taken else 0)
        assert ann.node.failing is None
        assert self.is_idle(ann)

    def test_that_look_may_fail_for_a_while(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The node is read-only meanwhile, says why, and tries the disk afterwards."""
        ann = self.adopting(monkeypatch)
        ann.node.adoption_failed("disk full")
        for _ in range(3):
            ann.node.recovery_failed("no such file")
            assert ann.node.failing == "disk full; no such file"
            ann.turn(RETRY_US)
        assert ann.recoveries == 4
        ann.recover_now()
        ann.turn(RETRY_US)
        assert ann.attempts == 1
        ann.node.disk_is_well()

        assert ann.node.failing is None
        assert self.is_idle(ann)


class TestRetention:
    def test_what_failed_is_told_and_tried_at_the_next_look(self) -> None:
        """Nothing else stops for it."""
        ann = stage(retention_bytes=1 << 20)
        for attempt in range(1, 4):
            ann.turn(max(LOOK_PAUSE_US, ann.node.wake_at - ann.time))
            assert ann.retains == [(None, 1 << 20)] * attempt
            ann.node.retention_failed("disk full")
            ann.turn(LOOK_PAUSE_US - 1)
            assert len(ann.retains) == attempt

            assert ann.notices.count(RetentionFailed("disk full")) == attempt
        assert ann.node.failing is None
        assert ann.node.counts["messages pruned"] == 0

    def test_what_was_deleted_is_counted_and_moves_the_floor(self) -> None:
        """With more to delete the next step comes soon."""
        ann = stage(retention_bytes=1 << 20)
        ann.turn(LOOK_PAUSE_US)
        ann.node.retained(77, 5, more=True)

        assert ann.node.facts().floor == 77
        assert ann.node.counts["messages pruned"] == 5
        ann.turn(10 * MS_US)
        assert len(ann.retains) == 2
