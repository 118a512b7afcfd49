"""A full disk, as any user can make one: a limit on the size of files that a process may write.

Python ignores SIGXFSZ, so a write beyond RLIMIT_FSIZE fails with EFBIG, which SQLite takes for what
it is: a disk that takes no more.
"""

import resource
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from flc_udp.config import Settings
from flc_udp.daemon import run
from flc_udp.model.errors import FlcError, StoreFailed
from flc_udp.store.log import Log
from tests.daemon.cluster import Cluster, Node
from tests.daemon.process import until

ROOM_BYTES = 40_000


def fill_disk(node: Node, *, wholly: bool = False) -> None:
    """No file of this process may grow much any more, or at all."""
    largest = max(path.stat().st_size for path in (*node.data.iterdir(), node.log))
    _, hard = resource.prlimit(node.pid, resource.RLIMIT_FSIZE)
    room = 0 if wholly else largest + ROOM_BYTES
    resource.prlimit(node.pid, resource.RLIMIT_FSIZE, (room, hard))


def make_room(node: Node) -> None:
    """The disk is as large as before."""
    _, hard = resource.prlimit(node.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(node.pid, resource.RLIMIT_FSIZE, (hard, hard))


async def say_until_refused(node: Node) -> tuple[list[str], FlcError]:
    """Dots of what was said before the disk was full, and the refusal."""
    client = await node.client()
    dots = []
    for number in range(200):
        try:
            dots.append((await client.say("ops", f"{number} {'x' * 5_000}")).dot)
        except FlcError as refusal:
            return dots, refusal
    pytest.fail("the disk does not get full")


async def test_a_full_disk_stops_posts_and_nothing_else(cluster: Cluster) -> None:
    """Posts are refused with a hint; the node stays a readable member, and recovers by itself.

    Nothing acknowledged is lost, and what was said elsewhere meanwhile is there.
    """
    ann, ben, cho = await cluster.start(3)
    fill_disk(ann)
    dots, refusal = await say_until_refused(ann)
    assert "cannot be written" in str(refusal)
    assert "flc status" in refusal.hint

    status = await ann.flc("status")
    assert status.code == 1
    assert "the log cannot be written" in status.out.decode()
    assert (await ann.history()).count(b"\n") == len(dots)
    assert (await ben.flc("say", "ops", f"meanwhile {'y' * 50_000}")).code == 0
    await cluster.all_alive(ann, ben, cho)

    make_room(ann)
    history = (await cluster.converged(ann, ben, cho, messages=len(dots) + 1)).decode()
    assert all(dot in history for dot in dots)
    assert (await ann.flc("say", "ops", "again", "--wait", "all", "--timeout", "30")).code == 0
    await is_healthy(ann)
    assert "member_died" not in ben.log.read_text()


async def is_healthy(node: Node) -> None:
    """Wait until the node says that nothing is wrong."""

    async def look() -> bool:
        return (await node.ask("status"))["healthy"] is True

    await until(f"{node.name} is healthy", look)


async def test_a_lone_node_recovers_too(cluster: Cluster) -> None:
    """Nobody sends it anything, and yet with room on the disk it is healthy and takes posts."""
    (ann,) = await cluster.start(1)
    fill_disk(ann)
    dots, _ = await say_until_refused(ann)
    make_room(ann)
    await is_healthy(ann)

    assert (await ann.flc("say", "ops", "again")).code == 0
    await ann.restart()
    assert (await ann.ask("digest"))["messages"] == len(dots) + 1


async def test_what_cannot_be_logged_ends_no_daemon(cluster: Cluster) -> None:
    """With stderr on the full disk too, a node goes on, learns of members, and leaves in order."""
    ann, ben = await cluster.start(2)
    fill_disk(ann, wholly=True)
    ben.kill9()

    async def is_missed() -> bool:
        return (await ann.states())["ben"] in ("suspect", "dead")

    await until("ann misses ben", is_missed)
    assert (await say_until_refused(ann))[0] == []
    ann.process.send_signal(signal.SIGTERM)
    assert await ann.ended() == 0


async def test_posts_are_refused_before_the_disk_is_full(cluster: Cluster) -> None:
    """Below the floor of free bytes a post is refused with both numbers; others' are still kept."""
    ann, ben = cluster.node(), cluster.node(environ={"FLC_DISK_FREE_BYTES_MIN": str(1 << 50)})
    await ann.start()
    await ben.start(ann.address)
    await cluster.all_alive(ann, ben)
    refused = await ben.flc("say", "ops", "hi")

    assert (refused.code, refused.out) == (1, b"")
    assert f"{1 << 50} are kept free" in refused.err
    assert (await ann.flc("say", "ops", "hi", "--wait", "all", "--timeout", "30")).code == 0
    await cluster.converged(ann, ben, messages=1)


async def test_a_directory_that_is_gone_refuses_posts(cluster: Cluster) -> None:
    """Its free space is unknown then, and the node lives on."""
    (ann,) = await cluster.start(1)
    client = await ann.client()
    ann.data.rename(ann.data.with_name("moved"))

    with pytest.raises(FlcError, match="0 bytes of disk are free"):
        await client.say("ops", "hi")
    ann.data.with_name("moved").rename(ann.data)

    async def is_said() -> bool:
        with suppress(FlcError):  # The disk is looked at once a second.
            return (await client.say("ops", "hi")).position == 1
        return False

    await until("posts are taken again", is_said)


def test_a_disk_that_is_full_at_the_start_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node is not born, and what was opened for it is closed again."""

    def fail(_log: Log, _node: bytes, _incarnation: int) -> None:
        raise StoreFailed("save self", "database or disk is full")

    monkeypatch.setattr(Log, "save_self", fail)
    monkeypatch.setattr(run, "log_to_stderr", lambda _settings: None)
    settings = Settings(data=str(tmp_path), bind="127.0.0.1:0", name="ann")

    with pytest.raises(FlcError, match=r"flc.db cannot be used: .*disk is full"):
        run.main(lambda: settings)
