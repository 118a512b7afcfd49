"""What ends a daemon, and what does not."""

import asyncio
from types import SimpleNamespace
from typing import NoReturn

import pytest

from flc_udp.daemon.failures import Failures
from flc_udp.daemon.ground import LoopGround
from flc_udp.daemon.run import Daemon


@pytest.mark.parametrize(
    "context",
    [
        {"exception": ValueError("broken")},  # uvloop, of a protocol's callback
        {"exception": ValueError("broken"), "message": "in a task"},
        {"message": "something"},
        {},
    ],
)
async def test_what_the_loop_tells_of_is_counted_and_ends_nothing(
    context: dict[str, object],
) -> None:
    """A callback or a task failed, and nothing of the node's own state depends on it."""
    loop = asyncio.get_running_loop()
    daemon = Daemon.__new__(Daemon)  # with all that is needed of a daemon
    daemon.ended = loop.create_future()
    failures = Failures()
    daemon._ground = SimpleNamespace(failures=failures)  # type: ignore[assignment]  # noqa: SLF001
    daemon._loop_failed(loop, context)  # noqa: SLF001  # as the loop does

    assert not daemon.ended.done()
    assert failures.counts == {"the event loop": 1}


@pytest.mark.parametrize("error", [AssertionError("not so"), KeyError("odd"), MemoryError()])
async def test_whatever_breaks_a_turn_ends_the_node(error: Exception) -> None:
    """A restart from the log is safer than going on with a state that nobody knows."""

    def turn() -> NoReturn:
        raise error

    ground = LoopGround.__new__(LoopGround)
    ground.node = SimpleNamespace(turn=turn)  # type: ignore[assignment]
    daemon = Daemon.__new__(Daemon)
    daemon.ended = asyncio.get_running_loop().create_future()
    ground.broke = daemon._broke  # noqa: SLF001  # as the daemon joins them
    ground._turn()  # noqa: SLF001  # as the loop does

    with pytest.raises(type(error)):
        await daemon.ended
