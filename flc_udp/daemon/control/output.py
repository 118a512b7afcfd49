"""What one client is sent: lines gather, and go out together. A client that does not read waits.

Rules. What clients have not read is bounded over all of them together: each may leave a share
unread. The more clients there are, the smaller it is. Then lists and follows of that client wait.
"""

import asyncio
import select

OUTPUT_BYTES_HIGH = 1 << 20
"""One client may leave this much unread, where there are few."""

UNREAD_BYTES_MAX = 64 << 20
"""All clients together may leave about this much unread."""

OUTPUT_BYTES = 1 << 16
"""When this much has gathered it is written, even in the middle of a turn: only then is it known
whether the other end takes it."""


def share_bytes(clients: int) -> int:
    """How much one of so many clients may leave unread: a power of two, which changes seldom."""
    share = min(UNREAD_BYTES_MAX // max(clients, 1), OUTPUT_BYTES_HIGH)
    return max(1 << (share.bit_length() - 1), OUTPUT_BYTES)


class ClientOutput:
    """The way to one client."""

    def __init__(self, transport: asyncio.WriteTransport) -> None:
        self.share_bytes = OUTPUT_BYTES_HIGH
        self._transport = transport
        self._gathered = bytearray()
        self._room = asyncio.Event()
        self._room.set()

    def limit(self, share: int) -> None:
        """The other end may leave so much unread."""
        self.share_bytes = share
        self._transport.set_write_buffer_limits(high=share)

    def put(self, line: bytes) -> None:
        """Write one line, together with others, at the end of the turn."""
        self._gathered += line
        self._gathered += b"\n"
        if len(self._gathered) > OUTPUT_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what has gathered, in one write."""
        gathered, self._gathered = self._gathered, bytearray()
        if gathered and not self._transport.is_closing():
            self._transport.write(gathered)

    def pause(self) -> None:
        """The other end does not read, or has gone."""
        self._room.clear()

    def go_on(self) -> None:
        """The other end reads again."""
        self._room.set()

    async def has_room(self) -> None:
        """Wait until the other end reads."""
        await self._room.wait()

    def __bool__(self) -> bool:
        """Whether something has gathered."""
        return bool(self._gathered)

    @property
    def is_full(self) -> bool:
        """Whether the other end does not read what it asked for, or has gone."""
        return not self._room.is_set()

    @property
    def unread_bytes(self) -> int:
        """What was written for the other end, and has not been taken."""
        return self._transport.get_write_buffer_size()

    def is_hung_up(self) -> bool:
        """Whether the other end of the socket is closed, and not only its way to us."""
        look = select.poll()
        look.register(self._transport.get_extra_info("socket").fileno(), 0)  # POLLHUP is told.
        return any(events & select.POLLHUP for _, events in look.poll(0))
