"""The page for those who embed says what a node answers."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import flc_udp
from flc_udp.config import BODY_BYTES_MAX, ONCE_REMEMBERED, Settings
from flc_udp.daemon.control import connection, output, requests, server
from tests.daemon.cluster import Cluster
from tests.daemon.wire import Wire

PAGE = (Path(flc_udp.__file__).parent / "docs" / "embedding.md").read_text("utf-8")


def dialogue() -> list[tuple[str, dict[str, Any]]]:
    """The lines of the longest example: (> or <, record)."""
    block = max(re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL), key=len)
    return [(line[0], json.loads(line[2:])) for line in block.splitlines()]


def shape(record: object) -> object:
    """Its keys, all the way down, and the type of each value."""
    if isinstance(record, dict):
        return {key: shape(value) for key, value in record.items()}
    return type(record)


async def test_the_example_is_what_a_node_answers(cluster: Cluster, wires: list[Wire]) -> None:
    """Line by line, in this order: the same keys, kinds of values, ids and positions."""
    (ann,) = await cluster.start(1)
    wire = await Wire.to(ann, wires)

    for direction, record in dialogue():
        if direction == ">":
            await wire.send(record)
            continue
        answer = await wire.read()
        assert shape(answer) == shape(record)
        assert list(answer) == list(record)
        for key in ("ok", "id", "position", "own", "name"):
            assert answer.get(key) == record.get(key)


async def test_every_op_is_listed(cluster: Cluster, wires: list[Wire]) -> None:
    """As the node itself names them."""
    (ann,) = await cluster.start(1)
    refused = await (await Wire.to(ann, wires)).ask({"op": "?"})
    table = PAGE.partition("| op | takes | answers |")[2].partition("\n\n")[0]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    listed = {op for cell in cells for op in re.findall(r"`(\w+)`", cell)}

    assert listed == set(refused["hint"].removeprefix("known are: ").split(", "))


def test_the_programs_are_python() -> None:
    """They compile, and take from the package what it offers."""
    programs = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)

    assert len(programs) == 2
    for program in programs:
        for node in ast.walk(ast.parse(program)):
            if isinstance(node, ast.ImportFrom) and node.module == "flc_udp":
                assert {alias.name for alias in node.names} <= set(flc_udp.__all__)


def test_the_limits_are_the_codes() -> None:
    """Numbers of the table, and of the text."""
    assert (requests.LINE_BYTES_MAX, BODY_BYTES_MAX) == (8 << 20, 1 << 20)
    assert Settings().body_bytes_max == 64 << 10
    assert output.OUTPUT_BYTES_HIGH == 1 << 20
    assert requests.ONCE_LIMIT == 1 << 63
    for limit in (
        server.SAYS_MAX,
        connection.FOLLOWS_MAX,
        server.CONNECTIONS_MAX,
        requests.TIMEOUT_S_MAX,
        ONCE_REMEMBERED,
    ):
        assert f"{limit:,}" in PAGE
