"""Why a node is not well, or not ready: each reason has a code, a text with figures, and an advice.

The texts and the advice are lines for whoever is woken at night. The page for operators says more,
and a test compares it with this table.
"""

from enum import Enum
from typing import NamedTuple

from flc_udp.model.visible import visible


class Reason(NamedTuple):
    """One reason, as it is told."""

    code: "Code"
    text: str
    advice: str


class Code(Enum):
    """Every reason: its text, in which braces stand for figures, and what to do about it."""

    LOG_NOT_WRITABLE = (
        "the log cannot be written: {why}",
        (
            "look at the disk and the kernel's log: dmesg, df. On a full disk do not restart it: a "
            "start has to write. "
            "It goes on by itself once a write works; if not, `flc fsck`"
        ),
    )
    LOG_NOT_READABLE = (
        "the log cannot be read everywhere: {why}",
        (
            "others cannot read it here either. Look at the disk and the kernel's log: dmesg, "
            "smartctl. `flc fsck` tells what is damaged; a new data directory with --join gets "
            "everything from the others"
        ),
    )
    WAL_PINNED = (
        "the WAL grows, it has {wal_mb:.0f} MB: a program reads the database and does not end",
        "`fuser flc.db` in the data directory tells which: end it, or let it read on",
    )
    FILE_MISSING = (
        "a file of the log is not as it was: {why}",
        "until then posts are refused. What this node alone holds is gone when it ends",
    )
    DISK_SLOW = (
        "the disk is slow: a commit takes {seconds:.0f} s, and what is said is answered so late",
        "look at what else uses the disk: iostat, dmesg, smartctl. `flc doctor` measures it",
    )
    QUEUE_FULL = (
        "a client is not read for {seconds:.0f} s: too many of its says wait for their answers",
        (
            "`queues` in `flc status --json` tells what they wait for: `uncommitted` for the disk, "
            "`wanted` and `inbox` for what others said, else for peers that do not keep up"
        ),
    )
    DATA_NOT_READABLE = (
        "the data directory cannot be looked at: {why}",
        "mount it or mend its rights, then restart",
    )
    START_REFUSED = (
        "the next start would be refused: {why}",
        "mend it while the node runs: `flc doctor` says how",
    )
    DISK_NEARLY_FULL = (
        "{free_mb:.1f} MB of disk are free: posts are refused",
        (
            "make room, or set retention_age_s or retention_bytes and send SIGHUP. Do not restart "
            "it on a full disk: a start has to write. Reading and the others go on meanwhile"
        ),
    )
    LOG_ROTTEN = (
        "{blocks} blocks have changed on the disk, that of {dot} first: they are read by nobody",
        (
            "they are fetched anew from members that have them; whoever follows waits a minute for "
            "each, and then passes over it. Look at the disk: dmesg, smartctl"
        ),
    )
    CLOCK_UNUSABLE = (
        "the clock shows a time before 1970 or after 2199: posts are refused",
        "set the clock of the machine: `timedatectl`. Then posts are taken again at once",
    )
    CLOCK_DOUBTED = (
        "the clock was far from when messages arrived: their age counts from this start",
        (
            "check the clock (`timedatectl`); after a restart with a right one, ages count as "
            "before. Until then messages are kept longer"
        ),
    )
    SEAL_BROKEN = (
        "datagrams in the sessions of members do not open: is one of them misbehaving?",
        (
            "it goes three minutes after the last of them. If drops by `seal broken` rise on, find "
            "the sender with tcpdump, block it and change the key"
        ),
    )
    LOG_FORKED = (
        "a log was forked: two messages with the name {dot}",
        (
            "keep the databases; `log_forked` in the node's log names the dot: `flc why DOT` on "
            "each node"
        ),
    )
    LOCAL_HEALTH = (
        (
            "this node hears others late or not at all: local health {score} of {score_max}, 0 is "
            "well (a busy machine, a slow disk, a bad link?)"
        ),
        "`flc doctor` here: CPU, disk, receive buffer. Others do not suffer",
    )
    LATE_ALONE = (
        (
            "this node takes its turns late, or its disk is slow: local health {score} of "
            "{score_max}, 0 is well"
        ),
        "`flc doctor` here: CPU and disk",
    )
    KEY_UNKNOWN = (
        "datagrams under a key or cluster name that this node does not have come from {who}",
        "compare `flc keys list` and --cluster here and there: `flc keys add` what is missing",
    )
    KEY_NOT_SHARED = (
        "{who} seals under key {theirs}, this node under {ours}, and no answer comes",
        "it has not this node's key: `flc keys add` that there, or `flc keys use` here what it has",
    )
    NO_MEMBER_ALIVE = (
        "no other member is alive, of {known} known",
        "are they up? `flc ping HOST:PORT` of one from here: network, firewall, key",
    )
    NO_SEED_ANSWERS = (
        "no seed has answered: {seeds} (key or cluster name?)",
        "`flc ping HOST:PORT` of one from here: address, firewall, key, --cluster",
    )
    CATCHING_UP = (
        "catching up, {to_go} messages to go",
        "wait; `flc sync -w` shows how fast it goes",
    )
    LEAVING = ("leaving", "nothing: it was told to")

    def __init__(self, template: str, advice: str) -> None:
        self.template = template
        self.advice = advice

    def because(self, **figures: object) -> Reason:
        """This reason, with its figures."""
        return Reason(self, visible(self.template.format(**figures)), self.advice)
