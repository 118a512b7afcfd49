"""The page of words holds: every term is used, and no class name stands for two things."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "flc_udp"
PAGE = (PACKAGE / "docs" / "words.md").read_text("utf-8")
ROWS = re.findall(r"^\| ([a-z][a-z, -]+) \| (.+) \|$", PAGE, re.MULTILINE)
TERMS = [(term, meaning) for term, meaning in ROWS if term != "word"]
SOURCE = {path: path.read_text("utf-8") for path in sorted(PACKAGE.rglob("*.py"))}


def test_there_are_some_forty_terms() -> None:
    """Enough for the house, and few enough to be read."""
    assert 40 <= len(TERMS) <= 60


@pytest.mark.parametrize(("term", "meaning"), TERMS, ids=[term for term, _ in TERMS])
def test_a_term_has_one_sentence_and_is_used_as_written(term: str, meaning: str) -> None:
    """A word that nobody uses explains nothing."""
    assert meaning.endswith(".")
    for word in term.split(", "):
        written = re.compile(r"\b" + r"[\s_]*".join(word.split()), re.IGNORECASE)
        assert any(written.search(text) for text in SOURCE.values()), word


def test_no_term_stands_twice() -> None:
    """One name, one thing."""
    words = Counter(word for term, _ in TERMS for word in term.split(", "))

    assert [word for word, count in words.items() if count > 1] == []
