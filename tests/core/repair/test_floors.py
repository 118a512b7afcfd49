"""Logs that some member keeps no more: whom to ask, when all were asked, when all again."""

from flc_udp.core.repair.wanted_log import ENOUGH, FAILURES_MAX, Floors
from flc_udp.core.repair.wants import ASKED_ANEW_US, CATCH_UP_LEAST, SILENT, VAIN
from tests.core.repair.test_wants import ANN, BOB, CYD, Puller, log

LIVE = [ANN, BOB, CYD]


def asked(puller: Puller) -> bytes:
    """The one that is asked now."""
    (peer,) = puller.ask(LIVE)
    return peer


def end(puller: Puller, peer: bytes, floor: int = 0, *, is_empty: bool = True) -> None:
    """It answers: by its floor, with nothing, or in vain."""
    (nonce,) = puller.nonces
    if floor:
        puller.wants.below_floor([log(1)], peer, floor)
    puller.wants.ended(nonce, peer, puller.now, is_empty=is_empty)


def wanting() -> Puller:
    """One that wants five messages, and was told by the first that it keeps them no more."""
    puller = Puller()
    puller.wants.add(log(1), 5, ANN, 0)
    end(puller, asked(puller), 70)
    return puller


def test_each_other_is_asked_once_and_then_a_base_is_due() -> None:
    """The floors of those that told one are what may be taken."""
    puller = wanting()
    second = asked(puller)
    end(puller, second)
    assert puller.wants.take_truncated() == {}
    third = asked(puller)
    end(puller, third, 50)

    assert {ANN, second, third} == set(LIVE)
    assert puller.ask(LIVE) == {}
    assert puller.wants.take_truncated() == {log(1): {ANN: 70, second: 0, third: 50}}
    assert puller.wants.take_truncated() == {}


def test_after_a_while_all_are_asked_anew() -> None:
    """No base could be taken, or what nobody had somebody has by now."""
    puller = wanting()
    for _ in range(2):
        end(puller, asked(puller), 50)
    assert puller.ask(LIVE) == {}
    puller.now += ASKED_ANEW_US

    assert len({asked(puller)}) == 1


def test_one_that_brings_something_is_asked_on() -> None:
    """It keeps what others do not, and brings it a credit at a time."""
    puller = wanting()
    peer = asked(puller)
    puller.heads[log(1)] = 2
    end(puller, peer, is_empty=False)
    assert asked(puller) == peer
    puller.heads[log(1)] = 5
    end(puller, peer, is_empty=False)

    assert puller.wants.take_truncated() == {}
    assert puller.wants.to_go == 0


def test_a_lost_answer_is_no_answer() -> None:
    """Who is silent is asked again and again before it counts as one that has nothing."""
    puller = wanting()
    asks = 0
    while not (truncated := puller.wants.take_truncated()):
        asks += len(puller.ask(LIVE))
        puller.sleep()
        puller.wants.close_silent(puller.now)

    assert asks == 2 * ENOUGH // SILENT
    assert set(truncated[log(1)]) == set(LIVE)
    assert not puller.drops
    assert asks > FAILURES_MAX


def test_an_answer_in_vain_counts_more_than_none() -> None:
    """Pieces may have been lost on the way, and an answer does not tell how many it had."""
    floors = Floors()
    for _ in range(ENOUGH // VAIN):
        assert floors.others([BOB]) == {BOB: None}
        floors.doubt(BOB, VAIN)

    assert floors.others([BOB]) == {}


def test_who_tells_that_it_has_some_is_asked_again() -> None:
    """It had nothing when it was asked, and has got it since."""
    puller = wanting()
    second = asked(puller)
    end(puller, second)
    puller.wants.add(log(1), 5, second, 0)
    third = asked(puller)
    end(puller, third)

    assert asked(puller) == second or third == second


def test_who_comes_meanwhile_is_asked_first() -> None:
    """A base that has come is not taken while somebody is there who was not asked."""
    puller = wanting()
    for _ in range(2):
        end(puller, asked(puller), 50)
    puller.ask(LIVE)
    logs = list(puller.wants.take_truncated())
    dee = b"dee-----"

    assert puller.wants.needs_base(logs, LIVE, puller.now)
    assert not puller.wants.needs_base(logs, [*LIVE, dee], puller.now)
    assert list(puller.ask([*LIVE, dee])) == [dee]


def test_no_base_is_needed_for_what_came() -> None:
    """What it was to stand for came by another way."""
    puller = wanting()
    puller.heads[log(1)] = 5

    assert not puller.wants.needs_base([log(1)], LIVE, puller.now)


def test_catch_up_leaves_such_logs_alone() -> None:
    """It asks a few members only, and of these each is to be asked."""
    puller = Puller()
    puller.wants.add(log(1), 2 * CATCH_UP_LEAST, ANN, 0)
    puller.wants.add(log(2), 2 * CATCH_UP_LEAST, ANN, 0)
    puller.ask(LIVE)
    puller.wants.below_floor([log(1)], ANN, 70)
    puller.end(1, ANN)
    puller.now += ASKED_ANEW_US
    puller.wants.ripen(puller.now)
    logs = puller.wants.take_many(has_begun=False)

    assert list(logs) == [log(2)]
