"""What fails in a way that nobody expected fails alone: it is told and counted, and the node lives.

Each test puts one fault into the daemon's own code, as a bug would be there.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flc_udp.model.address import Address, split_host_port
from tests.daemon.blocks import SAY, many
from tests.daemon.cluster import Cluster, Node
from tests.daemon.process import until
from tests.daemon.watch.test_web import asked
from tests.daemon.wire import Wire

FAULT = """
import importlib
def broken(*args, **kwargs):
    raise KeyError("odd")
owner = importlib.import_module({module!r})
for name in {path!r}.split(".")[:-1]:
    owner = getattr(owner, name)
setattr(owner, {path!r}.split(".")[-1], broken)
"""


Broken = Callable[..., Node]


@pytest.fixture
def broken(cluster: Cluster, tmp_path: Path) -> Broken:
    """Makes a node in whose code one function is broken, of a class or of a module."""
    cluster.may_fail = True

    def make(module: str, path: str, *options: str) -> Node:
        faults = tmp_path / "faults"
        faults.mkdir()
        text = FAULT.format(module=f"flc_udp.daemon.{module}", path=path)
        (faults / "sitecustomize.py").write_text(text)
        environ = {"PYTHONPATH": str(faults), "NOTIFY_SOCKET": "/nobody"}
        return cluster.node(*options, environ=environ)

    return make


REQUESTS = {
    "a list": ("control.operations", "message_record", {"op": "log", "n": 0}),
    "one record": ("watch.status", "Status.digest", {"op": "digest"}),
    "a say": ("control.says", "check_label", SAY),
    "a say of many": ("control.says", "bodies_of", many("a", "b")),
    "the answer to a say": ("control.says", "SayRequest._record", {**SAY, "id": 1}),
    "a say that waits": ("control.says", "SayRequest._titles", {**SAY, "wait": 0}),
    "a follow": ("control.follow", "message_record", {"op": "follow", "from": 0}),
}


@pytest.mark.parametrize(("module", "path", "request_"), REQUESTS.values(), ids=REQUESTS)
async def test_a_request_fails_alone(
    broken: Broken, wires: list[Wire], module: str, path: str, request_: dict[str, Any]
) -> None:
    """Its client is told so, again and again; the log has one traceback, and others are served."""
    ann = broken(module, path)
    await ann.start()
    wire = await Wire.to(ann, wires)
    if "says" not in module:
        assert (await wire.ask(SAY))["ok"]
    for _ in range(3):
        answer = await wire.ask(request_)
        assert answer["ok"] is False, answer
        assert "KeyError" in answer["error"]
        assert "its log" in answer["hint"]
    status = await (await Wire.to(ann, wires)).ask({"op": "status"})
    assert status["failures"] == {f"request {request_['op']}": 3}
    (line,) = ann.logged("request_failed")
    assert "in broken" in line["traceback"]
    assert line["kind"] == f"request {request_['op']}"


async def test_a_follow_that_fails_while_others_go_on(broken: Broken, wires: list[Wire]) -> None:
    """What cannot be shown to anybody ends who follows, and no say, no other node."""
    ann = broken("control.follow", "message_record")
    await ann.start()
    follower, speaker = await Wire.to(ann, wires), await Wire.to(ann, wires)
    assert "caught_up" in await follower.ask({"op": "follow", "room": "ops", "id": 7})
    for n in range(3):
        assert (await speaker.ask(SAY))["position"] == n + 1
    refused = await follower.read()
    assert (refused["ok"], refused["id"]) == (False, 7)
    status = await speaker.ask({"op": "status"})
    assert status["failures"] == {"request follow": 1}
    assert (await follower.ask({"op": "hello"}))["ok"]


PARTS = {
    "a hook": ("hooks.hooks", "compact"),
    "a look-up": ("seeds", "resolve"),
    "after a turn": ("supervisor", "Supervisor._turned"),
    "showing": ("control.server", "NewLines"),
    "notices": ("hooks.hooks", "Hooks._told"),
}


@pytest.mark.parametrize("kind", PARTS)
async def test_what_belongs_to_no_request_fails_alone(
    broken: Broken, wires: list[Wire], kind: str
) -> None:
    """Hooks, look-ups, showing: each is told as what it is, and the node goes on taking says."""
    words = ["--on-message", "true", "--on-member", "true", "--join", "localhost:1"]
    ann = broken(*PARTS[kind], *words)
    await ann.start()
    wire = await Wire.to(ann, wires)
    for n in range(3):
        assert (await wire.ask(SAY))["position"] == n + 1

    async def is_told() -> bool:
        return any(line["kind"] == kind for line in ann.logged("part_failed"))

    if kind != "notices":
        await until(f"{kind} failed", is_told)
    assert (await wire.ask({"op": "hello"}))["ok"]


async def test_a_page_fails_alone(broken: Broken, wires: list[Wire]) -> None:
    """Its reader gets a 500, and the other pages are served."""
    ann = broken("watch.pages", "_readyz", "--metrics", "127.0.0.1:0")
    await ann.start()
    status = await (await Wire.to(ann, wires)).ask({"op": "status"})
    door = Address(*split_host_port(status["node"]["metrics"]))
    pages = [
        await asked(door, b"GET /%b HTTP/1.0\r\n\r\n" % page) for page in (b"readyz", b"livez")
    ]
    assert [page.status for page in pages] == [500, 200]
    assert ann.logged("part_failed")[0]["kind"] == "a page"
