"""Waits for other nodes' disks: how each ends, and that nothing ends before all is read."""

from __future__ import annotations

import pytest

from flc_udp.core.push.receipts import Wait
from flc_udp.model.dots import Dot
from flc_udp.model.units import MS_US, NEVER, SECOND_US
from flc_udp.waist import inbox, node
from flc_udp.waist.waits import WaitEnded, Waiting, Waits
from flc_udp.wire.packets import Ack, Leave, Ping, Receipt, ReplayEnd
from flc_udp.wire.rows import State
from tests.waist.ground import Said
from tests.waist.stage import BOB, Stage, stage

ANN, CYD, DAN = b"ann-----", b"cyd-----", b"dan-----"
LATE = 10 * SECOND_US


class TestTable:
    @pytest.mark.parametrize(
        ("needed", "is_for_all", "held_by", "gone", "silent", "ended"),
        [
            # As many as were asked for hold it.
            (1, False, [ANN], [], [CYD], WaitEnded((ANN,), (CYD,), False)),
            (2, False, [CYD, ANN], [], [], WaitEnded((CYD, ANN), (), False)),
            # Somebody died or left: enough others hold it, or too few are left.
            (1, False, [ANN], [CYD], [], WaitEnded((ANN,), (CYD,), False)),
            (2, False, [ANN], [CYD], [], WaitEnded((ANN,), (CYD,), True)),
            # Everybody: whoever died or left is named, and not waited for.
            (2, True, [ANN, CYD], [], [], WaitEnded((ANN, CYD), (), False)),
            (2, True, [ANN], [CYD], [], WaitEnded((ANN,), (CYD,), False)),
            (0, True, [], [], [], WaitEnded((), (), False)),
            # Its time is out.
            (1, False, [], [], [ANN], WaitEnded((), (ANN,), True)),
            (2, False, [ANN], [DAN], [CYD], WaitEnded((ANN,), (CYD, DAN), True)),
            (2, True, [ANN], [], [CYD], WaitEnded((ANN,), (CYD,), True)),
        ],
    )
    def test_how_it_ended(
        self,
        needed: int,
        is_for_all: bool,
        held_by: list[bytes],
        gone: list[bytes],
        silent: list[bytes],
        ended: WaitEnded,
    ) -> None:
        """It says who holds it, who was waited for and does not, and whether that is too few."""
        wait = Wait(1, needed, dict.fromkeys(silent), held_by, gone)

        waits = Waits()
        waits.add(Waiting(wait, is_for_all, LATE, print))
        (waiting,) = waits.take_ended(LATE)
        assert (waiting.watched, waiting.outcome()) == (wait, ended)

    def test_it_ends_once_and_the_others_go_on(self) -> None:
        """What is done ends at once, and what is late at its deadline."""
        waits = Waits()
        done, late, later = (Wait(1, 1, {ANN: None}, ended=waits.done) for _ in range(3))
        for wait, deadline in ((later, 3 * LATE), (done, LATE), (late, 2 * LATE)):
            waits.add(Waiting(wait, False, deadline, print))
        done.give_up()

        assert [waiting.watched for waiting in waits.take_ended(0)] == [done]
        done.give_up()
        assert waits.take_ended(2 * LATE - 1) == []
        assert waits.next_deadline == 2 * LATE
        assert [waiting.watched for waiting in waits.take_ended(2 * LATE)] == [late]
        assert (len(waits), waits.next_deadline) == (1, 3 * LATE)

    def test_of_those_that_end_together_each_ends_once(self) -> None:
        """Those that are done first, in the order in which that was seen; then by deadline."""
        waits = Waits()
        all_of_them = [Wait(1, 1, {ANN: None}, ended=waits.done) for _ in range(4)]
        for wait, deadline in zip(all_of_them, (2, 3, 1, 1), strict=True):
            waits.add(Waiting(wait, False, deadline, print))
        all_of_them[3].give_up()
        all_of_them[0].give_up()

        ended = [waiting.watched for waiting in waits.take_ended(3)]

        assert ended == [all_of_them[at] for at in (3, 0, 2, 1)]
        assert (len(waits), waits.next_deadline) == (0, NEVER)


def said(ann: Stage) -> Dot:
    """Ann has said something that asks for receipts, and it is durable."""
    post = ann.say("hi", receipt=True)
    ann.turn()
    ann.finish()
    assert post.is_durable
    return post.dot


def waiting(timeout_us: int = LATE) -> tuple[Stage, Dot, list[WaitEnded]]:
    """Ann waits for bob, the only other member; how that ends comes into the list."""
    ann = stage()
    dot, ended = said(ann), list[WaitEnded]()
    ann.node.wait(dot, None, timeout_us, ended.append)
    ann.turn()
    return ann, dot, ended


BOB_HOLDS_IT = [WaitEnded((BOB.id,), (), False)]
BOB_IS_MISSING = [WaitEnded((), (BOB.id,), True)]


class TestNode:
    def test_it_ends_with_the_last_receipt(self) -> None:
        """In the turn that reads it, once."""
        ann, dot, ended = waiting()
        assert (ended, len(ann.node.waits)) == ([], 1)

        ann.receive(Receipt(*dot))
        ann.turn(1_000)
        ann.turn(LATE)

        assert (ended, len(ann.node.waits)) == (BOB_HOLDS_IT, 0)

    def test_what_is_held_already_is_not_waited_for(self) -> None:
        """The answer comes in the turn in which the wait began."""
        ann = stage()
        dot, ended = said(ann), list[WaitEnded]()
        ann.receive(Receipt(*dot))
        ann.turn()
        ann.node.wait(dot, 1, LATE, ended.append)
        ann.turn()

        assert ended == BOB_HOLDS_IT

    def test_it_may_begin_where_the_post_is_answered(self) -> None:
        """As a say with `wait` does: what follows from that follows in the same turn."""
        ann, ended = stage(), list[WaitEnded]()

        def answered(post: Said) -> None:
            ann.node.wait(post.dot, 0, LATE, ended.append)

        ann.node.post(Said("hi", heard=answered))
        ann.turn()
        ann.finish()

        assert ended == [WaitEnded((), (BOB.id,), False)]

    def test_it_ends_when_the_last_one_waited_for_is_dead(self) -> None:
        """He is named. `all` is not short of him, a number is."""
        ann, dot, ended = waiting(10 * LATE)
        ann.node.wait(dot, 1, 10 * LATE, ended.append)
        while not ended and ann.time < 9 * LATE:
            ann.turn(100 * MS_US)

        assert ann.node.member(BOB.id).row._replace(accuser=bytes(8)) == BOB._replace(
            state=State.DEAD
        )
        assert ended == [WaitEnded((), (BOB.id,), False), WaitEnded((), (BOB.id,), True)]

    def test_it_ends_when_the_last_one_waited_for_leaves(self) -> None:
        """At once, however long it might wait."""
        ann, _, ended = waiting()
        ann.receive(Leave(7, BOB._replace(state=State.LEFT, incarnation=2)))
        ann.turn(1_000)

        assert ended == [WaitEnded((), (BOB.id,), False)]

    def test_it_ends_when_its_time_is_out(self) -> None:
        """Not before; a turn is due then, and two turns are enough."""
        ann, _, ended = waiting(300 * MS_US)
        while ann.time < 300 * MS_US:
            assert ended == []
            ann.turn(ann.node.wake_at - ann.time)
        ann.turn(max(ann.node.wake_at - ann.time, 0))

        assert ann.time == 300 * MS_US
        assert ended == BOB_IS_MISSING

    def test_afterwards_nobody_is_asked_for_it_any_more(self) -> None:
        """While somebody waits the one that owes a receipt is probed often, and then as any."""
        ann, _, ended = waiting(2 * SECOND_US)
        pings = [self.pings_of_two_seconds(ann) for _ in range(2)]

        assert ended == BOB_IS_MISSING
        assert 8 <= pings[0] <= 12
        assert pings[1] <= 3

    def pings_of_two_seconds(self, ann: Stage) -> int:
        """How often ann probes bob, who answers and holds nothing."""
        ann.packets.clear()
        answered = 0
        for _ in range(200):
            ann.turn(10 * MS_US)
            pings = [ping for ping in ann.of_kind(Ping) if isinstance(ping, Ping)]
            for ping in pings[answered:]:
                ann.receive(Ack(ping.nonce, ping.root, ping.members_root, False, 0))
            answered = len(pings)
        return answered


class TestReadFirst:
    """A node stood still over the deadline of a wait: what came in meanwhile counts."""

    def stalled(self) -> tuple[Stage, Dot, list[WaitEnded]]:
        """Ann waits for a second, and stood still for three."""
        ann, dot, ended = waiting(SECOND_US)
        ann.time += 3 * SECOND_US
        return ann, dot, ended

    def test_a_receipt_in_the_inbox_counts(self) -> None:
        """The turn reads before it judges."""
        ann, dot, ended = self.stalled()
        ann.receive(Receipt(*dot))
        ann.turn()

        assert ended == BOB_HOLDS_IT

    def test_a_commit_that_ends_first_judges_nothing(self) -> None:
        """It is carried out between turns, when nothing was read yet."""
        ann, dot, ended = waiting(SECOND_US)
        ann.say("more")
        ann.turn(100 * MS_US)
        ann.time += 3 * SECOND_US
        ann.receive(Receipt(*dot))
        ann.finish()
        assert ended == []

        ann.turn()

        assert ended == BOB_HOLDS_IT

    def test_a_receipt_in_the_socket_counts(self) -> None:
        """The first turn may come before the ground has read its socket: the second one judges."""
        ann, dot, ended = self.stalled()
        ann.turn()
        assert ended == []
        assert ann.node.wake_at <= ann.time

        ann.receive(Receipt(*dot))
        ann.turn()

        assert ended == BOB_HOLDS_IT

    def test_a_receipt_behind_much_else_counts(self) -> None:
        """However many turns it takes to read all that came in before it."""
        ann, dot, ended = self.stalled()
        for number in range(3 * inbox.BLOCKS_A_TURN):
            ann.receive(ReplayEnd(number, 0, 0, 0, ()))
        ann.receive(Receipt(*dot))
        while ann.node.queued()["inbox"]:
            assert ended == []
            ann.turn(1_000)

        assert ended == BOB_HOLDS_IT

    def test_a_receipt_behind_many_turns_of_the_socket_counts(self) -> None:
        """A ground reads only a part of its socket before each turn, and each turn takes it."""
        ann, dot, ended = self.stalled()
        for number in range(20):
            ann.receive(ReplayEnd(number, 0, 0, 0, ()))
            ann.turn(1_000)
            assert ended == []
        ann.receive(Receipt(*dot))
        ann.turn(1_000)

        assert ended == BOB_HOLDS_IT

    def test_where_nothing_came_it_is_short(self) -> None:
        """Two turns after the stall, which is one stall and not two."""
        ann, _, ended = self.stalled()
        ann.turn()
        ann.turn()

        assert ended == BOB_IS_MISSING
        assert ann.node.counts["stalls"] == 1

    def test_an_inbox_that_is_never_empty_keeps_nobody_for_ever(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What came in before the deadline is read by then, and later datagrams cannot help."""
        monkeypatch.setattr(node, "UNREAD_TURNS_MAX", 3)
        ann, _, ended = waiting(SECOND_US)
        turns = 0
        while not ended:
            for number in range(inbox.BLOCKS_A_TURN + 100):
                ann.receive(ReplayEnd(number, 0, 0, 0, ()))
            ann.turn(20 * MS_US)
            turns += ann.time > SECOND_US

        assert turns <= 4
        assert ended == BOB_IS_MISSING
