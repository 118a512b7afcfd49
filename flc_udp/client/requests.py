"""Requests that wait for their answer: one that asks for a record, and says that share a request.

Rules. Says of one turn of the loop that follow one another, with one room and the same options, go
as the bodies of one request. So what a request costs, here and in the daemon, is not paid by the
message. Each say has its own future all the same, and is refused or said alone. A say that stands
alone in its turn waits for no other.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import orjson

from flc_udp.client.said import BodiesRefusedError, Record, Said, refusal, said_each
from flc_udp.model.errors import FlcError

REQUEST_BYTES_MAX = 8 << 20
"""The daemon does not read a line that is longer than this."""

TOGETHER_MAX, TOGETHER_BYTES_MAX = 256, 1 << 16
"""So many says, with so many bytes, share a request. What is more begins the next one, so that the
daemon has the first while the last are still being said."""

END_BYTES = 32
"""What ends a request after its bodies, with the number by which its answer is known."""


class Question:
    """A request for one record."""

    messages = 1

    def __init__(
        self, loop: asyncio.AbstractEventLoop, convert: Callable[[Record], object]
    ) -> None:
        """The future has what `convert` makes of the record, or FlcError."""
        self.future: asyncio.Future[Any] = loop.create_future()
        self._convert = convert

    @property
    def futures(self) -> tuple[asyncio.Future[Any]]:
        """Those who wait for the answer."""
        return (self.future,)

    def answer(self, record: Record) -> None:
        """The daemon answered. Raises LookupError or its like for what is no answer."""
        # Whoever asked may be cancelled: a Ctrl-C can do that between any two lines of code.
        with suppress(asyncio.InvalidStateError):
            if record.pop("ok", None) is True:
                self.future.set_result(self._convert(record))
            else:
                self.future.set_exception(refusal(record))


class SayGroup:
    """Says that share a request."""

    def __init__(self, request: Record) -> None:
        """Begin with none. `request` is what they have in common; raises FlcError if it is none."""
        self.request = request
        self.futures: list[asyncio.Future[Said]] = []
        self._head = encoded(request)[:-1] + b',"bodies":['
        self._bodies: list[bytes] = []
        self._size = len(self._head) + END_BYTES

    @property
    def messages(self) -> int:
        """How many says there are."""
        return len(self.futures)

    def takes(self, request: Record, body: bytes) -> bool:
        """Whether a say with this encoded body may join them."""
        has_room = len(self.futures) < TOGETHER_MAX and self._size + len(body) < TOGETHER_BYTES_MAX
        return has_room and request == self.request

    def add(self, body: bytes, loop: asyncio.AbstractEventLoop) -> asyncio.Future[Said]:
        """Take one more; raises FlcError if the daemon would not read it."""
        check_length(self._size + len(body))
        self._size += len(body) + 1
        self._bodies.append(body)
        future: asyncio.Future[Said] = loop.create_future()
        self.futures.append(future)
        return future

    def line(self, number: int) -> bytes:
        """Give the request as one line, with the number of its answer."""
        return b'%b%b],"id":%d}\n' % (self._head, b",".join(self._bodies), number)

    def answer(self, record: Record) -> None:
        """The daemon answered. Raises LookupError or its like for what is no answer."""
        error = None if record.get("ok") is True else refusal(record)
        outcomes: list[Said | FlcError]
        if error is None or isinstance(error, BodiesRefusedError):
            outcomes = [*said_each(record)]
            for place, refused in () if error is None else error.errors.items():
                outcomes.insert(place, refused)
        else:
            outcomes = [error] * self.messages
        if len(outcomes) != self.messages:
            raise ValueError("not all of the says are told of")
        for future, outcome in zip(self.futures, outcomes, strict=True):
            if future.done():
                continue  # Whoever said it was cancelled.
            if isinstance(outcome, Said):
                future.set_result(outcome)
            else:
                future.set_exception(outcome)


def encoded(value: object) -> bytes:
    """Encode a part of a request; raises FlcError if it is no JSON."""
    try:
        return orjson.dumps(value)
    except TypeError as error:
        problem = f"the request is no Unicode, or no JSON: {error}"
        raise FlcError(problem, "say what is no text as bytes") from error


def check_length(size: int) -> None:
    """Raise FlcError for a request that is so long that the daemon would not read it."""
    if size > REQUEST_BYTES_MAX:
        problem = f"the request has {size} bytes, allowed are {REQUEST_BYTES_MAX}"
        raise FlcError(problem, "say less at once")
