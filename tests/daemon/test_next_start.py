"""What only the next start would meet is told while the node still runs."""

from __future__ import annotations

import json
import urllib.request
from asyncio import to_thread
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.daemon.cluster import Cluster
from tests.daemon.process import Ended, assert_refused, run_flc


def a_directory(path: Path) -> None:
    """Somebody made one of that name."""
    path.unlink(missing_ok=True)
    path.mkdir()


def a_link(path: Path) -> None:
    """Somebody moved the file, and left a link."""
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def garbage(path: Path) -> None:
    """Somebody wrote to it."""
    path.write_bytes(b"\x00\xff no key")


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("flc.db", a_link),
        ("flc.db", Path.unlink),
        ("flc.db-life", a_directory),
        ("lock", a_directory),
        ("lock", a_link),
        ("keys", a_directory),
        ("keys", garbage),
    ],
)
async def test_what_the_next_start_would_refuse(
    cluster: Cluster, name: str, spoil: Callable[[Path], None]
) -> None:
    """By status and doctor, with the words of that start; who asks for the node is still sent."""
    ann = cluster.node("--metrics", "127.0.0.1:0")
    await ann.start()
    await ann.control.say("ops", "hi")
    spoil(ann.data / name)

    status = await ann.ask("status")
    told = [reason for reason in status["reasons"] if "next start" in reason]
    assert len(told) == 1
    assert str(ann.data / name) in told[0]
    if name != "flc.db":  # It is missed at once, so posts are refused.
        page = f"http://{status['node']['metrics']}/readyz"
        assert (await to_thread(urllib.request.urlopen, page)).status == 200
    ann.kill9()
    found = next_start(await ann.flc("doctor", "--json"))
    assert found["level"] == "fail"
    refused = await run_flc("run", "--data", str(ann.data), "--bind", "127.0.0.1:0")
    assert_refused(refused, str(ann.data / name))
    error, hint = refused.err.splitlines()
    assert found["found"] == f"it would be refused: {error.removeprefix('error: ')}"
    assert found["advice"] == hint.removeprefix("hint: ")


async def test_what_a_start_takes(cluster: Cluster) -> None:
    """Before the first start, while a node runs and after it."""
    ann = cluster.node()
    ann.data.mkdir(mode=0o700)
    assert next_start(await ann.flc("doctor", "--json"))["level"] == "ok"
    await ann.start()
    assert (await ann.ask("status"))["healthy"]
    ann.kill9()
    assert next_start(await ann.flc("doctor", "--json"))["level"] == "ok"


async def test_a_wal_that_a_start_would_refuse(cluster: Cluster) -> None:
    """The doctor of a node that is down says what the start says."""
    ann = cluster.node()
    await ann.start()
    await ann.control.say("ops", "hi")
    ann.kill9()
    (ann.data / "flc.db-wal").unlink()
    found = next_start(await ann.flc("doctor", "--json"))
    refused = await run_flc("run", "--data", str(ann.data), "--bind", "127.0.0.1:0")
    assert_refused(refused, "was cut short, deleted or overwritten")
    assert found["found"].removeprefix("it would be refused: ") in refused.err


def next_start(doctor: Ended) -> dict[str, str]:
    """What the doctor says of it."""
    found = [json.loads(line) for line in doctor.out.splitlines()]
    (verdict,) = (one for one in found if one["check"] == "next start")
    return verdict  # type: ignore[no-any-return]
