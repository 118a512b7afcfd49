"""Clusters of real daemons that end with their test, and say what they logged when it fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.daemon.cluster import Cluster, Node
from tests.daemon.wire import Wire

LOG_CHARS = 4_000


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    """A cluster without nodes; whatever is started in it is gone afterwards."""
    cluster = Cluster(tmp_path)
    try:
        yield cluster
    finally:
        await cluster.clear()
    assert cluster.may_fail or cluster.tracebacks() == []


@pytest.fixture
async def wires() -> AsyncIterator[list[Wire]]:
    """Hand-written connections, closed with the test: `await Wire.to(node, wires)`."""
    opened: list[Wire] = []
    yield opened
    for wire in opened:
        await wire.close()


@pytest.fixture
async def ann(cluster: Cluster) -> Node:
    """One node."""
    return (await cluster.start(1))[0]


@pytest.fixture
async def wire(ann: Node, wires: list[Wire]) -> Wire:
    """A connection to it."""
    return await Wire.to(ann, wires)


async def _start_one(home: Path) -> Cluster:
    """Start one node. Its connection is closed, for each test has an event loop of its own."""
    cluster = Cluster(home)
    (node,) = await cluster.start(1)
    await node.clients.pop().close()
    return cluster


@pytest.fixture(scope="module")
def residence(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster of one node that all tests of a module share; at the end it must still run."""
    cluster = asyncio.run(_start_one(tmp_path_factory.mktemp("residence")))
    (node,) = cluster.nodes
    try:
        yield cluster
        assert node.process.poll() is None
    finally:
        asyncio.run(cluster.clear())
    assert cluster.tracebacks() == []


@pytest.fixture
def resident(residence: Cluster) -> Node:
    """The node of a module, for tests that leave a node as it was: a start costs more than they."""
    return residence.nodes[0]


@pytest.fixture
async def resident_wire(resident: Node, wires: list[Wire]) -> Wire:
    """A connection of its own to the node of a module."""
    return await Wire.to(resident, wires)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test shows the end of what its daemons wrote to stderr."""
    report = yield
    arguments: dict[str, Any] = getattr(item, "funcargs", {})
    found = arguments.get("cluster") or arguments.get("residence")
    if report.failed and isinstance(found, Cluster):
        for node in found.nodes:
            text = node.log.read_text(errors="replace") if node.log.exists() else ""
            report.sections.append((f"stderr of {node.name}", text[-LOG_CHARS:]))
    return report
