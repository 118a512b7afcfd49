"""The judgements of `flc doctor`, as tables: text or facts in, verdict out."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import threading
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flc_udp.cli.look.checks import directory, machine, node, peer
from flc_udp.cli.look.checks.directory import Entry
from flc_udp.cli.look.checks.machine import read
from flc_udp.cli.look.checks.peer import FAMILIES, NOTHING
from flc_udp.cli.look.checks.verdict import Verdict, fail, verdict_text
from flc_udp.cli.wire.ping import Visitor, VisitorAnswer, address_of
from flc_udp.daemon.loop import choose
from flc_udp.store.locks import Holder
from flc_udp.wire import codec
from flc_udp.wire.packets import Ack, Nack, Ping
from flc_udp.wire.seal import SESSION_BYTES, Seal, keyring
from tests.cli.fake import MEMBERS, STATUS

UDP = """\
   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
 4952: 0100007F:1CB8 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 151686 2 00000000d2df4965 17
13944: 0100007F:A52E 0100007F:43F7 01 00000000:00000000 00:00000000 00000000     0        0 151768 2 00000000e82529d6 0
"""  # noqa: E501  # as the kernel writes it
UDP6 = """\
  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
 5440: 00000000000000000000000001000000:1CB8 00000000000000000000000000000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 115228 2 00000000bd3406a0 5828
"""  # noqa: E501  # as the kernel writes it
SNMP = """\
Tcp: RtoAlgorithm RtoMin
Tcp: 1 200
Udp: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors InCsumErrors
Udp: 5682208 2539 0 5684866 12 0 0
UdpLite: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors InCsumErrors
UdpLite: 0 0 0 0 99 0 0
"""
SNMP6 = "Ip6InReceives                   \t4\nUdp6RcvbufErrors                \t3\n"
MOUNTS = """\
/dev/vda / ext4 rw,relatime 0 0
nas:/home /home nfs4 rw 0 0
/dev/vdb /home/ann ext4 rw 0 0
tmpfs /run tmpfs rw 0 0
//nas/a\\040b /mnt/a\\040b cifs rw 0 0
"""
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ME = os.getuid()


def member(**changes: object) -> dict[str, Any]:
    """Another one than this node, alive and of yesterday."""
    began = int(NOW.timestamp()) - 86_400
    return {**MEMBERS[1], "state": "alive", "incarnation": began, **changes}


# --- Versions -------------------------------------------------------------------------------------


def test_this_machine_can_run_flc() -> None:
    """It runs these tests."""
    assert {verdict.level for verdict in machine.versions()} == {"ok"}


@pytest.mark.parametrize(
    ("found", "level"),
    [((3, 32, 9), "fail"), ((3, 33), "ok"), ((3, 33, 0), "ok"), ((4, 0, 0), "ok")],
)
def test_versions_have_a_least(found: tuple[int, ...], level: str) -> None:
    """Below it nothing works."""
    assert machine.at_least("sqlite", found, (3, 33)).level == level


@pytest.mark.parametrize(
    "module", [None, SimpleNamespace(), SimpleNamespace(new_event_loop=lambda: 1 // 0)]
)
def test_without_uvloop_a_node_is_slower(
    monkeypatch: pytest.MonkeyPatch, module: SimpleNamespace | None
) -> None:
    """It is not there, has not what is needed, or makes no loop: a warning, since nodes run."""
    assert machine.event_loop().level == "ok"
    monkeypatch.setitem(sys.modules, "uvloop", module)
    assert machine.event_loop().level == "warn"
    factory, problem = choose()
    assert factory is asyncio.new_event_loop
    assert problem


# --- The kernel -----------------------------------------------------------------------------------


def test_a_small_buffer_names_its_sysctl() -> None:
    """What to set and to what; a system that does not tell its maximum is not named."""
    short = machine.receive_buffer(8_388_608, 212_992, "212992")

    assert (short.level, short.found) == (
        "warn",
        "213.0 kB of the 8.4 MB asked for: net.core.rmem_max is 212992",
    )
    assert short.advice is not None
    assert short.advice.startswith("sysctl -w net.core.rmem_max=8388608")
    assert "rmem_max" not in machine.receive_buffer(8_388_608, 9_216, "").found
    assert machine.receive_buffer(8_388_608, 8_388_608, "8388608").level == "ok"


def test_what_the_kernel_grants_is_what_was_asked_for() -> None:
    """Not the double of it, which Linux answers with."""
    assert machine.granted(16_384) == 16_384


@pytest.mark.parametrize(
    ("port", "tables", "drops"),
    [
        (7352, [UDP, UDP6], 5_845),
        (7352, [UDP], 17),
        (0xA52E, [UDP, UDP6], 0),
        (1, [UDP, UDP6], None),
        (7352, ["", ""], None),
    ],
)
def test_drops_are_found_by_the_port(port: int, tables: list[str], drops: int | None) -> None:
    """Over both families; no such socket is another thing than no drops."""
    assert machine.drops_at(port, tables) == drops


def test_buffer_errors_are_of_udp_alone() -> None:
    """Of both families; a file that is not there says nothing."""
    assert machine.buffer_errors(SNMP, SNMP6) == 15
    assert machine.buffer_errors("", "") == 0


@pytest.mark.parametrize(
    ("port", "dropped", "level", "words"),
    [
        (7352, 3, "warn", "3 datagrams of the node's own port 7352"),
        (7352, 0, "ok", "none at the node's port 7352; 9 by all"),
        (7352, None, "ok", "no socket has port 7352 here; 9 by all"),
        (None, None, "ok", "no node runs here; 9 by all"),
    ],
)
def test_only_the_nodes_own_drops_are_its_trouble(
    port: int | None, dropped: int | None, level: str, words: str
) -> None:
    """Those of all programs are told beside them."""
    verdict = machine.drops(port, dropped, 9)

    assert verdict.level == level
    assert verdict.found.startswith(words)


def test_a_real_socket_has_its_drops_counted() -> None:
    """What does not fit a small buffer that nobody reads is in /proc/net/udp."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        receiver.bind(("127.0.0.1", 0))
        port = receiver.getsockname()[1]
        tables = [read(machine.NET / "udp")]
        assert machine.drops_at(port, tables) == 0
        for _ in range(64):
            sender.sendto(bytes(1_400), ("127.0.0.1", port))

        dropped = machine.drops_at(port, [read(machine.NET / "udp")])
    assert dropped is not None
    assert 0 < dropped < 64


# --- The disk -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/lib/flc", "ext4"),
        ("/home/ben/flc", "nfs4"),
        ("/home/ann/flc", "ext4"),
        ("/home/annabel", "nfs4"),
        ("/run", "tmpfs"),
        ("/runner", "ext4"),
        ("/mnt/a b/flc", "cifs"),
    ],
)
def test_the_deepest_mount_counts(path: str, kind: str) -> None:
    """By whole names, with their spaces."""
    assert machine.file_system_of(path, MOUNTS) == kind


def test_a_mount_over_another_hides_it() -> None:
    """The last one there is what is seen."""
    assert machine.file_system_of("/", "rootfs / rootfs rw 0 0\n/dev/vda / ext4 rw 0 0\n") == "ext4"
    assert machine.file_system_of("/", "") == ""


@pytest.mark.parametrize(
    ("kind", "level"),
    [("ext4", "ok"), ("", "ok"), ("nfs4", "fail"), ("cifs", "fail"), ("tmpfs", "warn")],
)
def test_a_network_or_memory_is_no_disk(kind: str, level: str) -> None:
    """SQLite's WAL works on none of the former, and nothing stays in the latter."""
    assert machine.file_system(kind).level == level


def test_too_little_space_and_a_slow_disk() -> None:
    """Each has its bound, which itself is well."""
    assert [machine.free_space(free, 100).level for free in (99, 100)] == ["fail", "ok"]
    assert [machine.sync_time(ms).level for ms in (20.0, 20.1)] == ["ok", "warn"]


def test_the_disk_is_measured_without_a_trace(tmp_path: Path) -> None:
    """All of a real directory; nothing is left in it."""
    verdicts = machine.disk(tmp_path, 0)

    assert [v.check for v in verdicts] == ["free space", "file system", "disk sync"]
    assert len(machine.sync_times_ms(tmp_path)) == machine.SYNCS
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_refuses_is_not_measured(tmp_path: Path) -> None:
    """It is said, and is no traceback."""
    assert machine.sync(tmp_path / "none").found == "not measured: No such file or directory"


# --- The data directory ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "owner", "user", "level"),
    [
        (0o700, 1000, 1000, "ok"),
        (0o710, 1000, 1000, "ok"),
        (0o750, 1000, 1000, "fail"),
        (0o701, 1000, 1000, "fail"),
        (0o700, 1000, 1001, "fail"),
        (0o700, 1000, 0, "ok"),
        (0o755, 1000, 0, "fail"),
    ],
)
def test_the_directory_is_its_owners_alone(mode: int, owner: int, user: int, level: str) -> None:
    """Root may look; others have no business there."""
    assert directory.rights(Entry("/d", mode, owner), user).level == level


@pytest.mark.parametrize(
    ("name", "mode", "above", "owner", "level"),
    [
        ("flc.db", 0o644, 0o700, 1000, "ok"),
        ("flc.db", 0o644, 0o755, 1000, "warn"),
        ("keys", 0o640, 0o700, 1000, "warn"),
        ("keys", 0o600, 0o755, 1000, "ok"),
        ("control.sock", 0o660, 0o750, 1000, "ok"),
        ("flc.db-wal", 0o600, 0o700, 0, "fail"),
    ],
)
def test_files_are_within_their_owners_reach(
    name: str, mode: int, above: int, owner: int, level: str
) -> None:
    """A file of another user, left by a node that once ran as root, is what stops the next one."""
    found = directory.rights_inside([Entry(f"/d/{name}", mode, owner)], Entry("/d", above, 1000))

    assert found.level == level


def test_real_rights_are_read(tmp_path: Path) -> None:
    """Modes as they are; a link is not what it leads to, and what is not the node's is let be."""
    (tmp_path / "keys").write_text("secret")
    (tmp_path / "keys").chmod(0o644)
    (tmp_path / "control.sock").symlink_to("nowhere")
    (tmp_path / "theirs").mkdir(mode=0o777)
    tmp_path.chmod(0o700)

    shut, files = directory.directory(tmp_path)
    assert (shut.level, files.level) == ("ok", "warn")
    assert files.advice == f"chmod 600 {tmp_path}/keys"


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    """Before the first start that is no failure; a file in its place is."""
    (tmp_path / "file").touch()
    levels = [directory.directory(tmp_path / name)[0].level for name in ("none", "file")]

    assert levels == ["warn", "fail"]


@pytest.mark.parametrize(
    ("held_by", "problem", "has_socket", "level"),
    [
        (Holder(7, is_node=True), "", True, "ok"),
        (None, "", True, "ok"),
        (Holder(7, is_node=True), "no daemon answers", True, "fail"),
        (Holder(7, is_node=True), "no daemon answers", False, "fail"),
        (Holder(7, is_node=False), "no daemon answers", False, "fail"),
        (None, "no daemon answers", True, "warn"),
        (None, "no daemon answers", False, "ok"),
    ],
)
def test_lock_and_socket_are_held_against_each_other(
    held_by: Holder | None, problem: str, has_socket: bool, level: str
) -> None:
    """A lock without an answer, that of a stranger, and a socket without a lock are told apart."""
    assert directory.holder(held_by, problem, has_socket=has_socket).level == level


# --- The node -------------------------------------------------------------------------------------


def test_every_reason_is_a_line() -> None:
    """A healthy node has one line, too."""
    ill = {**STATUS, "healthy": False, "reasons": ["one", "two"]}

    assert [(v.level, v.found) for v in node.health(ill)] == [("fail", "one"), ("fail", "two")]
    assert [v.found for v in node.health(STATUS)] == (
        ["ann (00000000000000aa) at 127.0.0.1:7352, up 1 h 1 min, is healthy"]
    )


def test_another_version_is_told() -> None:
    """Both, since either may be the old one."""
    verdict = node.version("0.1.0", "0.2.0")

    assert (verdict.level, verdict.found) == ("warn", "the node runs 0.1.0, this flc is 0.2.0")
    assert node.version("0.2.0", "0.2.0").level == "ok"


@pytest.mark.parametrize(
    ("others", "level", "found"),
    [
        ([], "ok", "no other member is known"),
        ([member()], "ok", "1 of 1 others answer, the farthest in 0.25 ms"),
        ([member(rtt_ms=None)], "ok", "1 of 1 others answer"),
        ([member(state="left")], "ok", "no other member is known"),
        (
            [member(), member(state="dead", name="cho")],
            "warn",
            "cho at 127.0.0.1:7353 is dead since 2026-01-02T03:04:05.678Z",
        ),
    ],
)
def test_who_is_not_heard_is_named(others: list[dict[str, Any]], level: str, found: str) -> None:
    """With its address and since when; who left is missed by nobody."""
    verdict = node.hears([MEMBERS[0], *others])

    assert (verdict.level, verdict.found) == (level, found)


@pytest.mark.parametrize(
    ("ago", "level", "words"),
    [
        ({}, "ok", "no other complained"),
        ({"probe answered": 0.1, "stalled": 2.0}, "ok", "no other complained"),
        ({"accused": 301.0}, "ok", "no other complained"),
        ({"accused": 61.0, "nack missing": 1.0}, "warn", "others said 4 times that this node"),
        ({"nack missing": 1.0}, "warn", "2 times a member that was asked to relay did not answer"),
    ],
)
def test_a_complaint_of_late_is_told(ago: dict[str, float], level: str, words: str) -> None:
    """An accusation that was heard here is a way that is open in one direction."""
    counts = {"accused": 4, "nack missing": 2}
    verdict = node.heard({"counts": counts, "last_s_ago": ago})

    assert verdict.level == level
    assert verdict.found.startswith(words)
    assert node.heard({}).level == "ok"


@pytest.mark.parametrize(
    ("incarnation_s", "said_at", "found"),
    [
        (-60, "2026-01-02T03:04:04.000Z", None),
        (1, "2026-01-02T03:04:06.000Z", None),
        (3_600, None, "ben started 1 h 0 min from now"),
        (1 << 47, None, "ben started 1628906115 d 5 h from now"),
        (0, "2026-01-02T03:05:15.000Z", "the newest message, of eve, was said 1 min 10 s from now"),
    ],
)
def test_what_comes_from_the_future_shows_a_clock(
    incarnation_s: int, said_at: str | None, found: str | None
) -> None:
    """A second or two are nobody's fault; what is merely old shows nothing."""
    ben = member(incarnation=int(NOW.timestamp()) + incarnation_s)
    newest = {"author": "eve", "said_at": said_at} if said_at else None
    verdict = node.clocks([ben], newest, NOW)

    assert (verdict.level == "warn") == (found is not None)
    assert found in (None, verdict.found)


@pytest.mark.parametrize("year", [1938, 2200, 2261])
def test_a_clock_at_which_nothing_is_said_fails(year: int) -> None:
    """A node refuses each say at such a time: nobody may believe that all is well."""
    verdict = node.clocks([member(incarnation=1)], None, NOW.replace(year=year))

    assert verdict.level == "fail"
    assert f"{year}-01-02" in verdict.found
    assert "timedatectl" in str(verdict.advice)


# --- The peer -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mtu", "is_answered", "packet_bytes_max", "level", "words"),
    [
        (1_500, True, 1_400, "ok", "went there whole"),
        (1_428, True, 1_400, "ok", "went there whole"),
        (1_427, True, 1_400, "warn", "packet_bytes_max = 1399"),
        (1_227, False, 1_400, "warn", "needs an MTU of 1228"),
        (1_500, False, 1_400, "fail", "packet_bytes_max = 1200"),
        (None, True, 1_400, "ok", "not told"),
        (None, False, 1_400, "fail", "not told"),
    ],
)
def test_a_full_datagram_fits_or_does_not(
    mtu: int | None, is_answered: bool, packet_bytes_max: int, level: str, words: str
) -> None:
    """What the kernel knows counts, and what came through where it knows too little."""
    headers_bytes = FAMILIES[socket.AF_INET].headers_bytes
    verdict = peer.path_verdict(mtu, headers_bytes, packet_bytes_max, is_answered)

    assert verdict.level == level
    assert words in f"{verdict.found} {verdict.advice}"


@pytest.mark.parametrize(
    ("members", "level"),
    [
        ([], "ok"),
        ([member(state="alive")], "ok"),
        ([member(state="dead", id="00000000000000cc")], "ok"),
        ([member(state="dead")], "warn"),
    ],
)
def test_who_answers_and_is_held_for_dead_is_behind_a_firewall(
    members: list[dict[str, Any]], level: str
) -> None:
    """The probe and the node speak from different ports."""
    ack = Ack(1, bytes(8), bytes(8), catching_up=False, held=0)
    source = Visitor("127.0.0.1:7353", keyring((), "flc"))
    source.close()
    target = address_of(source.ways[0].target)
    answer = VisitorAnswer(ack, bytes.fromhex(MEMBERS[1]["id"]), target, 1.0, 0.0)

    assert peer.answered(answer, members).level == level


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_full_ping_is_nearly_as_large_as_a_datagram_may_be(host: str) -> None:
    """And never larger: a ping first, then nothing that anybody asked for."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as target:
        target.bind((host, 0))
        shown = f"[{host}]" if ":" in host else host
        ring = keyring((), "flc")
        probe = Visitor(f"{shown}:{target.getsockname()[1]}", ring)
        with closing(probe):
            for size in (60, 1_200, 1_355, 1_356, 1_357):
                assert probe.ping(0, peer.filling(size)) is None
                datagram = target.recv(65_535)
                payload = Seal(ring, bytes(SESSION_BYTES)).open(datagram).payload
                _, packets, _ = codec.read(payload)
                assert size - 6 < len(payload) <= size
                assert isinstance(packets[0], Ping)
                assert all(packet == NOTHING for packet in packets[1:])
            mtu = peer.path_mtu(probe.ways[0], FAMILIES[family])
    assert mtu is not None
    assert mtu > 1_500


def test_a_hole_for_large_datagrams_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that answers what is small, and never hears what is large."""
    monkeypatch.setattr(peer, "PATIENCE_S", 0.5)
    ring = keyring((), "flc")
    ended = threading.Event()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as target:
        target.bind(("127.0.0.1", 0))
        target.settimeout(0.05)
        node_thread = threading.Thread(target=_answer_small, args=(target, ring, ended))
        node_thread.start()
        try:
            address = f"127.0.0.1:{target.getsockname()[1]}"
            verdicts = peer.peer(address, ring, 1_400, [])
        finally:
            ended.set()
            node_thread.join()

    checks = [("peer", "ok"), ("its clock", "ok"), ("path MTU", "fail")]
    assert [(v.check, v.level) for v in verdicts] == checks


@pytest.mark.parametrize(
    ("ahead_ms", "ms", "level", "words"),
    [
        (-3.0, 1.0, "ok", "0.003 s behind this machine's, give or take 0.001 s"),
        (1_999.0, 1.0, "ok", "1.999 s ahead of"),
        (2_100.0, 400.0, "ok", "2.100 s ahead of this machine's, give or take 0.200 s"),
        (2_300.0, 400.0, "warn", "2.300 s ahead of"),
        (-86_400_000.0, 1.0, "warn", "86400.000 s behind"),
    ],
)
def test_two_clocks_agree_within_what_one_answer_shows(
    ahead_ms: float, ms: float, level: str, words: str
) -> None:
    """Two seconds apart are nothing to history; a slow way makes no clock wrong."""
    verdict = peer.clock_verdict(ahead_ms, ms)

    assert verdict.level == level
    assert words in verdict.found


def _answer_small(target: socket.socket, ring: Any, ended: threading.Event) -> None:  # noqa: ANN401  # a Keyring
    from flc_udp.wire.packing import pack  # noqa: PLC0415

    seal = Seal(ring, os.urandom(SESSION_BYTES))
    while not ended.is_set():
        try:
            datagram, source = target.recvfrom(65_535)
        except TimeoutError:
            continue
        _, packets, _ = codec.read(seal.open(datagram).payload)
        if len(datagram) < 200 and isinstance(packets[0], Ping):
            wall = time.time_ns() // 1_000_000
            ack = Ack(packets[0].nonce, bytes(8), bytes(8), catching_up=False, held=0, wall=wall)
            (payload,) = pack(b"\1" * 8, [Nack(5), ack], 1_355)
            target.sendto(seal.close(payload), source)


def test_silence_asks_for_key_and_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which is what it mostly is."""
    monkeypatch.setattr(peer, "PATIENCE_S", 0.01)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as target:
        target.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{target.getsockname()[1]}"
        (verdict,) = peer.peer(address, keyring((), "flc"), 1_400, [])

    assert (verdict.level, verdict.found) == ("fail", f"{address} did not answer")
    assert verdict.advice is not None
    assert verdict.advice.startswith("key or cluster name?")


# --- How it looks ---------------------------------------------------------------------------------


def test_a_line_a_check_and_one_of_advice() -> None:
    """Nothing that came from elsewhere drives the terminal."""
    assert verdict_text(Verdict("uvloop", "ok", "0.21.0")) == "ok    uvloop          0.21.0"
    assert verdict_text(fail("peer", "\x1b[2J", "flc ping\n")) == (
        "fail  peer            ␛[2J\n      -> flc ping␊"
    )
