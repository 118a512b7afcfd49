"""The node's log on standard error: as people and machines read it, and how many lines it has."""

from __future__ import annotations

import json
import os
import select
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import structlog

from flc_udp.config import Settings
from flc_udp.core.notices import MemberAlive
from flc_udp.daemon import stderr
from flc_udp.daemon.notices import SeedUnresolved, WriteFailed
from flc_udp.daemon.stderr import LINES_MAX, LINES_S, Lines, log_to_stderr, tell
from flc_udp.model.address import Address
from flc_udp.model.dots import NodeId

NAME = "ann\u202e\u200b\u3164\x9b"


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    structlog.reset_defaults()


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_a_name_cannot_drive_the_terminal(
    capfd: pytest.CaptureFixture[str], log_format: str
) -> None:
    """Of another node: what is not seen in it is shown; a machine reads it as it is."""
    log_to_stderr(Settings(log_format=log_format))
    tell(MemberAlive(NodeId(bytes(8)), NAME, Address("10.0.0.2", 7352)))
    line = capfd.readouterr().err

    assert all(hidden not in line for hidden in NAME[3:])
    if log_format == "json":
        assert json.loads(line)["member"] == NAME
    else:
        assert "ann\\u202e\\u200b\\u3164\\x9b" in line


@contextmanager
def unread(ends: tuple[int, int]) -> Iterator[int]:
    """Standard error is a pipe or a terminal that nobody reads, and this is its other end."""
    reader, writer = ends
    before = os.dup(stderr.STDERR)
    os.dup2(writer, stderr.STDERR)
    os.close(writer)
    try:
        yield reader
    finally:
        os.dup2(before, stderr.STDERR)
        os.close(before)
        os.close(reader)


def test_what_is_not_read_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once the pipe is full, lines are lost and counted, and each that went in is whole."""
    monkeypatch.setattr(stderr, "LINES", Lines())
    log_to_stderr(Settings(log_format="json"))
    with unread(os.pipe()) as reader:
        for _ in range(LINES_MAX):
            tell(WriteFailed("disk " + 200 * "x"))
        lines = os.read(reader, 1 << 20).splitlines()
    assert len(lines) + stderr.LINES.left_out == LINES_MAX > len(lines)
    assert {json.loads(line)["event"] for line in lines} == {"write_failed"}


def test_a_terminal_that_shows_nothing_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes what it has room for; as a session whose network is gone."""
    monkeypatch.setattr(stderr, "LINES", Lines())
    log_to_stderr(Settings(log_format="json"))
    with unread(os.openpty()) as reader:
        for _ in range(LINES_MAX):
            tell(WriteFailed("disk " + 200 * "x"))
        assert b"write_failed" in os.read(reader, 4_096)
    assert 0 < stderr.LINES.left_out < LINES_MAX


def test_what_is_long_goes_as_far_as_there_is_room() -> None:
    """More than a pipe holds, in one piece, waits for nobody; and it goes on once it is read."""
    size, less = 1 << 20, 2 * select.PIPE_BUF + 1
    with unread(os.pipe()) as reader:
        written = stderr.write(bytes(size))
        assert len(os.read(reader, size)) == written < size
        assert stderr.write(bytes(less)) == less


def test_an_event_has_so_many_lines_a_minute() -> None:
    """The rest are counted, and told once with the next line that is logged."""
    lines = Lines()
    taken = [lines.take("died", 5.0 + n / 1_000) for n in range(LINES_MAX + 7)]
    assert taken == [(True, 0)] * LINES_MAX + [(False, 0)] * 7
    assert lines.left_out == 7
    assert [lines.take("died", 5.0 + LINES_S + n) for n in range(2)] == [(True, 7), (True, 0)]


def test_one_event_takes_no_line_of_another() -> None:
    """So an error is seen however many members come and go."""
    lines = Lines()
    for _ in range(2 * LINES_MAX):
        lines.take("alive", 0.0)
    assert lines.take("failed", 0.0) == (True, 0)


def test_what_was_left_out_is_a_line(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """It says of which event, and how many."""
    now_s = [0.0]
    monkeypatch.setattr(stderr, "LINES", Lines())
    monkeypatch.setattr(stderr.time, "monotonic", lambda: now_s[0])
    stderr.log_to_stderr(Settings(log_format="json"))
    for _ in range(LINES_MAX + 3):
        stderr.tell(WriteFailed("disk full"))
    stderr.tell(SeedUnresolved("ann:1", "no address"))
    now_s[0] = LINES_S
    stderr.tell(WriteFailed("disk full"))
    records = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert Counter(record["event"] for record in records) == {
        "write_failed": LINES_MAX + 1,
        "seed_unresolved": 1,
        "lines_left_out": 1,
    }
    assert (records[-2]["of"], records[-2]["lines"]) == ("write_failed", 3)
