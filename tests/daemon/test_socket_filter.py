"""The kernel's filter, as the kernel runs it: what passes, and that a sample of the rest does."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from flc_udp.config import WIRE_VERSION
from flc_udp.daemon.socket_filter import STEPS_MAX, narrow, program
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


@pytest.mark.parametrize("host", ["10.1.{}.{}", "fe80::{}:{}"])
def test_of_many_members_the_first_are_in_it(stack: ExitStack, host: str) -> None:
    """The kernel takes the program, whatever the addresses are."""
    ends = Ends("127.0.0.1", stack)
    many = [Address(host.format(n >> 6, n & 63), 7352) for n in range(ADDRESSES_MAX - 1)]
    door = Door(KEYS, (ends.address, *many), SAMPLE)
    assert len(program(door)) <= STEPS_MAX
    assert narrow(ends.door, door)
    assert ends.passed(ends.known, OURS + KEYS[0]) == TIMES


def test_what_the_kernel_does_not_take_is_said(stack: ExitStack) -> None:
    """All is read then."""
    ends = Ends("127.0.0.1", stack)
    assert not narrow(ends.door, None)
    ends.door.close()
    assert not narrow(ends.door, Door(KEYS, None, SAMPLE))
