"""Posts: when they are taken, what they are refused for, and that each is answered once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flc_udp.config import BODIES_MAX, SHARED_BYTES_MAX, WALL_MS_LIMIT, Settings
from flc_udp.core.push.links import ANNOUNCE_BYTES
from flc_udp.core.replica import Replica
from flc_udp.model.block import Block, pack_body
from flc_udp.model.dots import Dot
from flc_udp.model.errors import FlcError
from flc_udp.model.history import History
from flc_udp.model.message import Message, history_key
from flc_udp.model.units import MS_US
from flc_udp.waist import admission
from flc_udp.waist import posts as posts_module
from flc_udp.waist.commits import RETRY_US
from flc_udp.waist.notices import ClockUnusable
from flc_udp.waist.ports import Batch, Once
from flc_udp.waist.posts import (
    OVERHEAD_BYTES,
    PAUSE_US,
    STEP_REFUSED,
    TURN_BLOCKS,
    TURN_BYTES,
    Posts,
)
from flc_udp.wire.packets import Ack, Ping, Rumor, Taken
from tests.model.stories import Story
from tests.waist.ground import WALL, Said
from tests.waist.stage import ANN, Stage, bodies_of, stage

LIMIT = 65_536
YEAR_MS = 31_556_952_000
DISK_FULL = FlcError("not said: the disk is full", "make room")


class Desk:
    """Posts, and a Replica that decides them. The test says what becomes durable."""

    def __init__(self) -> None:
        self.posts = Posts(Settings(), 0)
        self.said: list[Block] = []
        """Blocks that are decided and not durable yet."""
        self._replica = Replica(Settings(), ANN, History(), Random(0), 0)

    def add(self, *bodies: str | bytes) -> list[Said]:
        """People say something, each of these for itself."""
        return [self.post(body) for body in bodies]

    def post(self, *bodies: str | bytes, room: str = "lobby", once: Once | None = None) -> Said:
        """Somebody says all of these at once."""
        post = Said(*bodies, room=room, once=once)
        self.posts.waiting.append(post)
        return post

    def take(
        self,
        room_bytes: int | None = None,
        behind: int = 0,
        refusal: FlcError | None = None,
        now: int = 0,
    ) -> int:
        """Let a turn take posts; how many messages were decided."""
        before = self.messages
        self.posts.take(now, room_bytes, behind, refusal, self._say)
        return self.messages - before

    @property
    def messages(self) -> int:
        """How many messages these are."""
        return sum(len(block.bodies) for block in self.said)

    def begin_log(self) -> None:
        """What is taken from now on is said in another log."""
        self._replica = Replica(Settings(), ANN, History(), Random(1), 0)

    def commit(self, blocks: int, first_position: int) -> None:
        """The first blocks that are not durable yet become so."""
        batch, self.said = self.said[:blocks], self.said[blocks:]
        for post in self.posts.answers(Batch(tuple(batch), ()), first_position):
            post.done()

    def _say(self, room: str, author: str, bodies: Sequence[bytes], *, receipt: bool) -> Block:
        block = self._replica.post(room, author, bodies, WALL, receipt=receipt)
        self.said.append(block)
        return block


class TestSize:
    @pytest.mark.parametrize(
        ("unit", "count", "size"),
        [
            ("x", LIMIT, LIMIT),
            ("x", LIMIT + 1, LIMIT + 1),
            (b"x", LIMIT, LIMIT),
            (b"x", LIMIT + 1, LIMIT + 1),
            ("ü", LIMIT // 2, LIMIT),
            ("ü", LIMIT // 2 + 1, LIMIT + 2),
            ("🐟", LIMIT // 4, LIMIT),
            ("🐟", LIMIT // 4 + 1, LIMIT + 4),
            ("x", 0, 0),
        ],
    )
    def test_bytes_count_and_not_characters(self, unit: str | bytes, count: int, size: int) -> None:
        """The limit itself is allowed; the error names both numbers and what helps."""
        body = unit * count
        if size <= LIMIT:
            pack_body(body, LIMIT)
            return
        with pytest.raises(FlcError) as refused:
            pack_body(body, LIMIT)

        assert str(refused.value) == f"body has {size} bytes, allowed are {LIMIT}"
        assert "body_bytes_max" in refused.value.hint

    def test_a_limit_that_changed_is_for_what_is_taken_from_now_on(self) -> None:
        """Also for what waits already: it is this node's own setting."""
        desk = Desk()
        (post,) = desk.add("x" * 100)
        desk.posts.body_bytes_max = 99

        assert desk.take() == 0
        assert post.is_refused
        assert "allowed are 99" in str(post.error)

    def test_a_refusal_keeps_nothing_alive(self) -> None:
        """A traceback would hold the body, and the post that has the error."""
        desk = Desk()
        (post,) = desk.add("x" * (LIMIT + 1))
        desk.take()

        assert post.error is not None
        assert post.error.__traceback__ is None

    def test_a_reload_changes_it(self) -> None:
        """While the node runs."""
        ann = stage()
        ann.node.reload(Settings(body_bytes_max=1_024))
        refused, taken = ann.say("x" * 1_025), ann.say("x" * 1_024)
        ann.turn()
        ann.finish()

        assert (refused.is_refused, taken.is_durable) == (True, True)


class TestRoom:
    """How many posts fit in the room that most peers have."""

    SIZE = 1_000 + OVERHEAD_BYTES

    @pytest.mark.parametrize(
        ("room_bytes", "taken"),
        [
            (None, 9),
            (20 * SIZE, 9),
            (9 * SIZE, 9),
            (9 * SIZE - 1, 8),
            (3 * SIZE, 3),
            (SIZE, 1),
            # One is always taken: those whose peers all fell back have a share, too.
            (SIZE - 1, 1),
            (0, 1),
            (-SIZE, 1),
        ],
    )
    def test_as_many_as_fit_are_taken(self, room_bytes: int | None, taken: int) -> None:
        """In the order in which they were said; the others wait."""
        desk = Desk()
        desk.add(*(f"{number}".ljust(1_000) for number in range(9)))

        assert desk.take(room_bytes) == taken
        assert [body[:1] for body in bodies_of(desk.said)] == [f"{n}" for n in range(taken)]
        assert len(desk.posts) == 9
        assert bool(desk.posts.waiting) == (taken < 9)

    @pytest.mark.parametrize(
        ("room_bytes", "taken"), [(None, 9), (100_000, 4), (60_000, 2), (20_000, 1), (0, 1)]
    )
    def test_a_post_of_many_takes_the_room_of_all_its_messages(
        self, room_bytes: int | None, taken: int
    ) -> None:
        """They are pushed in small blocks, however much they are together."""
        desk = Desk()
        for _ in range(9):
            desk.post(*["x" * 100] * 240)

        assert desk.take(room_bytes) == 240 * taken

    def test_what_is_taken_and_not_pushed_yet_has_its_room_already(self) -> None:
        """Until its commit, after which it is in flight, or is refused."""
        desk = Desk()
        desk.add(*["x" * 1_000] * 11)
        assert desk.take(3 * self.SIZE) == 3
        assert desk.take(3 * self.SIZE) == 0

        desk.commit(3, 1)
        assert desk.take(3 * self.SIZE) == 3

        desk.posts.refuse_taken(DISK_FULL)
        assert desk.take(3 * self.SIZE) == 3

    def test_what_is_announced_takes_no_room(self) -> None:
        """A large message is pulled by those who have room for it."""
        desk = Desk()
        desk.add(*["x" * ANNOUNCE_BYTES] * 3)

        assert desk.take(0) == 3

    def test_what_has_to_wait_is_looked_at_again_soon(self) -> None:
        """A turn is due a pause later, though nothing comes in."""
        ann = stage()
        ann.say("x" * 8_000)
        ann.turn()
        ann.finish()
        ann.receive(Taken(0, 0, LIMIT))
        for _ in range(2 * LIMIT // 1_000):
            ann.say("x" * 1_000)
        ann.turn(20 * MS_US)

        assert ann.node.queued()["posts"] > LIMIT // 1_000
        assert ann.node.wake_at == ann.time + PAUSE_US


class TestTurns:
    """What one turn decides, so that the node has its next one soon."""

    BODIES = ("x" * 500,) * 5 * TURN_BLOCKS

    @pytest.mark.parametrize("posts", [1, 10])
    def test_a_turn_decides_a_part_of_what_is_much(self, posts: int) -> None:
        """The next ones go on with it in its order, and each post is one span."""
        desk, share = Desk(), len(self.BODIES) // posts
        said = [desk.post(*self.BODIES[:share]) for _ in range(posts)]
        turns = []
        while desk.posts.is_under_way or desk.posts.waiting:
            turns.append(desk.take())
            assert len(desk.posts) == posts

        assert max(turns) <= 2 * TURN_BLOCKS
        assert sum(turns) == len(self.BODIES)
        assert len(turns) <= len(self.BODIES) // (2 * TURN_BLOCKS) + 1
        desk.commit(len(desk.said), 1)
        assert [(post.low, post.high) for post in said] == [
            (at * share + 1, (at + 1) * share) for at in range(posts)
        ]
        assert all(post.is_durable for post in said)

    def test_large_messages_are_fewer_in_a_turn(self) -> None:
        """A turn decides about TURN_BYTES of them."""
        desk = Desk()
        desk.add(*["x" * LIMIT] * 40)

        assert desk.take() == TURN_BYTES // LIMIT

    def test_to_refuse_much_takes_turns_too(self) -> None:
        """And what is refused does not part the others into more blocks."""
        desk = Desk()
        desk.posts.body_bytes_max = 1
        bad = desk.post(*["no"] * (2 * TURN_BLOCKS * STEP_REFUSED))
        mixed = desk.post(*["y", "no"] * 100)
        turns = 0
        while desk.posts.is_under_way or desk.posts.waiting:
            desk.take()
            turns += 1

        assert turns == 3
        assert len(bad.refused) == len(bad.bodies)
        assert (len(desk.said), desk.messages, len(mixed.refused)) == (1, 100, 100)

    def test_the_next_turn_is_due_at_once(self) -> None:
        """And datagrams that came meanwhile are taken in it."""
        ann = stage()
        post = ann.say(*self.BODIES)
        ann.turn()
        assert ann.node.wake_at == ann.time
        story = Story()
        ann.receive(Rumor(False, 0, (story.say("bob").encoded,)))
        ann.turn()
        assert ann.node.wake_at == ann.time
        assert ann.node.queued()["posts"] == 1
        ann.finish_all()
        while not post.answers:
            ann.turn()
            ann.finish_all()

        assert post.is_durable
        authors = [block.author for block in ann.disk.blocks]
        assert 0 < authors.index("bob") < len(authors) - 1

    def test_what_is_refused_in_the_middle_is_answered_once(self) -> None:
        """When the part that was taken is durable, whether that was before or comes after."""
        for commits_first in (True, False):
            desk = Desk()
            post = desk.post(*self.BODIES)
            taken = desk.take()
            if commits_first:
                desk.commit(len(desk.said), 1)
            desk.take(refusal=DISK_FULL)
            if not commits_first:
                assert post.answers == []
                desk.commit(len(desk.said), 1)
            assert post.answers == [DISK_FULL]
            assert post.refused == list(range(taken, len(self.BODIES)))
            assert (post.durable, len(desk.posts)) == (taken, 0)
            (after,) = desk.add("after")
            desk.take()
            desk.commit(1, post.position + 1)
            assert after.is_durable

    def test_a_failed_commit_refuses_also_what_was_not_taken_yet(self) -> None:
        """Of the post that was cut; the next one may still be said."""
        desk = Desk()
        cut, after = desk.post(*self.BODIES), desk.post("after")
        desk.take()
        desk.posts.refuse_taken(DISK_FULL)
        desk.said.clear()

        assert cut.refused == list(range(len(self.BODIES)))
        assert (cut.answers, after.answers, len(desk.posts)) == ([DISK_FULL], [], 1)
        assert desk.take() == 1


class TestAdmission:
    def test_who_falls_behind_takes_less(self) -> None:
        """A node that does not keep up with what others say lets its own people wait."""
        desk, now = Desk(), 0
        taken = []
        for behind in (0, 0, 10_000, 20_000, 30_000):
            desk.add(*["x"] * 100)
            now += admission.LOOK_PAUSE_US
            taken.append(desk.take(behind=behind, now=now))

        assert taken[:2] == [100, 100]
        assert 10 <= taken[-1] < 100
        assert desk.posts.waiting
        assert desk.take(now=now) == 0  # It had its share of this moment.


class TestAnswers:
    def test_a_refusal_is_for_all_and_a_bad_post_for_itself(self) -> None:
        """Nobody waits for a disk that cannot be written, and no post stops another."""
        desk = Desk()
        posts = [desk.post("a"), desk.post("b", room="no\nroom"), desk.post("c")]
        assert desk.take() == 2
        assert [post.is_refused for post in posts] == [False, True, False]
        assert "control characters" in str(posts[1].error)

        late = desk.add("d", "e")
        assert desk.take(refusal=DISK_FULL) == 0

        assert [post.answers for post in late] == [[DISK_FULL]] * 2
        assert len(desk.posts) == 2

    def test_each_is_answered_with_its_own_dot_and_position(self) -> None:
        """Also where foreign blocks stand between theirs in the batch."""
        desk = Desk()
        first = [desk.post("a"), desk.post("b", "c")]
        desk.take()
        last = desk.post("d", "e", "f", room="ops")
        desk.take()
        log = desk.said[0].log
        desk.said.insert(1, Story().say("bob", "lobby", "x", "y"))

        desk.commit(2, 41)
        assert [(post.dot, post.position) for post in first] == [
            (Dot(log, 1), 41),
            (Dot(log, 3), 43),
        ]
        assert last.answers == []

        desk.commit(1, 46)
        assert (last.dot, last.position, last.low, last.high) == (Dot(log, 6), 48, 4, 6)
        assert all(post.is_durable for post in (*first, last))
        assert len(desk.posts) == 0

    def test_a_post_of_many_blocks_is_answered_with_the_last_of_them(self) -> None:
        """Until then it tells how far it is durable."""
        desk = Desk()
        post = desk.post(*["x" * 500] * 5, "the last")
        desk.take()
        found = []
        for block in list(desk.said):
            desk.commit(1, block.first)
            found.append((post.durable, len(post.answers)))

        assert found == [(2, 0), (4, 0), (6, 1)]
        assert (post.position, post.is_durable) == (6, True)

    def test_a_commit_answers_no_post_of_the_next_log(self) -> None:
        """A node that takes a new id begins a new log, whose numbers are low again.

        Its posts wait for blocks of their own log, in whatever batch these come.
        """
        desk = Desk()
        old = desk.add("a", "b")
        desk.take()
        desk.begin_log()
        (new,) = desk.add("c")
        desk.take()

        desk.commit(1, 1)
        assert [post.is_durable for post in old] == [True, True]
        assert (new.answers, len(desk.posts)) == ([], 1)
        log = desk.said[0].log
        desk.commit(1, 3)
        assert (new.dot, new.position, new.is_durable) == (Dot(log, 1), 3, True)

    def test_a_failed_commit_refuses_what_was_taken_and_not_what_waits(self) -> None:
        """Whoever waits to be taken may yet be."""
        desk = Desk()
        (taken,) = desk.add("taken")
        desk.take()
        (waiting,) = desk.add("waiting")
        desk.posts.refuse_taken(DISK_FULL)
        desk.posts.refuse_taken(DISK_FULL)

        assert (taken.answers, waiting.answers) == ([DISK_FULL], [])
        desk.commit(1, 1)
        assert (taken.answers, waiting.answers) == ([DISK_FULL], [])
        assert desk.posts.waiting

    def test_a_number_of_once_goes_with_its_message(self) -> None:
        """Only with those that were said under one, and only while they wait for their commit."""
        desk = Desk()
        desk.add("a")
        desk.post("b", "c", once=("client", 7))
        desk.take()
        log = desk.said[0].log

        numbered = (("client", 7, Dot(log, 2)), ("client", 8, Dot(log, 3)))
        assert desk.posts.once_of(desk.said) == numbered
        assert desk.posts.once_of([Story().say("bob")]) == ()
        said = list(desk.said)
        desk.commit(1, 1)
        assert desk.posts.once_of(said) == ()

    def test_what_is_refused_keeps_its_number(self) -> None:
        """The others have the numbers of their places, and nobody has that of a refused one."""
        desk = Desk()
        desk.posts.body_bytes_max = 9
        post = desk.post("a", "x" * 10, "b", "\ud800", "c", once=("client", 7))
        desk.take()
        log = desk.said[0].log

        assert desk.posts.once_of(desk.said) == tuple(
            ("client", n, Dot(log, seq)) for seq, n in enumerate((7, 9, 11), 1)
        )
        desk.commit(1, 1)
        assert (post.refused, post.places, post.answers) == ([1, 3], [0, 2, 4], [post.error])
        assert "allowed are 9" in str(post.error)

    def test_nothing_said_is_answered_at_once(self) -> None:
        """And nothing goes wrong."""
        desk = Desk()
        post = desk.post()

        assert (desk.take(), post.answers, len(desk.posts)) == (0, [None], 0)


class TestBlocks:
    """Which messages share a block."""

    def test_no_block_holds_more_than_it_may(self) -> None:
        """In bodies and in bytes; a post is cut where a block is full."""
        desk = Desk()
        desk.post(*["x"] * (BODIES_MAX + 500))
        desk.take()
        sizes = [len(block.encoded) for block in desk.said]

        assert max(sizes) <= SHARED_BYTES_MAX
        assert all(size > SHARED_BYTES_MAX - 6 for size in sizes[:-1])
        assert len(bodies_of(desk.said)) == BODIES_MAX + 500

    def test_empty_messages_are_bounded_by_their_number(self) -> None:
        """A body takes at least a byte, so a block of many ends by its size or by their number."""
        desk = Desk()
        desk.post(*[""] * 3_000)
        desk.take()

        assert bodies_of(desk.said) == ("",) * 3_000
        assert max(len(block.bodies) for block in desk.said) <= BODIES_MAX

    @pytest.mark.parametrize("receipts", [(True, False), (False, True), (True, True)])
    def test_who_asks_for_receipts_asks_for_the_whole_block(
        self, receipts: tuple[bool, bool]
    ) -> None:
        """One datagram asks for those of all that share it."""
        ann = stage()
        for receipt in receipts:
            ann.say("hi", receipt=receipt)
        ann.turn()
        ann.finish()

        (rumor,) = ann.of_kind(Rumor)
        assert isinstance(rumor, Rumor)
        assert (rumor.receipt, len(rumor.blocks)) == (True, 1)


# --- Any posts, cut into turns and posts in any way ----------------------------------------------

BODIES_BYTES_MAX = 2_000
TOO_LARGE, NO_UNICODE = "w" * (BODIES_BYTES_MAX + 1), "\ud800"
SAYABLE = ("", "hi", "ü" * 20, b"\x00bytes", "x" * 500, "y" * 1_040, b"z" * BODIES_BYTES_MAX)
SAME_POST, NEW_POST, NEW_TURN, BOB_SPEAKS = range(4)

says = st.lists(
    st.tuples(
        st.sampled_from(["lobby", "ops"]),
        st.sampled_from(["ann", "amy"]),
        st.sampled_from([*SAYABLE, TOO_LARGE, NO_UNICODE]),
        st.sampled_from([SAME_POST, SAME_POST, NEW_POST, NEW_TURN, BOB_SPEAKS]),
    ),
    max_size=30,
)
"""Each message, and how it is parted from the one before it."""


class Crowd:
    """People who say these at a node, turn by turn. `turns` are their posts."""

    def __init__(self, said: list[tuple[str, str, str | bytes, int]], **settings: int) -> None:
        self.stage: Stage = stage(body_bytes_max=BODIES_BYTES_MAX, **settings)
        self.turns: list[list[Said]] = []
        self._bob = Story()
        self._said = said

    def speak(self, after_turn: Callable[[], None]) -> None:
        """All of it; what is told is done after each turn."""
        turn: list[list[tuple[str, str, str | bytes]]] = []
        for room, author, body, joint in self._said:
            if joint >= NEW_TURN:
                self._turn(turn, after_turn)
                turn = []
            if joint == BOB_SPEAKS:
                block = self._bob.say("bob", room, "a", "b")
                self.stage.receive(Rumor(False, 0, (block.encoded,)))
            is_same = turn and joint == SAME_POST and turn[-1][0][:2] == (room, author)
            if not is_same:
                turn.append([])
            turn[-1].append((room, author, body))
        self._turn(turn, after_turn)

    def _turn(
        self, turn: list[list[tuple[str, str, str | bytes]]], after_turn: Callable[[], None]
    ) -> None:
        posts = []
        for said in turn:
            (room, author, _), n = said[0], 100 * sum(map(len, self.turns)) + 100 * len(posts)
            bodies = [body for _, _, body in said]
            posts.append(self.stage.say(*bodies, room=room, author=author, once=(author, n)))
        self.turns.append(posts)
        self.stage.turn(3_000)
        after_turn()

    @property
    def posts(self) -> list[Said]:
        """All of them, in order."""
        return [post for turn in self.turns for post in turn]

    def messages(self) -> list[Message]:
        """What is durable, by position."""
        return [m for block in self.stage.disk.blocks for m in block.messages()]

    def check_answers(self) -> None:
        """Each was answered once, and says of what is durable where it stands in the log."""
        messages = self.messages()
        by_dot = {message.dot: message for message in messages}
        for post in self.posts:
            assert len(post.answers) == 1
            assert (post.error is not None) == bool(post.refused)
            dots = post.dots()
            assert sorted([*dots, *post.refused]) == list(range(len(post.bodies)))
            for place, dot in dots.items():
                message = by_dot[dot]
                said = (message.room, message.author, message.body)
                assert said == (post.room, post.author, post.bodies[place])
            if dots:
                assert messages[post.position - 1].dot == post.dot == list(dots.values())[-1]


def is_sayable(body: str | bytes) -> bool:
    """Whether nothing is wrong with it."""
    return body not in (TOO_LARGE, NO_UNICODE)


turn_blocks = st.sampled_from([1, 2, 3, posts_module.TURN_BLOCKS])
"""How much of it a turn decides."""


@given(says, st.randoms(use_true_random=False), turn_blocks)
def test_however_it_is_cut_the_same_is_said(said: list, random: Random, blocks_max: int) -> None:
    """In the log and in each room: all that may be said, in the order in which it was said.

    Cut into turns and posts in any way, while others speak and commits are quick or slow.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(posts_module, "TURN_BLOCKS", blocks_max)
        crowd = Crowd(said)
        _say_all(crowd, random)

    _check_what_was_said(crowd, said)
    if blocks_max == posts_module.TURN_BLOCKS:
        _check_sharing(crowd)


def _say_all(crowd: Crowd, random: Random) -> None:
    """Speak, and let turns and commits come until nothing waits."""
    ann = crowd.stage

    def after_turn() -> None:
        if ann.commits and random.random() < 0.7:
            ann.finish()

    crowd.speak(after_turn)
    while ann.commits or ann.node.queued()["posts"]:
        ann.turn(3_000)
        if ann.commits:
            ann.finish()


def _check_what_was_said(crowd: Crowd, said: list) -> None:
    """Each message that may be said is there once, in its order and under its number."""
    ann = crowd.stage
    crowd.check_answers()
    expected = [(room, author, body) for room, author, body, _ in said if is_sayable(body)]
    own = [message for message in crowd.messages() if message.author != "bob"]
    assert [(m.room, m.author, m.body) for m in own] == expected
    for room in ("lobby", "ops"):
        found = [(m.author, m.body) for m in sorted(own, key=history_key) if m.room == room]
        assert found == [(author, body) for at, author, body in expected if at == room]

    # Those that are refused are named by their places, and no others.
    for post in crowd.posts:
        wrong = [place for place, body in enumerate(post.bodies) if not is_sayable(body)]
        assert post.refused == wrong
    numbered = {
        (post.author, n + place): dot
        for n, post in zip(range(0, 100 * len(crowd.posts), 100), crowd.posts, strict=True)
        for place, dot in post.dots().items()
    }
    once = [key for batch in ann.begun for key in batch.once]
    assert {(client, n): dot for client, n, dot in once} == numbered
    assert len(once) == len(numbered)


def _check_sharing(crowd: Crowd) -> None:
    """Neighbours share blocks as long as there is room in them, and nobody else does."""
    blocks = [block for block in crowd.stage.disk.blocks if block.author != "bob"]
    for turn in crowd.turns:
        for _, posts in groupby(turn, lambda post: (post.room, post.author)):
            left = [body for post in posts for body in post.bodies if is_sayable(body)]
            while left:
                block = blocks.pop(0)
                assert list(block.bodies) == left[: len(block.bodies)]
                left = left[len(block.bodies) :]
                # No header of an array is longer than 3 bytes, and room is left for that.
                size = len(block.encoded) + len(pack_body(left[0])) if left else SHARED_BYTES_MAX
                assert size > SHARED_BYTES_MAX - 3
    assert blocks == []


@given(says, st.integers(0, 12), st.integers(1, 5), turn_blocks)
def test_a_failed_commit_leaves_what_was_durable_before_it(
    said: list, commits: int, messages_max: int, blocks_max: int
) -> None:
    """A post in the middle of which the disk fails says up to which message it is durable."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(posts_module, "TURN_BLOCKS", blocks_max)
        _fail_a_commit(said, commits, messages_max)


def _fail_a_commit(said: list, commits: int, messages_max: int) -> None:
    crowd = Crowd(said, commit_blocks_max=messages_max, commit_pause_ms=0)
    ann = crowd.stage
    crowd.speak(lambda: None)
    for _ in range(commits):
        if ann.commits:
            ann.finish()
        ann.turn(1)
    while ann.node.queued()["posts"] and not ann.commits:
        ann.turn(1)
    if ann.commits:
        ann.fail()
    while ann.node.queued()["posts"]:  # What was not taken yet is refused meanwhile.
        ann.turn(1)
    ann.turn(2 * RETRY_US)

    crowd.check_answers()
    own = [message for message in crowd.messages() if message.author != "bob"]
    durable = [post.bodies[place] for post in crowd.posts for place in post.dots()]
    assert [message.body for message in own] == durable
    # Of each post it is the beginning that is durable, and of all posts, too.
    sayable = [
        (post, n) for post in crowd.posts for n, b in enumerate(post.bodies) if is_sayable(b)
    ]
    assert [(p, n) for p in crowd.posts for n in p.dots()] == sayable[: len(own)]


def test_a_post_that_was_cut_by_a_failure_is_said_in_part() -> None:
    """Two batches are durable and the third is not: the rest is named, and can be said again."""
    ann = stage(commit_blocks_max=1, commit_pause_ms=0)
    post = ann.say(*(f"{n}".ljust(450) for n in range(10)), once=("client", 1))
    ann.turn()
    for first in (1, 3):
        (batch,) = ann.commits
        assert [(n, dot.seq) for _, n, dot in batch.once] == [
            (first, first),
            (first + 1, first + 1),
        ]
        ann.finish()
        ann.turn(1)
    assert (post.answers, post.durable, post.position) == ([], 4, 4)
    ann.fail()

    assert post.answers == [post.error]
    assert "disk full" in str(post.error)
    assert (post.low, post.durable, post.refused) == (1, 4, [4, 5, 6, 7, 8, 9])
    ann.turn(RETRY_US)
    rest = ann.say(*(post.bodies[place] for place in post.refused))
    ann.turn(1)
    ann.finish_all()

    assert rest.is_durable
    assert rest.log != post.log
    assert ann.bodies() == list(post.bodies)


# --- The clock --------------------------------------------------------------------------------


@pytest.mark.parametrize("wall", [WALL_MS_LIMIT, 400 * YEAR_MS, 10**18, -1, -30 * YEAR_MS])
def test_a_clock_before_1970_or_after_2199_says_nothing(wall: int) -> None:
    """Until it is set: a stamp that it made would stay in the room for ever, or be refused."""
    ann = Stage()
    ann.set_clock(wall)
    ann.turn()
    post = ann.say("at no time")
    ann.turn()
    assert post.is_refused
    assert post.error is not None
    assert "the clock of this node" in str(post.error)
    assert "timedatectl" in post.error.hint
    assert not ann.node.clock_is_usable
    assert ann.notices == [ClockUnusable(wall)]

    ann.set_clock(WALL)
    post = ann.say("today")
    ann.turn()
    ann.finish_all()
    assert post.is_durable
    assert ann.node.clock_is_usable
    ann.set_clock(wall)
    ann.turn()
    assert ann.notices == [ClockUnusable(wall)] * 2


@pytest.mark.parametrize("wall", [0, WALL_MS_LIMIT - 1])
def test_the_first_and_the_last_time_that_a_clock_may_show(wall: int) -> None:
    """Both say something."""
    ann = Stage()
    ann.set_clock(wall)
    post = ann.say("in time")
    ann.turn()
    assert ann.notices == []
    ann.finish_all()
    assert post.is_durable


def test_a_clock_that_is_far_ahead_is_held_to_the_others() -> None:
    """A member told its own: what is said goes by that, and an hour at most above it."""
    ann, ahead_ms = stage(), 10**11
    ann.turn(10_000_000)  # It asks the other how it is.
    for ping in ann.of_kind(Ping):
        ann.receive(Ack(ping.nonce, bytes(8), bytes(8), False, 0, 0, ann.wall() - ahead_ms))
    ann.turn()
    ann.say("hi")
    ann.turn()
    ann.finish_all()

    (block,) = ann.disk.blocks
    assert block.wall <= ann.wall() - ahead_ms + 3_600_000
