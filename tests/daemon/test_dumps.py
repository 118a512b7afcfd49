"""A node with a key leaves no core dump, and nobody of its user reads its memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.daemon.cluster import Cluster, Node
from tests.daemon.process import run_flc

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it looks into /proc")


def core_limits(node: Node) -> list[str]:
    """The soft and the hard limit of core dumps."""
    lines = Path(f"/proc/{node.pid}/limits").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("Max core file size"))
    return line.split()[4:6]


async def test_a_node_with_a_key_writes_no_core(cluster: Cluster) -> None:
    """From its start, or from the moment at which it gets one."""
    key = cluster.home / "key"
    key.write_bytes((await run_flc("keygen")).out)
    key.chmod(0o600)
    sealed, open_node = cluster.node("--key-file", str(key)), cluster.node()
    for node in (sealed, open_node):
        await node.start()
    assert core_limits(sealed) == ["0", "0"]
    added = await open_node.flc("keys", "add", str(key))
    assert added.code == 0, added.err
    assert core_limits(open_node) == ["0", "0"]


def test_its_memory_is_its_own() -> None:
    """PR_GET_DUMPABLE says so."""
    program = """
import ctypes
from flc_udp.daemon.dumps import hide_memory
before = ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)
hide_memory()
print(before, ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))
"""
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert told.stdout == b"1 0\n"
