"""Requests that wait for their answer: one that asks for a record, and says that share a request.

Rules. Says of one turn of the loop that follow one another, with one room and the same options, go
as the bodies of one request. So what a request costs, here and in the daemon, is not paid by the
message. Each say has its own future all the same, and is refused or said alone. A say that stands
alone in its turn waits for no other.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

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


class Question(NamedTuple):
    """A request for one record."""

    futures: tuple[asyncio.Future[Any]]
    """Whoever waits for the answer."""
    convert: Callable[[Record], object]
    """Makes what the future has of the record."""

    def outcomes(self, record: Record) -> list[object]:
        """Read the answer. Raises LookupError or its like for what is no answer."""
        is_ok = record.pop("ok", None) is True
        return [self.convert(record) if is_ok else refusal(record)]


class SayGroup:
    """Says that share a request."""

    def __init__(self, request: Record) -> None:
        """Begin with none. `request` is what they have in common; raises FlcError if it is none."""
        self.request = request
        self.futures: list[asyncio.Future[Said]] = []
        self._head = encoded(request)[:-1] + b',"bodies":['
        self._bodies: list[bytes] = []
        self._size = len(self._head) + END_BYTES

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

    def outcomes(self, record: Record) -> list[Said | FlcError]:
        """Read what became of each say. Raises LookupError or its like for what is no answer."""
        error = None if record.get("ok") is True else refusal(record)
        if error is not None and not isinstance(error, BodiesRefusedError):
            return [error] * len(self.futures)
        outcomes: list[Said | FlcError] = [*said_each(record)]
        for place, refused in () if error is None else error.errors.items():
            outcomes.insert(place, refused)
        return outcomes


def settle(futures: Sequence[asyncio.Future[Any]], outcomes: Sequence[object]) -> None:
    """Give each future its outcome; raises ValueError if there are not as many of them."""
    for future, outcome in list(zip(futures, outcomes, strict=True)):
        # Whoever asked may be cancelled: a Ctrl-C can do that between any two lines of code.
        with suppress(asyncio.InvalidStateError):
            if isinstance(outcome, FlcError):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)


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
