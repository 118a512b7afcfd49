"""`flc keys` on live clusters: the key changes, and nobody misses a word of anybody."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import flc_udp
from flc_udp.wire.ring import mark_of, read_ring, ring_text
from flc_udp.wire.seal import OPEN, keyring, make_key, read_key
from tests.daemon.cluster import Cluster, Node
from tests.daemon.process import (
    DEADLINE_S,
    Ended,
    assert_refused,
    clean_environment,
    run_flc,
    until,
)
from tests.daemon.wire import Wire

PAGE = Path(flc_udp.__file__).parent / "docs" / "operations.md"

SAY_PAUSE_S = 0.03
UNHEARD = "key or cluster unknown"
TROUBLE = ("member_suspected", "member_died", "refuted")

STARTS = pytest.mark.parametrize("is_sealed", [True, False], ids=["A to B", "open to sealed"])


def key_file(path: Path, *lines: str) -> str:
    """A key file, of a new key unless told."""
    path.write_text("".join(f"{line}\n" for line in lines or (make_key(),)))
    path.chmod(0o600)
    return str(path)


def only_key(file: str | Path) -> str:
    """The line of a key file."""
    return Path(file).read_text().strip()


def id_of(line: str, cluster: str = "flc") -> str:
    """The id of a key as it stands in a file."""
    return keyring((read_key(line, "here"),), cluster).keys[0].name


async def keys(node: Node, *words: str, stdin: str = "") -> str:
    """What `flc keys …` prints, which works."""
    ended = await node.flc("keys", *words, stdin=stdin.encode())
    assert (ended.code, ended.err) == (0, "")
    return ended.out.decode()


async def ring(node: Node) -> list[str]:
    """Ids in order: the first seals."""
    items = await node.control.listed("keys")
    assert [item["seals"] for item in items] == [True, *(len(items) - 1) * [False]]
    return [item["id"] for item in items]


async def starts(cluster: Cluster, tmp_path: Path, *, is_sealed: bool) -> tuple[list[Node], str]:
    """Three nodes that are sealed by a key file, or open; and the id of what they seal under."""
    if not is_sealed:
        return await cluster.start(3, "--profile", "lan"), "open"
    file = key_file(tmp_path / "old.key")
    nodes = await cluster.start(3, "--profile", "lan", "--key-file", file)
    return nodes, id_of(only_key(file))


@asynccontextmanager
async def talking(*nodes: Node) -> AsyncIterator[list[str]]:
    """All say something all the time, meanwhile; the dots of what was said."""
    dots: list[str] = []
    stopped = asyncio.Event()

    async def talk(node: Node) -> None:
        client, number = await node.client(), 0
        while not stopped.is_set():
            dots.append((await client.say("ops", f"{node.name} {number}")).dot)
            number += 1
            await asyncio.sleep(SAY_PAUSE_S)

    tasks = [asyncio.create_task(talk(node)) for node in nodes]
    try:
        yield dots
    finally:
        stopped.set()
        await asyncio.gather(*tasks)


async def assert_nothing_missed(nodes: list[Node], trouble: tuple[str, ...] = TROUBLE) -> None:
    """Nobody was suspected, and no datagram came under a key that its receiver had not."""
    for node in nodes:
        assert node.logged(*trouble) == []
        assert UNHEARD not in (await node.ask("status"))["drops"]


async def all_heard_under(name: str, *nodes: Node) -> None:
    """Wait until each was told by all others under this key, and under no other."""

    async def heard() -> bool:
        for node in nodes:
            others = sorted(other.name for other in nodes if other is not node)
            items = await node.control.listed("keys")
            if {i["id"]: i["heard"] for i in items if i["heard"]} != {name: others}:
                return False
        return True

    await until(f"all are heard under {name} alone", heard)


@STARTS
async def test_a_key_is_changed_while_all_talk(
    cluster: Cluster, tmp_path: Path, *, is_sealed: bool
) -> None:
    """Add, use, remove, each on all nodes: all that was said is everywhere, nobody suspected."""
    nodes, old = await starts(cluster, tmp_path, is_sealed=is_sealed)
    new_key = make_key()
    new = id_of(new_key)
    async with talking(*nodes) as dots:
        for node in nodes:
            assert await keys(node, "add", stdin=new_key) == f"{new}\n"
            assert await ring(node) == [old, new]
        await all_heard_under(old, *nodes)
        for node in nodes:
            assert await keys(node, "use", new) == ""
            assert await ring(node) == [new, old]
        await all_heard_under(new, *nodes)
        for node in nodes:
            assert await keys(node, "remove", old) == ""
            assert await ring(node) == [new]
    await cluster.converged(*nodes, messages=len(dots))

    await assert_nothing_missed(nodes)
    for node in nodes:
        changes = [(r["change"], r["key"], r["seals"]) for r in node.logged("keys_changed")]
        assert changes == [("add", new, old), ("use", new, new), ("remove", old, new)]
        assert (await node.ask("status"))["node"]["sealed"] is True
    assert new_key not in "".join(node.log.read_text() for node in nodes)


@STARTS
async def test_a_restart_in_the_middle_of_each_step(
    cluster: Cluster, tmp_path: Path, *, is_sealed: bool
) -> None:
    """By kill -9 after some nodes did it: what was done stands, and all hear each other."""
    nodes, old = await starts(cluster, tmp_path, is_sealed=is_sealed)
    new_key = make_key()
    new = id_of(new_key)
    steps = [
        (("add", key_file(tmp_path / "new.key", new_key)), [old, new]),
        (("use", new), [new, old]),
        (("remove", old), [new]),
    ]
    said, before = 0, [old]
    for words, after in steps:
        await all_heard_under(before[0], *nodes)
        await keys(nodes[0], *words)
        for node in nodes[:2]:  # One that did it, and one that did not.
            await node.restart(nodes[2].address)
            assert [await ring(node) for node in nodes] == [after, before, before]
            await cluster.all_alive(*nodes)
            assert (await node.flc("say", "ops", words[0], "--wait", "all")).code == 0
            said += 1
        if words[0] == "remove":
            await all_heard_under(new, *nodes)
        for node in nodes[1:]:
            await keys(node, *words)
        before = after
    await cluster.converged(*nodes, messages=said)

    for node in nodes:
        assert UNHEARD not in (await node.ask("status"))["drops"]
        assert (node.data / "keys").stat().st_mode & 0o777 == 0o600


async def test_the_page_s_lines_close_a_cluster(cluster: Cluster, tmp_path: Path) -> None:
    """The runbook as it is printed, in bash, with a stand-in for ssh; here of an open cluster."""
    nodes = await cluster.start(3, "--profile", "lan")
    text = PAGE.read_text().partition("### Change the key of a live cluster")[2]
    block = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)[0]
    (tmp_path / "bin").mkdir()
    for program, script in {
        "flc": f'exec {sys.executable} -m flc_udp "$@"',
        "ssh": f'FLC_DATA={tmp_path}/$1; export FLC_DATA; shift; exec "$@"',
    }.items():
        (tmp_path / "bin" / program).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "bin" / program).chmod(0o755)
    path = f"{tmp_path}/bin:{os.environ['PATH']}"
    async with talking(*nodes) as dots:
        process = await asyncio.create_subprocess_exec(
            *(shutil.which("bash") or "bash", "-euo", "pipefail", "-c", block),
            env={**clean_environment(), "PATH": path, "old": "open"}, cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await asyncio.wait_for(process.communicate(), DEADLINE_S)
    await cluster.converged(*nodes, messages=len(dots))

    assert process.returncode == 0
    # Until all were heard under the new key `remove` was refused, and tried again.
    assert all(
        re.match("error: key open may be in use|hint: ", line) for line in err.decode().splitlines()
    )
    new = id_of(only_key(tmp_path / "new.key"))
    assert [line.split()[0] for line in out.decode().splitlines()] == ["ID", new, "open"]
    assert [await ring(node) for node in nodes] == [[new]] * 3
    await assert_nothing_missed(nodes)


async def test_a_key_that_a_member_seals_under_is_not_removed(
    cluster: Cluster, tmp_path: Path
) -> None:
    """It would be cut off. By force it is, and then status says why on both sides."""
    nodes, old = await starts(cluster, tmp_path, is_sealed=True)
    ann, ben, cho = nodes
    new_key = make_key()
    new = id_of(new_key)
    for node in nodes:
        await keys(node, "add", stdin=new_key)
    await all_heard_under(old, *nodes)
    for node in (ann, ben):
        await keys(node, "use", new)

    assert_refused(await refused(ann, "remove", old), f"key {old} may be in use", "cho", "--force")
    for node in (ann, ben):
        await keys(node, "remove", old, "--force")

    async def says(node: Node, words: str) -> bool:
        return words in " ".join((await node.ask("status"))["reasons"])

    theirs = f"seals under key {new}, this node under {old}"
    await until("ann says why", lambda: says(ann, f"does not have come from cho at {cho.address}"))
    await until("cho says why", lambda: says(cho, theirs))

    await keys(cho, "use", new)
    await cluster.all_alive(*nodes)

    async def healthy() -> bool:
        return all([(await node.ask("status"))["healthy"] for node in nodes])

    await until("the reasons are gone", healthy)


# --- The key file, restarts and SIGHUP ------------------------------------------------------------


async def changed_live(cluster: Cluster, tmp_path: Path) -> tuple[Node, Path, str, str]:
    """A node whose key file says `old`, and whose ring was changed to `new` since."""
    file = Path(key_file(tmp_path / "key"))
    (ann,) = await cluster.start(1, "--key-file", str(file))
    old, new_key = only_key(file), make_key()
    await keys(ann, "add", stdin=new_key)
    await keys(ann, "use", id_of(new_key))
    await keys(ann, "remove", id_of(old))
    return ann, file, old, new_key


async def test_an_old_key_file_does_not_undo_a_change(cluster: Cluster, tmp_path: Path) -> None:
    """A restart with it keeps the ring, and says that the file is behind."""
    ann, file, _, new_key = await changed_live(cluster, tmp_path)

    await ann.restart()

    assert await ring(ann) == [id_of(new_key)]
    (warned,) = ann.logged("key_file_outdated")
    assert warned["path"] == str(file)


async def test_a_key_file_that_is_new_is_followed(cluster: Cluster, tmp_path: Path) -> None:
    """As when it is given for the first time; the log says so, and without a change nothing."""
    ann, file, old, new_key = await changed_live(cluster, tmp_path)
    key_file(file, new_key, old)
    await ann.restart()
    assert await ring(ann) == [id_of(new_key), id_of(old)]
    (told,) = [r for r in ann.logged("keys_changed") if r["change"] == "key file"]
    assert (told["seals"], told["opens"]) == (id_of(new_key), [id_of(new_key), id_of(old)])

    await ann.restart()  # nothing is new
    ann.options = ("--key-file", key_file(tmp_path / "copy", "# a comment", new_key, old))
    await ann.restart()  # nor is this
    assert len([r for r in ann.logged("keys_changed") if r["change"] == "key file"]) == 1
    assert ann.logged("key_file_outdated") == []


async def test_a_key_file_that_was_there_at_the_change_is_not_new(
    cluster: Cluster, tmp_path: Path
) -> None:
    """Brought up to date without a restart, then left behind by the next change: that counts."""
    ann, file, _, second = await changed_live(cluster, tmp_path)
    key_file(file, second)
    third = make_key()
    await keys(ann, "add", stdin=third)
    await keys(ann, "use", id_of(third))
    await keys(ann, "remove", id_of(second))

    await ann.restart()

    assert await ring(ann) == [id_of(third)]


async def test_a_change_outlives_the_key_file(cluster: Cluster, tmp_path: Path) -> None:
    """Gone before the change, and no longer given after it."""
    file = Path(key_file(tmp_path / "key"))
    (ann,) = await cluster.start(1, "--key-file", str(file))
    old, new = only_key(file), make_key()
    await asyncio.to_thread(file.unlink)
    await keys(ann, "add", stdin=new)
    ann.options = ()
    await ann.restart()
    assert await ring(ann) == [id_of(old), id_of(new)]
    ann.options = ("--key-file", key_file(file, old))  # the one of before
    await ann.restart()
    assert await ring(ann) == [id_of(old), id_of(new)]


async def test_a_ring_is_seeded_again_when_it_was_removed(cluster: Cluster, tmp_path: Path) -> None:
    """The way back to the key file."""
    ann, _, old, _ = await changed_live(cluster, tmp_path)
    ann.kill9()
    (ann.data / "keys").unlink()
    await ann.start()

    assert await ring(ann) == [id_of(old)]


async def test_a_reload_touches_no_key(cluster: Cluster, tmp_path: Path) -> None:
    """SIGHUP follows neither a new key file nor an edited ring."""
    ann, file, _, new_key = await changed_live(cluster, tmp_path)
    key_file(file)
    (ann.data / "keys").write_text(make_key())
    ann.process.send_signal(signal.SIGHUP)

    async def reloaded() -> bool:
        return bool(ann.logged("settings_reloaded"))

    await until("it reloads", reloaded)
    assert await ring(ann) == [id_of(new_key)]


async def test_what_a_killed_change_left_is_in_nobody_s_way(
    cluster: Cluster, tmp_path: Path
) -> None:
    """Half a ring beside the ring: the next change writes over it."""
    (ann,) = await cluster.start(1)
    (ann.data / "keys.new").write_text("ha")
    await ann.restart()
    assert await ring(ann) == ["open"]
    new = make_key()
    await keys(ann, "add", key_file(tmp_path / "new", new))

    assert read_ring(ann.data / "keys").sources == (OPEN, read_key(new, "here"))
    assert not (ann.data / "keys.new").exists()


async def test_an_open_ring_elsewhere_needs_insecure(tmp_path: Path) -> None:
    """Whichever key seals: whoever has none could write."""
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    secret = read_key(make_key(), "here")
    for sources in ((OPEN, secret), (secret, OPEN)):
        (data / "keys").write_text(ring_text(sources, mark_of(())))
        refused = await run_flc("run", "--data", str(data), "--bind", "0.0.0.0:0")
        assert_refused(refused, "not loopback", "--insecure", "flc keys remove open")


# --- What is refused ------------------------------------------------------------------------------


async def refused(node: Node, *words: str, stdin: str = "") -> Ended:
    """Which changes nothing: neither the ring in force nor the one on the disk."""
    before, path = await ring(node), node.data / "keys"
    text = path.read_text() if path.exists() else ""
    ended = await node.flc("keys", *words, stdin=stdin.encode())
    assert await ring(node) == before
    assert (path.read_text() if path.exists() else "") == text
    return ended


async def test_every_mistake_is_two_lines(cluster: Cluster, tmp_path: Path) -> None:
    """An error and a hint; where it may be the secret, nothing of what was typed."""
    file = key_file(tmp_path / "key")
    (ann,) = await cluster.start(1, "--key-file", file)
    first, second = only_key(file), make_key()
    a, b = id_of(first), id_of(second)
    assert_refused(await refused(ann, "remove", a), f"key {a} seals", "flc keys add")
    await keys(ann, "add", stdin=second)
    assert_refused(await refused(ann, "remove", a), f"key {a} seals", "flc keys use", b)
    for change in ("use", "remove"):
        assert_refused(await refused(ann, change, "01234567"), "no key 01234567", f"{a}, {b}")
        assert_refused(await refused(ann, change, "open"), "no key open", f"{a}, {b}")
        ended = await refused(ann, change, second)
        assert_refused(ended, "8 hex digits", f"{a}, {b}")
        assert second not in ended.err
    for stdin, word in (
        ("", "no key"),
        ("# none\n", "no key"),
        (f"{first}\n{second}\n", "2 keys"),
        ("open\n", "32 bytes"),
        (first[:-2], "32 bytes"),
        ("hunter2-hunter2", "32 bytes"),
    ):
        ended = await refused(ann, "add", stdin=stdin)
        assert_refused(ended, word, "flc keygen")
        assert stdin == "" or stdin.strip() not in ended.err.replace("`open`", "")
    assert_refused(await refused(ann, "add", str(tmp_path / "none")), "none", "No such file")
    assert_refused(await refused(ann, "add", str(tmp_path)), str(tmp_path), "Is a directory")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    assert_refused(await refused(ann, "add", str(tmp_path / "binary")), "ASCII")
    assert_refused(await run_flc("keys", "--data", str(tmp_path), "list"), "no daemon", "flc run")


@pytest.mark.parametrize(
    "words", [(), ("drop",), ("use",), ("remove",), ("list", "01234567")], ids=" ".join
)
async def test_a_line_that_cannot_be_parsed(tmp_path: Path, words: tuple[str, ...]) -> None:
    """Exit code 2, before any daemon is asked."""
    ended = await run_flc("keys", "--data", str(tmp_path), *words)

    assert (ended.code, ended.out) == (2, b"")
    assert ended.err.endswith("hint: see flc keys --help\n")


async def test_a_disk_that_refuses_changes_nothing(cluster: Cluster) -> None:
    """The ring that cannot be kept is not in force either."""
    (ann,) = await cluster.start(1)
    (ann.data / "keys.new").mkdir()  # in the way, also of root
    assert_refused(await refused(ann, "add", stdin=make_key()), "cannot be written", "the disk")
    (ann.data / "keys.new").rmdir()
    await keys(ann, "add", stdin=make_key())

    assert len(await ring(ann)) == 2


# --- The op ---------------------------------------------------------------------------------------


async def test_the_op(cluster: Cluster, wires: list[Wire]) -> None:
    """The ring as items after the change, and what it was about; a second time nothing changes.

    `flc keys list --json` prints the same items.
    """
    (ann,) = await cluster.start(1)
    wire = await Wire.to(ann, wires)
    key = make_key()
    new = id_of(key)
    open_, sealed = (
        [{"id": "open", "seals": s, "heard": []}, {"id": new, "seals": not s, "heard": []}]
        for s in (True, False)
    )
    for request, items in (
        ({}, open_[:1]),
        ({"add": key}, open_),
        ({"add": key}, open_),
        ({"use": new}, sealed[::-1]),
        ({"use": new}, sealed[::-1]),
        ({"remove": "open"}, sealed[1:]),
    ):
        await wire.send({"op": "keys", "id": 7, **request})
        for item in items:
            assert await wire.read() == {"item": item, "id": 7}
        assert (await ann.flc("keys", "list", "--json")).records == items
        about = {"key": "open" if "remove" in request else new} if request else {}
        assert await wire.read() == {"ok": True, "end": True, **about, "id": 7}
    assert len(ann.logged("keys_changed")) == 3


async def test_what_the_op_refuses(cluster: Cluster, wires: list[Wire]) -> None:
    """With a hint, and the connection goes on."""
    (ann,) = await cluster.start(1)
    wire = await Wire.to(ann, wires)
    for request in (
        {"add": make_key(), "use": "open"},
        {"add": 7},
        {"add": "short"},
        {"add": "é" * 44},
        {"use": ["open"]},
        {"use": ""},
        {"remove": "open"},
    ):
        answer = await wire.ask({"op": "keys", **request})
        assert (answer["ok"], bool(answer["error"]), bool(answer["hint"])) == (False, True, True)
    await wire.send({"op": "keys"})
    assert await wire.read_list() == [{"id": "open", "seals": True, "heard": []}]


async def test_many_changes_at_once_are_done_one_by_one(
    cluster: Cluster, wires: list[Wire]
) -> None:
    """Of several clients, of which some do not wait for the answer: none undoes another's."""
    (ann,) = await cluster.start(1)
    added = [make_key() for _ in range(12)]
    for key in added:
        await (await Wire.to(ann, wires)).send({"op": "keys", "add": key})
    for wire in wires[::2]:
        await wire.close()

    async def all_there() -> bool:
        return set(await ring(ann)) == {"open", *map(id_of, added)}

    await until("all were added", all_there)
    sources = read_ring(ann.data / "keys").sources
    assert [key.name for key in keyring(sources, "flc").keys] == await ring(ann)
