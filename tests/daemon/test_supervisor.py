"""What a service manager hears of a node, over a real socket."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from flc_udp.daemon.supervisor import BEAT_S, Supervisor
from tests.daemon.cluster import Cluster
from tests.daemon.process import until

HALF_A_SECOND = "500000"


class Manager:
    """The other end of $NOTIFY_SOCKET."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.heard: list[list[str]] = []
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.setblocking(False)
        self.sock.bind(name.replace("@", "\0", 1))

    def listen(self) -> list[str]:
        """All assignments heard so far, in order."""
        while True:
            try:
                self.heard.append(self.sock.recv(4_096).decode().split("\n"))
            except BlockingIOError:
                return [line for lines in self.heard for line in lines]

    async def hears(self, says: Callable[[list[str]], object]) -> list[str]:
        """Wait for it."""

        async def look() -> list[str]:
            lines = self.listen()
            return lines if lines and says(lines) else []

        return await until("the manager hears it", look)


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    """One that listens."""
    manager = Manager(str(tmp_path / "notify"))
    yield manager
    manager.sock.close()


class Ground:
    """Turns when it is told to."""

    def __init__(self) -> None:
        self.after_turn: list[Callable[[], None]] = []
        self.asked = 0

    def turn_soon(self) -> None:
        """Somebody wants a turn."""
        self.asked += 1

    def turn(self) -> None:
        """One turn ends."""
        for look in self.after_turn:
            look()


def supervised(environ: dict[str, str], line: Callable[[], str]) -> tuple[Ground, Supervisor]:
    """A ground that is looked after."""
    ground = Ground()
    return ground, Supervisor(environ, cast("Any", ground), line)


async def test_a_daemon_tells_how_it_is_from_ready_to_stopping(
    cluster: Cluster, manager: Manager
) -> None:
    """READY once it takes posts, STATUS as `flc status` begins, WATCHDOG on and on, STOPPING."""
    node = cluster.node(environ={"NOTIFY_SOCKET": manager.name, "WATCHDOG_USEC": HALF_A_SECOND})
    await node.start()
    line = (await node.flc("status")).out.decode().splitlines()[0]

    lines = await manager.hears(lambda lines: lines.count("WATCHDOG=1") > 3)
    node.process.terminate()
    last = await manager.hears(lambda lines: "STOPPING=1" in lines)

    assert await node.ended() == 0
    assert lines[:3] == ["READY=1", f"STATUS={line}", "WATCHDOG=1"]
    assert lines.count("READY=1") == 1
    assert last[-2:] == ["STOPPING=1", "STATUS=leaving"]
    assert manager.listen()[-2:] == ["STOPPING=1", "STATUS=leaving"]
    assert not [line for line in last if line.startswith("RELOADING")]


async def test_ready_is_told_once_it_can_be_talked_to(cluster: Cluster, manager: Manager) -> None:
    """Whoever was started after it finds its socket."""
    node = cluster.node(environ={"NOTIFY_SOCKET": manager.name})
    node.launch()

    await manager.hears(lambda lines: "READY=1" in lines)
    said = await (await node.client()).say("ops", "hi")

    assert said.position == 1
    assert "WATCHDOG=1" not in manager.listen()


async def test_a_change_of_health_is_told(cluster: Cluster, manager: Manager) -> None:
    """With its reasons, on one line."""
    ann = cluster.node(environ={"NOTIFY_SOCKET": manager.name})
    ben = cluster.node()
    await cluster.start_these(ann, ben)
    ben.kill9()

    lines = await manager.hears(lambda lines: "no other member is alive" in lines[-1])

    first, *_, last = [line for line in lines if line.startswith("STATUS=")]
    assert first == f"STATUS=ann ({ann.id}) is healthy"
    assert last.startswith(f"STATUS=ann ({ann.id}) is NOT HEALTHY: ")


@pytest.mark.parametrize("text", ["", "no TOML"])
async def test_a_reload_is_told_from_its_begin_to_its_end(
    cluster: Cluster, manager: Manager, tmp_path: Path, text: str
) -> None:
    """RELOADING with the time of it, then READY, also where the file is bad."""
    config = tmp_path / "flc.toml"
    config.touch()
    node = cluster.node("--config", str(config), environ={"NOTIFY_SOCKET": manager.name})
    await node.start()
    first = await manager.hears(lambda lines: "READY=1" in lines)
    config.write_text(text)
    node.process.send_signal(signal.SIGHUP)

    lines = await manager.hears(lambda lines: lines.count("READY=1") > first.count("READY=1"))

    reloading, monotonic, ready, _ = lines[len(first) :]
    assert (reloading, ready) == ("RELOADING=1", "READY=1")
    name, _, us = monotonic.partition("=")
    assert name == "MONOTONIC_USEC"
    assert 0 < int(us) <= time.monotonic_ns() // 1_000


async def test_leave_is_a_stop(cluster: Cluster, manager: Manager) -> None:
    """`flc leave` says STOPPING and ends with 0, which the unit takes for the last word."""
    node = cluster.node(environ={"NOTIFY_SOCKET": manager.name})
    await node.start()

    assert (await node.flc("leave")).code == 0

    assert "STOPPING=1" in manager.listen()
    assert await node.ended() == 0


async def test_a_node_that_does_not_turn_feeds_no_watchdog(manager: Manager) -> None:
    """The timer asks for a turn; only a turn answers, once for each time it was asked."""
    ground, supervisor = supervised(
        {"NOTIFY_SOCKET": manager.name, "WATCHDOG_USEC": "2000"}, lambda: "well"
    )
    supervisor.ready()

    await until("more beats came", lambda: _asked(ground, 3))
    assert manager.listen() == []

    ground.turn()
    ground.turn()
    assert manager.listen() == ["READY=1", "STATUS=well", "WATCHDOG=1"]
    supervisor.stopping()


async def test_a_beat_is_half_of_what_the_watchdog_grants(manager: Manager) -> None:
    """And never longer than a change of health may take to be told."""
    environ = {"NOTIFY_SOCKET": manager.name}

    beats = [
        supervised({**environ, "WATCHDOG_USEC": text}, lambda: "")[1].beat_s
        for text in ("1000000", "30000000", "0", "soon", "")
    ]

    assert beats == [0.5, 2.0, 2.0, 2.0, 2.0]


async def test_what_was_not_taken_is_told_again(tmp_path: Path) -> None:
    """A manager that restarts, or whose socket was full, still learns that the node is ready."""
    name = str(tmp_path / "notify")
    ground, supervisor = supervised({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "2000"}, lambda: "ok")
    supervisor.ready()
    ground.turn()
    manager = Manager(name)

    await until("another beat came", lambda: _asked(ground, 2))
    ground.turn()

    assert manager.listen() == ["READY=1", "STATUS=ok", "WATCHDOG=1"]
    supervisor.stopping()
    manager.sock.close()


async def test_the_status_is_one_short_line(manager: Manager) -> None:
    """A line break in it would be another assignment; what is no Unicode is shown all the same."""
    reason = "disk\nMAINPID=1 \udce9" + "x" * 5_000
    ground, supervisor = supervised({"NOTIFY_SOCKET": manager.name}, lambda: reason)
    supervisor.ready()
    ground.turn()

    ready, status = manager.listen()

    assert ready == "READY=1"
    assert status.startswith("STATUS=disk MAINPID=1 \\udce9xxx")
    assert len(status) < 1_000
    supervisor.stopping()


@pytest.mark.skipif(sys.platform != "linux", reason="abstract names are Linux's")
def test_an_abstract_name_is_understood(tmp_path: Path) -> None:
    """It begins with an @."""
    manager = Manager(f"@{tmp_path}")
    _, supervisor = supervised({"NOTIFY_SOCKET": manager.name}, lambda: "")

    assert supervisor.tell("READY=1")

    assert manager.listen() == ["READY=1"]
    manager.sock.close()


@pytest.mark.parametrize("name", ["", "notify", "vsock:2:9999"])
async def test_without_a_manager_nothing_is_done(name: str) -> None:
    """No socket, or one of a kind that is not spoken here: no timer, no look at a turn's end."""
    ground, supervisor = supervised({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "2000"}, lambda: "")

    supervisor.ready()
    supervisor.stopping()

    assert (ground.after_turn, ground.asked) == ([], 0)


def test_a_watchdog_of_another_process_is_not_fed(manager: Manager) -> None:
    """$WATCHDOG_PID says whose it is; what is inherited from a parent is the parent's."""
    environ = {"NOTIFY_SOCKET": manager.name, "WATCHDOG_USEC": "2000000"}

    _, of_another = supervised({**environ, "WATCHDOG_PID": "1"}, lambda: "")
    _, of_this = supervised({**environ, "WATCHDOG_PID": str(os.getpid())}, lambda: "")

    assert (of_another.beat_s, of_this.beat_s) == (BEAT_S, 1.0)


def test_telling_never_waits(manager: Manager) -> None:
    """A manager that does not read costs nothing but the news."""
    _, supervisor = supervised({"NOTIFY_SOCKET": manager.name}, lambda: "")

    taken = [supervisor.tell("WATCHDOG=1") for _ in range(5_000)]

    assert (taken[0], taken[-1]) == (True, False)


async def _asked(ground: Ground, times: int) -> bool:
    return ground.asked >= times
