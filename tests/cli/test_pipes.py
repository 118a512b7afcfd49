"""Lines out of chunks, and calls that block."""

from __future__ import annotations

import asyncio
import os
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flc_udp.cli.pipes import LineSplitter, in_thread, numbered_lines


@given(st.lists(st.sampled_from([b"", b"\n", b"a", b"bc\n", b"\r\n\n", b"\xff"])))
def test_lines_do_not_depend_on_chunks(chunks: list[bytes]) -> None:
    r"""However input is cut, its lines are what stands between \n; the last may have none."""
    splitter = LineSplitter(limit=1000)
    lines = [line for chunk in chunks for line in splitter.feed(chunk)] + splitter.end()

    whole = b"".join(chunks).split(b"\n")
    assert lines == (whole if whole[-1] else whole[:-1])


def test_a_long_line_is_not_kept() -> None:
    """Of a line beyond the limit one byte more is kept, enough to see that it is too long."""
    splitter = LineSplitter(limit=3)

    assert splitter.feed(b"abc\nabcd\nabcde") == [b"abc", b"abcd"]
    assert splitter.feed(b"f" * 100) == []
    assert splitter.feed(b"\nx") == [b"abcd"]
    assert splitter.end() == [b"x"]


async def test_lines_come_as_they_are_written() -> None:
    """A line is there as soon as it ended, long before the input does."""
    reading, writing = os.pipe()
    lines = numbered_lines(reading, 100)

    os.write(writing, b"one\ntw")
    assert await anext(lines) == (1, b"one")
    os.write(writing, b"o\n")
    assert await anext(lines) == (2, b"two")
    os.close(writing)
    assert [line async for line in lines] == []
    os.close(reading)


async def test_a_call_that_blocks_does_not_block_the_loop() -> None:
    """The loop turns while a thread waits, and gets what it returns or raises."""
    gate = threading.Event()
    waiting = asyncio.ensure_future(in_thread(gate.wait))
    await asyncio.sleep(0)
    gate.set()

    assert await waiting is True
    with pytest.raises(ZeroDivisionError):
        await in_thread(lambda: 1 // 0)
