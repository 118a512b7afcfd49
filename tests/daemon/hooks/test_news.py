"""What hooks run for: members that change while a command runs are bounded."""

from types import SimpleNamespace
from typing import Any

import pytest

from flc_udp.daemon.hooks import news
from flc_udp.daemon.hooks.news import ChangedMembers
from flc_udp.model.dots import NodeId


def test_the_members_that_changed_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the limit the first of them is passed over; one that changes again takes no room."""
    monkeypatch.setattr(news, "CHANGED_MAX", 3)
    ground: Any = SimpleNamespace()
    changed = ChangedMembers(ground)
    for name in (b"a", b"b", b"b", b"c", b"d", b"e"):
        changed.add(NodeId(name * 8))
    assert (changed.waiting, changed.passed_over) == (3, 1 + 2)
