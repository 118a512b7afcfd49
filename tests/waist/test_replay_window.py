"""The replay window: every counter is taken once, and old ones never."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from flc_udp.model.units import Micros
from flc_udp.waist.replay_window import AGE_US, COUNTERS, ReplayWindow


class Plain:
    """The same as a set, without any cleverness."""

    def __init__(self, proved: int) -> None:
        self.top, self.seen = proved, set(range(max(proved - COUNTERS, 0), proved + 1))
        self.floor = proved

    def take(self, counter: int) -> bool:
        """Whether it is taken."""
        if counter <= self.floor or counter <= self.top - COUNTERS or counter in self.seen:
            return False
        self.seen.add(counter)
        self.top = max(self.top, counter)
        return True


def take(window: ReplayWindow, counter: int) -> bool:
    """As a datagram that is authentic."""
    if not window.is_new(counter):
        return False
    window.mark(counter)
    return True


@given(
    st.integers(0, 1 << 40),
    st.lists(st.one_of(st.integers(-3, 40), st.integers(-COUNTERS - 9, 3 * COUNTERS)), max_size=60),
)
def test_it_takes_what_a_set_takes(proved: int, steps: list[int]) -> None:
    """In any order, with gaps of any size, around the ring more than once."""
    window, plain = ReplayWindow(proved, Micros(0)), Plain(proved)
    for step in steps:
        counter = max(plain.top + step, 0)
        assert take(window, counter) == plain.take(counter), counter
        assert not take(window, counter)


def test_a_million_counters_with_loss_and_reordering() -> None:
    """A long stream: each is taken at its first coming and at no other."""
    random, window, plain = Random(1), ReplayWindow(5, Micros(0)), Plain(5)
    at = 5
    for _ in range(200_000):
        at += random.choice((1, 1, 1, 2, 8, 40))
        counter = max(at - random.choice((0, 0, 0, 1, 7, 300)), 0)
        assert take(window, counter) == plain.take(counter)


def test_what_is_below_the_top_of_a_while_ago_is_refused() -> None:
    """A quiet sender's lost datagram cannot come to life later, though its bit is not set."""
    window = ReplayWindow(0, Micros(0))
    assert take(window, 10)
    window.age(Micros(AGE_US))
    assert window.is_new(9)  # It is late, and not that late.
    assert take(window, 12)
    window.age(Micros(2 * AGE_US))
    assert not window.is_new(9)
    assert window.is_new(11)
    window.age(Micros(9 * AGE_US))  # Nothing came for long.
    assert not window.is_new(11)
    assert window.is_new(13)
