"""A long list of mistakes, as they are made at 3 a.m.: each is answered in two lines and in time.

Every one gives one `error:` and one `hint:` line that name the thing and the way out, the exit code
that scripts rely on, nothing on stdout that could be taken for a result, no traceback and no hang.
Log lines of `flc run` alone may stand beside them.
"""

from __future__ import annotations

import asyncio
import base64
import os
import shutil
import socket
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from flc_udp.cli.run.cluster import FLC
from flc_udp.config import BODY_BYTES_MAX
from flc_udp.store.schema import APPLICATION_ID
from tests.daemon.cluster import Cluster, Node
from tests.daemon.process import Ended, clean_environment, until
from tests.forks import forked

LIMIT_S = 30.0
"""Of each. On a quiet machine it is under 2 s; here only what hangs is to be found."""

AT_ONCE = 4

REFUSED, MISTYPED, SILENT = 1, 2, 3
"""Exit codes."""


class Mistake(NamedTuple):
    """A line as it is typed, {names} being places made below, and what has to be said to it."""

    line: str
    code: int
    error: str
    hint: str
    stdin: bytes = b""
    environ: Mapping[str, str] = {}  # a tuple's default, never changed
    prefix: tuple[str, ...] = ()
    out: bool = False
    """Whether there is something to print before it is found out."""


RUN = "run --data {new} --bind 127.0.0.1:0 --log-format json"

COMMAND_LINE = [
    Mistake("", MISTYPED, "COMMAND", "flc --help"),
    Mistake("sya ops hi", MISTYPED, "no command 'sya'", "did you mean say?"),
    Mistake("wombat", MISTYPED, "no command 'wombat'", "flc --help"),
    Mistake("--wombat", MISTYPED, "COMMAND", "flc --help"),
    Mistake("caf\udce9", MISTYPED, r"caf\xe9", "flc --help"),
    Mistake("say ops", MISTYPED, "TEXT", "flc say --help"),
    Mistake("say", MISTYPED, "ROOM, TEXT", "flc say --help"),
    Mistake("say ops hi --wiat 1", MISTYPED, "--wiat", "did you mean --wait?"),
    Mistake("say ops hi --wait some", MISTYPED, "'some'", "flc say --help"),
    Mistake("say ops hi --wait -1", MISTYPED, "--wait", "flc say --help"),
    Mistake("say ops hi --timeout soon", MISTYPED, "'soon'", "flc say --help"),
    Mistake("say ops hi --timeout nan", MISTYPED, "'nan'", "flc say --help"),
    Mistake("say ops hi --as", MISTYPED, "--as", "flc say --help"),
    Mistake("say caf\udce9 hi", MISTYPED, r"ROOM: caf\xe9", "flc say --help"),
    Mistake("say ops hi --as caf\udce9", MISTYPED, r"--as: caf\xe9", "flc say --help"),
    Mistake("nc ops lobby", MISTYPED, "lobby", "flc nc --help"),
    Mistake("nc --from here", MISTYPED, "'here'", "flc nc --help"),
    Mistake("nc --from 0 --last 3", MISTYPED, "--last", "flc nc --help"),
    Mistake("nc -c 0", MISTYPED, "'0'", "flc nc --help"),
    Mistake("nc -w -1", MISTYPED, "-w", "flc nc --help"),
    Mistake("nc caf\udce9", MISTYPED, r"ROOM: caf\xe9", "flc nc --help"),
    Mistake("nc --as caf\udce9 -N", MISTYPED, r"--as: caf\xe9", "flc nc --help"),
    Mistake("log -n -1", MISTYPED, "-n", "flc log --help"),
    Mistake("log -n 1.5", MISTYPED, "'1.5'", "flc log --help"),
    Mistake(f"log -n {'9' * 5_000}", MISTYPED, "-n", "flc log --help"),
    Mistake("log --since lately", MISTYPED, "'lately'", "flc log --help"),
    Mistake("log --since 2026-13-01", MISTYPED, "'2026-13-01'", "flc log --help"),
    Mistake("log caf\udce9", MISTYPED, r"ROOM: caf\xe9", "flc log --help"),
    Mistake("why nothing", MISTYPED, "'nothing'", "flc why --help"),
    Mistake("why 9f2c61d0a47be813", MISTYPED, "not a dot", "flc why --help"),
    Mistake("sync ben cho", MISTYPED, "cho", "flc sync --help"),
    Mistake("sync --timeout -1", MISTYPED, "--timeout", "flc sync --help"),
    Mistake("forget", MISTYPED, "MEMBER", "flc forget --help"),
    Mistake("ping", MISTYPED, "HOST:PORT", "flc ping --help"),
    Mistake("ping 127.0.0.1:7352 -c 0", MISTYPED, "'0'", "flc ping --help"),
    Mistake("ping 127.0.0.1:7352 -c many", MISTYPED, "'many'", "flc ping --help"),
    Mistake("ping 127.0.0.1:7352 -i nan", MISTYPED, "'nan'", "flc ping --help"),
    Mistake("ping 127.0.0.1:7352 -i 1e10", MISTYPED, "'1e10'", "flc ping --help"),
    Mistake("ping caf\udce9:7352", MISTYPED, r"HOST:PORT: caf\xe9", "flc ping --help"),
    Mistake("ping 127.0.0.1:7352 --cluster \udcff", MISTYPED, r"--cluster: \xff", "flc ping"),
    Mistake("udp", MISTYPED, "HOST PORT", "flc udp --help"),
    Mistake("udp 127.0.0.1 7352 --decode", MISTYPED, "HOST PORT", "flc udp --help"),
    Mistake("udp -z -l 0", MISTYPED, "-z", "flc udp --help"),
    Mistake("udp -z 127.0.0.1 \udcff", MISTYPED, r"\xff", "flc udp --help"),
    Mistake("udp -z 127.0.0.1 1 --cluster \udcff", MISTYPED, r"--cluster: \xff", "flc udp"),
    Mistake("doctor caf\udce9:7352", MISTYPED, r"HOST:PORT: caf\xe9", "flc doctor --help"),
    Mistake("doctor --cluster \udcff", MISTYPED, r"--cluster: \xff", "flc doctor --help"),
    Mistake("completion ksh", MISTYPED, "'ksh'", "flc completion --help"),
    Mistake("backup", MISTYPED, "FILE", "flc backup --help"),
    Mistake("import", MISTYPED, "FILE", "flc import --help"),
    Mistake("keygen cluster.key", MISTYPED, "cluster.key", "flc keygen --help"),
    Mistake("demo --nodes 2", MISTYPED, "'2'", "flc demo --help"),
    Mistake("sim --nodes none", MISTYPED, "'none'", "flc sim --help"),
    Mistake("run --profile moon", MISTYPED, "'moon'", "flc run --help"),
    Mistake("run --daat /tmp/ann", MISTYPED, "--daat", "did you mean --data?"),
    Mistake("run --cluster \udcff", MISTYPED, r"--cluster: \xff", "flc run --help"),
    Mistake("run --join \udcff:7352", MISTYPED, r"--join: \xff", "flc run --help"),
]

NODES = [
    # Settings, from each of their places.
    Mistake(f"{RUN} --config {{home}}/none.toml", REFUSED, "none.toml", "--config"),
    Mistake(f"{RUN} --config {{typo}}", REFUSED, "line 2", "name ="),
    Mistake(f"{RUN} --config {{unknown_key}}", REFUSED, "'nmae'", "did you mean name?"),
    Mistake(f"{RUN} --config {{bad_value}}", REFUSED, "links_max is 0", "1 to 64"),
    Mistake(f"{RUN} --config {{bad_type}}", REFUSED, "name is 7", "a text"),
    Mistake(f"{RUN} --config {{noise}}", REFUSED, "UTF-8", "--config"),
    Mistake("config --config {unknown_key}", REFUSED, "'nmae'", "did you mean name?"),
    Mistake(RUN, REFUSED, "'fast'", "local, lan, wan", environ={"FLC_PROFILE": "fast"}),
    Mistake(RUN, REFUSED, "'many'", "a whole number", environ={"FLC_LINKS_MAX": "many"}),
    Mistake(RUN, REFUSED, "FLC_LINKS_MAX", "number", environ={"FLC_LINKS_MAX": "9" * 5_000}),
    Mistake(RUN, REFUSED, "FLC_CLUSTER", "Unicode", environ={"FLC_CLUSTER": "\udcff"}),
    Mistake(RUN, REFUSED, "FLC_JOIN", "Unicode", environ={"FLC_JOIN": "\udcff:7352"}),
    # Names and addresses.
    Mistake(f"{RUN} --name a\nb", REFUSED, "control characters", "1 to 128"),
    Mistake(f"{RUN} --bind 127.0.0.1", REFUSED, "'127.0.0.1'", "HOST:PORT"),
    Mistake(f"{RUN} --bind {{address}}", REFUSED, "in use", "--bind"),
    Mistake(f"{RUN} --bind 192.0.2.1:0 --insecure", REFUSED, "192.0.2.1", "--bind"),
    Mistake(f"{RUN} --bind no-such-host.invalid:0", REFUSED, "no-such-host", "resolves"),
    Mistake(f"{RUN} --bind ..:0", REFUSED, "'..:0'", "resolves"),
    Mistake(f"{RUN} --bind 0.0.0.0:0", REFUSED, "no key", "--key-file"),
    Mistake(f"{RUN} --join nowhere", REFUSED, "'nowhere'", "HOST:PORT"),
    Mistake(f"{RUN} --join ::1:7352", REFUSED, "'::1:7352'", "[HOST]:PORT"),
    Mistake(f"{RUN} --join 127.0.0.1:99999", REFUSED, "99999", "65535"),
    Mistake(f"{RUN} --advertise nowhere", REFUSED, "'nowhere'", "HOST:PORT"),
    Mistake(f"{RUN} --metrics nowhere", REFUSED, "'nowhere'", "HOST:PORT"),
    Mistake(f"{RUN} --metrics 127.0.0.1:{{tcp_port}}", REFUSED, "in use", "--metrics"),
    Mistake(f"{RUN} --control-group no-such-group", REFUSED, "no-such-group", "group"),
    # Its directory.
    Mistake("run --data {ann} --bind 127.0.0.1:0", REFUSED, "in use by", "--data"),
    Mistake("run --data {note} --bind 127.0.0.1:0", REFUSED, "Not a directory", "--data"),
    Mistake("run --data {note}/x --bind 127.0.0.1:0", REFUSED, "Not a directory", "--data"),
    Mistake("run --data /proc/flc --bind 127.0.0.1:0", REFUSED, "/proc/flc", "--data"),
    Mistake("run --data {future} --bind 127.0.0.1:0", REFUSED, "schema 99", "newer flc"),
    Mistake("run --data {strange} --bind 127.0.0.1:0", REFUSED, "another program", "--data"),
    Mistake("run --data {garbage} --bind 127.0.0.1:0", REFUSED, "no usable", "flc backup"),
    Mistake("run --data {torn} --bind 127.0.0.1:0", REFUSED, "torn/flc.db", "flc fsck"),
    Mistake("run --data {dir_as_db} --bind 127.0.0.1:0", REFUSED, "is a directory", "move it away"),
    Mistake("run --data {bad_ring} --bind 127.0.0.1:0", REFUSED, "bad_ring/keys", "flc keygen"),
    # Keys.
    Mistake(f"{RUN} --key-file {{home}}/none.key", REFUSED, "No such file", "flc keygen"),
    Mistake(f"{RUN} --key-file {{home}}", REFUSED, "Is a directory", "flc keygen"),
    Mistake(f"{RUN} --key-file {{empty}}", REFUSED, "no key", "flc keygen"),
    Mistake(f"{RUN} --key-file {{note}}", REFUSED, "line 1", "flc keygen"),
    Mistake(f"{RUN} --key-file {{short_key}}", REFUSED, "line 2", "flc keygen"),
    Mistake(f"{RUN} --key-file {{noise}}", REFUSED, "ASCII", "flc keygen"),
]

CLIENTS = [
    # Where is it?
    *(
        Mistake(f"{words} --data {{home}}/none", REFUSED, "no daemon here", "flc run --data")
        for words in (
            "say ops hi",
            "nc -N",
            "log",
            "rooms",
            "members",
            "status",
            "digest",
            "sync",
            "leave",
            "forget ben",
            "why 9f2c61d0a47be813:1",
        )
    ),
    Mistake("status --data {dead}", REFUSED, "no daemon answers", "flc run"),
    Mistake("say ops hi --data {dead}", REFUSED, "no daemon answers", "flc run"),
    Mistake("nc -N ops --data {dead}", REFUSED, "no daemon answers", "flc run"),
    Mistake("status --data {stale}", REFUSED, "no daemon answers", "flc run"),
    Mistake("status --data {no_socket}", REFUSED, "no daemon answers", "flc run"),
    Mistake("status --data {mute}", SILENT, "does not answer", "stuck"),
    Mistake("say ops - --data {mute}", SILENT, "does not answer", "stuck", stdin=b"x" * 1_000_000),
    Mistake("nc -N ops --data {mute}", SILENT, "does not answer", "stuck", stdin=b"hi\n"),
    Mistake("log -f --data {mute}", SILENT, "does not answer", "stuck"),
    Mistake("members --data {babbles}", REFUSED, "babbles", "flc"),
    # What cannot be said.
    Mistake("say o\tps hi --data {ann}", REFUSED, "control characters", "1 to 128"),
    Mistake(f"say {'r' * 129} hi --data {{ann}}", REFUSED, "129 bytes", "1 to 128"),
    Mistake("say ops hi --as a\x1b[1m --data {ann}", REFUSED, "author", "1 to 128"),
    Mistake("say ops - --data {ann}", REFUSED, "65536", "body", stdin=b"x" * 65_537),
    Mistake(
        "say ops - --data {ann}",
        REFUSED,
        f"{BODY_BYTES_MAX}",
        "pieces",
        stdin=b"x" * (BODY_BYTES_MAX + 1),
    ),
    Mistake("nc -N ops --data {ann}", REFUSED, "line 1", "body", stdin=b"x" * 65_537 + b"\n"),
    Mistake("nc -N o\tps --data {ann}", REFUSED, "control characters", "1 to 128"),
    Mistake("say ops hi --wait 5 --data {ann}", REFUSED, "cannot wait for 5", "flc members"),
    Mistake("say ops hi --data {low}", REFUSED, "kept free", "room on the disk"),
    # What is not there.
    Mistake("nc -d --from 99 --data {ann}", REFUSED, "position 99", "from 0"),
    Mistake("nc -d --from 1@{other_dot} --data {ann}", REFUSED, "{other_dot}", "from 0"),
    Mistake("why {other_dot} --data {ann}", REFUSED, "{other_dot}", "flc"),
    Mistake("sync nobody --data {ann}", REFUSED, "nobody", "flc members"),
    Mistake("sync --data {ann}", REFUSED, "no other member", "flc members"),
    Mistake("forget nobody --data {ann}", REFUSED, "nobody", "flc members"),
    Mistake("forget ann --data {ann}", REFUSED, "is alive", "flc leave"),
    Mistake("log -f --clock --data {ann}", REFUSED, "--clock", "-f"),
]

PEERS = [
    Mistake("ping nowhere", REFUSED, "'nowhere'", "HOST:PORT"),
    Mistake("ping ..:7352", REFUSED, "'..:7352'", "HOST:PORT"),
    Mistake("ping no-such-host.invalid:7352", REFUSED, "no-such-host", "HOST:PORT"),
    Mistake("ping 127.0.0.1:0 -c 1", REFUSED, "port 0", "port from 1"),
    Mistake("ping {address} -i 0", REFUSED, "flood", "-i"),
    Mistake("ping {address} -c 1 --key-file {home}/none.key", REFUSED, "none.key", "flc keygen"),
    Mistake("ping 127.0.0.1:{udp_port} -c 1", SILENT, "did not answer", "key", out=True),
    Mistake("ping 127.0.0.1:1 -c 1", SILENT, "did not answer", "is it there", out=True),
    Mistake("ping {address} -c 1 --cluster other", SILENT, "did not answer", "cluster", out=True),
    Mistake("ping {address} -c 1 --key-file {key}", SILENT, "did not answer", "key", out=True),
    Mistake("udp -z nowhere", REFUSED, "'nowhere'", "HOST:PORT"),
    Mistake("udp -z .. 7352", REFUSED, "..:7352", "resolves"),
    Mistake("udp -z 127.0.0.1 99999", REFUSED, "99999", "65535"),
    Mistake("udp -z 127.0.0.1 0", REFUSED, "port 0", "from 1"),
    Mistake("udp -l {udp_port}", REFUSED, "in use", "-l 0"),
    Mistake("udp -z -w 1 127.0.0.1 {udp_port}", SILENT, "did not answer", "key or cluster"),
    Mistake("udp -z -w 1 {address} --cluster other", SILENT, "did not answer", "key or cluster"),
    Mistake("udp -w 1 {address}", REFUSED, "line 1", "type a packet", stdin=b"hello\n"),
    Mistake("udp --decode", REFUSED, "hex", "hex", stdin=b"zz\n"),
    Mistake("doctor {address} --key-file {note}", REFUSED, "line 1", "flc keygen"),
]

COPIES = [
    Mistake("fsck --data {home}/none", REFUSED, "no log", "--data"),
    Mistake("fsck --data {garbage}", REFUSED, "flc.db", "--join"),
    Mistake("fsck --data {future}", REFUSED, "schema 99", "newer flc"),
    Mistake("backup {note} --data {ann}", REFUSED, "there already", "--force"),
    Mistake("backup {home} --data {ann}", REFUSED, "no plain file", "another file"),
    Mistake("backup {home}/none/x.db --data {ann}", REFUSED, "No such file", "directory"),
    Mistake("backup {home}/y.db --data {home}/none", REFUSED, "no log", "--data"),
    Mistake("backup {home}/z.db --data {garbage}", REFUSED, "flc.db", "--join"),
    Mistake("export --data {home}/none", REFUSED, "no log", "--data"),
    Mistake("export nowhere --data {ann}", REFUSED, "nowhere", "flc rooms"),
    Mistake("import {home}/none.jsonl --data {new}", REFUSED, "No such file", "flc export"),
    Mistake("import {note} --data {new}", REFUSED, "line 1", "export it again"),
    Mistake("import {noise} --data {new}", REFUSED, "line 1", "export it again"),
    Mistake("import - --data {new}", REFUSED, "empty", "export"),
    Mistake("import {note} --data {ann}", REFUSED, "in use", "--data"),
]


# --- What stands around them ----------------------------------------------------------------------


def write(path: Path, content: str | bytes) -> Path:
    """A file with that in it."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def database(directory: Path, *statements: str) -> Path:
    """A data directory with a database of these statements."""
    directory.mkdir()
    with closing(sqlite3.connect(directory / "flc.db")) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()
    return directory


def files(home: Path) -> dict[str, Path]:
    """Files and directories with something wrong."""
    good, short = (base64.b64encode(bytes(range(size))).decode() for size in (32, 31))
    future = (f"PRAGMA application_id = {APPLICATION_ID}", "PRAGMA user_version = 99")
    for name in ("garbage", "bad_ring", "no_socket", "dir_as_db"):
        (home / name).mkdir()
    (home / "dir_as_db" / "flc.db").mkdir()
    write(home / "garbage" / "flc.db", os.urandom(8_192))
    write(home / "bad_ring" / "keys", "hunter2\n")
    write(home / "no_socket" / "control.sock", "")
    return {
        "home": home,
        "garbage": home / "garbage",
        "bad_ring": home / "bad_ring",
        "no_socket": home / "no_socket",
        "dir_as_db": home / "dir_as_db",
        "future": database(home / "future", *future),
        "strange": database(home / "strange", "CREATE TABLE recipe (title TEXT)"),
        "typo": write(home / "typo.toml", 'name = "ann"\nprofile = local\n'),
        "unknown_key": write(home / "unknown.toml", 'nmae = "ann"\n'),
        "bad_value": write(home / "value.toml", "links_max = 0\n"),
        "bad_type": write(home / "type.toml", "name = 7\n"),
        "noise": write(home / "noise", b"\xff\xfe\x00\x80" * 64),
        "note": write(home / "note", "remember the milk\n"),
        "empty": write(home / "empty", ""),
        "key": write(home / "key", f"{good}\n"),
        "short_key": write(home / "short.key", f"{good}\n{short}\n"),
    }


@contextmanager
def sockets(home: Path) -> Iterator[dict[str, object]]:
    """Ports that are taken by somebody silent, and control sockets with nobody right behind."""
    with ExitStack() as opened:
        udp, tcp, mute = (
            opened.enter_context(closing(socket.socket(family, kind)))
            for family, kind in (
                (socket.AF_INET, socket.SOCK_DGRAM),
                (socket.AF_INET, socket.SOCK_STREAM),
                (socket.AF_UNIX, socket.SOCK_STREAM),
            )
        )
        udp.bind(("127.0.0.1", 0))
        tcp.bind(("127.0.0.1", 0))
        tcp.listen()
        (home / "mute").mkdir()
        mute.bind(str(home / "mute" / "control.sock"))
        mute.listen(64)
        (home / "stale").mkdir()
        with closing(socket.socket(socket.AF_UNIX)) as stale:
            stale.bind(str(home / "stale" / "control.sock"))
        yield {
            "udp_port": udp.getsockname()[1],
            "tcp_port": tcp.getsockname()[1],
            "mute": home / "mute",
            "stale": home / "stale",
            "babbles": home / "babbles",
        }


async def babble(home: Path) -> asyncio.Server:
    """Something else that listens at a control socket."""

    async def talk(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n")
        writer.close()

    (home / "babbles").mkdir()
    return await asyncio.start_unix_server(talk, home / "babbles" / "control.sock")


async def daemons(cluster: Cluster) -> dict[str, object]:
    """One that is well, one with little space on its disk, one killed, one damaged."""
    ann, dead, torn = cluster.node(), cluster.node(name="dead"), cluster.node(name="torn")
    low = cluster.node(name="low", environ={"FLC_DISK_FREE_BYTES_MIN": str(1 << 50)})
    for node in (ann, dead, torn, low):
        await node.start()
    said = (await ann.flc("say", "ops", "hi")).out.decode().strip()
    await torn.flc("say", "ops", "hi")
    dead.kill9()
    torn.kill9()
    with closing(sqlite3.connect(torn.data / "flc.db")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with (torn.data / "flc.db").open("r+b") as file:
        file.seek(4_096)
        file.write(os.urandom(60_000))
    other = "0000000000000000" if not said.startswith("0000") else "1111111111111111"
    return {
        "ann": ann.data,
        "address": ann.address,
        "other_dot": f"{other}:1",
        "dead": dead.data,
        "torn": torn.data,
        "low": low.data,
    }


# --- How they are judged --------------------------------------------------------------------------


class Judged(NamedTuple):
    """A mistake, how it ended and after how long; what is wrong with that, if anything."""

    mistake: Mistake
    seconds: float
    problem: str


async def judge(mistakes: Sequence[Mistake], places: Mapping[str, object]) -> list[Judged]:
    """Make them all, a few at a time."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(mistake: Mistake) -> Judged:
        async with gate:
            began = time.monotonic()
            ended = await make(mistake, places)
            seconds = time.monotonic() - began
        return Judged(mistake, seconds, problem_of(mistake, ended, places))

    return await asyncio.gather(*map(one, mistakes))


async def make(mistake: Mistake, places: Mapping[str, object]) -> Ended | None:
    """Run the line to its end; None where it does not come in time."""
    home = Path(str(places["home"]))
    here = {**places, "new": tempfile.mkdtemp(dir=home)}
    words = [word.format_map(here) for word in mistake.line.split(" ") if word]
    environ = {**clean_environment(), **mistake.environ}
    if not mistake.prefix:
        return await fork(words, mistake.stdin, environ, home)
    process = await asyncio.create_subprocess_exec(
        *mistake.prefix, *FLC, *words,
        env=environ, cwd=home,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        out, err = await asyncio.wait_for(process.communicate(mistake.stdin), LIMIT_S)
    except TimeoutError:
        process.kill()
        await process.communicate()
        return None
    assert process.returncode is not None
    return Ended(process.returncode, out, err.decode())


async def fork(
    words: Sequence[str], stdin: bytes, environ: Mapping[str, str], home: Path
) -> Ended | None:
    """The same, without a start of Python for each."""
    try:
        code, out, err = await forked(
            *words, stdin=stdin, environ=environ, cwd=home, limit_s=LIMIT_S
        )
    except TimeoutError:
        return None
    return Ended(code, out, err.decode())


def problem_of(mistake: Mistake, ended: Ended | None, places: Mapping[str, object]) -> str:
    """What is not as it has to be, or nothing."""
    if ended is None:
        return f"does not end in {LIMIT_S:g} s"
    lines = ended.err.split("\n")[:-1]
    if mistake.line.startswith("run "):
        lines = [line for line in lines if not line.startswith("{")]
    error, hint = (word.format_map(places) for word in (mistake.error, mistake.hint))
    begins = [line.partition(" ")[0] for line in lines]
    is_told = begins == ["error:", "hint:"] and error in lines[0] and hint in lines[1]
    is_quiet = mistake.out or not ended.out
    if is_told and is_quiet and ended.code == mistake.code:
        return ""
    return f"ends with {ended.code}, not {mistake.code}: {ended.out!r} {ended.err[-1500:]}"


def wrong(judged: Sequence[Judged]) -> str:
    """All that went wrong, for the report of a test."""
    return "\n".join(
        f"flc {one.mistake.line[:100]!r} {one.problem}" for one in judged if one.problem
    )


async def test_every_mistake_is_two_lines_and_an_exit_code(cluster: Cluster) -> None:
    """The whole list, against nodes that are well, damaged, dead, mute and none at all."""
    home = cluster.home
    places = {**files(home), **await daemons(cluster)}
    with sockets(home) as taken:
        async with await babble(home):
            judged = await judge([*COMMAND_LINE, *NODES, *CLIENTS, *PEERS, *COPIES], places | taken)

    assert not wrong(judged), wrong(judged)


# --- Places that are not for everybody ------------------------------------------------------------

POWERLESS = () if os.geteuid() else ("setpriv", "--inh-caps=-all", "--bounding-set=-all")
"""Root without what lets it pass over permissions: nobody may do what only others may."""

ON_A_DISK = """
mount -t tmpfs -o size="$1" tmpfs "$2" || exit
if [ "$3" = full ]; then cat /dev/zero >"$2/ballast" 2>/dev/null; fi
shift 3
exec "$@"
"""
"""In a mount namespace of its own: a small disk at a directory, seen by what runs there alone."""


def on_a_disk(where: Path, size: str, state: str) -> tuple[str, ...]:
    """What a command is preceded by to have such a disk."""
    return ("unshare", "--mount", "sh", "-c", ON_A_DISK, "sh", size, str(where), state)


def is_possible(*prefix: str) -> bool:
    """Whether commands can be run so, here."""
    if prefix and shutil.which(prefix[0]) is None:
        return False
    return subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode == 0


async def test_a_place_that_is_anothers(cluster: Cluster) -> None:
    """Sockets, keys, settings, logs and directories without permission."""
    if not is_possible(*POWERLESS):
        pytest.skip("setpriv (util-linux) is needed to be root without its powers")
    home = cluster.home
    (ann,) = await cluster.start(1)
    for name in ("kept", "read_only", "locked"):
        (home / name).mkdir()
    (home / "log").mkdir()
    write(home / "locked" / "lock", "")
    for name in ("key", "toml", "exported", "log/flc.db"):
        write(home / name, "")
    places = {"home": home, "ann": ann.data}
    closed = ("key", "toml", "exported", "log/flc.db", "kept", "locked/lock", "ann/control.sock")
    for name in closed:
        (home / name).chmod(0)
    (home / "read_only").chmod(0o500)
    denied = "Permission denied"
    mistakes = [
        Mistake("status --data {ann}", REFUSED, denied, "--control-group"),
        Mistake("say ops hi --data {ann}", REFUSED, denied, "--control-group"),
        Mistake("nc -N ops --data {ann}", REFUSED, denied, "--control-group"),
        Mistake("status --data {home}/kept", REFUSED, denied, "--control-group"),
        Mistake(f"{RUN} --key-file {{home}}/key", REFUSED, denied, "key"),
        Mistake(f"{RUN} --config {{home}}/toml", REFUSED, denied, "--config"),
        Mistake("run --data {home}/kept --bind 127.0.0.1:0", REFUSED, denied, "--data"),
        Mistake("run --data {home}/kept/x --bind 127.0.0.1:0", REFUSED, denied, "--data"),
        Mistake("run --data {home}/read_only --bind 127.0.0.1:0", REFUSED, denied, "--data"),
        Mistake("run --data {home}/locked --bind 127.0.0.1:0", REFUSED, denied, "--data"),
        Mistake("run --data {home}/log --bind 127.0.0.1:0", REFUSED, "flc.db", "chmod"),
        Mistake(f"{RUN} --bind 127.0.0.1:53", REFUSED, denied, "below 1024"),
        Mistake("fsck --data {home}/kept", REFUSED, denied, "--data"),
        Mistake("backup {home}/read_only/x.db --data {ann}", REFUSED, denied, "directory"),
        Mistake("backup {home}/x.db --data {home}/log", REFUSED, "flc.db", "--join"),
        Mistake("import {home}/exported --data {new}", REFUSED, denied, "flc export"),
    ]
    try:
        judged = await judge([one._replace(prefix=POWERLESS) for one in mistakes], places)
    finally:
        for name in (*closed, "read_only"):
            (home / name).chmod(0o700)

    assert not wrong(judged), wrong(judged)


async def test_a_disk_that_is_full(cluster: Cluster) -> None:
    """At the start, and with a node that is running; copies too."""
    home = cluster.home
    (home / "disk").mkdir()
    full = on_a_disk(home / "disk", "64k", "full")
    if not is_possible(*full):
        pytest.skip("small disks can be mounted by root alone, and not everywhere")
    (ann,) = await cluster.start(1)
    await ann.flc("say", "ops", "hi")
    small = cluster.node(
        name="small", prefix=on_a_disk(home / "small", "1m", "empty"),
        environ={"FLC_DISK_FREE_BYTES_MIN": "0"},
    )  # fmt: skip
    small.data.mkdir()
    exported = write(home / "exported", (await ann.flc("export")).out)
    small.launch()
    await asyncio.sleep(0)
    inside = ("nsenter", "--mount", "--target", str(small.pid))
    await answers(inside, small)
    fill = "cat /dev/zero >ballast 2>/dev/null; true"
    await run_to_end(*inside, "sh", "-c", f"cd {small.data} && {fill}")
    places = {"home": home, "ann": ann.data, "disk": home / "disk", "small": small.data}
    body = b"x" * 60_000

    judged = await judge(
        [
            Mistake("run --data {disk} --bind 127.0.0.1:0", REFUSED, "{disk}", "df", prefix=full),
            Mistake("import {home}/exported --data {disk}", REFUSED, "{disk}", "df", prefix=full),
            Mistake(
                "backup {disk}/x.db --data {ann}", REFUSED, "{disk}/x.db", "space", prefix=full
            ),
            Mistake(
                "say ops - --data {small}", REFUSED, "written", "flc status", body, prefix=inside
            ),
            Mistake(
                "nc -N ops --data {small}", REFUSED, "line 1", "flc status", body, prefix=inside
            ),
        ],
        places,
    )
    status = await make(Mistake("status --data {small}", REFUSED, "", "", prefix=inside), places)

    assert exported.stat().st_size
    assert not wrong(judged), wrong(judged)
    assert status is not None
    assert "cannot be written" in status.out.decode()
    for output in ("keygen", "log --data {ann}", "export --data {ann}"):
        with_full = ("sh", "-c", 'exec "$@" >/dev/full', "sh")
        judged = await judge(
            [Mistake(output, REFUSED, "No space", "disk", prefix=with_full)], places
        )
        assert not wrong(judged), wrong(judged)


async def run_to_end(*words: str) -> int:
    """The exit code of a command whose words nobody wants."""
    process = await asyncio.create_subprocess_exec(
        *words, env=clean_environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    return await process.wait()


async def answers(inside: tuple[str, ...], node: Node) -> None:
    """Wait until the node within that namespace does."""
    words = [*inside, *FLC, "status", "--data", str(node.data)]

    async def look() -> bool:
        return await run_to_end(*words) == 0

    await until(f"{node.name} answers", look)
