"""The kernel's filter, as the kernel runs it: what passes, and that a sample of the rest does."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from flc_udp.config import WIRE_VERSION
from flc_udp.daemon import socket_filter
from flc_udp.daemon.socket_filter import BRANCH_MAX, attach, by_hosts, narrow
from flc_udp.model.address import Address
from flc_udp.waist.flood import ADDRESSES_MAX, Door

KEYS = (b"key1", b"key2")
OURS = bytes((WIRE_VERSION,))
TIMES, SAMPLE = 2_000, 64

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has this filter")


class Ends:
    """A socket with a filter, and two that send to it."""

    def __init__(self, host: str, stack: ExitStack, *, wildcard: str = "") -> None:
        self.door = self._bound(wildcard or host, stack)
        self.known, self.stranger = (self._bound(host, stack) for _ in range(2))
        self.to = (host, self.door.getsockname()[1])
        self.address = Address(host, self.known.getsockname()[1])

    def _bound(self, host: str, stack: ExitStack) -> socket.socket:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        sock = stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind((host, 0))
        sock.setblocking(False)
        return sock

    def passed(self, sender: socket.socket, datagram: bytes) -> int:
        """How many of TIMES pass."""
        came = 0
        for _ in range(TIMES):
            sender.sendto(datagram, self.to)
            try:
                came += self.door.recv(99) == datagram
            except BlockingIOError:
                continue
        return came


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """What is closed at the end."""
    with ExitStack() as stack:
        yield stack


def is_sample(came: int) -> bool:
    """Whether it is about what a sample is: by chance less than once in a million it is not."""
    return 0 < came < 4 * TIMES // SAMPLE


@pytest.mark.parametrize("key", KEYS)
def test_what_is_under_our_keys_passes(stack: ExitStack, key: bytes) -> None:
    """Whoever sends it; of other versions, of other keys and of junk a sample does."""
    ends = Ends("127.0.0.1", stack)
    assert narrow(ends.door, Door(KEYS, None, SAMPLE))
    assert ends.passed(ends.stranger, OURS + key + b"session") == TIMES
    for other in (b"\xff" + key + b"session", OURS + b"kez1session", b"\xff" * 60):
        assert is_sample(ends.passed(ends.stranger, other))
    assert ends.passed(ends.stranger, b"") == 0


@pytest.mark.parametrize(
    ("host", "wildcard"),
    [("127.0.0.1", ""), ("::1", ""), ("127.0.0.1", "0.0.0.0")],  # noqa: S104  # only loopback sends
)
def test_what_members_send_passes(stack: ExitStack, host: str, wildcard: str) -> None:
    """By address and port, wherever in the list they stand; of all else a sample does."""
    ends = Ends(host, stack, wildcard=wildcard)
    address, ours = ends.address, OURS + KEYS[0] + b"session"
    other = Address("10.0.0.1", address.port)
    for addresses in ((address,), (other, Address("fe80::1", 7), address), (address, other)):
        assert narrow(ends.door, Door(KEYS, addresses, SAMPLE))
        assert ends.passed(ends.known, ours) == TIMES
        assert is_sample(ends.passed(ends.stranger, ours))
        assert is_sample(ends.passed(ends.known, OURS + b"other"))
    narrow(ends.door, None)
    assert ends.passed(ends.stranger, b"any") == TIMES


def test_a_socket_of_both_families_knows_members_of_either(stack: ExitStack) -> None:
    """IPv4 comes to it in IPv4's own headers."""
    ends = Ends("127.0.0.1", stack, wildcard="::")
    assert narrow(ends.door, Door(KEYS, (Address("::1", 5), ends.address), SAMPLE))
    assert ends.passed(ends.known, OURS + KEYS[0]) == TIMES
    assert is_sample(ends.passed(ends.stranger, OURS + KEYS[0]))


@pytest.mark.parametrize("count", [512, ADDRESSES_MAX])
@pytest.mark.parametrize("host", ["10.1.{}.{}", "fe80::{}:{}"])
def test_of_many_members_none_is_kept_out(stack: ExitStack, host: str, count: int) -> None:
    """Where a filter has no room for all, it looks at hosts alone."""
    ends = Ends("127.0.0.1", stack)
    many = [Address(host.format(n >> 6, n & 63), 7352) for n in range(count - 1)]
    assert narrow(ends.door, Door(KEYS, (*many, ends.address), SAMPLE))
    assert ends.passed(ends.known, OURS + KEYS[0]) == TIMES
    assert is_sample(ends.passed(ends.known, OURS + b"other"))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("before", [0, 1, BRANCH_MAX - 1, BRANCH_MAX, 2 * BRANCH_MAX + 3])
def test_a_filter_of_hosts_knows_each_of_them(stack: ExitStack, host: str, before: int) -> None:
    """Wherever in the list it stands; and nobody else."""
    ends = Ends(host, stack)
    others = [Address(f"10.1.{n >> 6}.{n & 63}", 1) for n in range(before)]
    others += [Address(f"fe80::f{n >> 6}:{n & 63}", 1) for n in range(before)]
    attach(ends.door, by_hosts(Door(KEYS, (), SAMPLE), [*others, ends.address]))
    assert ends.passed(ends.known, OURS + KEYS[1]) == TIMES
    attach(ends.door, by_hosts(Door(KEYS, (), SAMPLE), others))
    assert is_sample(ends.passed(ends.known, OURS + KEYS[1]))


@pytest.mark.parametrize(("room", "passes"), [(3_000, False), (700, True), (20, True)])
def test_with_less_room_less_is_compared(
    stack: ExitStack, monkeypatch: pytest.MonkeyPatch, room: int, *, passes: bool
) -> None:
    """A stranger of a member's host gets in then; in no case a member is kept out."""
    monkeypatch.setattr(socket_filter, "STEPS_MAX", room)
    ends = Ends("127.0.0.1", stack)
    many = [Address(f"10.1.{n >> 6}.{n & 63}", 7352) for n in range(500)]
    assert narrow(ends.door, Door(KEYS, (*many, ends.address), SAMPLE))
    assert ends.passed(ends.known, OURS + KEYS[0]) == TIMES
    assert (ends.passed(ends.stranger, OURS + KEYS[0]) == TIMES) is passes
    assert is_sample(ends.passed(ends.known, b"junk" * 20))


def test_what_the_kernel_does_not_take_is_said(stack: ExitStack) -> None:
    """All is read then."""
    ends = Ends("127.0.0.1", stack)
    assert not narrow(ends.door, None)
    ends.door.close()
    assert not narrow(ends.door, Door(KEYS, None, SAMPLE))
