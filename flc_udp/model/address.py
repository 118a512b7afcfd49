"""Addresses: one type for IPv4 (`host:port`) and IPv6 (`[host]:port`), with one spelling for each.

An IPv4 address that is written as an IPv6 address becomes IPv4 (RFC 4291, section 2.5.5.2). A scope
id, as in `fe80::1%eth0`, has a meaning on one machine only, so it is never told to other nodes.
"""

import re
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import NamedTuple

from flc_udp.model.errors import FlcError
from flc_udp.model.visible import brief

PORT_LIMIT = 1 << 16

HOST_AND_PORT = re.compile(r"(?:\[(?P<bracketed>.+)\]|(?P<host>[^:\[\]]+)):(?P<port>[0-9]{1,5})")

NO_HOST = "it is no name of a host"
"""Says why a name has no address if Python refuses it (UnicodeError) before a resolver is asked."""

WILDCARDS = ("0.0.0.0", "::")  # noqa: S104  # compared with, never bound
"""The addresses that stand for all addresses of a machine. An Address is canonical, so comparing
the text is enough, and quick: it is done for each row of a member table."""


class Address(NamedTuple):
    """A numeric IP address in canonical text, and a UDP port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only programs on this machine can reach the address."""
        return ip_address(self.host.partition("%")[0]).is_loopback

    @property
    def is_wildcard(self) -> bool:
        """Whether it stands for all addresses of the machine, so that no peer can use it."""
        return self.host.partition("%")[0] in WILDCARDS


@lru_cache(maxsize=8192)
def fold(host: str, port: int) -> Address:
    """Give a numeric address its one spelling; raises ValueError if `host` is not numeric."""
    parsed = ip_address(host)
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return Address(str(parsed), port)


def split_host_port(text: str) -> tuple[str, int]:
    """Split `host:port`, `[host]:port` or `name:port`; raises FlcError, which names the text."""
    found = HOST_AND_PORT.fullmatch(text)
    if found is None or int(found["port"]) >= PORT_LIMIT:
        raise FlcError(
            f"{brief(text)} is not an address",
            "write HOST:PORT, for IPv6 [HOST]:PORT, with a port from 0 to 65535",
        )
    return found["bracketed"] or found["host"], int(found["port"])


@lru_cache(maxsize=8192)
def parse_numeric(text: str) -> Address | None:
    """Read an address; None if it is not numeric and canonical, or if it has a scope id.

    The wire accepts only such addresses. Equal rows of members therefore have equal hashes.
    """
    try:
        host, port = split_host_port(text)
        address = fold(host, port)
    except (FlcError, ValueError):
        return None
    return address if str(address) == text and "%" not in host and port > 0 else None
