"""How a daemon ends that broke an invariant."""

import asyncio

import pytest

from flc_udp.daemon.run import Daemon


@pytest.mark.parametrize(
    ("context", "error"),
    [
        ({"exception": ValueError("broken")}, ValueError),  # uvloop, of a protocol's callback
        ({"exception": ValueError("broken"), "message": "in a task"}, ValueError),
        ({"message": "something"}, RuntimeError),
        ({}, RuntimeError),
    ],
)
async def test_whatever_breaks_in_the_loop_ends_the_node(
    context: dict[str, object], error: type[Exception]
) -> None:
    """A restart from the log is safer than going on, whatever the loop tells of it."""
    loop = asyncio.get_running_loop()
    daemon = Daemon.__new__(Daemon)
    daemon.ended = loop.create_future()  # all that is needed of a daemon
    daemon._loop_broke(loop, context)  # noqa: SLF001  # as the loop does

    with pytest.raises(error):
        await daemon.ended
