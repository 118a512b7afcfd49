"""One address type: `host:port`, `[v6]:port`; v4-mapped IPv6 is folded to IPv4 (RFC 4291 2.5.5.2).

Scope ids (`fe80::1%eth0`) mean something on one machine only, so they are never gossiped.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import NamedTuple

from flc_udp.model.errors import FlcError

PORT_LIMIT = 1 << 16
PORT_DIGITS_MAX = 5

NO_HOST = "it is no name of a host"
"""Why there is no address where no resolver was asked: Python refuses the name (UnicodeError)."""

WILDCARDS = ("0.0.0.0", "::")  # noqa: S104  # compared with, never bound
"""Compared as text: an Address is canonical, and each row of a member table is asked."""


class Address(NamedTuple):
    """A numeric IP address in canonical text, and a UDP port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return ip_address(self.host.partition("%")[0]).is_loopback

    @property
    def is_wildcard(self) -> bool:
        """Whether it names every address of the machine (0.0.0.0, ::), so no peer can use it."""
        return self.host.partition("%")[0] in WILDCARDS


@lru_cache(maxsize=8192)
def fold(host: str, port: int) -> Address:
    """The one spelling of a numeric address; raises ValueError if `host` is not numeric."""
    parsed = ip_address(host)
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return Address(str(parsed), port)


def split_host_port(text: str) -> tuple[str, int]:
    """Take `host:port`, `[v6]:port` or `name:port` apart; raises FlcError naming the text."""
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    host = host[1:-1] if bracketed else host
    digits = port.isascii() and port.isdecimal() and len(port) <= PORT_DIGITS_MAX
    bare_v6 = ":" in host and not bracketed
    if not colon or not host or bare_v6 or not digits or int(port) >= PORT_LIMIT:
        raise FlcError(
            f"{text!r} is not an address",
            "write HOST:PORT, for IPv6 [HOST]:PORT, with a port from 0 to 65535",
        )
    return host, int(port)


@lru_cache(maxsize=8192)
def parse_numeric(text: str) -> Address | None:
    """The address in `text`, or None where it is not numeric, canonical and without scope id.

    This is what the wire accepts: one spelling for each address, so that members' rows hash alike.
    """
    try:
        host, port = split_host_port(text)
        address = fold(host, port)
    except (FlcError, ValueError):
        return None
    return address if str(address) == text and "%" not in host and port > 0 else None
