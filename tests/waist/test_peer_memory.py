"""Remembered members: what makes it time to write them, and that it is not written often."""

from __future__ import annotations

import pytest

from flc_udp.core.notices import (
    CloneMet,
    HistoryTruncated,
    LogForked,
    MemberAlive,
    MemberDied,
    MemberLeft,
    MemberSuspected,
    Refuted,
)
from flc_udp.model.address import Address
from flc_udp.model.dots import Dot
from flc_udp.model.notices import Notice
from flc_udp.model.units import Micros
from flc_udp.waist import node
from flc_udp.waist.notices import CommitFailed
from flc_udp.waist.peer_memory import PAUSE_US, PeerMemory
from flc_udp.wire.packets import Join, Leave, Update
from flc_udp.wire.packing import pack
from flc_udp.wire.rows import MemberRow, State
from tests.waist.stage import BOB, Stage, stage

WHO = (b"bob-----", "bob", Address("10.0.0.2", 7352))
BOB_ROW = (BOB.id, "bob", "10.0.0.2:7352")


@pytest.mark.parametrize(
    ("notice", "is_due"),
    [
        (MemberAlive(*WHO), True),
        (MemberSuspected(*WHO), False),
        (MemberDied(*WHO), False),
        (MemberLeft(*WHO), False),
        (Refuted("suspect", 2), False),
        (CloneMet(WHO[0], WHO[2], True), False),
        (LogForked(Dot(bytes(8), 1)), False),
        (HistoryTruncated(7, WHO[0]), False),
        (CommitFailed("disk full"), False),
    ],
)
def test_only_who_comes_alive_is_a_reason(notice: Notice, *, is_due: bool) -> None:
    """A death alone writes nothing: the dead of today may be the seed of tomorrow."""
    memory = PeerMemory(0)
    memory.heard(notice)

    assert memory.is_due(0) == is_due
    assert not memory.is_due(PAUSE_US)

    memory.heard(MemberAlive(*WHO))
    memory.heard(notice)

    assert memory.is_due(2 * PAUSE_US)


@pytest.mark.parametrize(
    ("alive_at", "written_at"),
    [
        ([0], [0]),
        ([3], [3]),
        ([0, 1, 9], [0, 10]),
        ([0, 10], [0, 10]),
        ([0, 4, 15], [0, 10, 20]),
        ([0, 35], [0, 35]),
        ([], []),
    ],
)
def test_a_pause_lies_between_two_writings(alive_at: list[int], written_at: list[int]) -> None:
    """The first is at once, and what came during a pause is written at its end. In seconds."""
    memory = PeerMemory(0)
    second = PAUSE_US // 10
    written = []
    for now in range(40):
        if now in alive_at:
            memory.heard(MemberAlive(*WHO))
        if memory.is_due(now * second):
            written.append(now)

    assert written == written_at


def test_at_the_end_no_pause_is_kept() -> None:
    """But what is written already is not written again."""
    memory = PeerMemory(0)
    memory.heard(MemberAlive(*WHO))
    assert memory.is_due(0)
    assert not memory.is_due(1, at_once=True)

    memory.heard(MemberAlive(*WHO))

    assert not memory.is_due(2)
    assert memory.is_due(2, at_once=True)


# --- The whole node -----------------------------------------------------------------------------


def others(count: int) -> list[MemberRow]:
    """More members than bob."""
    return [
        BOB._replace(id=bytes([n]) * 8, name=f"n{n}", address=Address(f"10.0.1.{n}", 7352))
        for n in range(1, count + 1)
    ]


def hear(ann: Stage, *rows: MemberRow) -> None:
    """Members tell ann of themselves."""
    for row in rows:
        for payload in pack(row.id, [Update((row,))], 1_355):
            ann.node.datagram_received(ann.seal.close(payload), row.address)
    ann.turn(1_000)


def test_who_is_met_is_remembered_in_the_same_turn() -> None:
    """By id, name and address; this node itself is not among them."""
    assert stage().peers == [[BOB_ROW]]


def test_those_met_later_are_remembered_together() -> None:
    """At the end of the pause, without any other reason for a turn than probes."""
    ann = stage()
    for row in others(3):
        hear(ann, row)
    assert len(ann.peers) == 1
    ann.turn(PAUSE_US)

    assert [len(rows) for rows in ann.peers] == [1, 4]


def test_the_dead_and_those_who_left_are_not_written() -> None:
    """But while nobody is there the last who were stay remembered."""
    ann = stage()
    (cyd,) = others(1)
    hear(ann, cyd._replace(state=State.LEFT))
    ann.receive(Leave(7, BOB._replace(state=State.LEFT, incarnation=2)))
    ann.turn(PAUSE_US)
    ann.node.stop()
    assert ann.peers == [[BOB_ROW]]

    hear(ann, BOB._replace(incarnation=3))
    ann.turn(PAUSE_US)

    assert ann.peers == [[BOB_ROW], [BOB_ROW]]


def test_nobody_is_nothing_to_write() -> None:
    """Who came and went between two writings leaves what was written before as it was."""
    ann = Stage()
    ann.receive(Join(BOB), Leave(7, BOB._replace(state=State.LEFT, incarnation=2)))
    ann.turn()
    ann.turn(PAUSE_US)

    assert [type(notice) for notice in ann.notices][:2] == [MemberAlive, MemberLeft]
    assert ann.peers == []


def test_no_more_are_written_than_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few are enough to find thousands."""
    monkeypatch.setattr(node, "PEERS_MAX", 3)
    ann = stage()
    hear(ann, *others(9))
    ann.turn(PAUSE_US)

    assert [row for rows in ann.peers for row in rows][:1] == [BOB_ROW]
    assert [len(rows) for rows in ann.peers] == [1, 3]


def test_who_stops_writes_what_it_knows() -> None:
    """However short the pause was."""
    ann = stage()
    hear(ann, *others(2))
    assert len(ann.peers) == 1

    ann.node.stop()

    assert [len(rows) for rows in ann.peers] == [1, 3]


def test_what_could_not_be_written_is_written_later() -> None:
    """After the pause, though nobody has come alive since."""
    memory = PeerMemory(Micros(0))
    memory.heard(MemberAlive(*WHO))
    assert memory.is_due(Micros(1))
    memory.not_written()
    assert not memory.is_due(Micros(PAUSE_US))
    assert memory.is_due(Micros(PAUSE_US + 1))
    assert not memory.is_due(Micros(9 * PAUSE_US))
