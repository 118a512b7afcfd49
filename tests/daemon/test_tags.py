"""Tags of real nodes: given, seen by all, filtered by, changed as they run, and told to hooks."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from tests.daemon.cluster import Cluster, Node
from tests.daemon.process import assert_refused, have, run_flc, until

DB = {"dc": "eu", "role": "db"}


async def tags(node: Node) -> dict[str, dict[str, str]]:
    """{name: tags} as a node sees its members."""
    members = await (await node.client()).members()
    return {member["name"]: member["tags"] for member in members}


async def all_see(wanted: dict[str, dict[str, str]], *nodes: Node) -> None:
    """Wait until they do."""

    async def look() -> bool:
        return all([await tags(node) == wanted for node in nodes])

    await until(f"all see {wanted}", look)


async def named(node: Node, *words: str) -> list[str]:
    """Who is listed by `flc members` with these words."""
    ended = await node.flc("members", "--json", *words)
    assert (ended.code, ended.err) == (0, "")
    return sorted(record["name"] for record in ended.records)


async def test_three_nodes_and_who_is_found_by_what(cluster: Cluster) -> None:
    """By flag, environment and file; every node finds the same."""
    ann = cluster.node("--tag", "role=db", "--tag", "dc=eu")
    ben = cluster.node(environ={"FLC_TAGS": "role=db,dc=us"})
    cho = cluster.node()
    await cluster.start_these(ann, ben, cho)
    await all_see({"ann": DB, "ben": {"dc": "us", "role": "db"}, "cho": {}}, ann, ben, cho)

    for node in (ann, ben, cho):
        assert await named(node) == ["ann", "ben", "cho"]
        assert await named(node, "--tag", "role=db") == ["ann", "ben"]
        assert await named(node, "--tag", "role=db", "--tag", "dc=us") == ["ben"]
        assert await named(node, "--tag", "role=db", "--tag", "dc=asia") == []
    table = (await cho.flc("members", "--tag", "dc=eu")).out.decode().splitlines()
    assert [line.split()[0] for line in table] == ["NAME", "ann"]
    assert [line.split()[-1] for line in table] == ["TAGS", "dc=eu,role=db"]


async def test_a_reload_changes_them_everywhere(cluster: Cluster, tmp_path: Path) -> None:
    """SIGHUP: at once, at a higher incarnation, which the next run goes on from."""
    config = tmp_path / "flc.toml"
    config.write_text('tags = ["role=db", "dc=eu"]\n')
    ann, ben = cluster.node("--config", str(config)), cluster.node()
    await cluster.start_these(ann, ben)
    await all_see({"ann": DB, "ben": {}}, ann, ben)

    config.write_text('tags = ["role=web"]\n')
    ann.process.send_signal(signal.SIGHUP)
    await all_see({"ann": {"role": "web"}, "ben": {}}, ann, ben)
    assert [r["changed"] for r in ann.logged("settings_reloaded")] == [["tags"]]

    config.write_text('tags = ["role"]\n')
    ann.process.send_signal(signal.SIGHUP)

    async def refused() -> list[dict[str, str]]:
        return ann.logged("settings_not_reloaded")

    (told,) = await until("it says why not", refused)
    assert "tags: tag 'role': it has no =" in told["error"]

    config.write_text("")
    await ann.restart(ben.address)
    await all_see({"ann": {}, "ben": {}}, ann, ben)


async def test_hooks_are_told(cluster: Cluster, tmp_path: Path) -> None:
    """In the record, and one a line in the environment."""
    out, words = tmp_path / "out", tmp_path / "words"
    ann = cluster.node("--on-member", f'cat >> {out}; echo "$FLC_MEMBER_TAGS" >> {words}')
    ben = cluster.node("--tag", "role=db", "--tag", "dc=eu")
    await cluster.start_these(ann, ben)

    (record,) = await have(out, 1)
    assert json.loads(record)["tags"] == DB
    assert await have(words, 2) == ["dc=eu", "role=db"]


@pytest.mark.parametrize(
    ("options", "environ", "words"),
    [
        (("--tag", "role"), {}, ("--tag: tag 'role'", "KEY=VALUE")),
        (("--tag", "role="), {}, ("--tag", "value has 0 bytes")),
        (("--tag", "a=1", "--tag", "a=2"), {}, ("--tag", "'a' is given twice")),
        ((), {"FLC_TAGS": "=db"}, ("FLC_TAGS", "key has 0 bytes")),
        ((), {"FLC_TAGS": " ".join(f"k{n}=v" for n in range(17))}, ("17 tags", "at most 16")),
    ],
)
async def test_bad_tags_are_refused(
    tmp_path: Path, options: tuple[str, ...], environ: dict[str, str], words: tuple[str, ...]
) -> None:
    """Before anything is touched, naming where they were given."""
    ended = await run_flc("run", "--data", str(tmp_path / "data"), *options, environ=environ)

    assert_refused(ended, *words)
    assert not (tmp_path / "data").exists()
