"""Names of rooms, authors and nodes."""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flc_udp.config import LABEL_BYTES_MAX
from flc_udp.model.errors import FlcError
from flc_udp.model.labels import check_label, is_label, label_problem

NO_LABELS = ["", "a\x00", "\n", "\x1f", "\x7f", "\x80", "\x9f", "x" * 129, "é" * 65, "\ud800"]


@pytest.mark.parametrize("label", [" ", "~", "\xa0", "x" * 128, "é" * 64, "🙂" * 32, "\u200d"])
def test_what_people_may_call_things(label: str) -> None:
    """1 to 128 bytes of UTF-8, with anything in them but control characters."""
    check_label("room", label)

    assert is_label(label)


@pytest.mark.parametrize("label", NO_LABELS, ids=ascii)
def test_what_is_no_name(label: str) -> None:
    """It is refused with a hint where it is typed, and without a word where it comes in."""
    with pytest.raises(FlcError) as refused:
        check_label("room", label)

    assert refused.value.hint
    assert not is_label(label)


@given(st.text(max_size=2 * LABEL_BYTES_MAX))
def test_the_problem_is_what_the_rule_says(label: str) -> None:
    """By its bytes, and by the two ranges of control characters."""
    encoded = label.encode("utf-8", "surrogatepass")
    is_unicode = not any("\ud800" <= c <= "\udfff" for c in label)
    is_plain = not any(ord(c) < 0x20 or 0x7F <= ord(c) <= 0x9F for c in label)
    is_allowed = is_unicode and is_plain and 1 <= len(encoded) <= LABEL_BYTES_MAX

    assert is_allowed is (label_problem(label) is None) is is_label(label)


@pytest.mark.parametrize("value", [b"lobby", 7, None, ("lobby",), True])
def test_what_is_no_text_is_no_name(value: object) -> None:
    """Whatever msgpack may bring."""
    assert not is_label(value)


def test_the_error_says_which_and_why() -> None:
    """And shows the beginning of it."""
    with pytest.raises(FlcError, match=r"room 'a\\nb' has control characters"):
        check_label("room", "a\nb")
    with pytest.raises(FlcError, match=r"author 'x+' has 129 bytes .* 1 to 128"):
        check_label("author", "x" * 129)


def test_a_long_one_that_came_is_not_remembered() -> None:
    """Junk names of a megabyte leave no memory behind."""
    tracemalloc.start()
    try:
        for number in range(20):
            is_label(f"{number}" + "x" * 1_000_000)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert held < 2_000_000
