"""What the client commands refuse, each in two lines, and what they cannot even parse."""

from pathlib import Path

import pytest

from flc_udp.config import BODY_BYTES_MAX
from tests.daemon.cluster import Cluster, Node
from tests.daemon.process import assert_refused, run_flc

CLIENTS = [
    ("say", "ops", "hi"), ("nc", "-N"), ("log",), ("rooms",), ("members",), ("status",),
    ("digest",), ("leave",),
]  # fmt: skip


@pytest.mark.parametrize("words", CLIENTS, ids=lambda words: words[0])
async def test_no_daemon_there(tmp_path: Path, words: tuple[str, ...]) -> None:
    """Every client command says where it looked, and how to start one."""
    command, *rest = words
    ended = await run_flc(command, "--data", str(tmp_path), *rest)
    assert_refused(ended, str(tmp_path), f"flc run --data {tmp_path}")


async def test_a_stale_socket(cluster: Cluster) -> None:
    """What kill -9 leaves behind is no daemon, and in nobody's way."""
    (ann,) = await cluster.start(1)
    ann.kill9()
    assert (ann.data / "control.sock").exists()
    assert_refused(await ann.flc("say", "ops", "hi"), "no daemon answers", "flc run")

    await ann.start()
    assert (await ann.flc("say", "ops", "hi")).code == 0


@pytest.fixture
async def ann(cluster: Cluster) -> Node:
    """One node."""
    return (await cluster.start(1))[0]


async def test_what_cannot_be_said(ann: Node) -> None:
    """Bodies, rooms and authors beyond the limits are refused, each by its name, and not said."""
    too_long = b"x" * 65_537
    refusals = [
        (("ops", "-"), too_long, ("65536",)),
        (("ops", "-"), b"x" * (BODY_BYTES_MAX + 1), (str(BODY_BYTES_MAX),)),
        (("r" * 129, "hi"), b"", ("room", "128")),
        (("", "hi"), b"", ("room", "128")),
        (("o\tps", "hi"), b"", ("room", "control characters")),
        (("o\x9bps", "hi"), b"", ("room", "control characters")),
        (("ops", "hi", "--as", "x" * 129), b"", ("author", "128")),
        (("ops", "hi", "--as", "a\x1b[1m"), b"", ("author", "control characters")),
        (("ops", "hi", "--wait", "1"), b"", ("cannot wait for 1",)),
    ]
    for words, stdin, expected in refusals:
        assert_refused(await ann.flc("say", *words, stdin=stdin), *expected)
    assert await ann.history() == b""


async def test_nc_goes_on_after_a_line_that_is_refused(ann: Node) -> None:
    """A line beyond the limit is an error of its own; the others are said; the exit code is 1."""
    lines = b"\n".join([b"before", b"x" * 65_537, b"y" * (BODY_BYTES_MAX + 1), b"after"])
    ended = await ann.flc("nc", "-N", "ops", stdin=lines)

    assert (ended.code, ended.out) == (1, b"")
    errors, hints = ended.err.splitlines()[::2], ended.err.splitlines()[1::2]
    assert sorted(error.partition(" has ")[0].partition(" was ")[0] for error in errors) == [
        "error: line 2",
        "error: line 3",
    ]
    assert all(hint.startswith("hint: ") for hint in hints)
    assert (await ann.flc("nc", "-d", "--from", "0", "-w", "0", "ops")).out == b"before\nafter\n"


async def test_a_position_that_is_not_there(ann: Node) -> None:
    """`nc --from` beyond the end, or at another message than was noted, is refused."""
    said = (await ann.flc("say", "ops", "hi")).out.decode().strip()
    other = said.replace(said[:4], "0000" if said[:4] != "0000" else "1111")

    beyond = await ann.flc("nc", "-d", "--from", "99", "ops")
    assert_refused(beyond, "position 99", "the last one is 1")
    mismatch = await ann.flc("nc", "-d", "--from", f"1@{other}", "ops")
    assert_refused(mismatch, f"position 1 holds {said}, not {other}")
    right = await ann.flc("nc", "-d", "--from", f"1@{said}", "-w", "0", "ops")
    assert (right.code, right.out, right.err) == (0, b"", "")


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("wombat",),
        ("run", "--wombat"),
        ("run", "--profile", "fast"),
        ("say", "ops"),
        ("say", "ops", "hi", "--wait", "some"),
        ("say", "ops", "hi", "--timeout", "soon"),
        ("nc", "--from", "here"),
        ("nc", "-c", "0"),
        ("nc", "-w", "-1"),
        ("nc", "--from", "0", "--last", "3"),
        ("log", "-n", "-1"),
        ("log", "--since", "last year"),
    ],
    ids=" ".join,
)
async def test_a_command_line_that_cannot_be_parsed(words: tuple[str, ...]) -> None:
    """Exit code 2, what is wrong with it, and which help tells more."""
    ended = await run_flc(*words)
    assert (ended.code, ended.out) == (2, b"")
    error, hint = ended.err.splitlines()
    assert error.startswith("error: ")
    assert hint.startswith("hint: ")
    assert hint.endswith(" --help")
