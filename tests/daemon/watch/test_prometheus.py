"""`/metrics` as Prometheus itself reads it: its linter, and a server that scrapes a node.

Skipped where the Debian package `prometheus` is not installed; the client library's own parser
reads the same page in test_metrics.py, everywhere.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import quote
from urllib.request import urlopen

import pytest

from tests.daemon.cluster import Cluster
from tests.daemon.process import until
from tests.daemon.watch.test_metrics import METRICS, page

CONFIG = """
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs:
  - job_name: flc
    static_configs: [{{targets: ['{address}']}}]
"""


def tool(name: str) -> str:
    """Where a program is; the test is skipped where it is not."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


async def test_promtool_has_nothing_to_say(cluster: Cluster) -> None:
    """Names, types, units and help texts of a node that has spoken are as they should be."""
    promtool = tool("promtool")
    ann, ben = await cluster.start(2, *METRICS)
    await ann.flc("say", "ops", "hi", "--wait", "all")

    for node in (ann, ben):
        text = (await page(node, "/metrics")).body
        assert await asyncio.to_thread(_lint, promtool, text) == (0, b"", b"")


async def test_a_prometheus_scrapes_a_node(cluster: Cluster, tmp_path: Path) -> None:
    """The target is up, and what the node counts can be asked of the server."""
    prometheus = tool("prometheus")
    (ann,) = await cluster.start(1, *METRICS)
    await ann.flc("say", "ops", "hi")
    metrics = (await ann.ask("status"))["node"]["metrics"]
    config = tmp_path / "prometheus.yml"
    config.write_text(CONFIG.format(address=metrics))
    here = f"127.0.0.1:{_free_port()}"
    words = [f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'tsdb'}"]
    server = await asyncio.create_subprocess_exec(
        prometheus, *words, f"--web.listen-address={here}", "--log.level=error",
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        for asked, value in (
            ('up{job="flc"}', "1"),
            ("flc_messages_committed_total", "1"),
            ('flc_members{state="alive"}', "1"),
        ):

            async def told(question: str = asked, wanted: str = value) -> bool:
                assert server.returncode is None, "prometheus has ended"
                return await asyncio.to_thread(_ask, here, question) == [wanted]

            await until(f"{asked} is {value}", told)
    finally:
        if server.returncode is None:
            server.kill()
        await server.wait()


def _lint(promtool: str, text: bytes) -> tuple[int, bytes, bytes]:
    words = [promtool, "check", "metrics"]
    ended = subprocess.run(words, input=text, capture_output=True, check=False)
    return ended.returncode, ended.stdout, ended.stderr


def _free_port() -> int:
    with closing(socket.socket()) as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def _ask(address: str, question: str) -> list[str]:
    """The values of an instant query; none while the server does not answer yet."""
    try:
        with urlopen(f"http://{address}/api/v1/query?query={quote(question)}", timeout=5) as answer:
            found: dict[str, Any] = json.load(answer)
    except (URLError, OSError, ValueError):
        return []
    return [sample["value"][1] for sample in found["data"]["result"]]
