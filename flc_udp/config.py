"""Every number of the project, with its unit and its reason.

Two kinds, kept apart. *Protocol constants* are the same on every node of every cluster: what a node
accepts from others depends on nothing else. *Settings* are this node's own: they pace it and lower
what it submits, and no two nodes need agree on them.
"""

from __future__ import annotations

from dataclasses import Field, dataclass, field, fields
from typing import Any

# --- Protocol constants -----------------------------------------------------------------------

WIRE_VERSION = 1
"""First byte of every datagram. Version N speaks N-1."""

ID_BYTES = 8
"""Node and log ids: at a million logs the chance of any two alike is 3e-8."""

HASH_BYTES = 8
"""BLAKE2b digests of messages, log heads and roots: found by accident, not by attack; who holds
the cluster key is trusted."""

LABEL_BYTES_MAX = 128
"""Room, author and node names, in bytes of UTF-8."""

TAGS_MAX = 16
"""Tags of a node."""

TAGS_BYTES_MAX = 512
"""Keys and values of a node's tags together: a row of at most 850 bytes fits the least datagram."""

CATCHING_UP_MESSAGES = 1_000
"""A node that lacks so many says `catching up`, and nobody starts an exchange with it."""

BODY_BYTES_MAX = 1 << 20
"""Body of a message, in bytes."""

CAUSES_MAX = 16_384
"""Concurrent heads one message can join: more than any room has authors at once."""

MESSAGE_BYTES_MAX = BODY_BYTES_MAX + CAUSES_MAX * 19 + 4_096
"""An encoded message: body, causes at their longest (10 bytes of id, 9 of seq), the rest."""

SEQ_LIMIT = 1 << 53
"""Sequence numbers stay exact in a double, so any JSON reader can hold them."""

STAMP_LIMIT = 1 << 62
"""Stamps stay inside SQLite's signed 64 bits with room to spare."""

INCARNATION_LIMIT = 1 << 48
"""Incarnations start at the wall clock's seconds; far above that one is malformed."""

RANGE_FANOUT = 64
"""Parts a range of ids is split into; their hashes take 512 bytes."""

RANGE_LEVELS = 10
"""How often it can be: ten times six bits of an id."""

DATAGRAM_BYTES_MAX = 65_507
"""What UDP over IPv4 can carry; nothing larger is even looked at."""

SEAL_BYTES = 45
"""What sealing adds to a payload: a header of 29 bytes and a tag of 16 (`wire/seal.py`)."""

ONCE_REMEMBERED = 1_024
"""Numbers of `once` kept for each client: what it may have open when its connection is lost."""

PIECE_BYTES = 1_024
"""Offsets at which a message too large for a datagram is cut: fixed, so that any teller's pieces
fit any other's."""

# --- Settings ---------------------------------------------------------------------------------


def setting(
    default: Any,  # noqa: ANN401  # as dataclasses.field itself
    why: str,
    *,
    low: int | None = None,
    high: int | None = None,
    choices: tuple[str, ...] = (),
    off: bool = False,
    reloads: bool = False,
    begins: str = "",
    flag: str = "",
) -> Any:  # noqa: ANN401  # as dataclasses.field itself
    """Build a field of `Settings`: default, reason, and what is allowed; `load` reads all three.

    With `off`, 0 is allowed besides low..high: it switches off. With `reloads`, a running node
    follows it on SIGHUP. `begins` is the title of a group whose first setting it is. `flag` is what
    is typed for one item of a list.
    """
    metadata: dict[str, Any] = {"why": why, "low": low, "high": high, "choices": choices}
    metadata |= {"off": off, "reloads": reloads, "begins": begins, "flag": flag}
    if isinstance(default, tuple):
        return field(default_factory=lambda: default, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What an operator may set. Times in ms, sizes in bytes, unless the name says otherwise."""

    name: str = setting("", "label people see; default the host's name", begins="Who and where")
    data: str = setting("", "directory of the log, keys, lock and control socket")
    bind: str = setting("127.0.0.1:7352", "UDP address to listen on")
    advertise: str = setting("", "address others reach this node by; default the bound one")
    join: tuple[str, ...] = setting((), "seeds: any members' HOST:PORT", reloads=True)
    tags: tuple[str, ...] = setting(
        (),
        "KEY=VALUE, by which `flc members --tag` finds this node; at most 16, of 512 bytes",
        reloads=True,
        flag="--tag",
    )
    cluster: str = setting("flc", "clusters of other names are not heard, with the same key too")
    key_file: str = setting("", "one base64 key of 32 bytes a line; the first seals, any opens")
    insecure: bool = setting(False, "allow other addresses than loopback without a key")
    profile: str = setting("lan", "set of probe intervals", choices=("local", "lan", "wan"))
    control_group: str = setting("", "group that may use the control socket too")
    metrics: str = setting(
        "", "TCP address of /metrics, /livez and /readyz, for anybody to read; default none"
    )
    log_format: str = setting(
        "auto", "console on a terminal, else json", choices=("auto", "console", "json")
    )
    log_level: str = setting(
        "info",
        "least level logged",
        choices=("debug", "info", "warning", "error"),
        reloads=True,
    )

    body_bytes_max: int = setting(
        65_536,
        "body accepted from this node's own users",
        low=1,
        high=BODY_BYTES_MAX,
        reloads=True,
        begins="What this node submits",
    )
    disk_free_bytes_min: int = setting(
        64 << 20, "posts are refused below this much free space", low=0, high=1 << 50, reloads=True
    )

    retention_age_s: int = setting(
        0,
        "messages that arrived here longer ago go; 0 keeps them",
        low=0,
        high=1 << 34,
        reloads=True,
        begins="What this node keeps",
    )
    retention_bytes: int = setting(
        0,
        "the oldest go while the log takes more disk; 0 keeps them; an empty log takes 70 kB",
        low=1 << 20,
        high=1 << 50,
        off=True,
        reloads=True,
    )

    on_message: str = setting(
        "",
        "shell command for each new message, its record on stdin; see flc_udp/daemon/hooks",
        reloads=True,
        begins="Commands this node runs",
    )
    on_member: str = setting(
        "", "the same for each member whose state changed, with its latest state", reloads=True
    )
    hook_processes: int = setting(
        1, "commands for messages that run at a time: with 1 in the order shown", low=1, high=16
    )
    hook_timeout_s: int = setting(
        30, "a command that runs so long is killed with its group", low=1, high=86_400, reloads=True
    )

    probe_interval_ms: int = setting(
        800,
        "one member is probed each interval: idle, 2.5 datagrams and 240 bytes/s",
        low=20,
        high=60_000,
        begins="Membership",
    )
    probe_timeout_ms: int = setting(
        300, "longest wait for a direct ack; it follows the round trip", low=5, high=30_000
    )
    probe_timeout_min_ms: int = setting(
        100, "shortest: a busy process may be late by that", low=1, high=30_000
    )
    suspect_timeout_ms: int = setting(
        1_000,
        "times log10 of the members: shortest time a suspect has to refute",
        low=20,
        high=300_000,
    )
    suspect_timeout_factor: int = setting(
        6, "longest time, for a lone accuser, in shortest ones", low=1, high=100
    )
    local_health_max: int = setting(
        8, "worst local health: interval and timeouts stretch to one more than it", low=0, high=64
    )
    stall_ms: int = setting(
        50, "a turn so much later than it was due is a stall", low=1, high=60_000
    )
    slow_commit_ms: int = setting(
        500, "a commit that takes so long is held against local health", low=1, high=60_000
    )
    lifeguard: bool = setting(
        True, "local health, confirmed suspicions, self-doubt; without it plain SWIM, to compare"
    )
    reap_after_s: int = setting(
        86_400, "a member dead or left so long goes from the table", low=1, high=1 << 31
    )
    rejoin_interval_ms: int = setting(
        60_000,
        "longest gap between probes of a dead member, so islands merge",
        low=100,
        high=60_000,
    )
    members_max: int = setting(
        10_000, "rows of the member table, dead ones included", low=2, high=1 << 20
    )

    packet_bytes_max: int = setting(
        1_400,
        "UDP payload of a datagram, seal included: fits an Ethernet frame; the least holds a piece",
        low=1_200,
        high=8_192,
        begins="Dissemination and repair",
    )
    links_max: int = setting(8, "peers that new messages are pushed to", low=1, high=64)
    push_window_bytes: int = setting(
        65_536,
        "rumors on their way to one peer; beyond it that peer pulls",
        low=32_768,
        high=1 << 24,
    )
    pull_grace_ms: int = setting(
        20, "a gap may be mere reordering for so long before it is asked for", low=0, high=10_000
    )
    have_grace_ms: int = setting(
        60, "what a lazy link told of may come by the tree for so long", low=0, high=10_000
    )
    pull_timeout_ms: int = setting(
        400, "a pull unanswered so long is asked of another peer", low=10, high=60_000
    )
    repair_timeout_ms: int = setting(
        100, "the same for a few recent messages, which somebody waits for", low=10, high=60_000
    )
    pull_bytes_max: int = setting(
        131_072, "credit of one pull: fits a default receive buffer", low=2_048, high=16 << 20
    )
    exchange_interval_ms: int = setting(
        2_000, "unequal roots start at most one digest exchange so often", low=50, high=60_000
    )
    exchange_backoff_ms: int = setting(
        16_000, "… and no oftener than this while exchanges find nothing", low=50, high=600_000
    )
    holdback_messages_max: int = setting(
        16_384,
        "early messages kept; beyond it the latest are dropped and pulled again",
        low=16,
        high=1 << 20,
    )
    holdback_bytes_max: int = setting(
        32 << 20, "the same, in bytes: at least one largest message", low=2 << 20, high=1 << 32
    )

    commit_messages_max: int = setting(
        4_096,
        "messages of one transaction: bounds the stall of one commit",
        low=1,
        high=1 << 20,
        begins="Batching",
    )
    commit_pause_ms: int = setting(
        2, "between the starts of two commits: under load more share one sync", low=0, high=1_000
    )
    post_queue_max: int = setting(
        16_384,
        "says that wait for their commit, over all clients, before these are slowed",
        low=1,
        high=1 << 20,
    )


PROFILES: dict[str, dict[str, int]] = {
    # One machine: round trips under a millisecond, though a busy core may stall a process longer.
    "local": {"probe_interval_ms": 500, "probe_timeout_ms": 200, "suspect_timeout_ms": 800},
    # One site: the defaults above.
    "lan": {},
    # Across oceans: 300 ms round trips with loss.
    "wan": {
        "probe_interval_ms": 3_000,
        "probe_timeout_ms": 1_500,
        "probe_timeout_min_ms": 500,
        "suspect_timeout_ms": 5_000,
        "push_window_bytes": 524_288,
        "pull_grace_ms": 100,
        "have_grace_ms": 400,
        "repair_timeout_ms": 800,
        "pull_timeout_ms": 1_500,
    },
}
"""What a profile changes against the defaults of `Settings`."""


def flag_of(setting: Field[Any]) -> str:
    """How `flc run` spells a setting."""
    return setting.metadata["flag"] or "--" + setting.name.replace("_", "-")


SETTING_NAMES = tuple(f.name for f in fields(Settings))

RELOADED_NAMES = tuple(f.name for f in fields(Settings) if f.metadata["reloads"])
"""What a running node follows on SIGHUP; the rest is read at its start alone."""
