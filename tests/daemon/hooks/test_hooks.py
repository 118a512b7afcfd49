"""Commands that run on new messages and changed members: what they are told, and who waits."""

from __future__ import annotations

import asyncio
import json
import signal
from collections import deque
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import structlog

from flc_udp.daemon.hooks.environment import Run
from flc_udp.daemon.hooks.hooks import Hook
from flc_udp.daemon.hooks.shell import How, Shell
from tests.daemon.cluster import Cluster, Node, say_all
from tests.daemon.process import have, lines, runs, until


async def is_gone(pid: int) -> bool:
    """For `until`."""
    return not runs(pid)


async def failures(node: Node) -> list[dict[str, Any]]:
    """For `until`."""
    return node.logged("hook_failed")


def held(out: Path, go: Path, words: str) -> str:
    """A command that writes these words to `out` as it begins, and ends once there is `go`."""
    return f'echo "{words}" >> {out}; until [ -e {go} ]; do sleep 0.02; done'


async def test_each_new_message_is_told_as_the_log_prints_it(
    cluster: Cluster, tmp_path: Path
) -> None:
    """One JSON line on stdin, in the order shown, of this node's users and of others."""
    out = tmp_path / "out"
    ann, ben = cluster.node("--on-message", f"cat >> {out}"), cluster.node()
    await cluster.start_these(ann, ben)
    hostile = ["hi", "", "$(id) `id` '; id", "zwei\nZeilen", "\x00", "né ☃"]
    await say_all(await ann.client(), "ops", hostile)
    await have(out, len(hostile))
    await say_all(await ben.client(), "lobby", hostile)
    await have(out, 2 * len(hostile))

    history = await cluster.converged(ann, ben)
    assert out.read_bytes() == history
    assert ann.logged("hook_failed") == []


async def test_in_a_log_for_machines_each_line_is_an_object(cluster: Cluster) -> None:
    """Also at a level that leaves out what the node itself tells."""
    command = r"printf 'one\033[2J\n{\ntwo'; echo err >&2; true #"
    ann = cluster.node("--on-message", command, "--log-format", "json", "--log-level", "error")
    await ann.start()
    await ann.control.say("ops", "hi")

    async def are_told() -> bool:
        return len(ann.logged("hook_output")) == 3  # as many as it writes

    await until("its lines are in the log", are_told)
    told = [(line["line"], line["node"]) for line in ann.logged("hook_output")]
    assert told == [("one\x1b[2J", ann.name), ("{", ann.name), ("twoerr", ann.name)]
    raw = ann.log.read_bytes().splitlines()
    assert [json.loads(line)["event"] for line in raw] == ["hook_output"] * 3
    assert b"\x1b" not in b"".join(raw)


async def test_the_environment_says_the_same(cluster: Cluster, tmp_path: Path) -> None:
    """Values as they are, whatever is in them; the command is never made of them."""
    out = tmp_path / "out"
    names = ("FLC_EVENT", "FLC_ROOM", "FLC_AUTHOR", "FLC_OWN", "FLC_DATA", "FLC_DOT", "SECRET")
    values = " ".join(f'"${name}"' for name in names)
    command = f"printf '%s\\n' {values} >> {out}"
    ann = cluster.node("--on-message", command, environ={"SECRET": "x", "FLC_LINKS_MAX": "9"})
    await ann.start()
    said = await (await ann.client()).say("$(id)", "hi", author='"; id; "')

    told = await have(out, len(names))
    assert told == ["message", "$(id)", '"; id; "', "1", str(ann.data), said.dot, ""]


async def test_history_is_not_run_for(cluster: Cluster, tmp_path: Path) -> None:
    """A start with a hook begins with what is shown from then on."""
    out = tmp_path / "out"
    ann = cluster.node()
    await ann.start()
    await (await ann.client()).say("ops", "before")
    ann.options = ("--on-message", f"cat >> {out}")
    await ann.restart()
    await (await ann.client()).say("ops", "after")

    told = await have(out, 1)
    assert [json.loads(line)["body"] for line in told] == ["after"]


async def test_a_slow_command_holds_nobody_up(cluster: Cluster, tmp_path: Path) -> None:
    """Messages are taken meanwhile, and it reads on from the log, in order and missing none."""
    out, go = tmp_path / "out", tmp_path / "go"
    ann = cluster.node("--on-message", held(out, go, "$FLC_DOT"))
    await ann.start()
    dots = await say_all(await ann.client(), "ops", [str(number) for number in range(40)])

    assert len(dots) == 40
    assert len(await have(out, 1)) == 1
    go.touch()
    assert await have(out, 40) == dots


async def test_several_processes_run_at_a_time(cluster: Cluster, tmp_path: Path) -> None:
    """As many as hook_processes, and no more."""
    out, go = tmp_path / "out", tmp_path / "go"
    ann = cluster.node(
        "--on-message", held(out, go, "$FLC_DOT"), environ={"FLC_HOOK_PROCESSES": "3"}
    )
    await ann.start()
    dots = await say_all(await ann.client(), "ops", [str(number) for number in range(7)])

    assert set(await have(out, 3)) == set(dots[:3])
    go.touch()
    assert set(await have(out, 7)) == set(dots)


async def test_what_takes_too_long_is_killed_with_its_group(
    cluster: Cluster, tmp_path: Path
) -> None:
    """And the next message has its turn."""
    out = tmp_path / "out"
    command = f"sleep 1000 & echo $! >> {out}; wait"
    ann = cluster.node("--on-message", command, environ={"FLC_HOOK_TIMEOUT_S": "1"})
    await ann.start()
    first, _ = await say_all(await ann.client(), "ops", ["one", "two"])

    pids = [int(line) for line in await have(out, 2)]
    for pid in pids:
        await until("the sleep is gone", partial(is_gone, pid))
    told = (await until("it is logged", lambda: failures(ann)))[0]
    assert (told["hook"], told["about"]) == ("on_message", first)
    assert (told["reason"], told["unlogged"]) == ("killed after 1 s", 0)


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("exit 3", "exit code 3"),
        ("kill -9 $$", "killed by signal 9"),
        ("no-such-command", "exit code 127"),
    ],
)
async def test_a_failure_is_logged(cluster: Cluster, command: str, reason: str) -> None:
    """With the message it was about; the node goes on."""
    ann = cluster.node("--on-message", command)
    await ann.start()
    said = await (await ann.client()).say("ops", "hi")

    told = (await until("it is logged", lambda: failures(ann)))[0]
    assert (told["level"], told["about"], told["reason"]) == ("warning", said.dot, reason)


async def test_a_command_that_runs_is_ended_with_the_node(cluster: Cluster, tmp_path: Path) -> None:
    """It has a grace, and is killed with what it started."""
    out = tmp_path / "out"
    ann = cluster.node("--on-message", f"trap '' TERM; sleep 1000 & echo $! >> {out}; wait")
    await ann.start()
    await (await ann.client()).say("ops", "hi")
    pid = int((await have(out, 1))[0])
    assert runs(pid)
    ann.process.send_signal(signal.SIGTERM)

    assert await ann.ended() == 0
    await until("the sleep is gone", lambda: is_gone(pid))


async def test_a_command_that_ends_in_time_is_let_end(cluster: Cluster, tmp_path: Path) -> None:
    """It may still talk to the node, and what it says is kept."""
    out = tmp_path / "out"
    stopping = tmp_path / "ann.log"
    command = (
        f'[ "$FLC_ROOM" = ops ] || exit 0; echo begun >> {out}; '
        f"until grep -q node_leaving {stopping}; do sleep 0.02; done; echo ended >> {out}"
    )
    ann = cluster.node("--on-message", command)
    await ann.start()
    await (await ann.client()).say("ops", "hi")
    await have(out, 1)
    ann.process.send_signal(signal.SIGTERM)

    assert await ann.ended() == 0
    assert lines(out) == ["begun", "ended"]


async def test_changes_of_a_member_are_told(cluster: Cluster, tmp_path: Path) -> None:
    """With its record; of what changed while a command ran the latest state alone."""
    out, records, go = tmp_path / "out", tmp_path / "records", tmp_path / "go"
    command = f"cat >> {records}; " + held(out, go, "$FLC_EVENT $FLC_STATE $FLC_MEMBER_NAME")
    ann, ben = cluster.node("--on-member", command), cluster.node()
    await cluster.start_these(ann, ben)
    await have(out, 1)
    ben.kill9()

    async def is_dead() -> bool:
        return (await ann.states())["ben"] == "dead"

    await until("ben is dead", is_dead)
    go.touch()
    told = await have(out, 2)
    assert told == ["member alive ben", "member dead ben"]
    alive, dead = [json.loads(line) for line in lines(records)]
    member = next(row for row in await (await ann.client()).members() if row["name"] == "ben")
    assert dead | {"since": 0} == member | {"since": 0}
    assert (alive["id"], alive["state"], alive["self"]) == (ben.id, "alive", False)


class Told:
    """News of messages with these names."""

    passed_over = 6

    def __init__(self, names: Iterable[str] = ()) -> None:
        self.names = deque(names)

    @property
    def waiting(self) -> int:
        """How many names there are."""
        return len(self.names)

    def skip(self) -> None:
        """Nothing is old here."""

    def take(self) -> Run | None:
        """The next name."""
        return Run({"FLC_DOT": self.names.popleft()}, {}) if self.names else None

    async def is_empty(self) -> bool:
        """For `until`."""
        return not self.names


async def test_of_many_failures_few_are_logged() -> None:
    """The first at once, the others counted: a broken command floods no log."""
    news = Told(map(str, range(5)))
    hook = Hook("on_message", cast("Any", news), Shell(), {})
    hook.follow("exit 1", 30.0)
    with structlog.testing.capture_logs() as logged:
        hook.start(1, lambda _error: None)
        await until("all have run", news.is_empty)
        await asyncio.wait(hook.finish())

    assert [(record["event"], record["about"]) for record in logged] == [("hook_failed", "0")]


async def test_how_commands_end_is_counted() -> None:
    """Each by how; the last failure is told with what it was about."""
    commands = {"0": "true", "1": "exit 3", "2": "sleep 60", "3": "a\0b"}
    news = Told()
    hook = Hook("on_message", cast("Any", news), Shell(), {})
    for name, command in commands.items():
        news.names.append(name)
        hook.follow(command, 0.2 if name == "2" else 30.0)
        hook.wake()
        if name == "0":
            hook.start(1, lambda _error: None)
        count = int(name) + 1

        async def has_ended(count: int = count) -> bool:
            return sum(hook.ended.values()) == count

        await until("it has ended", has_ended)
    await asyncio.wait(hook.finish())

    news.names.extend("45")
    record = hook.record()
    failure = record.pop("last_failure")
    assert record == {
        "running": 0,
        "waiting": 2,
        "passed_over": 6,
        "ended": dict.fromkeys(map(str, How), 1),
    }
    assert failure["about"] == "3"
    assert failure["reason"].startswith("cannot be started")


async def test_what_runs_and_waits_is_in_the_status(cluster: Cluster, tmp_path: Path) -> None:
    """While it waits, and after it ran; of a node without hooks there is nothing."""
    out, go = tmp_path / "out", tmp_path / "go"
    ann, ben = cluster.node("--on-message", held(out, go, "$FLC_DOT")), cluster.node()
    await cluster.start_these(ann, ben)
    await say_all(await ann.client(), "ops", [str(number) for number in range(20)])

    async def hook() -> dict[str, Any]:
        return dict((await ann.ask("status"))["hooks"]["on_message"])

    async def runs_some() -> bool:
        return (await hook())["running"] == 1

    async def ran_all() -> bool:
        return (await hook())["ended"]["ended well"] == 20

    await until("some run", runs_some)
    assert (await hook())["waiting"] == 19
    assert "on-message  1 running, 19 waiting" in (await ann.flc("status")).out.decode()
    go.touch()
    await until("all ran", ran_all)
    assert await hook() == {
        "running": 0,
        "waiting": 0,
        "passed_over": 0,
        "ended": {"ended well": 20, "failed": 0, "timed out": 0, "not started": 0},
        "last_failure": None,
    }
    assert (await ben.ask("status"))["hooks"] == {}
