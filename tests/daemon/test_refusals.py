"""A node that cannot work is refused in two lines, before anything is changed."""

import asyncio
import base64
import fcntl
import os
import socket
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path

import pytest

from flc_udp.daemon.control.server import CLIENTS_LEAST, DESCRIPTORS_LEAST
from flc_udp.store.schema import APPLICATION_ID
from flc_udp.wire.ring import ring_text
from tests.daemon.cluster import Cluster, Node
from tests.daemon.process import (
    DEADLINE_S,
    FLC,
    Ended,
    assert_refused,
    clean_environment,
    run_flc,
)
from tests.daemon.test_mistakes import POWERLESS, is_possible

KEY = base64.b64encode(bytes(range(32))).decode()
OTHER_KEY_LENGTH = base64.b64encode(bytes(31)).decode()


async def run_node(home: Path, *options: str, environ: Mapping[str, str] | None = None) -> Ended:
    """`flc run` that is expected to be refused."""
    where = ("--data", str(home / "data"), "--bind", "127.0.0.1:0", "--log-format", "json")
    return await run_flc("run", *where, *options, environ=environ)


def write(path: Path, content: str | bytes) -> str:
    """A file's name, with that in the file."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


@pytest.fixture
def taken_port() -> Iterator[int]:
    """A UDP port somebody else listens on."""
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


async def test_a_port_that_is_taken(tmp_path: Path, taken_port: int) -> None:
    """Two nodes cannot listen at one address."""
    address = f"127.0.0.1:{taken_port}"
    assert_refused(await run_node(tmp_path, "--bind", address), address, "in use", "--bind")


async def test_the_directory_of_a_running_node(cluster: Cluster) -> None:
    """A second node is told who has the directory, and the first does not notice."""
    (ann,) = await cluster.start(1)
    refused = await run_flc("run", "--data", str(ann.data), "--bind", "127.0.0.1:0")

    assert_refused(refused, str(ann.data), f"process {ann.pid}", "--data")
    assert (await ann.flc("say", "ops", "still here")).code == 0


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, ("No such file",)),
        ("directory", ("Is a directory",)),
        (b"", ("no key",)),
        (b"# only a comment\n", ("no key",)),
        (b"hunter2\n", ("line 1", "32 bytes")),
        (f"{KEY}\n{OTHER_KEY_LENGTH}\n".encode(), ("line 2", "32 bytes")),
        (b"\xff\xfe\x00", ("ASCII",)),
    ],
    ids=["missing", "a directory", "empty", "a comment", "garbage", "too short", "binary"],
)
async def test_a_key_file_that_is_none(
    tmp_path: Path, content: bytes | str | None, words: tuple[str, ...]
) -> None:
    """The error names the file, and the line where there is one."""
    path = tmp_path / "cluster.key"
    if content == "directory":
        path.mkdir()
    elif content is not None:
        write(path, content)
    refused = await run_node(tmp_path, "--key-file", str(path))

    assert_refused(refused, str(path), "flc keygen", *words)
    assert not (tmp_path / "data" / "keys").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('name = "ann"\nprofile = local\n', ("line 2",)),
        ('nmae = "ann"\n', ("'nmae'", "did you mean name?")),
        ("wombat = 1\n", ("'wombat'", "allowed are")),
        ("[network]\nbind = 3\n", ("'network'", "allowed are")),
        ('profile = "fast"\n', ("profile", "'fast'", "local, lan, wan")),
        ("name = 7\n", ("name", "7", "a text")),
        ('links_max = "many"\n', ("links_max", "'many'", "a whole number")),
        ("links_max = 0\n", ("links_max", "1 to 64")),
        ("join = [1]\n", ("join", "a list of texts")),
        ("retention_bytes = 70000\n", ("retention_bytes", "0 or 1048576 to")),
        ("insecure = 1\n", ("insecure", "true or false")),
        ("links_max = true\n", ("links_max", "a whole number")),
    ],
)
async def test_a_configuration_that_cannot_be(
    tmp_path: Path, text: str, words: tuple[str, ...]
) -> None:
    """The error names the file, the place or the key in it, and what is allowed."""
    path = write(tmp_path / "flc.toml", text)
    assert_refused(await run_node(tmp_path, "--config", path), path, *words)


@pytest.mark.parametrize("content", [None, b"\xff\xfe"], ids=["missing", "not UTF-8"])
async def test_a_configuration_that_cannot_be_read(tmp_path: Path, content: bytes | None) -> None:
    """A file that is not there, or is no text, is named."""
    path = tmp_path / "flc.toml"
    if content is not None:
        write(path, content)
    assert_refused(await run_node(tmp_path, "--config", str(path)), str(path), "--config")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("FLC_PROFILE", "fast", ("'fast'", "local, lan, wan")),
        ("FLC_LINKS_MAX", "many", ("'many'", "a whole number")),
        ("FLC_PROBE_INTERVAL_MS", "5", ("20 to 60000",)),
        ("FLC_INSECURE", "maybe", ("'maybe'", "true or false")),
        ("FLC_JOIN", "here", ("'here'", "HOST:PORT")),
        ("FLC_BIND", "here", ("'here'", "HOST:PORT")),
    ],
)
async def test_an_environment_that_cannot_be(
    tmp_path: Path, name: str, value: str, words: tuple[str, ...]
) -> None:
    """The error names the variable's value and what is allowed."""
    data = ("run", "--data", str(tmp_path / "data"))
    assert_refused(await run_flc(*data, environ={name: value}), *words)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--join", "nowhere"), ("'nowhere'", "HOST:PORT")),
        (("--join", "::1:7352"), ("'::1:7352'", "[HOST]:PORT")),
        (("--join", "127.0.0.1:65536"), ("'127.0.0.1:65536'", "65535")),
        (("--bind", "127.0.0.1"), ("'127.0.0.1'", "HOST:PORT")),
        (("--bind", "no-such-host.invalid:0"), ("no-such-host.invalid", "HOST:PORT")),
        (("--bind", "192.0.2.1:0", "--insecure"), ("192.0.2.1", "does not have that address")),
        (("--bind", "0.0.0.0:0"), ("not loopback", "--key-file", "--insecure")),
        (("--bind", "[::]:0"), ("not loopback", "--key-file", "--insecure")),
        (("--advertise", "somewhere"), ("'somewhere'", "HOST:PORT")),
        (("--name", "a\nb"), ("name", "control characters")),
        (("--name", "x" * 129), ("name", "128")),
    ],
)
async def test_an_option_that_cannot_be(
    tmp_path: Path, options: tuple[str, ...], words: tuple[str, ...]
) -> None:
    """Addresses and names that are none, and doors open to everybody, are refused."""
    assert_refused(await run_node(tmp_path, *options), *words)
    assert not (tmp_path / "data" / "flc.db").exists()


def garbage(path: Path) -> None:
    """No database at all."""
    path.write_bytes(os.urandom(8_192))


def a_note(path: Path) -> None:
    """Shorter than any database."""
    path.write_text("remember the milk\n")


def somebody_elses(path: Path) -> None:
    """Another program's SQLite database."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE recipe (title TEXT)")


def from_the_future(path: Path) -> None:
    """Ours, by a later version."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("PRAGMA user_version = 99")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (garbage, ("no usable SQLite database",)),
        (a_note, ("no usable SQLite database", "too short")),
        (somebody_elses, ("another program",)),
        (from_the_future, ("schema 99", "newer flc")),
    ],
)
async def test_a_database_that_is_none(
    tmp_path: Path, make: Callable[[Path], None], words: tuple[str, ...]
) -> None:
    """A file in the place of the log that is not a log of ours stays as it is, byte for byte."""
    path = tmp_path / "data" / "flc.db"
    path.parent.mkdir()
    make(path)
    before = path.read_bytes()

    assert_refused(await run_node(tmp_path), str(path), *words)
    assert path.read_bytes() == before


# --- A directory that cannot be used --------------------------------------------------------------


@pytest.fixture
async def log(cluster: Cluster) -> Path:
    """The data directory of a node that has said something and left."""
    (ann,) = await cluster.start(1)
    assert (await ann.flc("say", "ops", "hi")).code == 0
    assert (await ann.flc("leave")).code == 0
    await ann.ended()
    return ann.data


async def test_a_stranger_that_has_locked_the_directory(log: Path) -> None:
    """Anybody may lock a directory that is open to all: it is told who did, and how to close it."""
    place = os.open(log, os.O_RDONLY)
    try:
        os.fchmod(place, 0o755)
        fcntl.flock(place, fcntl.LOCK_SH)
        refused = await run_flc("run", "--data", str(log), "--bind", "127.0.0.1:0")
        told = await run_flc("doctor", "--data", str(log))
    finally:
        os.close(place)
    me = f"process {os.getpid()} ("

    assert_refused(refused, str(log), me, f"(uid {os.getuid()})", "no node", f"chmod 700 {log}")
    (line,) = [line for line in told.out.decode().splitlines() if "its lock" in line]
    assert line.startswith("fail")
    assert me in line


LOCKED_OUT = {
    "the directory": (".", 0o500, ("chmod u+rwX",)),
    "the database": ("flc.db", 0o400, ("chmod u+rwX",)),
    "the lock": ("lock", 0o000, ("chmod u+rwX",)),
    "the keys": ("keys", 0o000, ("chmod u+rwX", "ring")),
    "the WAL": ("flc.db-wal", 0o000, ("chmod u+rwX",)),
    "which life it has": ("flc.db-life", 0o000, ("chmod u+rwX",)),
}


@pytest.mark.parametrize("what", LOCKED_OUT)
async def test_a_file_without_rights(log: Path, what: str) -> None:
    """It is named with its mode and the command that helps; nothing speaks of a full disk."""
    name, mode, words = LOCKED_OUT[what]
    if not (log / name).exists():
        (log / name).write_bytes(b"open\n")
    (log / name).chmod(mode)
    refused = await without_power("run", "--data", str(log), "--bind", "127.0.0.1:0")
    (log / name).chmod(0o700)

    assert_refused(refused, f"{mode:04o}", str(log / name), *words)
    assert "df" not in refused.err


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("name", [".", "flc.db", "keys"])
async def test_a_file_of_another_user(log: Path, name: str) -> None:
    """Its owner is named, who runs flc, and how to give it back."""
    (log / name).touch()
    (log / name).chmod(0o700)
    os.chown(log / name, 4_000_123, -1)
    refused = await without_power("run", "--data", str(log), "--bind", "127.0.0.1:0")
    os.chown(log / name, 0, -1)

    assert_refused(refused, str(log / name), "uid 4000123", "(uid 0)", f"`chown -R 0 {log}`")


async def without_power(*words: str) -> Ended:
    """`flc` by a user that rights hold for; root gives its power away."""
    if not is_possible(*POWERLESS):
        pytest.skip("setpriv (util-linux) is needed to be root without its powers")
    return await run_flc(*words, under=POWERLESS)


async def test_an_open_directory_and_key_file_are_told(cluster: Cluster) -> None:
    """The node runs all the same."""
    key = cluster.home / "key"
    key.write_text(f"{KEY}\n")
    key.chmod(0o644)
    ann = cluster.node("--key-file", str(key))
    ann.data.mkdir(mode=0o755)
    ann.data.chmod(0o755)
    await ann.start()

    told = [(line["path"], line["mode"], line["hint"]) for line in ann.logged("open_to_others")]
    assert told == [
        (str(ann.data), "0755", f"`chmod 700 {ann.data}`"),
        (str(key), "0644", f"`chmod 600 {key}`"),
    ]


def a_directory(data: Path) -> None:
    """In the place of the control socket."""
    (data / "control.sock").mkdir()


def no_database(data: Path) -> None:
    """In the place of the database."""
    garbage(data / "flc.db")


@pytest.mark.parametrize(
    ("options", "prepare"),
    [
        (("--bind", "192.0.2.1:7352"), None),
        (("--bind", "nowhere.invalid:7352"), None),
        (("--advertise", "nowhere.invalid:7352"), None),
        (("--metrics", "192.0.2.1:9100"), None),
        ((), a_directory),
        ((), no_database),
    ],
)
async def test_a_start_that_fails_leaves_no_key_behind(
    tmp_path: Path, options: tuple[str, ...], prepare: Callable[[Path], None] | None
) -> None:
    """Else the next one would be sealed, or under another key, and nobody had said so."""
    data = tmp_path / "data"
    data.mkdir()
    if prepare is not None:
        prepare(data)
    before = {path.name for path in data.iterdir()}
    key_file = write(tmp_path / "key", KEY)
    assert_refused(await run_node(tmp_path, "--key-file", key_file, *options))
    left = {path.name for path in data.iterdir()} - before
    assert left <= {"lock", "flc.db", "flc.db-life"}

    ring = ring_text((bytes(range(32)),), "")
    (data / "keys").write_text(ring)
    await run_node(tmp_path, "--key-file", key_file, *options)
    assert (data / "keys").read_text() == ring


@pytest.mark.parametrize("limit", [5, 6, 8, 14, 20, 28, DESCRIPTORS_LEAST - 1])
async def test_too_few_descriptors(tmp_path: Path, limit: int) -> None:
    """A node that would soon meet its limit does not begin, and leaves nothing behind."""
    refused = await limited(limit, "run", "--data", str(tmp_path / "data"))

    assert_refused(refused, f"{limit} ", str(DESCRIPTORS_LEAST), "ulimit -n", "LimitNOFILE")
    assert not (tmp_path / "data").exists()


async def test_as_many_descriptors_as_are_needed(cluster: Cluster) -> None:
    """That many clients, pages and hooks work with them."""
    ann = cluster.node(
        "--metrics", "127.0.0.1:0", "--on-message", "cat >&2",
        prefix=limiting(DESCRIPTORS_LEAST),
    )  # fmt: skip
    await ann.start()
    for _ in range(CLIENTS_LEAST - 1):
        await ann.client()
        await ann.control.say("ops", "hi")
    assert (await ann.ask("status"))["healthy"]


@pytest.mark.parametrize("limit", [6, 8])
@pytest.mark.parametrize("command", [("rooms",), ("ping", "127.0.0.1:1", "-c", "1")])
async def test_a_command_without_descriptors(ann: Node, limit: int, command: list[str]) -> None:
    """Whether they are enough or not, nobody sees a traceback."""
    ended = await limited(limit, *command, "--data", str(ann.data))

    assert "Traceback" not in ended.err
    assert "never" not in ended.err


def limiting(limit: int) -> tuple[str, ...]:
    """A command that runs another one which may open so many descriptors."""
    return ("sh", "-c", f'ulimit -n {limit} && exec "$@"', "sh")


async def limited(limit: int, *words: str) -> Ended:
    """Run `flc` to its end with so many descriptors."""
    process = await asyncio.create_subprocess_exec(
        *limiting(limit), *FLC, *words,
        env=clean_environment(), stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), DEADLINE_S)
    assert process.returncode is not None
    return Ended(process.returncode, out, err.decode())
