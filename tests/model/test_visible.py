"""Text of others: what is not seen is shown as what it is."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flc_udp.model.visible import some_of, visible, visible_body, visible_json

HIDDEN = {
    "controls": "\x00\n\r\x1b\x7f\x85\x9b",
    "bidi": "\u061c\u200e\u200f\u202a\u202e\u2066\u2069",
    "separators": "\u2028\u2029",
    "zero width": "\xad\u200b\u200c\u200d\u2060\u2064\ufeff\ufff9",
    "fillers": "\u034f\u115f\u1160\u17b4\u180e\u2800\u3164\uffa0",
    "tags and selectors": "\ufe00\ufe0f\U000e0001\U000e0041\U000e0100",
    "music": "\U0001d173",
}
BLANKS = "\xa0\u2003\u202f\u3000"


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("plain\ttext é 漢 🙂", "plain\ttext é 漢 🙂"),
        ("\x00\n\r\x1b\x7f", "␀␊␍␛␡"),
        ("\x85\x9b", "\\x85\\x9b"),
        ("a\u200bnn", "a\\u200bnn"),
        ("\u202e\u2066\u2028", "\\u202e\\u2066\\u2028"),
        ("ann\U000e0041", "ann\\U000e0041"),
        ("ann\xa0", "ann\\xa0"),
    ],
)
def test_what_is_not_seen_is_shown_as_its_escape(said: str, shown: str) -> None:
    """What could drive a terminal, reorder a line or hide; tab and what is seen pass."""
    assert visible(said) == shown


@pytest.mark.parametrize("kind", HIDDEN)
def test_nothing_hides_in_a_name_or_between_letters(kind: str) -> None:
    """Each of these alone, wherever it stands; a body may have blanks of other kinds."""
    for found in HIDDEN[kind]:
        for text in (found, f"a{found}", f"{found}a", f"a{found}b"):
            assert found not in visible(text)
            assert found not in visible_body(text)
    for found in BLANKS:
        assert found not in visible(f"a{found}b")
        assert visible_body(f"a{found}b") == f"a{found}b"


@pytest.mark.parametrize("text", ["👨‍👩‍👧", "❤️", "❤️‍🔥", "1️⃣", "می‌خواهم"])
def test_a_body_has_what_its_language_needs(text: str) -> None:
    """Joiners and selectors beside what is seen; in a name they are shown."""
    assert visible_body(text) == text
    assert visible(text) != text


@pytest.mark.parametrize("text", ["é\u200d\u200dé", "é\u200d", "\u200dé", "é\ufe0f\ufe0f"])
def test_a_joiner_that_joins_nothing_is_shown(text: str) -> None:
    """Nobody writes with them."""
    assert "\\u" in visible_body(text)


@given(st.text())
def test_what_is_left_is_seen(text: str) -> None:
    """By Unicode's own categories, and once is enough."""
    for shown in (visible(text), visible_body(text)):
        assert {"Cc", "Zl", "Zp"}.isdisjoint(
            unicodedata.category(found) for found in shown if found != "\t"
        )
    assert visible(visible(text)) == visible(text)
    assert visible_body(visible(text)) == visible(text)


@given(st.text())
def test_a_line_of_json_says_the_same(text: str) -> None:
    """To a program; a terminal gets nothing that drives it."""
    line = visible_json(json.dumps({"body": text}, ensure_ascii=False))

    assert json.loads(line) == {"body": text}
    assert all(found.isascii() or visible_json(found) == found for found in line)


@pytest.mark.parametrize(
    ("count", "line"),
    [(0, "nobody"), (1, "n0"), (3, "n0, n1, n2"), (5, "n0, n1, n2 and 2 more")],
)
def test_of_many_names_some_are_listed(count: int, line: str) -> None:
    """However many there are, the line stays short and says how many it left out."""
    assert some_of([f"n{number}" for number in range(count)]) == line
