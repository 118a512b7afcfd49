"""Every number of the project, with its unit and its reason.

There are two kinds, which are kept apart. *Protocol constants* are the same on every node of every
cluster: what a node accepts from others depends on nothing else. *Settings* are a node's own: they
pace it and limit what it submits, and no two nodes have to agree on them.
"""

from dataclasses import dataclass, field, fields
from typing import TypeVar

# --- Protocol constants -----------------------------------------------------------------------

WIRE_VERSION = 1
"""Every datagram begins with this byte."""

ID_BYTES = 8
"""The size of node and log ids. Among a million logs any two have the same id with a chance of
3e-8."""

HASH_BYTES = 8
"""The size of the BLAKE2b hashes of blocks and roots. They guard against accidents and not
against attacks, because whoever holds the cluster key is trusted."""

LABEL_BYTES_MAX = 128
"""Names of rooms, authors and nodes have at most this many bytes of UTF-8."""

TAGS_MAX = 16
"""A node has at most this many tags."""

TAGS_BYTES_MAX = 512
"""The keys and values of a node's tags have at most this many bytes together. A row then has at
most 850 bytes, which fit the smallest datagram."""

CATCHING_UP_MESSAGES = 4_096
"""A node that lacks this many messages says that it is catching up. Nobody starts an exchange with
it."""

BODY_BYTES_MAX = 1 << 20
"""The body of a message has at most this many bytes."""

CAUSES_MAX = 16_384
"""A block names at most this many causes: more than any room has authors at once."""

BLOCK_BYTES_MAX = BODY_BYTES_MAX + CAUSES_MAX * 19 + 4_096
"""An encoded block has at most this size: a body, causes of 19 bytes each, and the rest."""

BODIES_MAX = 1_024
"""A block has at most this many messages."""

SHARED_BYTES_MAX = 1_100
"""A block with more than one message has at most this many bytes. So it goes as a whole into each
datagram, even if `packet_bytes_max` is the least that is allowed."""

PULL_BYTES_LEAST = 16_384
"""A pull asks for at least this much, and is given it. With less a large message takes dozens of
round trips, and where datagrams are lost each of them takes several tries."""

SEQ_LIMIT = 1 << 53
"""Sequence numbers are lower than this. They stay exact in a double, so any JSON reader can read
them."""

STAMP_LIMIT = 1 << 62
"""Stamps are lower than this, so they fit into SQLite's signed 64 bits."""

WALL_MS_LIMIT = 7_258_118_400_000
"""A node whose clock shows a time before 1970 or after 2199 says nothing. So between the stamps
that clocks make and STAMP_LIMIT there are more than anybody can use up."""

CLOCK_STAMP_LIMIT = WALL_MS_LIMIT << 16
"""No clock makes this stamp or a greater one. So no node of ours says a message with such a stamp,
and none names one as a cause: a room that somebody carries to there begins anew from today."""

LEAD_MS_MAX = 86_400_000
"""A stamp that is more than a day ahead of the cluster's clock was carried there by a clock that is
wrong, or by somebody who means ill. Nothing is deleted by it, and no other room goes along."""

INCARNATION_LIMIT = 1 << 48
"""Incarnations are lower than this. They start at the seconds of the wall clock."""

RANGE_FANOUT = 64
"""A range of ids is split into this many parts, whose hashes take 512 bytes."""

RANGE_LEVELS = 10
"""A range can be split this many times, by six bits of an id each time."""

DATAGRAM_BYTES_MAX = 65_507
"""UDP over IPv4 carries at most this much. A larger datagram is not even looked at."""

SEAL_BYTES = 45
"""Sealing adds this much to a payload: a header of 29 bytes and a tag of 16 (`wire/seal.py`)."""

ONCE_REMEMBERED = 1_024
"""A node remembers this many numbers of `once` for each client. A client that is cut off may have
that many messages without an answer, and may repeat them."""

PIECE_BYTES = 1_024
"""A block that is too large for a datagram is cut at multiples of this. The offsets are fixed, so
the pieces of any two senders fit together."""

# --- Settings ---------------------------------------------------------------------------------


Value = TypeVar("Value")

Allowed = tuple[int, int] | tuple[str, ...]
"""The least and the most that a number may be, or the words that a text may be."""


def setting(default: Value, why: str, allowed: Allowed = (), *, off: bool = False) -> Value:
    """Build a field of `Settings`: its default, its reason, and what is allowed.

    With `off`, 0 is allowed besides, and switches something off.
    """
    return field(default=default, metadata={"why": why, "allowed": allowed, "off": off})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What an operator may set. The end of a name says its unit."""

    name: str = setting("", "the name that people see; by default the name of the host")
    data: str = setting("", "the directory of the log, the keys, the lock and the control socket")
    bind: str = setting("127.0.0.1:7352", "the UDP address to listen on")
    advertise: str = setting(
        "", "the address that others reach this node by; by default the one it listens on"
    )
    join: tuple[str, ...] = setting(
        (), "addresses of any members, as HOST:PORT, which let this node into the cluster"
    )
    tags: tuple[str, ...] = setting(
        (),
        "KEY=VALUE, by which `flc members --tag` finds this node; at most 16 of 512 bytes together",
    )
    cluster: str = setting(
        "flc", "the name of the cluster; other clusters are ignored, even if they have the same key"
    )
    key_file: str = setting(
        "", "a file with one base64 key of 32 bytes a line; the first key seals, any key opens"
    )
    insecure: bool = setting(False, "allow addresses other than loopback without a key")
    profile: str = setting(
        "lan", "a set of intervals for liveness that suits the network", ("local", "lan", "wan")
    )
    control_group: str = setting("", "a group that may use the control socket, too")
    metrics: str = setting(
        "", "the TCP address of the pages /metrics, /livez and /readyz, which anybody may read"
    )
    log_format: str = setting(
        "auto",
        "how the log looks; auto is console on a terminal, else json",
        ("auto", "console", "json"),
    )
    log_level: str = setting(
        "info", "the least level that is logged", ("debug", "info", "warning", "error")
    )

    body_bytes_max: int = setting(
        65_536, "the largest body that this node takes from its own users", (1, BODY_BYTES_MAX)
    )
    disk_free_bytes_min: int = setting(
        64 << 20, "posts are refused when less disk space is free", (0, 1 << 50)
    )

    retention_age_s: int = setting(
        0, "messages that arrived here longer ago are deleted; 0 keeps them", (0, 1 << 34)
    )
    retention_bytes: int = setting(
        0,
        "the oldest messages are deleted while the log takes more disk; 0 keeps them",
        (1 << 20, 1 << 50),
        off=True,
    )

    on_message: str = setting(
        "", "a shell command that runs for each new message, with its record on stdin"
    )
    on_member: str = setting("", "a shell command that runs for each member whose state changed")
    hook_processes: int = setting(
        1,
        "how many commands for messages run at a time; with 1 they run in the order shown",
        (1, 16),
    )
    hook_timeout_s: int = setting(
        30, "a command that runs longer is killed, with its process group", (1, 86_400)
    )

    probe_interval_ms: int = setting(
        800,
        "one member is probed in each interval; an idle node then sends 240 bytes/s",
        (20, 60_000),
    )
    probe_timeout_ms: int = setting(
        300, "the longest wait for a direct ack; the wait follows the round trip", (5, 30_000)
    )
    probe_timeout_min_ms: int = setting(
        100, "the shortest wait for a direct ack; a busy process may be that late", (1, 30_000)
    )
    suspect_timeout_ms: int = setting(
        1_000,
        "a suspect has at least this time to refute, multiplied by log10 of the members",
        (20, 300_000),
    )
    suspect_timeout_factor: int = setting(
        6, "with one accuser the time to refute is longer by this factor", (1, 100)
    )
    local_health_max: int = setting(
        8, "the worst local health; with 8, intervals and timeouts become 9 times as long", (0, 64)
    )
    stall_ms: int = setting(
        50, "a turn that comes this much later than it was due is a stall", (1, 60_000)
    )
    slow_commit_ms: int = setting(
        500, "a commit that takes this long counts against local health", (1, 60_000)
    )
    lifeguard: bool = setting(
        True, "use local health and confirmed suspicions; without it this is plain SWIM, to compare"
    )
    reap_after_s: int = setting(
        86_400,
        "a member that is dead or left for this long is deleted from the table",
        (1, 1 << 31),
    )
    rejoin_interval_ms: int = setting(
        60_000,
        "the longest gap between probes of a dead member, so that islands merge",
        (100, 60_000),
    )
    members_max: int = setting(
        10_000, "the most rows of the member table, dead members included", (2, 1 << 20)
    )

    packet_bytes_max: int = setting(
        1_400, "the largest UDP payload, seal included; 1400 fits an Ethernet frame", (1_200, 8_192)
    )
    links_max: int = setting(8, "how many peers new messages are pushed to", (1, 64))
    pull_grace_ms: int = setting(
        20, "a gap is pulled after this time; datagrams may only be reordered", (0, 10_000)
    )
    have_grace_ms: int = setting(
        60,
        "what a lazy link named is pulled after this time; an eager link may still bring it",
        (0, 10_000),
    )
    pull_timeout_ms: int = setting(
        400, "a pull that is not answered for this long goes to another peer", (10, 60_000)
    )
    repair_timeout_ms: int = setting(
        100,
        "the same timeout for a pull of a few recent messages; somebody waits for them",
        (10, 60_000),
    )
    pull_bytes_max: int = setting(
        131_072,
        "a pull asks for at most so many bytes, or 16384; the default fits a usual receive buffer",
        (2_048, 16 << 20),
    )
    exchange_interval_ms: int = setting(
        2_000, "unequal roots start at most one exchange of digests in this time", (50, 60_000)
    )
    exchange_backoff_ms: int = setting(
        16_000, "while exchanges find nothing, they become as rare as this", (50, 600_000)
    )
    holdback_blocks_max: int = setting(
        16_384,
        "the most blocks that wait for their causes; beyond it the latest are dropped",
        (16, 1 << 20),
    )
    holdback_bytes_max: int = setting(
        32 << 20,
        "the most bytes of blocks that wait for their causes; a largest block must fit",
        (2 << 20, 1 << 32),
    )

    commit_blocks_max: int = setting(
        4_096, "the most blocks of one transaction, which bounds the time of a commit", (1, 1 << 20)
    )
    commit_pause_ms: int = setting(
        2,
        "the time between the starts of two commits; under load more messages share a sync",
        (0, 1_000),
    )
    post_queue_max: int = setting(
        16_384,
        "when this many messages of clients wait for their commit, clients are slowed",
        (1, 1 << 20),
    )

    @property
    def pull_credit_bytes(self) -> int:
        """What a pull asks for, and is given at most: `pull_bytes_max`, or PULL_BYTES_LEAST."""
        return max(self.pull_bytes_max, PULL_BYTES_LEAST)


PROFILES: dict[str, dict[str, int]] = {
    # One machine: round trips are below a millisecond, but a busy core may stall a process.
    "local": {"probe_interval_ms": 500, "probe_timeout_ms": 200, "suspect_timeout_ms": 800},
    # One site: the defaults above.
    "lan": {},
    # Across oceans: round trips take 300 ms, with loss.
    "wan": {
        "probe_interval_ms": 3_000,
        "probe_timeout_ms": 1_500,
        "probe_timeout_min_ms": 500,
        "suspect_timeout_ms": 5_000,
        "pull_grace_ms": 100,
        "have_grace_ms": 400,
        "repair_timeout_ms": 800,
        "pull_timeout_ms": 1_500,
    },
}
"""Each profile changes these defaults of `Settings`."""


def flag_of(name: str) -> str:
    """Return the flag of `flc run` for a setting. One `--tag` adds one of the tags."""
    return "--tag" if name == "tags" else "--" + name.replace("_", "-")


SETTINGS = {field.name: field for field in fields(Settings)}
"""The fields of `Settings` by their names; `metadata` has what `setting` was told."""

RELOADED_NAMES = (
    *("join", "tags", "log_level", "body_bytes_max", "disk_free_bytes_min", "retention_age_s"),
    *("retention_bytes", "on_message", "on_member", "hook_timeout_s"),
)
"""The settings that a running node follows on SIGHUP. The others are read only at its start."""

TITLES = {
    "name": "Who and where",
    "body_bytes_max": "What this node submits",
    "retention_age_s": "What this node keeps",
    "on_message": "Commands this node runs",
    "probe_interval_ms": "Membership",
    "packet_bytes_max": "Dissemination and repair",
    "commit_blocks_max": "Batching",
}
"""The titles of the groups of settings, by the name of the first setting in each."""
