"""How fast a node catches up, from looks at its status."""

import pytest

from flc_udp.cli.progress import CatchUpFigures, Progress


def looks(*seen: tuple[float, int, int]) -> CatchUpFigures:
    """What the last of these (seconds, messages, to go) says after the others."""
    progress = Progress()
    return [
        progress.look({"messages": messages, "catching_up": to_go}, at)
        for at, messages, to_go in seen
    ][-1]


def test_one_look_tells_neither_rate_nor_time() -> None:
    """What is to go and held is in it; how fast that changes is not."""
    assert looks((100.0, 12, 7)) == CatchUpFigures(to_go=7, messages=12, rate=None, left_s=None)


def test_a_moment_is_too_short_for_a_rate() -> None:
    """Replays come in bursts: what came in a quarter of a second is no rate."""
    assert looks((0.0, 0, 700), (0.25, 1_000, 700)).rate is None


def test_two_looks_tell_both() -> None:
    """Messages that came by the seconds between, and what is to go by that."""
    assert looks((3.0, 100, 900), (5.0, 300, 700)) == CatchUpFigures(700, 300, 100.0, 7.0)


def test_while_nothing_comes_the_time_left_is_not_known() -> None:
    """A rate of nothing is known, a time from it is not."""
    assert looks((0.0, 5, 9), (2.0, 5, 9)) == CatchUpFigures(9, 5, 0.0, None)


def test_where_nothing_is_to_go_no_time_is_left() -> None:
    """Whatever the rate, and before there is one."""
    assert looks((0.0, 5, 0)).left_s == 0
    assert looks((0.0, 5, 9), (2.0, 14, 0)).left_s == 0


def test_the_rate_is_that_of_the_last_seconds() -> None:
    """What came before the window is forgotten, however fast it came."""
    quick = [(second, 1_000 * second, 0) for second in range(10)]
    slow = [(10 + second, 9_000 + 10 * second, 100) for second in range(8)]

    assert looks(*quick, *slow).rate == 10


@pytest.mark.parametrize("pause", [6.0, 600.0])
def test_looks_far_apart_are_enough(pause: float) -> None:
    """Looks rarer than the window give the rate between the last two."""
    figures = looks((0.0, 0, 0), (pause, 600, 0), (2 * pause, 1_200, 300))

    assert figures.rate == pytest.approx(600 / pause)
    assert figures.left_s == pytest.approx(pause / 2)


def test_fewer_messages_than_before_are_no_negative_rate() -> None:
    """A log that was rebuilt may hold less for a moment."""
    assert looks((0.0, 10, 5), (2.0, 4, 5)) == CatchUpFigures(5, 4, 0.0, None)


@pytest.mark.parametrize(
    ("figures", "expected"),
    [
        (CatchUpFigures(7, 12, None, None), "7 messages to go, - messages/s, time left -"),
        (CatchUpFigures(1, 12, 0.0, None), "1 message to go, 0.0 messages/s, time left -"),
        (CatchUpFigures(7, 12, 9.96, 0.7), "7 messages to go, 10 messages/s, time left 1 s"),
        (CatchUpFigures(7, 12, 2.25, 3.1), "7 messages to go, 2.2 messages/s, time left 4 s"),
        (
            CatchUpFigures(90_000, 12, 600.4, 150.0),
            "90000 messages to go, 600 messages/s, time left 2 min 30 s",
        ),
    ],
)
def test_for_people(figures: CatchUpFigures, expected: str) -> None:
    """A dash for what is not known; a time that is not yet over is never 0 s."""
    assert figures.text() == expected


def test_for_scripts() -> None:
    """Null for what is not known, a decimal for what is."""
    assert CatchUpFigures(7, 12, None, None).record() == (
        {"to_go": 7, "messages": 12, "rate": None, "left_s": None}
    )
    assert list(CatchUpFigures(7, 12, 3.14159, 2.2282).record().values()) == [7, 12, 3.1, 2.2]
