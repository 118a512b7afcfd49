"""The daemon's ground: who writes a batch, and that never two write at a time."""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from flc_udp.daemon.ground import LoopGround
from flc_udp.model.errors import StoreFailed
from flc_udp.model.units import NEVER, Millis
from flc_udp.waist.ports import Batch

BATCH = Batch((), (), Millis(0))
SLOWLY_S = 0.02


class Ledger:
    """A log that notes what was written by whom, and whether two were at it at a time."""

    def __init__(self) -> None:
        self.wrote: list[tuple[str, bool]] = []
        """What was written, and whether the loop's thread wrote it."""
        self.overlapped = False
        self.broken = False
        self._loop_thread = threading.current_thread()
        self._is_writing = False

    def _write(self, what: str) -> None:
        self.overlapped |= self._is_writing
        self._is_writing = True
        time.sleep(SLOWLY_S)
        self.wrote.append((what, threading.current_thread() is self._loop_thread))
        self._is_writing = False
        if self.broken:
            raise StoreFailed("append", "disk full")

    def append(self, *_: object, waits: bool = True) -> int:
        """A batch."""
        self._write("batch")
        return 7

    def save_self(self, *_: object) -> None:
        """What a node remembers of itself."""
        self._write("self")


class Told:
    """A node that notes what it is told."""

    def __init__(self) -> None:
        self.heard: list[object] = []
        self.wake_at, self.catching_up = NEVER // 1_000_000_000, True

    def committed(self, _: Batch, first_position: int) -> None:
        """A batch is durable."""
        self.heard.append(first_position)

    def commit_failed(self, reason: str) -> None:
        """It is not."""
        self.heard.append(reason)


def play(act: Callable[[LoopGround, Ledger], object]) -> tuple[Ledger, list[object], list[object]]:
    """What was written, what the node had been told when `act` was over, and at the end."""

    async def run() -> tuple[Ledger, list[object], list[object]]:
        ledger: Any = Ledger()
        node: Any = Told()
        directory: Any = SimpleNamespace()
        ground = LoopGround(ledger, directory, 0)
        ground.node = node
        act(ground, ledger)
        before = list(node.heard)
        await asyncio.sleep(0)
        await ground.stop()
        await asyncio.sleep(0)
        return ledger, before, node.heard

    return asyncio.run(run())


def remember(ground: LoopGround) -> None:
    """Something that the writer thread has to do."""
    ground.save_self(b"ann-----", 1)


@pytest.mark.parametrize(
    ("act", "wrote"),
    [
        ([False], [("batch", False)]),
        ([True], [("batch", True)]),
        ([True, None], [("batch", True), ("self", False)]),
        ([None, True], [("self", False), ("batch", False)]),
        ([None, True, None], [("self", False), ("batch", False), ("self", False)]),
    ],
)
def test_never_two_write_at_a_time(
    act: Sequence[bool | None], wrote: list[tuple[str, bool]]
) -> None:
    """The loop writes at once only while the thread is idle, and the thread only after it.

    True is a batch at once, False another batch, None something for the thread.
    """

    def do(ground: LoopGround, _: Ledger) -> None:
        for each in act:
            if each is None:
                remember(ground)
            else:
                ground.commit(BATCH, at_once=each)

    ledger, before, heard = play(do)

    assert ledger.wrote == wrote
    assert not ledger.overlapped
    assert before == []  # The node is in its turn: it is told in another one.
    assert heard == [7]


@pytest.mark.parametrize("at_once", [False, True])
def test_a_batch_that_fails_is_told_however_it_was_written(*, at_once: bool) -> None:
    """The Node hears why, after its turn."""

    def do(ground: LoopGround, ledger: Ledger) -> None:
        ledger.broken = True
        ground.commit(BATCH, at_once=at_once)

    _, before, heard = play(do)

    assert before == []
    assert len(heard) == 1
    assert "disk full" in str(heard[0])
