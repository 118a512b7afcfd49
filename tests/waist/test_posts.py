"""Posts: when they are taken, what they are refused for, and that each is answered once."""

from __future__ import annotations

import pytest

from flc_udp.config import Settings
from flc_udp.core.push.links import ANNOUNCE_BYTES
from flc_udp.model.errors import FlcError
from flc_udp.model.message import Message
from flc_udp.model.units import MS_US
from flc_udp.waist import admission
from flc_udp.waist.ports import Batch, Committed, Once, Post
from flc_udp.waist.posts import OVERHEAD_BYTES, PAUSE_US, Posts, check_size
from flc_udp.wire.packets import Taken
from tests.model.stories import Story
from tests.waist.stage import stage

LIMIT = 65_536
DISK_FULL = FlcError("not said: the disk is full", "make room")


class Desk:
    """Posts, and a Replica that is a story: it takes whatever it is given."""

    def __init__(self) -> None:
        self.posts = Posts(Settings(), 0)
        self.said: list[Message] = []
        self.answers: list[tuple[str | bytes, Committed | FlcError]] = []
        self._story = Story()

    def add(self, *bodies: str | bytes, once: Once | None = None) -> None:
        """People say something."""
        for body in bodies:

            def done(answer: Committed | FlcError, body: str | bytes = body) -> None:
                self.answers.append((body, answer))

            self.posts.waiting.append(Post("lobby", "ann", body, done, once=once))

    def take(
        self,
        room_bytes: int | None = None,
        behind: int = 0,
        refusal: FlcError | None = None,
        now: int = 0,
    ) -> int:
        """Let a turn take posts; how many were decided."""
        before = len(self.said)
        self.posts.take(now, room_bytes, behind, refusal, self._say)
        return len(self.said) - before

    def commit(self, count: int, first_position: int) -> list[Committed]:
        """The first messages that are not durable yet become so; the answers to their posts."""
        batch, self.said = self.said[:count], self.said[count:]
        found = self.posts.answers(Batch(tuple(batch), ()), first_position)
        return [answer for _, answer in found]

    def _say(self, _room: str, author: str, body: str | bytes, *, receipt: bool) -> Message:
        if body == "refused":
            raise FlcError("room is not allowed", "use another")
        message = self._story.say(author, body=body)
        self.said.append(message)
        return message


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
            check_size(body, LIMIT)
            return
        with pytest.raises(FlcError) as refused:
            check_size(body, LIMIT)

        assert str(refused.value) == f"body has {size} bytes, allowed are {LIMIT}"
        assert "body_bytes_max" in refused.value.hint

    def test_a_limit_that_changed_is_for_what_is_taken_from_now_on(self) -> None:
        """Also for what waits already: it is this node's own setting."""
        desk = Desk()
        desk.add("x" * 100)
        desk.posts.body_bytes_max = 99

        assert desk.take() == 0
        ((_, answer),) = desk.answers
        assert "allowed are 99" in str(answer)

    def test_a_reload_changes_it(self) -> None:
        """While the node runs."""
        ann = stage()
        ann.node.reload(Settings(body_bytes_max=1_024))
        refused, taken = ann.say("x" * 1_025), ann.say("x" * 1_024)
        ann.turn()
        ann.finish()

        assert [FlcError, Committed] == [type(answer) for answer in (*refused, *taken)]


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
        assert [message.body[:1] for message in desk.said] == [f"{n}" for n in range(taken)]
        assert len(desk.posts) == 9
        assert bool(desk.posts.waiting) == (taken < 9)

    def test_what_is_taken_and_not_pushed_yet_has_its_room_already(self) -> None:
        """Until its commit, after which it is in flight, or is refused."""
        desk = Desk()
        desk.add(*["x" * 1_000] * 11)
        assert desk.take(3 * self.SIZE) == 3
        assert desk.take(3 * self.SIZE) == 1

        desk.commit(4, 1)
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
        ann = stage(push_window_bytes=LIMIT)
        ann.say("x" * 8_000)
        ann.turn()
        ann.finish()
        ann.receive(Taken(0))
        for _ in range(2 * LIMIT // 1_000):
            ann.say("x" * 1_000)
        ann.turn(20 * MS_US)

        assert ann.node.queued()["posts"] > LIMIT // 1_000
        assert ann.node.wake_at == ann.time + PAUSE_US


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
        desk.add("a", "refused", "b")
        assert desk.take() == 2
        assert [(body, str(answer)) for body, answer in desk.answers] == [
            ("refused", "room is not allowed")
        ]

        desk.answers.clear()
        desk.add("c", "d")
        assert desk.take(refusal=DISK_FULL) == 0

        assert desk.answers == [("c", DISK_FULL), ("d", DISK_FULL)]
        assert len(desk.posts) == 2

    def test_each_is_answered_with_its_own_dot_and_position(self) -> None:
        """Also where foreign messages stand between them in the batch."""
        desk = Desk()
        desk.add("a", "b", "c")
        desk.take()
        dots = [message.dot for message in desk.said]
        desk.said.insert(1, Story().say("bob"))

        assert desk.commit(3, 41) == [Committed(dots[0], 41), Committed(dots[1], 43)]
        assert desk.commit(1, 44) == [Committed(dots[2], 44)]
        assert len(desk.posts) == 0

    def test_a_failed_commit_refuses_what_was_taken_and_not_what_waits(self) -> None:
        """Whoever waits to be taken may yet be."""
        desk = Desk()
        desk.add("taken")
        desk.take()
        desk.add("waiting")
        desk.posts.refuse_taken(DISK_FULL)
        desk.posts.refuse_taken(DISK_FULL)

        assert desk.answers == [("taken", DISK_FULL)]
        assert desk.commit(1, 1) == []
        assert desk.posts.waiting

    def test_a_number_of_once_goes_with_its_message(self) -> None:
        """Only with those that were said under one, and only while they wait for their commit."""
        desk = Desk()
        desk.add("a")
        desk.add("b", once=("client", 7))
        desk.take()
        dot = desk.said[1].dot

        assert desk.posts.once_of(desk.said) == (("client", 7, dot),)
        assert desk.posts.once_of([Story().say("bob")]) == ()
        desk.commit(2, 1)
        assert desk.posts.once_of(desk.said) == ()
