"""Members claim to hold what nobody has: it makes no node one that is catching up."""

from flc_udp.config import CATCHING_UP_MESSAGES, SEQ_LIMIT
from flc_udp.core.repair.wanted_log import FAILURES_MAX
from flc_udp.core.repair.wants import CATCH_UP_LEAST, DOUBTED_US, REPAIR_MESSAGES_MAX
from tests.core.repair.test_wants import ANN, BOB, PEERS, Puller, log

MUCH = 100_000


def test_what_is_only_claimed_counts_little() -> None:
    """However many claim however much: begin to ask, and say nothing to others."""
    puller = Puller()
    for number in range(40):
        puller.wants.add(log(number), SEQ_LIMIT - 1, number.to_bytes(8, "big"), 0)
    puller.ask()

    assert puller.wants.backed == 0
    assert puller.wants.to_go == CATCH_UP_LEAST < CATCHING_UP_MESSAGES


def test_what_an_answer_brought_some_of_counts_as_told() -> None:
    """A newcomer says at once after the first answer how much is to go."""
    puller = Puller()
    puller.wants.add(log(1), MUCH, BOB, 0)
    [(peer, (nonce, _))] = puller.ask().items()
    puller.heads[log(1)] = 300
    puller.end(nonce, peer)

    assert puller.wants.backed == puller.wants.to_go == MUCH - 300


def test_what_catch_up_brought_counts_as_told() -> None:
    """The same for a log that catch-up asks for."""
    puller = Puller()
    puller.wants.add(log(1), MUCH, BOB, 0)
    puller.wants.ripen(0)
    assert puller.wants.take_many(has_begun=False) == {log(1): MUCH}
    puller.heads[log(1)] = 300
    puller.wants.recount({log(1): True})
    assert puller.wants.backed == MUCH - 300
    puller.heads[log(1)] = 310
    puller.wants.recount({log(1): False})
    assert puller.wants.backed == 0


def test_an_answer_that_lacks_the_rest_backs_no_claim() -> None:
    """An insider claims 2^53 of a log that grows: an honest one brings what there is, no more."""
    puller = Puller()
    puller.wants.add(log(1), SEQ_LIMIT - 1, BOB, 0)
    [(peer, (nonce, _))] = puller.ask().items()
    puller.heads[log(1)] = 5
    puller.wants.ended(nonce, peer, puller.now, lacks=(log(1),))

    assert puller.wants.backed == 0


def fail(puller: Puller) -> None:
    """Nobody brings what is wanted, until it is given up."""
    for _ in range(4 * FAILURES_MAX):
        for peer, (nonce, _) in puller.ask().items():
            puller.end(nonce, peer)
        if not puller.wants.to_go:
            return
        puller.sleep()
    raise AssertionError("it is never given up")


def asked_for(puller: Puller) -> int:
    """How many messages are asked for."""
    puller.ask(PEERS)
    return sum(pull.messages for pull in puller.wants.pulls.values())


def test_who_claimed_what_nobody_has_is_believed_little_for_a_while() -> None:
    """What it really has comes in small parts. Others, and itself later, are believed."""
    puller = Puller()
    puller.wants.add(log(1), MUCH, BOB, 0)
    fail(puller)
    puller.wants.add(log(2), MUCH, BOB, puller.now)
    assert asked_for(puller) == REPAIR_MESSAGES_MAX
    puller.wants.add(log(2), MUCH, ANN, puller.now)
    [(nonce, pull)] = puller.wants.pulls.items()
    puller.heads[log(2)] = 200
    puller.end(nonce, pull.peer)
    assert asked_for(puller) == MUCH - 200

    later = Puller()
    later.wants.add(log(1), MUCH, BOB, 0)
    fail(later)
    later.now += DOUBTED_US
    later.wants.add(log(2), MUCH, BOB, later.now)
    assert asked_for(later) == MUCH
