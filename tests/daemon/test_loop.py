"""Where uvloop cannot be used a node runs all the same, on Python's own event loop."""

from __future__ import annotations

from pathlib import Path

import pytest

from flc_udp.cli.run.cluster import clean_environment
from tests.daemon.cluster import Cluster

BROKEN = {
    "cannot be imported": 'raise ImportError("no uvloop for this machine")',
    "makes no loop": "def new_event_loop():\n    raise RuntimeError('no loop')",
    "runs nothing": """
import asyncio
class Loop(asyncio.SelectorEventLoop):
    def run_until_complete(self, future):
        future.close()
        raise OSError("not permitted here")
new_event_loop = Loop
""",
}


@pytest.mark.parametrize("how", BROKEN)
async def test_a_node_runs_without_uvloop(cluster: Cluster, tmp_path: Path, how: str) -> None:
    """It says so once, meets another node, says and shows messages, and leaves in order."""
    (tmp_path / "uvloop.py").write_text(BROKEN[how])
    environ = {"PYTHONPATH": f"{tmp_path}:{clean_environment()['PYTHONPATH']}"}
    ann, bob = (cluster.node("--metrics", "127.0.0.1:0", environ=environ) for _ in range(2))
    await cluster.start_these(ann, bob)

    await ann.control.say("ops", "hi", wait=1)

    await cluster.converged(ann, bob, messages=1)
    (told,) = ann.logged("loop_replaced")
    assert told["error"]
    assert (await ann.flc("leave")).code == 0
    assert await ann.ended() == 0
