"""SIGHUP: a running node follows its file where it can, and says where it cannot."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from flc_udp.client import Client
from flc_udp.model.errors import FlcError
from tests.daemon.cluster import Cluster, Node, say_all
from tests.daemon.process import have, until

RELOADED, NOT_RELOADED = "settings_reloaded", "settings_not_reloaded"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A file of settings, empty at first."""
    path = tmp_path / "flc.toml"
    path.touch()
    return path


def write(config: Path, text: str) -> None:
    """The file says this now."""
    config.write_text(text)


async def started(cluster: Cluster, config: Path) -> tuple[Node, Client]:
    """A node of that file, and a connection."""
    node = cluster.node("--config", str(config))
    await node.start()
    return node, await node.client()


async def reload(node: Node, config: Path, text: str) -> dict[str, Any]:
    """What the node says after the file was changed to this."""
    write(config, text)
    before = len(node.logged(RELOADED, NOT_RELOADED))
    node.process.send_signal(signal.SIGHUP)

    async def look() -> list[dict[str, Any]]:
        return node.logged(RELOADED, NOT_RELOADED)[before:]

    (record,) = await until("it answers the signal", look)
    return record


def restart_needed(node: Node) -> list[list[str]]:
    """For which settings, of each time that it was said."""
    return [record["settings"] for record in node.logged("restart_needed")]


async def test_it_says_what_it_follows_and_what_it_cannot(cluster: Cluster, config: Path) -> None:
    """What needs a restart is named again, until there was one."""
    ann, client = await started(cluster, config)

    told = await reload(ann, config, "links_max = 9\nbody_bytes_max = 10\n")

    assert (told["event"], told["level"]) == (RELOADED, "info")
    assert (told["changed"], restart_needed(ann)) == (["body_bytes_max"], [["links_max"]])
    with pytest.raises(FlcError, match="10"):
        await client.say("ops", "eleven char")
    told = await reload(ann, config, "links_max = 9\n")
    assert (told["changed"], restart_needed(ann)) == (["body_bytes_max"], [["links_max"]] * 2)
    assert (await client.say("ops", "eleven char")).position == 1
    told = await reload(ann, config, "")
    assert (told["changed"], len(restart_needed(ann))) == ([], 2)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("body_bytes_max = 10\nnmae = 1\n", "did you mean name?"),
        ("body_bytes_max = 10\nlinks_max = 0\n", "1 to 64"),
        ('body_bytes_max = 10\njoin = ["here"]\n', "HOST:PORT"),
        ('body_bytes_max = 10\njoin = [""]\n', "HOST:PORT"),
        ("body_bytes_max", "TOML"),
        (f"body_bytes_max = {'9' * 5_000}", "TOML"),
        (f"body_bytes_max = {'[' * 5_000}", "TOML"),
    ],
    ids=[
        "unknown",
        "beyond its limits",
        "no address",
        "empty address",
        "no TOML",
        "endless",
        "bottomless",
    ],
)
async def test_a_bad_file_changes_nothing(
    cluster: Cluster, config: Path, text: str, words: str
) -> None:
    """Not the good lines of it either; the node goes on and reads the next one."""
    ann, client = await started(cluster, config)

    told = await reload(ann, config, text)

    assert (told["event"], told["level"]) == (NOT_RELOADED, "warning")
    assert words in told["error"] + told["hint"]
    assert (await client.say("ops", "eleven char")).position == 1
    assert (await reload(ann, config, "body_bytes_max = 10\n"))["changed"] == ["body_bytes_max"]


async def test_what_was_typed_goes_before_the_file(cluster: Cluster, config: Path) -> None:
    """As at the start: a flag is not undone by a reload."""
    ann = cluster.node("--config", str(config), "--log-level", "info")
    await ann.start()

    told = await reload(ann, config, 'log_level = "error"\n')

    assert (told["changed"], restart_needed(ann)) == ([], [])


async def test_the_level_of_the_log(cluster: Cluster, config: Path) -> None:
    """Of loggers that were made long ago too."""
    write(config, 'log_level = "warning"\n')
    ann, _ = await started(cluster, config)
    assert ann.logged("node_started") == []

    assert (await reload(ann, config, ""))["changed"] == ["log_level"]

    ben = cluster.node()
    await ben.start(ann.address)
    await cluster.all_alive(ann, ben)
    assert [record["member"] for record in ann.logged("member_alive")] == ["ben"]


async def test_the_space_that_is_kept_free(cluster: Cluster, config: Path) -> None:
    """Posts are refused, status says why, and both go back."""
    ann, client = await started(cluster, config)

    await reload(ann, config, f"disk_free_bytes_min = {1 << 50}\n")
    with pytest.raises(FlcError, match="are kept free"):
        await client.say("ops", "hi")
    assert "posts are refused" in (await client.request("status"))["reasons"][0]
    await reload(ann, config, "")

    assert (await client.say("ops", "hi")).position == 1
    assert (await client.request("status"))["healthy"]


async def test_retention_begins_in_a_running_node(cluster: Cluster, config: Path) -> None:
    """A node that kept everything lets go of what is too much."""
    ann, client = await started(cluster, config)
    await say_all(client, "ops", [str(number) * 20_000 for number in range(10, 60)])

    told = await reload(ann, config, f"retention_bytes = {1 << 20}\n")

    assert told["changed"] == ["retention_bytes"]

    async def lets_go() -> bool:
        return (await client.request("status"))["floor"] is not None

    await until("it lets go", lets_go)


async def test_seeds_are_joined_and_named(cluster: Cluster, config: Path) -> None:
    """A lonely node is told where the others are."""
    ann, _ = await started(cluster, config)
    ben = cluster.node()
    await ben.start()

    told = await reload(ann, config, f'join = ["{ben.address}"]\n')

    assert told["changed"] == ["join"]
    await cluster.all_alive(ann, ben)


async def test_seeds_that_are_silent_can_be_replaced(cluster: Cluster, config: Path) -> None:
    """The node goes on, with all that waited for the old ones given up."""
    write(config, 'join = ["127.0.0.1:9"]\n')
    ann, client = await started(cluster, config)

    for port in (10, 11):
        told = await reload(ann, config, f'join = ["127.0.0.1:{port}"]\n')
        assert told["changed"] == ["join"]

    assert (await client.say("ops", "I am still here")).position == 1
    assert ann.process.poll() is None


async def test_commands_come_and_go(cluster: Cluster, config: Path, tmp_path: Path) -> None:
    """What was shown before a command was given is history for it, whatever there was before."""
    out, other = tmp_path / "out", tmp_path / "other"
    ann, client = await started(cluster, config)
    await client.say("ops", "before")

    await reload(ann, config, f"on_message = 'echo $FLC_DOT >> {out}'\n")
    one = await client.say("ops", "one")
    assert await have(out, 1) == [one.dot]
    await reload(ann, config, "")
    await client.say("ops", "nobody is told")
    await reload(ann, config, f"on_message = 'echo $FLC_DOT >> {other}'\n")
    two = await client.say("ops", "two")

    assert await have(other, 1) == [two.dot]
    assert await have(out, 1) == [one.dot]


async def test_a_quiet_log_still_says_what_needs_a_restart(cluster: Cluster, config: Path) -> None:
    """Also in the very reload that asks for less of a log."""
    ann, _ = await started(cluster, config)

    for text in (
        'log_level = "warning"\nlinks_max = 9\n',
        'log_level = "warning"\nlinks_max = 10\n',
    ):
        write(config, text)
        before = len(restart_needed(ann))
        ann.process.send_signal(signal.SIGHUP)
        found = await until("it says so", lambda: said_since(ann, before))  # noqa: B023  # awaited
        assert found == [["links_max"]]


async def said_since(node: Node, before: int) -> list[list[str]]:
    """What needs a restart, since so many times."""
    return restart_needed(node)[before:]


async def test_a_mistyped_variable_is_told(cluster: Cluster) -> None:
    """And is no reason not to start: others make variables of such names too."""
    ann = cluster.node(environ={"FLC_LINKS_MAXI": "9"})
    await ann.start()

    (told,) = ann.logged("variable_unknown")
    assert (told["variable"], told["hint"]) == ("FLC_LINKS_MAXI", "did you mean FLC_LINKS_MAX?")
