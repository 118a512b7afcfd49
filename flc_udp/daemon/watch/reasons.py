"""What to do about each reason why a node is not well: one line for whoever is woken by it.

The page for operators says more. A reason is known by words of it that never change.
"""

from __future__ import annotations

from collections.abc import Mapping

ADVICE: Mapping[str, str] = {
    "the log cannot be written": "look at the disk and the kernel's log: dmesg, df. "
    "It goes on by itself once a write works; if not, `flc fsck`",
    "the data directory cannot be looked at": "mount it or mend its rights, then restart",
    "of disk are free": "make room, or set retention_age_s or retention_bytes and send SIGHUP. "
    "Reading and the others go on meanwhile",
    "of this key and cluster do not open": "one in months: restart at leisure. If drops by "
    "`seal broken` rise, find the sender with tcpdump and change the key",
    "a log was forked": "keep the databases; `log_forked` in the node's log names the dot: "
    "`flc why DOT` on each node",
    "hears others late": "`flc doctor` here: CPU, disk, receive buffer. Others do not suffer",
    "no other member is alive": "are they up? `flc ping HOST:PORT` of one from here: "
    "network, firewall, key",
    "no seed has answered": "`flc ping HOST:PORT` of one from here: address, firewall, key, "
    "--cluster",
    "catching up": "wait; `flc sync -w` shows how fast it goes",
    "leaving": "nothing: it was told to",
}


def advice(reason: str) -> str:
    """What to do about it."""
    return next((do for words, do in ADVICE.items() if words in reason), "")
