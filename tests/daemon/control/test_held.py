"""The bytes of requests in memory: what is taken, what is refused, and that all is given back."""

import pytest

from flc_udp.daemon.control import held as held_module
from flc_udp.daemon.control.held import LINE_BYTES_FREE, REFUSED_TIMES, SAY_BYTES, Held, PartialLine
from flc_udp.daemon.control.requests import LINE_BYTES_MAX
from flc_udp.model.errors import FlcError

MOST = 1 << 20


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Held:
    """A budget of 1 MiB."""
    monkeypatch.setattr(held_module, "HELD_BYTES_MAX", MOST)
    return Held()


def test_a_line_is_the_sum_of_its_parts(held: Held) -> None:
    """And nothing of it is held when it has ended."""
    line = PartialLine(held)
    for part in (b"ab", b"", b"c"):
        line.add(part)
    assert (held.used_bytes, line.size_bytes) == (3, 3)
    assert line.end() == b"abc"
    assert (held.used_bytes, line.size_bytes) == (0, 0)
    assert line.end() == b""


def test_a_line_that_is_too_long_is_refused_once(held: Held) -> None:
    """At its end; nothing of it is held before, and the next one is read."""
    line = PartialLine(held)
    line.add(b"x" * LINE_BYTES_MAX)
    line.add(b"x")
    assert held.used_bytes == 0
    with pytest.raises(FlcError, match="a line is too long"):
        line.end()
    line.add(b"next")
    assert line.end() == b"next"
    assert held.refused == 0


def test_long_lines_are_refused_while_others_hold_much(held: Held) -> None:
    """Short ones never are; and when the others have ended there is room again."""
    others, long, short = (PartialLine(held) for _ in range(3))
    others.add(b"x" * (MOST + 1))
    long.add(b"y" * (LINE_BYTES_FREE + 1))
    short.add(b"z" * LINE_BYTES_FREE)
    assert short.end() == b"z" * LINE_BYTES_FREE
    with pytest.raises(FlcError, match="clients have sent"):
        long.end()
    assert held.refused == 1
    others.drop()
    assert held.used_bytes == 0
    long.add(b"y" * (LINE_BYTES_FREE + 1))
    assert len(long.end()) == LINE_BYTES_FREE + 1


def test_says_are_refused_at_a_multiple(held: Held) -> None:
    """Whoever said them, and however short they are."""
    each = MOST // 8 - SAY_BYTES
    for _ in range(8 * REFUSED_TIMES + 1):
        assert held.take_say(each) == MOST // 8
    with pytest.raises(FlcError, match="clients have sent"):
        held.take_say(0)
    assert held.used_bytes == REFUSED_TIMES * MOST + MOST // 8
