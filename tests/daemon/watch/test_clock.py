"""A wall clock at which nothing can be said is a reason, as long as it shows such a time."""

from __future__ import annotations

import asyncio
import os
import urllib.error
import urllib.request
from functools import partial
from pathlib import Path

import pytest

import flc_udp
from flc_udp.model.errors import FlcError
from tests.daemon.cluster import Cluster, Node
from tests.daemon.process import assert_refused, until

CLOCK = """
import time
from pathlib import Path
real = time.clock_gettime
def shifted(clock):
    shift_s = int(Path({path!r}).read_text()) if clock == time.CLOCK_REALTIME else 0
    return real(clock) + shift_s
time.clock_gettime = shifted
"""
"""Python runs a module of this name at its start: here it shifts the wall clock of a daemon."""

YEAR_S = 31_556_952


class Clock:
    """The wall clock of one node."""

    def __init__(self, home: Path) -> None:
        self._path = home / "shift_s"
        self.shift(0)
        (home / "sitecustomize.py").write_text(CLOCK.format(path=str(self._path)))
        paths = (str(home), str(Path(flc_udp.__file__).parents[1]))
        self.environ = {"PYTHONPATH": os.pathsep.join(paths)}

    def shift(self, shift_s: int) -> None:
        """Set it so far from the right time."""
        new = self._path.with_suffix(".new")
        new.write_text(str(shift_s))
        new.replace(self._path)


async def has_reason(ann: Node, words: str) -> bool:
    """Whether status has such a reason."""
    return words in "; ".join((await ann.ask("status"))["reasons"])


@pytest.mark.parametrize("years", [180, 300, 8_500, -60])
async def test_a_clock_at_which_nothing_is_said(
    cluster: Cluster, tmp_path: Path, years: int
) -> None:
    """Each say is refused with the clock's hint, status and /readyz tell why, and no node ends."""
    clock = Clock(tmp_path)
    ann = cluster.node("--metrics", "127.0.0.1:0")
    ann.environ = clock.environ
    await ann.start()
    first = await ann.control.say("ops", "in time")
    clock.shift(years * YEAR_S)
    await until("it is told", partial(has_reason, ann, "the clock shows a time before 1970"))
    assert_refused(await ann.flc("say", "ops", "out of time"), "the clock", "timedatectl")
    assert (await ann.flc("status")).code == 1
    page = f"http://{(await ann.ask('status'))['node']['metrics']}/readyz"
    with pytest.raises(urllib.error.HTTPError, match="503"):
        await asyncio.to_thread(urllib.request.urlopen, page)
    assert len(ann.logged("clock_unusable")) == 1
    ann.kill9()
    await ann.start()
    with pytest.raises(FlcError, match="the clock"):
        await ann.control.say("ops", "out of time, from the start")
    clock.shift(0)
    await until("it goes", partial(is_healthy, ann))
    second = await ann.control.say("ops", "in time again")
    assert [m["item"]["dot"] async for m in ann.control.log("ops")] == [first.dot, second.dot]


async def is_healthy(ann: Node) -> bool:
    """Whether it has no reason."""
    return bool((await ann.ask("status"))["healthy"])
