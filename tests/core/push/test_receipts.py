from flc_udp.core.push.receipts import PROBE_PAUSE_US, Receipts, Wait

ANN, BOB, CYD = (name.encode().ljust(8, b"-") for name in ("ann", "bob", "cyd"))


def test_so_many_are_enough() -> None:
    """Two of three, in the order their receipts came."""
    receipts = Receipts()
    wait = receipts.watch(5, 2, [ANN, BOB, CYD], 0, [])
    receipts.receive(CYD, 5, 9, 0)

    assert not wait.is_done

    receipts.receive(ANN, 9, 9, 0)

    assert wait.is_done
    assert wait.held_by == [CYD, ANN]


def test_a_head_below_the_message_does_not_count() -> None:
    """Who holds 4 does not hold 5."""
    receipts = Receipts()
    wait = receipts.watch(5, 1, [ANN], 0, [])
    receipts.receive(ANN, 4, 9, 0)

    assert not wait.is_done
    assert receipts.take_due(PROBE_PAUSE_US) == [ANN]


def test_heads_never_fall() -> None:
    """A receipt that was overtaken on the way takes nothing back."""
    receipts = Receipts()
    receipts.receive(ANN, 5, 9, 0)
    receipts.receive(ANN, 3, 9, 0)

    assert receipts.watch(5, 1, [ANN], 0, []).is_done


def test_one_receipt_serves_every_wait_below_it() -> None:
    """Heads are cumulative, and whoever waits is told which waits are done."""
    receipts, ended = Receipts(), list[Wait]()
    waits = [receipts.watch(seq, 1, [ANN], 0, ended) for seq in (3, 1, 2)]
    receipts.receive(ANN, 2, 9, 0)

    assert [wait.is_done for wait in waits] == [False, True, True]
    assert ended == waits[1:]


def test_who_is_dropped_is_named_and_missed_no_more() -> None:
    """A member that dies is gone from every wait it was in."""
    receipts = Receipts()
    wait = receipts.watch(1, 2, [ANN, BOB], 0, [])
    receipts.drop(ANN)
    receipts.drop(CYD)

    assert wait.gone == [ANN]
    assert receipts.take_due(PROBE_PAUSE_US) == [BOB]

    receipts.receive(BOB, 1, 9, 0)

    assert wait.is_done
    assert wait.held_by == [BOB]


def test_a_dead_member_that_held_it_counts() -> None:
    """It had it when it died."""
    receipts = Receipts()
    wait = receipts.watch(1, 1, [ANN, BOB], 0, [])
    receipts.receive(ANN, 1, 9, 0)
    receipts.drop(ANN)

    assert (wait.held_by, wait.gone) == ([ANN], [])


def test_strangers_are_not_waited_for() -> None:
    """Only those of the wait count, whoever else holds it."""
    receipts = Receipts()
    wait = receipts.watch(1, 1, [ANN], 0, [])
    receipts.receive(CYD, 1, 9, 0)

    assert wait.held_by == []
    assert not wait.is_done


def test_missing_names_each_once_in_order() -> None:
    """Whom to probe, over all waits."""
    receipts = Receipts()
    receipts.watch(1, 2, [BOB, ANN], 0, [])
    receipts.watch(2, 2, [CYD, BOB], 0, [])

    assert receipts.take_due(PROBE_PAUSE_US) == [BOB, ANN, CYD]


def test_what_is_given_up_is_missed_no_more() -> None:
    """A wait whose time is out asks nobody; the other waits go on."""
    receipts = Receipts()
    wait, other = receipts.watch(1, 1, [ANN], 0, []), receipts.watch(1, 1, [BOB], 0, [])
    wait.give_up()

    assert receipts.take_due(PROBE_PAUSE_US) == [BOB]

    receipts.receive(BOB, 1, 9, 0)

    assert (wait.held_by, other.held_by) == ([], [BOB])


def test_who_reaches_the_head_of_the_last_time_keeps_up() -> None:
    """Though it never holds the head of the moment."""
    receipts = Receipts()
    for second, seq in enumerate((0, 10, 20, 30)):
        receipts.receive(ANN, seq, seq + 10, second)

    assert receipts.marks[ANN] == (40, 3, 3)
    assert receipts.marks[ANN].behind_for_us == 0


def test_who_does_not_is_behind_since_then() -> None:
    """Until it reaches that head, however far the head has gone meanwhile."""
    receipts = Receipts()
    receipts.receive(ANN, 10, 10, 0)
    receipts.receive(ANN, 10, 20, 1)
    receipts.receive(ANN, 15, 90, 5)
    assert receipts.marks[ANN].behind_for_us == 4

    receipts.receive(ANN, 20, 95, 6)
    assert receipts.marks[ANN] == (95, 6, 6)
