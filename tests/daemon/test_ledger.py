"""The ledger of what clients were told finds what is missing, and excuses only what it must."""

from __future__ import annotations

import pytest

from tests.daemon.ledger import Ledger

HISTORY = {"a:1": "one", "a:2": "two"}


@pytest.fixture
def ledger() -> Ledger:
    """Two nodes, of which both have the first message and only ann the second."""
    ledger = Ledger()
    ledger.tried |= {"one", "two"}
    for node, name in (("A", "ann"), ("B", "ben")):
        ledger.runs(node, name)
    ledger.acknowledged("a:1", ["A", "B"])
    ledger.acknowledged("a:2", ["A"])
    return ledger


def test_a_whole_history_is_right(ledger: Ledger) -> None:
    """And nothing is missing."""
    assert ledger.agreed(HISTORY, ["ann", "ben"]) == 0


def test_what_is_missing_is_found(ledger: Ledger) -> None:
    """So is what nobody said, and what was said twice."""
    with pytest.raises(AssertionError, match="gone, as a:2"):
        ledger.agreed({"a:1": "one"}, ["ann", "ben"])
    with pytest.raises(AssertionError, match="made up"):
        ledger.agreed({**HISTORY, "a:3": "three"}, ["ann", "ben"])
    with pytest.raises(AssertionError, match="said twice"):
        ledger.agreed({**HISTORY, "a:3": "two"}, ["ann", "ben"])
    with pytest.raises(AssertionError, match="given twice"):
        ledger.acknowledged("a:1", ["A"])


def test_only_the_last_copy_excuses(ledger: Ledger) -> None:
    """The database of ann is deleted: ben still has the first message."""
    ledger.lost("ann")
    assert ledger.agreed({"a:1": "one"}, ["ann", "ben"]) == 1
    with pytest.raises(AssertionError, match="gone, as a:1"):
        ledger.agreed({}, ["ann", "ben"])


def test_a_backup_excuses_what_is_younger(ledger: Ledger) -> None:
    """What was in it is there again, what ann's old node says afterwards counts for nothing."""
    ledger.lost("ann", {"a:2"})
    ledger.tried.add("three")
    ledger.acknowledged("a:3", ["A"])
    assert ledger.gone == {"A"}
    assert ledger.agreed(HISTORY, ["ann", "ben"]) == 1
    with pytest.raises(AssertionError, match="gone, as a:2"):
        ledger.agreed({"a:1": "one"}, ["ann", "ben"])


def test_what_is_shown_is_there(ledger: Ledger) -> None:
    """Ben showed the second message, so it has to survive ann's database."""
    ledger.shown("a:2", "B")
    ledger.lost("ann")
    with pytest.raises(AssertionError, match="gone, as a:2"):
        ledger.agreed({"a:1": "one"}, ["ann", "ben"])
