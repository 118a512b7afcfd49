"""Lines out of chunks, and calls that block."""

from __future__ import annotations

import asyncio
import os
import threading
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flc_udp.cli import pipes
from flc_udp.cli.pipes import in_thread, numbered_batches


def lines_of(chunks: list[bytes], limit: int) -> list[bytes]:
    """What is read if the input comes in these chunks."""

    async def read() -> list[tuple[int, bytes]]:
        batches = [batch async for batch in numbered_batches(0, limit)]
        return [numbered for first, lines in batches for numbered in enumerate(lines, first)]

    with patch.object(pipes, "_read", side_effect=[*filter(None, chunks), b""]):
        numbered = asyncio.run(read())
    assert [number for number, _ in numbered] == list(range(1, len(numbered) + 1))
    return [line for _, line in numbered]


@given(st.lists(st.sampled_from([b"", b"\n", b"a", b"bc\n", b"\r\n\n", b"\xff"])))
def test_lines_do_not_depend_on_chunks(chunks: list[bytes]) -> None:
    r"""However input is cut, its lines are what stands between \n; the last may have none."""
    whole = b"".join(chunks).split(b"\n")
    assert lines_of(chunks, limit=1000) == (whole if whole[-1] else whole[:-1])


def test_a_long_line_is_not_kept() -> None:
    """Of a line beyond the limit one byte more is kept, enough to see that it is too long."""
    chunks = [b"abc\nabcd\nabcde", b"f" * 100, b"\nx"]

    assert lines_of(chunks, limit=3) == [b"abc", b"abcd", b"abcd", b"x"]


async def test_lines_come_as_they_are_written() -> None:
    """A line is there as soon as it ended, long before the input does."""
    reading, writing = os.pipe()
    batches = numbered_batches(reading, 100)

    os.write(writing, b"one\ntw")
    assert await anext(batches) == (1, [b"one"])
    os.write(writing, b"o\n")
    assert await anext(batches) == (2, [b"two"])
    os.close(writing)
    assert [batch async for batch in batches] == []
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
